"""A million records: how long a page of a list takes: `python -m benchmarks.listing`.

Makes a queue of packs and files on the disk with its index, then asks what operators
ask, as the command does: pages of lists by every filter, a count, a shape, and the dry
run of a retry. Prints the median and the longest page of each, by
the clock and by CPU (others may load the machine); nothing is asserted.
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from fwd_mta.admin.asking import pages
from fwd_mta.admin.control import Commands
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import (
    Action,
    Category,
    DeliveryResult,
    Diagnosis,
    QueueEntry,
    Scope,
    Stage,
    Standing,
    StandingState,
    Step,
)
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.reply import Reply
from fwd_mta.net.clocks import SystemClock
from fwd_mta.net.databases import SystemDatabases
from fwd_mta.net.disk import SystemDisk
from fwd_mta.queue.files import FileStore
from fwd_mta.queue.index import NAME, Index
from fwd_mta.queue.index_file import IndexFile, Place
from fwd_mta.queue.layout import Layout, pack_name
from fwd_mta.queue.record import message_octets
from fwd_mta.queue.segment import pack_tail
from fwd_mta.rules.identity import entry_id
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.world.machine import InlineWorker

_PACKED = 20_000
_HEAD = b"From: ann@example.com\r\nSubject: x\r\n"
_POLICY = RetentionPolicy(30 * 86_400.0, 90 * 86_400.0)
Row = tuple[QueueEntry, Place, bool]


def options() -> argparse.Namespace:
    """What the command line wants."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=100_000, help="of them")
    parser.add_argument("--pages", type=int, default=20, help="looked at of each list")
    parser.add_argument("--keep", help="make it there, or use what is there already")
    return parser.parse_args()


class Maker:
    """Makes messages as they would be after a few weeks."""

    def __init__(self, now: float) -> None:
        self._chance = random.Random(1)
        self._now = now

    def entry(self, number: int, of: int, *, waits: bool) -> QueueEntry:
        """One message; the later its number, the later it came."""
        chance = self._chance
        span = 5 * 86_400 if waits else 25 * 86_400
        at = self._now - span + span * number / of - 60
        to = Recipient(
            Mailbox(f"user{chance.randrange(200_000)}", f"d{_rank(chance)}.example")
        )
        account = f"app{_rank(chance)}@example.com"
        return QueueEntry(
            entry_id(at, chance.randbytes(8)),
            account,
            Envelope(Mailbox(f"s{_rank(chance)}", "example.com"), (to,)),
            (self._standing(to, waits),),
            at,
            12_345,
            message_id=f"<{number}-{waits}@example.com>",
            finished_at=None if waits else at + 2,
        )

    def _standing(self, to: Recipient, waits: bool) -> Standing:
        if not waits:
            told = DeliveryResult(to, Stage.DOT, Reply(250, "0.0", "Ok"), None, "mx[1]")
            return Standing(to, self._now, StandingState.DELIVERED, 1, told)
        category = self._chance.choice([Category.GREYLIST, Category.NETWORK])
        said = Diagnosis(
            Action.DEFER, category, Scope.DESTINATION, "Later.", 451, "4.7.1", "some"
        )
        host = f"mx.{to.mailbox.domain}[192.0.2.1]:25"
        told = DeliveryResult(to, Stage.RCPT, Reply(451, "7.1", "No"), said, host)
        return Standing(to, self._now + 3600, attempts=3, last=told)


def _rank(chance: random.Random) -> int:
    """A few are met often, many seldom."""
    return int(1000 ** chance.random())


def made(root: str, wanted: argparse.Namespace, now: float) -> None:
    """Make the queue and its index."""
    disk, layout, maker = SystemDisk(), Layout(root), Maker(now)
    for directory in layout.directories:
        disk.make_directory(directory)
    index = IndexFile(SystemDatabases().open(f"{root}/{NAME}"))
    index.begin()
    finished = wanted.messages - wanted.waiting
    for first in range(0, finished, _PACKED):
        many = range(first, min(finished, first + _PACKED))
        some = [maker.entry(number, finished, waits=False) for number in many]
        _write(index, _packed(disk, layout, some, now))
    waiting = range(wanted.waiting)
    for first in range(0, wanted.waiting, 1000):
        some = [
            maker.entry(number, wanted.waiting, waits=True)
            for number in waiting[first : first + 1000]
        ]
        _write(index, list(_filed(disk, layout, some, now)))
    index.end(whole=True)


def _write(index: IndexFile, rows: list[Row]) -> None:
    for first in range(0, len(rows), 500):
        index.write(rows[first : first + 500], (), ())


def _packed(
    disk: SystemDisk, layout: Layout, some: list[QueueEntry], now: float
) -> list[Row]:
    hour = layout.hour(some[0].queued_at + _POLICY.content, now)
    disk.make_directory(hour)
    path = f"{hour}/{pack_name(some[0].id, some[-1].id, int(some[0].queued_at))}"
    file, at, rows, where = disk.create(path), 0, [], []
    directory = path.removeprefix(f"{layout.root}/")
    for one in some:
        octets = message_octets(one, Step(one.queued_at, "attempt"), _HEAD, b"x\r\n")
        file.append(octets)
        rows.append((one, Place(directory, at, len(octets)), True))
        where.append((one.id, at, len(octets)))
        at += len(octets)
    file.append(pack_tail(where))
    file.close()
    return rows


