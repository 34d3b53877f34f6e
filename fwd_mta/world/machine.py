"""Twins of clock, chance and threads: the same seed, the same history."""

from collections.abc import Callable
from random import Random  # noqa: TID251 - the seeded twin
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from typing_extensions import override

from fwd_mta.interfaces import Entropy, WallClock, Worker

T = TypeVar("T")


class VirtualWall(WallClock):
    """A wall clock that follows a virtual reactor clock, and can be made to jump."""

    def __init__(self, clock: Clock, start: float = 1_800_000_000.0) -> None:
        self._clock = clock
        self._offset = start - clock.seconds()

    @override
    def now(self) -> float:
        """Seconds since the epoch, as the virtual machine believes."""
        return self._clock.seconds() + self._offset

    def jump(self, seconds: float) -> None:
        """Set the clock forward, or back; timers do not notice."""
        self._offset += seconds


class SeededEntropy(Entropy):
    """Chance from a seed."""

    def __init__(self, seed: int = 1) -> None:
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose

    @override
    def random(self) -> float:
        """Give a number in [0, 1)."""
        return self._random.random()

    @override
    def octets(self, count: int) -> bytes:
        """Give octets that the seed decides."""
        return self._random.randbytes(count)


class InlineWorker(Worker):
    """Runs every job at once, on the caller's thread."""

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run the job; the Deferred has fired when this returns."""
        return maybeDeferred(job)
