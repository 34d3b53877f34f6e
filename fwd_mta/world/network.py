"""The network in memory: stream sockets and datagrams under a virtual clock.

Transports keep the habits of Twisted's TCP ones: writes leave in the next turn of the
reactor, a full buffer pauses the producer, a reader may pause, a close behind unread
data is a reset. So real TLS and the real protocols run over them unchanged.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Literal, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,  # noqa: A004 - the real network's error
    InvalidAddressError,
    NoProtocol,
    NoRouteError,
    TimeoutError,  # noqa: A004 - the real network's error
)
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IListeningPort,
    IProducer,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.interfaces import Entropy, Network
from fwd_mta.net.network import UNIX, numeric, split_address

_BUFFER = 64 * 1024
_READ = 64 * 1024
_LONGEST_SPLIT = 40
_FIRST_EPHEMERAL = 49152

_log = Logger()


@dataclass(frozen=True, slots=True)
class Link:
    """How a connection behaves; "up" is from who connected to who listens.

    `latency` in seconds one way; `window` octets may be under way or unread; `split`
    hands data over in small pieces by chance; a reset strikes after so many octets.
    """

    latency: float = 0.0
    window: int = 64 * 1024
    split: bool = False
    reset_up: int | None = None
    reset_down: int | None = None


class Dead(Enum):
    """How a connection is not made."""

    REFUSED = "refused"
    SILENT = "silent"
    NO_ROUTE = "no route"


Way = Link | Dead
Address = IPv4Address | IPv6Address


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport:
    """One end of a connection in memory; `far` is the other."""

    far: "MemoryTransport"
    protocol: IProtocol

    def __init__(
        self,
        clock: IReactorTime,
        entropy: Entropy,
        link: Link,
        host: Address,
        peer: Address,
    ) -> None:
        self.connected = True
        self.disconnected = False
        self.disconnecting = False
        self.on_close: Callable[[], None] = lambda: None
        self.reset_after: int | None = None
        self._clock = clock
        self._entropy = entropy
        self._link = link
        self._host = host
        self._peer = peer
        self._no_delay = True
        self._keep_alive = False
        # Going out: octets not yet sent, and those sent that the far end has not read.
        self._out = bytearray()
        self._under_way = 0
        self._flush_due = False
        self.producer: IPushProducer | None = None
        self.streamingProducer = False
        self._producer_paused = False
        self._closing_out = False
        self._closed_out = False
        self._aborting = False
        # Coming in: octets not yet read, then perhaps an end or a reset.
        self._unread = bytearray()
        self._reading = True
        self._read_due = False
        self._ended = False
        self._end_read = False
        self._was_reset = False
        self._silent = False

    # What ITCPTransport says of us

    def getHost(self) -> Address:
        """Our address."""
        return self._host

    def getPeer(self) -> Address:
        """The other side's address."""
        return self._peer

    def getTcpNoDelay(self) -> bool:
        """Whether small writes leave at once; they always do here."""
        return self._no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Remember the option."""
        self._no_delay = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        """Whether keep-alive was asked for."""
        return self._keep_alive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Remember the option."""
        self._keep_alive = bool(enabled)

    # Going out

    def write(self, data: bytes) -> None:
        """Send, in the next turn of the reactor."""
        if not isinstance(data, bytes):
            raise TypeError(f"Data must be bytes, not {type(data).__name__}")
        if not self.connected or self._closed_out or not data:
            return
        self._out += data
        if self.producer and self.streamingProducer and len(self._out) > _BUFFER:
            self._producer_paused = True
            self.producer.pauseProducing()
        self._wake()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of these."""
        self.write(b"".join(data))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let the producer be paused and resumed, or asked for more."""
        if self.producer is not None:
            raise RuntimeError(f"{self.producer!r} is still registered")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = cast("IPushProducer", producer)
        self.streamingProducer = streaming
        if not streaming:
            self.producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Expect no more from the producer."""
        self.producer = None
        if self.connected and self.disconnecting:
            self._wake()

    def loseConnection(self) -> None:
        """Close when all is sent and the producer is done; read no more."""
        if self.connected and not self.disconnecting:
            self._reading = False
            self.disconnecting = True
            self._wake()

    def loseWriteConnection(self) -> None:
        """End our direction when all is sent; go on reading."""
        self._closing_out = True
        self._wake()

    def abortConnection(self) -> None:
        """Close now; what is unsent is lost, and the other side sees a reset."""
        if self.disconnected or self._aborting:
            return
        self._aborting = True
        self._reading = False
        self._out.clear()
        self._clock.callLater(0, self._reset, ConnectionAborted())

    def _wake(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self.disconnected or self._aborting:
            return
        self._send()
        if not self._out and not self.disconnected:
            self._all_sent()

    def _send(self) -> None:
        count = min(len(self._out), self._link.window - self._under_way)
        striking = self.reset_after is not None and count >= self.reset_after
        if self.reset_after is not None:
            count = min(count, self.reset_after)
            self.reset_after -= count
        chunk = bytes(self._out[:count])
        del self._out[:count]
        if chunk:
            self._under_way += count
            self._wire(self.far.arrive, chunk)
        if striking:
            self._reset(ConnectionLost())

    def _all_sent(self) -> None:
        """What Twisted's doWrite does with an empty buffer, in its order."""
        if self.producer and (not self.streamingProducer or self._producer_paused):
            self._producer_paused = False
            self.producer.resumeProducing()
        elif self.disconnecting:
            self._close()
        elif self._closing_out and not self._closed_out:
            self._closed_out = True
            self._wire(self.far.arrive_end)
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()

    def _wire(self, event: Callable[..., None], *arguments: bytes) -> None:
        self._clock.callLater(self._link.latency, event, *arguments)

    # Coming in

    def pauseProducing(self) -> None:
        """Read no more for now."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Read again."""
        if self.connected and not self.disconnecting and not self._aborting:
            self._reading = True
            self._read_soon()

    def stopProducing(self) -> None:
        """Close, as a producer that is wanted no more."""
        self.loseConnection()

    def arrive(self, chunk: bytes) -> None:
        """Take octets off the wire; a closed end answers them with a reset."""
        if self._silent:
            return
        if self.disconnected:
            self._wire(self.far.arrive_reset)
            return
        self._unread += chunk
        self._read()

    def arrive_end(self) -> None:
        """The far end has ended its direction."""
        self._ended = True
        self._read()

    def arrive_reset(self) -> None:
        """The far end is gone; seen at once, unless there is something to read."""
        self._was_reset = True
        if self._reading:
            self._read()
        else:
            self._lost(ConnectionLost())

    def acknowledge(self, count: int) -> None:
        """The far end has read so many of our octets."""
        self._under_way -= count
        if self._out:
            self._wake()

    def _read_soon(self) -> None:
        if not self._read_due:
            self._read_due = True
            self._clock.callLater(0, self._read_later)

    def _read_later(self) -> None:
        self._read_due = False
        self._read()

    def _read(self) -> None:
        """Hand over one piece, as one recv would; or the end, or the reset."""
        if self.disconnected or not self._reading:
            return
        if self._unread:
            self._hand_over(self._piece())
        elif self._was_reset:
            self._lost(ConnectionLost())
        elif self._ended and not self._end_read:
            self._end_read = True
            self._end()
        if self._has_more():
            self._read_soon()

    def _has_more(self) -> bool:
        if self.disconnected or not self._reading:
            return False
        ended = self._was_reset or (self._ended and not self._end_read)
        return bool(self._unread) or ended

    def _piece(self) -> bytes:
        most = min(len(self._unread), _READ)
        if self._link.split:
            most = min(most, 1 + int(self._entropy.random() * _LONGEST_SPLIT))
        piece = bytes(self._unread[:most])
        del self._unread[:most]
        self.far.acknowledge(most)
        return piece

    def _hand_over(self, piece: bytes) -> None:
        try:
            self.protocol.dataReceived(piece)
        except Exception as fault:  # noqa: BLE001 - the reactor's last fence
            # As the reactor does: an exception costs its connection, nothing else.
            _log.failure("dataReceived raised; its connection is closed")
            self._reset(fault)

    def _end(self) -> None:
        if not IHalfCloseableProtocol.providedBy(self.protocol):
            self._close()
            return
        self.protocol.readConnectionLost()
        if self._closed_out:
            self._close()

    # Ends

    def _close(self) -> None:
        # Linux answers a close with unread data in the buffer by a reset.
        self._wire(self.far.arrive_reset if self._unread else self.far.arrive_end)
        self._lost(ConnectionDone())

    def _reset(self, reason: Exception) -> None:
        if not self.disconnected:
            self._wire(self.far.arrive_reset)
            self._lost(reason)

    def vanish(self, *, silently: bool) -> None:
        """Be gone with the process: what is unsent is lost, its protocol never hears.

        The kernel tells the far end; a machine without power tells nobody.
        """
        if self.disconnected:
            return
        if not silently:
            self._wire(self.far.arrive_reset if self._unread else self.far.arrive_end)
        self.connected = False
        self.disconnected = True
        self._silent = silently
        self._out.clear()
        self.producer = None
        self.on_close()

    def _lost(self, reason: Exception) -> None:
        if self.disconnected:
            return
        self.connected = False
        self.disconnected = True
        self._out.clear()
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))
        self.on_close()


