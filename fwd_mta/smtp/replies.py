"""Replies on the wire: written within all limits, read within all limits."""

import re
from collections.abc import Iterator
from functools import lru_cache

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.reply import Reply

_LINE = 512  # RFC 5321 4.5.3.1.5, the CRLF included
_LINES = 100

_USUAL = 80
_USUAL_GROUP = 256
_READ_LINE = 8 * 1024
_READ_LINES = 256
_READ_REPLY = 64 * 1024

_UNPRINTABLE = re.compile(r"[^ -~]")
_CODE = re.compile(rb"([2-5][0-9]{2})(?:([ \t-])(.*))?\Z", re.DOTALL)
_ENHANCED = re.compile(r"[245]\.([0-9]{1,3}\.[0-9]{1,3})(?:\s+|\Z)")


@lru_cache(maxsize=256)  # most of what we say we said before
def write(reply: Reply) -> bytes:
    """Write a reply: printable ASCII, lines of at most 512 octets, at most 100 lines.

    The enhanced code stands on every line (RFC 2034 4); what is not printable ASCII
    becomes "?"; a longer text goes on in continuation lines.
    """
    code = str(reply.code)
    has_status = reply.detail is not None and reply.code // 100 != 3
    status = f"{reply.status} " if has_status else ""
    room = _LINE - len(code) - 1 - len(status) - 2
    lines = [part for line in _lines(reply.text) for part in _fold(line, room)]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], "(more text was cut off here)"]
    written = [f"{code}-{status}{line}".rstrip(" ") for line in lines[:-1]]
    written.append(f"{code} {status}{lines[-1]}".rstrip(" "))
    return "".join(line + "\r\n" for line in written).encode("ascii")


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\r\n", "\n").split("\n"):
        yield _UNPRINTABLE.sub("?", line.replace("\t", " "))


def _fold(line: str, room: int) -> Iterator[str]:
    while len(line) > room:
        cut = line.rfind(" ", 1, room + 1)
        cut = room if cut < 0 else cut
        yield line[:cut]
        line = line[cut:].lstrip(" ")
    yield line


class ReplyReader:
    """Reads a peer's replies from octets as they come, in any pieces.

    A line may have 8 KiB, a reply 256 lines and 64 KiB; a lone LF ends a line too. More
    than that or words that are no reply raise SyntaxFault, then and ever after.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._raw: list[bytes] = []
        self._octets = 0
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        """What was wrong with the octets so far."""
        return self._fault

    @property
    def pending(self) -> bytes:
        """The octets of a reply that has begun and not ended."""
        return b"".join(self._raw) + self._rest

    def feed(self, data: bytes) -> list[Reply]:
        """Take octets; give the replies that they complete.

        What was complete before a fault in the same octets is still given; the fault is
        raised by the next call.
        """
        if len(data) <= _USUAL_GROUP and not (self._rest or self._raw or self._fault):
            usual = _group(data)
            if usual:
                return list(usual)
        replies: list[Reply] = []
        try:
            self._feed(data, replies)
        except SyntaxFault as fault:
            self._fault = self._fault or str(fault)
            if not replies:
                raise
        return replies

    def _feed(self, data: bytes, replies: list[Reply]) -> None:
        if self._fault is not None:
            raise SyntaxFault(self._fault)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = b""
        for line in lines:
            reply = self._take(line + b"\n")
            if reply is not None:
                replies.append(reply)
        self._rest = rest
        if len(rest) > _READ_LINE:
            raise SyntaxFault(f"a reply line is longer than {_READ_LINE} octets")
        if len(rest) + self._octets > _READ_REPLY:
            raise SyntaxFault(f"a reply is longer than {_READ_REPLY} octets")

    def _take(self, line: bytes) -> Reply | None:
        if len(line) > _READ_LINE:
            raise SyntaxFault(f"a reply line is longer than {_READ_LINE} octets")
        found = _CODE.match(line.rstrip(b"\r\n"))
        if found is None:
            raise SyntaxFault(f"not a reply: {_printable(line[:80])!r}")
        if self._raw and not line.startswith(self._raw[0][:3]):
            raise SyntaxFault("the lines of one reply have different codes")
        self._raw.append(line)
        self._octets += len(line)
        if self._octets > _READ_REPLY:
            raise SyntaxFault(f"a reply is longer than {_READ_REPLY} octets")
        if found[2] == b"-":
            if len(self._raw) >= _READ_LINES:
                raise SyntaxFault(f"a reply has more than {_READ_LINES} lines")
            return None
        return self._reply(int(found[1]))

    def _reply(self, code: int) -> Reply:
        raw, self._raw, self._octets = self._raw, [], 0
        if len(raw) == 1 and len(raw[0]) < _USUAL:
            return _single(code, raw[0])
        return _parsed(code, [_printable(line[4:]) for line in raw])


@lru_cache(maxsize=256)  # the answers to an envelope are the same each time
def _group(data: bytes) -> tuple[Reply, ...]:
    """The replies in octets that are whole replies, of one line each; else nothing."""
    *lines, rest = data.split(b"\n")
    if rest:
        return ()
    replies: list[Reply] = []
    for line in lines:
        found = _CODE.match(line.rstrip(b"\r"))
        if found is None or found[2] == b"-":
            return ()
        replies.append(_single(int(found[1]), line))
    return tuple(replies)


@lru_cache(maxsize=256)  # "250 2.1.5 Ok" and its like are most of what is heard
def _single(code: int, line: bytes) -> Reply:
    return _parsed(code, [_printable(line[4:])])


def _parsed(code: int, lines: list[str]) -> Reply:
    """Take the enhanced code out of each line that carries it (RFC 2034 4)."""
    found = _ENHANCED.match(lines[0])
    if found is None:
        return Reply(code, None, "\n".join(lines))
    detail = found[1]
    return Reply(code, detail, "\n".join(_without(detail, line) for line in lines))


def _without(detail: str, line: str) -> str:
    found = _ENHANCED.match(line)
    return line[found.end() :] if found and found[1] == detail else line


def _printable(line: bytes) -> str:
    """Decode a peer's words for people; controls and broken UTF-8 become "?"."""
    text = line.decode("utf-8", "replace").strip()
    if text.isprintable():
        return text.replace("\ufffd", "?")
    text = text.replace("\t", " ").replace("\ufffd", "?")
    return "".join(char if char.isprintable() else "?" for char in text)
