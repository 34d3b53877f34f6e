"""The work of the scheduler on a full queue: calls of functions and of the disk.

Counts, unlike times, are the same on a busy machine. The clock is virtual, the tree is
real; syncs are counted and not made.
"""

import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from typing_extensions import override

from benchmarks.laying import later
from fwd_mta.events import Event
from fwd_mta.interfaces import Delivery, DeliveryAgent, DiskFile
from fwd_mta.mail.entry import Attempt
from fwd_mta.mail.route import Destination
from fwd_mta.net.disk import SystemDisk
from fwd_mta.queue.files import FileStore
from fwd_mta.queue.scheduler import Machine, NoticeStyle, Scheduler
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.routing import RoutingTable
from fwd_mta.world.machine import InlineWorker, SeededEntropy, VirtualWall

T = TypeVar("T")
_MINUTE = 60.0
_WAKES = 10


class CountingDisk(SystemDisk):
    """The real disk; counts what it is asked, and syncs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    @override
    def __getattribute__(self, name: str) -> object:
        if name in _COUNTED:
            self.calls[name] += 1
        return super().__getattribute__(name)

    @override
    def sync_all(
        self, wanted: Sequence[DiskFile | str]
    ) -> dict[DiskFile | str, OSError]:
        self.calls["sync"] += len(wanted)
        return {}

    @override
    def sync_directory(self, path: str) -> None:
        self.calls["sync"] += 1


_COUNTED = frozenset(
    {
        "create",
        "open",
        "rename",
        "remove",
        "make_directory",
        "remove_directory",
        "names",
        "scan",
        "exists",
        "space",
    }
)


class Refusing(DeliveryAgent):
    """Every peer says: later."""

    def __init__(self, wall: VirtualWall) -> None:
        self._wall = wall
        self.tried = 0

    @override
    async def deliver(self, delivery: Delivery) -> Attempt:
        self.tried += 1
        now = self._wall.now()
        return Attempt(
            now, now, tuple(later(one) for one in delivery.envelope.recipients)
        )

    @override
    def at_once(self, delivery: Delivery, done: Callable[[Attempt], None]) -> bool:
        return False

    @override
    async def site(self, destination: Destination) -> str:
        return ""  # nobody waits for a turn: this is about the queue

    @override
    async def stop(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Work:
    """Calls of functions, and of the disk."""

    functions: float
    disk: float

    def of(self, times: int) -> "Work":
        """That of one, of so many."""
        return Work(self.functions / times, self.disk / times)


@dataclass(frozen=True, slots=True)
class Ticks:
    """What a look costs when nothing is due, and what each message that is due.

    The second is over all of a minute, the reading of its names included.
    """

    idle: Work
    each: Work
    tried: int


class _Counted:
    """A server's queue in this process, driven by hand."""

    def __init__(self, root: str, now: float) -> None:
        self.clock = Clock()
        self.wall = VirtualWall(self.clock, now)
        self.disk = CountingDisk()
        retention = RetentionPolicy(30 * 86_400.0, 90 * 86_400.0)
        self.store = FileStore(
            self.disk,
            root,
            InlineWorker(),
            self.wall,
            self.clock,
            retention,
            minimum_free_space=0,
            message_size_limit=0,
            emit=_ignore,
            journal_worker=InlineWorker(),
        )
        self.agent = Refusing(self.wall)
        self.scheduler = Scheduler(
            self.store,
            self.agent,
            Machine(self.clock, self.wall, SeededEntropy(), _ignore),
            RoutingTable(),
            RetrySchedule(),
            NoticeStyle("bench.example"),
        )

    def work(self, act: Callable[[], object], times: int) -> Work:
        """Do something so many times; what that cost in all."""
        disk, functions = self.disk.calls.total(), 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal functions
            functions += event == "call"

        sys.setprofile(count)
        try:
            for _ in range(times):
                act()
        finally:
            sys.setprofile(None)
        return Work(functions, self.disk.calls.total() - disk)


def _ignore(event: Event) -> None:
    """Nobody reads what happens."""


def count(root: str, now: float) -> Ticks:
    """Drive the queue of a tree laid at `now` through a minute in which mail is due."""
    driven = _Counted(root, now)
    done(driven.store.start(now))
    driven.scheduler.start()
    idle = driven.work(driven.scheduler.wake, _WAKES)
    # to the end of the first minute in which anything is due, then the one after it
    driven.clock.advance(2 * _MINUTE - now % _MINUTE)
    before = driven.agent.tried
    spent = driven.work(lambda: driven.clock.advance(1.0), int(_MINUTE))
    tried = driven.agent.tried - before
    done(driven.scheduler.stop(0.0))
    done(driven.store.stop())
    return Ticks(idle.of(_WAKES), spent.of(tried), tried)


def done(work: Coroutine[Deferred[Any], Any, T]) -> T:
    """What a coroutine gives that waits for nothing."""
    outcome: list[Any] = []
    _ = Deferred.fromCoroutine(work).addBoth(outcome.append)
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    result: T = outcome[0]
    return result
