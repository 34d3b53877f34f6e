"""Tests for the PROXY protocol, and for a submission session behind it."""

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Accepted, Refused
from fwd_mta.net.proxy import NoHeader, ProxyFactory, parse_header
from tests import kit
from tests.kit import World

V2 = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT = IPv4Address("TCP", "192.0.2.7", 40000)
CLIENT6 = IPv6Address("TCP", "2001:db8::7", 40000)
V1_HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 465\r\n"
V2_HEADER = (
    V2
    + b"\x21\x11\x00\x0f"
    + bytes([192, 0, 2, 7, 198, 51, 100, 1])
    + (40000).to_bytes(2, "big")
    + (465).to_bytes(2, "big")
    + b"\x04\x00\x00"
)
V2_LOCAL = V2 + b"\x20\x00\x00\x00"


class ParseTests(SynchronousTestCase):
    """`parse_header` knows both versions."""

    def test_good(self) -> None:
        """The client, and where the header ends."""
        six = bytes.fromhex("20010db8000000000000000000000007")
        v6 = V2 + b"\x21\x21\x00\x24" + six + bytes(16) + (40000).to_bytes(2, "big")
        for header, client in (
            (V1_HEADER, CLIENT),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 465\r\n", CLIENT6),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN what ever 1 2\r\n", None),
            (V2_HEADER, CLIENT),
            (v6 + b"\x01\xd1", CLIENT6),
            (V2_LOCAL, None),
            (V2 + b"\x21\x31\x00\x00", None),
        ):
            for place in range(len(header)):
                self.assertIsNone(parse_header(header[:place]), header[:place])
            found = parse_header(header + b"\x16\x03")
            self.assertEqual(found, (len(header), client), header)

    def test_bad(self) -> None:
        """Everything else is refused, as soon as it can be."""
        for octets in (
            b"EHLO me\r\n",
            b"PROXY TCP4 192.0.2.7\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.7 192.0.2.8 1 2\r\n",
            b"PROXY TCP4 192.0.2.777 192.0.2.8 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.8 99999 2\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.8 -1 2\r\n",
            b"PROXY TCP4  192.0.2.7 192.0.2.8 1 2\r\n",
            b"PROXY UDP4 192.0.2.7 192.0.2.8 1 2\r\n",
            b"proxy TCP4 192.0.2.7 192.0.2.8 1 2\r\n",
            b"PROXY TCP4 192.0.2.7\n198.51.100.1 1 2\r\n",
            b"PROXY " + b"x" * 200,
            b"PROXY UNKNOWN" + b" " * 100 + b"\r\n",
            V2 + b"\x11\x11\x00\x0c" + bytes(12),
            V2 + b"\x22\x11\x00\x0c" + bytes(12),
            V2 + b"\x21\x11\x00\x04" + bytes(4),
            V2 + b"\x21\x11\xff\xff",
            b"\x16\x03\x01",
        ):
            self.assertRaises(NoHeader, parse_header, octets)


