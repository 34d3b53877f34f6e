"""Header sections: fields split, joined and made, address lists read (RFC 5322)."""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from fwd_mta.mail.address import Mailbox, excerpt, parse_mailbox
from fwd_mta.mail.errors import SyntaxFault

# RFC 5322 2.1.1: lines should have no more than this, without their CRLF
LINE_LENGTH = 78

# white space before the colon is obsolete, but read by others, so by us (4.5.8)
_USUAL = 200  # octets of an address field that is kept for the next one who asks
_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\r\n\0]*\r\n(?:[ \t][^\r\n\0]*\r\n)*")
_BARE = re.compile(rb"[\r\n\x00]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<quoted>"(?:[^"\\]|\\.)*")
    |(?P<literal>\[[^\[\]\\]*\])
    |(?P<special>[<>@,;:.])
    |(?P<atom>[^ \t\r\n"()<>\[\]:;@\\,.]+)""",
    re.DOTALL | re.VERBOSE,
)
_IN_COMMENT = re.compile(r"[^()\\]+|\\.|[()]", re.DOTALL)
_BLANK = re.compile(rb"[ \t]*")
_WORDS = re.compile(r"[ \t\r\n]+|[^ \t\r\n]+")


class Field(NamedTuple):
    """One header field; `raw` is all of it: name, colon, folds and the final CRLF."""

    name: str
    raw: bytes

    @property
    def value(self) -> str:
        """The field's body, unfolded; octets that are no UTF-8 become U+FFFD."""
        body = self.raw.partition(b":")[2].replace(b"\r\n", b"")
        return body.decode("utf-8", "replace").strip(" \t")

    def has_name(self, *names: str) -> bool:
        """Whether it bears one of the names, given in lower case."""
        return self.name.lower() in names


class Section(tuple[Field, ...]):  # noqa: SLOT001 - its places are kept
    """The fields of a header section, in order; found by name without a search."""

    def __init__(self, parts: Iterable[Field] = ()) -> None:
        """Note the places of fields by their names in lower case."""
        found: dict[str, list[int]] = {}
        for at, (name, _) in enumerate(self):
            found.setdefault(name.lower(), []).append(at)
        self.places: Mapping[str, list[int]] = found

    def named(self, name: str) -> list[Field]:
        """The fields of a name, given in lower case."""
        places = self.places.get(name)
        return [self[at] for at in places] if places else []

    def line(self, at: int) -> int:
        """The number of the line in which a field begins."""
        return 1 + sum(raw.count(b"\r\n") for _, raw in self[:at])


@dataclass(frozen=True, slots=True)
class AddressList:
    """The mailboxes of an address field, in order, and whether it holds a group."""

    mailboxes: tuple[Mailbox, ...]
    has_group: bool = False


class Token(NamedTuple):
    """A lexical token of RFC 5322 3.2, with its place in the text."""

    kind: str
    text: str
    start: int


# Sections


class _Recent:
    """Sections of the last heads: one message's is asked for by all that look at it."""

    kept: tuple[tuple[bytes, Section], ...] = ()

    def find(self, head: bytes) -> Section | None:
        """The section of these very octets."""
        for known, section in self.kept:
            if known is head:
                return section
        return None

    def keep(self, head: bytes, section: Section) -> None:
        """Remember it, in place of the oldest."""
        self.kept = ((head, section), *self.kept[:3])


_recent = _Recent()


def fields(head: bytes) -> Section:
    """Split a header section into fields; raises SyntaxFault that names the line."""
    section = _recent.find(head)
    if section is None:
        section = _parsed(head)
        _recent.keep(head, section)
    return section


def _parsed(head: bytes) -> Section:
    found: list[Field] = []
    at, match_at = 0, _FIELD.match
    while at < len(head):
        match = match_at(head, at)
        if match is None:
            raise _fault(head)
        found.append(Field(_decoded(match[1]), match[0]))
        at = match.end()
    return Section(found)


def _fault(head: bytes) -> SyntaxFault:
    """What is wrong with a section that is none, and in which line."""
    try:
        lines = _lines(head)
    except SyntaxFault as fault:
        return fault
    is_first = True
    for number, line in enumerate(lines, 1):
        if (is_first or line[:1] not in {b" ", b"\t"}) and not _NAME.match(line):
            return _no_field(number, line)
        is_first = False
    raise AssertionError("every line is one of a field")


def assembled(parts: Iterable[Field]) -> bytes:
    """Put whole fields together; the section is known to the next who asks for it."""
    section = Section(parts)
    head = join(section)
    _recent.keep(head, section)
    return head


def join(parts: Iterable[Field]) -> bytes:
    """Put a header section together again, byte for byte."""
    return b"".join([raw for _, raw in parts])


def _lines(head: bytes) -> list[bytes]:
    lines = head.split(b"\r\n")
    if lines.pop():
        raise SyntaxFault(f"Header line {len(lines) + 1} does not end in CRLF")
    ends = len(lines)
    if head.count(b"\r") != ends or head.count(b"\n") != ends or b"\0" in head:
        number = next(at for at, line in enumerate(lines, 1) if _BARE.search(line))
        raise SyntaxFault(f"Header line {number} holds a bare CR, a bare LF or NUL")
    return lines


@lru_cache(maxsize=1024)  # the names of fields are few
def _decoded(name: bytes) -> str:
    return name.decode("ascii")


def _no_field(number: int, line: bytes) -> SyntaxFault:
    shown = excerpt(line[:200].decode("utf-8", "replace"))
    return SyntaxFault(f"Header line {number} is no header field: {shown}")


# Address lists


def tokens(text: str) -> Iterator[Token]:
    """Read lexical tokens, white space and comments included; raises SyntaxFault.

    Kinds: space, comment, quoted, literal, special, atom. Takes linear time.
    """
    at = 0
    while at < len(text):
        match = None if text[at] == "(" else _TOKEN.match(text, at)
        if match:
            kind, end = match.lastgroup or "", match.end()
        else:
            kind, end = "comment", _comment_end(text, at)
        yield Token(kind, text[at:end], at)
        at = end


def addresses(field: Field) -> AddressList:
    """The mailboxes of a From-like field (RFC 5322 3.4); raises SyntaxFault.

    Comments, groups and the obsolete forms of 4.4 are read; what two programs could
    read differently is a fault.
    """
    return _usual(field) if len(field.raw) < _USUAL else _read(field)


@lru_cache(maxsize=64)  # who sends much writes the same From each time
def _usual(field: Field) -> AddressList:
    return _read(field)


def _read(field: Field) -> AddressList:
    reader = _ListReader()
    for token in tokens(field.value):
        if token.kind not in {"space", "comment"}:
            reader.take(token)
    return reader.finish()


class _ListReader:
    """Takes the tokens of one address list."""

    def __init__(self) -> None:
        self.words: list[Token] = []
        self.angle: list[Token] | None = None
        self.closed = False
        self.in_group = False
        self.has_group = False
        self.found: list[Mailbox] = []

    def take(self, token: Token) -> None:
        if token.kind == "special" and token.text == ">":
            self.close_angle()
        elif self.angle is not None:
            self.angle.append(token)
        elif token.kind == "special" and token.text in "<,;:":
            self.delimit(token.text)
        elif self.closed:
            raise SyntaxFault(f"Unexpected {excerpt(token.text)} after an address")
        else:
            self.words.append(token)

    def delimit(self, mark: str) -> None:
        if mark == "<" and not self.closed:
            self.check_name()
            self.angle = []
        elif mark == "," or (mark == ";" and self.in_group):
            self.end_address()
            self.in_group = self.in_group and mark == ","
        elif mark == ":" and self.words and not self.in_group and not self.closed:
            self.check_name()
            self.in_group = self.has_group = True
            self.words = []
        else:
            raise SyntaxFault(f"Unexpected {mark} in an address list")

    def check_name(self) -> None:
        if any(word.text == "@" or word.kind == "literal" for word in self.words):
            shown = excerpt("".join(word.text for word in self.words))
            raise SyntaxFault(f'A name with "@" needs quotation marks: {shown}')

    def close_angle(self) -> None:
        if self.angle is None:
            raise SyntaxFault("Unexpected > in an address list")
        self.found.append(_addr_spec(_without_route(self.angle)))
        self.words, self.angle, self.closed = [], None, True

    def end_address(self) -> None:
        if self.words:
            self.found.append(_addr_spec(self.words))
        self.words, self.closed = [], False

    def finish(self) -> AddressList:
        if self.angle is not None:
            raise SyntaxFault("An address has no closing >")
        self.end_address()
        return AddressList(tuple(self.found), self.has_group)


def _comment_end(text: str, start: int) -> int:
    """Where a nested comment ends; raises SyntaxFault for anything else."""
    at, depth = start, 0
    if text[at] != "(":
        raise SyntaxFault(f"Unexpected {excerpt(text[at])} near {_near(text, at)}")
    for match in _IN_COMMENT.finditer(text, start):
        if match.start() != at:
            break
        at = match.end()
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth:
            return at
    raise SyntaxFault(f"A comment is not closed: {_near(text, start)}")


def _near(text: str, at: int) -> str:
    return excerpt(text[max(0, at - 10) : at + 30], 40)


def _without_route(words: list[Token]) -> list[Token]:
    """Drop an obsolete route, `@a,@b:` (RFC 5322 4.4)."""
    if not words or words[0].text != "@":
        return words
    ends = [at for at, word in enumerate(words) if word.text == ":"]
    return words[ends[0] + 1 :] if ends else words


def _addr_spec(words: list[Token]) -> Mailbox:
    """Read `word.word@word.word`, each possibly apart (RFC 5322 4.4)."""
    shown = excerpt(" ".join(word.text for word in words[:20]))
    marks = [at for at, word in enumerate(words) if word.text == "@"]
    if len(marks) != 1:
        raise SyntaxFault(
            f"No address: {shown or '<>'} (a name with special characters needs"
            ' quotation marks, as in "Doe, Jane" <jane@example.com>)'
        )
    for first, second in pairwise(words):
        if first.kind != "special" and second.kind != "special":
            raise SyntaxFault(f"White space inside an address: {shown}")
    local, domain = words[: marks[0]], words[marks[0] + 1 :]
    quoted = Mailbox("".join(map(_content, local)), "".join(w.text for w in domain))
    plain = all(word.kind != "quoted" for word in local)
    return parse_mailbox(f"{_plain(local)}@{quoted.domain}" if plain else str(quoted))


def _plain(words: list[Token]) -> str:
    return "".join(word.text for word in words)


def _content(word: Token) -> str:
    if word.kind != "quoted":
        return word.text
    return re.sub(r"\\(.)", r"\1", word.text[1:-1], flags=re.DOTALL)


# Fields of our own


def make_field(name: str, value: str, *, smtputf8: bool = False) -> Field:
    """Make a field: folded, control characters out, non-ASCII words by RFC 2047.

    With `smtputf8` they stay as they are (RFC 6532).
    """
    text = _CONTROLS.sub(" ", value).strip()
    if not smtputf8:
        text = encoded_words(text)
    return Field(name, fold(f"{name}: {text}\r\n".encode("utf-8", "replace")))


def fold(raw: bytes, limit: int = LINE_LENGTH) -> bytes:
    """Fold a field's lines over the limit where white space allows (RFC 5322 2.2.3)."""
    if len(raw) <= limit + 2:
        return raw
    first, *others = raw.removesuffix(b"\r\n").split(b"\r\n")
    pieces = list(_broken(first, limit, first.find(b":") + 1))
    for line in others:
        pieces += _broken(line, limit)
    return b"\r\n".join([*pieces, b""])


def encoded_words(text: str) -> str:
    """Encode the words of a text or phrase that are not ASCII (RFC 2047).

    White space between two encoded words is not shown (RFC 2047 6.2), so neighbours
    are encoded together with what stands between them.
    """
    if text.isascii():
        return text
    written: list[str] = []
    run = gap = ""
    after_encoded = False
    for word in _WORDS.findall(text):
        if word.isspace() and word.isascii():
            gap = word
        elif word.isascii():
            is_encoded = word.startswith("=?")
            written += [encoded(run + gap if run and is_encoded else run), gap, word]
            run, gap, after_encoded = "", "", is_encoded
        else:
            written += [] if run else [gap]
            run += gap + word if run or after_encoded else word
            gap = ""
    return "".join([*written, encoded(run), gap])


def _broken(line: bytes, limit: int, name: int = 0) -> Iterator[bytes]:
    """Cut a line before white space, never leaving a piece that is nothing else.

    `name` is where the field's body begins: white space before it is no place to cut.
    """
    start, end = 0, len(line.rstrip(b" \t"))
    while len(line) - start > limit:
        blank = _BLANK.match(line, start)
        first = max(name, blank.end() if blank else start)
        cut = _cut(line, first, max(first, start + limit + 1), end)
        if cut < 0:
            break
        yield line[start:cut]
        start = cut
    yield line[start:]


def _cut(line: bytes, first: int, limit: int, end: int) -> int:
    """The last white space up to the limit, else the first after it, else -1."""
    cut = max(line.rfind(b" ", first, limit), line.rfind(b"\t", first, limit))
    if cut < 0:
        later = [line.find(mark, limit, end) for mark in (b" ", b"\t")]
        cut = min((at for at in later if at >= 0), default=-1)
    return cut if cut < end else -1


# the letters of RFC 2047 5 (3): fine in a phrase, a comment and a text
_SAFE = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
)
_CHUNK = 33


def encoded(text: str) -> str:
    """All of a text or phrase as encoded words, each short enough for any line."""
    return " ".join(_encoded_word(chunk) for chunk in _chunks(text))


def _chunks(text: str) -> Iterator[bytes]:
    """UTF-8 of the text in pieces that fit behind a field name, characters whole."""
    chunk = b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(chunk) + len(octets) > _CHUNK:
            yield chunk
            chunk = b""
        chunk += octets
    if chunk:
        yield chunk


def _encoded_word(chunk: bytes) -> str:
    q = "".join(chr(octet) if octet in _SAFE else _q(octet) for octet in chunk)
    b = b64encode(chunk).decode("ascii")
    return f"=?utf-8?q?{q}?=" if len(q) <= len(b) else f"=?utf-8?b?{b}?="


def _q(octet: int) -> str:
    return "_" if octet == 0x20 else f"={octet:02X}"
