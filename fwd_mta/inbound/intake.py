"""From the final dot to the 250: checked, mended, scanned, stamped, durable.

Doorway: `Intake.accept`. Whatever breaks in here is our fault and is answered 4xx (P4);
the 250 is given only after the store said that the message is durable (P1).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import lru_cache

from fwd_mta.events import Accepted, Emit, Repeated, Trouble
from fwd_mta.inbound.brake import Brake
from fwd_mta.inbound.checks import Checks
from fwd_mta.inbound.content import Content
from fwd_mta.inbound.duplicates import Duplicates
from fwd_mta.inbound.words import fault
from fwd_mta.interfaces import (
    Entropy,
    QueueWriter,
    Spool,
    WallClock,
    Worker,
)
from fwd_mta.mail.entry import Origin, QueueEntry, Standing
from fwd_mta.mail.envelope import Body, Envelope
from fwd_mta.mail.errors import MailError, NoSpace, SyntaxFault
from fwd_mta.mail.header import join
from fwd_mta.mail.message import Message
from fwd_mta.mail.noun import changed
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.mail.session import Service, Session
from fwd_mta.rules.edits import check_body, edited
from fwd_mta.rules.encoding import LINE_LIMIT, encode_header, fit, longest_line
from fwd_mta.rules.identity import entry_id
from fwd_mta.rules.signing import BodyHash, SigningKey, keys_for, signed
from fwd_mta.rules.stamping import message_id_of, stamp
from fwd_mta.rules.submission import SubmissionPolicy, refusal, with_help
from fwd_mta.rules.verdicts import Outcome, judge

_INLINE = 64 * 1024  # a larger body is mended on the worker
_PIECE = 128 * 1024


class Intake:
    """Takes messages into the queue; a reload may replace what is public here."""

    def __init__(
        self,
        writer: QueueWriter,
        checks: Checks,
        policy: SubmissionPolicy,
        hostname: str,
        wall: WallClock,
        worker: Worker,
        entropy: Entropy,
        emit: Emit,
        *,
        trace_client: bool = False,
        keys: Sequence[SigningKey] = (),
        duplicates: Duplicates | None = None,
        brake: Brake | None = None,
    ) -> None:
        self.duplicates = duplicates or Duplicates(0, _never)
        self._brake = brake or Brake()
        self.policy = policy
        self.checks = checks
        self.trace_client = trace_client
        self.keys = keys
        self._writer = writer
        self._hostname = hostname
        self._wall = wall
        self._worker = worker
        self._entropy = entropy
        self._emit = emit

    def no_room(self) -> Reply | None:
        """What MAIL is answered when the disk is nearly full, else None."""
        octets = self.policy.message_size_limit * 3 // 2
        return None if self._writer.has_room(octets) else NoSpace.reply

    def now(self) -> float:
        """The date, in seconds since the epoch."""
        return self._wall.now()

    def octets(self, count: int) -> bytes:
        """Chance."""
        return self._entropy.octets(count)

    def spool(self) -> Spool:
        """Begin a body in the store."""
        return self._writer.spool()

    async def accept(
        self, session: Session, envelope: Envelope, content: Content
    ) -> Reply:
        """Take the message and answer the final dot; never raises."""
        try:
            reply = await self._accept(session, envelope, content)
        except Exception as broken:  # noqa: BLE001 - never a bounce for our fault (P4)
            reply = self._trouble(broken)
        if not reply.is_positive:
            content.discard()
        return reply

    async def _accept(
        self, session: Session, envelope: Envelope, content: Content
    ) -> Reply:
        policy = policy_for(session, self.policy)
        message = await content.done()
        reply = refusal(session, envelope, message, policy)
        if reply is not None:
            return reply
        known = None
        if self.duplicates.watches(session):
            digest = content.digest()
            known = self.duplicates.key(session, envelope, message.head, digest)
            first = await self.duplicates.first(known, self._wall.now())
            if first is not None:
                return self._repeated(session, first, content)
        fitted: Message | Reply = message
        if not _is_fit(message.head, content):
            fitted = await self._fitted(envelope, message, content, policy)
        if isinstance(fitted, Reply):
            return with_help(fitted, policy.help_url)
        outcome = await self._checked(session, envelope, fitted, content)
        if isinstance(outcome, Reply):
            return outcome
        entry, message = outcome
        event = _accepted(entry, session)
        await self._writer.add(entry, message)
        # it is durable: nothing from here on may turn the 250 into a 451
        with suppress(Exception):
            self._emit(event)
        self.duplicates.remember(known, entry.id, entry.queued_at)
        return _taken(entry.id)

    def _repeated(self, session: Session, first: str, content: Content) -> Reply:
        content.discard()
        login = session.account.login if session.account else ""
        with suppress(Exception):
            self._emit(Repeated(first, login, session.client))
        return _taken(first)

    async def _checked(
        self, session: Session, envelope: Envelope, message: Message, content: Content
    ) -> tuple[QueueEntry, Message] | Reply:
        """Stamp, ask the scanners, and do what follows from their verdicts."""
        now = self._wall.now()
        name = entry_id(now, self._entropy.octets(8))
        head = stamp(
            message.head,
            session=session,
            envelope=envelope,
            hostname=self._hostname,
            entry_id=name,
            now=now,
            trace_client=self.trace_client,
        )
        message = Message(head, message.body)
        reports = self.checks.at_once(session, message)
        if reports is None:
            reports = await self.checks.reports(session, envelope, message)
        outcome = judge(reports, self.checks.on_error)
        for milter in self.checks.milters:
            if outcome.reply is not None:
                break
            report = await self.checks.through(milter, session, envelope, message, name)
            message, report = await self._changed(message, report, content)
            reports = [*reports, report]
            outcome = judge(reports, self.checks.on_error)
        if outcome.reply is not None:
            if session.account is not None:
                self._brake.heard(session.account.login, outcome.kind, now)
            return with_help(outcome.reply, self.policy.help_url)
        if outcome.fields:
            message = Message(join(outcome.fields) + message.head, message.body)
        # what is held is signed at its release (outbound/trip.py)
        if self.keys and (envelope.hold_until or 0) <= now:
            message = await self._signed(message, now)
        meant = _meant(session, envelope, message, eight_bit=content.eight_bit)
        return _entry(name, now, session, meant, message, outcome), message

    async def _changed(
        self, message: Message, report: ScanReport, content: Content
    ) -> tuple[Message, ScanReport]:
        """The message as a milter wants it; what cannot be done is its failure."""
        try:
            head = edited(message.head, report.edits)
            if report.body is None:
                return changed(message, head=head), report
            check_body(report.body)
        except SyntaxFault as fault:
            note = f"its changes cannot be made: {fault}"
            report = changed(report, verdict=Verdict.FAILED, note=note)
            self.checks.complain(report)
            return message, report
        content.eight_bit = not report.body.isascii()
        body = await content.respooled(report.body)
        return Message(head, body), report

    async def _signed(self, message: Message, now: float) -> Message:
        """The message with a signature of each key of its author's domain."""
        keys = keys_for(message.head, self.keys)
        if not keys:
            return message
        state = BodyHash()
        async for piece in pieces(message):
            state.update(piece)
        return changed(message, head=signed(message.head, state.digest(), keys, now))

    async def _fitted(
        self,
        envelope: Envelope,
        message: Message,
        content: Content,
        policy: SubmissionPolicy,
    ) -> Message | Reply:
        """Encode what must be ASCII, bring long lines under the limit."""
        head = _ascii_head(message.head, envelope)
        if isinstance(head, Reply):
            return head
        if content.long_line is not None and policy.long_lines == "reject":
            text = f"Line {content.long_line} is longer than 998 octets"
            return Reply(550, "6.0", text)
        if content.long_line is None:
            fitted = fit(head, b"")
            return (
                fitted
                if isinstance(fitted, Reply)
                else Message(fitted[0], message.body)
            )
        return await self._mended(head, message, content)

    async def _mended(
        self, head: bytes, message: Message, content: Content
    ) -> Message | Reply:
        """Encode the parts of a body with long lines, in memory (RFC 6409 8)."""
        body = await _whole(message)
        if len(body) <= _INLINE:
            fitted = fit(head, body)
        else:
            fitted = await self._worker.run(lambda: fit(head, body))
        if isinstance(fitted, Reply):
            return fitted
        return Message(fitted[0], await content.respooled(fitted[1]))

    def _trouble(self, broken: Exception) -> Reply:
        what = f"a message was not taken: {fault(broken)}"
        self._emit(Trouble("intake", what, "the client was told to try again later"))
        known = isinstance(broken, MailError) and broken.reply.is_temporary
        return broken.reply if known else MailError.reply  # type: ignore[attr-defined]


