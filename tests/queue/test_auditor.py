"""The live server looks at itself."""

from collections.abc import Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Trouble
from fwd_mta.mail.entry import QueueEntry, Status
from fwd_mta.mail.errors import StoreError
from fwd_mta.queue.agenda import LOOKAHEAD
from fwd_mta.queue.auditor import Auditor
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.world.machine import VirtualWall
from tests.builders import T0, entry
from tests.kit import World


class _Store:
    """A store that says what it is told to."""

    def __init__(self) -> None:
        self.near = 0
        self.due: float | None = None
        self.records: list[QueueEntry] = []
        self.asked: list[str] = []
        self.broken = False

    async def sample(self, after: str, count: int) -> Sequence[QueueEntry]:
        """The next records."""
        self.asked.append(after)
        if self.broken:
            raise StoreError("the disk is gone")
        return [one for one in self.records if one.id > after][:count]

    def next_due(self) -> float | None:
        """When mail is due."""
        return self.due


class AuditorTests(SynchronousTestCase):
    """What it finds, and that it finds nothing else."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = VirtualWall(self.clock, T0)
        self.store = _Store()
        self.events: list[Event] = []
        self.has_room = True
        self.auditor = Auditor(
            self.store,
            self.clock,
            self.wall,
            self.events.append,
            RetrySchedule,
            lambda: self.has_room,
        )
        self.auditor.start()

    def look(self, times: int = 1) -> list[str]:
        """Let it look so often; gives all it has told so far."""
        self.clock.pump([60.0] * times)
        return [one.what for one in self.events if isinstance(one, Trouble)]

    def test_all_is_well(self) -> None:
        """Sound mail, due or not, is nothing to tell."""
        self.store.records = [entry()]
        self.store.due = T0 + 30
        self.assertEqual(self.look(5), [])
        self.assertEqual(self.auditor.found, 0)

    def test_a_flaw(self) -> None:
        """A record that cannot be is counted and told, with what to do."""
        self.store.records = [replace(entry(), finished_at=T0)]
        (words,) = self.look()
        self.assertIn("it is said to be over, and a recipient waits", words)
        self.assertEqual(self.auditor.found, 1)
        (event,) = self.events
        self.assertIn("fwdmta fsck", str(event))

    def test_beyond_its_schedule(self) -> None:
        """Mail that waits for the day after its lifetime is told."""
        (standing,) = entry().standings
        later = replace(standing, next_attempt_at=T0 + 6 * 86_400)
        self.store.records = [replace(entry(), standings=(later,))]
        self.assertIn("beyond its schedule", self.look()[0])

    def test_page_by_page(self) -> None:
        """Each look goes on where the last one ended, and begins anew at the end."""
        ids = [f"{number:016d}" for number in range(40)]
        self.store.records = [entry(entry_id=one) for one in ids]
        self.assertEqual(self.look(4), [])
        self.assertEqual(self.store.asked, ["", ids[15], ids[31], ""])

    def test_due_mail_that_nobody_takes(self) -> None:
        """Told once after three looks, and only while there is room for it."""
        self.store.due = T0 - 1000
        self.assertEqual(self.look(2), [])
        self.assertEqual(len(self.look(5)), 1)
        self.has_room = False
        self.assertEqual(len(self.look(5)), 1)

    def test_memory(self) -> None:
        """More known by id than is ever to be known."""
        self.store.near = 2 * LOOKAHEAD
        self.assertIn("known by id", self.look()[0])

    def test_a_disk_that_fails(self) -> None:
        """It is told, is no find, and the next look comes."""
        self.store.broken = True
        self.assertIn("looking failed", self.look()[0])
        self.store.broken = False
        self.assertEqual(len(self.look()), 1)
        self.assertEqual(self.auditor.found, 0)

    def test_it_stops(self) -> None:
        """No look after the stop."""
        stopping = Deferred.fromCoroutine(self.auditor.stop())
        self.successResultOf(stopping)
        self.look(3)
        self.assertEqual(self.store.asked, [])


class LiveTests(SynchronousTestCase):
    """In a server."""

    def test_reads_what_is_near(self) -> None:
        """Waiting mail is read from the disk each minute; the figure is 0."""
        world = World(extra='[metrics]\naddress = "127.0.0.1:9464"\n')
        world.start()
        self.addCleanup(lambda: world.done(world.server.stop()))
        world.submit("bob+later@example.net", "carol+full@example.net")
        sampled: list[QueueEntry] = []
        for _ in range(100):
            world.pass_time(10)
            sampled += world.done(world.server.store.sample("", 16))
        self.assertEqual({one.status for one in sampled}, {Status.DEFERRED})
        self.assertEqual(world.server.auditor.found, 0)
        metrics = world.server.metrics
        assert metrics is not None
        self.assertIn(b"fwdmta_audit_flaws 0.0", metrics.text())
