"""Stores written by released versions are read, delivered, redacted for ever (P10)."""

import os
from collections.abc import Awaitable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Attempted, Event
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Status, Step
from fwd_mta.net.disk import SystemDisk
from fwd_mta.queue.commit import seen_to
from fwd_mta.queue.files import FileStore
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.machine import InlineWorker, VirtualWall
from tests.builders import DELIVERED, T0, attempt
from tests.formats import make
from tests.queue.stores import BODY, HEAD, finished, notices_for

T = TypeVar("T")
HERE = os.path.dirname(os.path.abspath(__file__))


def versions() -> list[str]:
    """The released versions that left a store."""
    return sorted(name for name in os.listdir(HERE) if name[:1].isdigit())


def load(version: str) -> MemoryDisk:
    """A disk that holds the store of a version."""
    disk = MemoryDisk()
    top = os.path.join(HERE, version)
    for directory, _, names in os.walk(top):
        target = "/srv" + directory.removeprefix(top)
        disk.make_directory(target)
        for name in names:
            file = disk.create(f"{target}/{name}")
            source = SystemDisk().open(os.path.join(directory, name))
            file.append(source.read_at(0, source.size()))
            source.close()
    return disk


class FormatTests(SynchronousTestCase):
    """Each test runs on the store of every version."""

    @override
    def setUp(self) -> None:
        self.assertEqual(versions()[:2], ["26.11.0", "26.11.1"])

    def start(self, version: str) -> None:
        """Open a copy of a version's store."""
        self.clock = Clock()
        self.wall = VirtualWall(self.clock)
        self.events: list[Event] = []
        self.disk = load(version)
        self.store = FileStore(
            self.disk,
            "/srv",
            InlineWorker(),
            self.wall,
            self.clock,
            make.POLICY,
            0,
            1000,
            self.events.append,
        )
        self.get(self.store.start(T0))

    def get(self, work: Awaitable[T]) -> T:
        """What a call gives."""
        results: list[T] = []
        begun = work if isinstance(work, Deferred) else _begun(work)
        seen_to(begun.addCallback(results.append))
        self.successResultOf(begun)
        return results[0]

    def entry(self, entry_id: str) -> QueueEntry:
        """An entry by its id."""
        wanted = EntryFilter(ids=(entry_id,), finished=True)
        return self.get(self.store.entries(wanted))[0]

    def content(self, entry_id: str) -> tuple[bytes, bytes]:
        """Head and body."""
        found = self.get(self.store.open(entry_id))
        return found.head, self.get(found.read(0, found.body_size))

    def test_every_state_is_read(self) -> None:
        """Entries of all kinds, with all a client can give, are as they were."""
        for version in versions():
            self.start(version)
            fresh = self.entry(make.FRESH)
            self.assertEqual(fresh, make.rich(make.FRESH))
            statuses = {
                make.WAITING: Status.DEFERRED,
                make.HELD: Status.QUEUED,
                make.OWING: Status.BOUNCED,
                make.SENT: Status.SENT,
                make.BOUNCED: Status.BOUNCED,
                make.REDACTED: Status.SENT,
            }
            for name, status in statuses.items():
                self.assertIs(self.entry(name).status, status, name)
            self.assertEqual(self.entry(make.HELD).held, "an operator's word")
            self.assertEqual(len(self.entry(make.OWING).owed), 1)
            self.assertEqual(self.entry(f"{make.BOUNCED}-1").cause, make.BOUNCED)
            self.assertIsNotNone(self.entry(make.REDACTED).redacted_at)

    def test_every_content_is_read(self) -> None:
        """Small and large, with good checksums."""
        for version in versions():
            self.start(version)
            for name in (make.FRESH, make.WAITING, make.HELD, make.SENT):
                self.assertEqual(self.content(name), (HEAD, BODY))
            self.assertEqual(self.content(make.BIG), (HEAD, make.LARGE))
            self.assertNotIn(b"secret", b"".join(self.content(make.REDACTED)))

    def test_timelines_are_read(self) -> None:
        """What happened is told as it was."""
        for version in versions():
            self.start(version)
            self.get(self.store.claim(T0, 50))
            told = {
                make.WAITING: ["accepted", "attempt"],
                make.BOUNCED: ["accepted", "attempt", "paid"],
                make.REDACTED: ["accepted", "attempt", "redacted"],
                make.DOUBTFUL: ["accepted", "dot-sent", "in-doubt"],
            }
            for name, words in told.items():
                steps = self.get(self.store.timeline(name))
                self.assertEqual([step.what for step in steps], words)

    def test_an_old_doubt_is_a_doubt(self) -> None:
        """A dot without an answer is found, whoever sent it."""
        for version in versions():
            self.start(version)
            self.get(self.store.claim(T0, 50))
            (event,) = self.events
            assert isinstance(event, Attempted)
            self.assertEqual((event.id, event.in_doubt), (make.DOUBTFUL, True))

    def test_it_goes_on(self) -> None:
        """Everything that waits is given out, delivered, paid, redacted, purged."""
        for version in versions():
            self.start(version)
            seen: list[str] = []
            for _ in range(20):
                for one in self.get(self.store.claim(self.wall.now(), 50)):
                    seen.append(one.id)
                    self.deliver(one)
                self.clock.advance(60)
            wanted = [make.FRESH, make.WAITING, make.OWING, make.DOUBTFUL, make.BIG]
            notices = [f"{make.BOUNCED}-1", f"{make.OWING}-1"]
            self.assertEqual(sorted(seen), sorted([*wanted, *notices]))
            self.clock.advance(31 * 86_400)
            self.get(self.store.sweep(self.wall.now()))
            self.assertNotIn(b"xyzzy", self.left())
            self.clock.advance(61 * 86_400)
            self.get(self.store.sweep(self.wall.now()))
            left = [path for path in self.disk.files() if "/retained/" in path]
            self.assertEqual(left, [])

    def test_the_journal_is_among_them(self) -> None:
        """The second form has young mail in a segment, and a pack."""
        names = load("26.11.1").files()
        self.assertTrue([name for name in names if "/queue/journal/" in name])
        self.assertTrue([name for name in names if name.endswith(".pack")])

    def deliver(self, one: QueueEntry) -> None:
        """Deliver an entry, or pay what it owes."""
        now = self.wall.now()
        if one.owed:
            self.get(self.store.pay(one, notices_for(one, now)))
            return
        step = Step(now, "attempt", "", attempt(DELIVERED, at=now))
        self.get(self.store.record(finished(one, now), step))

    def left(self) -> bytes:
        """All content but that of held mail."""
        files = self.disk.files().items()
        return b"".join(octets for path, octets in files if "/hold/" not in path)


def _begun(work: Awaitable[T]) -> Deferred[T]:
    async def run() -> T:
        return await work

    return Deferred.fromCoroutine(run())
