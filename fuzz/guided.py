"""Targets under atheris, which follows coverage: `python -m fuzz.guided NAMES ...`.

libFuzzer's own loop never returns, so `run` starts this as a process of its own.
"""

import importlib
import sys
from pathlib import Path

import atheris

NAMES = ("fwd_mta.mail", "fwd_mta.smtp", "fwd_mta.rules", "fwd_mta.inbound")
SEEDS = 30  # of each target: more would take longer than the fuzzing


def main(chosen: str, seconds: str, folder: str, seed: str) -> None:
    """Fuzz targets; a finding stays in the folder, and the exit status is not 0.

    The first octet of each input tells the target, so that all share one process.
    """
    with atheris.instrument_imports(include=list(NAMES), enable_loader_override=False):
        targets = importlib.import_module("fuzz.targets")
        words = importlib.import_module("fuzz.words")
    names = chosen.split(",")
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    for place, name in enumerate(names):
        begun = words.seeds(name)
        step = max(1, len(begun) // SEEDS)
        for number, octets in enumerate(begun[::step]):
            (corpus / f"{name}-{number}").write_bytes(bytes([place]) + octets)
    dictionary = Path(folder) / "words.txt"
    known = {word for name in names for word in words.WORDS[name]}
    dictionary.write_text("".join(map(_quoted, sorted(known))), "ascii")

    def check(octets: bytes) -> None:
        if octets:
            targets.TARGETS[names[octets[0] % len(names)]](octets[1:])

    options = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/finding-"]
    # its alarm does not always find its handler; `run` limits the time instead
    options += [f"-dict={dictionary}", "-max_len=4096", "-timeout=99999"]
    options += ["-rss_limit_mb=2048", "-print_final_stats=1", f"-seed={seed}"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], check)
    atheris.Fuzz()


def _quoted(word: bytes) -> str:
    return '"' + "".join(f"\\x{octet:02x}" for octet in word) + '"\n'


if __name__ == "__main__":
    main(*sys.argv[1:])
