"""Messages for the built-in checks, built as clients build them."""

import zipfile
from base64 import encodebytes
from email.message import EmailMessage
from email.policy import SMTP
from io import BytesIO
from struct import pack

from fwd_mta.rules.inspection import Inspector
from fwd_mta.rules.links import Doubt

HEAD = b"From: Ann <ann@example.com>\r\nMIME-Version: 1.0\r\n"
PROGRAM = b"MZ" + b"\0" * 58 + pack("<I", 64) + b"PE\0\0" + b"\0" * 100
ELF = b"\x7fELF\x02\x01\x01" + b"\0" * 60


def inspect(message: bytes, size: int = 64 * 1024) -> tuple[Doubt, ...]:
    """What is found in a whole message that is fed in pieces."""
    head, _, body = message.partition(b"\r\n\r\n")
    inspector = Inspector(head + b"\r\n")
    for at in range(0, len(body), size):
        inspector.feed(body[at : at + size])
    return tuple(inspector.finish())


def rules(message: bytes) -> set[str]:
    """The rules that a message breaks."""
    return {one.rule for one in inspect(message)}


def text(content: str, author: str = "Ann <ann@example.com>") -> bytes:
    """A message of plain text."""
    return f"From: {author}\r\nSubject: x\r\n\r\n{content}\r\n".encode()


def html(content: str) -> bytes:
    """A message of HTML, as quoted-printable."""
    message = EmailMessage(policy=SMTP)
    message["From"] = "Ann <ann@example.com>"
    message.set_content(content, subtype="html", cte="quoted-printable")
    return bytes(message)


def attached(name: str, content: bytes = b"some octets") -> bytes:
    """A message with one attachment, as base64."""
    message = EmailMessage(policy=SMTP)
    message["From"] = "Ann <ann@example.com>"
    message.set_content("See the attachment.")
    message.add_attachment(
        content, maintype="application", subtype="octet-stream", filename=name
    )
    return bytes(message)


def written(disposition: str, content: bytes = b"x") -> bytes:
    """A message with one attachment whose field is written by hand."""
    return (
        HEAD
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        + f"Content-Disposition: {disposition}\r\n".encode()
        + b"Content-Transfer-Encoding: base64\r\n\r\n"
        + encodebytes(content).replace(b"\n", b"\r\n")
        + b"--b--\r\n"
    )


def zipped(*names: str, content: bytes = b"x") -> bytes:
    """A zip of files with these names."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return packed.getvalue()


def locked(name: str) -> bytes:
    """A zip that says that its file is encrypted."""
    octets = bytearray(zipped(name))
    at = octets.index(b"PK\x01\x02")
    octets[at + 8] |= 1
    return bytes(octets)


def bomb(count: int, size: int) -> bytes:
    """A zip whose directory announces files of that size."""
    octets = bytearray(zipped(*map(str, range(count))))
    at = octets.find(b"PK\x01\x02")
    while at >= 0:
        octets[at + 24 : at + 28] = pack("<I", size)
        at = octets.find(b"PK\x01\x02", at + 4)
    return bytes(octets)


def nested(depth: int) -> bytes:
    """A message of multiparts in multiparts."""
    message = HEAD + b"Content-Type: multipart/mixed; boundary=b0\r\n\r\n"
    for at in range(depth - 1):
        inner = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (at + 1)
        message += b"--b%d\r\n" % at + inner
    return message + b"--b%d\r\n\r\nHi\r\n" % (depth - 1)


def forwarded(depth: int) -> bytes:
    """A message in a message in a message."""
    inner = b"Content-Type: message/rfc822\r\n\r\n"
    return HEAD + inner * depth + b"Subject: x\r\n\r\nHi\r\n"


def many(count: int) -> bytes:
    """A message of that many parts."""
    head = HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    return head + b"--b\r\n\r\nHi\r\n" * count + b"--b--\r\n"
