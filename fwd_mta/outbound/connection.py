"""One SMTP connection to a peer: what was asked, what was answered, and in time.

Replies are matched to commands in order, each under one deadline of its own. What a
peer says unasked or beyond the limits makes the connection unusable at once: nothing is
ever read as the answer to a later command.
"""

from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import TlsFacts
from fwd_mta.net.tls import ClientTls, start_tls, tls_facts
from fwd_mta.smtp.extensions import Offered
from fwd_mta.smtp.replies import ReplyReader


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each answer may take, in seconds (RFC 5321 4.5.3.2).

    `data_block` is for the peer to make room for more content, `data_done` for the
    reply to the final dot, `quit` for a connection to close after QUIT.
    """

    connect: float = 30.0
    greeting: float = 300.0
    helo: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data_init: float = 120.0
    data_block: float = 180.0
    data_done: float = 600.0
    quit: float = 30.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong without an answer; `kind` is a word `RuleTable.trouble` knows.

    `reply`: what the peer said out of turn, when that was a refusal.
    """

    kind: str
    detail: str
    reply: Reply | None = None


class Broken(Exception):
    """The connection is of no more use; `trouble` says why."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.kind, trouble.detail)
        self.trouble = trouble


class Expected:
    """A reply that is to come; `seconds` it may take, once it is the next one due.

    `outcome` is the reply, or what came instead, once that is known; `heard` is called
    then, if somebody waits. While it is `held`, nobody hears of it: what follows may
    show that it was the answer to something else.
    """

    __slots__ = ("heard", "held", "outcome", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.outcome: Reply | Trouble | None = None
        self.held = False
        self.heard: Callable[[Reply | Trouble], None] | None = None

    def wake(self) -> None:
        """Go on with whoever waits for what is settled."""
        heard, self.heard = self.heard, None
        if heard is not None and self.outcome is not None:
            heard(self.outcome)

    def then(self, heard: Callable[[Reply | Trouble], None]) -> None:
        """Call when it is there; at once if it is."""
        self.heard = heard
        if self.outcome is not None and not self.held:
            self.wake()

    async def reply(self) -> Reply:
        """Wait for it; raises Broken. To be awaited once."""
        if self.outcome is None or self.held:
            waiting: Deferred[Reply | Trouble] = Deferred()
            self.heard = waiting.callback
            outcome = await waiting
        else:
            outcome = self.outcome
        if isinstance(outcome, Trouble):
            raise Broken(outcome)
        return outcome


@implementer(IHandshakeListener, IPushProducer)
class Connection(Protocol):
    """The client's side of SMTP or LMTP over one transport.

    `offered` is what the last EHLO answer offers, `tls` and `tls_fault` what the
    handshake gave (`tls_fault`: why the name is not proved, None if it is).
    """

    transport: Any

    def __init__(self, hostname: str, timeouts: Timeouts, clock: IReactorTime) -> None:
        self.hostname = hostname
        self.timeouts = timeouts
        self.offered = Offered.none()
        self.tls: TlsFacts | None = None
        self.tls_fault: str | None = None
        self.messages = 0
        self.needs_reset = False
        self.trouble: Trouble | None = None
        self.on_trouble: Callable[[], None] | None = None
        self._clock = clock
        self._reader = ReplyReader()
        self._expected: deque[Expected] = deque()
        self._timer: IDelayedCall | None = None
        self._deadline = self._rings_at = 0.0
        self._look_every = min(
            timeouts.greeting,
            timeouts.helo,
            timeouts.mail,
            timeouts.rcpt,
            timeouts.data_init,
            timeouts.data_done,
        )
        self._corked: list[bytes] | None = None
        self._held: Expected | None = None
        self._group: tuple[Expected, ...] = ()
        self._greeting = Expected(timeouts.greeting)
        self._creator: ClientTls | None = None
        self._handshake: Deferred[Trouble | None] | None = None
        self._paused: Deferred[None] | None = None
        self._is_gone = False
        self._mourners: list[Deferred[None]] = []

    @property
    def usable(self) -> bool:
        """Whether a new transaction can begin."""
        return self.trouble is None and not self._expected

    def tls_in_words(self, why: str) -> str | None:
        """What the TLS of this connection is, and why so much is asked of it."""
        if self.tls is None:
            return None
        proved = "verified" if self.tls.verified else "not verified"
        return f"{self.tls}, {proved}{f' ({why})' if why else ''}"

    # What Twisted tells us

    @override
    def connectionMade(self) -> None:
        # Registered before anything can arrive: the greeting comes unasked.
        self._expect(self._greeting)

    @override
    def dataReceived(self, data: bytes) -> None:
        if self.trouble is not None:
            return
        try:
            replies = self._reader.feed(data)
        except SyntaxFault as fault:
            self._break(Trouble("protocol", str(fault)))
            return
        expected, due = self._expected, []
        # All are settled before the first is heard: a group wakes its reader once.
        for reply in replies[: len(expected)]:
            due.append(expected.popleft())
            due[-1].outcome = reply
        # The verdict on what else came falls before any answer is acted on (D2): code
        # that an answer wakes must not send a command that is answered already.
        self._judge_rest(replies[len(due) :], behind=bool(due))
        if due and self._expected:
            self._watch()  # never for a mere part: one deadline a reply, not a read
        released = self._released()
        for each in due:
            if each.heard is not None and not each.held:
                each.wake()
        if released is not None:
            released.wake()

    def _judge_rest(self, unasked: Sequence[Reply], *, behind: bool) -> None:
        if unasked:
            self._break(_out_of_turn(unasked[0], behind=behind))
            return
        if self._reader.fault is not None:
            self._break(Trouble("protocol", self._reader.fault))
            return
        if not self._expected and self._reader.pending:
            words = self._reader.pending[:80].decode("ascii", "replace")
            self._break(Trouble("protocol", f"the host spoke out of turn: {words!r}"))

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        kind = "connection-lost" if self._handshake is None else "tls-failed"
        self._is_gone = True
        self._break(Trouble(kind, _words(reason.value)))
        self._no_timer()
        mourners, self._mourners = self._mourners, []
        for each in mourners:
            each.callback(None)

    def handshakeCompleted(self) -> None:
        """Note what the handshake gave; nothing was sent over it yet."""
        facts = tls_facts(self.transport)
        creator = self._creator
        if facts is None or creator is None or self._handshake is None:
            return
        self.tls_fault = _fault(creator, self.transport)
        proved = None if self.tls_fault is not None else creator.name
        self.tls = replace(facts, verified=proved)
        handshake, self._handshake = self._handshake, None
        handshake.callback(None)

    # Sending and hearing

    def send(self, octets: bytes, *seconds: float) -> list[Expected]:
        """Write octets and expect replies to them, each in so many seconds."""
        if self.trouble is not None:
            raise Broken(self.trouble)
        is_next = not self._expected
        expected = [Expected(each) for each in seconds]
        self._expected += expected
        if is_next and expected:
            self._watch()
        if self._corked is None:
            self.transport.write(octets)
        else:
            self._corked.append(octets)
        return expected

    def send_last(
        self, octets: bytes, seconds: float, others: Callable[[], None]
    ) -> Expected:
        """Write the end of a message, and in the same write what `others` send.

        The last dot ends a group of commands, and the next group may follow it
        directly (RFC 2920 3.1). The answer to the dot is then held until that group is
        answered too: were one answer missing or one too many, it could be the answer to
        something else.
        """
        if self.trouble is not None:
            raise Broken(self.trouble)
        last = Expected(seconds)
        self._expect(last)
        corked = self._corked = [octets]
        others()
        self._corked = None
        if not self._expected:
            return last  # the others broke the connection
        if len(self._expected) > 1:
            self._held, self._group = last, tuple(self._expected)[1:]
            last.held = True
        self.transport.write(b"".join(corked) if len(corked) > 1 else octets)
        return last

    def _released(self) -> Expected | None:
        """The answer to a dot that is held no more: the next group is answered.

        If those answers cannot be for it, nobody knows whose they are.
        """
        held, group = self._held, self._group
        if held is None or group[0].outcome is None:
            return None
        odd = next((one for one in group if not _fits(one, group)), None)
        if odd is not None and self.trouble is None:
            self._break(Trouble("protocol", f"a group was answered with {odd.outcome}"))
            return None
        if group[-1].outcome is None:
            return None
        self._held, self._group, held.held = None, (), False
        return held

    async def say(self, line: bytes, seconds: float) -> Reply:
        """Send one command and wait for its reply; raises Broken."""
        (expected,) = self.send(line + b"\r\n", seconds)
        return await expected.reply()

    def _expect(self, expected: Expected) -> None:
        self._expected.append(expected)
        if len(self._expected) == 1:
            self._watch()

    def _watch(self) -> None:
        """Note when the reply that is next must be there, from when it became next.

        One timer looks whether it is time. It rings as often as the shortest of the
        usual waits is long, so it is hardly ever set anew.
        """
        seconds = self._expected[0].seconds
        now = self._clock.seconds()
        self._deadline = now + seconds
        if self._timer is None:
            self._look_in(min(seconds, self._look_every))
        elif self._deadline < self._rings_at:
            self._timer.reset(seconds)
            self._rings_at = self._deadline

    def _look_in(self, seconds: float) -> None:
        self._rings_at = self._clock.seconds() + seconds
        self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._expected or self.trouble is not None:
            return
        left = self._deadline - self._clock.seconds()
        if left > 0:
            self._look_in(min(left, self._look_every))
            return
        seconds = self._expected[0].seconds
        self._break(Trouble("timeout", f"no reply within {seconds:g} seconds"))

    def _no_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _break(self, trouble: Trouble) -> None:
        """Give the connection up, once; whoever waits is told."""
        if self.trouble is not None:
            return
        self.trouble = trouble
        self._no_timer()
        if not self._is_gone:
            self.transport.abortConnection()
        held = self._let_go(trouble)
        expected, self._expected = self._expected, deque()
        for each in expected:
            each.outcome = trouble
        if held is not None:
            held.wake()
        for each in expected:
            each.wake()
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.callback(trouble)
        self.resumeProducing()
        if self.on_trouble is not None:
            self.on_trouble()

    def _let_go(self, trouble: Trouble) -> Expected | None:
        """The held answer to a dot, if any: it stands, unless answers do not fit.

        Then it is as unknown as the others, and what came for the next group counts
        for nothing.
        """
        held, group = self._held, self._group
        self._held, self._group = None, ()
        if held is None:
            return None
        held.held = False
        if held.outcome is None:
            return None
        begun = group[0].outcome is not None
        if trouble.kind == "protocol" or (trouble.kind == "timeout" and begun):
            held.outcome = trouble
            for each in group:
                each.outcome = trouble
        return held

    # The dialogue's fixed parts

    async def greeting(self) -> Reply:
        """Wait for the greeting; raises Broken. To be awaited once."""
        return await self._greeting.reply()

    async def hello(self, *, lmtp: bool = False) -> Reply:
        """Say EHLO, or HELO to whoever refuses that (RFC 5321 3.2), or LHLO."""
        name = self.hostname.encode("ascii", "replace")
        self.offered = Offered.none()
        verb = b"LHLO " if lmtp else b"EHLO "
        reply = await self.say(verb + name, self.timeouts.helo)
        if reply.is_positive:
            self.offered = Offered.parse(reply)
        elif reply.is_permanent and not lmtp:
            return await self._older_hello(name, reply)
        return reply

    async def _older_hello(self, name: bytes, refusal: Reply) -> Reply:
        try:
            return await self.say(b"HELO " + name, self.timeouts.helo)
        except Broken:
            return refusal  # its words tell more than the hang-up after them

    async def start_tls(self, creator: ClientTls) -> Reply:
        """Say STARTTLS and, on 220, shake hands; raises Broken ("tls-failed")."""
        reply = await self.say(b"STARTTLS", self.timeouts.helo)
        if reply.code == 220:
            await self.shake_hands(creator)
        return reply

    async def shake_hands(self, creator: ClientTls) -> None:
        """Put TLS under this connection; what was offered in clear is forgotten.

        Nothing can be left from before: whatever came behind the 220 broke the
        connection already (D2).
        """
        if self.trouble is not None:
            raise Broken(self.trouble)
        self.offered = Offered.none()
        self._creator = creator
        waiting: Deferred[Trouble | None] = Deferred()
        self._handshake = waiting
        late = Trouble("tls-failed", "the TLS handshake took too long")
        timer = self._clock.callLater(self.timeouts.helo, self._break, late)
        start_tls(self, self.transport, creator, self._clock, client=True)
        trouble = await waiting
        if timer.active():
            timer.cancel()
        if trouble is not None:
            raise Broken(trouble)

    async def log_in(self, login: str, password: str) -> Reply:
        """Prove who we are, by PLAIN or LOGIN; never without a verified certificate."""
        if self.tls is None or self.tls.verified is None:
            detail = f"no password is sent: {self.tls_fault or 'there is no TLS'}"
            raise Broken(Trouble("tls-required", detail))
        name, secret = login.encode(), password.encode()
        if "PLAIN" in self.offered.auth:
            plain = b64encode(b"\0" + name + b"\0" + secret)
            return await self.say(b"AUTH PLAIN " + plain, self.timeouts.helo)
        if "LOGIN" not in self.offered.auth:
            detail = "the host offers neither AUTH PLAIN nor AUTH LOGIN"
            raise Broken(Trouble("protocol", detail))
        reply = await self.say(b"AUTH LOGIN", self.timeouts.helo)
        for answer in (name, secret):
            if reply.code != 334:
                return reply
            reply = await self.say(b64encode(answer), self.timeouts.helo)
        return reply

    # Content

    async def stream(self, pieces: AsyncIterator[bytes]) -> None:
        """Write pieces as fast as the peer takes them; raises Broken."""
        if self.trouble is not None:
            raise Broken(self.trouble)
        self.transport.registerProducer(self, True)
        try:
            async for piece in pieces:
                self.send(piece)
                await self._room()
        finally:
            if not self._is_gone:
                self.transport.unregisterProducer()

    async def _room(self) -> None:
        if self._paused is not None:
            late = Trouble("timeout", "the host takes no more of the content")
            seconds = self.timeouts.data_block
            timer = self._clock.callLater(seconds, self._break, late)
            await self._paused
            if timer.active():
                timer.cancel()

    def pauseProducing(self) -> None:
        """Hold the content back: the peer does not read."""
        if self._paused is None and self.trouble is None:
            self._paused = Deferred()

    def resumeProducing(self) -> None:
        """Go on with the content."""
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stopProducing(self) -> None:
        """Go on, to find out that nobody listens."""
        self.resumeProducing()

    # The end

    def abort(self) -> None:
        """Drop the connection at once."""
        self._break(Trouble("connection-lost", "given up by this side"))

    def leave(self, seconds: float | None = None) -> Deferred[None]:
        """Say QUIT, wait for no answer, close; fires when the socket is gone.

        After so many seconds it is dropped however the peer behaves.
        """
        if self.trouble is None and self._expected:
            self.abort()
        elif self.trouble is None:
            self.trouble = Trouble("connection-lost", "closed by this side")
            self._no_timer()
            wait = self.timeouts.quit if seconds is None else seconds
            self._timer = self._clock.callLater(wait, self.transport.abortConnection)
            self.transport.write(b"QUIT\r\n")
            self.transport.loseConnection()
        return self.gone()

    def gone(self) -> Deferred[None]:
        """Fires when the socket is closed."""
        waiting: Deferred[None] = Deferred()
        if self._is_gone:
            waiting.callback(None)
        else:
            self._mourners.append(waiting)
        return waiting


def _fits(answer: Expected, group: Sequence[Expected]) -> bool:
    """Whether an answer can be one: only DATA, the last of a group, is answered 3yz."""
    if not isinstance(answer.outcome, Reply):
        return True
    digit = answer.outcome.code // 100
    return digit in {3, 4, 5} if answer is group[-1] else digit != 3


def _out_of_turn(reply: Reply, *, behind: bool) -> Trouble:
    """An answer to nothing. In one breath with another one it is no refusal either."""
    is_refusal = not behind and (reply.is_temporary or reply.is_permanent)
    refusal = reply if is_refusal else None
    return Trouble("protocol", f"the host spoke out of turn: {reply}", refusal)


def _fault(creator: ClientTls, transport: Any) -> str | None:
    try:
        return creator.fault(transport)
    except Exception as fault:  # noqa: BLE001 - certificates hold whatever they hold
        return f"the certificate cannot be judged: {fault}"


def _words(reason: BaseException | None) -> str:
    if isinstance(reason, SSL.Error) and reason.args and reason.args[0]:
        said = reason.args[0]
        return str(said[0][-1]) if isinstance(said, list) else str(said)
    if isinstance(reason, error.ConnectionDone):
        return "closed by the host"
    return str(reason)
