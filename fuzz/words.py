"""The words from which findings are made, for both ways of fuzzing; and first seeds."""

from collections.abc import Mapping
from types import MappingProxyType

from tests.catalogue import inbound
from tests.inbound.bench import plain

_ENDS = (b"\r\n", b"\n", b"\r", b".", b"..", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\0")
_ADDRESS = (
    *(b"<", b">", b"@", b'"', b"\\", b".", b",", b":", b";", b"(", b")", b"[", b"]"),
    *(b"ann", b"example.com", b"xn--mller-kva", b"IPv6:::1", b"127.0.0.1", b" ", b"\t"),
    *(b"\xc3\xa4", b"\xe2\x80\xae", b"\xff", b"+tag", b"=?utf-8?q?a?=", b"postmaster"),
)
_PARAMETERS = (
    *(b"FROM:<ann@example.com>", b"TO:<bob@example.net>", b" SIZE=10", b" BODY=7BIT"),
    *(b" SMTPUTF8", b" RET=FULL", b" ENVID=a+2B", b" NOTIFY=NEVER", b" REQUIRETLS"),
    *(b" ORCPT=rfc822;a", b" ORCPT=utf-8;a", b" AUTH=<>", b" HOLDFOR=5", b"=", b"+"),
    b" HOLDUNTIL=2027-01-31T08:00:00Z",
)
_SASL = (
    *(b"PLAIN", b"LOGIN", b"SCRAM-SHA-256", b"\n", b"\n!", b"\n*", b"=", b"\0", b" "),
    *(b"ann@example.com", b"sesam", b"n,,n=ann@example.com,r=x", b"c=biws,r=x,p=AA=="),
    b" " + plain("ann@example.com", "wrong").encode(),
)
_MIME = (
    *(b"From: ann@example.com", b"Sender:", b"To: ", b"Subject: ", b"Bcc: x", b": "),
    *(b"Content-Type: text/plain", b"Content-Type: multipart/mixed; boundary=b"),
    *(b"--b", b"--b--", b"x" * 1000, b"\xc3\xbc", b"DKIM-Signature: v=1", b" ", b"\t"),
    b"Content-Transfer-Encoding: base64",
)
_VERBS = (
    *(b"NOOP\r\n", b"RSET\r\n", b"DATA\r\n", b"QUIT\r\n", b"EHLO x\r\n", b"HELO x\r\n"),
    *(b"MAIL FROM:<ann@example.com>\r\n", b"RCPT TO:<bob@example.net>\r\n"),
    *(b"AUTH PLAIN\r\n", b"STARTTLS\r\n", b"BDAT 5\r\n", b"BDAT 5 LAST\r\n", b"|"),
    b"From: ann@example.com\r\n\r\n",
)

WORDS: Mapping[str, tuple[bytes, ...]] = MappingProxyType(
    {
        "command_line": _PARAMETERS + _ADDRESS,
        "address": _ADDRESS,
        "sasl": _SASL,
        "data": (*_ENDS, b"|", b"\r\n\r\n", b"x: y", *_VERBS),
        "chunks": (*_ENDS, b"|", b"\r\n\r\n", b"x: y", *_VERBS),
        "session": _VERBS + _ENDS,
        "head": (*_MIME, *_ADDRESS, b"\r\n", b"\r\n\r\n"),
    }
)


def seeds(target: str) -> list[bytes]:
    """Where to begin: what the catalogue of bad inputs has."""
    content = [row[0] for row in (*inbound.REFUSED, *inbound.TAKEN)]
    rows = [b"".join(row.segments) for row in inbound.COMMANDS]
    ends = [b"\x01\x03|" + b"\r\nHi" + one + b"x\r\n.\r\n" for one in _separators()]
    begun: dict[str, list[bytes]] = {
        "command_line": [
            line.partition(b" ")[2] for row in rows for line in row.split(b"\r\n")
        ],
        "address": [one.partition(b": ")[2].strip() for one in content],
        "data": ends,
        "chunks": ends,
        "session": [b"\x07|" + row for row in rows],
        "head": content,
    }
    fallback = [b"PLAIN\n!\0ann@example.com\0wrong", b"LOGIN\n!ann@example.com\n!wrong"]
    usual = [b"\x10|\r\nHi\r\n.\r\n", b"\x10|x: y\r\n\r\n..a\r\n.\r\nNOOP\r\n"]
    return [one[:4096] for one in begun.get(target, fallback)] + usual


def _separators() -> list[bytes]:
    return list(inbound.SEPARATORS)
