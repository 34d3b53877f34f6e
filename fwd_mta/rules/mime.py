"""A MIME message walked as it comes, in pieces, each leaf handed on decoded.

Pure, and bounded: a part's header section, the depth and the number of parts have
limits; what goes over one ends the walk. Nothing is ever held whole. Doorway: `Walk`.
"""

import re
from binascii import Error, a2b_base64, a2b_qp
from collections.abc import Callable
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header
from enum import Enum
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote_to_bytes

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import Section, fields

HEAD_LIMIT = 64 * 1024
DEPTH_LIMIT = 30
PART_LIMIT = 1000

_BOUNDARY_LIMIT = 200
_LINE_LIMIT = 64 * 1024
_VALUE_LIMIT = 8 * 1024
_USUAL = 200
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOISE = bytes(set(range(256)) - set(_LETTERS))
_TYPE = re.compile(r"[ \t]*([^ \t;/]+/[^ \t;]+)")
_PARAMETER = re.compile(
    r';[ \t]*([^ \t=;"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*+)(?:"|\Z)|([^;"]*))'
)
_SECTION = re.compile(r"([^*]+)(?:\*([0-9]{1,3}))?(\*)?")


class Leaf(Protocol):
    """Takes the decoded content of one part that has no parts of its own."""

    def feed(self, octets: bytes) -> None:
        """Take more of it."""

    def close(self) -> None:
        """It ends."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a part's header says of it; `name` is that of an attachment, or empty."""

    media_type: str
    name: str
    encoding: str
    boundary: bytes = b""

    @classmethod
    def of(cls, parts: Section) -> "Facts":
        """Read them; what cannot be read counts as text."""
        said = (
            _value(parts, "content-type"),
            _value(parts, "content-disposition"),
            _value(parts, "content-transfer-encoding"),
        )
        is_usual = len(said[0]) < _USUAL and not said[1]
        return _usual(*said) if is_usual else _facts(*said)


def _facts(content_type: str, disposition: str, encoding: str) -> Facts:
    match = _TYPE.match(content_type)
    inline = _parameters(content_type)
    attached = _parameters(disposition)
    return Facts(
        match[1].lower() if match else "text/plain",
        attached.get("filename") or inline.get("name", ""),
        encoding.strip().lower(),
        inline.get("boundary", "").encode()[:_BOUNDARY_LIMIT],
    )


@lru_cache(maxsize=64)  # most parts say what most parts say
def _usual(content_type: str, disposition: str, encoding: str) -> Facts:
    return _facts(content_type, disposition, encoding)


class _Place(Enum):
    HEAD = "in a header section"
    LEAF = "in a part"
    BETWEEN = "between parts"
    OVER = "beyond a limit"


class Walk:
    """Feed it the body; `make_leaf` makes the taker of each leaf.

    `excess` says which limit was passed, or is None.
    """

    def __init__(self, parts: Section, make_leaf: Callable[[Facts], Leaf]) -> None:
        self.excess: str | None = None
        self.count = 0
        self._make_leaf = make_leaf
        self._stack: list[tuple[bytes, int]] = []
        self._depth = 0
        self._place = _Place.BETWEEN
        self._leaf: _Decoder | None = None
        self._head = b""
        self._tail = b""
        self._begin(parts)

    def feed(self, piece: bytes) -> None:
        """Take more of the body."""
        data = self._tail + piece
        end = data.rfind(b"\r\n") + 2
        if end < 2:
            end = len(data) if len(data) > _LINE_LIMIT else 0
        self._tail = data[end:]
        self._take(data[:end])

    def finish(self) -> None:
        """The body ends."""
        self._take(self._tail)
        self._tail = b""
        self._end_leaf()

    def _take(self, data: bytes) -> None:
        """Go through whole lines."""
        at = 0
        while at < len(data) and self._place is not _Place.OVER:
            at = self._in_head(data, at) if self._in_a_head else self._in_body(data, at)

    @property
    def _in_a_head(self) -> bool:
        return self._place is _Place.HEAD

    def _in_body(self, data: bytes, at: int) -> int:
        """Hand on what comes before the next line that may be a delimiter."""
        if not self._stack:
            self._content(data[at:])
            return len(data)
        if data.startswith(b"--", at):
            end = _line_end(data, at)
            if not self._delimited(data[at:end]):
                self._content(data[at:end])
            return end
        found = data.find(b"\r\n--", at)
        end = len(data) if found < 0 else found + 2
        self._content(data[at:end])
        return end

    def _in_head(self, data: bytes, at: int) -> int:
        end = _line_end(data, at)
        line = data[at:end]
        if line.startswith(b"--") and self._delimited(line):
            return end
        if line in {b"\r\n", b""}:
            head, self._head = self._head, b""
            self._begin(_forgiving(head))
        else:
            self._head += line
            if len(self._head) > HEAD_LIMIT:
                self._over(f"the header of a part is over {HEAD_LIMIT} octets")
        return end

    def _delimited(self, line: bytes) -> bool:
        """Whether the line ends a part; the innermost boundary is asked first."""
        text = line.rstrip(b" \t\r\n")
        for at in range(len(self._stack) - 1, -1, -1):
            boundary, depth = self._stack[at]
            if text in {b"--" + boundary, b"--" + boundary + b"--"}:
                self._end_leaf()
                self._depth = depth
                closed = len(text) > len(boundary) + 2
                del self._stack[at if closed else at + 1 :]
                self._place = _Place.BETWEEN if closed else _Place.HEAD
                self._head = b""
                return True
        return False

    def _begin(self, parts: Section) -> None:
        """Enter a part, its header section being read."""
        self.count += 1
        facts = Facts.of(parts)
        if self.count > PART_LIMIT:
            self._over(f"it has more than {PART_LIMIT} MIME parts")
        elif self._depth >= DEPTH_LIMIT:
            self._over(f"its MIME parts are nested deeper than {DEPTH_LIMIT}")
        elif facts.media_type.startswith("multipart/") and facts.boundary:
            self._depth += 1
            self._stack.append((facts.boundary, self._depth))
            self._place = _Place.BETWEEN
        elif facts.media_type == "message/rfc822" and facts.encoding in _AS_IT_IS:
            self._depth += 1
            self._place = _Place.HEAD
        else:
            self._leaf = _Decoder(self._make_leaf(facts), facts.encoding)
            self._place = _Place.LEAF

    def _content(self, octets: bytes) -> None:
        if self._leaf is not None:
            self._leaf.feed(octets)

    def _end_leaf(self) -> None:
        leaf, self._leaf = self._leaf, None
        if leaf is not None:
            leaf.close()

    def _over(self, what: str) -> None:
        self._end_leaf()
        self.excess = what
        self._place = _Place.OVER


