"""Many seeds on all cores: `python -m fwd_mta.simulation.many --seeds 10000`.

A failing seed prints itself, the invariant, and the shortest history it came to.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

from fwd_mta.net.clocks import SystemClock
from fwd_mta.simulation.plan import draw
from fwd_mta.simulation.shrinking import shrink
from fwd_mta.simulation.simulation import Report, run

_TOLD_EVERY = 100


def examine(seed: int) -> tuple[int, str]:
    """Live a seed; its number, and empty text or all that is to be said."""
    report = run(draw(seed))
    if report.broken is None:
        return seed, ""
    return seed, "\n".join(told(report))


def told(report: Report) -> Iterator[str]:
    """A failure for people: shrunk, with its schedule and its history."""
    yield f"seed {report.plan.seed} breaks: {report.broken}"
    yield report.words
    small = shrink(report.plan, lambda plan: run(plan).broken == report.broken)
    again = run(small)
    yield "The shortest plan found that breaks it too:"
    yield from small.lines()
    yield f"There: {again.words}"
    yield "What happened (without disk calls):"
    yield from (f"  {line}" for line in again.history.told("disk")[-80:])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the seeds; 1 if any fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    seeds = range(options.first, options.first + options.seeds)
    clock, failed = SystemClock(), 0
    began = clock.now()
    with get_context("fork").Pool(options.jobs, maxtasksperchild=200) as pool:
        for done, (_, words) in enumerate(pool.imap_unordered(examine, seeds, 4), 1):
            if words:
                failed += 1
                _say(words)
            if done % _TOLD_EVERY == 0 or done == len(seeds):
                seconds = clock.now() - began
                _say(f"{done} seeds, {failed} failed, {seconds:.0f} s")
    return 1 if failed else 0


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
