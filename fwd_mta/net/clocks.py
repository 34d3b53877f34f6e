"""The real clock for dates, and the reactor's timers made monotonic."""

import time
from typing import Protocol

from typing_extensions import override

from fwd_mta.interfaces import WallClock


class SystemClock(WallClock):
    """Dates by the system's clock, which an operator or NTP may set."""

    @override
    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()  # noqa: TID251 - this is the wall clock


class _HasSeconds(Protocol):
    seconds: object


def make_monotonic(reactor: _HasSeconds) -> None:
    """Let timers run on the monotonic clock: a set system clock moves no time-out.

    Must be called before anything is scheduled.
    """
    reactor.seconds = time.monotonic  # noqa: TID251 - this is the timers' clock
