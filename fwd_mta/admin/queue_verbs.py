"""`fwdmta queue ...` and `fwdmta timeline`: what waits, and why."""

import sys
from base64 import b64decode
from collections import Counter

from fwd_mta.admin import show
from fwd_mta.admin.asking import CommandError, Json, pages
from fwd_mta.admin.command import (
    DONE,
    Options,
    Progress,
    Surroundings,
    answer,
    complain,
    items,
    print_json,
    print_lines,
    queue_of,
)
from fwd_mta.admin.link import Call
from fwd_mta.mail.address import Mailbox
from fwd_mta.queue.index_file import MINUTES
from fwd_mta.rules.identity import is_entry_id

HELD = "held"
_FOLLOW_EVERY = 1.0


def list_all(options: Options, world: Surroundings) -> int:
    """`queue list`: what waits, oldest first; finished mail by --all or --state."""
    now = world.wall.now()
    request = {"verb": "list"} | wanted_of(options)
    with queue_of(options, world) as call:
        rows = items(call, request | {"finished": options.all})
        if options.json:
            print_json(rows)
            return DONE
        number = 0
        for number, row in enumerate(rows, start=1):
            if number == 1:
                print(show.QUEUE_HEADS)
            print_lines(show.queue_row(row, now))
    print(f"{number} message{'' if number == 1 else 's'}")
    return DONE


def count(options: Options, world: Surroundings) -> int:
    """`queue count`: how many of each state."""
    with queue_of(options, world) as call:
        numbers = counted(call, {"finished": True} | wanted_of(options))
    if options.json:
        print_json([numbers])
    else:
        print_lines(show.counts(numbers))
    return DONE


def counted(call: Call, wanted: Json) -> dict[str, int]:
    """Count what a filter takes, part by part."""
    numbers: Counter[str] = Counter()
    with Progress("counted") as progress:
        parts = pages(lambda one: answer(call, one), {"verb": "count"} | wanted)
        for part in parts:
            numbers.update(part["counts"])
            progress.tell(sum(numbers.values()) - numbers[HELD])
    return dict(numbers)


def shape(options: Options, world: Surroundings) -> int:
    """`queue shape`: how many recipients wait, by site and age, as qshape shows it."""
    rows: Json = {}
    with queue_of(options, world) as call, Progress("counted") as progress:
        request = {"verb": "shape", "by": options.by}
        for part in pages(lambda one: answer(call, one), request):
            for name, row in part["rows"].items():
                known = rows.get(name, [0] * len(row))
                rows[name] = [a + b for a, b in zip(known, row, strict=True)]
            progress.tell(sum(map(sum, rows.values())))
    if options.json:
        print_json({"name": name, "ages": row} for name, row in rows.items())
    elif rows:
        print_lines(show.shape(rows, MINUTES))
    else:
        print("nothing waits")
    return DONE


def show_one(options: Options, world: Surroundings) -> int:
    """`queue show ID`: all that is known of one message."""
    with queue_of(options, world) as call:
        entry = answer(call, {"verb": "show", "id": options.id})["entry"]
    if options.json:
        print_json([entry])
    else:
        print_lines(show.whole(entry, world.wall.now()))
    return DONE


def cat(options: Options, world: Surroundings) -> int:
    """`queue cat ID`: the content, octet by octet."""
    with queue_of(options, world) as call:
        asked = pages(lambda request: answer(call, request), _cat(options.id))
        for number, page in enumerate(asked):
            if number == 0 and page["redacted"]:
                complain(DONE, f"{options.id} is redacted; this is its placeholder")
            sys.stdout.buffer.write(b64decode(page["content"]))
    sys.stdout.buffer.flush()
    return DONE


def _cat(entry_id: str) -> Json:
    return {"verb": "cat", "id": entry_id}


def timeline(options: Options, world: Surroundings) -> int:
    """`timeline ID|MESSAGE-ID`: all that happened to a message, and what comes next."""
    with queue_of(options, world) as call:
        for entry_id in _ids_of(call, options.id):
            if options.follow:
                _follow(call, entry_id, options, world)
            else:
                _print_timeline(call, entry_id, options, world.wall.now())
    return DONE


def _ids_of(call: Call, name: str) -> list[str]:
    if is_entry_id(name):
        return [name]
    ids: list[str] = answer(call, {"verb": "find", "message_id": name})["ids"]
    if not ids:
        raise CommandError(f"no message {name} is known; see `fwdmta queue list --all`")
    return ids


def _print_timeline(call: Call, entry_id: str, options: Options, now: float) -> None:
    steps = items(call, {"verb": "timeline", "id": entry_id})
    if options.json:
        print_json({"id": entry_id} | step for step in steps)
        return
    for number, step in enumerate(steps):
        if number == 0:
            print(f"message {entry_id}")
        print_lines(show.timeline_step(step))
    entry = answer(call, {"verb": "show", "id": entry_id})["entry"]
    print_lines(show.outlook(entry, now))


def _follow(call: Call, entry_id: str, options: Options, world: Surroundings) -> None:
    """Print steps as they come, until the message is over or somebody interrupts."""
    after = 0
    while True:
        page = answer(call, {"verb": "timeline", "id": entry_id, "after": after})
        for step in page["items"]:
            if options.json:
                print_json([{"id": entry_id} | step])
            else:
                print_lines(show.timeline_step(step))
        sys.stdout.flush()
        after += len(page["items"])
        entry = answer(call, {"verb": "show", "id": entry_id})["entry"]
        if entry["finished_at"] is not None and page["next"] is None:
            return
        world.pause(_FOLLOW_EVERY)


def why(options: Options, world: Surroundings) -> int:
    """`why NAME`: why a message, or all mail to an address or site, waits."""
    with queue_of(options, world) as call:
        told = answer(call, {"verb": "why", "name": options.name})
    if options.json:
        print_json([told])
        return DONE
    now = world.wall.now()
    if "entry" in told:
        print_lines(show.why_message(told, now))
    else:
        print_lines(show.why_waiting(told, now))
    return DONE


# Filters


def wanted_of(options: Options) -> Json:
    """The filter of the command line, as a request has it."""
    states = [state for state in options.state if state != HELD]
    wanted: Json = {
        "from": None if options.sender is None else _address(options.sender),
        "to": options.to,
        "domain": options.domain and Mailbox("", options.domain).key[1],
        "account": options.account,
        "states": states,
        HELD: HELD in options.state,
        "older_than": options.older_than,
        "newer_than": options.newer_than,
        "message_id": options.message_id,
        "category": options.category,
    }
    return {
        name: value for name, value in wanted.items() if value not in (None, [], False)
    }


def _address(text: str) -> str:
    """An address without its brackets; `<>` is the null path."""
    return text.removeprefix("<").removesuffix(">")
