"""Compares us with Postfix on this machine: `python -m benchmarks.run`.

A scenario is sSESSIONS,SIZE[k|m],d|c[,flags]: d sends many messages in a session, c
one. Flags: tls or tlsrsa (implicit TLS and AUTH PLAIN, with an ECDSA or an RSA key),
timed (latencies from the final dot to its 250), hold (the next hop is down).

Peers take turns within each round. The table has medians and ranges; every ratio is
to Postfix, tuned as a relay under load, in the same round. Rates swing with what else
the machine does: look at the ratios, and at CPU (all processes of the peer) first.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from statistics import median

from benchmarks import peers, table
from benchmarks.cell import Effort, Peer, Scenario, measure
from interop import packages
from interop.kit import Failed

RECIPES = {
    "postfix-tuned": peers.postfix_tuned,
    "postfix": peers.postfix,
    "fwd_mta": peers.fwdmta,
    "fwd_mta-without": peers.without,
    "fwd_mta-watched": peers.watched,
}
MAIN = "s20,10k,d"
# what is run, with how many messages, and how many idle sessions are counted then
QUICK = {MAIN: (1000, 0)}
STANDARD = {
    MAIN: (2000, 100),
    "s1,10k,d": (800, 0),
    "s20,10k,c": (1200, 0),
    "s100,10k,d": (2000, 0),
    "s4,1m,d": (120, 0),
    "s20,10k,d,tls": (1200, 100),
    "s20,10k,c,tls": (500, 0),
    "s20,10k,d,timed": (1200, 0),
}
SETS = {"quick": QUICK, "standard": STANDARD}
_RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
_GATE = 2.0  # times the goal of the main cell: beyond it the run has failed


def options() -> argparse.Namespace:
    """What the command line wants."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--set", choices=SETS, default="standard")
    parser.add_argument("--peer", action="append", choices=RECIPES)
    parser.add_argument("--scenario", action="append", help="instead of a set")
    parser.add_argument("--messages", type=int, help="in each cell")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deferred", type=int, default=0, help="in the queue before")
    parser.add_argument("--note", default="", help="kept with the results")
    parser.add_argument("--no-results", action="store_true", help="keep none")
    return parser.parse_args()


def main() -> int:
    """Run what is wanted; 1 when the gate is shut or a cell has no figures.

    The last line counts our cells: those with figures within the gate, and the others.
    """
    wanted = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the peers end, too
    cells = SETS[wanted.set]
    if wanted.scenario:
        cells = {text: STANDARD.get(text, (1000, 0)) for text in wanted.scenario}
    lacking = _lacking(cells)
    if lacking:
        print(f"skipped: nothing can be compared: {lacking}\n0 passed, 0 failed")
        return 0
    base = tempfile.mkdtemp(prefix="fwdmta-bench-")
    os.chmod(base, 0o755)
    try:
        results = _measured(wanted, cells, base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(table.written(results))
    _watched(results)
    if not wanted.no_results:
        _keep(results, wanted)
    failed = _failed(results)
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return int(bool(failed))


def _lacking(cells: Collection[str]) -> str:
    """Install what the cells need; what is still missing, or nothing."""
    names = ["postfix"]
    if any("tls" in text for text in cells):
        names += ["sasl2-bin", "libsasl2-modules"]
    if os.geteuid() != 0:
        return "root starts Postfix and counts its CPU, and this is not root"
    try:
        if lacking := packages.missing(names):
            packages.install(lacking)
    except Failed as failed:
        return str(failed)
    return ""


def _measured(
    wanted: argparse.Namespace, cells: dict[str, tuple[int, int]], base: str
) -> table.Results:
    names = wanted.peer or ["postfix-tuned", "fwd_mta"]
    results: table.Results = {}
    for text, (messages, idle) in cells.items():
        scenario = Scenario.parse(text)
        effort = Effort(wanted.messages or messages, idle=idle)
        effort.deferred = wanted.deferred
        for _ in range(wanted.rounds):
            for name in names:
                peer = Peer(name, RECIPES[name], base)
                figures = measure(peer, scenario, effort)
                results.setdefault(text, {}).setdefault(name, []).append(figures)
                print(f"# {text} {name} {table.plain(figures)}", file=sys.stderr)
    return results


def _keep(results: table.Results, wanted: argparse.Namespace) -> None:
    """Append a line of JSON for each peer in each scenario."""
    os.makedirs(_RESULTS, exist_ok=True)
    about = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "deferred": wanted.deferred,
        "note": wanted.note,
    }
    name = time.strftime("%Y-%m") + ".jsonl"
    with open(f"{_RESULTS}/{name}", "a", encoding="utf-8") as file:
        for text, by_peer in results.items():
            for peer, rounds in by_peer.items():
                values = [one.values | {"error": one.error} for one in rounds]
                line = about | {"scenario": text, "peer": peer, "rounds": values}
                file.write(json.dumps(line) + "\n")


def _watched(results: table.Results) -> None:
    """What index and figures cost, where both were measured, round by round."""
    for text, by_peer in results.items():
        pairs = zip(
            by_peer.get("fwd_mta-without", ()),
            by_peer.get("fwd_mta-watched", ()),
            strict=False,
        )
        ratios = [
            many.values["cpu"] / few.values["cpu"]
            for few, many in pairs
            if "cpu" in few.values and "cpu" in many.values
        ]
        if ratios:
            told = " ".join(f"{one:.3f}" for one in sorted(ratios))
            print(f"{text}: CPU with index and figures to without, {told}")
            print(f"median of {len(ratios)} pairs: {median(ratios):.3f}")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _failed(results: table.Results) -> set[str]:
    """The cells in which we have no figures, and the main one if its gate is shut."""
    failed = set()
    for text, by_peer in results.items():
        for peer, rounds in by_peer.items():
            for figures in rounds:
                if figures.error:
                    print(f"no figures: {text} {peer}: {figures.error}")
        ours = by_peer.get("fwd_mta", ())
        if ours and not any("cpu" in one.values for one in ours):
            failed.add(text)
    ratio = table.ratio(results.get(MAIN, {}), "fwd_mta", "cpu")
    if ratio is not None:
        goal = table.GOALS[MAIN]["cpu"]
        gate = _GATE * goal
        print(f"CPU of {MAIN}: {ratio:.2f} of Postfix's (goal {goal}, gate {gate})")
        failed |= {MAIN} if ratio > gate else set()
    return failed


if __name__ == "__main__":
    sys.exit(main())
