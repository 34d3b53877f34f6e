"""What must be so in any record of the queue, whoever looks.

Doorway: `flaws(entry)`. Each is a defect of ours, or damage. The simulation asks it of
every record after each change, `fwdmta fsck` of every record on the disk, and the
auditor of the live server of some.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from fwd_mta.mail.entry import QueueEntry, StandingState
from fwd_mta.rules.retry import RetrySchedule

_TRIED = frozenset(StandingState) - {StandingState.OPEN, StandingState.CANCELLED}
_LONGEST_REST = 6 * 3600.0  # a site that blocks us (SPEC section 3)


def flaws(entry: QueueEntry) -> Iterator[str]:
    """What is wrong with a record, in words; nothing if it is sound."""
    return (words for is_flawed, words in _FLAWS if is_flawed(entry))


def is_beyond(
    entry: QueueEntry, schedule: RetrySchedule, now: float, slack: float = 600.0
) -> bool:
    """Whether it waits for a time that no rule of the schedule can have set.

    A lifetime that was shortened meanwhile ends a message at its next try, so what is
    due after its end is due within the longest wait from now.
    """
    longest = max(schedule.maximal_backoff_time, _LONGEST_REST)
    last = max(schedule.expires_at(entry), now + longest) + slack
    return any(one.next_attempt_at > last for one in entry.open)


def _has_others(entry: QueueEntry) -> bool:
    told = Counter(one.recipient for one in entry.standings)
    return told != Counter(entry.envelope.recipients)


def _untried(entry: QueueEntry) -> bool:
    return any(one.state in _TRIED and not one.attempts for one in entry.standings)


def _owes_oddly(entry: QueueEntry) -> bool:
    ids = {one.id for one in entry.owed}
    known = {one.recipient for one in entry.standings}
    about = {recipient for one in entry.owed for recipient in one.recipients}
    too_many = len(ids) != len(entry.owed) or len(ids) > entry.notices
    return too_many or not about <= known


_FLAWS: tuple[tuple[Callable[[QueueEntry], bool], str], ...] = (
    (lambda one: not one.standings, "it has no recipients"),
    (_has_others, "its recipients are not those of its envelope"),
    (
        lambda one: one.is_final and one.finished_at is None,
        "nothing waits, and nobody knows since when",
    ),
    (
        lambda one: not one.is_final and one.finished_at is not None,
        "it is said to be over, and a recipient waits",
    ),
    (
        lambda one: not one.is_final and one.redacted_at is not None,
        "its content is gone, and a recipient waits",
    ),
    (_untried, "a recipient has an end without an attempt"),
    (_owes_oddly, "the notices it owes do not fit it"),
    (
        lambda one: bool(one.owed) and one.envelope.reverse_path is None,
        "it owes a notice to nobody",
    ),
    (
        lambda one: one.cause is not None and one.envelope.reverse_path is not None,
        "it is a notice, and not from the null sender",
    ),
    (
        lambda one: one.cause is not None and bool(one.notices),
        "a notice has notices of its own",
    ),
)
