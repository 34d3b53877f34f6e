"""Faults planted into the server, each of which the simulation must find.

`python -m tests.simulation.planted` looks for the first seed that finds each and prints
it with the shortest plan; `PLANTS` remembers the seeds, for the test.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from fwd_mta.inbound.limits import Quotas
from fwd_mta.interfaces import Swept
from fwd_mta.mail.entry import StandingState
from fwd_mta.outbound import transaction
from fwd_mta.outbound.pool import Pool
from fwd_mta.queue import commit, finished
from fwd_mta.queue.archive import Archive
from fwd_mta.queue.ledger import Ledger
from fwd_mta.queue.recovery import Recovery
from fwd_mta.rules import security, settlement
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.security import Course
from fwd_mta.simulation.drawing import draw
from fwd_mta.simulation.many import page, reduced
from fwd_mta.simulation.plan import Death, Plan, Submission, source
from fwd_mta.simulation.simulation import run
from fwd_mta.world.disk import Crash

SEEDS = 1000
Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Plant:
    """One fault: where it is, what it makes of what is there, what finds it.

    That is a seed, and the shortest plan that it came to.
    """

    where: Any
    name: str
    change: Change
    seed: int
    plan: Plan


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

    async def sweep(self: Any, now: float) -> Swept:
        return Swept()

    return sweep


def _no_directory(original: Any) -> Any:
    """No directory is synced: what a name leads to is durable, the name is not."""

    def sync(disk: Any, runs: Any) -> Any:
        for one in runs:
            one.wanted = tuple(want for want in one.wanted if not isinstance(want, str))
        return original(disk, runs)

    return sync


def _tmp_is_rubbish(_: Any) -> Any:
    """A start removes all of tmp, paid notices that are on their way included."""

    def empty(self: Any, found: object, now: float) -> None:
        for name in self._disk.names(self._layout.tmp):
            self._disk.remove(f"{self._layout.tmp}/{name}")

    return empty


def _no_mark(_: Any) -> Any:
    """A dot is sent without a mark that it was."""

    async def dot_sent(self: Any, *_: object) -> None:
        return None

    return dot_sent


def _no_quota(_: Any) -> Any:
    """What an account sends is not counted."""
    return lambda *_, **__: None


PLANTS: Sequence[tuple[str, Plant]] = (
    (
        "anybody",
        Plant(
            settlement,
            "wants",
            _anybody,
            1,
            Plan(
                seed=1,
                submissions=(
                    Submission(
                        at=36.446,
                        number=1,
                        recipients=(("r738+unknown@d2.example.net", ""),),
                        size=0,
                        pipelined=False,
                        bounce=True,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=2,
                hurried=True,
            ),
        ),
    ),
    (
        "keeps content",
        Plant(
            finished,
            "placeholder",
            _keeps_content,
            0,
            Plan(
                seed=0,
                submissions=(
                    Submission(
                        at=126253.324,
                        number=15,
                        recipients=(("r15@d1.example.net", "NEVER"),),
                        size=0,
                        pipelined=False,
                        bounce=True,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "half the lifetime",
        Plant(
            RetrySchedule,
            "next_attempt",
            _half,
            0,
            Plan(
                seed=0,
                submissions=(
                    Submission(
                        at=52.301,
                        number=14,
                        recipients=(("r169+full5@d0.example.net", "SUCCESS,FAILURE"),),
                        size=0,
                        pipelined=False,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "short wait",
        Plant(
            transaction.Transaction,
            "_broken",
            _short_wait,
            0,
            Plan(
                seed=0,
                submissions=(
                    Submission(
                        at=7.033,
                        number=11,
                        recipients=(("r921+reset@d3.example.net", "FAILURE"),),
                        size=0,
                        pipelined=False,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "reopens",
        Plant(
            settlement,
            "_settled",
            _reopens,
            0,
            Plan(
                seed=0,
                submissions=(
                    Submission(
                        at=126253.324,
                        number=15,
                        recipients=(
                            ("r986@d4.example.net", "DELAY"),
                            ("r15@d1.example.net", "NEVER"),
                        ),
                        size=0,
                        pipelined=False,
                        bounce=True,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "silent expiry",
        Plant(
            settlement,
            "_TOLD",
            _silent_expiry,
            0,
            Plan(
                seed=0,
                submissions=(
                    Submission(
                        at=52.301,
                        number=14,
                        recipients=(("r169+full5@d0.example.net", "SUCCESS,FAILURE"),),
                        size=0,
                        pipelined=False,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "tells twice",
        Plant(
            settlement,
            "_news",
            _tells_twice,
            0,
            Plan(
                seed=0,
                submissions=(
                    Submission(
                        at=52.301,
                        number=14,
                        recipients=(
                            ("r718@d2.example.net", ""),
                            ("r906+unknown@d4.example.net", "SUCCESS,FAILURE"),
                        ),
                        size=0,
                        pipelined=False,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "no limit",
        Plant(
            Pool,
            "_lease",
            _no_limit,
            99,
            Plan(
                seed=99,
                submissions=(
                    Submission(
                        at=51.705,
                        number=10,
                        recipients=(
                            ("r1+drop@d1.example.net", "SUCCESS"),
                            ("r766@d2.example.net", "NEVER"),
                        ),
                        size=0,
                        pipelined=False,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "in clear",
        Plant(
            security,
            "before_tls",
            _in_clear,
            9,
            Plan(
                seed=9,
                submissions=(
                    Submission(
                        at=4.478,
                        number=15,
                        recipients=(("r259@d3.example.net", "FAILURE"),),
                        size=0,
                        pipelined=False,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=2,
                tls=True,
                level="secure",
            ),
        ),
    ),
    (
        "no sweep",
        Plant(
            Archive,
            "sweep",
            _no_sweep,
            0,
            Plan(
                seed=0,
                submissions=(
                    Submission(
                        at=126253.324,
                        number=15,
                        recipients=(("r15@d1.example.net", "NEVER"),),
                        size=0,
                        pipelined=False,
                        bounce=True,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "no directory",
        Plant(
            commit,
            "_sync",
            _no_directory,
            3,
            Plan(
                seed=3,
                submissions=(
                    Submission(
                        at=39012.995,
                        number=2,
                        recipients=(("r598+many5@d3.example.net", ""),),
                        size=0,
                        pipelined=False,
                    ),
                ),
                faults=(
                    Death(
                        at=51604.353, call=3, crash=Crash.LOST, pause=1.0, verb="sync"
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=600.0,
                maximal=86400.0,
                concurrency=2,
            ),
        ),
    ),
    (
        "tmp is rubbish",
        Plant(
            Recovery,
            "_empty_tmp",
            _tmp_is_rubbish,
            65,
            Plan(
                seed=65,
                submissions=(
                    Submission(
                        at=9.721,
                        number=8,
                        recipients=(
                            ("r588+silent@d4.example.net", ""),
                            ("r602+full5@d0.example.net", ""),
                            ("r601+lost@d2.example.net", ""),
                        ),
                        size=0,
                        pipelined=False,
                    ),
                ),
                faults=(
                    Death(
                        at=172788.719,
                        call=4,
                        crash=Crash.LOST,
                        pause=60.0,
                        verb="rename",
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "no mark",
        Plant(
            Ledger,
            "dot_sent",
            _no_mark,
            14,
            Plan(
                seed=14,
                submissions=(
                    Submission(
                        at=97874.601,
                        number=0,
                        recipients=(("r700+greylist@d3.example.net", "NEVER"),),
                        size=0,
                        pipelined=False,
                    ),
                ),
                faults=(
                    Death(
                        at=83762.873, call=5, crash=Crash.KEPT, pause=0.0, verb="append"
                    ),
                ),
                bounce_lifetime=0.0,
                warning=0.0,
                concurrency=1,
            ),
        ),
    ),
    (
        "no quota",
        Plant(
            Quotas,
            "take",
            _no_quota,
            39,
            Plan(
                seed=39,
                submissions=(
                    Submission(
                        at=6.478,
                        number=1,
                        recipients=(("r888+unknown@d0.example.net", "NEVER"),),
                        size=0,
                        pipelined=False,
                        starttls=True,
                    ),
                    Submission(
                        at=56.634,
                        number=3,
                        recipients=(("r4@d3.example.net", "FAILURE"),),
                        size=9000,
                        cut="END",
                        starttls=True,
                        hold=21600.0,
                    ),
                ),
                lifetime=172800.0,
                bounce_lifetime=0.0,
                minimal=86400.0,
                maximal=86400.0,
                warning=0.0,
                concurrency=1,
                tls=True,
                level="encrypt",
                messages=2,
            ),
        ),
    ),
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
            small = reduced(report)
            lines = [*page(run(small)), f"seed {seed}, {source(small)}"]
            return "\n".join([f"{len(lines)} lines", *lines])
    return f"not found in {SEEDS} seeds"


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