def policy_for(session: Session, policy: SubmissionPolicy) -> SubmissionPolicy:
    """A relay listener mends what a submission listener may refuse (SPEC section 1)."""
    if session.service is not Service.RELAY:
        return policy
    return _mending(policy)


@lru_cache
def _mending(policy: SubmissionPolicy) -> SubmissionPolicy:
    return changed(policy, bare_newline="normalize", long_lines="encode")


def _is_fit(head: bytes, content: Content) -> bool:
    """Whether nothing needs to be encoded or folded, as in nearly all mail."""
    is_short = longest_line(head, LINE_LIMIT) <= LINE_LIMIT
    return content.long_line is None and is_short and head.isascii()


def _ascii_head(head: bytes, envelope: Envelope) -> bytes | Reply:
    """The head without raw UTF-8, unless SMTPUTF8 says that it may have some.

    Some clients always say it; what can go without goes everywhere.
    """
    encoded = head if _needs_utf8(envelope) else encode_header(head)
    if not envelope.smtputf8 or not isinstance(encoded, Reply):
        return encoded
    try:
        head.decode()
    except UnicodeDecodeError:
        return Reply(550, "6.0", "The header section is not valid UTF-8")
    return head


async def pieces(message: Message) -> AsyncIterator[bytes]:
    """The body in blocks, each small enough to look at between two events."""
    for at in range(0, message.body_size, _PIECE):
        yield await message.read(at, _PIECE)


