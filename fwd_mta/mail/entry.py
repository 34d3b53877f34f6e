"""A message in the queue: who still waits for it, what happened, what we owe.

`QueueEntry` is data and its changes are pure functions (`rules.settlement`); what
follows from other fields (`status`, `due`) is derived, never stored beside its causes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.noun import noun
from fwd_mta.mail.reply import Reply


class Action(StrEnum):
    """What a reply or failure asks us to do."""

    REJECT = "reject"
    DEFER = "defer"
    SLOWDOWN = "slowdown"


class Category(StrEnum):
    """What it was about (SPEC section 3, get_bounce_info)."""

    BLOCKLIST = "blocklist"
    SPAM = "spam"
    VIRUS = "virus"
    POLICY = "policy"
    DMARC = "dmarc"
    RECIPIENT = "recipient"
    SENDER = "sender"
    CAPACITY = "capacity"
    RATE = "rate"
    GREYLIST = "greylist"
    MESSAGE = "message"
    NETWORK = "network"
    DNS = "dns"
    TLS = "tls"
    PROTOCOL = "protocol"
    AUTH = "auth"
    CONFIG = "config"
    OTHER = "other"


class Scope(StrEnum):
    """Whom it concerns: one recipient, this message, our sender, or the whole site."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    SENDER = "sender"
    DESTINATION = "destination"


class Stage(StrEnum):
    """Where in a delivery an answer came or something failed."""

    DNS = "dns"
    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "hello"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a reply or failure means; `rule` names the row that decided.

    `message` is a sentence for a person; `code` 0 means that no reply was heard;
    `status` is the enhanced code as it goes into a notice, as in "5.1.1".
    """

    action: Action
    category: Category
    scope: Scope
    message: str
    code: int
    status: str
    rule: str


@noun
class DeliveryResult:
    """What became of one recipient in one attempt; without a diagnosis: delivered.

    `reply` is the peer's last word about it, None when none was heard; `in_doubt`:
    the final dot went out and no reply came (P2); `tls` describes the connection.
    `relayed`: the next hop offers no DSN and SUCCESS was asked for (RFC 3461 5.2.2).
    `source` is the address we went out from, where one was chosen; `at_home`: it is in
    a mail store of ours, the end of the way. Both are not kept.
    """

    recipient: Recipient
    stage: Stage
    reply: Reply | None = None
    diagnosis: Diagnosis | None = None
    host: str | None = None
    tls: str | None = None
    in_doubt: bool = False
    relayed: bool = False
    source: str | None = None
    at_home: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the peer took responsibility."""
        return self.diagnosis is None


@noun
class Attempt:
    """One delivery of some recipients; wall times in seconds since the epoch.

    `trail` tells in order what was tried: a line per exchanger, for people.
    """

    started: float
    ended: float
    results: tuple[DeliveryResult, ...]
    trail: tuple[str, ...] = ()


class StandingState(StrEnum):
    """Where one recipient stands; all but OPEN are final (P1)."""

    OPEN = "open"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@noun
