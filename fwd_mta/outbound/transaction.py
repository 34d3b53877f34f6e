"""One mail transaction over a connection: envelope, content, an answer for each.

Each recipient gets its own verdict. No content goes out before a recipient is taken,
and from the moment the final dot is handed over the outcome is unknown until a
well-formed reply says otherwise (P2).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import Stage
from fwd_mta.mail.envelope import Body, Envelope, Recipient
from fwd_mta.mail.errors import Interrupted, StoreError
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.outbound.connection import Broken, Connection, Expected, Trouble
from fwd_mta.smtp.commands import mail_command, rcpt_command
from fwd_mta.smtp.data import DotEncoder
from fwd_mta.smtp.extensions import Offered

RECIPIENT_LIMIT = 50
PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Letter:
    """What is to be sent, however many transactions it takes."""

    envelope: Envelope
    message: Message
    before_dot: Callable[[Sequence[Recipient]], Awaitable[None]]
    lmtp: bool = False

    @property
    def requires_tls(self) -> bool:
        """Whether it may go to hosts only that promise TLS all the way (RFC 8689).

        A mail store of ours is the end of the way.
        """
        return self.envelope.require_tls and not self.lmtp


@dataclass(frozen=True, slots=True)
class Heard:
    """What a transaction came to for one recipient: a reply, or a trouble without.

    With a positive `reply` at stage DOT the peer took responsibility.
    """

    stage: Stage
    reply: Reply | None = None
    trouble: Trouble | None = None
    in_doubt: bool = False


def lacking(letter: Letter, recipient: Recipient, offered: Offered) -> Trouble | None:
    """What a host would have to offer for this recipient and does not."""
    if offered.size is not None and letter.message.size > offered.size:
        detail = f"{letter.message.size} octets, at most {offered.size} are taken"
        return Trouble("size", detail)
    if letter.requires_tls and not offered.offers("REQUIRETLS"):
        return Trouble("requiretls", "REQUIRETLS is not offered")
    if not offered.offers("SMTPUTF8"):
        if not letter.message.head.isascii():
            return Trouble("smtputf8-header", "SMTPUTF8 is not offered")
        if _needs_utf8(letter.envelope.reverse_path) or _needs_utf8(recipient.mailbox):
            return Trouble("smtputf8", "SMTPUTF8 is not offered")
    if is_8bit(letter) and not offered.offers("8BITMIME"):
        return Trouble("8bit", "8BITMIME is not offered")
    return None


def is_8bit(letter: Letter) -> bool:
    """Whether the content really has octets over 127, as far as we can see."""
    if not letter.message.head.isascii():
        return True
    if isinstance(letter.message.body, bytes):
        return not letter.message.body.isascii()
    return letter.envelope.body is Body.EIGHT_BIT


def _needs_utf8(mailbox: Mailbox | None) -> bool:
    if mailbox is None or mailbox.is_ascii:
        return False
    return not mailbox.as_ascii.is_ascii


class Transaction:
    """One transaction; afterwards `heard` and `left` hold every recipient.

    `left`: refused as too many behind others that were taken (RFC 5321 4.5.3.1.10),
    so they go into a new transaction at once. `stale`: not even MAIL was answered.
    `is_clean`: every recipient was taken, and so was the message.
    """

    def __init__(self, connection: Connection, letter: Letter) -> None:
        self.heard: dict[Recipient, Heard] = {}
        self.left: dict[Recipient, Reply] = {}
        self.stale = True
        self.is_clean = False
        self._connection = connection
        self._letter = letter
        self._stage = Stage.MAIL
        self._recipients: Sequence[Recipient] = ()
        self._accepted: list[Recipient] = []
        self._farewell: Reply | None = None
        self._in_one_go = False
        self._answers: list[Expected] = []
        self._others: Callable[[], None] = _nobody
        self._ended: Callable[[BaseException | None], None] = _nothing

    async def run(self, recipients: Sequence[Recipient]) -> None:
        """Send to these, at most 50; raises Interrupted, then they were not tried."""
        self._recipients = recipients
        await self._in_order(self._run())

    async def _run(self) -> None:
        await self._reset()
        await self._envelope()
        if self._accepted:
            await self._content()

    async def _in_order(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, or its rest; whatever becomes of it, each is accounted for."""
        try:
            await work
        except Broken as broken:
            self._break_off(broken.trouble)
        except StoreError as error:
            self._connection.abort()
            detail = f"the message could not be read or noted: {error}"
            self._break_off(Trouble("interrupted", detail))
        except Interrupted:
            self._connection.abort()
            raise
        if self._farewell is not None:
            self._connection.abort()  # a host that said 421 closes (RFC 5321 3.8)

    async def _reset(self) -> None:
        connection = self._connection
        if connection.needs_reset:
            reply = await connection.say(b"RSET", connection.timeouts.mail)
            self._note(reply)
            if not reply.is_positive:
                raise Broken(Trouble("connection-lost", f"RSET was answered {reply}"))
        connection.needs_reset = True

    @property
    def was_broken(self) -> bool:
        """Whether the connection failed, or was not in order, before the end."""
        return any(one.trouble is not None for one in self.heard.values())

    # The straight way: plain calls while all goes well, else a coroutine takes over

    def begin(
        self,
        recipients: Sequence[Recipient],
        others: Callable[[], None],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        """As `run`, and `ended` is called with what that would raise.

        Only where the peer offers PIPELINING, needs no RSET, and the message is small
        and in memory. `others` may send what is to leave together with the last dot.
        """
        self._recipients, self._others, self._ended = recipients, others, ended
        self._connection.needs_reset = True
        try:
            self._send_envelope()
        except Broken as broken:
            self._take_over(_raising(broken))
        else:
            self._answers[-1].then(self._answered)

    def _answered(self, _: object) -> None:
        """Go on with the content, if everything was answered as everybody hopes."""
        if not _as_hoped(self._answers):
            self._take_over(self._rest())
            return
        self._accepted += self._recipients
        self._stage, self.stale, self._in_one_go = Stage.DATA, False, False
        try:
            noted = self._letter.before_dot(self._recipients)
        except Interrupted as why:
            self._take_over(_raising(why))
            return
        if not isinstance(noted, Deferred):
            noted = Deferred.fromCoroutine(_awaited(noted))
        _ = noted.addCallbacks(self._noted, self._not_noted)

    def _noted(self, _: object) -> None:
        connection, encoder = self._connection, DotEncoder()
        message = self._letter.message
        body = message.body if isinstance(message.body, bytes) else b""
        octets = encoder.feed(b"\r\n".join((message.head, body))) + encoder.end()
        connection.messages += 1
        connection.needs_reset = False
        try:
            last = connection.send_last(
                octets, connection.timeouts.data_done, self._others
            )
        except Broken as broken:
            self._take_over(_raising(broken))
            return
        self._stage = Stage.DOT
        last.then(self._dot_answered)

    def _not_noted(self, failure: Failure) -> None:
        self._take_over(_raising(failure.value))

    def _dot_answered(self, outcome: Reply | Trouble) -> None:
        if not (isinstance(outcome, Reply) and outcome.is_positive):
            self._take_over(self._unhappy_end(outcome))
            return
        heard = Heard(Stage.DOT, outcome)
        for each in self._accepted:
            self.heard[each] = heard
        self.is_clean = True
        self._ended(None)

    async def _unhappy_end(self, outcome: Reply | Trouble) -> None:
        if isinstance(outcome, Trouble):
            raise Broken(outcome)
        self._judge_dot(self._accepted, outcome)

    async def _rest(self) -> None:
        await self._judge_answers()
        if self._accepted:
            await self._content()

    def _take_over(self, rest: Coroutine[Any, Any, None]) -> None:
        """Let a coroutine do the rest."""
        done = Deferred.fromCoroutine(self._in_order(rest))
        _ = done.addCallbacks(self._ended, lambda failure: self._ended(failure.value))

    # The envelope

    def _commands(self) -> list[bytes]:
        letter, offered = self._letter, self._connection.offered
        is_utf8 = self._needs_utf8()
        body = Body.EIGHT_BIT if is_8bit(letter) else letter.envelope.body
        envelope = letter.envelope
        if envelope.smtputf8 is not is_utf8 or envelope.body is not body:
            envelope = replace(envelope, smtputf8=is_utf8, body=body)
        dsn = "DSN" in offered.names
        return [
            mail_command(envelope, offered, letter.message.size),
            *(rcpt_command(each, dsn=dsn, utf8=is_utf8) for each in self._recipients),
        ]

    def _needs_utf8(self) -> bool:
        letter = self._letter
        if not letter.message.head.isascii() or _needs_utf8(
            letter.envelope.reverse_path
        ):
            return True
        for each in self._recipients:  # noqa: SIM110 - for each message
            if _needs_utf8(each.mailbox):
                return True
        return False

    async def _envelope(self) -> None:
        commands = self._commands()
        if self._connection.offered.offers("PIPELINING"):
            await self._pipelined(commands)
        else:
            await self._in_lock_step(commands)

    async def _pipelined(self, commands: list[bytes]) -> None:
        """Send envelope and DATA in one go, then read all answers (RFC 2920 3.1)."""
        self._send_envelope(commands)
        await self._judge_answers()

    def _send_envelope(self, commands: list[bytes] | None = None) -> None:
        timeouts = self._connection.timeouts
        waits = [timeouts.mail, *[timeouts.rcpt] * len(self._recipients)]
        self._in_one_go = True
        octets = b"".join(commands or self._commands()) + b"DATA\r\n"
        self._answers = self._connection.send(octets, *waits, timeouts.data_init)

    async def _judge_answers(self) -> None:
        timeouts = self._connection.timeouts
        mail, *rcpts, data = self._answers
        is_open = self._judge_mail(await mail.reply())
        for recipient, rcpt in zip(self._recipients, rcpts, strict=True):
            reply = await rcpt.reply()
            if is_open:
                self._judge_rcpt(recipient, reply)
        hoped, answer = bool(self._accepted), await data.reply()
        wants_content = self._judge_data(answer)
        if hoped and answer.is_permanent and self._farewell is None:
            await self._confirm()
        if wants_content and not self._accepted and self._farewell is None:
            # DATA was taken though no recipient was: end it with nothing in it.
            (lone,) = self._connection.send(b".\r\n", timeouts.data_done)
            self._note(await lone.reply())
            self._connection.needs_reset = False
        self._in_one_go = False

    async def _confirm(self) -> None:
        """See that a refused DATA was meant: one answer too many looks the same.

        If so, the next command hears what was meant for DATA.
        """
        try:
            reply = await self._connection.say(b"RSET", self._connection.timeouts.mail)
        except Broken as broken:
            if broken.trouble.kind == "protocol":
                raise
            return
        self._refuse_oddity("RSET", reply)
        self._note(reply)
        self._connection.needs_reset = not reply.is_positive

    async def _in_lock_step(self, commands: list[bytes]) -> None:
        connection, timeouts = self._connection, self._connection.timeouts
        (mail,) = connection.send(commands[0], timeouts.mail)
        if not self._judge_mail(await mail.reply()):
            return
        for recipient, command in zip(self._recipients, commands[1:], strict=True):
            (rcpt,) = connection.send(command, timeouts.rcpt)
            self._judge_rcpt(recipient, await rcpt.reply())
        if self._accepted:
            self._judge_data(await connection.say(b"DATA", timeouts.data_init))

    def _note(self, reply: Reply) -> None:
        if reply.code == 421:
            self._farewell = reply

    def _judge_mail(self, reply: Reply) -> bool:
        self._note(reply)
        self._refuse_oddity("MAIL", reply)
        self._stage = Stage.RCPT
        self.stale = reply.code == 421
        if not reply.is_positive:
            for each in self._recipients:
                self.heard[each] = Heard(Stage.MAIL, reply)
        return reply.is_positive

    def _judge_rcpt(self, recipient: Recipient, reply: Reply) -> None:
        self._note(reply)
        self._refuse_oddity("RCPT", reply)
        if reply.is_positive:
            self._accepted.append(recipient)
        elif self._accepted and _is_too_many(reply):
            self.left[recipient] = reply
        else:
            self.heard[recipient] = Heard(Stage.RCPT, reply)

    def _judge_data(self, reply: Reply) -> bool:
        """Say whether content is wanted: only 354 asks for it.

        A 2yz here would be taken for the answer to the end of the content (D7).
        """
        self._note(reply)
        self._stage = Stage.DATA
        if reply.code == 354:
            return True
        if not (reply.is_temporary or reply.is_permanent):
            raise Broken(Trouble("protocol", f"DATA was answered {reply}"))
        for each in self._accepted:
            self.heard[each] = Heard(Stage.DATA, reply)
        self._accepted.clear()
        return False

    def _refuse_oddity(self, verb: str, reply: Reply) -> None:
        if reply.code // 100 == 3:
            self._connection.abort()
            raise Broken(Trouble("protocol", f"{verb} was answered {reply}"))

    # The content

    async def _content(self) -> None:
        letter, encoder = self._letter, DotEncoder()
        if letter.message.size <= PIECE:
            octets = b"".join([piece async for piece in self._pieces(encoder)])
        else:
            await self._connection.stream(self._pieces(encoder))
            octets = b""
        await letter.before_dot(tuple(self._accepted))
        await self._dot(octets + encoder.end())

    async def _pieces(self, encoder: DotEncoder) -> AsyncIterator[bytes]:
        message, offset = self._letter.message, 0
        yield encoder.feed(message.head + b"\r\n")
        while offset < message.body_size:
            piece = await message.read(offset, PIECE)
            if not piece:
                raise StoreError(f"the body ends early, after {offset} octets")
            offset += len(piece)
            yield encoder.feed(piece)

    async def _dot(self, octets: bytes) -> None:
        """Hand over the end; from here on only a reply can tell the outcome."""
        letter, connection = self._letter, self._connection
        count = len(self._accepted) if letter.lmtp else 1
        expected = connection.send(octets, *[connection.timeouts.data_done] * count)
        self._stage = Stage.DOT
        connection.messages += 1
        connection.needs_reset = False
        if not letter.lmtp:
            self._judge_dot(self._accepted, await expected[0].reply())
            return
        for recipient, each in zip(self._accepted, expected, strict=True):
            self._judge_dot([recipient], await each.reply())

    def _judge_dot(self, recipients: Sequence[Recipient], reply: Reply) -> None:
        self._note(reply)
        self._refuse_oddity("the final dot", reply)
        for each in recipients:
            self.heard[each] = Heard(Stage.DOT, reply)

    # The end that nobody wanted

    def _break_off(self, trouble: Trouble) -> None:
        self._connection.abort()
        if self._in_one_go and trouble.kind == "protocol":
            # The answers of one group do not fit its commands: none of them counts.
            self.heard.clear()
        for each in self._recipients:
            if each not in self.heard and each not in self.left:
                self.heard[each] = self._broken(each, trouble)

    def _broken(self, recipient: Recipient, trouble: Trouble) -> Heard:
        if self._stage is Stage.DOT and recipient in self._accepted:
            detail = f"{trouble.kind}: {trouble.detail}"
            return Heard(Stage.DOT, None, Trouble("lost-after-dot", detail), True)
        if self._stage is Stage.DATA and trouble.reply is not None:
            # Refused before its end, as hosts do with what is too large.
            return Heard(Stage.DATA, trouble.reply)
        return Heard(self._stage, self._farewell, trouble)


def _as_hoped(answers: Sequence[Expected]) -> bool:
    """Whether everybody is taken, and so will be the content."""
    for each in answers:
        code = 354 if each is answers[-1] else 250
        if not isinstance(each.outcome, Reply) or each.outcome.code != code:
            return False
    return True


def _nobody() -> None:
    """Nobody else has anything to send."""


def _nothing(why: BaseException | None) -> None:
    """Nobody waits to be called."""


async def _raising(error: BaseException | None) -> None:
    raise error or RuntimeError("it failed without an error")


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable


def _is_too_many(reply: Reply) -> bool:
    """Whether a refusal is about how many recipients there are (SPEC section 3)."""
    if reply.code == 452:
        return reply.detail in {None, "5.3"}
    return reply.code == 552 and reply.detail in {None, "5.3"}