def _needs_utf8(envelope: Envelope) -> bool:
    """Whether an address of the envelope cannot be written in ASCII."""
    mailboxes = [one.mailbox for one in envelope.recipients]
    if envelope.reverse_path is not None:
        mailboxes.append(envelope.reverse_path)
    return not all(mailbox.as_ascii.is_ascii for mailbox in mailboxes)


def _taken(name: str) -> Reply:
    return Reply(250, "0.0", f"Ok: queued as {name}")


async def _never(name: str) -> bool:
    return False


async def _whole(message: Message) -> bytes:
    return b"".join([piece async for piece in pieces(message)])


def _meant(
    session: Session, envelope: Envelope, message: Message, *, eight_bit: bool
) -> Envelope:
    """The envelope as it goes on: what the content needs, what the account wants."""
    given = Body.SEVEN_BIT if envelope.body is Body.SEVEN_BIT else None
    needed = eight_bit or not message.head.isascii()
    default = session.account.notify if session.account else None
    recipients = envelope.recipients
    if default is not None:
        recipients = tuple(
            one._replace(notify=default) if one.notify is None else one
            for one in recipients
        )
    body = Body.EIGHT_BIT if needed else given
    if recipients is envelope.recipients and body is envelope.body:
        return envelope
    return changed(envelope, recipients=recipients, body=body)


def _entry(
    name: str,
    now: float,
    session: Session,
    envelope: Envelope,
    message: Message,
    outcome: Outcome,
) -> QueueEntry:
    due = max(now, envelope.hold_until or 0)
    return QueueEntry(
        id=name,
        account=session.account.login if session.account else None,
        envelope=envelope,
        standings=tuple(Standing(one, due) for one in envelope.recipients),
        queued_at=now,
        size=message.size,
        origin=Origin(
            client=session.client,
            hello=session.hello or "",
            protocol=session.protocol,
            tls=str(session.tls or ""),
            checks=outcome.checks,
        ),
        held=outcome.held,
        message_id=message_id_of(message.head),
    )


def _accepted(entry: QueueEntry, session: Session) -> Accepted:
    sender = entry.envelope.reverse_path
    return Accepted(
        id=entry.id,
        account=entry.account or "",
        client=session.client,
        sender=str(sender) if sender else "",
        recipients=len(entry.standings),
        size=entry.size,
    )
