"""When content is redacted and when its record goes, and what is left in between.

Retention starts with the message's clock, at arrival (SPEC section 3), and never ends
before the message is finished. A notice quotes the message it is about, so its content
goes with that one's, or when the notice is finished, if later.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from fwd_mta.mail.entry import QueueEntry, StandingState, Status
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import fields, join
from fwd_mta.mail.message import Message
from fwd_mta.rules.identity import made_at

_KEPT = ("from", "to", "cc", "date", "message-id")


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long content and record are kept, in seconds; 0 is not at all."""

    content: float
    record: float


class RetentionStep(StrEnum):
    """What is done next with a finished message."""

    REDACT = "redact"
    PURGE = "purge"


def next_step(
    entry: QueueEntry, policy: RetentionPolicy
) -> tuple[RetentionStep, float] | None:
    """What is done with an entry next, and when; None while it is not finished."""
    if not can_be_redacted(entry):
        return None
    finished = entry.finished_at or entry.clock_start
    purge = max(entry.clock_start + policy.record, finished)
    redact = max(_content_clock(entry) + policy.content, finished)
    if entry.redacted_at is None and redact < purge:
        return RetentionStep.REDACT, redact
    return RetentionStep.PURGE, purge


def can_be_redacted(entry: QueueEntry) -> bool:
    """Whether it is over, and not kept as evidence."""
    return entry.is_final and not entry.owed and entry.held is None


def keep(entry: QueueEntry, reason: str) -> QueueEntry:
    """Keep a finished message as it is, whatever the terms say, until `let_go`."""
    return replace(entry, held=reason) if entry.is_final else entry


def let_go(entry: QueueEntry) -> QueueEntry:
    """Let the terms count again for a finished message."""
    return replace(entry, held=None) if entry.is_final else entry


def due_step(
    entry: QueueEntry, policy: RetentionPolicy, now: float
) -> RetentionStep | None:
    """What is due by now: what is purged anyway is not redacted first."""
    step = next_step(entry, policy)
    if step is None or step[1] > now:
        return None
    last = next_step(replace(entry, redacted_at=now), policy)
    return last[0] if last is not None and last[1] <= now else step[0]


def _content_clock(entry: QueueEntry) -> float:
    """From when its content counts: a notice's is older than the notice."""
    if entry.cause is None:
        return entry.clock_start
    return min(entry.clock_start, made_at(entry.cause))


# The placeholder

_OUTCOMES = {
    Status.SENT: "It was delivered to all of its recipients.",
    Status.PARTIALLY_SENT: "It was delivered to some of its recipients, not to all.",
    Status.BOUNCED: "It was delivered to none of its recipients.",
    Status.REJECTED: "It was cancelled by an operator before it was delivered.",
}

_WORDS = {
    StandingState.DELIVERED: "delivered",
    StandingState.RELAYED: "relayed to a host that sends no notices",
    StandingState.FAILED: "refused",
    StandingState.EXPIRED: "given up after the queue lifetime",
    StandingState.CANCELLED: "cancelled",
    StandingState.OPEN: "still waiting",
}


_FIRST_LINE = (
    "The content of this message was removed at the end of its retention time."
)


def is_placeholder(head: bytes, body: bytes) -> bool:
    """Whether this is what a redaction leaves: its lines, the fields it keeps."""
    return body.startswith(_FIRST_LINE.encode()) and _kept_fields(head) == head


def placeholder(entry: QueueEntry, message: Message, digest: str) -> Message:
    """What stands in for content that was removed; it tells the true outcome.

    From, To, Cc, Date and Message-ID stay as they were, all else goes, Subject
    included; `digest` is the SHA-256 of the original head, empty line and body.
    """
    lines = [
        _FIRST_LINE,
        _OUTCOMES.get(entry.status, "It has not reached an end yet."),
        "",
        *_counts(entry),
        f"Queue id: {entry.id}",
        f"Size: {message.size} octets, of which body {message.body_size}",
        f"SHA-256: {digest}",
        "",
    ]
    return Message(_kept_fields(message.head), "\r\n".join(lines).encode("ascii"))


def _counts(entry: QueueEntry) -> Iterator[str]:
    counts = Counter(standing.state for standing in entry.standings)
    for state, words in _WORDS.items():
        if counts[state]:
            plural = "" if counts[state] == 1 else "s"
            yield f"{counts[state]} recipient{plural}: {words}"
    if entry.notices:
        yield f"Notices about it: {entry.notices}"


def _kept_fields(head: bytes) -> bytes:
    try:
        return join(field for field in fields(head) if field.has_name(*_KEPT))
    except SyntaxFault:
        return b""
