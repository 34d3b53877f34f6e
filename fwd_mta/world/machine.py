"""Twins of clock, chance and threads: the same seed, the same history."""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random  # noqa: TID251 - the seeded twin
from typing import TypeVar

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from typing_extensions import override

from fwd_mta.interfaces import Entropy, WallClock, Worker

T = TypeVar("T")


class VirtualClock(Clock):
    """Twisted's `Clock` for long lives: a call costs the same however many wait.

    Each call runs at its own time, in the order of time, then of asking.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._asked = 0

    @override
    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],
        *args: object,
        **kw: object,
    ) -> DelayedCall:
        """Have something called after so many seconds."""
        call = DelayedCall(
            self.seconds() + max(0.0, delay),
            callable,
            args,
            kw,
            lambda _: None,
            self._push,
            self.seconds,
        )
        self._push(call)
        return call

    def _push(self, call: DelayedCall) -> None:
        self._asked += 1
        heappush(self._heap, (call.time, self._asked, call))

    @override
    def getDelayedCalls(self) -> list[DelayedCall]:
        """All that waits, the next first."""
        waiting = {id(call): call for _, _, call in self._heap if call.active()}
        return sorted(waiting.values(), key=DelayedCall.getTime)

    def next_at(self) -> float | None:
        """When the next call is due."""
        while self._heap:
            at, _, call = self._heap[0]
            if call.active() and call.getTime() == at:
                return at
            heappop(self._heap)
            if call.active() and call.getTime() > at:
                call.activate_delay()
                self._push(call)
        return None

    def step(self) -> bool:
        """Go to the next call and make it; False when nothing waits."""
        at = self.next_at()
        if at is None:
            return False
        call = heappop(self._heap)[2]
        self.rightNow = max(self.rightNow, at)
        call.called = True
        call.func(*call.args, **call.kw)
        return True

    @override
    def advance(self, amount: float) -> None:
        """Let so many seconds pass."""
        end = self.rightNow + amount
        while (at := self.next_at()) is not None and at <= end:
            _ = self.step()
        self.rightNow = end


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
