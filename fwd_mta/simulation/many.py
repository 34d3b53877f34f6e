"""Many seeds on all cores: `python -m fwd_mta.simulation.many --seeds 10000`.

A failing seed prints itself, the invariant, the shortest history it came to, and its
plan as Python, to be kept as a test.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

from fwd_mta.net.clocks import SystemClock
from fwd_mta.simulation.drawing import draw
from fwd_mta.simulation.plan import Plan, source
from fwd_mta.simulation.shrinking import shrink
from fwd_mta.simulation.simulation import Report, run

_TOLD_EVERY = 100
_NEW = 1_000_000  # seeds from here on are new ones: so many a day, the same all day
_A_DAY = 10_000


def examine(seed: int) -> tuple[int, str]:
    """Live a seed; its number, and empty text or all that is to be said."""
    report = run(draw(seed))
    if report.broken is None:
        return seed, ""
    return seed, "\n".join((*told(report), ""))


def told(report: Report) -> Iterator[str]:
    """A failure for people: shrunk, with its schedule and its history."""
    yield f"seed {report.plan.seed} breaks: {report.broken}"
    yield report.words
    small = reduced(report)
    again = run(small)
    yield "The shortest plan found that breaks it too:"
    yield from page(again)
    yield "The last that was said:"
    yield from (f"  {line}" for line in again.history.told("disk")[-80:])
    yield "To keep it, add this plan to tests/simulation/kept.py:"
    yield f"    {source(small)},"


def page(report: Report) -> Iterator[str]:
    """A reduced life on a page: its plan, what was decided, what is broken."""
    yield from report.plan.lines()
    yield "What happened (without dialogues and disk calls):"
    yield from (f"  {line}" for line in report.history.decisions())
    yield f"Broken: {report.broken}: {report.words}"


def reduced(report: Report) -> Plan:
    """The shortest plan found that breaks the same invariant."""
    return shrink(report.plan, lambda plan: run(plan).broken == report.broken)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the seeds; 1 if any fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--new", action="store_true", help="those of the day")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    clock, failed = SystemClock(), 0
    began = clock.now()
    today = _NEW + int(began // 86_400) * _A_DAY
    first = today if options.new else options.first
    seeds = range(first, first + options.seeds)
    _say(f"seeds {first} to {seeds[-1]}; again: --first {first} --seeds {len(seeds)}")
    for done, (_, words) in enumerate(_examined(seeds, options.jobs), 1):
        if words:
            failed += 1
            _say(words)
        if done % _TOLD_EVERY == 0 or done == len(seeds):
            seconds = clock.now() - began
            _say(f"{done} seeds, {failed} failed, {seconds:.0f} s")
    used = [getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)]
    user, system = sum(one.ru_utime for one in used), sum(one.ru_stime for one in used)
    _say(f"CPU {user:.0f} s user, {system:.0f} s system")
    _say(f"{len(seeds) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _examined(seeds: Sequence[int], jobs: int) -> Iterator[tuple[int, str]]:
    """Live them all, on that many cores."""
    if jobs == 1:
        yield from map(examine, seeds)
        return
    with get_context("fork").Pool(jobs, maxtasksperchild=200) as pool:
        yield from pool.imap_unordered(examine, seeds, 4)
        pool.close()
        pool.join()


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
