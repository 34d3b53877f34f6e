"""No line over 998 octets leaves us, no raw UTF-8 where ASCII was promised.

What RFC 6409 8 lets a submission server mend is mended: header fields are folded or
encoded (RFC 2047), MIME text parts become quoted-printable (RFC 2045). Signed and
encrypted parts are never touched: then the message is refused, with the cure.
"""

import re
from binascii import a2b_qp, b2a_base64
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fwd_mta.mail.address import excerpt
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import (
    Field,
    Token,
    encoded,
    encoded_words,
    fields,
    fold,
    join,
    make_field,
    tokens,
)
from fwd_mta.mail.reply import Reply

# RFC 5321 4.5.3.1.6, without the CRLF
LINE_LIMIT = 998


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ADDRESS_FIELDS = _words(
    "from sender reply-to to cc bcc resent-from resent-sender resent-reply-to resent-to"
    " resent-cc resent-bcc disposition-notification-to"
)
STRUCTURED_FIELDS = _words(
    "date message-id in-reply-to references resent-date resent-message-id received"
    " return-path mime-version content-type content-transfer-encoding content-id"
    " content-disposition dkim-signature arc-seal arc-message-signature"
    " arc-authentication-results authentication-results auto-submitted"
)
SIGNED = _words(
    "multipart/signed multipart/encrypted application/pkcs7-mime"
    " application/x-pkcs7-mime application/pgp-encrypted"
)
NESTED = frozenset({"message/rfc822", "message/global"})
PLAIN = frozenset({"", "7bit", "8bit", "binary"})
_DEPTH = 20
_BOUNDARY_LIMIT = 200

_CURE = "end it earlier, or let your program encode the part as quoted-printable"
_SIGNED_CURE = "let your program encode it before it signs or encrypts"
_TYPE = re.compile(r"[ \t]*([^ \t;/]+/[^ \t;]+)")
_PARAMETER = re.compile(
    r';[ \t]*([^ \t=;"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^ \t;"]*))'
)
_BASE64_NOISE = re.compile(rb"[^A-Za-z0-9+/=]+")
_QP_UNSAFE = re.compile(rb"[^ -<>-~\t]")
_QP_LINE = 76


def longest_line(data: bytes, at_least: int = 0) -> int:
    """The length of the longest line, or `at_least` if none is longer.

    With a large `at_least` it only looks at every so many octets.
    """
    longest, at = at_least, 0
    while len(data) - at > longest:
        end = data.rfind(b"\r\n", at, at + longest + 2)
        if end < 0:
            end = data.find(b"\r\n", at + longest)
            end = len(data) if end < 0 else end
            longest = end - at
        at = end + 2
    return longest


def fit(head: bytes, body: bytes) -> tuple[bytes, bytes] | Reply:
    """Bring all lines under the limit, or say why that cannot be.

    What has no long line comes back as it was, byte for byte.
    """
    if not (_is_long(head) or _is_long(body)):
        return head, body
    try:
        message = Part(fields(head), body, head.count(b"\r\n") + 1, is_message=True)
        fitted = _fitted(message, 0)
    except _Unfit as unfit:
        return unfit.reply
    except SyntaxFault as fault:
        return Reply(550, "6.0", str(fault))
    return join(fitted.parts), fitted.body


def encode_header(head: bytes) -> bytes | Reply:
    """Encode raw UTF-8 in display names and unstructured fields (RFC 2047).

    A message that its client signed is left alone; 8-bit octets anywhere else are
    refused.
    """
    if head.isascii():
        return head
    try:
        parts = fields(head)
    except SyntaxFault as fault:
        return Reply(550, "6.0", str(fault))
    if _is_signed(parts):
        return head
    written: list[Field] = []
    line = 1
    for field in parts:
        try:
            written.append(_ascii_field(field))
        except SyntaxFault as fault:
            text = f"{field.name} field (header line {line}): {fault}"
            return Reply(550, "6.0", text)
        line += field.raw.count(b"\r\n")
    return join(written)


# Header fields


def _ascii_field(field: Field) -> Field:
    """The field in ASCII; raises SyntaxFault where RFC 2047 has no words for it."""
    if field.raw.isascii():
        return field
    try:
        value = field.raw.decode().partition(":")[2].replace("\r\n", "").strip()
    except UnicodeDecodeError:
        raise SyntaxFault("8-bit characters that are not UTF-8") from None
    if field.has_name(*STRUCTURED_FIELDS):
        raise SyntaxFault("8-bit characters are not allowed here")
    is_list = field.has_name(*ADDRESS_FIELDS)
    return make_field(
        field.name, _ascii_list(value) if is_list else encoded_words(value)
    )


def _ascii_list(value: str) -> str:
    """An address list whose names and comments are ASCII."""
    written: list[str] = []
    words: list[Token] = []
    for token in tokens(value):
        if token.kind == "special" and token.text != ".":
            written += [_ascii_words(words, token.text), token.text]
            words = []
        else:
            words.append(token)
    return "".join([*written, _ascii_words(words, "")])


