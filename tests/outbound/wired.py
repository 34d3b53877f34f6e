"""A connection whose other end is the test, for the tests of this room."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.outbound.connection import Broken, Connection, Timeouts

T = TypeVar("T")
TIMEOUTS = Timeouts(greeting=10, helo=20, mail=30, data_block=40, data_done=50, quit=5)


class Wired(SynchronousTestCase):
    """A connection on a transport whose other end is the test."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = StringTransport()
        self.connection = Connection("us.example", TIMEOUTS, self.clock)
        self.connection.makeConnection(self.transport)

    def begin(self, work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """Start what awaits a reply."""
        return Deferred.fromCoroutine(work)

    def hear(self, *octets: bytes) -> None:
        """The peer says something."""
        for each in octets:
            self.connection.dataReceived(each)

    def lose(self) -> None:
        """The peer closes."""
        self.connection.connectionLost(Failure(ConnectionDone()))

    def said(self) -> bytes:
        """What we said since the last look."""
        octets: bytes = self.transport.value()
        self.transport.clear()
        return octets

    def greet(self, *keywords: bytes) -> None:
        """Get the greeting and an EHLO answer behind us."""
        greeting = self.begin(self.connection.greeting())
        self.hear(b"220 hi\r\n")
        self.successResultOf(greeting)
        hello = self.begin(self.connection.hello())
        self.hear(b"".join(b"250-%s\r\n" % each for each in (b"host", *keywords)))
        self.hear(b"250 HELP\r\n")
        self.successResultOf(hello)
        self.said()

    def broken(self, work: Deferred[Any]) -> str:
        """The kind of trouble that work ended with."""
        error = self.failureResultOf(work, Broken).value
        assert isinstance(error, Broken)
        return error.trouble.kind
