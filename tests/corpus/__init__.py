"""Messages as the clients of the guide made them, and as many more as a test wants.

`interop.run clients-...` with INTEROP_CORPUS=tests/corpus writes the files anew. The
variations are what people and shops send: other words, links, attachments; never
anything that a check should object to.
"""

from collections.abc import Iterator
from email import message_from_bytes
from email.generator import BytesGenerator
from email.message import Message
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.policy import SMTP, compat32
from io import BytesIO
from pathlib import Path
from quopri import encodestring
from random import Random

from tests.rules.inspected import zipped

_HERE = Path(__file__).parent
_HELLO = "Hello world!"

_SUBJECTS = (
    "Your order 10234 has been shipped",
    "Invoice 2026-118",
    "Re: Re: lunch on Friday?",
    "=?utf-8?q?R=C3=A9sum=C3=A9_de_la_r=C3=A9union?=",
    "=?utf-8?b?0J/RgNC40LLQtdGC?=",
    "[ticket #4711] server.exe does not start",
    "100% off-topic: $$$ jokes",
    "",
)
_NAMES = (
    "Ann Example",
    '"Shop, the small one"',
    "=?utf-8?q?Ann_M=C3=BCller?=",
    '"Ann (Sales)"',
    "No Reply",
)
_TEXTS = (
    "Thank you for your order. It will be with you on Thursday.",
    "See https://www.example.com/orders/10234?utm_source=mail&utm_medium=x for more.",
    "Reset your password: https://login.example.com/reset?token=4f1c9a0e77d04b",
    "The server is at http://localhost:8080/ and the router at 192.168.1.1, they say.",
    "We start setup.exe, then run.bat; see also invoice.pdf.exe in the wiki.",
    "1 = 1, 2 = 2; a line of ==== and of ---- too.",
    "From here on all is well.\n.\nA lone dot stands above.",
    "MZ is how programs begin, PK how archives do, and %PDF- how papers do.",
    "> quoted\n>> more\nfine with me, ann@example.com and bob@example.org",
)
_PAGES = (
    '<a href="https://www.example.com/orders/10234?a=1&amp;b=2">View your order</a>',
    '<a href="https://www.example.com/">www.example.com</a>',
    '<a href="https://www.example.com/path">https://www.example.com/path</a>',
    '<a href="https://example.com">www.example.com</a>',
    '<a class="b" style="color:#fff" href="https://shop.example.com/x">Click here</a>',
    '<a href="mailto:ann@example.com">ann@example.com</a>, <a href="tel:+123">call</a>',
    '<a href="https://xn--mller-kva.example/">our shop</a>',
    '<img src="cid:logo@example.com" alt="Logo"><table><tr><td>1</td></tr></table>',
    '<a href="https://news.example.com/unsubscribe?id=1">unsubscribe</a>',
    '<p style="font-family:Arial">All <i>well</i> &amp; good &lt;3</p>',
)
_PDF = b"%PDF-1.7\n1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj\n%%EOF\n"
_DOCX = zipped("[Content_Types].xml", "word/document.xml")
_FILES = (
    ("invoice.pdf", _PDF),
    ("Invoice.v1.2.pdf", _PDF),
    ("report.docx", _DOCX),
    ("table.xlsx", zipped("[Content_Types].xml", "xl/workbook.xml")),
    ("photos.zip", zipped("1.jpg", "2.jpg", "read me.txt")),
    ("release-1.2.3.tar.gz", b"\x1f\x8b\x08" + bytes(40)),
    ("photo.jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(100)),
    ("logo.png", b"\x89PNG\r\n\x1a\n" + bytes(60)),
    ("table.csv", b"a;b\r\n1;2\r\n"),
    ("meeting.ics", b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"),
    ("key.asc", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n"),
    ("example.com.txt", b"a list\r\n"),
    ("numbers.bin", bytes(range(256)) * 8),
)


def messages() -> dict[str, bytes]:
    """What each client made, by the name of its format."""
    return {file.stem: file.read_bytes() for file in sorted(_HERE.glob("*.eml"))}


def varied(count: int, chance: Random) -> Iterator[bytes]:
    """So many clean messages, going round the clients; the first round is as made."""
    made = list(messages().values())
    for number in range(count):
        message = made[number % len(made)]
        yield message if number < len(made) else _vary(message, number, chance)


def _vary(octets: bytes, number: int, chance: Random) -> bytes:
    # compat32 leaves header fields as they are
    message = message_from_bytes(octets, policy=compat32)
    message.replace_header("Subject", f"{chance.choice(_SUBJECTS)} {number}")
    message.replace_header("From", f"{chance.choice(_NAMES)} <ann@example.com>")
    for part in message.walk():
        _reword(part, chance)
    if chance.random() < 0.5:
        message = _with_file(message, *chance.choice(_FILES))
    written = BytesIO()
    policy = compat32.clone(linesep="\r\n", max_line_length=None)
    BytesGenerator(written, mangle_from_=False, policy=policy).flatten(message)
    return written.getvalue()


def _reword(part: "Message[str, str]", chance: Random) -> None:
    """Give a part of text other words, in the encoding that the client chose."""
    kind = part.get_content_type()
    if kind not in {"text/plain", "text/html"}:
        return
    words = chance.choice(_PAGES if kind == "text/html" else _TEXTS)
    decoded = part.get_payload(decode=True)
    text = (decoded if isinstance(decoded, bytes) else b"").decode("utf-8", "replace")
    text = text.replace(_HELLO, f"{_HELLO} {words}")
    encoding = str(part.get("Content-Transfer-Encoding", "7bit")).lower()
    if encoding == "quoted-printable":
        text = encodestring(text.encode()).decode("ascii")
    part.set_payload(text)


def _with_file(
    message: "Message[str, str]", name: str, content: bytes
) -> "Message[str, str]":
    """The message with an attachment, wrapped as clients wrap it."""
    whole = MIMEMultipart("mixed", policy=compat32)
    moved = ("content-type", "content-transfer-encoding", "content-disposition")
    for field, value in message.items():
        if field.lower() not in {*moved, "mime-version"}:
            whole[field] = value
            del message[field]
    attachment = MIMEApplication(content, policy=SMTP)
    attachment.add_header("Content-Disposition", "attachment", filename=name)
    whole.attach(message)
    whole.attach(attachment)
    return whole
