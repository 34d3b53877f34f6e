"""A short talk with a program that looks at mail: bounded, cut off, never trusted.

Doorway: `dialogue`, which opens a `Line` and closes it whatever happens. Time is
limited by whoever waits: every wait here may be cancelled.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.interfaces import Network
from fwd_mta.mail.message import Message

BLOCK = 64 * 1024
_HEARD = 4 * 1024 * 1024
_CONNECT = 10.0


class NoAnswer(Exception):
    """The program cannot be asked, or does not speak as it should; `str()` says how."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program listens; `port` is 0 for a socket file."""

    address: str
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read "unix:/path", "tcp:host:port" or "inet:host:port".

        Raises ValueError for a name: only addresses and localhost, since nothing here
        asks a resolver.
        """
        if text.startswith("unix:"):
            return cls(text)
        host, _, port = text.partition(":")[2].rpartition(":")
        return cls.at(host, int(port))

    @classmethod
    def at(cls, host: str, port: int) -> "Place":
        """A TCP port; raises ValueError for a name."""
        name = "127.0.0.1" if host == "localhost" else host.strip("[]")
        try:
            return cls(str(ip_address(name)), port)
        except ValueError:
            raise ValueError(f"{host} is a name; write its address") from None

    @override
    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if self.port else self.address


@implementer(IPushProducer)
class Line(Protocol):
    """Our end of the talk. One wait at a time."""

    transport: Any

    def __init__(self) -> None:
        self._heard = bytearray()
        self._news: Deferred[None] | None = None
        self._room: Deferred[None] | None = None
        self._lost: str | None = None
        self._left = False

    # What Twisted tells us

    @override
    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    @override
    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        if len(self._heard) > _HEARD:
            self._end(f"it said more than {_HEARD} octets")
        self._tell()

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end("it hung up")
        self._tell()
        self.resumeProducing()

    def pauseProducing(self) -> None:
        """Hold back: the other side does not read."""
        if self._room is None and self._lost is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        """Go on."""
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        """Go on, to find out that nobody listens."""
        self.resumeProducing()

    def _end(self, why: str) -> None:
        if self._lost is None:
            self._lost = why

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.callback(None)

    # The talk

    async def send(self, octets: bytes) -> None:
        """Write, at the pace of the reader; raises NoAnswer when nobody reads."""
        if self._lost is not None:
            raise NoAnswer(self._lost)
        self.transport.write(octets)
        if self._room is not None:
            await self._room

    async def until(self, mark: bytes, limit: int) -> bytes:
        """What comes before the mark, which is taken too; raises NoAnswer."""
        at = await self._when(lambda: self._heard.find(mark), limit)
        octets = bytes(self._heard[:at])
        del self._heard[: at + len(mark)]
        return octets

    async def exactly(self, count: int) -> bytes:
        """So many octets; raises NoAnswer."""
        if count > _HEARD:
            raise NoAnswer(f"it announces {count} octets")
        await self._when(lambda: 0 if len(self._heard) >= count else -1, count)
        octets = bytes(self._heard[:count])
        del self._heard[:count]
        return octets

    async def rest(self) -> bytes:
        """All until it hangs up; raises NoAnswer when that is too much."""
        while self._lost is None:
            await self._wait()
        if len(self._heard) > _HEARD:
            raise NoAnswer(self._lost)
        return bytes(self._heard)

    async def _when(self, found: Callable[[], int], limit: int) -> int:
        while (at := found()) < 0:
            if len(self._heard) > limit:
                raise NoAnswer(f"it goes on for more than {limit} octets")
            if self._lost is not None:
                raise NoAnswer(self._lost)
            await self._wait()
        return at

    async def _wait(self) -> None:
        self._news = Deferred()
        try:
            await self._news
        finally:
            self._news = None

    def leave(self, octets: bytes) -> None:
        """Say a last word and hang up in good order, if the other side reads."""
        if self._lost is None and self._room is None:
            self._end("it is closed")
            self._left = True
            self.transport.write(octets)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def close(self) -> None:
        """Cut it, if it is not closed yet."""
        if self._left:
            return
        self._end("it is closed")
        if self.transport is not None:
            self.transport.abortConnection()


@asynccontextmanager
async def dialogue(network: Network, place: Place) -> AsyncIterator[Line]:
    """Connect; raises NoAnswer. The line is cut at the end."""
    try:
        factory = Factory.forProtocol(Line)
        factory.noisy = False
        line = await network.connect(place.address, place.port, factory, _CONNECT)
    except OSError as error:
        raise NoAnswer(f"cannot connect to {place}: {error}") from error
    except Exception as error:
        raise NoAnswer(f"cannot connect to {place}: {_said(error)}") from error
    assert isinstance(line, Line)  # noqa: S101 - our own factory made it
    try:
        yield line
    finally:
        line.close()


def _said(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


async def blocks(message: Message) -> AsyncIterator[bytes]:
    """The whole message as a scanner reads it, in blocks."""
    yield message.head + b"\r\n"
    for at in range(0, message.body_size, BLOCK):
        yield await message.read(at, BLOCK)
