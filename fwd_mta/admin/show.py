"""What the command prints for people: tables, one message whole, its timeline.

Takes the JSON objects of `control` and gives lines. Times are UTC. What a peer or a
client said is shown without control characters: it is not ours (guarantee 19).
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

_REASON_INDENT = " " * 4
_FIELD = 14
_TEXT_LIMIT = 1000


def clean(text: object) -> str:
    """Make text safe for a terminal: one line, bounded, no control characters."""
    line = " ".join(str(text)[:_TEXT_LIMIT].split())
    return "".join(one if one.isprintable() else "?" for one in line)


def moment(at: float | None) -> str:
    """A time as in "2026-11-24 15:35:11"; UTC."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(seconds: float) -> str:
    """A length of time in its largest units, as in "4 h 12 min"."""
    rest = round(abs(seconds))
    parts = []
    for size, name in _UNITS:
        amount, rest = divmod(rest, size)
        if amount:
            parts.append(f"{amount} {name}")
    return " ".join(parts[:2]) or "0 s"


def when(at: float | None, now: float) -> str:
    """When something is due, as in "in 12 min", or "now"."""
    if at is None:
        return "-"
    return "now" if at <= now else f"in {span(at - now)}"


def octets(size: int) -> str:
    """A size for people, as in "12 kB"."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Give aligned columns, the last one as long as it likes."""
    filled = [list(heads), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for row in filled:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


QUEUE_HEADS = "ID                  AGE          SIZE     STATE           NEXT TRY"


def queue_row(row: Json, now: float) -> Iterator[str]:
    """One entry of a list: a line, who to whom, and why it is still here."""
    state = "held" if row["held"] is not None else str(row["state"])
    cells = (
        f"{row['id']:<18}",
        f"{span(now - row['queued_at']):<11}",
        f"{octets(row['size']):<7}",
        f"{state:<14}",
        when(row["next_at"], now),
    )
    yield "  ".join(cells)
    yield f"{_REASON_INDENT}{clean(row['sender'])} -> {_recipients(row)}"
    reason = _reason(row)
    if reason:
        yield _REASON_INDENT + reason


def _recipients(row: Json) -> str:
    shown = ", ".join(clean(one) for one in row["recipients"])
    more = row["recipient_count"] - len(row["recipients"])
    return f"{shown} and {more} more" if more else shown


def _reason(row: Json) -> str:
    if row["held"] is not None:
        return f"on hold: {clean(row['held'])}"
    last = row["last"]
    if not last or last["delivered"]:
        return ""
    return f"{_words(last)} [{last['category']}: {clean(last['message'])}]"


def _words(result: Json) -> str:
    """Give the words of the other side, or that it said none."""
    return clean(result["reply"]) if result["reply"] else "no reply"


def counts(numbers: Json) -> Iterator[str]:
    """The number of entries in each state."""
    return table(("STATE", "MESSAGES"), [(k, str(v)) for k, v in numbers.items()])


def shape(rows: Json, minutes: Sequence[int]) -> Iterator[str]:
    """Recipients that wait, a line a site, by age in minutes; most of them first."""
    heads = ("", "T", *map(str, minutes), f"{minutes[-1]}+")
    total = [sum(column) for column in zip(*rows.values(), strict=True)]
    lines = [("TOTAL", total), *sorted(rows.items(), key=lambda one: -sum(one[1]))]
    filled = [heads]
    for name, row in lines:
        filled.append((clean(name), *map(str, (sum(row), *row))))
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for cells in filled:
        name, *numbers = cells
        aligned = (n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True))
        yield "  ".join((name.rjust(widths[0]), *aligned))


def whole(entry: Json, now: float) -> Iterator[str]:
    """One entry with all its recipients."""
    facts = (
        ("id", entry["id"]),
        ("state", entry["state"]),
        ("on hold", entry["held"]),
        ("next hop", entry["via"]),
        ("account", entry["account"]),
        ("from", entry["sender"]),
        ("message-id", entry["message_id"]),
        ("size", octets(entry["size"])),
        ("queued", f"{moment(entry['queued_at'])} UTC"),
        ("came from", _origin(entry)),
        *(("checked", check) for check in entry["checks"]),
        ("notice about", entry["cause"]),
        ("not before", _maybe_moment(entry["hold_until"])),
        ("finished", _maybe_moment(entry["finished_at"])),
        ("redacted", _maybe_moment(entry["redacted_at"])),
    )
    for name, value in facts:
        if value:
            yield f"{name:<{_FIELD}}{clean(value)}"
    for standing in entry["standings"]:
        yield from _standing(standing, entry["held"] is not None, now)


