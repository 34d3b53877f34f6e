"""What the network in memory can do beyond the contract: faults, on a virtual clock."""

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,  # noqa: A004 - the network's error
    NoProtocol,
    NoRouteError,
    TimeoutError,  # noqa: A004 - the network's error
)
from twisted.internet.interfaces import IAddress, IProtocol, ITCPTransport
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override
from zope.interface.verify import verifyObject

from fwd_mta.net.tls import (
    ClientTlsContext,
    ServerTls,
    server_context,
    start_tls,
    tls_factory,
)
from fwd_mta.world.certificates import Authority
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.network import Dead, Link, MemoryNetwork, MemoryTransport

AUTHORITY = Authority(1_800_000_000.0)


class End(Protocol):
    """Keeps the pieces that arrive, and how it ended."""

    transport: MemoryTransport

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.why: type | None = None

    @override
    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        assert reason is not None
        self.why = type(reason.value)


class Broken(End):
    """Raises at whatever it reads."""

    @override
    def dataReceived(self, data: bytes) -> None:
        raise ZeroDivisionError


class Ends(Factory):
    """Makes ends, and counts its starts and stops."""

    noisy = False

    def __init__(self, kind: type[End] = End) -> None:
        self.kind = kind
        self.made: list[End] = []
        self.starts = 0
        self.stops = 0

    @override
    def buildProtocol(self, addr: IAddress | None) -> End:
        end = self.kind()
        self.made.append(end)
        return end

    @override
    def startFactory(self) -> None:
        self.starts += 1

    @override
    def stopFactory(self) -> None:
        self.stops += 1


class Nobody(Factory):
    """Wants no connection."""

    noisy = False

    @override
    def buildProtocol(self, addr: IAddress | None) -> None:
        return None


class Raising(Factory):
    """Fails at every connection."""

    noisy = False

    @override
    def buildProtocol(self, addr: IAddress | None) -> None:
        raise ZeroDivisionError


