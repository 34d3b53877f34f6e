"""`fwdmta queue ...` and `fwdmta timeline`: what waits, and why."""

import sys
from base64 import b64decode
from collections.abc import Iterable, Iterator
from itertools import islice

from fwd_mta.admin import show
from fwd_mta.admin.command import (
    DONE,
    NO,
    Options,
    Surroundings,
    UsageError,
    answer,
    complain,
    items,
    print_json,
    print_lines,
    queue_of,
)
from fwd_mta.admin.control import BATCH, CommandError, Json, pages
from fwd_mta.admin.link import Call
from fwd_mta.mail.address import Mailbox
from fwd_mta.rules.identity import is_entry_id

HELD = "held"
_FOLLOW_EVERY = 1.0
_PAST = {
    "hold": "put on hold",
    "release": "released",
    "retry": "due now",
    "cancel": "cancelled",
}


def list_all(options: Options, world: Surroundings) -> int:
    """`queue list`: what waits, oldest first; finished mail by --all or --state."""
    now = world.wall.now()
    request = {"verb": "list"} | _wanted(options)
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
    request = {"verb": "count", "finished": True} | _wanted(options)
    with queue_of(options, world) as call:
        numbers = answer(call, request)["counts"]
    if options.json:
        print_json([numbers])
    else:
        print_lines(show.counts(numbers))
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


# Changes


def change(options: Options, world: Surroundings) -> int:
    """`queue hold|release|retry|cancel`, by id, by filter or for all."""
    wanted = _wanted(options)
    _check_targets(options, wanted)
    request = {
        "verb": "change",
        "change": options.change,
        "reason": options.reason,
        "all": options.all,
    }
    with queue_of(options, world) as call:
        ids = iter(options.ids) if options.ids else _matching(call, options, wanted)
        done = sum(
            _changed(call, request | {"ids": batch}, options) for batch in _batches(ids)
        )
    if not options.json:
        ending = "" if done == 1 else "s"
        print(f"{done} message{ending} {_PAST[options.change]}")
    return DONE if done else NO


def _check_targets(options: Options, wanted: Json) -> None:
    chosen = [bool(options.ids), bool(wanted), options.all]
    if sum(chosen) == 0:
        raise UsageError(f"queue {options.change}: say which: ids, a filter, or --all")
    if options.ids and sum(chosen) > 1:
        raise UsageError(f"queue {options.change}: either ids, or a filter, not both")


def _matching(call: Call, options: Options, wanted: Json) -> Iterator[str]:
    """The ids a change is for: only those on hold can be released, none other tried."""
    for row in items(call, {"verb": "list"} | wanted):
        if options.change == "cancel" or (row[HELD] is not None) is (
            options.change == "release"
        ):
            yield row["id"]


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while batch := list(islice(rest, BATCH)):
        yield batch


def _changed(call: Call, request: Json, options: Options) -> int:
    """Change a batch; say of each what could not be done, or is yet to come."""
    results = answer(call, request)["items"]
    if options.json:
        print_json(results)
    for result in results:
        if not result["done"]:
            complain(NO, result["why"])
        elif result["waits"]:
            complain(DONE, f"{result['id']}: an attempt runs; it takes effect after it")
    return sum(result["done"] for result in results)


# Filters


def _wanted(options: Options) -> Json:
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
        "category": options.category,
    }
    return {
        name: value for name, value in wanted.items() if value not in (None, [], False)
    }


def _address(text: str) -> str:
    """An address without its brackets; `<>` is the null path."""
    return text.removeprefix("<").removesuffix(">")
