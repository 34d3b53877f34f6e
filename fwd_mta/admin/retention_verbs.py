"""`fwdmta retention ...`, `fsck` and `export`: what is kept, and that no more is."""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import PurePath

from fwd_mta.admin import show
from fwd_mta.admin.asking import Json, pages
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
from fwd_mta.admin.control import BATCH
from fwd_mta.admin.link import Call
from fwd_mta.interfaces import Disk, FindingKind
from fwd_mta.net.disk import SystemDisk

_DUE = frozenset(
    {FindingKind.CONTENT, FindingKind.RECORD, FindingKind.UNKNOWN, FindingKind.LEFTOVER}
)


def status(options: Options, world: Surroundings) -> int:
    """`retention status`: the terms, and what is kept by them."""
    with queue_of(options, world) as call:
        told = _status(pages(lambda asked: answer(call, asked), {"verb": "retained"}))
    if options.json:
        print_json([told])
    else:
        print_lines(show.retention(told, world.wall.now()))
    return DONE


def _status(asked: Iterator[Json]) -> Json:
    told: Json = {"messages": 0, "octets": 0, "redacted": 0, "kept": [], "next": {}}
    for page in asked:
        told["terms"], told["others"] = page["terms"], page["others"]
        for one in page["items"]:
            told["messages"] += 1
            if one["redacted_at"] is None:
                told["octets"] += one["size"]
            else:
                told["redacted"] += 1
            if one["kept"] is not None:
                told["kept"].append({"id": one["id"], "reason": one["kept"]})
            elif one["next"]:
                at = told["next"].get(one["next"], one["next_at"])
                told["next"][one["next"]] = min(at, one["next_at"])
    return told


def verify(options: Options, world: Surroundings) -> int:
    """`retention verify`: read every byte; nothing that is due holds content (P8)."""
    return _inspect(options, world, lambda finding: finding["kind"] in _DUE)


def fsck(options: Options, world: Surroundings) -> int:
    """`fsck`: read every byte, and say all that is not as it should be."""
    if options.reindex:
        return _reindex(options, world)
    return _inspect(options, world, lambda finding: True, repair=options.repair)


def _reindex(options: Options, world: Surroundings) -> int:
    """`fsck --reindex`: make the index anew from the files."""
    with queue_of(options, world) as call:
        whole = answer(call, {"verb": "reindex"})["whole"]
    if options.json:
        print_json([{"whole": whole}])
    elif whole:
        print("the index is made anew")
    else:
        print("the index is being made anew; the log says when it is whole")
    return DONE


def _inspect(
    options: Options,
    world: Surroundings,
    concerns: Callable[[Json], bool],
    *,
    repair: bool = False,
) -> int:
    counts: Counter[str] = Counter()
    with queue_of(options, world) as call:
        for page in pages(lambda asked: answer(call, asked), {"verb": "inspect"}):
            counts["files"] += page["files"]
            counts["octets"] += page["octets"]
            for finding in filter(concerns, page["items"]):
                counts["findings"] += 1
                counts["mended"] += _tell_finding(call, finding, options, repair=repair)
    if not options.json:
        print(
            f"{counts['files']} files, {show.octets(counts['octets'])} read:"
            f" {counts['findings'] or 'no'} finding"
            f"{'' if counts['findings'] == 1 else 's'}"
            + (f", {counts['mended']} mended" if repair else "")
        )
    return DONE if counts["findings"] == counts["mended"] else NO


def _tell_finding(call: Call, finding: Json, options: Options, *, repair: bool) -> bool:
    """Print a finding, mend it if that is wanted; whether it was mended."""
    mended = ""
    if repair and finding["kind"] in {FindingKind.DAMAGE, FindingKind.PLACE}:
        request = {"verb": "mend", "path": finding["path"]}
        mended = str(answer(call, request)["done"])
    if options.json:
        print_json([finding | {"mended": mended}])
    else:
        cure = mended or finding["cure"]
        line = f"{finding['path']}: {finding['what']}"
        print(show.clean(f"{line}; {cure}" if cure else line))
    return bool(mended)


def redact(options: Options, world: Surroundings) -> int:
    """`retention redact ID...` or `--recipient A`: erase content now, on request."""
    if bool(options.ids) is bool(options.recipient):
        raise UsageError("retention redact: say ids, or --recipient ADDRESS")
    with queue_of(options, world) as call:
        ids = iter(options.ids) if options.ids else _to(call, options.recipient)
        done = sum(
            _report(answer(call, {"verb": "redact", "ids": batch})["items"], options)
            for batch in _batches(ids)
        )
    if not options.json:
        print(f"{done} message{'' if done == 1 else 's'} redacted")
    return DONE if done else NO


def _to(call: Call, address: str) -> Iterator[str]:
    """Finished messages to an address; those that wait are named, not touched."""
    request = {"verb": "list", "to": address, "finished": True}
    for row in items(call, request):
        if row["state"] in {"queued", "deferred"}:
            complain(NO, f"{row['id']} is not finished; cancel it first")
        else:
            yield row["id"]


def keep(options: Options, world: Surroundings) -> int:
    """`retention hold|release ID...`: keep finished mail as evidence, or no longer."""
    request = {
        "verb": "change",
        "change": options.change,
        "reason": options.reason,
        "ids": options.ids,
    }
    with queue_of(options, world) as call:
        done = _report(answer(call, request)["items"], options)
    if not options.json:
        word = "kept" if options.change == "keep" else "let go"
        print(f"{done} message{'' if done == 1 else 's'} {word}")
    return DONE if done else NO


def _report(results: list[Json], options: Options) -> int:
    if options.json:
        print_json(results)
    for result in results:
        if not result["done"]:
            complain(NO, result["why"])
    return sum(result["done"] for result in results)


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while batch := list(islice(rest, BATCH)):
        yield batch


# Export


def export(options: Options, world: Surroundings) -> int:
    """`export DIRECTORY`: each message as ID.eml and ID.json, for other programs."""
    disk, folder = SystemDisk(), str(PurePath(options.directory))
    if disk.names(folder):
        raise UsageError(f"export: {folder} is not empty; name a new directory")
    disk.make_directory(folder)
    number = 0
    with queue_of(options, world) as call:
        for row in items(call, {"verb": "list", "finished": options.all}):
            _export(call, row["id"], f"{folder}/{row['id']}", disk)
            number += 1
    disk.sync_directory(folder)
    print(f"{number} message{'' if number == 1 else 's'} written to {folder}")
    return DONE


def _export(call: Call, entry_id: str, path: str, disk: Disk) -> None:
    """Write one message: what it says, and what is known of it."""
    asked = {"verb": "cat", "id": entry_id}
    content = (
        b64decode(page["content"])
        for page in pages(lambda request: answer(call, request), asked)
    )
    entry = answer(call, {"verb": "show", "id": entry_id})["entry"]
    steps = list(items(call, {"verb": "timeline", "id": entry_id}))
    told = json.dumps(entry | {"timeline": steps}, indent=1, ensure_ascii=False)
    for name, octets in ((".eml", content), (".json", [f"{told}\n".encode()])):
        file = disk.create(path + name)
        try:
            for piece in octets:
                file.append(piece)
            file.sync()
        finally:
            file.close()
