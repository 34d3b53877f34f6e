"""A message for a host that takes 7-bit content only (RFC 6152 3).

Parts with 8-bit octets become quoted-printable or base64; all others stay as they are,
byte for byte. What is signed or encrypted is never touched: then there is no such form.
"""

import re
from binascii import a2b_qp, b2a_base64
from collections.abc import Collection
from dataclasses import replace

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import Field, fields, join, make_field
from fwd_mta.rules.encoding import (
    NESTED,
    PLAIN,
    SIGNED,
    Part,
    base64_lines,
    inner_parts,
    quoted_printable,
)

_DEPTH = 20
_TAG = re.compile(r"(?:^|;)\s*([ds])\s*=\s*([^;\s]+)")
# Beyond this share of octets to encode, base64 is the shorter form.
_MOSTLY = 0.2


class _Untouchable(Exception):
    """A part that must stay as it is holds 8-bit octets."""


def in_seven_bits(
    head: bytes, body: bytes, own: Collection[tuple[str, str]] = ()
) -> tuple[bytes, bytes] | None:
    """The message in ASCII, without signatures of ours; None: it cannot be had.

    `own` are the domains and selectors we sign with: such a signature can be renewed, a
    client's cannot.
    """
    if not head.isascii():
        return None
    try:
        parts = tuple(one for one in fields(head) if not is_ours(one, own))
        if any(one.has_name("dkim-signature") for one in parts):
            return None
        part = _recoded(Part(parts, body, 0, is_message=True), 0)
    except (SyntaxFault, _Untouchable):
        return None
    return join(part.parts), part.body


def is_ours(field: Field, own: Collection[tuple[str, str]]) -> bool:
    """Whether a field is a DKIM signature made with one of our keys."""
    if not field.has_name("dkim-signature"):
        return False
    tags = dict(_TAG.findall(field.value))
    return (tags.get("d", "").lower(), tags.get("s", "")) in own


def _recoded(part: Part, depth: int) -> Part:
    if part.body.isascii():
        return part
    media_type = part.media_type
    encoding = part.value("content-transfer-encoding").strip().lower()
    if media_type in SIGNED or depth > _DEPTH:
        raise _Untouchable
    if encoding in {"base64", "quoted-printable"}:
        return replace(part, body=_mended(part.body, encoding))
    if encoding not in PLAIN or media_type == "multipart/digest":
        raise _Untouchable
    if media_type.startswith("multipart/"):
        return replace(
            part, parts=_with_encoding(part, "7bit"), body=_multipart(part, depth)
        )
    if media_type in NESTED:
        inner = _inner(part.body, depth, is_message=True)
        return replace(part, parts=_with_encoding(part, "7bit"), body=inner)
    if media_type.startswith("message/"):
        raise _Untouchable
    return _leaf(part)


def _mended(body: bytes, encoding: str) -> bytes:
    """What calls itself encoded and has 8-bit octets all the same."""
    if encoding == "quoted-printable":
        return quoted_printable(a2b_qp(body))
    return base64_lines(body)


def _multipart(part: Part, depth: int) -> bytes:
    """Recode the inner parts; 8-bit octets outside of them are in no form at all."""
    written: list[bytes] = []
    at = 0
    for start, end in [*inner_parts(part), (len(part.body), len(part.body))]:
        between, inner = part.body[at:start], part.body[start:end]
        if not between.isascii():
            raise _Untouchable
        written += [between, _inner(inner, depth)]
        at = end
    return b"".join(written)


def _inner(octets: bytes, depth: int, *, is_message: bool = False) -> bytes:
    if octets.isascii():
        return octets
    if octets.startswith(b"\r\n"):
        head, body = b"", octets[2:]
    else:
        head, found, body = octets.partition(b"\r\n\r\n")
        if not found:
            raise _Untouchable
        head += b"\r\n"
    if not head.isascii():
        raise _Untouchable
    part = _recoded(Part(fields(head), body, 0, is_message=is_message), depth + 1)
    return join(part.parts) + b"\r\n" + part.body


def _leaf(part: Part) -> Part:
    is_text = part.media_type.startswith("text/")
    if is_text and _share(part.body) <= _MOSTLY:
        encoding, body = "quoted-printable", quoted_printable(part.body)
    else:
        end = b"\r\n" if part.body.endswith(b"\r\n") else b""
        body = base64_lines(b2a_base64(part.body, newline=False) + end)
        encoding = "base64"
    return replace(part, parts=_with_encoding(part, encoding), body=body)


def _share(body: bytes) -> float:
    """How much of a body is not ASCII."""
    return len(body.translate(None, bytes(range(128)))) / max(1, len(body))


def _with_encoding(part: Part, encoding: str) -> tuple[Field, ...]:
    """The part's fields with that encoding, and what makes it MIME if it was none."""
    kept = [one for one in part.parts if not one.has_name("content-transfer-encoding")]
    if part.is_message and not part.value("mime-version"):
        kept.append(make_field("MIME-Version", "1.0"))
    if not part.value("content-type"):
        kept.append(make_field("Content-Type", f"text/plain; charset={_charset(part)}"))
    return (*kept, make_field("Content-Transfer-Encoding", encoding))


def _charset(part: Part) -> str:
    try:
        part.body.decode()
    except UnicodeDecodeError:
        return "unknown-8bit"  # RFC 1428 3
    return "utf-8"
