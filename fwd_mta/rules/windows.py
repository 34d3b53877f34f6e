"""How many deliveries a site gets at a time, and how long a silent one is left alone.

A site is one set of exchangers, however many domains it serves. Its window grows and
shrinks by feedback of 1/sqrt(N) and moves only when a whole step has added up, so that
one answer never swings it. A site that answers nobody rests, is probed by one message,
and comes back by slow start.
"""

from dataclasses import dataclass, replace
from enum import Enum
from math import sqrt

from fwd_mta.mail.entry import (
    Action,
    Attempt,
    Category,
    DeliveryResult,
    Diagnosis,
    Scope,
    Stage,
)

FIRST_SIZE = 5
_SMALLEST_COHORT = 3
_BLOCKED_FIRST = 3600.0
_BLOCKED_LONGEST = 6 * 3600.0
_DOUBLINGS = 32


class Verdict(Enum):
    """What an attempt tells of the site, whatever became of its recipients."""

    WORKS = "it does its work"
    SLOWER = "it asks for less at a time"
    SILENT = "it serves nobody"
    BLOCKS = "it does not trust our address"
    NOTHING = "nothing is learnt of it"


def verdict(attempt: Attempt) -> Verdict:
    """Judge a site by an attempt: one recipient that was answered shows that it works.

    A block list outweighs that: a site may take a few of those that it does not trust.
    """
    if len(attempt.results) == 1:
        return _verdict(attempt.results[0])
    said = {_verdict(result) for result in attempt.results}
    for each in (Verdict.BLOCKS, Verdict.SLOWER, Verdict.WORKS, Verdict.SILENT):
        if each in said:
            return each
    return Verdict.NOTHING


def _verdict(result: DeliveryResult) -> Verdict:
    diagnosis = result.diagnosis
    if diagnosis is None or diagnosis.action is Action.REJECT:
        return Verdict.WORKS
    if is_block(diagnosis):
        return Verdict.BLOCKS
    if diagnosis.action is Action.SLOWDOWN:
        return Verdict.SLOWER
    if result.reply is None:
        return _of_trouble(result.stage, diagnosis)
    if result.stage in _BEFORE_MAIL or diagnosis.scope is Scope.DESTINATION:
        return Verdict.SILENT
    return Verdict.WORKS


def is_block(diagnosis: Diagnosis) -> bool:
    """Whether it is about our address, so that only another one could help."""
    return (
        diagnosis.category is Category.BLOCKLIST
        and diagnosis.scope is Scope.DESTINATION
        and diagnosis.action is not Action.REJECT
    )


_BEFORE_MAIL = frozenset({Stage.CONNECT, Stage.GREETING, Stage.HELLO})
_ABOUT_THE_SITE = frozenset({Category.NETWORK, Category.DNS, Category.PROTOCOL})


def _of_trouble(stage: Stage, diagnosis: Diagnosis) -> Verdict:
    """Judge by a failure without a reply.

    What we ask of a connection (TLS) or find missing in it (SIZE) says nothing of how
    much a site can take.
    """
    silent = (
        diagnosis.scope is Scope.DESTINATION
        and diagnosis.category in _ABOUT_THE_SITE
        and stage is not Stage.DOT
    )
    return Verdict.SILENT if silent else Verdict.NOTHING


@dataclass(frozen=True, slots=True)
class Window:
    """How many deliveries may run to a site at a time.

    `credit` adds up towards the next step; `failures` counts, in windows, those since
    the last success; `recovering`: a slow start is under way.
    """

    limit: int = 20
    size: int = FIRST_SIZE
    credit: float = 0.0
    failures: float = 0.0
    recovering: bool = False

    @classmethod
    def first(cls, limit: int) -> "Window":
        """The window of a site that nothing is known of."""
        return cls(limit, min(FIRST_SIZE, limit))

    @property
    def is_dead(self) -> bool:
        """Whether a window of deliveries, at least three, failed and none worked."""
        return self.failures >= 0.999

    def worked(self, *, in_full_use: bool) -> "Window":
        """Take in a success; a window that is not used does not grow."""
        calm = replace(self, failures=0.0) if self.failures else self
        if not in_full_use or self.size >= self.limit:
            return calm
        if self.recovering:
            size = self.size + 1
            return replace(calm, size=size, recovering=size < FIRST_SIZE)
        return replace(calm, credit=self.credit + 1 / sqrt(self.size)).stepped()

    def failed(self) -> "Window":
        """Take in a failure of the site itself."""
        credit = self.credit - 1 / sqrt(self.size)
        cohort = self.size if self.recovering else max(self.size, _SMALLEST_COHORT)
        failures = self.failures + 1 / cohort
        return replace(self, credit=credit, failures=failures).stepped()

    def slowed(self) -> "Window":
        """Take in the wish for fewer connections: one less at once, and slow growth."""
        size = max(1, self.size - 1)
        return replace(self, size=size, credit=0.0, failures=0.0, recovering=False)

    def restarted(self) -> "Window":
        """Begin at one delivery: the site was dead, and is to be found out about."""
        return Window(self.limit, 1, recovering=True)

    def stepped(self) -> "Window":
        """Move by one when the credit has added up to a whole step."""
        if self.credit >= 1:
            return replace(self, size=min(self.size + 1, self.limit), credit=0.0)
        if self.credit <= -1:
            return replace(self, size=max(self.size - 1, 1), credit=0.0)
        return self


def block_rest(times: int) -> float:
    """Seconds that a (source, site) pair rests after so many block answers in a row."""
    doublings = min(max(times - 1, 0), _DOUBLINGS)
    return min(_BLOCKED_FIRST * 2.0**doublings, _BLOCKED_LONGEST)
