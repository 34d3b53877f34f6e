"""A message's content while it arrives: the head stays in memory, the body is spooled.

The head is kept because trace and missing fields are added to it after the last
verdict; it is bounded. The body goes to the store, which takes it to disk when it is
large; a client that is faster than the disk is paused.
"""

from collections.abc import Callable
from hashlib import blake2b

from fwd_mta.interfaces import Spool
from fwd_mta.mail.message import Body, Message
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.encoding import LINE_LIMIT, longest_line

BACKLOG_LIMIT = 1024 * 1024
_PIECE = 64 * 1024


def _nothing() -> None:
    """What to do about a client that need not wait."""


class Content:
    """Takes chunks of mail data as `DataReader` gives them.

    `digested`: somebody will ask for the digest of the body. `eight_bit` and
    `long_line` tell of the body: whether it needs 8BITMIME, and the number of the first
    line in it that is over the limit of RFC 5321 4.5.3.1.6.
    """

    def __init__(
        self,
        make_spool: Callable[[], Spool],
        head_limit: int,
        pause: Callable[[], None] = _nothing,
        resume: Callable[[], None] = _nothing,
        *,
        digested: bool = True,
    ) -> None:
        self._make_spool = make_spool
        self._spool = make_spool()
        self._head_limit = head_limit
        self._pause = pause
        self._resume = resume
        self._head = bytearray()
        self._in_body = False
        self._waits = False
        self._lines = 0
        self._tail = 0
        self._uncounted = b""  # the last chunk: most often there is no other
        self._hash = blake2b(digest_size=20) if digested else None
        self.eight_bit = False
        self.long_line: int | None = None
        self.fault: Reply | None = None

    def write(self, chunk: bytes) -> None:
        """Take more content; after a fault it is dropped."""
        if self.fault is not None:
            return
        if self._in_body:
            self._write_body(chunk)
        else:
            self._write_head(chunk)

    def digest(self) -> bytes:
        """A digest of the body as it came; empty where none was wanted."""
        return self._hash.digest() if self._hash else b""

    async def done(self) -> Message:
        """End; raises StoreError when the body could not be kept."""
        body = await self._spool.done()
        return Message(bytes(self._head), body)

    async def respooled(self, body: bytes) -> bytes | Body:
        """Keep another body in place of the one that came; raises StoreError."""
        self._spool.discard()
        self._spool = self._make_spool()
        for at in range(0, len(body), _PIECE):
            self._spool.write(body[at : at + _PIECE])
        return await self._spool.done()

    def discard(self) -> None:
        """Forget all of it; fine at any time."""
        self._head.clear()
        self._spool.discard()

    def _write_head(self, chunk: bytes) -> None:
        """Look for the empty line; what was looked through is not searched again."""
        end = -1 if self._head else chunk.find(b"\r\n\r\n")
        if end > 0 and not chunk.startswith(b"\r\n"):
            # most often all of it comes at once
            self._head_ends(chunk[: end + 2], chunk[end + 4 :])
            return
        begin = max(0, len(self._head) - 3)
        self._head += chunk
        if self._head.startswith(b"\r\n"):
            end, body = 0, 2
        else:
            found = self._head.find(b"\r\n\r\n", begin)
            if found < 0:
                self._check_head(len(self._head))
                return
            end, body = found + 2, found + 4
        self._head_ends(bytes(self._head[:end]), bytes(self._head[body:]))

    def _head_ends(self, head: bytes, rest: bytes) -> None:
        self._in_body = True
        self._check_head(len(head))
        if self.fault is None:
            self._head[:] = head
            self._lines = head.count(b"\n") + 1
            self._write_body(rest)

    def _check_head(self, length: int) -> None:
        if length > self._head_limit:
            text = f"Header section is over {self._head_limit} octets"
            self.fault = Reply(552, "3.4", text)
            self.discard()

    def _write_body(self, chunk: bytes) -> None:
        if not chunk:
            return
        self._look_at(chunk)
        if self._hash is not None:
            self._hash.update(chunk)
        self._spool.write(chunk)
        if self._spool.backlog > BACKLOG_LIMIT and not self._waits:
            self._waits = True
            self._pause()
            _ = self._spool.drained().addBoth(self._drained)

    def _look_at(self, chunk: bytes) -> None:
        """Note what delivery must know of the body; a line may span many chunks."""
        self._lines += self._uncounted.count(b"\n")
        self._uncounted = chunk
        self.eight_bit = self.eight_bit or not chunk.isascii()
        if self.long_line is None:
            first = chunk.find(b"\r\n")
            length = self._tail + (first if first >= 0 else len(chunk))
            if length > LINE_LIMIT:
                self.long_line = self._lines + 1
            elif longest_line(chunk, LINE_LIMIT) > LINE_LIMIT:
                self.long_line = self._lines + _long_at(chunk)
        last = chunk.rfind(b"\r\n")
        self._tail = len(chunk) - last - 2 if last >= 0 else self._tail + len(chunk)

    def _drained(self, result: object) -> None:
        self._waits = False
        self._resume()


def _long_at(chunk: bytes) -> int:
    lines = enumerate(chunk.split(b"\r\n"), 1)
    return next(number for number, line in lines if len(line) > LINE_LIMIT)
