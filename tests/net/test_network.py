"""Real sockets beyond the contract: UNIX, systemd, datagrams, addresses."""

import os
import socket
import tempfile
from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    InvalidAddressError,
)
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase
from typing_extensions import override

from fwd_mta.net.network import Reactor, ReactorNetwork, numeric, split_address


class SplitAddressTests(SynchronousTestCase):
    """Addresses as an operator writes them."""

    def test_right(self) -> None:
        """Host and port, IPv6 in brackets."""
        for text, expected in (
            ("127.0.0.1:25", ("127.0.0.1", 25)),
            ("0.0.0.0:0", ("0.0.0.0", 0)),
            ("[::]:465", ("::", 465)),
            ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        ):
            self.assertEqual(split_address(text), expected)

    def test_wrong(self) -> None:
        """What is wrong is named, with what to write."""
        for text, cure in (
            ("127.0.0.1", "host:port"),
            ("127.0.0.1:65536", "65535"),
            ("127.0.0.1:-1", "host:port"),
            ("127.0.0.1:٢٥", "host:port"),
            ("::1:25", "[::1]:port"),
            ("[127.0.0.1]:25", "[::1]:port"),
            ("mail.example:25", "numeric"),
            (":25", "numeric"),
        ):
            with self.assertRaises(InvalidAddressError) as caught:
                split_address(text)
            self.assertIn(cure, caught.exception.message, text)

    def test_numeric(self) -> None:
        """An IPv4-mapped address is the IPv4 address; IPv6 is written short."""
        self.assertEqual(numeric("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual(numeric("2001:DB8:0:0::1"), "2001:db8::1")


class Hearing(Protocol):
    """Waits for the first octets."""

    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()

    @override
    def dataReceived(self, data: bytes) -> None:
        self.heard.callback(data)

    @override
    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


class Listener(Factory):
    """Hears one connection."""

    noisy = False

    def __init__(self) -> None:
        self.hearing = Hearing()

    @override
    def buildProtocol(self, addr: IAddress | None) -> Hearing:
        return self.hearing


class SocketCase(TestCase):
    """A network on the reactor."""

    timeout = 30

    @override
    def setUp(self) -> None:
        self.listener = Listener()
        self.caller = Listener()
        self.network = ReactorNetwork(cast("Reactor", reactor))

    async def passes(self, address: str, port: int, opened: IListeningPort) -> None:
        """Check that words sent to the address arrive, and close everything."""
        await self.network.connect(address, port, self.caller, 5)
        transport = self.caller.hearing.transport
        assert transport is not None
        transport.write(b"words")
        self.assertEqual(await self.listener.hearing.heard, b"words")
        transport.loseConnection()
        await self.listener.hearing.lost
        await self.caller.hearing.lost
        await stop(opened)


async def stop(port: IListeningPort) -> None:
    """Stop listening."""
    stopped = port.stopListening()
    if stopped is not None:
        await stopped


class UnixTests(SocketCase):
    """UNIX sockets."""

    @override
    def setUp(self) -> None:
        super().setUp()
        # mktemp() gives paths that may be too long for a socket's name.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/sock"

    async def test_private(self) -> None:
        """A UNIX socket is for its owner only, and words pass through it."""
        opened = await self.network.listen(f"unix:{self.path}", self.listener)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        await self.passes(f"unix:{self.path}", 0, opened)

    async def test_stale(self) -> None:
        """The name that a killed server left behind does not stop the next one."""
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(self.path)
        opened = await self.network.listen(f"unix:{self.path}", self.listener)
        await self.passes(f"unix:{self.path}", 0, opened)

    async def test_alive(self) -> None:
        """A socket that a living server listens on is not taken from it."""
        living = Factory.forProtocol(Protocol)
        opened = await self.network.listen(f"unix:{self.path}", living)
        with self.assertRaises(CannotListenError):
            await self.network.listen(f"unix:{self.path}", self.listener)
        await self.network.connect(f"unix:{self.path}", 0, self.caller, 5)
        transport = self.caller.hearing.transport
        assert transport is not None
        transport.loseConnection()
        await self.caller.hearing.lost
        await stop(opened)

    async def test_file(self) -> None:
        """A file of that name is not removed."""
        os.close(os.open(self.path, os.O_CREAT | os.O_WRONLY))
        with self.assertRaises(CannotListenError):
            await self.network.listen(f"unix:{self.path}", self.listener)
        self.assertEqual(os.stat(self.path).st_size, 0)

    async def test_missing(self) -> None:
        """Connecting to a socket that is not there fails."""
        with self.assertRaises(ConnectError):
            await self.network.connect(f"unix:{self.path}", 0, self.caller, 5)


class SystemdTests(SocketCase):
    """Sockets that systemd opened for us."""

    async def test_adopted(self) -> None:
        """A passed socket is found by its name and listened on, once."""
        passed = socket.socket()
        passed.bind(("127.0.0.1", 0))
        passed.listen()
        number = passed.getsockname()[1]
        # systemd counts from descriptor 3, which here belongs to someone else.
        self.network._passed["smtps"] = os.dup(passed.fileno())
        passed.close()
        opened = await self.network.listen("systemd:smtps", self.listener)
        address = opened.getHost()
        assert isinstance(address, IPv4Address)
        self.assertEqual(address.port, number)
        with self.assertRaises(CannotListenError):
            await self.network.listen("systemd:smtps", self.listener)
        await self.passes("127.0.0.1", number, opened)

    async def test_names(self) -> None:
        """Descriptors and names come from the environment; a missing one is told."""
        environment = {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": "smtps:submission",
        }
        network = ReactorNetwork(cast("Reactor", reactor), environment)
        self.assertEqual(network._passed, {"smtps": 3, "submission": 4})
        with self.assertRaises(CannotListenError) as caught:
            await network.listen("systemd:other", self.listener)
        self.assertIn("smtps, submission", str(caught.exception))
        self.assertIn("FileDescriptorName=other", str(caught.exception))

    async def test_not_ours(self) -> None:
        """What was meant for another process is left alone."""
        environment = {
            "LISTEN_PID": str(os.getpid() + 1),
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "smtps",
        }
        network = ReactorNetwork(cast("Reactor", reactor), environment)
        with self.assertRaises(CannotListenError):
            await network.listen("systemd:smtps", self.listener)


class Echo(DatagramProtocol):
    """Sends back what it hears."""

    @override
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        self.transport.write(datagram, addr)


class Asking(DatagramProtocol):
    """Waits for an answer."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()

    @override
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.answer.callback(datagram)


class DatagramTests(SocketCase):
    """UDP sockets."""

    async def test_answer(self) -> None:
        """A connected socket sends to its address and hears the answer."""
        echo = cast("Reactor", reactor).listenUDP(0, Echo(), "127.0.0.1", 8192)
        asking = Asking()
        address = echo.getHost()
        assert isinstance(address, IPv4Address)
        opened = self.network.datagram("127.0.0.1", address.port, asking)
        assert asking.transport is not None
        asking.transport.write(b"question", None)
        self.assertEqual(await asking.answer, b"question")
        for port in (echo, opened):
            await stop(port)
