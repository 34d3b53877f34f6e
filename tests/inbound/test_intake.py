"""Tests for intake: what is refused, mended, scanned, stamped and queued."""

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Accepted, Trouble
from fwd_mta.inbound.content import Content
from fwd_mta.interfaces import Scanner
from fwd_mta.mail.account import Account
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import Category, QueueEntry, Status
from fwd_mta.mail.envelope import Body, Envelope, Notify, Recipient
from fwd_mta.mail.errors import NoSpace, StoreError
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.mail.session import Service, Session, TlsFacts
from fwd_mta.rules.signing import SigningKey
from fwd_mta.rules.submission import SubmissionPolicy
from tests.inbound.bench import Bench

ANN = Mailbox("ann", "example.com")
BOB = Recipient(Mailbox("bob", "example.net"))
SESSION = Session(
    Service.SUBMISSIONS,
    "192.0.2.7",
    40000,
    hello="me",
    extended=True,
    tls=TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    account=Account("ann@example.com"),
)
ENVELOPE = Envelope(ANN, (BOB,))
HEAD = b"From: ann@example.com\r\n"


class ScriptedScanner(Scanner):
    """A scanner with one answer for all; None: it never answers."""

    def __init__(self, answer: ScanReport | Exception | None) -> None:
        self.answer = answer
        self.seen: list[Message] = []
        self.cancelled = False

    @property
    @override
    def name(self) -> str:
        """Its name in reports."""
        return "scripted"

    @override
    async def scan(
        self, session: Session, envelope: Envelope, message: Message
    ) -> ScanReport:
        """Give the answer."""
        self.seen.append(message)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            return await Deferred(self._cancel)
        return self.answer

    def _cancel(self, waiting: Deferred[ScanReport]) -> None:
        self.cancelled = True


