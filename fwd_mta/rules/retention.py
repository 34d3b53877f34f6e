"""When content is redacted and when its record goes, and what is left in between.

Retention starts with the message's clock, at arrival (SPEC section 3), and never ends
before the message is finished. A notice quotes the message it is about, so its content
goes with that one's, or when the notice is finished, if later.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fwd_mta.mail.entry import QueueEntry, StandingState, Status
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import fields, join
from fwd_mta.mail.message import Message
from fwd_mta.rules.identity import made_at

_KEPT = ("from", "to", "cc", "date", "message-id")


@dataclass(frozen=True, slots=True)
class Term:
    """How long content and record are kept, in seconds; 0 is not at all."""

    content: float
    record: float


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long content and record are kept; `terms` are for some accounts or domains.

    Keys of `terms` are in lower case: a login, or the domain of logins.
    """

    content: float
    record: float
    terms: Mapping[str, Term] = field(default_factory=dict)

    def of(self, entry: QueueEntry) -> Term:
        """What counts for an entry: for a notice, what does for its cause."""
        if self.terms:
            owner = owner_of(entry).lower()
            for key in (owner, owner.rpartition("@")[2]):
                if key in self.terms:
                    return self.terms[key]
        return Term(self.content, self.record)

    @property
    def words(self) -> str:
        """All of it in a line each, for whoever compares it with an older one."""
        some = sorted(self.terms.items())
        lines = [f"{key} {term.content:g} {term.record:g}" for key, term in some]
        return "\n".join(
            [f"content {self.content:g}", f"record {self.record:g}", *lines]
        )


def owner_of(entry: QueueEntry) -> str:
    """Whose mail it is: the account's, else the sender's; a notice's cause's."""
    path = entry.envelope.reverse_path
    if entry.owner or entry.account:
        return entry.owner or entry.account or ""
    if entry.cause is not None and entry.envelope.recipients:
        return str(entry.envelope.recipients[0].mailbox)
    return str(path) if path else ""


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
    finished, term = entry.finished_at or entry.clock_start, policy.of(entry)
    purge = max(entry.clock_start + term.record, finished)
    redact = max(_content_clock(entry) + term.content, finished)
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