_AS_IT_IS = frozenset({"", "7bit", "8bit", "binary"})


class _Decoder:
    """Undoes a content transfer encoding, piece by piece."""

    def __init__(self, leaf: Leaf, encoding: str) -> None:
        self._leaf = leaf
        self._is_base64 = encoding == "base64"
        self._is_qp = encoding == "quoted-printable"
        self._rest = b""

    def feed(self, octets: bytes) -> None:
        """Take whole lines."""
        if self._is_base64:
            self._leaf.feed(self._base64(octets))
        else:
            self._leaf.feed(a2b_qp(octets) if self._is_qp else octets)

    def close(self) -> None:
        """End; what is left of base64 is read as far as it goes."""
        if self._rest:
            self._leaf.feed(_base64(self._rest + b"=" * (-len(self._rest) % 4)))
        self._leaf.close()

    def _base64(self, octets: bytes) -> bytes:
        letters = self._rest + octets.translate(None, _NOISE)
        end = len(letters) - len(letters) % 4
        self._rest = letters[end:]
        return _base64(letters[:end])


def _base64(letters: bytes) -> bytes:
    """Decode whole groups; misplaced padding ends them, as readers have it."""
    try:
        return a2b_base64(letters)
    except Error:
        end = letters.find(b"=")
        return a2b_base64(letters[: max(0, end - end % 4)])


def _line_end(data: bytes, at: int) -> int:
    found = data.find(b"\r\n", at)
    return len(data) if found < 0 else found + 2


def _forgiving(head: bytes) -> Section:
    """The fields of a part; a section that cannot be read has none."""
    try:
        return fields(head)
    except SyntaxFault:
        return Section()


def _value(parts: Section, name: str) -> str:
    places = parts.places.get(name)
    return parts[places[0]].value[:_VALUE_LIMIT] if places else ""


# Parameters, as RFC 2231 and what clients make of it have them


def _parameters(value: str) -> dict[str, str]:
    """The parameters of a field, continued and encoded ones put together."""
    pieces: dict[str, dict[int, str]] = {}
    for match in _PARAMETER.finditer(value):
        section = _SECTION.fullmatch(match[1].lower())
        if section is None:
            continue
        text = match[2] if match[2] is not None else match[3].strip()
        if section[3]:
            text = _percent_decoded(text, first=section[2] in {None, "0"})
        else:
            text = re.sub(r"\\(.)", r"\1", text)
        pieces.setdefault(section[1], {}).setdefault(int(section[2] or 0), text)
    return {
        name: decoded("".join(found[at] for at in sorted(found)))
        for name, found in pieces.items()
    }


def _percent_decoded(text: str, *, first: bool) -> str:
    if first and text.count("'") >= 2:
        text = text.split("'", 2)[2]
    return unquote_to_bytes(text).decode("utf-8", "replace")


def decoded(text: str) -> str:
    """A text with its encoded words read (RFC 2047), also where none belong."""
    if "=?" not in text:
        return text
    try:
        found = decode_header(text)
        return "".join(
            one.decode(charset or "latin-1", "replace")
            if isinstance(one, bytes)
            else one
            for one, charset in found
        )
    except (HeaderParseError, LookupError, ValueError):
        return text