def _ascii_words(words: list[Token], mark: str) -> str:
    """The words before a mark: a name before "<" and ":", else (part of) an address."""
    comments = [_ascii_comment(word.text) for word in words if word.kind == "comment"]
    name = "".join(_unquoted(word) for word in words if word.kind != "comment")
    if not name.isascii():
        if mark not in {"<", ":"}:
            raise SyntaxFault("a non-ASCII address needs SMTPUTF8")
        return " ".join(["", encoded(name.strip()), *comments, ""])
    return "".join(
        _ascii_comment(word.text) if word.kind == "comment" else word.text
        for word in words
    )


def _ascii_comment(text: str) -> str:
    return text if text.isascii() else f"({encoded(text[1:-1])})"


def _unquoted(word: Token) -> str:
    if word.kind != "quoted":
        return word.text
    return re.sub(r"\\(.)", r"\1", word.text[1:-1])


# MIME parts


@dataclass(frozen=True, slots=True)
class Part:
    """A message or a MIME part; `line` is the number of lines before its body."""

    parts: tuple[Field, ...]
    body: bytes
    line: int
    is_message: bool = False

    @property
    def media_type(self) -> str:
        """Its type and subtype in lower case; text/plain if it does not say."""
        match = _TYPE.match(self.value("content-type"))
        return match[1].lower() if match else "text/plain"

    @property
    def boundary(self) -> bytes:
        """The boundary parameter, or nothing."""
        for match in _PARAMETER.finditer(self.value("content-type")):
            if match[1].lower() == "boundary":
                return (match[2] or match[3] or "").encode()
        return b""

    def value(self, name: str) -> str:
        """The first field of that name, or nothing."""
        found = (field.value for field in self.parts if field.has_name(name))
        return next(found, "")