class NetworkCase(SynchronousTestCase):
    """A network, a listener, and connections to it."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, SeededEntropy())
        self.listener = Ends()

    def dial(
        self, address: str = "203.0.113.5", port: int = 25, timeout: float = 30.0
    ) -> Deferred[IProtocol]:
        """Begin to connect."""
        return self.network.connect(address, port, Ends(), timeout)

    def join(self, address: str = "203.0.113.5") -> tuple[End, End]:
        """Listen and connect; gives client and server."""
        host = f"[{address}]" if ":" in address else address
        self.successResultOf(self.network.listen(f"{host}:25", self.listener))
        dialled = self.dial(address)
        self.clock.advance(0)
        client = self.successResultOf(dialled)
        assert isinstance(client, End)
        return client, self.listener.made[-1]


class ConnectTests(NetworkCase):
    """Connections that are made, and that are not."""

    def test_interface(self) -> None:
        """Transports are what TLS and every TCP protocol expect."""
        client, _ = self.join()
        verifyObject(ITCPTransport, client.transport)

    def test_public_addresses(self) -> None:
        """Any address of the world can be listened on, IPv6 too."""
        client, server = self.join("2001:db8::25")
        self.assertEqual(client.transport.getPeer().host, "2001:db8::25")
        self.assertEqual(server.transport.getPeer().host, "2001:db8::1")
        self.assertEqual(server.transport.getPeer().type, "TCP")

    def test_dead_ways(self) -> None:
        """A way may be refused or without route; then it is mended."""
        for dead, error in (
            (Dead.REFUSED, ConnectionRefusedError),
            (Dead.NO_ROUTE, NoRouteError),
        ):
            self.network.bend("203.0.113.5", dead)
            dialled = self.dial()
            self.clock.advance(0)
            self.failureResultOf(dialled, error)
        self.network.mend("203.0.113.5")
        self.join()

    def test_silent(self) -> None:
        """A host that never answers costs the time-out, to the second."""
        self.network.bend("203.0.113.5:25", Dead.SILENT)
        dialled = self.dial(timeout=30.0)
        self.clock.advance(29.9)
        self.assertNoResult(dialled)
        self.clock.advance(0.1)
        self.failureResultOf(dialled, TimeoutError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_port_bent(self) -> None:
        """Bending one port leaves the others of the host alone."""
        self.network.bend("203.0.113.5:26", Dead.SILENT)
        self.join()

    def test_too_far(self) -> None:
        """A way that is slower than the time-out times out."""
        self.network.bend("203.0.113.5", Link(latency=10))
        self.successResultOf(self.network.listen("203.0.113.5:25", self.listener))
        dialled = self.dial(timeout=5)
        self.clock.advance(5)
        self.failureResultOf(dialled, TimeoutError)
        self.clock.advance(5)
        self.assertEqual(self.listener.made, [])

    def test_nobody(self) -> None:
        """A factory that wants no connection ends it, on either side."""
        self.successResultOf(self.network.listen("203.0.113.5:25", Nobody()))
        dialled = self.dial()
        self.clock.advance(0)
        client = self.successResultOf(dialled)
        assert isinstance(client, End)
        self.assertIs(client.why, ConnectionDone)
        refusing = self.network.connect("203.0.113.5", 25, Nobody(), 30)
        self.clock.advance(0)
        self.failureResultOf(refusing, NoProtocol)

    def test_raising(self) -> None:
        """A listener that raises loses that connection only, and it is logged."""
        self.successResultOf(self.network.listen("203.0.113.5:25", Raising()))
        dialled = self.dial()
        self.clock.advance(0)
        client = self.successResultOf(dialled)
        assert isinstance(client, End)
        self.assertIs(client.why, ConnectionDone)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        failing = self.network.connect("203.0.113.5", 25, Raising(), 30)
        self.clock.advance(0)
        self.failureResultOf(failing, ZeroDivisionError)

    def test_factories(self) -> None:
        """Factories are started and stopped as the reactor does it."""
        port = self.successResultOf(
            self.network.listen("203.0.113.5:25", self.listener)
        )
        dialling = Ends()
        dialled = self.network.connect("203.0.113.5", 25, dialling, 30)
        self.clock.advance(0)
        client = self.successResultOf(dialled)
        assert isinstance(client, End)
        client.transport.loseConnection()
        self.clock.advance(0)
        self.successResultOf(cast("Any", port.stopListening()))
        self.successResultOf(cast("Any", port.stopListening()))
        for factory in (dialling, self.listener):
            self.assertEqual((factory.starts, factory.stops), (1, 1))

    def test_unix(self) -> None:
        """UNIX sockets are there too, by their path."""
        path = "unix:/run/fwdmta/control.sock"
        self.successResultOf(self.network.listen(path, self.listener))
        dialled = self.network.connect(path, 0, Ends(), 5)
        self.clock.advance(0)
        client = self.successResultOf(dialled)
        assert isinstance(client, End)
        client.transport.write(b"x")
        self.clock.advance(0)
        self.assertEqual(self.listener.made[0].pieces, [b"x"])


class LinkTests(NetworkCase):
    """Slow, torn and breaking links."""

    def test_latency(self) -> None:
        """What is sent arrives after the link's time, in order."""
        self.network.bend("203.0.113.5", Link(latency=0.5))
        self.successResultOf(self.network.listen("203.0.113.5:25", self.listener))
        dialled = self.dial()
        self.clock.advance(0.5)
        client = self.successResultOf(dialled)
        assert isinstance(client, End)
        client.transport.write(b"x")
        self.clock.advance(0)
        self.clock.advance(0.4)
        self.assertEqual(self.listener.made[0].pieces, [])
        self.clock.advance(0.1)
        self.assertEqual(self.listener.made[0].pieces, [b"x"])

    def test_split(self) -> None:
        """Pieces are torn by chance, the same chance for the same seed."""
        histories = []
        for seed in (1, 1, 2):
            self.setUp()
            self.network = MemoryNetwork(
                self.clock, SeededEntropy(seed), Link(split=True)
            )
            client, server = self.join()
            client.transport.write(b"EHLO us.example\r\n" * 20)
            self.clock.advance(0)
            self.assertEqual(b"".join(server.pieces), b"EHLO us.example\r\n" * 20)
            histories.append(server.pieces)
        self.assertGreater(len(histories[0]), 3)
        self.assertEqual(histories[0], histories[1])
        self.assertNotEqual(histories[0], histories[2])

    def test_window(self) -> None:
        """A reader that pauses holds back all but a window's worth."""
        client, server = self.join()
        server.transport.pauseProducing()
        client.transport.write(b"x" * 200_000)
        client.transport.loseConnection()
        self.clock.advance(1)
        self.assertEqual(server.pieces, [])
        self.assertIs(client.why, None)
        server.transport.resumeProducing()
        self.clock.advance(1)
        self.assertEqual(sum(map(len, server.pieces)), 200_000)
        self.assertEqual((client.why, server.why), (ConnectionDone, ConnectionDone))

    def test_reset_up(self) -> None:
        """A link may break after so many octets sent; those before it arrive."""
        self.network.bend("203.0.113.5", Link(reset_up=10))
        client, server = self.join()
        client.transport.write(b"0123456")
        self.clock.advance(0)
        client.transport.write(b"789abc")
        self.clock.advance(0)
        self.assertEqual(b"".join(server.pieces), b"0123456789")
        self.assertEqual((client.why, server.why), (ConnectionLost, ConnectionLost))

    def test_reset_down(self) -> None:
        """It may break in the answer."""
        self.network.bend("203.0.113.5", Link(reset_down=3))
        client, server = self.join()
        client.transport.write(b"DATA\r\n")
        server.transport.write(b"250 ok\r\n")
        self.clock.advance(0)
        self.assertEqual((client.pieces, client.why), ([b"250"], ConnectionLost))

    def test_cut(self) -> None:
        """All connections to a host can be cut at once."""
        client, server = self.join()
        self.assertEqual(self.network.cut("203.0.113.6"), 0)
        self.assertEqual(self.network.cut("203.0.113.5"), 1)
        self.clock.advance(0)
        self.assertEqual((client.why, server.why), (ConnectionAborted, ConnectionLost))
        self.assertEqual(self.network.connections, [])