@implementer(IListeningPort)
class MemoryPort:
    """A listening socket in memory."""

    def __init__(
        self,
        network: "MemoryNetwork",
        key: tuple[str, int],
        factory: IProtocolFactory,
    ) -> None:
        self.factory = factory
        self._network = network
        self._key = key

    def startListening(self) -> None:
        """Take connections."""
        self._network.open(self._key, self)
        self.factory.doStart()

    def stopListening(self) -> Deferred[None]:
        """Take no more connections; those that are made stay."""
        if self._network.close(self._key, self):
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> Address:
        """The address listened on."""
        return _address(*self._key)


class MemoryNetwork(Network):
    """Every address there is, in memory; the same seed gives the same history.

    `source` and `source6` are what connections come from, where none is asked for;
    what goes to loopback comes from loopback.
    """

    def __init__(
        self,
        clock: IReactorTime,
        entropy: Entropy,
        link: Link | None = None,
        source: str = "192.0.2.1",
        source6: str = "2001:db8::1",
    ) -> None:
        self.clock = clock
        self.connections: list[MemoryTransport] = []
        self.attempts: dict[_Attempt, None] = {}
        self._entropy = entropy
        self._link = link or Link()
        self._sources = (source, source6)
        self._ports: dict[tuple[str, int], MemoryPort] = {}
        self._ways: dict[str, Way] = {}
        self._answerers: dict[tuple[str, int], Callable[[bytes], bytes | None]] = {}
        self._ephemeral = _FIRST_EPHEMERAL

    # What a test or a simulation does to the world

    def bend(self, where: str, way: Way) -> None:
        """Make new connections to "address" or "address:port" go that way."""
        self._ways[where] = way

    def mend(self, where: str) -> None:
        """Undo a `bend`."""
        self._ways.pop(where, None)

    def cut(self, where: str) -> int:
        """Reset every open connection to "address" or "address:port"; says how many."""
        doomed = [one for one in self.connections if where in _names(one.getPeer())]
        for transport in doomed:
            transport.abortConnection()
        return len(doomed)

    def vanish(self, addresses: Collection[str], *, silently: bool) -> None:
        """End the process at these addresses: its ports, sockets and attempts are gone.

        With `silently` the machine lost its power, and nobody is told.
        """
        for key in [key for key in self._ports if _is_of(key[0], addresses)]:
            del self._ports[key]
        for attempt in list(self.attempts):
            if attempt.source in addresses:
                attempt.vanish()
        for near in list(self.connections):
            if _is_of(_host(near.getHost()), addresses):
                near.vanish(silently=silently)
            elif _is_of(_host(near.getPeer()), addresses):
                near.far.vanish(silently=silently)

    def answer_datagrams(
        self, address: str, answer: Callable[[bytes], bytes | None]
    ) -> None:
        """Have datagrams to "host:port" answered; None is silence."""
        self._answerers[split_address(address)] = answer

    # The seam

    @override
    def connect(
        self,
        address: str,
        port: int,
        factory: IProtocolFactory,
        timeout: float,
        source: str | None = None,
    ) -> Deferred[IProtocol]:
        """Connect a stream; fails as the real network does."""
        try:
            attempt = self._attempt(address, port, factory, source)
        except InvalidAddressError:
            return fail()
        return attempt.start(timeout)

    def _attempt(
        self, address: str, port: int, factory: IProtocolFactory, source: str | None
    ) -> "_Attempt":
        if address.startswith(UNIX):
            return _Attempt(self, (address, 0), ("", 0), factory)
        host = numeric(address)
        ours = numeric(source) if source else self._source(host)
        return _Attempt(self, (host, port), (ours, self._next_port()), factory)

    @override
    def listen(
        self, address: str, factory: IProtocolFactory
    ) -> Deferred[IListeningPort]:
        """Listen on any "host:port" there is, or on "unix:/path"."""
        try:
            key = (address, 0) if address.startswith(UNIX) else split_address(address)
            if key[1] == 0 and not address.startswith(UNIX):
                key = (key[0], self._next_port())
            port = MemoryPort(self, key, factory)
            port.startListening()
        except (CannotListenError, InvalidAddressError):
            return fail()
        return succeed(port)

    @override
    def datagram(
        self, address: str, port: int, protocol: DatagramProtocol
    ) -> IListeningPort:
        """Open a datagram socket connected to the address."""
        host = numeric(address)
        ours = (self._source(host), self._next_port())
        opened = _DatagramPort(self, ours, (host, port), protocol)
        opened.startListening()
        return opened

    # What ports and attempts ask

    def open(self, key: tuple[str, int], port: MemoryPort) -> None:
        """Enter a listening port; CannotListenError if the address is taken."""
        if key in self._ports:
            raise CannotListenError(key[0], key[1], OSError("Address already in use"))
        self._ports[key] = port

    def close(self, key: tuple[str, int], port: MemoryPort) -> bool:
        """Forget a listening port; says whether it was open."""
        if self._ports.get(key) is not port:
            return False
        del self._ports[key]
        return True

    def way(self, host: str, port: int) -> Way:
        """How a connection to there goes."""
        named = self._ways.get(_joined(host, port))
        return named or self._ways.get(host) or self._link

    def port_at(self, host: str, port: int) -> MemoryPort | None:
        """Who listens there: on the address itself, or on all addresses."""
        wildcards = ("::",) if ":" in host else ("0.0.0.0", "::")  # noqa: S104 - data
        keys = [(host, port), *((one, port) for one in wildcards)]
        return next((self._ports[key] for key in keys if key in self._ports), None)

    def pair(
        self, link: Link, ours: tuple[str, int], theirs: tuple[str, int]
    ) -> tuple[MemoryTransport, MemoryTransport]:
        """Make the two ends of a connection: who connected, who listens."""
        near, far = _address(*ours), _address(*theirs)
        client = MemoryTransport(self.clock, self._entropy, link, near, far)
        server = MemoryTransport(self.clock, self._entropy, link, far, near)
        client.far, server.far = server, client
        client.reset_after, server.reset_after = link.reset_up, link.reset_down
        return client, server

    def answer_to(self, key: tuple[str, int], datagram: bytes) -> bytes | None:
        """What is said to a datagram sent there."""
        answer = self._answerers.get(key)
        return answer(datagram) if answer else None

    def _source(self, host: str) -> str:
        if host == "::1" or host.startswith("127."):
            return "::1" if ":" in host else "127.0.0.1"
        return self._sources[":" in host]

    def _next_port(self) -> int:
        self._ephemeral += 1
        if self._ephemeral > 65535:
            self._ephemeral = _FIRST_EPHEMERAL
        return self._ephemeral


