"""The shortest plan that still breaks the same invariant: fewer messages and faults."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from fwd_mta.simulation.plan import Plan

T = TypeVar("T")

_TRIES = 150


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
        plain = replace(one, cut="", full=False, size=0, pipelined=False)
        if plain != one:
            yield replace(plan, submissions=_with(plan.submissions, number, plain))
    if plan.threads:
        yield replace(plan, threads=False)
    if plan.tls:
        yield replace(plan, tls=False, encrypt=False)


def _without_some(things: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """All but a half, all but a quarter, and so on down to all but one."""
    length = len(things) // 2 or 1
    while things and length:
        for start in range(0, len(things), length):
            yield things[:start] + things[start + length :]
        length //= 2


def _with(things: Sequence[T], number: int, thing: T) -> tuple[T, ...]:
    return (*things[:number], thing, *things[number + 1 :])
