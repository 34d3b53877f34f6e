"""What a record holds, as it is in the file; and every noun to its shape and back.

The shapes are the format: a field here is never renamed and never changes its meaning;
a new one has a default. Pure.
"""

from functools import lru_cache
from operator import attrgetter

import msgspec

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import (
    Action,
    Attempt,
    Category,
    DeliveryResult,
    Diagnosis,
    Notice,
    NoticeKind,
    Origin,
    QueueEntry,
    Scope,
    Stage,
    Standing,
    StandingState,
    Step,
)
from fwd_mta.mail.envelope import Body, Envelope, Notify, Recipient, Ret
from fwd_mta.mail.reply import Reply


class StoredRecipient(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recipient: mailbox as local part and domain, DSN parameters."""

    to: tuple[str, str]
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None


class StoredReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reply."""

    code: int
    detail: str | None
    text: str


class StoredDiagnosis(msgspec.Struct, frozen=True, omit_defaults=True):
    """A diagnosis."""

    action: str
    category: str
    scope: str
    message: str
    code: int
    status: str
    rule: str


class StoredResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One recipient's result."""

    recipient: StoredRecipient
    stage: str
    reply: StoredReply | None = None
    diagnosis: StoredDiagnosis | None = None
    host: str | None = None
    tls: str | None = None
    in_doubt: bool = False
    relayed: bool = False


class StoredAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt."""

    started: float
    ended: float
    results: tuple[StoredResult, ...]
    trail: tuple[str, ...] = ()


class StoredStanding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One recipient's state; `next` is the time of its next attempt."""

    recipient: StoredRecipient
    next: float
    state: str = "open"
    attempts: int = 0
    last: StoredResult | None = None
    warned: bool = False
    in_doubt_since: float | None = None
    possible_duplicate: bool = False


class StoredNotice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A notice owed."""

    id: str
    kind: str
    recipients: tuple[StoredRecipient, ...]


class StoredEnvelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """An envelope; recipients only where the standings have others."""

    sender: tuple[str, str] | None
    recipients: tuple[StoredRecipient, ...] | None = (
        None  # None: those of the standings
    )
    body: str | None = None
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    require_tls: bool = False
    hold_until: float | None = None


class StoredOrigin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a message came from."""

    client: str = ""
    hello: str = ""
    protocol: str = ""
    tls: str = ""
    checks: tuple[str, ...] = ()


class StoredEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole entry."""

    id: str
    queued_at: float
    size: int
    envelope: StoredEnvelope
    standings: tuple[StoredStanding, ...]
    account: str | None = None
    origin: StoredOrigin = StoredOrigin()
    message_id: str = ""
    held: str | None = None
    owed: tuple[StoredNotice, ...] = ()
    notices: int = 0
    cause: str | None = None
    finished_at: float | None = None
    redacted_at: float | None = None
    lifetime: float | None = None
    via: str = ""
    owner: str = ""


class StoredRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record: what happened, and the entry after it (none for a dot)."""

    at: float
    what: str
    note: str = ""
    attempt: StoredAttempt | None = None
    dot: tuple[StoredRecipient, ...] = ()
    entry: StoredEntry | None = None


class StoredLine(msgspec.Struct, frozen=True):
    """A record as it is read: an entry that is not the last is not decoded."""

    at: float
    what: str
    note: str = ""
    attempt: StoredAttempt | None = None
    dot: tuple[StoredRecipient, ...] = ()
    entry: msgspec.Raw = msgspec.Raw()


# From nouns

_word = attrgetter("_value_")  # an enum's `value` itself takes three calls


@lru_cache(maxsize=1024)  # each is written with every record of its message
def recipient_out(recipient: Recipient) -> StoredRecipient:
    """A recipient's shape."""
    mailbox, notify = recipient.mailbox, recipient.notify
    return StoredRecipient(
        (mailbox.local, mailbox.domain),
        None if notify is None else tuple(map(_word, notify)),
        recipient.orcpt,
    )


def _diagnosis_out(found: Diagnosis) -> StoredDiagnosis:
    return StoredDiagnosis(
        _word(found.action),
        _word(found.category),
        _word(found.scope),
        found.message,
        found.code,
        found.status,
        found.rule,
    )


def result_out(result: DeliveryResult) -> StoredResult:
    """A result's shape."""
    reply, found = result.reply, result.diagnosis
    return StoredResult(
        recipient_out(result.recipient),
        _word(result.stage),
        StoredReply(reply.code, reply.detail, reply.text) if reply else None,
        _diagnosis_out(found) if found else None,
        result.host,
        result.tls,
        result.in_doubt,
        result.relayed,
    )


def attempt_out(attempt: Attempt) -> StoredAttempt:
    """An attempt's shape."""
    results = tuple(map(result_out, attempt.results))
    return StoredAttempt(attempt.started, attempt.ended, results, attempt.trail)


def _standing_out(standing: Standing) -> StoredStanding:
    return StoredStanding(
        recipient_out(standing.recipient),
        standing.next_attempt_at,
        _word(standing.state),
        standing.attempts,
        result_out(standing.last) if standing.last else None,
        standing.warned,
        standing.in_doubt_since,
        standing.possible_duplicate,
    )


def _envelope_out(entry: QueueEntry) -> StoredEnvelope:
    envelope, path = entry.envelope, entry.envelope.reverse_path
    same = [*envelope.recipients] == [one.recipient for one in entry.standings]
    return StoredEnvelope(
        (path.local, path.domain) if path else None,
        None if same else tuple(map(recipient_out, envelope.recipients)),
        envelope.body and _word(envelope.body),
        envelope.smtputf8,
        envelope.ret and _word(envelope.ret),
        envelope.envid,
        envelope.require_tls,
        envelope.hold_until,
    )


def _notice_out(notice: Notice) -> StoredNotice:
    recipients = tuple(map(recipient_out, notice.recipients))
    return StoredNotice(notice.id, _word(notice.kind), recipients)


def entry_out(entry: QueueEntry) -> StoredEntry:
    """An entry's shape."""
    origin = entry.origin
    return StoredEntry(
        entry.id,
        entry.queued_at,
        entry.size,
        _envelope_out(entry),
        tuple(map(_standing_out, entry.standings)),
        entry.account,
        StoredOrigin(
            origin.client, origin.hello, origin.protocol, origin.tls, origin.checks
        ),
        entry.message_id,
        entry.held,
        tuple(map(_notice_out, entry.owed)),
        entry.notices,
        entry.cause,
        entry.finished_at,
        entry.redacted_at,
        entry.lifetime,
        entry.via,
        entry.owner,
    )


# To nouns


def _mailbox_in(pair: tuple[str, str]) -> Mailbox:
    return Mailbox(pair[0], pair[1])


def recipient_in(recipient: StoredRecipient) -> Recipient:
    """A recipient; ValueError for words no version wrote."""
    notify = recipient.notify
    return Recipient(
        _mailbox_in(recipient.to),
        None if notify is None else tuple(Notify(one) for one in notify),
        recipient.orcpt,
    )


def _diagnosis_in(found: StoredDiagnosis) -> Diagnosis:
    return Diagnosis(
        Action(found.action),
        Category(found.category),
        Scope(found.scope),
        found.message,
        found.code,
        found.status,
        found.rule,
    )


def result_in(result: StoredResult) -> DeliveryResult:
    """A result; ValueError for words no version wrote."""
    reply, found = result.reply, result.diagnosis
    return DeliveryResult(
        recipient_in(result.recipient),
        Stage(result.stage),
        Reply(reply.code, reply.detail, reply.text) if reply else None,
        _diagnosis_in(found) if found else None,
        result.host,
        result.tls,
        result.in_doubt,
        result.relayed,
    )


def _attempt_in(attempt: StoredAttempt) -> Attempt:
    results = tuple(result_in(one) for one in attempt.results)
    return Attempt(attempt.started, attempt.ended, results, attempt.trail)


def step_in(line: StoredLine) -> Step:
    """A line of a timeline; ValueError for words no version wrote."""
    attempt = _attempt_in(line.attempt) if line.attempt else None
    note = line.note or ", ".join(str(_mailbox_in(one.to)) for one in line.dot)
    return Step(line.at, line.what, note, attempt)


def _standing_in(standing: StoredStanding) -> Standing:
    return Standing(
        recipient_in(standing.recipient),
        standing.next,
        StandingState(standing.state),
        standing.attempts,
        result_in(standing.last) if standing.last else None,
        standing.warned,
        standing.in_doubt_since,
        standing.possible_duplicate,
    )


def _envelope_in(entry: StoredEntry, standings: tuple[Standing, ...]) -> Envelope:
    envelope = entry.envelope
    recipients = (
        tuple(one.recipient for one in standings)
        if envelope.recipients is None
        else tuple(recipient_in(one) for one in envelope.recipients)
    )
    return Envelope(
        _mailbox_in(envelope.sender) if envelope.sender else None,
        recipients,
        Body(envelope.body) if envelope.body else None,
        envelope.smtputf8,
        Ret(envelope.ret) if envelope.ret else None,
        envelope.envid,
        envelope.require_tls,
        envelope.hold_until,
    )


def _notice_in(notice: StoredNotice) -> Notice:
    recipients = tuple(recipient_in(one) for one in notice.recipients)
    return Notice(notice.id, NoticeKind(notice.kind), recipients)


def entry_in(entry: StoredEntry) -> QueueEntry:
    """An entry; ValueError for words no version wrote."""
    standings = tuple(_standing_in(one) for one in entry.standings)
    origin = entry.origin
    return QueueEntry(
        id=entry.id,
        account=entry.account,
        envelope=_envelope_in(entry, standings),
        standings=standings,
        queued_at=entry.queued_at,
        size=entry.size,
        origin=Origin(
            origin.client, origin.hello, origin.protocol, origin.tls, origin.checks
        ),
        message_id=entry.message_id,
        held=entry.held,
        owed=tuple(_notice_in(one) for one in entry.owed),
        notices=entry.notices,
        cause=entry.cause,
        finished_at=entry.finished_at,
        redacted_at=entry.redacted_at,
        lifetime=entry.lifetime,
        via=entry.via,
        owner=entry.owner,
    )
