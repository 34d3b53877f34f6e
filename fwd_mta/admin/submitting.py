"""Mail that a local command hands over on the control socket, piece by piece.

Doorway: `Submissions.submit`, a verb. A request holds a bounded piece: recipients,
content in base64, or both; the first one says who sends, the last one says `last`. The
answer is an `id` for the next piece, or the reply that ends it. What came goes through
the same intake as any submission, so a 250 says that the message is durable.
"""

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from fwd_mta.admin.asking import CommandError, Json, number_of, text_of
from fwd_mta.inbound.content import Content
from fwd_mta.inbound.intake import Intake
from fwd_mta.mail.address import Mailbox, parse_mailbox
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.errors import MailError, SyntaxFault
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import Service, Session
from fwd_mta.smtp.data import ChunkReader

AT_ONCE = 32  # messages on their way in
PATIENCE = 300.0  # seconds from piece to piece before another may take the place

_TOO_MANY = Reply(451, "3.2", "Too many messages are handed over at once")
_NO_RECIPIENT = Reply(554, "5.1", "No valid recipients")


@dataclass(slots=True)
class _Message:
    """A message on its way in."""

    session: Session
    sender: Mailbox | None
    content: Content
    reader: ChunkReader
    seen: float
    recipients: dict[tuple[str, str], Recipient] = field(default_factory=dict)

    def envelope(self) -> Envelope:
        """What was said, as a noun; header fields with UTF-8 are the intake's work."""
        boxes = [one.mailbox for one in self.recipients.values()]
        boxes += [self.sender] if self.sender else []
        needs_utf8 = not all(mailbox.as_ascii.is_ascii for mailbox in boxes)
        return Envelope(
            reverse_path=self.sender,
            recipients=tuple(self.recipients.values()),
            smtputf8=needs_utf8,
        )


class _Brake:
    """Has who hands over wait for a disk that is slower."""

    def __init__(self) -> None:
        self._waiting: Deferred[None] | None = None

    def hold(self) -> None:
        """Answer no piece for now."""
        self._waiting = Deferred()

    def release(self) -> None:
        """Go on."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def passed(self) -> None:
        """Wait while it holds."""
        if self._waiting is not None:
            await self._waiting


class Submissions:
    """Takes messages from the control socket to the intake."""

    def __init__(self, intake: Intake, hostname: str) -> None:
        self._intake = intake
        self._hostname = hostname
        self._begun: dict[str, tuple[_Message, _Brake]] = {}

    async def submit(self, request: Json) -> Json:
        """Take a piece: the first has no `id`; gives an `id`, or the final reply."""
        name = text_of(request, "id", "") or self._begin(request)
        if isinstance(name, Reply):
            return _told(name)
        message, brake = self._known(name)
        message.seen = self._intake.now()
        try:
            refusal = self._take(message, request)
        except CommandError:
            self._drop(name)
            raise
        await brake.passed()
        self._known(name)  # the disk may have been slower than our patience
        if refusal is not None:
            self._drop(name)
            return _told(refusal)
        if request.get("last") is not True:
            return {"id": name}
        return _told(await self._end(name, message))

    def _known(self, name: str) -> tuple[_Message, _Brake]:
        found = self._begun.get(name)
        if found is None:
            raise CommandError("the message was not finished in time; send it again")
        return found

    def _begin(self, request: Json) -> str | Reply:
        """Open a message; the name it goes by, or why not."""
        self._forget_old()
        if len(self._begun) >= AT_ONCE:
            return _TOO_MANY
        no_room = self._intake.no_room()
        if no_room is not None:
            return no_room
        said, policy, brake = text_of(request, "sender"), self._intake.policy, _Brake()
        session = _session(number_of(request, "uid"))
        try:
            sender = self._mailbox(said) if said else None
            content = Content(
                self._intake.spool,
                policy.header_size_limit,
                brake.hold,
                brake.release,
                digested=self._intake.duplicates.watches(session),
            )
        except SyntaxFault as fault:
            return Reply(553, "1.7", f"{fault}")
        except MailError as broken:
            return broken.reply
        reader = ChunkReader(policy.message_size_limit)
        name = self._intake.octets(16).hex()
        message = _Message(session, sender, content, reader, self._intake.now())
        self._begun[name] = message, brake
        return name

    def _take(self, message: _Message, request: Json) -> Reply | None:
        """Keep what a piece brings; the first thing that is wrong with it."""
        named, limit = request.get("recipients") or (), self._intake.policy
        if not isinstance(named, Sequence) or isinstance(named, str):
            raise CommandError("recipients are a list")
        for text in named:
            try:
                mailbox = self._mailbox(str(text))
            except SyntaxFault as fault:
                return Reply(553, "1.3", f"{fault}")
            message.recipients.setdefault(mailbox.key, Recipient(mailbox))
        if len(message.recipients) > limit.recipient_limit:
            text = f"Too many recipients, at most {limit.recipient_limit} are taken"
            return Reply(550, "5.3", text)
        try:
            piece = b64decode(text_of(request, "content", ""), validate=True)
        except ValueError as error:
            raise CommandError("the content is not base64") from error
        kept = message.reader.feed(piece)
        if kept:
            message.content.write(kept)
        return message.reader.fault or message.content.fault

    async def _end(self, name: str, message: _Message) -> Reply:
        del self._begun[name]
        rest = message.reader.end()
        if rest:
            message.content.write(rest)
        refusal = message.reader.fault or message.content.fault
        if refusal is None and not message.recipients:
            refusal = _NO_RECIPIENT
        if refusal is not None:
            message.content.discard()
            return refusal
        envelope = message.envelope()
        return await self._intake.accept(message.session, envelope, message.content)

    def _mailbox(self, text: str) -> Mailbox:
        """Read an address; one without a domain is of this machine, as cron's root."""
        return parse_mailbox(text if "@" in text else f"{text}@{self._hostname}")

    def _forget_old(self) -> None:
        """Drop what nobody finishes: its command was killed."""
        now = self._intake.now()
        for name, (message, _) in list(self._begun.items()):
            if not 0 <= now - message.seen < PATIENCE:
                self._drop(name)

    def _drop(self, name: str) -> None:
        message, _ = self._begun.pop(name)
        message.content.discard()


def _session(uid: int) -> Session:
    """Who hands over: trusted, as a program of a listed network is."""
    return Session(
        service=Service.RELAY,
        client="127.0.0.1",
        port=0,
        hello=f"fwdmta_sendmail.uid-{uid}",
        trusted=True,
        local=True,
    )


def _told(reply: Reply) -> Json:
    return {"code": reply.code, "status": reply.status or "", "reply": str(reply)}