def _maybe_moment(at: float | None) -> str:
    return "" if at is None else f"{moment(at)} UTC"


def _origin(entry: Json) -> str:
    if not entry["client"]:
        return ""
    how = ", ".join(one for one in (entry["protocol"], entry["tls"]) if one)
    return f"[{entry['client']}] {entry['hello']} ({how})"


def _standing(standing: Json, held: bool, now: float) -> Iterator[str]:
    tries = f"{standing['attempts']} tries" if standing["attempts"] != 1 else "1 try"
    yield f"to {clean(standing['recipient'])}: {standing['state']}, {tries}"
    if standing["last"]:
        yield from _result(standing["last"])
    if standing["in_doubt_since"] is not None:
        since = moment(standing["in_doubt_since"])
        yield f"{_REASON_INDENT}in doubt since {since} UTC: sent, but no reply came"
    if standing["possible_duplicate"]:
        yield f"{_REASON_INDENT}tried again after that: it may have arrived twice"
    if standing["next_at"] is not None and not held:
        yield f"{_REASON_INDENT}{_next_try(standing['next_at'], now)}"


def _next_try(at: float, now: float) -> str:
    return f"{'next try':<{_FIELD}}{moment(at)} UTC ({when(at, now)})"


def _result(result: Json) -> Iterator[str]:
    """Tell one result: where, their words, what we make of it, by which rule."""
    at = f"{result['host'] or 'nowhere'}, at {result['stage']}"
    if result["tls"]:
        at += f" ({result['tls']})"
    facts = [("host", at), ("they said", _words(result))]
    if result["in_doubt"]:
        facts.append(("in doubt", "the message went out, and no reply came"))
    if not result["delivered"]:
        kind = f"{result['category']}, {result['action']} the {result['scope']}"
        facts.append(("we read", f"{result['status']} {kind}: {result['message']}"))
        facts.append(("rule", result["rule"]))
    for name, value in facts:
        yield f"{_REASON_INDENT}{name:<{_FIELD}}{clean(value)}"


def timeline_step(step: Json) -> Iterator[str]:
    """One step: a line, and for an attempt what became of each recipient."""
    note = step["note"]
    attempt = step["attempt"]
    if attempt and not note:
        note = f"took {span(attempt['ended'] - attempt['started'])}"
    yield f"{moment(step['at'])}  {step['what']:<10}  {clean(note)}".rstrip()
    if not attempt:
        return
    for line in attempt["trail"]:
        yield f"{_REASON_INDENT}{'tried':<{_FIELD}}{clean(line)}"
    for result in attempt["results"]:
        yield f"  {clean(result['recipient'])}: {_outcome(result)}"
        yield from _result(result)


_OUTCOMES = {"reject": "refused", "defer": "deferred", "slowdown": "deferred"}


def _outcome(result: Json) -> str:
    if result["delivered"]:
        return "taken by the next host"
    return _OUTCOMES.get(result["action"], str(result["action"]))


def outlook(entry: Json, now: float) -> Iterator[str]:
    """What comes after the timeline: the state, and the next try of each recipient."""
    yield f"now: {entry['state']}"
    if entry["held"] is not None:
        yield f"  on hold: {clean(entry['held'])}"
        return
    for standing in entry["standings"]:
        if standing["next_at"] is not None:
            at = f"{moment(standing['next_at'])} UTC ({when(standing['next_at'], now)})"
            yield f"  {clean(standing['recipient'])}: next try {at}"


def schedule(times: Sequence[float]) -> Iterator[str]:
    """The times of all tries of a message that is always deferred."""
    before = 0.0
    for number, at in enumerate(times, start=1):
        wait = f"after {span(at - before)}" if number > 1 else "at once"
        yield f"{number:>4}  {_clock(at)}  {wait}"
        before = at


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{day} d {hour:02}:{minute:02}:{second:02}"


def bounce_info(info: Json) -> Iterator[str]:
    """One classification, for people."""
    for name, value in info.items():
        yield f"{name:<{_FIELD}}{clean(value)}"


# Why


