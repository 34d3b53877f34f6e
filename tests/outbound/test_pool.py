"""Tests of kept connections and of how many there are to one host."""

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.mail.errors import Interrupted
from fwd_mta.mail.route import Host, TlsLevel
from fwd_mta.outbound.connection import Connection, Timeouts
from fwd_mta.outbound.pool import Lease, Line, Pool, PoolSettings

LINE = Line(Host("mx.example", "192.0.2.1", 25))


class PoolTests(SynchronousTestCase):
    """A pool of at most two connections to a host."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.pool = Pool(self.clock, PoolSettings(per_host=2, messages=3, idle=5))

    def connection(self) -> tuple[Connection, StringTransport]:
        """Make one whose greeting is behind it."""
        transport = StringTransport()
        connection = Connection("us.example", Timeouts(), self.clock)
        connection.makeConnection(transport)
        connection.dataReceived(b"220 hi\r\n")
        return connection, transport

    def lease(self, line: Line = LINE) -> Lease:
        """Take a lease that is there at once."""
        return self.successResultOf(self.pool.take(line))

    def test_reuse(self) -> None:
        """What is given back in order serves again; its time is then over no more."""
        connection, _ = self.connection()
        self.pool.give_back(self.lease(), connection)
        self.clock.advance(4)
        lease = self.lease()
        self.assertIs(lease.connection, connection)
        self.clock.advance(60)
        self.assertTrue(connection.usable)

    def test_idle(self) -> None:
        """After five idle seconds it is closed with QUIT."""
        connection, transport = self.connection()
        self.pool.give_back(self.lease(), connection)
        self.clock.advance(5)
        self.assertEqual(transport.value(), b"QUIT\r\n")
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(self.lease().connection)

    def test_worn(self) -> None:
        """After so many messages it is closed."""
        connection, transport = self.connection()
        connection.messages = 3
        self.pool.give_back(self.lease(), connection)
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(self.lease().connection)

    def test_not_in_order(self) -> None:
        """What broke, has an answer outstanding, or is not to be kept, is not kept."""
        broken, _ = self.connection()
        broken.abort()
        self.pool.give_back(self.lease(), broken)
        self.assertIsNone(self.lease().connection)
        waiting, transport = self.connection()
        waiting.send(b"MAIL\r\n", 1)
        self.pool.give_back(Lease(LINE), waiting)
        self.assertTrue(transport.disconnected)
        refused, transport = self.connection()
        self.pool.give_back(self.lease(), refused, keep=False)
        self.assertTrue(transport.disconnecting)
        self.assertIsNone(self.lease().connection)

    def test_host_that_leaves(self) -> None:
        """A kept connection that the host ends is forgotten at once."""
        for octets in (b"421 idle\r\n", b""):
            connection, _ = self.connection()
            self.pool.give_back(self.lease(), connection)
            if octets:
                connection.dataReceived(octets)
            else:
                connection.connectionLost(Failure(ConnectionDone()))
            lease = self.lease()
            self.assertIsNone(lease.connection)
            self.pool.give_back(lease, None)

    def test_only_alike(self) -> None:
        """A connection serves only the same host, source and security."""
        connection, _ = self.connection()
        self.pool.give_back(self.lease(), connection)
        for other in (
            replace(LINE, tls=TlsLevel.SECURE),
            replace(LINE, source="192.0.2.9"),
            replace(LINE, in_clear=True),
            replace(LINE, login="joe"),
            replace(LINE, host=Host("mx.example", "192.0.2.2", 25)),
            replace(LINE, host=Host("other.example", "192.0.2.1", 25)),
        ):
            lease = self.lease(other)
            self.assertIsNone(lease.connection, other)
            self.pool.give_back(lease, None)

    def test_limit(self) -> None:
        """The third waits until one of two is given back; other hosts do not."""
        first, _ = self.lease(), self.lease()
        third = self.pool.take(LINE)
        self.assertNoResult(third)
        other = replace(LINE, host=Host("b.example", "192.0.2.2", 25))
        self.assertIsNone(self.lease(other).connection)
        connection, _ = self.connection()
        self.pool.give_back(first, connection)
        self.assertIs(self.successResultOf(third).connection, connection)

    def test_waiting_in_order(self) -> None:
        """Who waited longest is next."""
        first, second = self.lease(), self.lease()
        waiting = [self.pool.take(LINE) for _ in range(3)]
        self.pool.give_back(first, None)
        self.successResultOf(waiting[0])
        self.assertNoResult(waiting[1])
        self.pool.give_back(second, None)
        self.successResultOf(waiting[1])
        self.assertNoResult(waiting[2])

    def test_idle_one_makes_room(self) -> None:
        """An idle connection of another kind is closed when its place is needed."""
        pool = self.pool = Pool(self.clock, PoolSettings(per_host=1))
        connection, transport = self.connection()
        pool.give_back(self.lease(), connection)
        lease = self.lease(replace(LINE, tls=TlsLevel.SECURE))
        self.assertIsNone(lease.connection)
        self.assertTrue(transport.disconnecting)
        pool.give_back(lease, None)
        self.assertIsNone(self.lease().connection)

    def test_who_gives_up_waiting(self) -> None:
        """A cancelled wait takes no place."""
        first, _ = self.lease(), self.lease()
        one, two = self.pool.take(LINE), self.pool.take(LINE)
        one.cancel()
        self.failureResultOf(one)
        self.pool.give_back(first, None)
        self.successResultOf(two)

    def test_stop(self) -> None:
        """Idle ones get QUIT, who waits is refused, what is in use ends later."""
        idle, transport = self.connection()
        first, second = self.lease(), self.lease()
        self.pool.give_back(first, idle)
        third = self.lease()
        waiting = self.pool.take(LINE)
        stopped = Deferred.fromCoroutine(self.pool.stop())
        self.failureResultOf(waiting, Interrupted)
        self.failureResultOf(self.pool.take(LINE), Interrupted)
        self.successResultOf(stopped)
        for lease in (second, third):
            connection, transport = self.connection()
            self.pool.give_back(lease, connection)
            self.assertEqual(transport.value(), b"QUIT\r\n")

    def test_stop_waits_for_the_end(self) -> None:
        """Stopping is over when the sockets are; one that clings is dropped."""
        connection, transport = self.connection()
        self.pool.give_back(self.lease(), connection)
        stopped = Deferred.fromCoroutine(self.pool.stop())
        self.assertNoResult(stopped)
        self.clock.advance(1)
        self.assertTrue(transport.disconnected)
        connection.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
