"""Tests of one mail transaction against a peer that says what it likes."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from typing_extensions import override

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import Stage
from fwd_mta.mail.envelope import Body, Envelope, Notify, Recipient, Ret
from fwd_mta.mail.errors import Interrupted, StoreError
from fwd_mta.mail.message import Body as FileBody
from fwd_mta.mail.message import Message
from fwd_mta.outbound.transaction import Letter, Transaction, is_8bit, lacking
from fwd_mta.smtp.data import DataReader
from fwd_mta.smtp.extensions import Offered
from tests.outbound.wired import Wired

HEAD = b"From: <joe@us.example>\r\nSubject: hi\r\n"
SENDER = Mailbox("joe", "us.example")
MAIL = b"MAIL FROM:<joe@us.example>\r\n"
TEXT = HEAD + b"\r\nHello\r\n"


def _recipients(*locals_: str) -> tuple[Recipient, ...]:
    return tuple(Recipient(Mailbox(each, "example.com")) for each in locals_)


def _rcpt(*locals_: str) -> bytes:
    return b"".join(b"RCPT TO:<%s@example.com>\r\n" % each.encode() for each in locals_)


class _File(FileBody):
    """A body that comes in pieces, or breaks."""

    def __init__(self, octets: bytes, breaks_at: int | None = None) -> None:
        self._octets = octets
        self._breaks_at = breaks_at

    @property
    @override
    def size(self) -> int:
        return len(self._octets)

    @override
    async def read(self, offset: int, length: int) -> bytes:
        if self._breaks_at is not None and offset >= self._breaks_at:
            raise StoreError("the disk is gone")
        return self._octets[offset : offset + length]


class TransactionCase(Wired):
    """A letter, and what came of it."""

    lmtp = False

    @override
    def setUp(self) -> None:
        super().setUp()
        self.noted: list[Sequence[Recipient]] = []
        self.waiting: Deferred[None] | None = None

    async def _before_dot(self, recipients: Sequence[Recipient]) -> None:
        self.noted.append(recipients)
        if self.waiting is not None:
            await self.waiting

    def letter(
        self, message: Message | None = None, envelope: Envelope | None = None
    ) -> Letter:
        """What is to be sent."""
        return Letter(
            envelope or Envelope(SENDER, ()),
            message or Message(HEAD, b"Hello\r\n"),
            self._before_dot,
            self.lmtp,
        )

    def start(
        self, recipients: tuple[Recipient, ...], letter: Letter | None = None
    ) -> tuple[Transaction, Deferred[None]]:
        """Begin a transaction."""
        transaction = Transaction(self.connection, letter or self.letter())
        return transaction, self.begin(transaction.run(recipients))

    def stages(self, transaction: Transaction) -> list[tuple[Stage, int | str]]:
        """Stage and code, or kind of trouble, of each recipient."""
        return [
            (each.stage, each.reply.code if each.reply else _kind(each.trouble))
            for each in transaction.heard.values()
        ]


def _kind(trouble: object) -> str:
    return str(getattr(trouble, "kind", ""))


class PipelinedTests(TransactionCase):
    """With PIPELINING."""

    @override
    def setUp(self) -> None:
        super().setUp()
        self.greet(b"PIPELINING")

    def test_whole(self) -> None:
        """Envelope and DATA go out together, then content and dot together."""
        transaction, work = self.start(_recipients("a", "b"))
        self.assertEqual(self.said(), MAIL + _rcpt("a", "b") + b"DATA\r\n")
        self.hear(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
        self.assertEqual(self.said(), TEXT + b".\r\n")
        self.assertEqual(self.noted, [_recipients("a", "b")])
        self.hear(b"250 2.0.0 taken\r\n")
        self.successResultOf(work)
        self.assertEqual(self.stages(transaction), [(Stage.DOT, 250)] * 2)
        self.assertTrue(self.connection.usable)
        self.assertFalse(self.connection.needs_reset)

    def test_mixed(self) -> None:
        """Each recipient has its own answer, and only those taken are noted."""
        transaction, work = self.start(_recipients("a", "b", "c"))
        self.hear(b"250 ok\r\n550 5.1.1 no\r\n250 ok\r\n450 4.2.0 later\r\n354 go\r\n")
        self.assertEqual(self.noted, [_recipients("b")])
        self.hear(b"250 taken\r\n")
        self.successResultOf(work)
        expected = {
            "a": (Stage.RCPT, 550),
            "b": (Stage.DOT, 250),
            "c": (Stage.RCPT, 450),
        }
        heard = {
            recipient.mailbox.local: (each.stage, each.reply.code if each.reply else 0)
            for recipient, each in transaction.heard.items()
        }
        self.assertEqual(heard, expected)

    def test_all_refused_and_data_too(self) -> None:
        """Without a recipient no content goes out; RSET comes before the next MAIL."""
        transaction, work = self.start(_recipients("a", "b"))
        self.said()
        self.hear(b"250 ok\r\n550 no\r\n550 no\r\n554 no valid recipients\r\n")
        self.successResultOf(work)
        self.assertEqual(self.said(), b"")
        self.assertEqual(self.noted, [])
        self.assertEqual(self.stages(transaction), [(Stage.RCPT, 550)] * 2)
        _, again = self.start(_recipients("c"))
        self.assertEqual(self.said(), b"RSET\r\n")
        self.hear(b"250 ok\r\n")
        self.assertEqual(self.said(), MAIL + _rcpt("c") + b"DATA\r\n")
        self.assertNoResult(again)

    def test_all_refused_but_data_taken(self) -> None:
        """A host that takes DATA without recipients gets a lone dot (RFC 2920 3.1)."""
        transaction, work = self.start(_recipients("a"))
        self.said()
        self.hear(b"250 ok\r\n550 no\r\n354 go\r\n")
        self.assertEqual(self.said(), b".\r\n")
        self.assertEqual(self.noted, [])
        self.hear(b"250 taken, whatever it was\r\n")
        self.successResultOf(work)
        self.assertEqual(self.stages(transaction), [(Stage.RCPT, 550)])
        self.assertTrue(self.connection.usable)

    def test_sender_refused(self) -> None:
        """A refused MAIL is everybody's answer, whatever is said to RCPT and DATA."""
        transaction, work = self.start(_recipients("a", "b"))
        self.hear(b"553 5.7.1 not you\r\n250 ok\r\n503 no\r\n503 no\r\n")
        self.successResultOf(work)
        self.assertEqual(self.stages(transaction), [(Stage.MAIL, 553)] * 2)
        self.assertEqual(self.noted, [])

    def test_data_answered_250(self) -> None:
        """A 2yz to DATA delivers nothing: dropped, to be tried again (D7)."""
        for answer in (b"250 ok\r\n", b"252 ok\r\n", b"334 x\r\n"):
            self.setUp()
            transaction, work = self.start(_recipients("a"))
            self.said()
            self.hear(b"250 ok\r\n250 ok\r\n" + answer)
            self.successResultOf(work)
            self.assertEqual(self.stages(transaction), [(Stage.DATA, "protocol")])
            self.assertEqual(self.said(), b"")
            self.assertFalse(self.connection.usable)

    def test_data_refused(self) -> None:
        """A refused DATA is the answer of those who were taken."""
        transaction, work = self.start(_recipients("a", "b"))
        self.hear(b"250 ok\r\n250 ok\r\n550 no\r\n451 4.3.0 later\r\n")
        self.successResultOf(work)
        stages = dict(zip("ab", self.stages(transaction), strict=True))
        self.assertEqual(set(stages.values()), {(Stage.RCPT, 550), (Stage.DATA, 451)})
        self.assertTrue(self.connection.needs_reset)

    def test_content_refused(self) -> None:
        """The answer to the dot is for all who were taken."""
        transaction, work = self.start(_recipients("a"))
        self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n", b"550 5.7.1 spam\r\n")
        self.successResultOf(work)
        self.assertEqual(self.stages(transaction), [(Stage.DOT, 550)])

    def test_lost_after_the_dot(self) -> None:
        """Without an answer to the dot the outcome is in doubt, and said so (P2)."""
        transaction, work = self.start(_recipients("a", "b"))
        self.hear(b"250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n")
        self.lose()
        self.successResultOf(work)
        one, two = _recipients("a", "b")
        self.assertTrue(transaction.heard[one].in_doubt)
        self.assertEqual(_kind(transaction.heard[one].trouble), "lost-after-dot")
        self.assertFalse(transaction.heard[two].in_doubt)

    def test_silence_and_nonsense_after_the_dot(self) -> None:
        """A late or unreadable answer to the dot leaves it in doubt as well."""
        for answer in (None, b"rubbish\r\n", b"354 go on\r\n"):
            self.setUp()
            transaction, work = self.start(_recipients("a"))
            self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
            if answer is None:
                self.clock.advance(50)
            else:
                self.hear(answer)
            self.successResultOf(work)
            (heard,) = transaction.heard.values()
            self.assertTrue(heard.in_doubt, answer)

    def test_lost_before_the_dot(self) -> None:
        """A loss while the dot is still being noted leaves nothing in doubt."""
        self.waiting = Deferred()
        transaction, work = self.start(_recipients("a"))
        self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
        self.lose()
        self.waiting.callback(None)
        self.successResultOf(work)
        (heard,) = transaction.heard.values()
        self.assertFalse(heard.in_doubt)
        self.assertEqual(_kind(heard.trouble), "connection-lost")

    def test_taken_and_hung_up(self) -> None:
        """250 and 421 in one segment: delivered, and the connection is done with."""
        transaction, work = self.start(_recipients("a"))
        self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 taken\r\n421 bye\r\n")
        self.successResultOf(work)
        self.assertEqual(self.stages(transaction), [(Stage.DOT, 250)])
        self.assertFalse(self.connection.usable)

    def test_closing_in_the_middle(self) -> None:
        """After 421 the host's own words stand for whoever it did not answer."""
        transaction, work = self.start(_recipients("a", "b"))
        self.hear(b"250 ok\r\n421 4.3.2 shutting down\r\n")
        self.lose()
        self.successResultOf(work)
        self.assertEqual(self.stages(transaction), [(Stage.RCPT, 421)] * 2)

    def test_stale(self) -> None:
        """A connection that ends before MAIL is answered was too old."""
        transaction, work = self.start(_recipients("a"))
        self.lose()
        self.successResultOf(work)
        self.assertTrue(transaction.stale)
        self.setUp()
        transaction, work = self.start(_recipients("a"))
        self.hear(b"421 idle\r\n")
        self.lose()
        self.successResultOf(work)
        self.assertTrue(transaction.stale)

    def test_too_many_recipients(self) -> None:
        """Those above a host's limit are left for the next transaction."""
        for refusal in (b"452 4.5.3 many\r\n", b"452 many\r\n", b"552 5.5.3 many\r\n"):
            self.setUp()
            transaction, work = self.start(_recipients("a", "b", "c"))
            self.hear(b"250 ok\r\n250 ok\r\n" + 2 * refusal + b"354 go\r\n250 ok\r\n")
            # The answer to the dot came before the dot: that is no answer.
            self.assertFalse(self.connection.usable)
            self.setUp()
            transaction, work = self.start(_recipients("a", "b", "c"))
            self.hear(b"250 ok\r\n250 ok\r\n" + 2 * refusal + b"354 go\r\n")
            self.hear(b"250 ok\r\n")
            self.successResultOf(work)
            self.assertEqual(tuple(transaction.left), _recipients("b", "c"))
            self.assertEqual(self.stages(transaction), [(Stage.DOT, 250)])

    def test_full_mailbox_is_not_too_many(self) -> None:
        """452 about a mailbox is its own answer; so is one to the first recipient."""
        transaction, work = self.start(_recipients("a", "b", "c"))
        self.hear(b"250 ok\r\n452 4.5.3 x\r\n250 ok\r\n452 4.2.2 full\r\n354 go\r\n")
        self.hear(b"250 ok\r\n")
        self.successResultOf(work)
        self.assertEqual(transaction.left, {})
        self.assertEqual(len(transaction.heard), 3)

    def test_interrupted(self) -> None:
        """When no dot may go out any more, none does, and nobody was tried."""
        transaction, work = self.start(_recipients("a"))
        self.waiting = Deferred()
        self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
        self.said()
        self.waiting.errback(Interrupted("stopping"))
        self.failureResultOf(work, Interrupted)
        self.assertEqual(transaction.heard, {})
        self.assertEqual(self.said(), b"")
        self.assertFalse(self.connection.usable)

    def test_dot_cannot_be_noted(self) -> None:
        """A disk that cannot note the dot holds it back; our fault is no bounce."""
        transaction, work = self.start(_recipients("a"))
        self.waiting = Deferred()
        self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
        self.said()
        self.waiting.errback(StoreError("disk"))
        self.successResultOf(work)
        self.assertEqual(self.said(), b"")
        self.assertEqual(self.stages(transaction), [(Stage.DATA, "interrupted")])

    def test_two_messages_on_one_connection(self) -> None:
        """A second message follows without RSET, and is counted."""
        for number in (1, 2):
            _, work = self.start(_recipients("a"))
            self.assertEqual(self.said(), MAIL + _rcpt("a") + b"DATA\r\n")
            self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 taken\r\n")
            self.successResultOf(work)
            self.said()
            self.assertEqual(self.connection.messages, number)


