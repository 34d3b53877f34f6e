"""Tests of messages whose envelope leaves with the last dot of the one before."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from typing_extensions import override

from fwd_mta.mail.entry import Stage
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.errors import Interrupted, StoreError
from fwd_mta.mail.message import Message
from fwd_mta.outbound.transaction import Letter, Transaction
from tests.outbound.test_transaction import HEAD, MAIL, SENDER, _rcpt, _recipients
from tests.outbound.wired import Wired

FIRST, SECOND = Message(HEAD, b"first\r\n"), Message(HEAD, b"second\r\n")
ONE, TWO = _recipients("one")[0], _recipients("two")[0]
ENVELOPE = b"250 sender ok\r\n250 recipient ok\r\n354 go\r\n"
CONTENT = HEAD + b"\r\nfirst\r\n.\r\n"
NEXT = MAIL + _rcpt("two") + b"DATA\r\n"


class Following(Wired):
    """Two transactions: the second begins as the last dot of the first leaves."""

    @override
    def setUp(self) -> None:
        super().setUp()
        self.greet(b"PIPELINING")
        self.noted: list[Recipient] = []
        self.ended: list[str] = []
        self.errors: list[BaseException | None] = []
        self.first = Transaction(self.connection, self.letter(FIRST))
        self.second = Transaction(self.connection, self.letter(SECOND))

    def letter(self, message: Message) -> Letter:
        """A letter of that content."""
        return Letter(Envelope(SENDER, ()), message, self.mark)

    def mark(self, recipients: Sequence[Recipient]) -> Deferred[None]:
        """Note that a dot is about to leave."""
        self.noted += recipients
        return succeed(None)

    def over(self, name: str, why: BaseException | None) -> None:
        """One of them ended."""
        self.ended.append(name)
        self.errors.append(why)

    def follow(self) -> None:
        """Let the second use the connection."""
        self.second.begin([TWO], lambda: None, lambda why: self.over("second", why))

    def both(self) -> None:
        """Come to where the first's end and the second's envelope are on their way."""
        self.first.begin([ONE], self.follow, lambda why: self.over("first", why))
        self.assertEqual(self.said(), MAIL + _rcpt("one") + b"DATA\r\n")
        self.hear(ENVELOPE)
        self.assertEqual(self.said(), CONTENT + NEXT)

    def outcome(self, transaction: Transaction) -> tuple[Stage, int | str, bool] | None:
        """Stage, code or kind of trouble, and whether in doubt; None: nothing heard."""
        if not transaction.heard:
            return None
        (heard,) = transaction.heard.values()
        trouble = heard.trouble.kind if heard.trouble else ""
        what = heard.reply.code if heard.reply else trouble
        return heard.stage, what, heard.in_doubt

    def check(self, first: object, second: object) -> None:
        """Both are over, with these outcomes."""
        self.assertEqual(sorted(self.ended), ["first", "second"])
        self.assertEqual(self.outcome(self.first), first)
        self.assertEqual(self.outcome(self.second), second)


IN_DOUBT = (Stage.DOT, "lost-after-dot", True)
TAKEN = (Stage.DOT, 250, False)


class GoodPeerTests(Following):
    """A host that does as it should, in all the ways it may."""

    def test_one_write_a_message(self) -> None:
        """Content, dot and the next envelope leave together; two reads a message."""
        self.both()
        self.hear(b"250 first taken\r\n" + ENVELOPE)
        self.assertEqual(self.said(), HEAD + b"\r\nsecond\r\n.\r\n")
        self.assertEqual(self.ended, ["first"])
        self.hear(b"250 second taken\r\n")
        self.check(TAKEN, TAKEN)
        self.assertTrue(self.first.is_clean)
        self.assertTrue(self.second.is_clean)
        self.assertEqual(self.noted, [ONE, TWO])
        self.assertTrue(self.connection.usable)

    def test_split_at_every_byte(self) -> None:
        """However the answers are cut, each goes to what it answers."""
        answers = b"250 2.0.0 first\r\n" + ENVELOPE
        for cut in range(1, len(answers)):
            self.setUp()
            self.both()
            self.hear(answers[:cut], answers[cut:])
            self.hear(b"250 second taken\r\n")
            self.check(TAKEN, TAKEN)

    def test_byte_by_byte(self) -> None:
        """One octet at a time."""
        self.both()
        for octet in b"250 first\r\n" + ENVELOPE:
            self.hear(bytes([octet]))
        self.hear(b"250 second taken\r\n")
        self.check(TAKEN, TAKEN)

    def test_first_refused_second_taken(self) -> None:
        """A refusal of one content says nothing of the next message."""
        self.both()
        self.hear(b"550 5.7.1 spam\r\n" + ENVELOPE + b"")
        self.hear(b"250 second taken\r\n")
        self.check((Stage.DOT, 550, False), TAKEN)
        self.assertFalse(self.first.was_broken)

    def test_next_recipient_refused(self) -> None:
        """The first is delivered; no content goes out for the second, then RSET."""
        self.both()
        self.hear(b"250 first\r\n250 ok\r\n550 5.1.1 nobody\r\n554 no recipients\r\n")
        self.check(TAKEN, (Stage.RCPT, 550, False))
        self.assertEqual(self.said(), b"")
        self.assertTrue(self.connection.needs_reset)
        self.assertTrue(self.connection.usable)

    def test_next_recipient_refused_but_data_taken(self) -> None:
        """Then DATA is ended with nothing in it."""
        self.both()
        self.hear(b"250 first\r\n250 ok\r\n550 5.1.1 nobody\r\n354 go\r\n")
        self.assertEqual(self.said(), b".\r\n")
        self.hear(b"554 nothing came\r\n")
        self.check(TAKEN, (Stage.RCPT, 550, False))

    def test_next_data_refused(self) -> None:
        """It concerns the second alone."""
        self.both()
        self.hear(b"250 first\r\n250 ok\r\n250 ok\r\n451 not now\r\n")
        self.check(TAKEN, (Stage.DATA, 451, False))
        self.assertTrue(self.connection.needs_reset)

    def test_next_sender_refused(self) -> None:
        """The first is delivered, the second hears its own refusal."""
        self.both()
        self.hear(b"250 first\r\n550 not you\r\n503 no\r\n503 no\r\n")
        self.check(TAKEN, (Stage.MAIL, 550, False))


class HostilePeerTests(Following):
    """A host that answers too much, too little, too early, or is gone."""

    def test_reply_too_early(self) -> None:
        """An answer to the dot before the dot was sent ends the connection."""
        self.first.begin([ONE], self.follow, lambda why: self.over("first", why))
        self.hear(ENVELOPE + b"250 taken already\r\n")
        self.assertTrue(self.transport.disconnected)
        self.assertNotIn(b"first", self.said())
        self.assertEqual(self.ended, ["first"])
        self.assertFalse(self.first.is_clean)

    def test_one_reply_missing(self) -> None:
        """Without an answer to the dot, that to MAIL is not taken for it."""
        self.both()
        self.hear(ENVELOPE)
        self.check(IN_DOUBT, (Stage.MAIL, "protocol", False))
        self.assertTrue(self.second.stale)
        self.assertTrue(self.transport.disconnected)
        self.assertTrue(self.first.was_broken)
        self.assertNotIn(b"second", self.said())

    def test_one_reply_missing_and_the_next_recipient_refused(self) -> None:
        """What is then never answered shows it, when its time is over."""
        self.both()
        self.hear(b"250 ok\r\n550 nobody\r\n554 no recipients\r\n")
        self.assertEqual(self.ended, [])
        self.clock.advance(1000)
        self.check(IN_DOUBT, (Stage.MAIL, "timeout", False))

    def test_one_reply_missing_and_the_next_sender_refused(self) -> None:
        """No refusal of another command bounces the first message."""
        self.both()
        self.hear(b"550 not you\r\n503 no\r\n503 no\r\n")
        self.clock.advance(1000)
        self.check(IN_DOUBT, (Stage.MAIL, "timeout", False))

    def test_two_replies_in_one(self) -> None:
        """An answer too many leaves nobody knowing which is whose."""
        self.both()
        self.hear(b"250 first\r\n250 first again\r\n" + ENVELOPE)
        self.check(IN_DOUBT, (Stage.MAIL, "protocol", False))
        self.assertTrue(self.second.stale)
        self.assertNotIn(b"second", self.said())

    def test_two_replies_in_two_reads(self) -> None:
        """The same where the last of them comes later."""
        self.both()
        self.hear(b"250 first\r\n250 first again\r\n250 ok\r\n250 ok\r\n")
        self.check(IN_DOUBT, (Stage.MAIL, "protocol", False))
        self.hear(b"354 go\r\n")
        self.assertNotIn(b"second", self.said())

    def test_nonsense(self) -> None:
        """Words that are no reply leave the first in doubt, the next clean."""
        self.both()
        self.hear(b"250 first\r\nhello?\r\n")
        self.check(IN_DOUBT, (Stage.MAIL, "protocol", False))
        self.assertTrue(self.second.stale)

    def test_421_between(self) -> None:
        """Taken, and then closing: the first is delivered, the next comes again."""
        self.both()
        self.hear(b"250 first\r\n421 too many messages\r\n")
        self.lose()
        self.check(TAKEN, (Stage.MAIL, 421, False))
        self.assertTrue(self.second.stale)

    def test_421_to_the_dot(self) -> None:
        """The host closes instead: the first is tried again, so is the next."""
        self.both()
        self.hear(b"421 closing\r\n")
        self.lose()
        self.check((Stage.DOT, 421, False), (Stage.MAIL, "connection-lost", False))
        self.assertTrue(self.second.stale)

    def test_close_after_the_answer(self) -> None:
        """An answered dot stands, whatever the host does then."""
        self.both()
        self.hear(b"250 first\r\n")
        self.assertEqual(self.ended, [])
        self.lose()
        self.check(TAKEN, (Stage.MAIL, "connection-lost", False))
        self.assertTrue(self.second.stale)

    def test_close_after_the_dot(self) -> None:
        """Lost without an answer: the first is in doubt, the next untouched."""
        self.both()
        self.lose()
        self.check(IN_DOUBT, (Stage.MAIL, "connection-lost", False))
        self.assertTrue(self.second.stale)
        self.assertEqual(self.noted, [ONE])

    def test_silence_after_the_answer(self) -> None:
        """An answered dot stands where the next envelope is never answered."""
        self.both()
        self.hear(b"250 first\r\n")
        self.clock.advance(1000)
        self.check(TAKEN, (Stage.MAIL, "timeout", False))
        self.assertTrue(self.second.stale)

    def test_354_to_mail(self) -> None:
        """Only DATA is answered 354."""
        self.both()
        self.hear(b"250 first\r\n354 go\r\n250 ok\r\n354 go\r\n")
        self.check(IN_DOUBT, (Stage.MAIL, "protocol", False))
        self.assertNotIn(b"second", self.said())

    def test_data_answered_250(self) -> None:
        """A 250 to DATA is no answer to it, and the one before is in doubt too."""
        self.both()
        self.hear(b"250 first\r\n250 ok\r\n250 ok\r\n250 ok\r\n")
        self.check(IN_DOUBT, (Stage.MAIL, "protocol", False))


class OurTroubleTests(Following):
    """Where something of ours fails in between."""

    def test_the_next_dot_cannot_be_noted(self) -> None:
        """The first stands; nothing of the second's content goes out."""
        self.both()
        self.second._letter = Letter(
            Envelope(SENDER, ()), SECOND, lambda _: fail(StoreError("no space"))
        )
        self.hear(b"250 first\r\n" + ENVELOPE)
        self.check(TAKEN, (Stage.DATA, "interrupted", False))
        self.assertNotIn(b"second", self.said())

    def test_stopping(self) -> None:
        """A server that stops sends no new dot; the first's is still answered."""
        self.both()

        def refuse(_: Sequence[Recipient]) -> Deferred[None]:
            raise Interrupted("the server is stopping")

        self.second._letter = Letter(Envelope(SENDER, ()), SECOND, refuse)
        self.hear(b"250 first\r\n" + ENVELOPE)
        self.check(TAKEN, None)
        self.assertEqual(sum(isinstance(e, Interrupted) for e in self.errors), 1)
        self.assertNotIn(b"second", self.said())

    def test_lost_while_it_is_noted(self) -> None:
        """A connection that goes before the second's dot leaves it clean."""
        waiting: Deferred[None] = Deferred()
        self.both()
        self.second._letter = Letter(Envelope(SENDER, ()), SECOND, lambda _: waiting)
        self.hear(b"250 first\r\n" + ENVELOPE)
        self.lose()
        waiting.callback(None)
        self.check(TAKEN, (Stage.DATA, "connection-lost", False))
        self.assertNotIn(b"second", self.said())
