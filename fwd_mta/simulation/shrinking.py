"""The shortest plan that still breaks the same invariant: fewer messages and faults."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from fwd_mta.simulation.plan import DAY, Plan

T = TypeVar("T")

_TRIES = 200


def shrink(plan: Plan, fails: Callable[[Plan], bool], tries: int = _TRIES) -> Plan:
    """Drop what the failure does not need; `fails` says whether a plan still does."""
    left = tries
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(plan):
            if left <= 0:
                return plan
            left -= 1
            if fails(candidate):
                plan, smaller = candidate, True
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with less in them, the boldest first."""
    for faults in _without_some(plan.faults):
        yield replace(plan, faults=faults)
    for submissions in _without_some(plan.submissions):
        yield replace(plan, submissions=submissions)
    for number, one in enumerate(plan.submissions):
        for recipients in _without_some(one.recipients):
            if recipients:
                fewer = replace(one, recipients=recipients)
                yield replace(plan, submissions=_with(plan.submissions, number, fewer))
        plain = replace(
            one, cut="", full=False, size=0, pipelined=False, chunked=False, hold=0
        )
        if plain != one:
            yield replace(plan, submissions=_with(plan.submissions, number, plain))
    yield from (one for one in _calmer(plan) if one != plan)


def _calmer(plan: Plan) -> Iterator[Plan]:
    """Plans of which less is to be said."""
    yield replace(plan, warning=0.0)
    yield replace(plan, bounce_lifetime=0.0)
    yield replace(plan, minimal=DAY, maximal=DAY, lifetime=2 * DAY)
    yield replace(plan, scans="")
    yield replace(plan, threads=False, hurried=False)
    yield replace(_plain(plan), tls=False, level="may", messages=0)


def _plain(plan: Plan) -> Plan:
    """The plan with what needs TLS left out of its submissions."""
    submissions = (replace(one, starttls=False, hold=0) for one in plan.submissions)
    return replace(plan, submissions=tuple(submissions))


def _without_some(things: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """All but a half, all but a quarter, and so on down to all but one."""
    length = len(things) // 2 or 1
    while things and length:
        for start in range(0, len(things), length):
            yield things[:start] + things[start + length :]
        length //= 2


def _with(things: Sequence[T], number: int, thing: T) -> tuple[T, ...]:
    return (*things[:number], thing, *things[number + 1 :])
