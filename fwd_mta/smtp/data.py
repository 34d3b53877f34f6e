"""Mail data on the wire: read from clients, written to peers (RFC 5321 4.5.2).

Both directions agree on one thing: behind DATA only CRLF.CRLF ends a message; behind
BDAT (RFC 3030) only its count does. All work is done on whole chunks by the C code
below Python, never octet by octet or line by line.
"""

import re

from fwd_mta.mail.reply import Reply

_END = b"\r\n.\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_LINE_END = re.compile(rb"\r\n|\r|\n")


class ContentReader:
    """What both readers know of the content so far.

    The first fault is remembered in `fault`, and all content after it is discarded; the
    protocol answers it at the end, so that content never becomes commands.
    `bare_newline` is "normalize" (a bare LF becomes CRLF) or "reject".
    """

    def __init__(self, size_limit: int, bare_newline: str = "normalize") -> None:
        self.size_limit = size_limit
        self._normalize = bare_newline == "normalize"
        self._lines = 0
        self._received = 0
        self.size = 0
        self.fault: Reply | None = None

    @property
    def overrun(self) -> bool:
        """Whether more than twice the limit came: not worth waiting for the end."""
        return self._received > 2 * self.size_limit

    def _kept(self, chunk: bytes) -> bytes:
        """Count and check a chunk; what of it is kept."""
        self.size += len(chunk)
        chunk = self._checked(chunk)
        if self.size > self.size_limit:
            self._refuse("3.4", f"Message is over {self.size_limit} octets", 552)
        return b"" if self.fault else chunk

    def _checked(self, chunk: bytes) -> bytes:
        """Find bare CR, bare LF and NUL by counting, and look closer only then.

        A chunk never begins or ends between CR and LF, so the counts tell the truth.
        """
        feeds, returns = chunk.count(b"\n"), chunk.count(b"\r")
        self._lines += feeds
        if feeds == returns == _lines(chunk) and b"\0" not in chunk:
            return chunk
        self._lines -= feeds
        return self._mended(chunk, feeds, returns)

    def _mended(self, chunk: bytes, feeds: int, returns: int) -> bytes:
        """Refuse or mend what is no line as RFC 5321 2.3.8 has it."""
        pairs = chunk.count(b"\r\n")
        nul = chunk.find(b"\0")
        if nul >= 0:
            self._refuse("6.0", f"NUL in line {self._line(chunk, nul)}")
        if returns != pairs and (bare := _BARE_CR.search(chunk)):
            self._refuse("6.0", f"Bare CR in line {self._line(chunk, bare.start())}")
        if feeds != pairs and (bare := _BARE_LF.search(chunk)):
            if self._normalize:
                self.size += feeds - pairs
                chunk = _BARE_LF.sub(b"\r\n", chunk)
            else:
                line = self._line(chunk, bare.start())
                self._refuse("6.0", f"Bare LF in line {line}; end lines with CRLF")
        self._lines += feeds
        return chunk

    def _line(self, chunk: bytes, place: int) -> int:
        return self._lines + chunk.count(b"\n", 0, place) + 1

    def _refuse(self, detail: str, text: str, code: int = 550) -> None:
        if self.fault is None:
            self.fault = Reply(code, detail, text)


class DataReader(ContentReader):
    """Reads what follows DATA, in any pieces, up to the final dot."""

    def __init__(self, size_limit: int, bare_newline: str = "normalize") -> None:
        super().__init__(size_limit, bare_newline)
        self._at_start = True

    def feed(self, buffer: bytearray) -> tuple[bytes, bool]:
        """Take what is ready out of the buffer; give content, and whether it ended.

        Content comes without its stuffed dots and with CRLF at each line's end. Up to
        four octets that may begin the end stay in the buffer, and so does all that is
        behind the end.
        """
        if self._at_start and not self._begin(buffer):
            return b"", False
        if self._at_start and buffer.startswith(b".\r\n"):
            del buffer[:3]
            return b"", True
        end = buffer.find(_END)
        cut = end + 2 if end >= 0 else len(buffer) - _held(buffer)
        raw = bytes(buffer[:cut])
        del buffer[: end + len(_END) if end >= 0 else cut]
        return self._content(raw), end >= 0

    def _begin(self, buffer: bytearray) -> bool:
        """Whether enough is there to tell a first line's dot from the end."""
        return not b".\r\n".startswith(buffer) or len(buffer) == 3

    def _content(self, raw: bytes) -> bytes:
        if not raw:
            return b""
        chunk = raw.replace(b"\r\n.", b"\r\n")
        if self._at_start and chunk.startswith(b"."):
            chunk = chunk[1:]
        self._at_start = False
        self._received += len(raw)
        return self._kept(chunk)


class ChunkReader(ContentReader):
    """Reads the content of BDAT chunks, in any pieces; no dot means anything there.

    The content is held to the same rules as behind DATA (RFC 3030 2): a CR that ends a
    piece waits for the next, also over the edge of a chunk.
    """

    def __init__(self, size_limit: int, bare_newline: str = "normalize") -> None:
        super().__init__(size_limit, bare_newline)
        self._owed = b""
        self._open_line = False

    def feed(self, piece: bytes) -> bytes:
        """Give content, with CRLF at each line's end."""
        self._received += len(piece)
        piece = self._owed + piece
        self._owed = b"\r" if piece.endswith(b"\r") else b""
        return self._taken(piece[:-1] if self._owed else piece)

    def end(self) -> bytes:
        """Give what is still owed: DATA cannot carry an unfinished last line either."""
        rest, self._owed = self._owed, b""
        rest = self._taken(rest)
        return self._taken(b"\r\n") if self._open_line else rest

    def _taken(self, chunk: bytes) -> bytes:
        if chunk:
            self._open_line = not chunk.endswith(b"\n")
        return self._kept(chunk)


def _lines(chunk: bytes) -> int:
    """The number of lines, however they end: equal to both counts for CRLF alone.

    Counting pairs would say the same, and takes three times as long.
    """
    return len(chunk.splitlines()) - (not chunk.endswith((b"\r", b"\n")))


def _held(buffer: bytearray) -> int:
    """How many last octets may be the beginning of the end."""
    for length in range(min(4, len(buffer)), 0, -1):
        if buffer.endswith(_END[:length]):
            return length
    return 0


class DotEncoder:
    """Writes mail data: dots stuffed, every line ended by CRLF, then the final dot.

    Chunks may be cut anywhere, also between CR and LF. Intake has seen to it that
    content holds no bare CR or LF; here it is a guard, so that none ever leaves us.
    """

    def __init__(self) -> None:
        self._at_line_start = True
        self._owes_cr = False

    def feed(self, chunk: bytes) -> bytes:
        """Give the octets to send for this piece of content."""
        if self._owes_cr:
            chunk = b"\r" + chunk
        self._owes_cr = chunk.endswith(b"\r")
        if self._owes_cr:
            chunk = chunk[:-1]
        if not chunk:
            return b""
        if not chunk.count(b"\n") == chunk.count(b"\r") == _lines(chunk):
            chunk = _LINE_END.sub(b"\r\n", chunk)
        stuffed = chunk.replace(b"\r\n.", b"\r\n..")
        if self._at_line_start and stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_line_start = stuffed.endswith(b"\r\n")
        return stuffed

    def end(self) -> bytes:
        """Give the end of the data: a last CRLF where one is missing, and the dot."""
        is_open = self._owes_cr or not self._at_line_start
        return (b"\r\n" if is_open else b"") + b".\r\n"
