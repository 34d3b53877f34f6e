"""Events of epoll without a logging context, on reactors of our own."""

import socket
from collections.abc import Callable

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.net.polling import poll_directly


class Reader:
    """Reads one end of a pair of sockets."""

    def __init__(self, end: socket.socket, read: Callable[[bytes], object]) -> None:
        self.end = end
        self.read = read
        self.lost: list[object] = []

    def fileno(self) -> int:
        """Its descriptor."""
        return self.end.fileno()

    def doRead(self) -> object:  # noqa: N802 - Twisted's name
        """Read."""
        return self.read(self.end.recv(100))

    def connectionLost(self, reason: object) -> None:
        """Remember why."""
        self.lost.append(reason)

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's name
        """Asked for by Twisted's own way only."""
        raise AssertionError("the context is back")


class PollTests(SynchronousTestCase):
    """`poll_directly` on an epoll reactor."""

    @override
    def setUp(self) -> None:
        """A reactor that nobody installed, and a pair of sockets."""
        self.reactor = EPollReactor()
        poll_directly(self.reactor)
        self.near, self.far = socket.socketpair()
        self.addCleanup(self.near.close)
        self.addCleanup(self.far.close)

    def test_reads(self) -> None:
        """What came is read in the next turn, without a context around it."""
        heard: list[bytes] = []
        reader = Reader(self.near, heard.append)
        self.reactor.addReader(reader)
        self.reactor.iterate(0)
        self.far.send(b"hello")
        self.reactor.iterate(1)
        self.assertEqual(heard, [b"hello"])

    def test_reader_that_raises(self) -> None:
        """A defect in one reader is logged, and ends that one alone."""

        def broken(octets: bytes) -> None:
            raise ValueError(octets)

        reader = Reader(self.near, broken)
        self.reactor.addReader(reader)
        self.far.send(b"x")
        self.reactor.iterate(1)
        self.assertEqual(len(reader.lost), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_timers(self) -> None:
        """Timers run as ever."""
        rung: list[int] = []
        self.reactor.callLater(0, rung.append, 1)
        self.reactor.iterate(0)
        self.assertEqual(rung, [1])


class OtherReactorTests(SynchronousTestCase):
    """Whatever is no epoll reactor stays as it was."""

    def test_unchanged(self) -> None:
        """A reactor of another kind, a clock, or one without those parts."""
        for other in (SelectReactor(), Clock()):
            poll_directly(other)
            self.assertNotIn("doIteration", vars(other))