class _Unfit(Exception):
    """The way out of the recursion, carrying the refusal."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(line)
        text = f"Line {line} is longer than {LINE_LIMIT} octets {why}"
        self.reply = Reply(550, "6.0", text)


def _is_long(data: bytes) -> bool:
    return longest_line(data, LINE_LIMIT) > LINE_LIMIT


def _is_signed(parts: tuple[Field, ...]) -> bool:
    return any(field.has_name("dkim-signature") for field in parts)


def _long_at(data: bytes, before: int) -> int:
    """The number of the first long line, counted on from `before`."""
    for number, line in enumerate(data.split(b"\r\n"), before + 1):
        if len(line) > LINE_LIMIT:
            return number
    return before + 1


def _fitted(part: Part, depth: int) -> Part:
    """The part with all its lines within the limit; raises _Unfit or SyntaxFault."""
    if _is_signed(part.parts):
        raise _Unfit(_first_long(part), f"and the message is signed: {_SIGNED_CURE}")
    folded = replace(part, parts=tuple(_folded(part)))
    return _fitted_body(folded, depth) if _is_long(part.body) else folded


def _first_long(part: Part) -> int:
    head = join(part.parts)
    if _is_long(head):
        return _long_at(head, part.line - head.count(b"\r\n") - 1)
    return _long_at(part.body, part.line)


def _folded(part: Part) -> Iterator[Field]:
    line = part.line - join(part.parts).count(b"\r\n") - 1
    for field in part.parts:
        raw = fold(field.raw) if _is_long(field.raw) else field.raw
        if _is_long(raw):
            why = f"({field.name} field): put white space into it"
            raise _Unfit(_long_at(field.raw, line), why)
        line += field.raw.count(b"\r\n")
        yield Field(field.name, raw)


def _fitted_body(part: Part, depth: int) -> Part:
    media_type = part.media_type
    line = _long_at(part.body, part.line)
    if media_type in SIGNED:
        raise _Unfit(line, f"in a signed or encrypted part: {_SIGNED_CURE}")
    if depth > _DEPTH:
        raise _Unfit(line, f"in parts nested too deep: {_CURE}")
    if media_type.startswith("multipart/") and media_type != "multipart/digest":
        return _fitted_multipart(part, depth)
    encoding = part.value("content-transfer-encoding").lower()
    if encoding == "base64":
        return replace(part, body=base64_lines(part.body))
    if encoding == "quoted-printable":
        return replace(part, body=quoted_printable(a2b_qp(part.body)))
    if encoding not in PLAIN:
        raise _Unfit(line, f"in the encoding {excerpt(encoding)}: {_CURE}")
    if media_type in NESTED:
        inner = _fitted_inner(part.body, part.line, depth, is_message=True)
        return replace(part, body=inner)
    if media_type.startswith(("message/", "multipart/")):
        raise _Unfit(line, f"in a part of type {excerpt(media_type)}: end it earlier")
    return _encoded_leaf(part)


def _fitted_multipart(part: Part, depth: int) -> Part:
    """Mend the inner parts that need it; everything else stays byte for byte."""
    written: list[bytes] = []
    at, line = 0, part.line
    for start, end in [*inner_parts(part), (len(part.body), len(part.body))]:
        between, inner = part.body[at:start], part.body[start:end]
        if _is_long(between):
            why = f"outside of every MIME part: {_CURE}"
            raise _Unfit(_long_at(between, line), why)
        line += between.count(b"\r\n")
        written += [between, _fitted_inner(inner, line, depth)]
        line += inner.count(b"\r\n")
        at = end
    return replace(part, body=b"".join(written))


def inner_parts(part: Part) -> Iterator[tuple[int, int]]:
    """Where the parts between delimiter lines begin and end (RFC 2046 5.1.1)."""
    boundary = part.boundary
    if not 0 < len(boundary) <= _BOUNDARY_LIMIT:
        return
    pattern = rb"(?:(?<=\r\n)|\A)--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r\n|\Z)"
    start = None
    for match in re.finditer(pattern, part.body):
        if start is not None:
            yield start, max(start, match.start() - 2)
        if match[1]:
            return
        start = match.end()
    if start is not None:
        yield start, len(part.body)


def _fitted_inner(
    octets: bytes, line: int, depth: int, *, is_message: bool = False
) -> bytes:
    """Mend a part given as octets, header section and all, if it needs that."""
    if not _is_long(octets):
        return octets
    if octets.startswith(b"\r\n"):
        head, body = b"", octets[2:]
    else:
        end = octets.find(b"\r\n\r\n")
        if end < 0:
            raise _Unfit(_long_at(octets, line), f"in a part without a body: {_CURE}")
        head, body = octets[: end + 2], octets[end + 4 :]
    before = line + head.count(b"\r\n") + 1
    part = Part(_inner_fields(head, line), body, before, is_message)
    fitted = _fitted(part, depth + 1)
    return join(fitted.parts) + b"\r\n" + fitted.body


def _inner_fields(head: bytes, line: int) -> tuple[Field, ...]:
    try:
        return fields(head)
    except SyntaxFault as fault:
        raise SyntaxFault(f"In the MIME part after line {line}: {fault}") from None


def _encoded_leaf(part: Part) -> Part:
    """Encode a part without an encoding: text as quoted-printable, others as base64."""
    added = []
    if part.is_message and not part.value("mime-version"):
        added.append(make_field("MIME-Version", "1.0"))
    if not part.value("content-type") and not part.body.isascii():
        kind = f"text/plain; charset={_charset(part)}"
        added.append(make_field("Content-Type", kind))
    encoding, body = "quoted-printable", part.body
    if part.media_type.startswith("text/"):
        body = quoted_printable(body)
    else:
        encoding, body = "base64", _base64(body)
    added.append(make_field("Content-Transfer-Encoding", encoding))
    kept = (f for f in part.parts if not f.has_name("content-transfer-encoding"))
    return replace(part, parts=(*kept, *added), body=body)


def _charset(part: Part) -> str:
    try:
        part.body.decode()
    except UnicodeDecodeError:
        return "unknown-8bit"  # RFC 1428 3
    return "utf-8"


# Content-Transfer-Encodings


def quoted_printable(data: bytes) -> bytes:
    """Encode by RFC 2045 6.7, line by line."""
    return b"\r\n".join(_qp_line(line) for line in data.split(b"\r\n"))


def _qp_line(line: bytes) -> bytes:
    text = _QP_UNSAFE.sub(lambda match: b"=%02X" % match[0][0], line)
    if text[-1:] in {b" ", b"\t"}:
        text = text[:-1] + b"=%02X" % text[-1]
    if len(text) <= _QP_LINE:
        return text
    return b"=\r\n".join(_qp_pieces(text))


def _qp_pieces(text: bytes) -> Iterator[bytes]:
    """Cut between characters; no piece behind a soft break can look like a boundary."""
    at = 0
    while at < len(text):
        end = at + _QP_LINE - 4
        # not through "=XX"
        mark = text.rfind(b"=", end - 2, end)
        if mark > at and end < len(text):
            end = mark
        piece = text[at:end]
        yield b"=2D" + piece[1:] if at and piece[:1] == b"-" else piece
        at = end


def _base64(body: bytes) -> bytes:
    end = b"\r\n" if body.endswith(b"\r\n") else b""
    return base64_lines(b2a_base64(body, newline=False) + end)


def base64_lines(body: bytes) -> bytes:
    """Base64 in lines of 76; what is not of its alphabet is ignored (RFC 2045 6.8)."""
    letters = _BASE64_NOISE.sub(b"", body)
    lines = [letters[at : at + _QP_LINE] for at in range(0, len(letters), _QP_LINE)]
    return b"\r\n".join([*lines, b""] if body.endswith(b"\r\n") else lines)
