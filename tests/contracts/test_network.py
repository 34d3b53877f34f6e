"""What every network must do, asked of the one in memory and of real sockets."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,  # noqa: A004 - the network's error
    InvalidAddressError,
)
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IListeningPort,
    IProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.interfaces import Network
from fwd_mta.net.network import Reactor, ReactorNetwork
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.network import Link, MemoryNetwork

Contract = Coroutine[Deferred[Any], Any, None]


class Transport(ITCPTransport, IConsumer, IPushProducer):
    """All that a stream's transport can do."""


class Recorder(Protocol):
    """Keeps what arrives, and tells when enough has or when it is over."""

    transport: Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self.on_made: Callable[[Recorder], object] = id
        self.lost: Deferred[type] = Deferred()
        self._waiting: list[tuple[int, Deferred[bytes]]] = []

    @override
    def connectionMade(self) -> None:
        self.on_made(self)

    @override
    def dataReceived(self, data: bytes) -> None:
        self.received += data
        ready = [one for one in self._waiting if one[0] <= len(self.received)]
        self._waiting = [one for one in self._waiting if one not in ready]
        for _, waiter in ready:
            waiter.callback(bytes(self.received))

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        assert reason is not None
        self.lost.callback(type(reason.value))

    def octets(self, count: int) -> Deferred[bytes]:
        """Wait for that many in all."""
        waiter: Deferred[bytes] = Deferred()
        self._waiting.append((count, waiter))
        self.dataReceived(b"")
        return waiter


@implementer(IPushProducer)
class Source:
    """A push producer that writes blocks while it may."""

    def __init__(self, transport: Transport, blocks: int) -> None:
        self.pauses = 0
        self.stopped = False
        self._transport = transport
        self._left = blocks
        self._paused = False

    def resumeProducing(self) -> None:
        """Write until paused."""
        self._paused = False
        while self._left and not self._paused:
            self._left -= 1
            self._transport.write(b"x" * 16384)
        if not self._left:
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def pauseProducing(self) -> None:
        """Count it."""
        self._paused = True
        self.pauses += 1

    def stopProducing(self) -> None:
        """Remember it."""
        self.stopped = True


class RecorderFactory(Factory):
    """Makes recorders and keeps them in order."""

    noisy = False

    def __init__(self) -> None:
        self.made: list[Recorder] = []
        self.next: Deferred[Recorder] = Deferred()

    @override
    def buildProtocol(self, addr: IAddress | None) -> Recorder:
        recorder = Recorder()
        self.made.append(recorder)
        first, self.next = self.next, Deferred()
        recorder.on_made = first.callback
        return recorder


@dataclass(frozen=True)
class Joined:
    """A listener and one connection to it."""

    port: IListeningPort
    client: Recorder
    server: Recorder


async def join(network: Network, address: str = "127.0.0.1") -> Joined:
    """Listen and connect; gives both ends."""
    listener = RecorderFactory()
    host = f"[{address}]" if ":" in address else address
    port = await network.listen(f"{host}:0", listener)
    accepted = listener.next
    client = await connect(network, address, number_of(port))
    return Joined(port, client, await accepted)


async def connect(network: Network, address: str, port: int) -> Recorder:
    """Connect a recorder."""
    protocol: IProtocol = await network.connect(address, port, RecorderFactory(), 5.0)
    assert isinstance(protocol, Recorder)
    return protocol


async def part(joined: Joined) -> None:
    """Close the port and the client's end."""
    joined.client.transport.loseConnection()
    await joined.server.lost
    await stop(joined.port)


def number_of(port: IListeningPort) -> int:
    """The port number that was given to it."""
    number: int = cast("IPv4Address", port.getHost()).port
    return number


async def stop(port: IListeningPort) -> None:
    """Stop listening."""
    stopped = port.stopListening()
    if stopped is not None:
        await stopped