class Standing:
    """One recipient's state; `next_attempt_at` is a wall time, kept while open.

    `warned`: its delay notice is made or owed; `in_doubt_since`: a final dot went out
    then and its reply is unknown; `possible_duplicate`: it was tried again after that.
    """

    recipient: Recipient
    next_attempt_at: float
    state: StandingState = StandingState.OPEN
    attempts: int = 0
    last: DeliveryResult | None = None
    warned: bool = False
    in_doubt_since: float | None = None
    possible_duplicate: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it still waits."""
        return self.state is StandingState.OPEN


class NoticeKind(StrEnum):
    """What a notice tells the sender (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice owed to the sender about some recipients; `id` becomes its entry's.

    The id derives from its cause (parent id, running number), so that paying twice
    writes once.
    """

    id: str
    kind: NoticeKind
    recipients: tuple[Recipient, ...]


class Status(StrEnum):
    """The state of a whole message (SPEC section 4)."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    SENT = "sent"
    PARTIALLY_SENT = "partially_sent"
    BOUNCED = "bounced"
    REJECTED = "rejected"


_DONE = frozenset({StandingState.DELIVERED, StandingState.RELAYED})


@noun
class Origin:
    """Where a message came from, for its timeline; empty strings for a notice.

    `checks`: a line on what each scanner said of it.
    """

    client: str = ""
    hello: str = ""
    protocol: str = ""
    tls: str = ""
    checks: tuple[str, ...] = ()


@noun
class QueueEntry:
    """One message's place in the queue; all times are wall times in epoch seconds.

    `held` is the reason it is on hold, or None; `owed` are notices not yet in the
    queue; `notices` counts all ever owed; `cause` is the id a notice is about;
    `lifetime` in seconds, where it is not the usual one; `via` is the next hop that an
    operator chose, written as in `[delivery.transport]`; `owner` is whose retention
    counts, for a notice.
    """

    id: str
    account: str | None
    envelope: Envelope
    standings: tuple[Standing, ...]
    queued_at: float
    size: int
    origin: Origin = Origin()
    message_id: str = ""
    held: str | None = None
    owed: tuple[Notice, ...] = ()
    notices: int = 0
    cause: str | None = None
    finished_at: float | None = None
    redacted_at: float | None = None
    lifetime: float | None = None
    via: str = ""
    owner: str = ""

    @property
    def open(self) -> Iterator[Standing]:
        """The standings that still wait."""
        still = StandingState.OPEN
        return iter([one for one in self.standings if one.state is still])

    @property
    def is_final(self) -> bool:
        """Whether no recipient waits any more."""
        still = StandingState.OPEN
        for standing in self.standings:  # noqa: SIM110 - asked ten times a message
            if standing.state is still:
                return False
        return True

    @property
    def due(self) -> float | None:
        """The wall time at which to look at it again: the least of its standings."""
        still = StandingState.OPEN
        times = [one.next_attempt_at for one in self.standings if one.state is still]
        return min(times) if times else None

    @property
    def clock_start(self) -> float:
        """When lifetime and delay begin: arrival, or the release time of RFC 4865."""
        return max(self.queued_at, self.envelope.hold_until or 0)

    def settled(
        self, standings: tuple[Standing, ...], finished_at: float | None
    ) -> "QueueEntry":
        """This entry with other standings; what `replace` does, for the hot path."""
        return QueueEntry(
            self.id,
            self.account,
            self.envelope,
            standings,
            self.queued_at,
            self.size,
            self.origin,
            self.message_id,
            self.held,
            self.owed,
            self.notices,
            self.cause,
            finished_at,
            self.redacted_at,
        )

    @property
    def status(self) -> Status:
        """The state of the whole, from the states of its recipients."""
        if not self.is_final:
            tried = any(standing.attempts for standing in self.standings)
            return Status.DEFERRED if tried else Status.QUEUED
        if len(self.standings) == 1 and self.standings[0].state in _DONE:
            return Status.SENT
        states = {standing.state for standing in self.standings}
        if states <= _DONE:
            return Status.SENT
        if states & _DONE:
            return Status.PARTIALLY_SENT
        if states == {StandingState.CANCELLED}:
            return Status.REJECTED
        return Status.BOUNCED


@noun
class Step:
    """One line of a timeline: what happened to an entry, when, and by whom.

    `what` is one word: accepted, attempt, dot-sent, in-doubt, held, released, retried,
    put-off, routed, cancelled, paid, redacted; `note` says the rest in plain words.
    """

    at: float
    what: str
    note: str = ""
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries a list wants; None and empty take all. Domains in lower case.

    `host` is the name of the host that was tried last.

    For long lists, page by page: those with an id beyond `after`, at most the first
    `limit` of them by id.
    """

    ids: tuple[str, ...] = ()
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    account: str | None = None
    message_id: str | None = None
    states: tuple[Status, ...] = ()
    category: Category | None = None
    host: str | None = None
    queued_before: float | None = None
    queued_after: float | None = None
    held: bool = False
    finished: bool = False
    after: str = ""
    limit: int | None = None

    def takes(self, entry: QueueEntry) -> bool:
        """Whether the entry is wanted; finished ones only when asked for."""
        return (
            entry.id > self.after
            and (self.finished or not entry.is_final or bool(self.states or self.ids))
            and (not self.ids or entry.id in self.ids)
            and (self.sender is None or self.sender == _text(entry))
            and (self.account is None or self.account == entry.account)
            and (self.message_id is None or self.message_id == entry.message_id)
            and (not self.states or entry.status in self.states)
            and (self.queued_before is None or entry.queued_at < self.queued_before)
            and (self.queued_after is None or entry.queued_at >= self.queued_after)
            and (not self.held or entry.held is not None)
            and any(self.concerns(one) for one in entry.standings)
        )

    def concerns(self, standing: Standing) -> bool:
        """Whether one recipient is of those that are asked for."""
        mailbox = standing.recipient.mailbox
        diagnosis = standing.last.diagnosis if standing.last else None
        return (
            (self.recipient is None or str(mailbox).lower() == self.recipient.lower())
            and (self.domain is None or mailbox.key[1] == self.domain)
            and (self.host is None or _host_name(standing) == self.host)
            and (
                self.category is None
                or (diagnosis is not None and diagnosis.category is self.category)
            )
        )


def _host_name(standing: Standing) -> str:
    host = (standing.last.host or "") if standing.last else ""
    return host.partition("[")[0].lower()


def _text(entry: QueueEntry) -> str:
    path = entry.envelope.reverse_path
    return str(path) if path else ""
