"""Who submits: real dialogues over the wire, again and again until an answer is final.

A client believes what it was told and nothing else: a message counts as accepted when
it saw the 250 behind the final dot.
"""

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from typing_extensions import override

from fwd_mta.interfaces import Network
from fwd_mta.mail.reply import Reply
from fwd_mta.net.tls import ClientTlsContext, start_tls
from fwd_mta.simulation.history import History
from fwd_mta.simulation.plan import Submission
from fwd_mta.smtp.replies import ReplyReader

SENDER = "ann@example.com"
PASSWORD = "correct horse"  # noqa: S105 - of the simulated account
SECRET = "what nobody may read for ever"  # noqa: S105 - a mark in contents
_PATIENCE = 900.0
_AGAIN = (60.0, 600.0, 3600.0, 7200.0)
_TRIES = 40
_EHLO = b"EHLO client.example.com\r\n"


class HungUp(Exception):
    """The connection is gone."""


class Mouth(Protocol):
    """A client's end of a connection."""

    def __init__(self, history: History, who: str, clock: IReactorTime) -> None:
        self._history = history
        self._who = who
        self._clock = clock
        self._reader = ReplyReader()
        self._replies: deque[Reply] = deque()
        self._waiting: Deferred[Reply] | None = None
        self._gone = False

    @override
    def dataReceived(self, data: bytes) -> None:
        for reply in self._reader.feed(data):
            self._history.add(self._who, f"S: {reply}")
            waiting, self._waiting = self._waiting, None
            if waiting is None:
                self._replies.append(reply)
            else:
                waiting.callback(reply)

    @override
    def connectionLost(self, reason: object = None) -> None:
        self._gone = True
        self._history.add(self._who, "(the connection is gone)")
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(HungUp())

    def say(self, octets: bytes, *, silent: bool = False) -> None:
        """Send octets, and note the lines but for content."""
        if not silent:
            for line in octets.decode("utf-8", "backslashreplace").splitlines():
                self._history.add(self._who, f"C: {line}")
        self.wire.write(octets)

    @property
    def wire(self) -> Any:
        """The transport."""
        return self.transport

    async def reply(self) -> Reply:
        """The next reply; raises HungUp, also when none comes."""
        if self._replies:
            return self._replies.popleft()
        if self._gone:
            raise HungUp
        self._waiting = Deferred()
        timer = self._clock.callLater(_PATIENCE, self.hang_up)
        try:
            return await self._waiting
        finally:
            if timer.active():
                timer.cancel()

    def hang_up(self) -> None:
        """Cut the connection."""
        self._history.add(self._who, "(hangs up)")
        self.wire.abortConnection()


@dataclass(slots=True)
class Promise:
    """One try to submit: what was offered, and what the client was told.

    `id` is from the 250; without one the client does not know, or was refused.
    """

    mark: str
    submission: Submission
    offered: tuple[str, ...] = ()
    id: str = ""
    at: float = 0.0


@dataclass
class Client:
    """Submits one message until it is taken or refused for good."""

    submission: Submission
    network: Network
    address: str
    clock: IReactorTime
    history: History
    trust: ClientTlsContext | None
    sender: str = SENDER
    promises: list[Promise] = field(default_factory=list)
    is_done: bool = False

    def begin(self) -> None:
        """Begin; it goes on by itself."""
        _ = Deferred.fromCoroutine(self._go_on())

    async def _go_on(self) -> None:
        number = len(self.promises)
        who = f"client{self.submission.number}.{number}"
        promise = Promise(f"m{self.submission.number}.{number}", self.submission)
        self.promises.append(promise)
        final = False
        try:
            final = await self._try(who, promise)
        except HungUp:
            pass
        except Exception as error:  # noqa: BLE001 - connecting fails in many ways
            self.history.add(who, f"({type(error).__name__})")
        if final or number >= _TRIES:
            self.is_done = True
        else:
            self.clock.callLater(_AGAIN[min(number, len(_AGAIN) - 1)], self.begin)

    async def _try(self, who: str, promise: Promise) -> bool:
        """One try; whether its answer is final."""
        mouth = Mouth(self.history, who, self.clock)
        factory: Any = Factory.forProtocol(lambda: mouth)
        port, later = 25, None
        if self.trust is not None:
            creator = self.trust.towards("mail.example.com")
            port = 587 if self.submission.starttls else 465
            if self.submission.starttls:
                later = partial(
                    start_tls, mouth, creator=creator, clock=self.clock, client=True
                )
            else:
                factory = TLSMemoryBIOFactory(creator, True, factory, self.clock)
        await self.network.connect(self.address, port, factory, 30.0, source="10.0.0.9")
        dialogue = _Dialogue(mouth, promise, self.clock.seconds, later, self.sender)
        try:
            return await dialogue.run(authenticates=self.trust is not None)
        finally:
            mouth.wire.loseConnection()


