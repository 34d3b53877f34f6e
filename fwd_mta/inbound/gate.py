"""The gate of a session: octets in, replies out, one at a time, in order, bounded.

Twisted's own line receiver goes on to the next line while a reply is still owed, and
bounds neither what it keeps nor what it writes; this takes its place (docs/design.md,
D4 to D6 and D8).
"""

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.mail import smtp
from twisted.python.failure import Failure

from fwd_mta.mail.reply import Reply
from fwd_mta.smtp import replies

LINE_LIMIT = 2048
AUTH_LINE_LIMIT = 12288  # RFC 4954 4
INPUT_LIMIT = 64 * 1024
OUTPUT_LIMIT = 32 * 1024
CLOSE_LIMIT = 10.0

_LINE_TOO_LONG = Reply(500, "5.2", "Line too long")
_AUTH_TOO_LONG = Reply(500, "5.6", "Authentication exchange line is too long")


class Gate:
    """Half a protocol: gives `lineReceived` a line, `take_data` the buffer.

    The next line is not looked at before `respond` was called for the one before it,
    nor while the peer does not read what it was sent. Replies of one group of commands
    leave in one write.
    """

    transport: Any
    mode: str

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.closing = False
        self._input = bytearray()
        self._output = bytearray()
        self._busy = False
        self._pumping = False
        self._blocked = False
        self._said_all = False
        self._holds: set[str] = set()
        self._cut: IDelayedCall | None = None
        self._alarm: IDelayedCall | None = None
        self._rings_at = 0.0
        self._deadline: float | None = None

    # What a session does with it

    @property
    def pending(self) -> int:
        """Octets that came and were not looked at yet."""
        return len(self._input)

    def send(self, octets: bytes) -> None:
        """Add to what leaves with the next write; more of the same reply follows."""
        self._output += octets

    def respond(self, octets: bytes) -> None:
        """Answer the command that was given last, and let the next one in."""
        if self.closing:
            return
        self._output += octets
        self._busy = False
        if not self._pumping:
            self._pump()

    def close(self, reply: Reply | None = None) -> None:
        """Say the last word and hang up; a peer that does not read it is cut off."""
        if self.closing:
            return
        if reply is not None:
            self.send(replies.write(reply))
        self._flush()
        self._stop_listening()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._cut = self.clock.callLater(CLOSE_LIMIT, self.transport.abortConnection)

    def setTimeout(self, seconds: float | None) -> None:
        """Let `timeoutConnection` be called after so many seconds, or not at all.

        One delayed call serves many lines: it looks when it rings whether it is time.
        """
        if seconds is None:
            self._deadline = None
            return
        at = self._deadline = self.clock.seconds() + seconds
        if self._alarm is None:
            self._alarm = self.clock.callLater(seconds, self._ring)
        elif at < self._rings_at:
            self._alarm.reset(seconds)
        else:
            return
        self._rings_at = at

    def hold_reading(self, reason: str) -> None:
        """Read no more from the client until `release_reading` for the same reason."""
        if not self._holds and not self.closing:
            self.transport.pauseProducing()
        self._holds.add(reason)

    def release_reading(self, reason: str) -> None:
        """Read on, unless there is another reason not to."""
        if reason not in self._holds:
            return
        self._holds.remove(reason)
        if not self._holds and not self.closing:
            self.transport.resumeProducing()

    # What a session gives

    def lineReceived(self, line: bytes) -> None:
        """Obey one line; must end in one `respond` or `close`, now or later."""
        raise NotImplementedError

    def take_data(self, buffer: bytearray) -> bool:
        """Take mail data from the buffer; whether there is more to be done with it."""
        raise NotImplementedError

    def broken(self, failure: Failure) -> None:
        """An exception came out of a line or chunk: end this session."""
        raise NotImplementedError

    def timeoutConnection(self) -> None:
        """The time that was set is over."""
        raise NotImplementedError

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        """Octets from the client."""
        if self.closing:
            return
        self._input += data
        if not self._pumping:
            self._pump()

    def readConnectionLost(self) -> None:
        """The client says no more but still listens: it hears every answer first."""
        self._said_all = True
        self._leave_when_answered()

    def writeConnectionLost(self) -> None:
        """We never close one side alone."""

    def pauseProducing(self) -> None:
        """The client does not read its replies: let no more commands in.

        Reading goes on until the buffer is full, or a TLS handshake would stall.
        """
        self._blocked = True

    def resumeProducing(self) -> None:
        """The client reads again."""
        self._blocked = False
        self._pump()

    def stopProducing(self) -> None:
        """The connection is gone; `connectionLost` follows."""
        self._blocked = True

    # The inside

    def open_gate(self) -> None:
        """Begin: the connection is made."""
        self.transport.registerProducer(self, True)

    def shut_gate(self) -> None:
        """End: the connection is lost."""
        self.closing = True
        self._input.clear()
        for timer in (self._cut, self._alarm):
            if timer is not None and timer.active():
                timer.cancel()

    def _ring(self) -> None:
        self._alarm, deadline = None, self._deadline
        if deadline is None or self.closing:
            return
        left = deadline - self.clock.seconds()
        if left > 0:
            self.setTimeout(left)
        else:
            self._deadline = None
            self.timeoutConnection()

    def _stop_listening(self) -> None:
        self.closing = True
        self._input.clear()
        if self._holds:
            self.transport.resumeProducing()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            # in this order: most often there is nothing more
            while self._input and not (self._busy or self._blocked or self.closing):
                in_data = self.mode == smtp.DATA
                if not (self.take_data(self._input) if in_data else self._take_line()):
                    break
                if len(self._output) > OUTPUT_LIMIT:
                    self._flush()
        except Exception:  # noqa: BLE001 - one session ends, never the reactor (P6)
            self.broken(Failure())
        finally:
            self._pumping = False
        if self._output:
            self._flush()
        if self._holds or len(self._input) > INPUT_LIMIT:
            self._flow()
        if self._said_all:
            self._leave_when_answered()

    def _leave_when_answered(self) -> None:
        if self._said_all and not (self._busy or self._blocked):
            self.close()

    def _take_line(self) -> bool:
        """Give the next line on; False if it is not there yet, or is too long."""
        end = self._input.find(b"\r\n", 0, LINE_LIMIT + 2)
        if end < 0 and (end := self._end_of_long_line()) < 0:
            return False
        line = bytes(self._input[:end])
        del self._input[: end + 2]
        self._busy = True
        self.lineReceived(line)
        return True

    def _end_of_long_line(self) -> int:
        """Where a line ends that is over the usual limit, as in AUTH; else -1."""
        is_auth = self.mode == smtp.AUTH or self._input[:5].upper() == b"AUTH "
        limit = AUTH_LINE_LIMIT if is_auth else LINE_LIMIT
        end = self._input.find(b"\r\n", 0, limit + 2) if is_auth else -1
        if end < 0 and len(self._input) > limit + 1:
            self.close(_AUTH_TOO_LONG if is_auth else _LINE_TOO_LONG)
        return end

    def _flush(self) -> None:
        if self._output and not self.closing:
            octets, self._output = bytes(self._output), bytearray()
            self.transport.write(octets)

    def _flow(self) -> None:
        if self.closing:
            return
        if len(self._input) > INPUT_LIMIT:
            self.hold_reading("input")
        else:
            self.release_reading("input")
