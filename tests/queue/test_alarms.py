"""Tests for the mail that tells the operator what is wrong."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Lifecycle, SiteRests, Suspended, Trouble
from fwd_mta.interfaces import QueueWriter, Spool
from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.errors import StoreError
from fwd_mta.mail.message import Message
from fwd_mta.queue.alarms import A_DAY, DAY, Alarms
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from tests.builders import mailbox
from tests.kit import World

TROUBLE = Trouble("store", "the disk is full", "make room under /var/lib/fwdmta")
HELD = Suspended("ann@example.com", "20 were refused", "fwdmta account enable ann")


class Writer(QueueWriter):
    """Keeps what it is given, or fails."""

    def __init__(self) -> None:
        self.taken: list[tuple[QueueEntry, Message]] = []
        self.broken = False

    @override
    def has_room(self, octets: int) -> bool:
        return not self.broken

    @override
    def spool(self) -> Spool:
        raise NotImplementedError

    @override
    async def add(self, entry: QueueEntry, message: Message) -> None:
        if self.broken:
            raise StoreError("disk full")
        self.taken.append((entry, message))


class AlarmsTests(SynchronousTestCase):
    """`Alarms` is given events."""

    @override
    def setUp(self) -> None:
        self.clock, self.events = Clock(), list[Event]()
        self.writer = Writer()
        self.alarms = Alarms(
            self.writer,
            "mail.example.com",
            VirtualWall(self.clock),
            SeededEntropy(1),
            self.events.append,
        )
        self.alarms.mailbox = mailbox("root@example.com")
        self.alarms.start()

    def bodies(self) -> list[bytes]:
        """The text of what went to the operator."""
        bodies = (message.body for _, message in self.writer.taken)
        return [body for body in bodies if isinstance(body, bytes)]

    def test_told(self) -> None:
        """The mail says where, what and what to do; nobody is told that it failed."""
        self.alarms.hear(TROUBLE)
        [(entry, message)] = self.writer.taken
        self.assertIsNone(entry.envelope.reverse_path)
        self.assertEqual(str(entry.standings[0].recipient.mailbox), "root@example.com")
        self.assertIn(b"Subject: mail.example.com: store needs you", message.head)
        self.assertIn(b"Auto-Submitted: auto-generated", message.head)
        for words in (b"the disk is full", b"To do: make room under"):
            self.assertIn(words, self.bodies()[0])

    def test_once_a_day(self) -> None:
        """The same cause is told again after a day, another one at once."""
        for _ in range(3):
            self.alarms.hear(TROUBLE)
            self.alarms.hear(HELD)
        self.assertEqual(len(self.writer.taken), 2)
        self.clock.advance(DAY + 1)
        self.alarms.hear(TROUBLE)
        self.assertEqual(len(self.writer.taken), 3)

    def test_each_message_is_no_cause(self) -> None:
        """Troubles of many messages are one cause: a bad disk makes no flood."""
        for number in range(100):
            self.alarms.hear(Trouble(f"message {number}", "cannot be read"))
        self.assertEqual(len(self.writer.taken), 1)

    def test_bounded(self) -> None:
        """However many causes there are, there are only so many mails a day."""
        for number in range(A_DAY + 20):
            self.alarms.hear(Trouble(f"part-{number}", "is broken"))
        self.assertEqual(len(self.writer.taken), A_DAY)

    def test_what_is_none(self) -> None:
        """The daily life of the server and a site that is down are no alarms."""
        self.alarms.hear(Lifecycle("started"))
        self.alarms.hear(SiteRests("mx.example.net", "", "no answer", 300.0))
        self.assertEqual(self.writer.taken, [])
        self.alarms.hear(SiteRests("mx.example.net", "", "550 listed", 3600.0))
        self.assertIn(b"refuses us for 60 minutes: 550 listed", self.bodies()[0])

    def test_nobody(self) -> None:
        """Without an operator's address nothing is sent."""
        self.alarms.mailbox = None
        self.alarms.hear(TROUBLE)
        self.assertEqual(self.writer.taken, [])

    def test_disk_full(self) -> None:
        """A queue that takes no mail makes one line in the log, and no loop."""
        self.writer.broken = True
        self.alarms.hear(TROUBLE)
        [event] = self.events
        assert isinstance(event, Trouble)
        self.assertEqual(event.where, "alarms")
        self.alarms.hear(event)
        self.assertEqual(len(self.events), 1)

    def test_hostile_words(self) -> None:
        """Words from the wire start no line and no field."""
        self.alarms.hear(
            Trouble("x\r\nBcc: y@example.net", "a\r\n.\r\nMAIL FROM:<>\x1b")
        )
        [(_, message)] = self.writer.taken
        self.assertNotIn(b"\r\nBcc", message.head)
        self.assertNotIn(b"\x1b", self.bodies()[0])
        self.assertNotIn(b"\r\n.\r\n", self.bodies()[0])

    def test_before_the_start(self) -> None:
        """What is heard while the queue is still closed is told when it opens."""
        self.alarms.stop()
        self.alarms.hear(TROUBLE)
        self.assertEqual(self.writer.taken, [])
        self.alarms.start()
        self.assertEqual(len(self.writer.taken), 1)


class TellingServerTests(SynchronousTestCase):
    """A whole server with an operator."""

    def test_arrives(self) -> None:
        """A reload that fails is told by mail, through the queue."""
        world = World(extra='[operator]\nmail = "root@example.net"\n')
        world.start()
        world.files["/tls/key"] = b"no key"
        self.assertTrue(world.done(world.server.reload()))
        world.pass_time(30)
        [arrived] = world.inbox.messages
        self.assertIn(b"reload needs you", arrived.content)