class LockStepTests(TransactionCase):
    """Without PIPELINING."""

    @override
    def setUp(self) -> None:
        super().setUp()
        self.greet()

    def test_one_by_one(self) -> None:
        """Each command waits for the answer to the one before."""
        transaction, work = self.start(_recipients("a", "b"))
        for answer, following in (
            (b"", MAIL),
            (b"250 ok\r\n", _rcpt("a")),
            (b"550 no\r\n", _rcpt("b")),
            (b"250 ok\r\n", b"DATA\r\n"),
            (b"354 go\r\n", TEXT + b".\r\n"),
            (b"250 ok\r\n", b""),
        ):
            self.hear(answer)
            self.assertEqual(self.said(), following)
        self.successResultOf(work)
        stages = [(Stage.RCPT, 550), (Stage.DOT, 250)]
        self.assertEqual(self.stages(transaction), stages)

    def test_nobody_taken(self) -> None:
        """Without an accepted recipient DATA is not even asked for."""
        _, work = self.start(_recipients("a"))
        self.hear(b"250 ok\r\n")
        self.said()
        self.hear(b"550 no\r\n")
        self.successResultOf(work)
        self.assertEqual(self.said(), b"")

    def test_sender_refused(self) -> None:
        """After a refused MAIL nothing else is said."""
        _, work = self.start(_recipients("a"))
        self.said()
        self.hear(b"451 later\r\n")
        self.successResultOf(work)
        self.assertEqual(self.said(), b"")


