"""A queue in a dictionary, and entries to put into it, for the tests of `admin`."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from typing_extensions import override

from fwd_mta.interfaces import (
    Census,
    Change,
    Ids,
    Inspected,
    Page,
    QueueKeeper,
    Shape,
    Swept,
    Tally,
)
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import (
    Action,
    Attempt,
    Category,
    DeliveryResult,
    Diagnosis,
    EntryFilter,
    Origin,
    QueueEntry,
    Scope,
    Stage,
    Standing,
    StandingState,
    Step,
)
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.queue.index_file import shape_of, site_rows
from fwd_mta.rules.identity import entry_id

NOW = 1_800_000_000.0
HEAD = b"From: you@example.com\r\nSubject: hello\r\n"


def an_id(number: int = 1) -> str:
    """Give the id of the n-th entry."""
    return entry_id(NOW - 10_000 + number, number.to_bytes(8, "big"))


def recipient(address: str = "them@example.net") -> Recipient:
    """Give a recipient by address."""
    local, _, domain = address.rpartition("@")
    return Recipient(Mailbox(local, domain))


def full_mailbox(to: Recipient) -> DeliveryResult:
    """Tell that a mailbox is full."""
    diagnosis = Diagnosis(
        action=Action.DEFER,
        category=Category.CAPACITY,
        scope=Scope.RECIPIENT,
        message="The mailbox is full.",
        code=452,
        status="4.2.2",
        rule="mailbox-full",
    )
    return DeliveryResult(
        to,
        Stage.RCPT,
        Reply(452, "2.2", "Mailbox \x1b[31mfull\nquite"),
        diagnosis,
        "mx.example.net[192.0.2.9]:25",
        "TLSv1.3, TLS_AES_256_GCM_SHA384",
    )


def entry(number: int = 1, *recipients: str) -> QueueEntry:
    """Give an entry that was never tried."""
    path = Mailbox("you", "example.com")
    named = tuple(recipient(one) for one in recipients or ("them@example.net",))
    return QueueEntry(
        id=an_id(number),
        account="you@example.com",
        envelope=Envelope(path, named),
        standings=tuple(Standing(one, NOW - 60) for one in named),
        queued_at=NOW - 7200 + number,
        size=12_345,
        origin=Origin("192.0.2.1", "laptop", "ESMTPSA", "TLSv1.3"),
        message_id=f"<{number}@example.com>",
    )


def deferred(number: int = 1, *recipients: str) -> QueueEntry:
    """Give an entry that met a full mailbox once."""
    return each(
        entry(number, *recipients),
        lambda one: replace(
            one,
            attempts=1,
            next_attempt_at=NOW + 750,
            last=full_mailbox(one.recipient),
        ),
    )


def delivered(number: int = 1, *recipients: str) -> QueueEntry:
    """Give an entry that is delivered."""
    done = each(
        entry(number, *recipients),
        lambda one: replace(
            one,
            attempts=1,
            state=StandingState.DELIVERED,
            last=DeliveryResult(one.recipient, Stage.DOT, Reply(250, "0.0", "Ok")),
        ),
    )
    return replace(done, finished_at=NOW - 5)


def each(one: QueueEntry, change: Callable[[Standing], Standing]) -> QueueEntry:
    """Change every standing of an entry."""
    return replace(one, standings=tuple(map(change, one.standings)))


def an_attempt(one: QueueEntry) -> Step:
    """Tell the attempt that an entry's last results came from."""
    results = tuple(standing.last for standing in one.standings if standing.last)
    trail = ("mx1.example.net[192.0.2.8]:25: connection refused",)
    return Step(
        NOW - 3600, "attempt", "", Attempt(NOW - 3602, NOW - 3600, results, trail)
    )


class ListKeeper(QueueKeeper):
    """A keeper of entries in a dictionary; `leased` ones take changes later."""

    def __init__(self, *entries: QueueEntry) -> None:
        self.kept = {one.id: one for one in entries}
        self.steps: dict[str, list[Step]] = {
            one.id: [Step(one.queued_at, "accepted", "from [192.0.2.1]")]
            for one in entries
        }
        self.content = {one.id: Message(HEAD, b"Body\r\n") for one in entries}
        self.leased: set[str] = set()
        self.broken = False
        self.asked: list[EntryFilter] = []

    @override
    async def entries(self, wanted: EntryFilter) -> list[QueueEntry]:
        """Entries that the filter takes, in no order at all."""
        self.asked.append(wanted)
        if self.broken:
            raise StoreError("the disk says: Input/output error")
        return [one for one in reversed(self.kept.values()) if wanted.takes(one)]

    @override
    async def page(self, wanted: EntryFilter) -> Page:
        """The next entries that the filter takes."""
        found = sorted(await self.entries(wanted), key=lambda one: one.id)
        found = found[: wanted.limit]
        more = wanted.limit is not None and len(found) == wanted.limit
        return Page(tuple(found), found[-1].id if more else None)

    @override
    async def ids(self, wanted: EntryFilter) -> Ids:
        """The next ids that the filter takes."""
        page = await self.page(wanted)
        return Ids(tuple(one.id for one in page.entries), page.next)

    @override
    async def tally(self, wanted: EntryFilter) -> Tally:
        """Count a part: a hundred at a time, so that there are parts."""
        page = await self.page(replace(wanted, limit=100))
        held = sum(one.held is not None for one in page.entries)
        return Tally(Counter(one.status for one in page.entries), held, page.next)

    @override
    async def shape(self, by: str, now: float, after: str = "") -> Shape:
        """Count the recipients that wait, ten messages at a time."""
        page = await self.page(EntryFilter(after=after, limit=10))
        rows = [row for one in page.entries for row in site_rows(one)]
        return Shape(shape_of(rows, by, now), page.next)

    @override
    async def timeline(self, entry_id: str) -> list[Step]:
        """All that happened to an entry."""
        return self.steps.get(entry_id, [])

    @override
    async def open(self, entry_id: str) -> Message:
        """The content."""
        if entry_id not in self.content:
            raise Corrupt(f"{entry_id} fails its checksum")
        return self.content[entry_id]

    @override
    async def change(
        self, entry_id: str, change: Change, step: Step
    ) -> QueueEntry | None:
        """Apply a change, but for leased entries."""
        if entry_id not in self.leased:
            self.kept[entry_id] = change(self.kept[entry_id])
            self.steps[entry_id].append(step)
        return self.kept[entry_id]

    @override
    async def redact(self, entry_id: str) -> bool:
        """Redact nothing: no verb here asks for it."""
        raise AssertionError(entry_id)

    @override
    async def inspect(self, after: str = "") -> Inspected:
        """Inspect nothing: there is no disk."""
        return Inspected(0, 0)

    @override
    async def census(self) -> Census:
        """Count nothing: no verb here asks for it."""
        raise AssertionError

    @override
    async def sweep(self, now: float) -> Swept:
        """Sweep nothing: no verb here asks for it."""
        raise AssertionError(now)


def ids(rows: Sequence[dict[str, object]]) -> list[object]:
    """Give the ids of rows."""
    return [row["id"] for row in rows]