_ERRORS: dict[Dead, Callable[[], ConnectError]] = {
    Dead.REFUSED: lambda: ConnectionRefusedError(111, "Connection refused"),
    Dead.NO_ROUTE: lambda: NoRouteError(101, "Network is unreachable"),
}


class _Attempt:
    """One connection being made: it ends made, refused, timed out or cancelled."""

    def __init__(
        self,
        network: MemoryNetwork,
        theirs: tuple[str, int],
        ours: tuple[str, int],
        factory: IProtocolFactory,
    ) -> None:
        self._network = network
        self._theirs = theirs
        self._ours = ours
        self._factory = factory
        self._calls: list[IDelayedCall] = []
        self._done: Deferred[IProtocol] = Deferred(lambda _: self._cancel())

    @property
    def source(self) -> str:
        return self._ours[0]

    def vanish(self) -> None:
        """The process that asked is gone: nobody is told."""
        self._stop_waiting()

    def start(self, timeout: float) -> Deferred[IProtocol]:
        self._network.attempts[self] = None
        self._factory.doStart()
        later = self._network.clock.callLater
        way = self._network.way(*self._theirs)
        if isinstance(way, Link):
            self._calls.append(later(way.latency, self._knock, way))
        elif way is not Dead.SILENT:
            self._calls.append(later(0, self._fail, _ERRORS[way]()))
        self._calls.append(later(timeout, self._fail, TimeoutError()))
        return self._done

    def _knock(self, link: Link) -> None:
        port = self._network.port_at(*self._theirs)
        if port is None:
            self._fail(_ERRORS[Dead.REFUSED]())
            return
        self._stop_waiting()
        client, server = self._network.pair(link, self._ours, self._theirs)
        try:
            protocol = self._factory.buildProtocol(client.getPeer())
        except Exception as fault:  # noqa: BLE001 - as the endpoints do
            self._fail(fault)
            return
        if protocol is None:
            self._fail(NoProtocol())
            return
        self._join(client, protocol, server, port.factory)
        self._done.callback(protocol)

    def _join(
        self,
        client: MemoryTransport,
        protocol: IProtocol,
        server: MemoryTransport,
        listener: IProtocolFactory,
    ) -> None:
        accepted = _accept(listener, server.getPeer())
        client.protocol = protocol
        connections = self._network.connections
        connections.append(client)

        def gone() -> None:
            connections.remove(client)
            self._factory.doStop()

        client.on_close = gone
        if accepted is None:
            server.connected, server.disconnected = False, True
            self._network.clock.callLater(0, client.arrive_end)
        else:
            server.protocol = accepted
            accepted.makeConnection(server)
        protocol.makeConnection(client)

    def _fail(self, fault: Exception) -> None:
        self._stop_waiting()
        self._factory.doStop()
        self._done.errback(fault)

    def _cancel(self) -> None:
        self._fail(ConnectingCancelledError(_address(*self._theirs)))

    def _stop_waiting(self) -> None:
        self._network.attempts.pop(self, None)
        for call in self._calls:
            if call.active():
                call.cancel()


