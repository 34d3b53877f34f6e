"""What an attempt, or an operator, makes of an entry: the message's state machine.

All functions here are pure: old entry in, new entry out. `settle` touches only the
recipients of its attempt, so several deliveries of one entry may run side by side.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fwd_mta.mail.entry import (
    Action,
    Attempt,
    Category,
    DeliveryResult,
    Diagnosis,
    Notice,
    NoticeKind,
    QueueEntry,
    Scope,
    Standing,
    StandingState,
)
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.noun import changed
from fwd_mta.rules.dsn import wants
from fwd_mta.rules.identity import notice_id
from fwd_mta.rules.retry import RetrySchedule

DOUBT_WAIT = 600.0  # an attempt in doubt is tried again late (P2)
_DAY = 86_400.0
_FULL_MAILBOX_WAIT = 4 * 3600.0
_BLOCKED_WAIT = 3600.0


@dataclass(frozen=True, slots=True)
class _Moment:
    """What the decision about each recipient needs besides its result."""

    entry: QueueEntry
    schedule: RetrySchedule
    now: float
    jitter: float
    at_once: frozenset[Recipient] = frozenset()


def settle(
    entry: QueueEntry,
    attempt: Attempt,
    schedule: RetrySchedule,
    now: float,
    jitter: float,
    at_once: frozenset[Recipient] = frozenset(),
) -> QueueEntry:
    """Fold an attempt into its entry: new standings, and the notices now owed.

    `jitter` in [0, 1) is chance; `at_once` have another way than the one that was just
    tried. Standings that are final already stay as they are.
    """
    if len(entry.standings) == 1 and len(attempt.results) == 1:
        done = _delivered(entry, entry.standings[0], attempt.results[0], now)
        if done is not None:
            return done
    moment = _Moment(entry, schedule, now, jitter, at_once)
    results = {result.recipient: result for result in attempt.results}
    standings = tuple(
        _settled(standing, results.get(standing.recipient), moment)
        for standing in entry.standings
    )
    return _owing(entry, _with(entry, standings, now))


def _delivered(
    entry: QueueEntry, standing: Standing, result: DeliveryResult, now: float
) -> QueueEntry | None:
    """What becomes of most mail: its one recipient has it and nobody is told.

    The same as the long way makes of it, or None where that has to be gone.
    """
    recipient = standing.recipient
    if (
        result.diagnosis is not None
        or result.relayed
        or result.at_home
        or recipient.notify is not None
        or standing.in_doubt_since is not None
        or standing.state is not StandingState.OPEN
        or result.recipient != recipient
    ):
        return None
    delivered = Standing(
        recipient,
        standing.next_attempt_at,
        StandingState.DELIVERED,
        standing.attempts + 1,
        result,
        standing.warned,
        None,
        standing.possible_duplicate,
    )
    ended = now if entry.finished_at is None else entry.finished_at
    return entry.settled((delivered,), ended)


def _settled(
    standing: Standing, result: DeliveryResult | None, moment: _Moment
) -> Standing:
    if result is None or not standing.is_open:
        return standing
    state = _state(result)
    tried = changed(
        standing,
        state=state,
        attempts=standing.attempts + 1,
        last=result,
        in_doubt_since=None,
        possible_duplicate=standing.possible_duplicate
        or standing.in_doubt_since is not None,
    )
    if state is not StandingState.OPEN or result.diagnosis is None:
        return tried
    return _deferred(tried, result, result.diagnosis, moment)


def _state(result: DeliveryResult) -> StandingState:
    """What a result makes of a recipient that waited, its lifetime aside."""
    if result.diagnosis is None:
        return StandingState.RELAYED if result.relayed else StandingState.DELIVERED
    is_refused = result.diagnosis.action is Action.REJECT
    return StandingState.FAILED if is_refused else StandingState.OPEN


def _deferred(
    standing: Standing, result: DeliveryResult, diagnosis: Diagnosis, moment: _Moment
) -> Standing:
    expires_at = moment.schedule.expires_at(moment.entry)
    after = moment.schedule.next_attempt(
        standing.attempts, moment.now, expires_at, moment.jitter
    )
    if after is None:
        return changed(standing, state=StandingState.EXPIRED)
    floor = moment.now + _least_wait(diagnosis, result.in_doubt, moment)
    if standing.recipient in moment.at_once:
        after = floor = moment.now
    return changed(
        standing,
        next_attempt_at=min(max(after, floor), expires_at),
        in_doubt_since=moment.now if result.in_doubt else None,
        warned=standing.warned or moment.schedule.is_late(moment.entry, moment.now),
    )


def _least_wait(diagnosis: Diagnosis, in_doubt: bool, moment: _Moment) -> float:
    if in_doubt:
        return DOUBT_WAIT
    if diagnosis.category is Category.CAPACITY:
        old = moment.now >= moment.entry.clock_start + _DAY
        return _FULL_MAILBOX_WAIT if old else 0.0
    if (
        diagnosis.category is Category.BLOCKLIST
        and diagnosis.scope is Scope.DESTINATION
    ):
        return _BLOCKED_WAIT
    return 0.0


_TOLD = {
    StandingState.FAILED: NoticeKind.FAILED,
    StandingState.EXPIRED: NoticeKind.FAILED,
    StandingState.RELAYED: NoticeKind.RELAYED,
}


def _owing(before: QueueEntry, after: QueueEntry) -> QueueEntry:
    """Add a notice for each kind of change that the sender wants to hear of."""
    about: dict[NoticeKind, list[Recipient]] = {}
    for old, new in zip(before.standings, after.standings, strict=True):
        kind = _news(old, new)
        if kind is not None and wants(after, kind, new.recipient):
            about.setdefault(kind, []).append(new.recipient)
    return _with_notices(after, about.items())


def _news(old: Standing, new: Standing) -> NoticeKind | None:
    if old.state is not new.state:
        if new.last is not None and new.last.at_home:
            return NoticeKind.DELIVERED
        return _TOLD.get(new.state)
    if new.warned and not old.warned:
        return NoticeKind.DELAYED
    return None


def _with_notices(
    entry: QueueEntry, about: Iterable[tuple[NoticeKind, list[Recipient]]]
) -> QueueEntry:
    for kind, recipients in about:
        number = entry.notices + 1
        notice = Notice(notice_id(entry.id, number), kind, tuple(recipients))
        entry = changed(entry, owed=(*entry.owed, notice), notices=number)
    return entry


def _with(entry: QueueEntry, standings: tuple[Standing, ...], now: float) -> QueueEntry:
    """The entry with these standings, finished if none of them waits."""
    ended = entry.finished_at
    if ended is None and not any(standing.is_open for standing in standings):
        ended = now
    return changed(entry, standings=standings, finished_at=ended)


def _finished(entry: QueueEntry, now: float) -> QueueEntry:
    if entry.is_final and entry.finished_at is None:
        return changed(entry, finished_at=now)
    return entry


def paid(entry: QueueEntry) -> QueueEntry:
    """Clear the notices that are durably in the queue now."""
    return changed(entry, owed=())


def in_doubt(
    entry: QueueEntry, recipients: Iterable[Recipient], now: float
) -> QueueEntry:
    """Mark recipients whose final dot went out before we died (P2): late, not lost."""
    doubtful = frozenset(recipients)
    return _each_open(
        entry,
        lambda standing: (
            changed(standing, in_doubt_since=now, next_attempt_at=now + DOUBT_WAIT)
            if standing.recipient in doubtful
            else standing
        ),
    )


def put_off(
    entry: QueueEntry, recipients: Iterable[Recipient], until: float
) -> QueueEntry:
    """Look at recipients that were not tried again by then."""
    waiting = frozenset(recipients)
    return _each_open(
        entry,
        lambda standing: (
            changed(standing, next_attempt_at=until)
            if standing.recipient in waiting
            else standing
        ),
    )


def look_again(
    entry: QueueEntry, schedule: RetrySchedule, now: float, until: float
) -> float:
    """When to look at an entry that is not tried now: by `until`, or sooner.

    Whatever its site does, its sender is told of the delay, and of the end, in time.
    """
    moments = [until, schedule.expires_at(entry)]
    if schedule.delay_warning_time:
        moments.append(entry.clock_start + schedule.delay_warning_time)
    return min(moment for moment in moments if moment > now or moment == until)


def needs_words(
    standing: Standing, entry: QueueEntry, schedule: RetrySchedule, now: float
) -> bool:
    """Whether a recipient that cannot be tried now has to be told why.

    The first time, so that nobody waits without a reason (P3); when its sender is to
    hear of the delay; and at the end.
    """
    late = schedule.is_late(entry, now) and not standing.warned
    return not standing.attempts or late or now >= schedule.expires_at(entry)


def hold(entry: QueueEntry, reason: str) -> QueueEntry:
    """Put it on hold: it waits until released, whatever its schedule says."""
    return entry if entry.is_final else changed(entry, held=reason)


def release(entry: QueueEntry, now: float) -> QueueEntry:
    """Let it go on from hold, due now (past its lifetime: one try, then it fails)."""
    if entry.is_final:
        return entry
    return retry_now(changed(entry, held=None), now)


def retry_now(entry: QueueEntry, now: float) -> QueueEntry:
    """Make all that waits due now; a wait for doubt's sake is overridden too."""
    return _each_open(entry, lambda standing: changed(standing, next_attempt_at=now))


def reroute(entry: QueueEntry, via: str, now: float) -> QueueEntry:
    """Send all that waits by another next hop, now; empty: the usual way again."""
    return changed(retry_now(entry, now), via=via)


def cancel(entry: QueueEntry, now: float) -> QueueEntry:
    """Give up on all that still waits, by an operator's wish; nobody is notified."""
    if entry.is_final:
        return entry
    cancelled = _each_open(
        changed(entry, held=None),
        lambda standing: changed(standing, state=StandingState.CANCELLED),
    )
    return _finished(cancelled, now)


def _each_open(entry: QueueEntry, change: Callable[[Standing], Standing]) -> QueueEntry:
    standings = tuple(
        change(standing) if standing.is_open else standing
        for standing in entry.standings
    )
    return changed(entry, standings=standings)