class Echo(Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost = False

    @override
    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = True


class FactoryTests(SynchronousTestCase):
    """`ProxyFactory` asks those it should ask, and nobody else."""

    @override
    def setUp(self) -> None:
        """A factory that asks everybody."""
        self.clock = Clock()
        self.inner: list[Echo] = []
        self.addresses: list[IAddress] = []
        self.refused: list[str] = []
        test = self

        class Inner(Factory):
            @override
            def buildProtocol(self, addr: IAddress) -> Echo:  # type: ignore[override]
                test.addresses.append(addr)
                test.inner.append(Echo())
                return test.inner[-1]

        self.asked = True
        self.factory = ProxyFactory(
            Inner(),
            lambda _: self.asked,
            self.clock,
            lambda _, why: self.refused.append(why),
        )

    def connect(self) -> tuple[Protocol, StringTransport]:
        """A connection of the balancer."""
        balancer = IPv4Address("TCP", "10.0.0.1", 5)
        protocol = self.factory.buildProtocol(balancer)
        transport = StringTransport(peerAddress=balancer)
        protocol.makeConnection(transport)
        return protocol, transport

    def test_split(self) -> None:
        """The header may come octet by octet; what is behind it is the client's."""
        for header in (V1_HEADER, V2_HEADER):
            protocol, _ = self.connect()
            for octet in header + b"EHLO":
                protocol.dataReceived(bytes([octet]))
            self.assertEqual(self.inner[-1].heard, b"EHLO")
            self.assertEqual(self.addresses[-1], CLIENT)
            assert self.inner[-1].transport is not None
            self.assertEqual(self.inner[-1].transport.getPeer(), CLIENT)
            protocol.connectionLost(Failure(ConnectionDone()))
            self.assertTrue(self.inner[-1].lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_segment(self) -> None:
        """Header and first words in one segment."""
        protocol, transport = self.connect()
        protocol.dataReceived(V2_HEADER + b"EHLO")
        self.assertEqual(self.inner[0].heard, b"EHLO")
        assert self.inner[0].transport is not None
        self.inner[0].transport.write(b"220")
        self.assertEqual(transport.value(), b"220")

    def test_health_check(self) -> None:
        """A balancer that speaks for itself is seen as itself."""
        protocol, _ = self.connect()
        protocol.dataReceived(V2_LOCAL)
        self.assertEqual(self.addresses[0], IPv4Address("TCP", "10.0.0.1", 5))

    def test_wrong(self) -> None:
        """No header, no session; and what comes then is not looked at."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"EHLO me\r\n")
        protocol.dataReceived(V1_HEADER)
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.inner, [])
        self.assertEqual(len(self.refused), 1)

    def test_late(self) -> None:
        """A header that does not come in ten seconds ends the connection."""
        protocol, transport = self.connect()
        protocol.dataReceived(V1_HEADER[:20])
        self.clock.advance(10)
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.refused, ["no PROXY header in time"])

    def test_not_asked(self) -> None:
        """From other networks a header is what the client says, and means nothing."""
        self.asked = False
        protocol, _ = self.connect()
        protocol.dataReceived(V1_HEADER)
        self.assertEqual(self.inner[0].heard, V1_HEADER)
        self.assertEqual(self.addresses[0], IPv4Address("TCP", "10.0.0.1", 5))


class WorldTests(SynchronousTestCase):
    """A whole server behind a balancer."""

    @override
    def setUp(self) -> None:
        """The relay listener trusts 10.0.0.0/8, and hears headers from there."""
        self.world = World()
        old = 'trusted_networks = ["10.0.0.0/8"]'
        new = (
            'trusted_networks = ["192.0.2.7/32"]\nproxy_protocol_from = ["10.0.0.0/8"]'
        )
        self.patch(kit, "CONFIGURATION", kit.CONFIGURATION.replace(old, new))
        self.world.server = self.world.make()

    def test_client_behind_it(self) -> None:
        """Networks and log know the client, not the balancer; a stranger stays one."""
        self.world.start()
        wire = self.world.connect(25)
        self.assertEqual(wire.take(), b"")
        wire.say(V1_HEADER + b"EHLO app\r\nMAIL FROM:<ann@example.com>\r\n")
        self.world.settle()
        self.assertIn(b"250 2.1.0", wire.take())
        wire.say(b"RCPT TO:<bob@example.net>\r\nDATA\r\n")
        self.world.settle()
        wire.say(b"From: ann@example.com\r\n\r\nHi\r\n.\r\nQUIT\r\n")
        self.world.settle()
        [accepted] = [one for one in self.world.events if isinstance(one, Accepted)]
        self.assertEqual(accepted.client, "192.0.2.7")
        wire = self.world.connect(25)
        wire.say(b"PROXY TCP4 192.0.2.8 198.51.100.1 40000 25\r\n")
        wire.say(b"EHLO app\r\nMAIL FROM:<ann@example.com>\r\n")
        self.world.settle()
        self.assertIn(b"554 5.7.1", wire.take())

    def test_no_header(self) -> None:
        """A client of that network without a header is cut off and logged."""
        self.world.start()
        wire = self.world.connect(25)
        wire.say(b"EHLO app\r\n")
        self.world.settle()
        self.assertTrue(wire.closed)
        [refused] = [one for one in self.world.events if isinstance(one, Refused)]
        self.assertEqual((refused.client, refused.where), ("10.0.0.9", "PROXY"))