@implementer(IListeningPort)
class _DatagramPort:
    """A connected datagram socket; also its protocol's transport."""

    def __init__(
        self,
        network: MemoryNetwork,
        ours: tuple[str, int],
        theirs: tuple[str, int],
        protocol: DatagramProtocol,
    ) -> None:
        self._network = network
        self._ours = ours
        self._theirs = theirs
        self._protocol = protocol
        self._open = False

    def startListening(self) -> None:
        """Begin."""
        self._open = True
        self._protocol.makeConnection(cast("IUDPTransport", self))

    def stopListening(self) -> Deferred[None]:
        """End; what is still under way is lost."""
        if self._open:
            self._open = False
            self._protocol.doStop()
        return succeed(None)

    def getHost(self) -> Address:
        """Our address."""
        return _address(*self._ours, kind="UDP")

    def write(self, datagram: bytes, _address: tuple[str, int] | None = None) -> None:
        """Send to where we are connected."""
        answer = self._network.answer_to(self._theirs, datagram)
        if answer is not None:
            self._network.clock.callLater(0, self._arrive, answer)

    def _arrive(self, datagram: bytes) -> None:
        if self._open:
            self._protocol.datagramReceived(datagram, self._theirs)


def _accept(listener: IProtocolFactory, peer: Address) -> IProtocol | None:
    try:
        return listener.buildProtocol(peer)
    except Exception:  # noqa: BLE001 - as the reactor does
        _log.failure("buildProtocol raised; the connection is closed")
        return None


def _address(host: str, port: int, kind: Literal["TCP", "UDP"] = "TCP") -> Address:
    if host.startswith(UNIX) or not host:
        name = host.removeprefix(UNIX).encode() or None
        # What UNIX transports answer, though the interface knows TCP only.
        return cast("Address", UNIXAddress(name))
    return (IPv6Address if ":" in host else IPv4Address)(kind, host, port)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(address: Address) -> str:
    return _names(address)[0] if _names(address) else UNIX


def _is_of(host: str, addresses: Collection[str]) -> bool:
    return host in addresses or host.startswith(UNIX)


def _names(address: Address) -> tuple[str, ...]:
    if isinstance(address, IPv4Address | IPv6Address):
        return address.host, _joined(address.host, address.port)
    return ()  # type: ignore[unreachable] # a UNIX socket's
