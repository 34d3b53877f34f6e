"""A milter behind intake: all stages, changes, verdicts, and every misdeed."""

from struct import pack

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.inbound.content import Content
from fwd_mta.inbound.milter import Milter
from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.milters import MilterHost, Packet
from fwd_mta.world.network import Link, MemoryNetwork
from tests.inbound.bench import Bench
from tests.inbound.test_intake import ENVELOPE, SESSION

TEXT = b"From: ann@example.com\r\nSubject:  two\r\n lines\r\n\r\nHi\r\nthere\r\n"
PLACE = "127.0.0.1:8891"
LEADING = 0x100000
NO_REPLIES = 0xDF080
WANTS_NOTHING = 0x27F


class MilterTests(SynchronousTestCase):
    """`Milter` over the network in memory."""

    @override
    def setUp(self) -> None:
        """An intake with one milter."""
        self.use(MilterHost())

    def use(self, *hosts: MilterHost) -> None:
        """An intake with these milters, in this order."""
        self.bench = Bench()
        self.host = hosts[0]
        network = MemoryNetwork(self.bench.clock, SeededEntropy(), Link(split=True))
        milters = []
        for port, host in enumerate(hosts, 8891):
            _ = network.listen(f"127.0.0.1:{port}", host)
            place = f"inet:127.0.0.1:{port}"
            milters.append(Milter(network, place, "mail.example.com"))
        self.bench.checks.milters = milters

    def accept(self, text: bytes = TEXT) -> Reply:
        """The reply to a message."""
        arriving = Content(self.bench.intake.spool, 100_000)
        arriving.write(text)
        accepted = Deferred.fromCoroutine(
            self.bench.intake.accept(SESSION, ENVELOPE, arriving)
        )
        for step in [0.01] * 300 + [1.0] * 31:
            if accepted.called:
                break
            self.bench.clock.advance(step)
        return self.successResultOf(accepted)

    def queued(self) -> tuple[QueueEntry, Message]:
        """The one message in the queue."""
        [added] = self.bench.writer.added
        return added

    def answering(self, letter: bytes, *packets: Packet) -> Reply:
        """The reply when the milter answers a command with these packets."""
        self.use(MilterHost({letter: packets}))
        return self.accept()

    def test_all_stages(self) -> None:
        """It is told everything, in order, with the macros of Postfix."""
        self.assertEqual(self.accept().code, 250)
        entry, message = self.queued()
        letters = self.host.letters().replace("D", "")
        self.assertEqual(letters, "OCHMRT" + "L" * 5 + "NBEQ")
        self.assertEqual(self.host.data(b"M"), [b"<ann@example.com>\0"])
        self.assertEqual(self.host.data(b"R"), [b"<bob@example.net>\0"])
        self.assertEqual(self.host.data(b"B"), [b"Hi\r\nthere\r\n"])
        self.assertIn(b"Subject\0 two\n lines\0", self.host.data(b"L"))
        macros = b"".join(self.host.data(b"D"))
        for name, value in (
            ("i", entry.id),
            ("j", "mail.example.com"),
            ("{auth_authen}", "ann@example.com"),
            ("{tls_version}", "TLSv1.3"),
        ):
            self.assertIn(f"{name}\0{value}\0".encode(), macros)
        self.assertIn("milter@inet:127.0.0.1:8891 accept", entry.origin.checks[0])
        self.assertIn(b"Subject:  two\r\n lines\r\n", message.head)

    def test_leading_space(self) -> None:
        """A milter that asks for it gets header values as they are."""
        self.use(MilterHost(steps=LEADING))
        self.accept()
        self.assertIn(b"Subject\0  two\n lines\0", self.host.data(b"L"))

    def test_wants_nothing(self) -> None:
        """What it does not want is not sent; what it does not answer, not awaited."""
        self.use(MilterHost(steps=WANTS_NOTHING & ~0x20))
        self.assertEqual(self.accept().code, 250)
        self.assertEqual(self.host.letters().replace("D", ""), "OLLLLLEQ")
        silent = dict.fromkeys((b"C", b"H", b"M", b"R", b"T", b"L", b"N", b"B"))
        self.use(MilterHost(silent, steps=NO_REPLIES))
        self.assertEqual(self.accept().code, 250)
        self.assertEqual(self.host.letters().count("B"), 1)

    def test_changes(self) -> None:
        """Header fields added, inserted, changed, removed; the body replaced."""
        reply = self.answering(
            b"E",
            (b"p", b""),
            (b"h", b"X-Last\0 end\0"),
            (b"i", pack(">I", 0) + b"X-First\0a\n\tb\0"),
            (b"m", pack(">I", 1) + b"Subject\0new\0"),
            (b"m", pack(">I", 1) + b"Message-ID\0\0"),
            (b"b", b"New "),
            (b"b", b"b\xc3\xb6dy\r\n"),
            (b"c", b""),
        )
        self.assertEqual(reply.code, 250)
        entry, message = self.queued()
        self.assertTrue(message.head.startswith(b"X-First: a\r\n\tb\r\nReceived:"))
        self.assertTrue(message.head.endswith(b"X-Last:  end\r\n"))
        self.assertIn(b"Subject: new\r\n", message.head)
        self.assertNotIn(b"Message-ID", message.head)
        self.assertEqual(message.body, b"New b\xc3\xb6dy\r\n")
        self.assertEqual(entry.envelope.body, "8BITMIME")

    def test_verdicts(self) -> None:
        """Each verdict at each stage, in its own words where it has some."""
        own = (b"y", b"550 5.7.9 Not this one\0")
        for letter in (b"C", b"H", b"M", b"R", b"T", b"L", b"N", b"B", b"E"):
            for packet, expected in (
                ((b"r", b""), "550 5.7.1 Message refused"),
                ((b"d", b""), "550 5.7.1 Message refused"),
                ((b"t", b""), "451 4.7.1 Not now, try again later"),
                (own, "550 5.7.9 Not this one"),
            ):
                self.assertEqual(str(self.answering(letter, packet)), expected)
            self.assertEqual(self.answering(letter, (b"a", b"")).code, 250)

    def test_quarantine(self) -> None:
        """The message waits on hold, with the milter's reason."""
        self.answering(b"E", (b"q", b"looks odd\0"), (b"c", b""))
        held = "milter@inet:127.0.0.1:8891: looks odd"
        self.assertEqual(self.queued()[0].held, held)

    def test_skip(self) -> None:
        """A milter that has seen enough of the body is spared the rest."""
        self.use(MilterHost({b"B": [(b"s", b"")]}))
        self.accept(TEXT + b"x\r\n" * 50_000)
        self.assertEqual(self.host.letters().count("B"), 1)

    def test_two_in_turn(self) -> None:
        """The second sees what the first has made; after a refusal nobody is asked."""
        added = [(b"h", b"X-One\x001\0"), (b"c", b"")]
        first, second = MilterHost({b"E": added}), MilterHost()
        self.use(first, second)
        self.assertEqual(self.accept().code, 250)
        self.assertIn(b"X-One\x001\0", second.data(b"L"))
        first, second = MilterHost({b"M": [(b"r", b"")]}), MilterHost()
        self.use(first, second)
        self.assertEqual(self.accept().code, 550)
        self.assertEqual(second.heard, [])

    def test_misdeeds(self) -> None:
        """Whatever else it does: 451, nothing changed, and a line to the operator."""
        table = (
            MilterHost(version=1),
            MilterHost(changes=0x04),
            MilterHost({b"O": [(b"O", b"x")]}),
            MilterHost({b"O": [(b"c", b"")]}),
            MilterHost({b"O": None}),
            MilterHost({b"M": [(b"?", b"")]}),
            MilterHost({b"M": [(b"y", b"250 fine")]}),
            MilterHost({b"E": None}),
            MilterHost({b"E": [(b"h", b"no value"), (b"c", b"")]}),
            MilterHost({b"E": [(b"h", b"A\r\nB\0x\0"), (b"c", b"")]}),
            MilterHost({b"E": [(b"m", b"x"), (b"c", b"")]}),
            MilterHost({b"E": [(b"b", b"bare\nline"), (b"c", b"")]}),
            MilterHost({b"E": [(b"h", b"A\0x\0")] * 600}),
            MilterHost({b"E": [(b"+", b"<eve@example.org>\0"), (b"c", b"")]}),
        )
        for number, host in enumerate(table):
            self.use(host)
            reply = self.accept()
            self.assertEqual((reply.code, reply.status), (451, "4.7.1"), number)
            self.assertIn("could not check a message", str(self.bench.events[0]))
            self.assertEqual(self.bench.writer.added, [])
            self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_failed_but_accepted(self) -> None:
        """With on_error "accept" the message passes as it was, and is marked."""
        self.use(MilterHost({b"E": [(b"h", b"A\r\nB\0x\0"), (b"c", b"")]}))
        self.bench.checks.on_error = "accept"
        self.assertEqual(self.accept().code, 250)
        head = self.queued()[1].head
        self.assertTrue(head.startswith(b"X-Fwdmta-Unchecked: milter@inet:"))