class IntakeTests(SynchronousTestCase):
    """`Intake.accept` answers the final dot."""

    @override
    def setUp(self) -> None:
        """An intake over a scripted store."""
        self.bench = Bench()

    def accept(
        self,
        content: bytes = HEAD + b"\r\nHi\r\n",
        envelope: Envelope = ENVELOPE,
        session: Session = SESSION,
    ) -> Reply:
        """The reply to a message."""
        arriving = Content(self.bench.intake.spool, 100_000)
        for at in range(0, len(content), 5000):
            arriving.write(content[at : at + 5000])
        accepted = self.bench.intake.accept(session, envelope, arriving)
        return self.successResultOf(Deferred.fromCoroutine(accepted))

    def queued(self) -> tuple[QueueEntry, Message]:
        """The one message in the queue."""
        [added] = self.bench.writer.added
        return added

    def test_accepted(self) -> None:
        """The entry holds all that delivery and the timeline need."""
        reply = self.accept()
        entry, message = self.queued()
        self.assertEqual(str(reply), f"250 2.0.0 Ok: queued as {entry.id}")
        self.assertEqual(entry.account, "ann@example.com")
        self.assertIs(entry.status, Status.QUEUED)
        self.assertEqual(entry.queued_at, self.bench.wall.now())
        self.assertEqual(entry.due, self.bench.wall.now())
        self.assertEqual(entry.size, message.size)
        self.assertEqual(entry.origin.client, "192.0.2.7")
        self.assertEqual(entry.origin.protocol, "ESMTPSA")
        self.assertEqual(entry.message_id, f"<{entry.id}@mail.example.com>")
        self.assertEqual(message.body, b"Hi\r\n")
        self.assertTrue(message.head.startswith(b"Received: by mail.example.com"))
        self.assertIn(HEAD, message.head)
        self.assertFalse(self.bench.writer.spools[0].discarded)
        self.assertIsInstance(self.bench.events[-1], Accepted)

    def test_hold_until(self) -> None:
        """A message for later is due at its release time."""
        later = self.bench.wall.now() + 3600
        self.accept(envelope=replace(ENVELOPE, hold_until=later))
        self.assertEqual(self.queued()[0].due, later)

    def test_smtputf8_that_nothing_needs(self) -> None:
        """A client that always says SMTPUTF8 has its header encoded like any other."""
        utf8 = replace(ENVELOPE, smtputf8=True)
        self.accept(HEAD + "Subject: hyv\u00e4\r\n\r\n".encode(), utf8)
        self.assertTrue(self.queued()[1].head.isascii())

    def test_smtputf8_that_is_needed(self) -> None:
        """Where an address needs it, in envelope or header, the header stays."""
        subject = "Subject: hyv\u00e4\r\n".encode()
        to = "To: \u00e4@example.net\r\n".encode()
        away = Recipient(Mailbox("\u00e4", "example.net"))
        self.accept(HEAD + subject + b"\r\n", Envelope(ANN, (away,), smtputf8=True))
        self.accept(HEAD + subject + to + b"\r\n", replace(ENVELOPE, smtputf8=True))
        for _, message in self.bench.writer.added:
            self.assertIn(subject, message.head)

    def test_refused(self) -> None:
        """A foreign From is refused after the dot, and nothing is kept."""
        reply = self.accept(b"From: eve@example.com\r\n\r\nHi\r\n")
        self.assertEqual((reply.code, reply.status), (550, "5.7.1"))
        self.assertEqual(self.bench.writer.added, [])
        self.assertTrue(self.bench.writer.spools[0].discarded)

    def test_no_field(self) -> None:
        """A header line that is no field is 550 5.6.0."""
        reply = self.accept(HEAD + b"no field\r\n\r\nHi\r\n")
        self.assertEqual((reply.code, reply.status), (550, "5.6.0"))

    def test_store_trouble(self) -> None:
        """Whatever breaks in us is 4xx and an event, and leaves nothing (P4)."""
        for error, code, words in (
            (StoreError("torn"), 451, "StoreError: torn"),
            (NoSpace("full"), 452, "NoSpace: full"),
            (ZeroDivisionError("a bug"), 451, "ZeroDivisionError at bench.py:"),
        ):
            self.bench = Bench()
            self.bench.writer.error = error
            self.assertEqual(self.accept().code, code)
            self.assertTrue(self.bench.writer.spools[0].discarded)
            [event] = self.bench.events
            assert isinstance(event, Trouble)
            self.assertIn(words, event.what)

    def test_body_lost(self) -> None:
        """A body that could not be written is never a 250."""
        arriving = Content(self.bench.intake.spool, 1000)
        arriving.write(HEAD + b"\r\nHi\r\n")
        self.bench.writer.spools[0].error = StoreError("disk gone")
        accepted = self.bench.intake.accept(SESSION, ENVELOPE, arriving)
        reply = self.successResultOf(Deferred.fromCoroutine(accepted))
        self.assertEqual(reply.code, 451)
        self.assertEqual(self.bench.writer.added, [])

    def test_no_room(self) -> None:
        """The reserve of the disk is asked for before the content comes."""
        self.assertIsNone(self.bench.intake.no_room())
        self.bench.writer.room = False
        reply = self.bench.intake.no_room()
        assert reply is not None
        self.assertEqual((reply.code, reply.status), (452, "4.3.1"))

    def test_notify_of_the_account(self) -> None:
        """The account's wish holds where the client gave no NOTIFY."""
        account = Account("ann@example.com", notify=(Notify.SUCCESS,))
        asked = Recipient(Mailbox("carl", "example.net"), (Notify.NEVER,))
        self.accept(
            session=replace(SESSION, account=account),
            envelope=replace(ENVELOPE, recipients=(BOB, asked)),
        )
        wanted = [one.recipient.notify for one in self.queued()[0].standings]
        self.assertEqual(wanted, [(Notify.SUCCESS,), (Notify.NEVER,)])

    def test_body_parameter_tells_the_truth(self) -> None:
        """8-bit content counts as 8BITMIME without BODY=; ASCII needs none."""
        table = (
            ("Hä\r\n".encode(), None, Body.EIGHT_BIT),
            (b"Hi\r\n", None, None),
            (b"Hi\r\n", Body.EIGHT_BIT, None),
            (b"Hi\r\n", Body.SEVEN_BIT, Body.SEVEN_BIT),
        )
        for body, given, expected in table:
            self.bench = Bench()
            self.accept(HEAD + b"\r\n" + body, replace(ENVELOPE, body=given))
            self.assertIs(self.queued()[0].envelope.body, expected)

    def test_raw_utf8_header(self) -> None:
        """Raw UTF-8 is encoded; other octets are refused, also under SMTPUTF8."""
        raw = HEAD + "Subject: Grüße\r\n".encode()
        self.accept(raw + b"\r\nHi\r\n")
        self.assertIn(b"=?utf-8?", self.queued()[1].head.lower())
        for smtputf8 in (True, False):
            envelope = replace(ENVELOPE, smtputf8=smtputf8)
            reply = self.accept(HEAD + b"Subject: \xff\r\n\r\nHi\r\n", envelope)
            self.assertEqual((reply.code, reply.status), (550, "5.6.0"))

    def test_long_lines(self) -> None:
        """A body with long lines is encoded, small or large (RFC 6409 8)."""
        for count in (1, 100):
            self.bench = Bench()
            self.accept(HEAD + b"\r\n" + (b"x" * 1200 + b"\r\n") * count)
            message = self.queued()[1]
            assert isinstance(message.body, bytes)
            self.assertLessEqual(max(map(len, message.body.split(b"\r\n"))), 998)
            self.assertIn(b"quoted-printable", message.head)

    def test_long_lines_refused(self) -> None:
        """Or refused with the line, where the operator wants that."""
        self.bench = Bench(policy=SubmissionPolicy(long_lines="reject"))
        reply = self.accept(HEAD + b"\r\nshort\r\n" + b"x" * 1200 + b"\r\n")
        self.assertEqual(reply.status, "5.6.0")
        self.assertIn("Line 4", reply.text)

    def test_signed_unless_held(self) -> None:
        """Our signature is made when the message may leave: now, or at its release."""
        key = SigningKey("example.com", "s1", Ed25519PrivateKey.generate())
        self.bench.intake.keys = (key,)
        now = self.bench.wall.now()
        for held, signatures in ((None, 1), (now - 5, 1), (now + 60, 0)):
            self.bench.writer.added.clear()
            self.accept(envelope=replace(ENVELOPE, hold_until=held))
            [(_, message)] = self.bench.writer.added
            self.assertEqual(message.head.count(b"DKIM-Signature:"), signatures)

    def test_long_lines_signed(self) -> None:
        """A signed part is never touched: refused, with the cure."""
        kind = b"Content-Type: application/pkcs7-mime\r\n"
        reply = self.accept(HEAD + kind + b"\r\n" + b"x" * 1200 + b"\r\n")
        self.assertEqual((reply.code, reply.status), (550, "5.6.0"))

    def test_long_header_line(self) -> None:
        """A long header field is folded."""
        self.accept(HEAD + b"Subject:" + b" word" * 400 + b"\r\n\r\nHi\r\n")
        lines = self.queued()[1].head.split(b"\r\n")
        self.assertLessEqual(max(map(len, lines)), 998)

    def test_scanned(self) -> None:
        """Each verdict has its reply; a scanner that breaks defers (guarantee 30)."""
        virus = Category.VIRUS
        table = (
            (ScanReport("clam", Verdict.ACCEPT), 250, ""),
            (ScanReport("clam", Verdict.TAG, fields=(("X-Spam", "yes"),)), 250, ""),
            (ScanReport("clam", Verdict.QUARANTINE, "odd"), 250, ""),
            (ScanReport("clam", Verdict.REJECT, "Eicar", virus), 554, "Eicar"),
            (ScanReport("clam", Verdict.REJECT, "no"), 550, "no"),
            (ScanReport("clam", Verdict.DEFER, "busy"), 451, "busy"),
            (ScanReport("clam", Verdict.FAILED, note="away"), 451, "try again"),
            (RuntimeError("boom"), 451, "try again"),
        )
        for answer, code, words in table:
            scanner = ScriptedScanner(answer)
            self.bench = Bench(scanners=[scanner])
            reply = self.accept()
            self.assertEqual(reply.code, code)
            self.assertIn(words, reply.text)
            self.assertEqual(len(self.bench.writer.added), int(code == 250))
            self.assertEqual(len(scanner.seen), 1)
            troubles = [e for e in self.bench.events if isinstance(e, Trouble)]
            self.assertEqual(len(troubles), int("try again" in words))
            if code != 250:
                self.assertEqual(reply.status, f"{code // 100}.7.1")
                self.assertTrue(self.bench.writer.spools[0].discarded)

    def test_scanners_see_what_leaves(self) -> None:
        """They are shown the stamped message, and what each said is recorded."""
        first = ScriptedScanner(ScanReport("one", Verdict.ACCEPT, score=1.25))
        second = ScriptedScanner(ScanReport("two", Verdict.TAG, fields=(("X-A", "b"),)))
        self.bench = Bench(scanners=[first, second])
        self.accept()
        entry, message = self.queued()
        self.assertIn(b"Message-ID: ", first.seen[0].head)
        self.assertEqual(message.head, b"X-A: b\r\n" + first.seen[0].head)
        self.assertEqual(
            entry.origin.checks, ("one accept 1.2 (0 ms)", "two tag (0 ms)")
        )

    def test_quarantined(self) -> None:
        """The message is taken, and waits on hold with the reason."""
        report = ScanReport("clam", Verdict.QUARANTINE, "PUA.Tool")
        self.bench = Bench(scanners=[ScriptedScanner(report)])
        self.accept()
        self.assertEqual(self.queued()[0].held, "clam: PUA.Tool")

    def test_scanners_that_hang(self) -> None:
        """One time limit for all at once; then they are cut and it is 451."""
        silent = [ScriptedScanner(None), ScriptedScanner(None)]
        good = ScriptedScanner(ScanReport("good", Verdict.ACCEPT))
        self.bench = Bench(scanners=[*silent, good])
        arriving = Content(self.bench.intake.spool, 100_000)
        arriving.write(HEAD + b"\r\nHi\r\n")
        accepted = Deferred.fromCoroutine(
            self.bench.intake.accept(SESSION, ENVELOPE, arriving)
        )
        self.bench.clock.advance(29)
        self.assertNoResult(accepted)
        self.assertEqual(len(good.seen), 1)
        self.bench.clock.advance(1)
        reply = self.successResultOf(accepted)
        self.assertEqual((reply.code, reply.status), (451, "4.7.1"))
        self.assertTrue(all(one.cancelled for one in silent))
        self.assertIn("within 30 seconds", str(self.bench.events[0]))
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_on_error_accept(self) -> None:
        """If the operator says so, mail passes unchecked, marked and with an event."""
        self.bench = Bench(scanners=[ScriptedScanner(RuntimeError("boom"))])
        self.bench.checks.on_error = "accept"
        self.assertEqual(self.accept().code, 250)
        entry, message = self.queued()
        self.assertTrue(message.head.startswith(b"X-Fwdmta-Unchecked: scripted\r\n"))
        self.assertIn("scripted failed: RuntimeError", entry.origin.checks[0])
        self.assertIsInstance(self.bench.events[0], Trouble)

    def test_relay(self) -> None:
        """From a trusted network: no account, missing fields added, lines mended."""
        session = Session(
            Service.RELAY, "10.0.0.9", 1, hello="printer", extended=True, trusted=True
        )
        self.bench = Bench(policy=SubmissionPolicy(long_lines="reject"))
        self.accept(b"Subject: x\r\n\r\n" + b"y" * 1500 + b"\r\n", session=session)
        entry, message = self.queued()
        self.assertIsNone(entry.account)
        self.assertIn(b"From: ann@example.com\r\n", message.head)
        self.assertIn(b"quoted-printable", message.head)
