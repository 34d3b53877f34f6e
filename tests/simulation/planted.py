"""Faults planted into the server, each of which the simulation must find.

`python -m tests.simulation.planted` looks for the first seed that finds each and prints
it with the shortest plan; `PLANTS` remembers the seeds, for the test.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from fwd_mta.mail.entry import StandingState
from fwd_mta.outbound import transaction
from fwd_mta.outbound.pool import Pool
from fwd_mta.queue import finished
from fwd_mta.queue.archive import Archive
from fwd_mta.rules import security, settlement
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.security import Course
from fwd_mta.simulation.many import told
from fwd_mta.simulation.plan import draw
from fwd_mta.simulation.simulation import run

SEEDS = 1000
Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Plant:
    """One fault: where it is, what it makes of what is there, which seed finds it."""

    where: Any
    name: str
    change: Change
    seed: int


def _anybody(_: Any) -> Any:
    """Notices go to whoever asked for none, and to nobody."""
    return lambda *_: True


def _keeps_content(_: Any) -> Any:
    """What stands in for content is the content."""
    return lambda entry, message, digest: message


def _half(_: Any) -> Any:
    """Seven days that give up at half."""

    def next_attempt(
        self: Any, attempts: int, now: float, expires_at: float, jitter: float
    ) -> float | None:
        if now >= expires_at - self.maximal_queue_lifetime / 2:
            return None
        return float(min(now + self.backoff(attempts), expires_at))

    return next_attempt


def _short_wait(original: Any) -> Any:
    """A lost reply to the dot is taken for a refusal, and tried again."""

    def broken(self: Any, recipient: Any, trouble: Any) -> Any:
        return replace(original(self, recipient, trouble), in_doubt=False)

    return broken


def _reopens(original: Any) -> Any:
    """A start tries again what failed for good: its last record is not read."""

    def settled(standing: Any, result: Any, moment: Any) -> Any:
        if result is None:
            return replace(standing, state=StandingState.OPEN)
        return original(standing, result, moment)

    return settled


def _silent_expiry(original: Any) -> Any:
    """Nobody is told of mail that was given up."""
    return {
        state: kind
        for state, kind in original.items()
        if state is not StandingState.EXPIRED
    }


def _tells_twice(original: Any) -> Any:
    """A failure is told with each later change of its message too."""

    def news(old: Any, new: Any) -> Any:
        return settlement._TOLD.get(new.state)

    return news


def _no_limit(original: Any) -> Any:
    """The limit of connections to a host is not looked at."""

    def lease(self: Any, site: Any, line: Any) -> Any:
        settings, self._settings = self._settings, replace(self._settings, per_host=99)
        try:
            return original(self, site, line)
        finally:
            self._settings = settings

    return lease


def _in_clear(_: Any) -> Any:
    """TLS is never begun, whatever the policy says."""
    return lambda *_, **__: Course.PROCEED


def _no_sweep(_: Any) -> Any:
    """Finished mail is never looked at."""

    async def sweep(self: Any, now: float) -> None:
        return None

    return sweep


PLANTS: Sequence[tuple[str, Plant]] = (
    ("anybody", Plant(settlement, "wants", _anybody, 0)),
    ("keeps content", Plant(finished, "placeholder", _keeps_content, 0)),
    ("half the lifetime", Plant(RetrySchedule, "next_attempt", _half, 0)),
    ("short wait", Plant(transaction.Transaction, "_broken", _short_wait, 0)),
    ("reopens", Plant(settlement, "_settled", _reopens, 0)),
    ("silent expiry", Plant(settlement, "_TOLD", _silent_expiry, 0)),
    ("tells twice", Plant(settlement, "_news", _tells_twice, 0)),
    ("no limit", Plant(Pool, "_lease", _no_limit, 12)),
    ("in clear", Plant(security, "before_tls", _in_clear, 9)),
    ("no sweep", Plant(Archive, "sweep", _no_sweep, 0)),
)


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """Have the fault in the server for a while."""
    original = vars(plant.where)[plant.name]
    setattr(plant.where, plant.name, plant.change(original))
    try:
        yield
    finally:
        setattr(plant.where, plant.name, original)


def main(names: Sequence[str]) -> None:
    """Find the first seed for each fault, and the shortest plan."""
    for name, plant in PLANTS:
        if not names or name in names:
            with planted(plant):
                _say(f"== {name}: {_first()}")


def _first() -> str:
    for seed in range(SEEDS):
        report = run(draw(seed))
        if report.broken is not None:
            return "\n".join(told(report))
    return f"not found in {SEEDS} seeds"


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