class _Dialogue:
    """One session with one message."""

    def __init__(
        self,
        mouth: Mouth,
        promise: Promise,
        seconds: Callable[[], float],
        encrypt: Callable[..., object] | None,
        sender: str,
    ) -> None:
        self._sender = sender
        self._encrypt = encrypt
        self._mouth = mouth
        self._promise = promise
        self._submission = promise.submission
        self._seconds = seconds
        first = promise.mark.endswith(".0")
        self._cut = promise.submission.cut if first else ""

    async def run(self, *, authenticates: bool) -> bool:
        """Speak; whether the answer is final."""
        mouth = self._mouth
        if not (await mouth.reply()).is_positive:
            return False
        if self._encrypt is not None and not await self._go_under_tls(self._encrypt):
            return False
        for line in self._opening(authenticates=authenticates):
            mouth.say(line)
            if not (await mouth.reply()).is_positive:
                return False
        if self._submission.chunked:
            return await self._in_chunks()
        answers = await self._envelope("DATA")
        taken = tuple(
            address
            for (address, _), answer in zip(
                self._submission.recipients, answers[1:-1], strict=True
            )
            if answer.is_positive
        )
        self._promise.offered = taken
        if answers[-1].code != 354:
            return _is_final(answers)
        return await self._content()

    async def _go_under_tls(self, encrypt: Callable[..., object]) -> bool:
        mouth = self._mouth
        for line in (_EHLO, b"STARTTLS\r\n"):
            mouth.say(line)
            if not (await mouth.reply()).is_positive:
                return False
        _ = encrypt(mouth.wire)
        return True

    async def _in_chunks(self) -> bool:
        """Send by BDAT (RFC 3030), the second chunk with the last octets."""
        mouth = self._mouth
        answers = await self._envelope()
        taken = zip(self._submission.recipients, answers[1:], strict=True)
        self._promise.offered = tuple(
            address for (address, _), answer in taken if answer.is_positive
        )
        if not self._promise.offered:
            return _is_final(answers)
        content = self._written()
        half = len(content) // 2
        mouth.say(f"BDAT {half}\r\n".encode())
        mouth.say(content[:half], silent=True)
        answer = await mouth.reply()
        if not answer.is_positive:
            return answer.is_permanent
        if self._cut in {"half", "DATA"}:
            self._hang_up()
        mouth.say(f"BDAT {len(content) - half} LAST\r\n".encode())
        mouth.say(content[half:], silent=True)
        return await self._end()

    def _opening(self, *, authenticates: bool) -> list[bytes]:
        lines = [_EHLO]
        if authenticates:
            words = b64encode(f"\0{self._sender}\0{PASSWORD}".encode())
            lines.append(b"AUTH PLAIN " + words + b"\r\n")
        return lines

    async def _envelope(self, *more: str) -> list[Reply]:
        """Say MAIL, each RCPT, and perhaps more; their answers."""
        submission, mouth = self._submission, self._mouth
        sender = "" if submission.bounce else self._sender
        asked = " RET=FULL" if submission.full else ""
        asked += f" HOLDFOR={submission.hold:.0f}" if submission.hold else ""
        commands = [f"MAIL FROM:<{sender}>{asked}"]
        for address, notify in submission.recipients:
            asked = f" NOTIFY={notify}" if notify else ""
            commands.append(f"RCPT TO:<{address}>{asked}")
        commands += more
        octets = [f"{command}\r\n".encode() for command in commands]
        if submission.pipelined and not self._cut:
            mouth.say(b"".join(octets))
            return [await mouth.reply() for _ in commands]
        answers = []
        for line in octets:
            mouth.say(line)
            answers.append(await mouth.reply())
            if self._cut and line.startswith(self._cut.encode()):
                self._hang_up()
        return answers

    def _written(self) -> bytes:
        """The message itself; it ends with a line that has to be stuffed, if any."""
        mark = self._promise.mark
        content = (
            f"From: {self._sender}\r\nTo: you@example.net\r\n"
            f"Message-ID: <{mark}@client>\r\nX-Mark: {mark}\r\n"
            f"Subject: {SECRET}\r\n\r\n{SECRET}\r\n"
        ).encode()
        return content + b"a line of a message\r\n.\r\n" * (self._submission.size // 24)

    async def _content(self) -> bool:
        """Send it behind DATA, dots stuffed."""
        mouth = self._mouth
        content = self._written().replace(b"\r\n.", b"\r\n..")
        if self._cut == "half":
            mouth.say(content[: len(content) // 2], silent=True)
            self._hang_up()
        mouth.say(content + b".\r\n", silent=True)
        if self._cut == "DOT":
            self._hang_up()
        return await self._end()

    async def _end(self) -> bool:
        """Hear the last answer; whether it is final."""
        mouth = self._mouth
        if self._cut == "END":
            mouth.wire.loseWriteConnection()
        answer = await mouth.reply()
        if answer.is_positive:
            self._promise.id = answer.text.rpartition(" ")[2]
            self._promise.at = self._seconds()
            mouth.say(b"QUIT\r\n")
        return answer.is_positive or answer.is_permanent

    def _hang_up(self) -> None:
        self._mouth.hang_up()
        raise HungUp


def _is_final(answers: list[Reply]) -> bool:
    """Whether a refusal is for good; behind a refused MAIL the rest says nothing."""
    if not answers[0].is_positive:
        return answers[0].is_permanent
    return any(answer.is_permanent for answer in answers)