class NetworkContract:
    """The contract; `verify` runs a coroutine to its end on either network."""

    network: Network
    blocks = 16
    lines = 20000

    def verify(self, contract: Contract) -> Deferred[None] | None:
        """Run it."""
        raise NotImplementedError

    def test_both_ways(self) -> Deferred[None] | None:
        """What one side writes the other reads, in order, both ways."""
        return self.verify(self._both_ways(cast("Any", self)))

    async def _both_ways(self, test: SynchronousTestCase) -> None:
        joined = await join(self.network)
        joined.server.transport.write(b"220 hello\r\n")
        test.assertEqual(await joined.client.octets(11), b"220 hello\r\n")
        joined.client.transport.writeSequence([b"EHLO ", b"a\r\n"])
        joined.client.transport.write(b"QUIT\r\n")
        test.assertEqual(await joined.server.octets(14), b"EHLO a\r\nQUIT\r\n")
        await part(joined)

    def test_addresses(self) -> Deferred[None] | None:
        """Each side knows both addresses, and they agree."""
        return self.verify(self._addresses(cast("Any", self)))

    async def _addresses(self, test: SynchronousTestCase) -> None:
        joined = await join(self.network)
        client, server = joined.client.transport, joined.server.transport
        test.assertEqual(client.getPeer(), joined.port.getHost())
        test.assertEqual(client.getPeer(), server.getHost())
        test.assertEqual(client.getHost(), server.getPeer())
        test.assertEqual(server.getPeer().host, "127.0.0.1")
        await part(joined)

    def test_no_delay(self) -> Deferred[None] | None:
        """Small writes leave at once on both sides."""
        return self.verify(self._no_delay(cast("Any", self)))

    async def _no_delay(self, test: SynchronousTestCase) -> None:
        joined = await join(self.network)
        test.assertTrue(joined.client.transport.getTcpNoDelay())
        test.assertTrue(joined.server.transport.getTcpNoDelay())
        await part(joined)

    def test_close(self) -> Deferred[None] | None:
        """A close comes after what was written before it; both ends see a clean end."""
        return self.verify(self._close(cast("Any", self)))

    async def _close(self, test: SynchronousTestCase) -> None:
        joined = await join(self.network)
        joined.server.transport.write(b"221 bye\r\n" * self.lines)
        joined.server.transport.loseConnection()
        test.assertIs(await joined.client.lost, ConnectionDone)
        test.assertIs(await joined.server.lost, ConnectionDone)
        test.assertEqual(joined.client.received, b"221 bye\r\n" * self.lines)
        await stop(joined.port)

    def test_abort(self) -> Deferred[None] | None:
        """An abort is a reset: each end is told in its own words."""
        return self.verify(self._abort(cast("Any", self)))

    async def _abort(self, test: SynchronousTestCase) -> None:
        joined = await join(self.network)
        joined.client.transport.abortConnection()
        test.assertIs(await joined.client.lost, ConnectionAborted)
        test.assertIs(await joined.server.lost, ConnectionLost)
        await stop(joined.port)

    def test_refused(self) -> Deferred[None] | None:
        """Where nobody listens, or listens no more, the connection is refused."""
        return self.verify(self._refused(cast("Any", self)))

    async def _refused(self, test: SynchronousTestCase) -> None:
        port = await self.network.listen("127.0.0.1:0", RecorderFactory())
        number = number_of(port)
        await stop(port)
        with test.assertRaises(ConnectionRefusedError):
            await connect(self.network, "127.0.0.1", number)

    def test_names(self) -> Deferred[None] | None:
        """Names are not looked up: only numeric addresses are taken."""
        return self.verify(self._names(cast("Any", self)))

    async def _names(self, test: SynchronousTestCase) -> None:
        for address in ("localhost", "", "127.1", "[127.0.0.1]"):
            with test.assertRaises(InvalidAddressError):
                await connect(self.network, address, 25)
        for address in ("localhost:25", "127.0.0.1", "127.0.0.1:65536", "::1:25", ":"):
            with test.assertRaises(InvalidAddressError):
                await self.network.listen(address, RecorderFactory())

    def test_taken(self) -> Deferred[None] | None:
        """One address and port has one listener; the second is told so."""
        return self.verify(self._taken(cast("Any", self)))

    async def _taken(self, test: SynchronousTestCase) -> None:
        port = await self.network.listen("127.0.0.1:0", RecorderFactory())
        with test.assertRaises(CannotListenError):
            number = number_of(port)
            await self.network.listen(f"127.0.0.1:{number}", RecorderFactory())
        await stop(port)

    def test_wildcard(self) -> Deferred[None] | None:
        """A listener on all addresses takes IPv4 connections."""
        return self.verify(self._wildcard(cast("Any", self)))

    async def _wildcard(self, test: SynchronousTestCase) -> None:
        listener = RecorderFactory()
        port = await self.network.listen("0.0.0.0:0", listener)
        client = await connect(self.network, "127.0.0.1", number_of(port))
        client.transport.loseConnection()
        test.assertIs(await client.lost, ConnectionDone)
        await stop(port)

    def test_source(self) -> Deferred[None] | None:
        """A connection comes from the source address that was asked for."""
        return self.verify(self._source(cast("Any", self)))

    async def _source(self, test: SynchronousTestCase) -> None:
        listener = RecorderFactory()
        port = await self.network.listen("127.0.0.1:0", listener)
        number, accepted = number_of(port), listener.next
        client = await self.network.connect(
            "127.0.0.1", number, RecorderFactory(), 5.0, "127.0.0.2"
        )
        server = await accepted
        test.assertEqual(server.transport.getPeer().host, "127.0.0.2")
        assert isinstance(client, Recorder)
        await part(Joined(port, client, server))

    def test_mapped(self) -> Deferred[None] | None:
        """An IPv4 address in IPv6 clothes is the IPv4 address."""
        return self.verify(self._mapped(cast("Any", self)))

    async def _mapped(self, test: SynchronousTestCase) -> None:
        listener = RecorderFactory()
        port = await self.network.listen("127.0.0.1:0", listener)
        accepted = listener.next
        number = number_of(port)
        client = await connect(self.network, "::ffff:127.0.0.1", number)
        test.assertEqual(client.transport.getPeer().host, "127.0.0.1")
        await part(Joined(port, client, await accepted))

    def test_back_pressure(self) -> Deferred[None] | None:
        """A reader that pauses stops the writer's producer, and loses nothing."""
        return self.verify(self._back_pressure(cast("Any", self)))

    async def _back_pressure(self, test: SynchronousTestCase) -> None:
        joined = await join(self.network)
        joined.client.transport.pauseProducing()
        source = Source(joined.server.transport, self.blocks)
        joined.server.transport.registerProducer(source, True)
        source.resumeProducing()
        test.assertGreater(source.pauses, 0)
        joined.client.transport.resumeProducing()
        test.assertIs(await joined.client.lost, ConnectionDone)
        test.assertEqual(joined.client.received, b"x" * 16384 * self.blocks)
        test.assertFalse(source.stopped)
        await stop(joined.port)

    def test_producer_stopped(self) -> Deferred[None] | None:
        """A producer is stopped when its connection goes away."""
        return self.verify(self._producer_stopped(cast("Any", self)))

    async def _producer_stopped(self, test: SynchronousTestCase) -> None:
        joined = await join(self.network)
        source = Source(joined.server.transport, 1)
        joined.server.transport.registerProducer(source, True)
        joined.client.transport.abortConnection()
        await joined.server.lost
        test.assertTrue(source.stopped)
        late = Source(joined.server.transport, 1)
        joined.server.transport.registerProducer(late, True)
        test.assertTrue(late.stopped)
        await stop(joined.port)

    def test_half_close(self) -> Deferred[None] | None:
        """Ending one's own direction lets the other side read to the end."""
        return self.verify(self._half_close(cast("Any", self)))

    async def _half_close(self, test: SynchronousTestCase) -> None:
        joined = await join(self.network)
        joined.client.transport.write(b"last words\r\n")
        joined.client.transport.loseWriteConnection()
        test.assertIs(await joined.server.lost, ConnectionDone)
        test.assertEqual(joined.server.received, b"last words\r\n")
        test.assertIs(await joined.client.lost, ConnectionDone)
        await stop(joined.port)

    def test_protocol_swapped(self) -> Deferred[None] | None:
        """Data goes to whatever protocol the transport has by then, as TLS needs."""
        return self.verify(self._protocol_swapped(cast("Any", self)))

    async def _protocol_swapped(self, test: SynchronousTestCase) -> None:
        joined = await join(self.network)
        other = Recorder()
        cast("Any", joined.server.transport).protocol = other
        joined.client.transport.write(b"for the other")
        test.assertEqual(await other.octets(13), b"for the other")
        joined.client.transport.loseConnection()
        test.assertIs(await other.lost, ConnectionDone)
        test.assertEqual(joined.server.received, b"")
        await stop(joined.port)

    def test_cancelled(self) -> Deferred[None] | None:
        """A connection attempt can be called off."""
        return self.verify(self._cancelled(cast("Any", self)))

    async def _cancelled(self, test: SynchronousTestCase) -> None:
        listener = RecorderFactory()
        port = await self.network.listen("127.0.0.1:0", listener)
        number = number_of(port)
        attempt = self.network.connect("127.0.0.1", number, RecorderFactory(), 5.0)
        attempt.cancel()
        with test.assertRaises(Exception) as caught:
            await attempt
        name = type(caught.exception).__name__
        test.assertEqual(name, "ConnectingCancelledError")
        await stop(port)


class MemoryNetworkTests(NetworkContract, SynchronousTestCase):
    """The network in memory keeps the contract."""

    link = Link()

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, SeededEntropy(), self.link)

    @override
    def verify(self, contract: Contract) -> None:
        outcome = Deferred.fromCoroutine(contract)
        for _ in range(10):
            self.clock.advance(1)
        self.successResultOf(outcome)


class SplitMemoryNetworkTests(MemoryNetworkTests):
    """It keeps it over a slow link that hands data over in small pieces."""

    link = Link(latency=0.001, split=True)
    blocks = 8
    lines = 1000

    @override
    def verify(self, contract: Contract) -> None:
        outcome = Deferred.fromCoroutine(contract)
        for _ in range(3000):
            self.clock.advance(0.001)
        self.successResultOf(outcome)


class ReactorNetworkTests(NetworkContract, TestCase):
    """Real sockets keep the contract, on loopback."""

    timeout = 30
    blocks = 1024  # more than loopback's buffers hold

    @override
    def setUp(self) -> None:
        self.network = ReactorNetwork(cast("Reactor", reactor))

    @override
    def verify(self, contract: Contract) -> Deferred[None]:
        return Deferred.fromCoroutine(contract)
