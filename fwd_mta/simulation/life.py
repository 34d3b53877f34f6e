"""One process over the twins of the seams, from its start to its death.

What a process holds of the world goes through here, so that nothing of a dead one
reaches the living: no timer, no disk call, no event, also none that is made when the
dead one's coroutines are collected.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.events import Emit, Event
from fwd_mta.interfaces import Disk, DiskFile, Entropy, Space, Worker
from fwd_mta.server import Server
from fwd_mta.world.disk import Died, MemoryDisk

T = TypeVar("T")

_LONGEST_JOB = 0.02


def slow_down(server: Server) -> None:
    """Let what looks around all the time look more seldom: life is waiting."""
    server.keeper.every = 1800.0
    server.scheduler.longest_nap = 600.0
    server.limits.every = 600.0
    server.auditor.every = 1800.0
    server.tls_reports.every = 1800.0
    server._watch.every = 3600.0  # noqa: SLF001 - the accounts do not change
    server.store._room.every = 3600.0  # noqa: SLF001 - nothing fills this disk


class Life:
    """Whether a process lives."""

    def __init__(self) -> None:
        self.alive = True

    def die(self) -> None:
        """End here and now."""
        self.alive = False

    def emit(self, to: Emit) -> Emit:
        """An event's way out, while it lives."""

        def emit(event: Event) -> None:
            if self.alive:
                to(event)

        return emit


@implementer(IReactorTime)
class LifeClock:
    """The reactor's clock of one process: its timers end with it."""

    def __init__(self, life: Life, clock: IReactorTime) -> None:
        self._life = life
        self._clock = clock

    def seconds(self) -> float:
        """The time."""
        return self._clock.seconds()

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - Twisted's name
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        """Have something called, if the process lives then."""
        return self._clock.callLater(delay, self._call, callable, args, kw)

    def getDelayedCalls(self) -> Any:
        """All that waits."""
        return self._clock.getDelayedCalls()

    def _call(
        self, what: Callable[..., object], args: Any, kw: dict[str, object]
    ) -> None:
        if self._life.alive:
            what(*args, **kw)


class LifeWorker(Worker):
    """A thread of one process: jobs one by one, at once or after a short while."""

    def __init__(
        self, life: Life, clock: IReactorTime, entropy: Entropy | None
    ) -> None:
        self._life = life
        self._clock = clock
        self._entropy = entropy
        self.hurries = False
        self._jobs: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run a job; one in which the process dies never answers."""
        if self._entropy is None or self.hurries:
            return self._done(job)
        answer: Deferred[T] = Deferred()
        self._jobs.append((job, answer))
        if len(self._jobs) == 1:
            self._later()
        return answer

    def _later(self) -> None:
        assert self._entropy is not None  # noqa: S101 - no jobs wait without chance
        delay = self._entropy.random() * _LONGEST_JOB
        self._clock.callLater(delay, self._next)

    def _next(self) -> None:
        job, answer = self._jobs[0]
        done = self._done(job)
        del self._jobs[0]
        if self._jobs:
            self._later()
        _ = done.addBoth(answer.callback)

    def _done(self, job: Callable[[], T]) -> Deferred[T]:
        if not self._life.alive:
            return Deferred()
        try:
            return succeed(job())
        except Died:
            self._life.die()
            return Deferred()
        except Exception:  # noqa: BLE001 - it is the answer
            return fail(Failure())


class LifeDisk(Disk):
    """The disk as one process has it."""

    def __init__(self, life: Life, disk: MemoryDisk) -> None:
        self._life = life
        self._disk = disk

    @property
    def _live(self) -> MemoryDisk:
        if not self._life.alive:
            raise Died("this process is dead")
        return self._disk

    @override
    def create(self, path: str) -> DiskFile:
        """Make a new file."""
        return self._live.create(path)

    @override
    def open(self, path: str) -> DiskFile:
        """Open an existing file."""
        return self._live.open(path)

    @override
    def rename(self, source: str, target: str) -> None:
        """Rename."""
        self._live.rename(source, target)

    @override
    def remove(self, path: str) -> None:
        """Remove a file."""
        self._live.remove(path)

    @override
    def make_directory(self, path: str) -> None:
        """Make a directory."""
        self._live.make_directory(path)

    @override
    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        self._live.remove_directory(path)

    @override
    def sync_directory(self, path: str) -> None:
        """Make a directory's names durable."""
        self._live.sync_directory(path)

    @override
    def sync_all(
        self, wanted: Sequence[DiskFile | str]
    ) -> dict[DiskFile | str, OSError]:
        """Sync one after the other."""
        return self._live.sync_all(wanted)

    @override
    def names(self, path: str) -> list[str]:
        """Names in a directory."""
        return self._live.names(path)

    @override
    def scan(self, path: str) -> Iterator[str]:
        """Names in a directory one by one."""
        yield from self._live.names(path)

    @override
    def exists(self, path: str) -> bool:
        """Whether there is such a name."""
        return self._live.exists(path)

    @override
    def space(self, path: str) -> Space:
        """What is left."""
        return self._live.space(path)

    @override
    def lock(self, path: str, text: str) -> Callable[[], None]:
        """Take a lock."""
        return self._live.lock(path, text)