class EndTests(NetworkCase):
    """How connections end."""

    def test_unread(self) -> None:
        """Closing with unread data resets, as Linux does."""
        client, server = self.join()
        server.transport.pauseProducing()
        client.transport.write(b"unread")
        self.clock.advance(0)
        server.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual((server.why, client.why), (ConnectionDone, ConnectionLost))

    def test_write_after_close(self) -> None:
        """Writing to a side that is gone is silent, then the reset comes."""
        client, server = self.join()
        client.transport.pauseProducing()
        server.transport.loseConnection()
        self.clock.advance(0)
        self.assertIs(client.why, None)
        client.transport.write(b"too late")
        self.clock.advance(0)
        self.assertIs(client.why, ConnectionLost)
        client.transport.write(b"later still")
        client.transport.loseConnection()
        client.transport.abortConnection()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_exception(self) -> None:
        """An exception costs its connection, and is logged."""
        self.listener = Ends(Broken)
        client, server = self.join()
        client.transport.write(b"x")
        self.clock.advance(0)
        self.assertEqual((server.why, client.why), (ZeroDivisionError, ConnectionLost))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_misuse(self) -> None:
        """Text is no data, and there is one producer at a time."""
        client, _ = self.join()
        with self.assertRaises(TypeError):
            client.transport.write(cast("bytes", "text"))
        client.transport.registerProducer(cast("Any", object()), True)
        with self.assertRaises(RuntimeError):
            client.transport.registerProducer(cast("Any", object()), True)
        client.transport.unregisterProducer()

    def test_options(self) -> None:
        """Socket options are remembered."""
        client, _ = self.join()
        client.transport.setTcpKeepAlive(True)
        client.transport.setTcpNoDelay(False)
        self.assertTrue(client.transport.getTcpKeepAlive())
        self.assertFalse(client.transport.getTcpNoDelay())


class TlsTests(NetworkCase):
    """Real TLS over transports in memory."""

    def test_implicit(self) -> None:
        """A listener with TLS is spoken to by a client with TLS, megabytes long."""
        chain, key = AUTHORITY.issue("mx.far.example")
        creator = ServerTls(server_context(chain, key))
        wrapped = tls_factory(self.listener, creator, self.clock)
        self.successResultOf(self.network.listen("203.0.113.5:465", wrapped))
        dialled = self.network.connect("203.0.113.5", 465, Ends(), 30)
        self.clock.advance(0)
        client = self.successResultOf(dialled)
        assert isinstance(client, End)
        trusting = ClientTlsContext(AUTHORITY.pem).towards("mx.far.example")
        layer = start_tls(client, client.transport, trusting, self.clock, client=True)
        layer.write(b"x" * 3_000_000)
        layer.loseConnection()
        for _ in range(100):
            self.clock.advance(0.1)
        server = self.listener.made[0]
        self.assertEqual(sum(map(len, server.pieces)), 3_000_000)
        self.assertIs(server.why, ConnectionDone)


class Asking(DatagramProtocol):
    """Keeps the answers."""

    def __init__(self) -> None:
        self.answers: list[tuple[bytes, tuple[str, int]]] = []

    @override
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.answers.append((datagram, addr))


class DatagramTests(NetworkCase):
    """Datagrams, as a resolver sends them."""

    def test_answers(self) -> None:
        """A datagram is answered, met by silence, or lost with the socket."""
        self.network.answer_datagrams(
            "192.0.2.53:53", lambda asked: asked[::-1] if asked != b"?" else None
        )
        asking = Asking()
        port = self.network.datagram("192.0.2.53", 53, asking)
        assert asking.transport is not None
        asking.transport.write(b"abc", None)
        asking.transport.write(b"?", None)
        self.clock.advance(0)
        self.assertEqual(asking.answers, [(b"cba", ("192.0.2.53", 53))])
        asking.transport.write(b"late", None)
        self.successResultOf(cast("Any", port.stopListening()))
        self.clock.advance(0)
        self.assertEqual(len(asking.answers), 1)
