"""Targets under Hypothesis, which makes sentences of words and shrinks what fails."""

import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as made

from fuzz.targets import TARGETS
from fuzz.words import WORDS, seeds

_BATCH = 100


def sentences(target: str) -> made.SearchStrategy[bytes]:
    """Words of the target, and octets that are none."""
    word = made.one_of(made.sampled_from(WORDS[target]), made.binary(max_size=4))
    return made.lists(word, max_size=24).map(b"".join)


def play(target: str, seconds: float, start: int = 0) -> int:
    """Try seeds, then sentences until the time is over; how many; raises what fails."""
    check: Callable[[bytes], None] = TARGETS[target]
    begun = seeds(target)
    for octets in begun:
        check(octets)
    tried, end = len(begun), time.monotonic() + seconds
    while time.monotonic() < end:
        start += 1
        _batch(check, target, start)
        tried += _BATCH
    return tried


def _batch(check: Callable[[bytes], None], target: str, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=_BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(sentences(target))
    def tries(octets: bytes) -> None:
        check(octets)

    tries()
