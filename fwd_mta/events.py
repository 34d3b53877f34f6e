"""The events we log and count, and the only fields that may be logged (P8).

Each event is a frozen dataclass; its fields are all that a log line can hold. No
content, no secret, no subject has a field here. Five events a message at most.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fwd_mta.mail.noun import noun


@noun
class Accepted:
    """A message is durable and was answered 250."""

    id: str
    account: str
    client: str
    sender: str
    recipients: int
    size: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """A client sent a message again and was answered with the id of the first."""

    id: str
    account: str
    client: str


@noun
class Refused:
    """A client was told no; `reply` is our own text, `where` the verb."""

    client: str
    account: str
    where: str
    reply: str


@noun
class Attempted:
    """One recipient's result of one attempt; `next_at` 0 when there is none."""

    id: str
    recipient: str
    host: str
    tls: str
    state: str
    reply: str
    category: str
    rule: str
    next_at: float
    in_doubt: bool
    possible_duplicate: bool = False
    account: str = ""


@dataclass(frozen=True, slots=True)
class Notified:
    """A notice about a message is durably in the queue."""

    id: str
    notice: str
    kind: str


@noun
class Finished:
    """A message has no recipient left that waits."""

    id: str
    status: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """A sweep did something; `digest` is the SHA-256 of what, a line a message."""

    redacted: int
    purged: int
    digest: str


@dataclass(frozen=True, slots=True)
class SiteRests:
    """A site is left alone for so many seconds; `source`: by that address only.

    An empty `source` and a block list in `reply` mean all that we send from.
    """

    site: str
    source: str
    reply: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SiteWorks:
    """A site that rested takes mail again."""

    site: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """An account is held: too much of its mail was refused as spam or malware."""

    account: str
    reason: str
    cure: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A domain was told about TLS with it: a report went, or was queued, to a place."""

    domain: str
    place: str
    report: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something of ours is not as it should be; `what` says it, `cure` what to do."""

    where: str
    what: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The server starts, reloads, drains or stops."""

    what: str


Event = (
    Accepted
    | Repeated
    | Refused
    | Attempted
    | Notified
    | Finished
    | Receipt
    | SiteRests
    | SiteWorks
    | Suspended
    | Reported
    | Trouble
    | Lifecycle
)
Emit = Callable[[Event], None]
