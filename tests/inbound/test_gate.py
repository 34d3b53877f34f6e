"""Tests for the gate by itself: lines, chunks, holds and the last word."""

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.mail import smtp
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.inbound.gate import AUTH_LINE_LIMIT, INPUT_LIMIT, LINE_LIMIT, Gate
from fwd_mta.mail.reply import Reply
from tests.inbound.bench import Transport


class Session(Gate):
    """A session that notes its lines and answers when the test says so."""

    def __init__(self) -> None:
        super().__init__(Clock())
        self.mode = smtp.COMMAND
        self.transport = Transport(IPv4Address("TCP", "192.0.2.7", 1))
        self.lines: list[bytes] = []
        self.failures: list[Failure] = []
        self.open_gate()

    @override
    def lineReceived(self, line: bytes) -> None:
        if line == b"BUG":
            raise ZeroDivisionError
        self.lines.append(line)

    @override
    def take_data(self, buffer: bytearray) -> bool:
        self.lines.append(bytes(buffer))
        buffer.clear()
        return False

    @override
    def broken(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.close(Reply(421, "3.0", "Broken"))


class GateTests(SynchronousTestCase):
    """One line at a time; everything has a bound."""

    @override
    def setUp(self) -> None:
        """A session in command mode."""
        self.session = Session()
        self.transport = self.session.transport

    def test_one_at_a_time(self) -> None:
        """The second line waits for the first one's reply."""
        self.session.dataReceived(b"one\r\ntwo\r\nthr")
        self.assertEqual(self.session.lines, [b"one"])
        self.session.respond(b"250 Ok\r\n")
        self.assertEqual(self.session.lines, [b"one", b"two"])
        self.session.respond(b"250 Ok\r\n")
        self.assertEqual(self.session.lines, [b"one", b"two"])
        self.assertEqual(self.session.pending, 3)
        self.assertEqual(self.transport.value(), b"250 Ok\r\n" * 2)

    def test_line_limit(self) -> None:
        """A line may have 2048 octets before its CRLF, and not one more."""
        self.session.dataReceived(b"x" * LINE_LIMIT + b"\r\n")
        self.assertEqual(len(self.session.lines[0]), LINE_LIMIT)
        self.session.respond(b"")
        self.session.dataReceived(b"x" * (LINE_LIMIT + 1) + b"\r\n")
        self.assertEqual(len(self.session.lines), 1)
        self.assertIn(b"500 5.5.2", self.transport.value())
        self.assertTrue(self.session.closing)

    def test_auth_line_limit(self) -> None:
        """An AUTH line may have more, as a command and as a response."""
        line = b"auth PLAIN ".ljust(AUTH_LINE_LIMIT, b"A")
        self.session.dataReceived(line + b"\r\n")
        self.session.respond(b"")
        self.session.mode = smtp.AUTH
        self.session.dataReceived(b"B" * AUTH_LINE_LIMIT + b"\r\n")
        self.session.respond(b"")
        self.assertEqual(len(self.session.lines), 2)
        self.session.dataReceived(b"C" * (AUTH_LINE_LIMIT + 2))
        self.assertIn(b"500 5.5.6", self.transport.value())

    def test_data_mode(self) -> None:
        """In DATA the buffer goes to the reader, not to the lines."""
        self.session.mode = smtp.DATA
        self.session.dataReceived(b"no line end")
        self.assertEqual(self.session.lines, [b"no line end"])

    def test_input_is_bounded(self) -> None:
        """What comes while a reply is owed pauses the client, until it is answered."""
        self.session.dataReceived(b"one\r\n" + b"x" * INPUT_LIMIT)
        self.assertEqual(self.transport.producerState, "producing")
        self.session.dataReceived(b"x")
        self.assertEqual(self.transport.producerState, "paused")
        self.session.mode = smtp.DATA
        self.session.respond(b"")
        self.assertEqual(self.transport.producerState, "producing")

    def test_two_reasons_to_hold(self) -> None:
        """Reading goes on when the last reason is gone, not before."""
        for reason in ("disk", "input"):
            self.session.hold_reading(reason)
        self.session.release_reading("disk")
        self.session.release_reading("disk")
        self.assertEqual(self.transport.producerState, "paused")
        self.session.release_reading("input")
        self.assertEqual(self.transport.producerState, "producing")

    def test_exception(self) -> None:
        """An exception in a line is the end of the session, in good order."""
        self.session.dataReceived(b"BUG\r\nNOOP\r\n")
        [failure] = self.session.failures
        self.assertIsNotNone(failure.check(ZeroDivisionError))
        self.assertEqual(self.transport.value(), b"421 4.3.0 Broken\r\n")
        self.assertEqual(self.session.lines, [])

    def test_nothing_after_the_last_word(self) -> None:
        """After `close` nothing is read, answered or said twice."""
        self.session.close(Reply(221, "0.0", "Bye"))
        self.session.close(Reply(221, "0.0", "Bye"))
        self.session.dataReceived(b"NOOP\r\n")
        self.session.respond(b"250 Ok\r\n")
        self.session.resumeProducing()
        self.assertEqual(self.transport.value(), b"221 2.0.0 Bye\r\n")
        self.assertEqual(self.session.lines, [])
        self.assertIsNone(self.transport.producer)

    def test_closed_while_held(self) -> None:
        """A session that ends while its client is paused reads on, to see it go."""
        self.session.hold_reading("disk")
        self.session.close()
        self.assertEqual(self.transport.producerState, "producing")
        self.session.release_reading("disk")
        self.session.hold_reading("disk")
        self.assertEqual(self.transport.producerState, "producing")
