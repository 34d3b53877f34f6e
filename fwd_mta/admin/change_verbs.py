"""`fwdmta queue hold|release|retry|route|cancel`: by id, by filter, or for all."""

import os
import pwd
from collections.abc import Iterable, Iterator
from itertools import islice

from fwd_mta.admin.asking import Json
from fwd_mta.admin.command import (
    DONE,
    NO,
    Options,
    Progress,
    Surroundings,
    UsageError,
    answer,
    complain,
    items,
    print_json,
    queue_of,
)
from fwd_mta.admin.control import BATCH
from fwd_mta.admin.link import Call
from fwd_mta.admin.queue_verbs import HELD, counted, wanted_of

_PAST = {
    "hold": "put on hold",
    "release": "released",
    "retry": "due now",
    "cancel": "cancelled",
    "route": "sent another way",
}


def change(options: Options, world: Surroundings) -> int:
    """Change messages, and say how many; counts first when a filter chooses them."""
    wanted = wanted_of(options)
    _check_targets(options, wanted)
    with queue_of(options, world) as call:
        # Whether it can be done at all, before anything is counted.
        answer(call, _request(options) | {"ids": []})
        matching = None if options.ids else _count(call, options, wanted)
        if options.dry_run:
            return _told(matching or len(options.ids), options, "would be ")
        if matching is not None and matching > 1 and not options.json:
            print(f"{matching} messages match")
        ids = iter(options.ids) if options.ids else _matching(call, options, wanted)
        done = _change_all(call, ids, options, matching)
    return _told(done, options)


def _told(number: int, options: Options, mood: str = "") -> int:
    if options.json:
        if mood:
            print_json([{"messages": number}])
    else:
        ending = "" if number == 1 else "s"
        print(f"{number} message{ending} {mood}{_PAST[options.change]}")
    return DONE if number else NO


def _change_all(
    call: Call, ids: Iterable[str], options: Options, matching: int | None
) -> int:
    """Change batch after batch; an interruption says how far it came."""
    done, request = 0, _request(options)
    with Progress("changed", matching) as progress:
        try:
            for batch in _batches(ids):
                done += _changed(call, request | {"ids": batch}, options)
                progress.tell(done)
        except KeyboardInterrupt:
            complain(NO, f"interrupted; {done} messages {_PAST[options.change]}")
            raise
    return done


def _request(options: Options) -> Json:
    return {
        "verb": "change",
        "change": options.change,
        "reason": options.reason,
        "by": operator(),
        "to": _next_hop(options),
        "all": options.all,
    }


def _next_hop(options: Options) -> str:
    """The next hop of a route; "usual" is the way that the settings say."""
    to = getattr(options, "via", "")
    return "" if to == "usual" else to


def operator() -> str:
    """Who asks, for the timeline: also behind sudo."""
    name = os.environ.get("SUDO_USER")
    if name:
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def _check_targets(options: Options, wanted: Json) -> None:
    chosen = [bool(options.ids), bool(wanted), options.all]
    if sum(chosen) == 0:
        raise UsageError(f"queue {options.change}: say which: ids, a filter, or --all")
    if options.ids and sum(chosen) > 1:
        raise UsageError(f"queue {options.change}: either ids, or a filter, not both")


def _count(call: Call, options: Options, wanted: Json) -> int:
    """How many a change is for: only those on hold can be released."""
    numbers = counted(call, wanted)
    held = numbers.pop(HELD)
    everything = sum(numbers.values())
    if options.change == "release":
        return held
    return everything if options.change in {"cancel", "route"} else everything - held


def _matching(call: Call, options: Options, wanted: Json) -> Iterator[str]:
    """The ids a change is for, each as it is now."""
    for row in items(call, {"verb": "list"} | wanted):
        if options.change in {"cancel", "route"} or (row[HELD] is not None) is (
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