class LmtpTests(TransactionCase):
    """LMTP: an answer for each recipient after the dot (RFC 2033 4.2)."""

    lmtp = True

    @override
    def setUp(self) -> None:
        super().setUp()
        self.greet(b"PIPELINING")

    def test_each_its_own(self) -> None:
        """Answers belong to the recipients that were taken, in their order."""
        transaction, work = self.start(_recipients("a", "b", "c"))
        self.hear(b"250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n")
        self.hear(b"250 laid in\r\n552 5.2.2 full\r\n")
        self.successResultOf(work)
        heard = {one.mailbox.local: each for one, each in transaction.heard.items()}
        codes = {key: each.reply.code for key, each in heard.items() if each.reply}
        self.assertEqual(codes, {"a": 250, "b": 550, "c": 552})
        self.assertIs(heard["c"].stage, Stage.DOT)

    def test_lost_between_answers(self) -> None:
        """Who was answered is answered; the rest is in doubt."""
        transaction, work = self.start(_recipients("a", "b"))
        self.hear(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", b"250 laid in\r\n")
        self.lose()
        self.successResultOf(work)
        doubts = [each.in_doubt for each in transaction.heard.values()]
        self.assertEqual(doubts, [False, True])


class ContentTests(TransactionCase):
    """What goes out between DATA and the dot."""

    @override
    def setUp(self) -> None:
        super().setUp()
        self.greet(b"PIPELINING", b"8BITMIME", b"SIZE")

    def _sent(self, message: Message) -> bytes:
        _, work = self.start(_recipients("a"), self.letter(message))
        self.said()
        self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
        octets = self.said()
        self.hear(b"250 ok\r\n")
        self.successResultOf(work)
        return octets

    def test_dots_at_every_edge(self) -> None:
        """A dot at any edge of a chunk is stuffed: one message in, one out (D3)."""
        line = b".\r\nMAIL FROM:<evil@example.com>\r\n"
        for shift in range(-4, 5):
            filler = b"x" * (65536 - 2 + shift)
            body = b".\r\n" + filler + b"\r\n" + line + b"y" * 65000 + b"\r\n" + line
            octets = self._sent(Message(HEAD, _File(body)))
            arrived = bytearray(octets)
            reader = DataReader(10_000_000)
            content, done = reader.feed(arrived)
            while not done:
                more, done = reader.feed(arrived)
                content += more
            self.assertEqual(content, HEAD + b"\r\n" + body)
            self.assertEqual(bytes(arrived), b"", "something was left behind the dot")

    def test_small_message_goes_in_one_write(self) -> None:
        """Small content and its dot are one write, after the dot was noted."""
        octets = self._sent(Message(HEAD, b"..\r\n.\r\n"))
        self.assertEqual(octets, HEAD + b"\r\n...\r\n..\r\n.\r\n")

    def test_missing_last_line_end(self) -> None:
        """Content that does not end a line gets its line end."""
        octets = self._sent(Message(HEAD, b"no end"))
        self.assertTrue(octets.endswith(b"no end\r\n.\r\n"))

    def test_empty_body(self) -> None:
        """A message may be a header section alone."""
        self.assertEqual(self._sent(Message(HEAD, b"")), HEAD + b"\r\n.\r\n")

    def test_disk_breaks(self) -> None:
        """A disk that fails in the middle sends no dot; the rest is tried again."""
        body = _File(b"x" * 70000 + b"\r\n", breaks_at=65536)
        letter = self.letter(Message(HEAD, body))
        transaction, work = self.start(_recipients("a"), letter)
        self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
        self.successResultOf(work)
        self.assertFalse(self.said().endswith(b".\r\n"))
        self.assertEqual(self.noted, [])
        self.assertEqual(self.stages(transaction), [(Stage.DATA, "interrupted")])
        self.assertFalse(self.connection.usable)

    def _held(self) -> tuple[Transaction, Deferred[None]]:
        """Get into the middle of a large content, with no room to go on."""
        letter = self.letter(Message(HEAD, _File(b"x" * 150_000 + b"\r\n")))
        transaction, work = self.start(_recipients("a"), letter)
        self.connection.pauseProducing()
        self.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
        self.assertNoResult(work)
        return transaction, work

    def test_refused_before_the_end(self) -> None:
        """A host that refuses a large content early is heard, and no dot follows."""
        transaction, work = self._held()
        self.said()
        self.hear(b"552 5.3.4 too large\r\n")
        self.successResultOf(work)
        self.assertEqual(self.stages(transaction), [(Stage.DATA, 552)])
        self.assertEqual(self.said(), b"")

    def test_taken_before_the_end(self) -> None:
        """A 250 before the dot is no answer to it (guarantee 21)."""
        transaction, work = self._held()
        self.hear(b"250 2.0.0 taken\r\n")
        self.successResultOf(work)
        self.assertEqual(self.stages(transaction), [(Stage.DATA, "protocol")])
        self.assertEqual(self.noted, [])

    def test_lost_in_the_content(self) -> None:
        """A loss in the content is no doubt: the dot was never sent."""
        transaction, work = self._held()
        self.lose()
        self.successResultOf(work)
        (heard,) = transaction.heard.values()
        self.assertEqual(_kind(heard.trouble), "connection-lost")
        self.assertFalse(heard.in_doubt)


class ParameterTests(TransactionCase):
    """Parameters: only what is offered, only what is needed."""

    def _commands(self, letter: Letter, *recipients: Recipient) -> bytes:
        _, work = self.start(recipients, letter)
        self.assertNoResult(work)
        return self.said()

    def test_nothing_offered(self) -> None:
        """Nothing that was not offered is sent."""
        self.greet()
        envelope = Envelope(SENDER, (), Body.EIGHT_BIT, ret=Ret.FULL, envid="x")
        letter = self.letter(envelope=envelope)
        self.assertEqual(self._commands(letter, *_recipients("a")), MAIL)

    def test_all_offered(self) -> None:
        """What the client asked for travels on."""
        self.greet(b"PIPELINING", b"SIZE", b"8BITMIME", b"DSN", b"SMTPUTF8")
        envelope = Envelope(SENDER, (), Body.EIGHT_BIT, ret=Ret.FULL, envid="x")
        letter = self.letter(Message(HEAD, b"\xc3\xa9\r\n"), envelope)
        recipient = Recipient(
            Mailbox("a", "example.com"), (Notify.SUCCESS,), "rfc822;a@example.com"
        )
        size = str(len(HEAD) + 2 + 4).encode()
        self.assertEqual(
            self._commands(letter, recipient).split(b"\r\n")[:2],
            [
                MAIL.strip() + b" SIZE=" + size + b" BODY=8BITMIME RET=FULL ENVID=x",
                b"RCPT TO:<a@example.com> NOTIFY=SUCCESS ORCPT=rfc822;a@example.com",
            ],
        )

    def test_smtputf8_only_when_needed(self) -> None:
        """The client's SMTPUTF8 alone does not count; a real need does."""
        self.greet(b"PIPELINING", b"SMTPUTF8", b"8BITMIME")
        letter = self.letter(envelope=Envelope(SENDER, (), smtputf8=True))
        self.assertNotIn(b"SMTPUTF8", self._commands(letter, *_recipients("a")))
        self.setUp()
        self.greet(b"PIPELINING", b"SMTPUTF8", b"8BITMIME")
        said = self._commands(self.letter(), *_recipients("bücher"))
        self.assertIn(b" SMTPUTF8\r\n", said)
        self.assertIn("RCPT TO:<bücher@example.com>".encode(), said)

    def test_undeclared_8bit(self) -> None:
        """8-bit content that nobody declared is declared by us."""
        self.greet(b"PIPELINING", b"8BITMIME")
        letter = self.letter(Message(HEAD, b"\xff\r\n"))
        self.assertIn(b"BODY=8BITMIME", self._commands(letter, *_recipients("a")))


class LackingTests(TransactionCase):
    """What a host does not offer."""

    def _lack(self, letter: Letter, local: str, *names: str, size: int = 0) -> str:
        offered = Offered(frozenset(names), size or None)
        (recipient,) = _recipients(local)
        return _kind(lacking(letter, recipient, offered))

    def test_size(self) -> None:
        """A message above the announced limit is not sent."""
        letter = self.letter()
        fits = letter.message.size
        self.assertEqual(self._lack(letter, "a", "SIZE", size=fits), "")
        self.assertEqual(self._lack(letter, "a", "SIZE", size=fits - 1), "size")

    def test_8bit(self) -> None:
        """8-bit content needs 8BITMIME; content that is only declared so does not."""
        content = self.letter(Message(HEAD, b"\xff\r\n"))
        self.assertEqual(self._lack(content, "a"), "8bit")
        self.assertEqual(self._lack(content, "a", "8BITMIME"), "")
        declared = self.letter(envelope=Envelope(SENDER, (), Body.EIGHT_BIT))
        self.assertFalse(is_8bit(declared))
        on_disk = self.letter(
            Message(HEAD, _File(b"")), Envelope(SENDER, (), Body.EIGHT_BIT)
        )
        self.assertTrue(is_8bit(on_disk))

    def test_smtputf8(self) -> None:
        """An address with other letters needs SMTPUTF8; its domain alone does not."""
        letter = self.letter()
        self.assertEqual(self._lack(letter, "bücher"), "smtputf8")
        self.assertEqual(self._lack(letter, "bücher", "SMTPUTF8"), "")
        self.assertEqual(self._lack(letter, "a"), "")
        domain = Recipient(Mailbox("a", "bücher.example"))
        self.assertIsNone(lacking(letter, domain, Offered.none()))

    def test_smtputf8_header(self) -> None:
        """A header with raw other letters needs it too, and 8BITMIME."""
        letter = self.letter(Message("Subject: é\r\n".encode(), b""))
        self.assertEqual(self._lack(letter, "a"), "smtputf8-header")
        self.assertEqual(self._lack(letter, "a", "SMTPUTF8"), "8bit")
        self.assertEqual(self._lack(letter, "a", "SMTPUTF8", "8BITMIME"), "")