def _filed(
    disk: SystemDisk, layout: Layout, some: list[QueueEntry], now: float
) -> Iterator[Row]:
    for number, one in enumerate(some):
        directory = layout.minute(now + 600 + 60 * (number % 60))
        disk.make_directory(directory)
        file = disk.create(f"{directory}/{one.id}")
        step = Step(one.queued_at, "attempt")
        file.append(message_octets(one, step, _HEAD, b"x\r\n"))
        file.close()
        yield one, Place(directory.removeprefix(f"{layout.root}/")), True


def opened(root: str, clock: Clock) -> FileStore:
    """The store as a server has it, but for the threads."""

    def index(path: str) -> Index:
        return Index(SystemDatabases(), path, InlineWorker(), clock, print)

    return FileStore(
        SystemDisk(),
        root,
        InlineWorker(),
        SystemClock(),
        clock,
        _POLICY,
        1,
        1000,
        print,
        make_index=index,
    )


def now_of(work: Any) -> Any:
    """What a coroutine gives that waits for nothing."""
    outcome: list[Any] = []
    _ = Deferred.fromCoroutine(work).addBoth(outcome.append)
    return outcome[0]


LISTS: dict[str, dict[str, Any]] = {
    "what waits": {},
    "all": {"finished": True},
    "--state sent": {"states": ["sent"]},
    "--state bounced (none)": {"states": ["bounced"]},
    "--account, a large one": {"account": "app1@example.com", "finished": True},
    "--account, a small one": {"account": "app900@example.com", "finished": True},
    "--account, what waits": {"account": "app5@example.com"},
    "--from": {"from": "s3@example.com", "finished": True},
    "--to": {"to": "user77@d1.example", "finished": True},
    "--domain": {"domain": "d7.example", "finished": True},
    "--domain --account": {
        "domain": "d2.example",
        "account": "app3@example.com",
        "finished": True,
    },
    "--domain --from, rare": {
        "domain": "d800.example",
        "from": "s1@example.com",
        "finished": True,
    },
    "--message-id": {"message_id": "<500000-False@example.com>", "finished": True},
    "--category": {"category": "greylist"},
    "--older-than 4d": {"older_than": 4 * 86_400},
    "--newer-than 1d": {"newer_than": 86_400, "finished": True},
    "--state held (none)": {"held": True},
}


def main() -> None:
    """Make it, ask, print."""
    wanted = options()
    root = wanted.keep or tempfile.mkdtemp(prefix="fwdmta-listing-")
    clock, wall = Clock(), SystemClock()
    try:
        began = time.perf_counter()
        if not os.path.exists(f"{root}/{NAME}"):
            made(root, wanted, wall.now())
        print(f"{wanted.messages:,} messages made in {_since(began) / 1000:.0f} s")
        store = opened(root, clock)
        now_of(store.start(wall.now()))
        commands = Commands(store, wall)
        _ask(lambda request: now_of(commands.obey(request)), wanted.pages)
        now_of(store.stop())
    finally:
        if not wanted.keep:
            shutil.rmtree(root, ignore_errors=True)


def _ask(call: Callable[[dict[str, Any]], dict[str, Any]], most: int) -> None:
    heads = ("median ms", "longest ms", "CPU median", "CPU longest")
    print(f"{'list':<28}{'pages':>6}{'rows':>9}", *(f"{one:>11}" for one in heads))
    for name, words in LISTS.items():
        _told(name, call, {"verb": "list"} | words, most)
    everything = 10**9
    for name, request in (
        ("count, all", {"verb": "count", "finished": True}),
        ("count --domain", {"verb": "count", "domain": "d7.example"}),
        ("shape", {"verb": "shape"}),
        ("retry --dry-run, what waits", {"verb": "count"}),
        ("its ids", {"verb": "ids"}),
    ):
        _told(name, call, request, everything)


def _told(
    name: str,
    call: Callable[[dict[str, Any]], dict[str, Any]],
    request: dict[str, Any],
    most: int,
) -> None:
    times: list[float] = []
    efforts: list[float] = []
    rows = 0

    def timed(asked: dict[str, Any]) -> dict[str, Any]:
        began, worked = time.perf_counter(), time.process_time()
        answer = call(asked)
        times.append(_since(began))
        efforts.append((time.process_time() - worked) * 1000)
        return answer

    for page in pages(timed, request):
        rows += len(page.get("items") or page.get("rows") or ())
        if len(times) >= most:
            break
    figures = (median(times), max(times), median(efforts), max(efforts))
    print(f"{name:<28}{len(times):>6}{rows:>9}", *(f"{one:>11.1f}" for one in figures))


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