def why_message(told: Json, now: float) -> Iterator[str]:
    """One message explained, for one screen."""
    entry = told["entry"]
    yield f"message {entry['id']} from {clean(entry['sender'])}: {entry['state']}"
    age = span(now - entry["queued_at"])
    yield f"queued {moment(entry['queued_at'])} UTC, {age} ago"
    for reason in told["reasons"]:
        yield ""
        yield f"to {_people(reason)}: {reason['state']}"
        yield from _reason_lines(reason, now)
    if told["more"]:
        yield ""
        yield f"and {told['more']} more reasons: fwdmta queue show {entry['id']}"


def _people(reason: Json) -> str:
    shown = ", ".join(clean(one) for one in reason["recipients"])
    more = reason["count"] - len(reason["recipients"])
    return f"{shown} and {more} more" if more else shown


def _reason_lines(reason: Json, now: float) -> Iterator[str]:
    facts = (
        ("why", reason["reason"]),
        ("they said", reason["said"]),
        ("host", reason["host"]),
        ("rule", reason["rule"]),
        ("setting", reason["setting"]),
        ("waits for", reason["waits_for"]),
        ("next", _moment_and_wait(reason["next_at"], now)),
        ("given up", _moment_and_wait(reason["until"], now)),
        ("to change it", reason["command"]),
        ("advice", reason["advice"]),
    )
    for name, value in facts:
        if value:
            yield f"{_REASON_INDENT}{name:<{_FIELD}}{clean(value)}"


def _moment_and_wait(at: float | None, now: float) -> str:
    return "" if at is None else f"{moment(at)} UTC ({when(at, now)})"


def why_waiting(told: Json, now: float) -> Iterator[str]:
    """What waits for an address or site, and what would happen now."""
    number = told["messages"] if told["all"] else f"more than {told['messages']}"
    ending = " waits" if told["messages"] == 1 else "s wait"
    yield f"{clean(told['name'])}: {number} message{ending}"
    for reason in told["reasons"]:
        yield ""
        what = f"{reason['category']}, " if reason["category"] else ""
        yield f"{reason['count']} x {reason['state']}: {what}{clean(reason['reason'])}"
        facts = (
            ("they said", reason["said"]),
            ("rule", reason["rule"]),
            ("next", _moment_and_wait(reason["next_at"], now)),
            ("the oldest", f"fwdmta why {reason['example']}"),
        )
        for name, value in facts:
            if value:
                yield f"{_REASON_INDENT}{name:<{_FIELD}}{clean(value)}"
    yield ""
    for one in told["doors"]:
        yield f"at our own door: {clean(one)}"
    if told["outlook"]:
        yield from _outlook(told["outlook"])
        if told["site"]:
            until = _moment_and_wait(told["site_until"], now)
            words = f"{told['site']}, until about {until}"
            yield f"{_REASON_INDENT}{'waits for':<{_FIELD}}{clean(words)}"
    else:
        yield "no server runs, so nothing goes anywhere now"


def _outlook(found: Json) -> Iterator[str]:
    """Tell where a message would go."""
    yield "a message that came now would go"
    yield f"{_REASON_INDENT}{clean(found['via'])}"
    yield f"{_REASON_INDENT}{'decided by':<{_FIELD}}{clean(found['decided_by'])}"
    if found["tls"]:
        yield f"{_REASON_INDENT}{'TLS':<{_FIELD}}{clean(found['tls'])}"
    for stop in found["stops"]:
        rank = "" if stop["preference"] is None else f"{stop['preference']:>5} "
        where = ", ".join(stop["addresses"]) or stop["trouble"]
        raised = f" (TLS demanded by {stop['tls']})" if stop["tls"] else ""
        yield f"{_REASON_INDENT}{rank}{clean(stop['name'])}: {clean(where + raised)}"
    if found["trouble"]:
        yield f"{_REASON_INDENT}{'but':<{_FIELD}}{clean(found['trouble'])}"


# Retention


def retention(told: Json, now: float) -> Iterator[str]:
    """The terms, and what is kept by them."""
    terms = told["terms"]
    yield f"content is kept for {span(terms['content'])}, records for " + span(
        terms["record"]
    )
    for name, term in told["others"].items():
        yield f"of {name}: {span(term['content'])}, records {span(term['record'])}"
    yield (
        f"finished: {told['messages']}, of them redacted: {told['redacted']};"
        f" {octets(told['octets'])} of content"
    )
    for what, at in told["next"].items():
        yield f"next to {what}: {moment(at)} UTC ({when(at, now)})"
    for one in told["kept"]:
        yield f"kept: {one['id']} ({clean(one['reason'])})"
