"""Fuzzes what comes in: `python -m fuzz.run [--seconds N] [TARGET...]`.

Half of the time goes to Hypothesis, half to atheris where it is installed; N is for all
targets together. One seed tries the same, as far as the time goes: so does CI, while a
long run at the desk may say --seed 0. A finding is printed and kept in a folder that is
named; turn it into a named test. The last line has the counts.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from fuzz import grammar
from fuzz.targets import TARGETS

_TAIL = 40


def main(words: list[str]) -> int:
    """Fuzz the named targets, or all; 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="fuzz.run", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="for all together")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the guided run; 0: another each time"
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=" ".join(TARGETS))
    given = parser.parse_args(words)
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"no target {' '.join(unknown)}; there are {' '.join(TARGETS)}")
    chosen = given.targets or list(TARGETS)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    guided = find_spec("atheris") is not None
    if not guided:
        print("atheris is not installed: Hypothesis alone (pip install -e '.[fuzz]')")
    half = given.seconds / (2 if guided else 1)
    each = half / len(chosen)
    outcomes = [
        _report(f"grammar {name}", partial(_by_grammar, name, each)) for name in chosen
    ]
    if guided:
        outcomes.append(
            _report("guided", partial(_guided, chosen, half, folder, given.seed))
        )
    print(f"{sum(outcomes)} passed, {len(outcomes) - sum(outcomes)} failed")
    if not all(outcomes):
        print(f"findings and logs: {folder}")
    return 0 if all(outcomes) else 1


def _report(what: str, run: Callable[[], str]) -> bool:
    began = time.monotonic()
    fault = ""
    try:
        said = run()
    except Exception:  # noqa: BLE001 - a finding must not end the others
        said, fault = "", traceback.format_exc()
    took = time.monotonic() - began
    print(f"{'FAIL' if fault else 'PASS'} {what} {said} ({took:.0f} s)", flush=True)
    if fault:
        print("\n".join(line[:2000] for line in fault.splitlines()[-_TAIL:]))
    return not fault


def _by_grammar(name: str, seconds: float) -> str:
    return f"{grammar.play(name, seconds)} tries"


def _guided(names: list[str], seconds: float, folder: Path, seed: int) -> str:
    """Run atheris in a process of its own; raises with the end of what it said."""
    log = folder / "log"
    words = [sys.executable, "-m", "fuzz.guided", ",".join(names)]
    words += [str(int(seconds) + 1), str(folder), str(seed)]
    with log.open("wb") as file:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=seconds + 180,
            check=False,
        )
    said = log.read_text("utf-8", "replace")
    if done.returncode:
        kept = [str(one) for one in folder.glob("finding-*")]
        ended = f"it ended with {done.returncode}"
        raise RuntimeError("\n".join([*said.splitlines()[-60:], *kept, ended]))
    tries = re.search(r"stat::number_of_executed_units: +(\d+)", said)
    return f"{tries[1] if tries else '?'} tries"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
