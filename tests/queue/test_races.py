"""Many things at once, in every order that threads may take (seeded)."""

from collections import Counter
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event
from fwd_mta.interfaces import Worker
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Step
from fwd_mta.queue.commit import seen_to
from fwd_mta.queue.files import FileStore
from fwd_mta.rules import settlement
from fwd_mta.rules.identity import entry_id
from fwd_mta.world.disk import Crash, MemoryDisk
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from tests.builders import DEFERRED, attempt, entry, recipient
from tests.queue.stores import (
    MESSAGE,
    POLICY,
    deferred,
    finished,
    notices_for,
    owing,
)

T = TypeVar("T")
MESSAGES = 40


class ShuffledWorker(Worker):
    """Threads that run what they were given in an order by chance."""

    def __init__(self, entropy: SeededEntropy) -> None:
        self._entropy = entropy
        self._jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Keep the job for later."""
        done: Deferred[T] = Deferred()
        self._jobs.append((job, done))
        return done

    def step(self) -> bool:
        """Run one of the jobs; False if there is none."""
        if not self._jobs:
            return False
        job, done = self._jobs.pop(int(self._entropy.random() * len(self._jobs)))
        seen_to(maybeDeferred(job).chainDeferred(done))
        return True


class Life:
    """A store with clients, a scheduler and operators that act by chance."""

    def __init__(self, seed: int) -> None:
        self.entropy = SeededEntropy(seed)
        self.clock = Clock()
        self.wall = VirtualWall(self.clock)
        self.worker = ShuffledWorker(self.entropy)
        self.disk = MemoryDisk()
        self.events: list[Event] = []
        self.added: list[QueueEntry] = []
        self.in_work: set[str] = set()
        self.attempts: Counter[str] = Counter()
        self.errors: list[Any] = []
        self.ready: list[QueueEntry] = []
        self.store = self.make()

    def make(self) -> FileStore:
        """A store on the disk, with little memory."""
        return FileStore(
            self.disk,
            "/srv",
            self.worker,
            self.wall,
            self.clock,
            POLICY,
            1000,
            10_000,
            self.events.append,
            memory_bound=30_000,
        )

    def begin(self, work: Generator[Any, Any, Any] | Any) -> None:
        """Begin something that must not fail."""
        begun = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        seen_to(begun.addErrback(self.errors.append))

    def settle(self) -> None:
        """Let all that was begun end."""
        while self.worker.step():
            pass

    async def add(self) -> None:
        """A client submits a message."""
        made = entry_id(self.wall.now(), self.entropy.octets(8))
        one = entry(entry_id=made, queued_at=self.wall.now())
        await self.store.add(one, MESSAGE)
        self.added.append(one)

    async def claim(self) -> None:
        """The scheduler takes some, and works on them."""
        for one in await self.store.claim(self.wall.now(), 5):
            if one.id in self.in_work:
                self.errors.append(f"{one.id} was given out twice")
            self.in_work.add(one.id)
            self.begin(self.work(one))

    async def work(self, one: QueueEntry) -> None:
        """Deliver, perhaps later, perhaps in vain; then record and pay."""
        if not one.owed:
            await self.store.open(one.id)
            await self.store.dot_sent(one.id, [recipient()], self.wall.now())
            one = await self.record(one)
        while one.owed:
            one = await self.store.pay(one, notices_for(one, self.wall.now()))
        self.in_work.discard(one.id)

    async def record(self, one: QueueEntry) -> QueueEntry:
        """What came of it, by chance."""
        now, chance = self.wall.now(), self.entropy.random()
        self.attempts[one.id] += 1
        if chance < 0.5 and self.attempts[one.id] < 5:
            after = deferred(one, now + 30 + 200 * self.entropy.random())
        elif chance < 0.7 and one.cause is None:
            after = owing(one, now)
        else:
            after = finished(one, now)
        leaves = after.owed == ()
        if leaves:
            self.in_work.discard(one.id)
        step = Step(now, "attempt", attempt=attempt(DEFERRED, at=now))
        return await self.store.record(after, step)

    async def operate(self) -> None:
        """An operator changes one, by chance."""
        if not self.added:
            return
        one = self.added[int(self.entropy.random() * len(self.added))]
        now = self.wall.now()
        changes = {
            "held": lambda e: settlement.hold(e, "odd"),
            "released": lambda e: settlement.release(e, now),
            "retried": lambda e: settlement.retry_now(e, now),
        }
        what = [*changes][int(self.entropy.random() * 3)]
        await self.store.change(one.id, changes[what], Step(now, what))

    async def release_all(self) -> None:
        """Nothing stays on hold."""
        now = self.wall.now()
        for one in await self.store.entries(EntryFilter()):
            if one.held:
                step = Step(now, "released")
                await self.store.change(
                    one.id, lambda e: settlement.release(e, now), step
                )

    def live(self) -> None:
        """Some hours of all this."""
        self.begin(self.store.start(self.wall.now()))
        self.settle()
        acts = [self.add, self.claim, self.claim, self.operate]
        while len(self.added) < MESSAGES:
            self.begin(acts[int(self.entropy.random() * len(acts))]())
            for _ in range(int(self.entropy.random() * 4)):
                self.worker.step()
            self.clock.advance(self.entropy.random() * 20)

    def finish(self) -> None:
        """Go on until nothing waits."""
        for _ in range(100):
            self.begin(self.release_all())
            self.settle()
            self.begin(self.claim())
            self.settle()
            self.clock.advance(60)


class RaceTests(SynchronousTestCase):
    """Whatever the order, nothing is lost, doubled or stuck."""

    def check(self, life: Life) -> None:
        """All messages are finished, in one place, with their notices once."""
        self.assertEqual(life.errors, [])
        files = [path for path in life.disk.files() if path != "/srv/queue/format"]
        waiting = [path for path in files if "/retained/" not in path]
        self.assertEqual(waiting, [])
        found: list[QueueEntry] = []
        everything = life.store.entries(EntryFilter(finished=True))
        seen_to(Deferred.fromCoroutine(everything).addCallback(found.extend))
        life.settle()
        ids = Counter(one.id for one in found)
        self.assertEqual(set(ids.values()), {1})
        self.assertEqual(len(files), len(ids))
        self.assertLessEqual({one.id for one in life.added}, set(ids))
        owed = sum(one.notices for one in found)
        self.assertEqual(owed, sum(one.cause is not None for one in found))
        self.assertEqual([str(event) for event in life.events], [])

    def test_all_end(self) -> None:
        """Submission, delivery and operators at once, for many seeds."""
        for seed in range(25):
            life = Life(seed)
            life.live()
            life.finish()
            self.check(life)

    def test_all_that_was_promised_survives_a_crash(self) -> None:
        """A power cut in the middle of everything loses no accepted message."""
        for seed in range(25):
            life = Life(seed)
            life.live()
            life.disk.crash(Crash.CHOSEN, life.entropy)
            after = Life(seed)
            after.disk = life.disk
            after.clock.advance(life.clock.seconds())
            after.store = after.make()
            after.begin(after.store.start(after.wall.now()))
            after.settle()
            after.finish()
            after.added = life.added
            after.events.clear()
            self.check(after)
