"""When to try again, or never: the schedule of a message's recipients (P9)."""

from collections.abc import Callable
from dataclasses import dataclass

from fwd_mta.mail.entry import QueueEntry

_DOUBLINGS = 32  # beyond this any back-off has met its cap
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Postfix's parameters, in seconds.

    The wait doubles from the minimal to the maximal back-off; each is shortened by up
    to a fifth by chance; the last try is at the end of the lifetime, which counts from
    arrival, or from the release time of RFC 4865.
    """

    minimal_backoff_time: float = 300.0
    maximal_backoff_time: float = 4000.0
    maximal_queue_lifetime: float = 432_000.0
    bounce_queue_lifetime: float = 432_000.0
    delay_warning_time: float = 14_400.0

    def backoff(self, attempts: int) -> float:
        """Seconds to wait after that many attempts, before chance shortens it."""
        doublings = min(max(attempts - 1, 0), _DOUBLINGS)
        return min(
            self.minimal_backoff_time * 2.0**doublings, self.maximal_backoff_time
        )

    def expires_at(self, entry: QueueEntry) -> float:
        """The wall time of the last try."""
        if entry.lifetime is not None:
            return entry.clock_start + entry.lifetime
        if entry.envelope.reverse_path is None:
            return entry.clock_start + self.bounce_queue_lifetime
        return entry.clock_start + self.maximal_queue_lifetime

    def next_attempt(
        self, attempts: int, now: float, expires_at: float, jitter: float
    ) -> float | None:
        """The wall time of the next try, None when there is none left.

        `jitter` in [0, 1) shortens the wait by up to a fifth, so that mail deferred
        together does not come back together.
        """
        if now >= expires_at:
            return None
        wait = self.backoff(attempts) * (1 - JITTER * jitter)
        return min(now + wait, expires_at)

    def is_late(self, entry: QueueEntry, now: float) -> bool:
        """Whether the sender should be told of the delay by now."""
        if not self.delay_warning_time:
            return False
        return now >= entry.clock_start + self.delay_warning_time

    def times(self, chance: Callable[[], float]) -> list[float]:
        """Seconds after arrival of every try of a message that is always deferred."""
        times = [0.0]
        while True:
            after = self.next_attempt(
                len(times), times[-1], self.maximal_queue_lifetime, chance()
            )
            if after is None:
                return times
            times.append(after)
