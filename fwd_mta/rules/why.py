"""Why a message is where it is, in plain words, with what decided and what comes next.

Doorway: `explain(entry, around)`: one explanation for all recipients that stand alike.
Pure; the same for the screen of an operator and for a program.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from fwd_mta.mail.entry import (
    Category,
    Diagnosis,
    QueueEntry,
    Scope,
    Standing,
    StandingState,
)
from fwd_mta.rules.retention import RetentionPolicy, next_step
from fwd_mta.rules.retry import JITTER, RetrySchedule

_DAY = 86_400.0
_FULL_WAIT = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why some recipients of a message stand as they do; empty text: not so here.

    `rule` is the row of the classification that decided, `setting` the line of the
    configuration; `waits_for` says what must happen, `next_at` when it is tried,
    `until` when it is given up; `command` is what would change it.
    """

    recipients: tuple[str, ...]
    state: str
    reason: str
    rule: str = ""
    setting: str = ""
    said: str = ""
    host: str = ""
    waits_for: str = ""
    next_at: float | None = None
    until: float | None = None
    command: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What an explanation needs besides the entry.

    `doing` is what runs, or what it waits for besides its time; `not_before` is when
    that is over, about.
    """

    now: float
    schedule: RetrySchedule
    retention: RetentionPolicy
    doing: str = ""
    not_before: float = 0.0


def explain(entry: QueueEntry, around: Circumstances) -> tuple[Explanation, ...]:
    """Explain an entry: what waits first, then what is over."""
    groups: dict[tuple[object, ...], list[Standing]] = {}
    for standing in sorted(entry.standings, key=lambda one: not one.is_open):
        groups.setdefault(_likeness(standing), []).append(standing)
    return tuple(_explained(entry, some, around) for some in groups.values())


def _likeness(standing: Standing) -> tuple[object, ...]:
    last = standing.last
    return (
        standing.state,
        standing.next_attempt_at if standing.is_open else None,
        standing.in_doubt_since,
        last and last.diagnosis and last.diagnosis.rule,
        last and last.host,
        last and str(last.reply),
    )


def _explained(
    entry: QueueEntry, alike: list[Standing], around: Circumstances
) -> Explanation:
    first = alike[0]
    names = tuple(str(one.recipient.mailbox) for one in alike)
    last = first.last
    diagnosis = last.diagnosis if last else None
    facts = {
        "said": str(last.reply) if last and last.reply else "",
        "host": (last.host or "") if last else "",
        "rule": diagnosis.rule if diagnosis else "",
    }
    told = _waiting(entry, first, around) if first.is_open else _over(entry, first)
    if not first.is_open:
        told |= _after_the_end(entry, around)
    return Explanation(names, **(facts | told))  # type: ignore[arg-type]


# What waits

_Told = dict[str, object]


def _waiting(entry: QueueEntry, standing: Standing, around: Circumstances) -> _Told:
    until = around.schedule.expires_at(entry)
    if entry.held is not None:
        return {
            "state": "held",
            "reason": f"It is on hold: {entry.held}.",
            "waits_for": "an operator; nothing is tried until it is released",
            "command": f"fwdmta queue release {entry.id}",
        }
    told = _tried(entry, standing, around) or _untried(entry, standing, around)
    at = max(standing.next_attempt_at, around.now)
    if around.doing and standing.next_attempt_at <= max(around.now, around.not_before):
        told |= {"waits_for": around.doing}
        # The last try is made even where the site rests.
        at = max(at, min(around.not_before, until))
    if entry.via:
        told |= {"setting": f"an operator chose the next hop {entry.via}"}
    return {"next_at": at, "until": until} | told


def _untried(entry: QueueEntry, standing: Standing, around: Circumstances) -> _Told:
    """It was never tried: too new, or the client asked for later (RFC 4865)."""
    release = entry.envelope.hold_until or 0.0
    if release > around.now and standing.next_attempt_at >= release:
        return {
            "state": "queued",
            "reason": "The client asked for a later release (FUTURERELEASE).",
            "waits_for": "the release time",
            "command": f"fwdmta queue retry {entry.id}",
        }
    return {
        "state": "queued",
        "reason": "It was not tried yet.",
        "waits_for": "its turn",
        "command": "",
    }


def _tried(entry: QueueEntry, standing: Standing, around: Circumstances) -> _Told:
    last = standing.last
    if standing.in_doubt_since is not None:
        return {
            "state": "in doubt",
            "reason": (
                "All of it was sent, and then no answer came: it may have arrived."
                " It is tried again late, and may then arrive twice."
            ),
            "setting": "a fixed wait of 10 min before a try that may repeat one",
            "waits_for": "the time of its next try",
            "command": f"fwdmta queue retry {entry.id}",
        }
    if last is None or last.diagnosis is None:
        return {}
    found = last.diagnosis
    return {
        "state": "deferred",
        "reason": found.message,
        "setting": _wait_setting(entry, standing, found, around),
        "waits_for": "the time of its next try",
        "command": f"fwdmta queue retry {entry.id}",
        "advice": _ADVICE.get(found.category, ""),
    }


def _wait_setting(
    entry: QueueEntry, standing: Standing, found: Diagnosis, around: Circumstances
) -> str:
    """Which setting, or fixed rule, made the wait as long as it is."""
    schedule = around.schedule
    if standing.next_attempt_at >= schedule.expires_at(entry):
        return f"{_lifetime(entry)}: this is the last try"
    if found.category is Category.BLOCKLIST and found.scope is Scope.DESTINATION:
        return "a fixed wait of 1 h at least, while they refuse our address"
    if found.category is Category.CAPACITY and standing.next_attempt_at >= (
        entry.clock_start + _DAY + _FULL_WAIT
    ):
        return "a fixed wait of 4 h for a full mailbox, after its first day"
    wait = schedule.backoff(standing.attempts)
    which = "maximal" if wait >= schedule.maximal_backoff_time else "minimal"
    doubled = "" if which == "maximal" else ", doubled by each try"
    return (
        f"queue.{which}_backoff_time{doubled}: {wait:.0f} s after try"
        f" {standing.attempts}, up to {JITTER:.0%} less by chance"
    )


def _lifetime(entry: QueueEntry) -> str:
    notice = entry.envelope.reverse_path is None
    return f"queue.{'bounce' if notice else 'maximal'}_queue_lifetime"


_ADVICE: Mapping[Category, str] = {
    Category.BLOCKLIST: "ask for removal at the list they name; other sites go on",
    Category.SPAM: "look at the message: fwdmta queue cat; others may refuse it too",
    Category.CAPACITY: "nothing to do here: the recipient must make room",
    Category.RATE: "nothing to do: they want us slower, and we are",
    Category.GREYLIST: "nothing to do: a later try from this address is let in",
    Category.NETWORK: "try from this host: nc -v HOST 25; is port 25 open outwards?",
    Category.DNS: "ask the resolver of this host: dig MX DOMAIN",
    Category.TLS: "their certificate, or delivery.tls_security_level, must change",
    Category.AUTH: "look at delivery.relayhost_login and its password file",
    Category.CONFIG: "look at the log: journalctl -u fwdmta -g ID",
}


# What is over


def _over(entry: QueueEntry, standing: Standing) -> _Told:
    found = standing.last.diagnosis if standing.last else None
    tell: Callable[[QueueEntry, Diagnosis | None], _Told] = _ENDS[standing.state]
    return tell(entry, found)


def _delivered(_entry: QueueEntry, _found: Diagnosis | None) -> _Told:
    return {"state": "delivered", "reason": "The next server took it, for good."}


def _relayed(_entry: QueueEntry, _found: Diagnosis | None) -> _Told:
    return {
        "state": "relayed",
        "reason": "The next server took it; it sends no notices of its own.",
    }


def _failed(entry: QueueEntry, found: Diagnosis | None) -> _Told:
    words = found.message if found else "It was refused."
    return {"state": "failed", "reason": f"{words} {_notice(entry)}"}


def _expired(entry: QueueEntry, found: Diagnosis | None) -> _Told:
    words = f" The last trouble: {found.message}" if found else ""
    return {
        "state": "expired",
        "reason": f"Its time was over.{words} {_notice(entry)}",
        "setting": _lifetime(entry),
    }


def _cancelled(_entry: QueueEntry, _found: Diagnosis | None) -> _Told:
    return {
        "state": "cancelled",
        "reason": "An operator cancelled it; nobody was told.",
    }


_ENDS: Mapping[StandingState, Callable[[QueueEntry, Diagnosis | None], _Told]] = {
    StandingState.DELIVERED: _delivered,
    StandingState.RELAYED: _relayed,
    StandingState.FAILED: _failed,
    StandingState.EXPIRED: _expired,
    StandingState.CANCELLED: _cancelled,
}


def _notice(entry: QueueEntry) -> str:
    if entry.owed:
        return "The notice to the sender is being written."
    if entry.notices:
        return "The sender was told: fwdmta timeline has the notices."
    if entry.envelope.reverse_path is None:
        return "It is a notice itself, so nobody is told."
    return "The sender asked not to be told."


def _after_the_end(entry: QueueEntry, around: Circumstances) -> _Told:
    """What the retention does next."""
    if entry.held is not None:
        return {
            "waits_for": f"an operator, who keeps it as evidence: {entry.held}",
            "command": f"fwdmta retention release {entry.id}",
        }
    step = next_step(entry, around.retention)
    if step is None:
        return {}
    what = "its content goes" if step[0] == "redact" else "its record goes"
    name = "content" if step[0] == "redact" else "record"
    return {"waits_for": f"retention.{name}: then {what}", "next_at": step[1]}


# Many messages


@dataclass(frozen=True, slots=True)
class Cluster:
    """Recipients that wait for the same reason; `example` is the oldest message."""

    state: str
    category: str
    rule: str
    reason: str
    said: str
    count: int
    next_at: float | None
    example: str


def clusters(
    entries: Iterator[QueueEntry],
    about: Callable[[Standing], bool],
    around: Circumstances,
) -> list[Cluster]:
    """Sum up why the recipients in question wait, the most frequent reason first."""
    found: dict[tuple[str, str], Cluster] = {}
    for entry in entries:
        for standing in filter(about, entry.open):
            one = _cluster(entry, standing, around)
            key = one.state, one.rule
            found[key] = _joined(found[key], one) if key in found else one
    return sorted(found.values(), key=lambda one: -one.count)


def _cluster(entry: QueueEntry, standing: Standing, around: Circumstances) -> Cluster:
    told = _explained(entry, [standing], around)
    found = standing.last.diagnosis if standing.last else None
    category = found.category.value if found else ""
    return Cluster(
        told.state, category, told.rule, told.reason, told.said, 1, told.next_at,
        entry.id,
    )  # fmt: skip


def _joined(many: Cluster, one: Cluster) -> Cluster:
    times = [at for at in (many.next_at, one.next_at) if at is not None]
    return Cluster(
        many.state, many.category, many.rule, many.reason, many.said,
        many.count + 1, min(times, default=None), min(many.example, one.example),
    )  # fmt: skip
