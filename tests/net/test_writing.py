"""Writing at once: what the socket takes is sent, what it does not is kept in order."""

import socket
from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Server
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from typing_extensions import override

from fwd_mta.net.network import Reactor, ReactorNetwork
from fwd_mta.net.writing import write_at_once


class Sending(Protocol):
    """The listening side, in the hands of the test."""

    def __init__(self) -> None:
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[bool] = Deferred()
        self.paused = 0

    @override
    def connectionMade(self) -> None:
        self.made.callback(None)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(bool(reason.check(ConnectionClosed)))

    def pauseProducing(self) -> None:
        """Count how often the transport was full."""
        self.paused += 1

    def resumeProducing(self) -> None:
        """Nothing waits here."""

    def stopProducing(self) -> None:
        """Nothing is under way here."""


class Collecting(Protocol):
    """Keeps all it is sent until the end."""

    def __init__(self) -> None:
        self.octets = bytearray()
        self.done: Deferred[bytes] = Deferred()

    @override
    def dataReceived(self, data: bytes) -> None:
        self.octets += data

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(bytes(self.octets))


class WriteAtOnceTests(TestCase):
    """The transports that our network makes."""

    @override
    def setUp(self) -> None:
        self.network = ReactorNetwork(cast("Reactor", reactor))
        self.sending = Sending()

    async def listen(self) -> int:
        """Listen for one connection; the port's number."""
        factory = Factory.forProtocol(lambda: self.sending)
        port = await self.network.listen("127.0.0.1:0", factory)
        self.addCleanup(port.stopListening)
        return cast("IPv4Address", port.getHost()).port

    async def test_at_once(self) -> None:
        """A reply has left when `write` returns, without a turn of the reactor."""
        with socket.socket() as client:
            client.connect(("127.0.0.1", await self.listen()))
            await self.sending.made
            transport = cast("Server", self.sending.transport)
            transport.write(b"220 ready\r\n")
            client.setblocking(False)
            self.assertEqual(client.recv(100), b"220 ready\r\n")
            client.close()
            await self.sending.lost

    async def test_order(self) -> None:
        """Many writes to a peer that does not read arrive whole and in order."""
        collecting = Collecting()
        factory = Factory.forProtocol(lambda: collecting)
        number = await self.listen()
        await self.network.connect("127.0.0.1", number, factory, 5.0)
        await self.sending.made
        transport = cast("Server", self.sending.transport)
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.registerProducer(self.sending, True)
        octets = b"".join(b"%07d\n" % number for number in range(125_000))
        sizes = [1, 70_000, 5, 600_000, 0, 2, 300_000, 29_992]
        at = 0
        for size in sizes:
            transport.write(octets[at : at + size])
            at += size
        self.assertGreater(self.sending.paused, 0)
        transport.unregisterProducer()
        transport.loseConnection()
        self.assertEqual(await collecting.done, octets)
        await self.sending.lost

    async def test_broken(self) -> None:
        """A write to a peer that is gone raises nothing; the loss is told later."""
        collecting = Collecting()
        factory = Factory.forProtocol(lambda: collecting)
        number = await self.listen()
        await self.network.connect("127.0.0.1", number, factory, 5.0)
        await self.sending.made
        transport = cast("Server", self.sending.transport)
        transport.socket.shutdown(socket.SHUT_RDWR)
        transport.write(b"nobody hears this\r\n")
        self.assertTrue(await self.sending.lost)
        transport.write(b"nor this\r\n")


class OtherTransportsTests(SynchronousTestCase):
    """What is no plain stream stays as it is."""

    def test_untouched(self) -> None:
        """A transport of another kind keeps its own `write`."""

        class Odd:
            def write(self, data: bytes) -> None:
                """Take nothing."""

        odd = Odd()
        write_at_once(odd)
        self.assertEqual(vars(odd), {})
