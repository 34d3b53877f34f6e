"""A message: its header section in memory, its body wherever it is kept."""

from collections.abc import Awaitable
from typing import Protocol

from fwd_mta.mail.noun import noun


class Body(Protocol):
    """The octets after the header section's empty line, read by ranges.

    All lines end in CRLF and none holds a bare CR, LF or NUL: intake saw to it.
    """

    @property
    def size(self) -> int:
        """How many octets."""

    def read(self, offset: int, length: int) -> Awaitable[bytes]:
        """Give up to `length` octets from `offset`; empty at the end.

        Raises StoreError when the disk under it fails.
        """


@noun
class Message:
    """A message as it leaves us.

    `head` is the header section, each line with its CRLF, without the empty line that
    ends it; `body` is bytes when small, a `Body` when it lies in a file.
    """

    head: bytes
    body: bytes | Body

    @property
    def size(self) -> int:
        """Octets on the wire, the separating empty line included (RFC 1870)."""
        return len(self.head) + 2 + self.body_size

    @property
    def body_size(self) -> int:
        """Octets of the body alone."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size

    async def whole_body(self) -> bytes:
        """The whole body, for the few things that cannot be done in pieces."""
        pieces, offset = [], 0
        while offset < self.body_size:
            piece = await self.read(offset, self.body_size - offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    async def read(self, offset: int, length: int) -> bytes:
        """Give up to `length` octets of the body from `offset`."""
        if isinstance(self.body, bytes):
            return self.body[offset : offset + length]
        return await self.body.read(offset, length)
