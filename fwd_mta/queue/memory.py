"""The queue in a dictionary: the reference for what a store does, used by tests."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from twisted.internet.defer import Deferred, succeed
from typing_extensions import override

from fwd_mta.interfaces import (
    Census,
    Change,
    Ids,
    Inspected,
    Page,
    QueueStore,
    Shape,
    Spool,
    Swept,
    Tally,
    WallClock,
)
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Status, Step
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import NoSpace, StoreError
from fwd_mta.mail.message import Body, Message
from fwd_mta.queue.index_file import shape_of, site_rows
from fwd_mta.queue.record import DOT_SENT
from fwd_mta.rules.identity import is_entry_id, made_at
from fwd_mta.rules.retention import (
    RetentionPolicy,
    RetentionStep,
    can_be_redacted,
    due_step,
    placeholder,
)


class MemorySpool(Spool):
    """A body in memory, whatever its size."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    @override
    def write(self, data: bytes) -> None:
        """Take more octets."""
        self._chunks.append(data)

    @property
    @override
    def backlog(self) -> int:
        """Nothing is ever waited for."""
        return 0

    @override
    def drained(self) -> Deferred[None]:
        """Fires at once."""
        return succeed(None)

    @override
    async def done(self) -> bytes | Body:
        """End; gives the body."""
        return b"".join(self._chunks)

    @override
    def discard(self) -> None:
        """Forget all of it."""
        self._chunks.clear()


@dataclass(slots=True)
class _Kept:
    entry: QueueEntry
    message: Message
    steps: list[Step]
    leased: bool = False
    until: float = 0.0
    changes: list[tuple[Change, Step]] = field(default_factory=list)


class MemoryStore(QueueStore):
    """Entries by id; loses all with the process. `full` makes it refuse new mail."""

    def __init__(self, wall: WallClock, retention: RetentionPolicy) -> None:
        self._wall = wall
        self._retention = retention
        self._kept: dict[str, _Kept] = {}
        self._watchers: list[Callable[[], None]] = []
        self.full = False

    @override
    async def start(self, now: float) -> None:
        """Nothing to recover."""

    @override
    async def stop(self) -> None:
        """Nothing to finish."""

    # For intake

    @override
    def has_room(self, octets: int) -> bool:
        """Unless a test says that it is full."""
        return not self.full

    @override
    def spool(self) -> Spool:
        """Begin a body."""
        return MemorySpool()

    @override
    async def add(self, entry: QueueEntry, message: Message) -> None:
        """Keep a message; a no-op for an id already there."""
        if self.full:
            raise NoSpace("the test says that the store is full")
        if not is_entry_id(entry.id):
            raise StoreError(f"{entry.id!r} is no queue id")
        await self._enter(entry, message)
        self._tell()

    async def _enter(self, entry: QueueEntry, message: Message) -> None:
        if entry.id in self._kept:
            return
        note = f"a notice about {entry.cause}" if entry.cause else ""
        whole = Message(message.head, await message.read(0, message.body_size))
        step = Step(entry.queued_at, "accepted", note)
        self._kept[entry.id] = _Kept(entry, whole, [step])

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()

    # For the scheduler

    @override
    def watch(self, changed: Callable[[], None]) -> None:
        """Call back whenever `next_due` may have become earlier."""
        self._watchers.append(changed)

    def _free(self) -> Iterator[tuple[float, str]]:
        """Due times and ids of what can be claimed."""
        for kept in self._kept.values():
            entry = kept.entry
            if kept.leased:
                continue
            if entry.owed:
                yield 0.0, entry.id
            elif entry.due is not None and entry.held is None:
                yield max(entry.due, kept.until), entry.id

    @override
    async def claim(self, now: float, count: int) -> list[QueueEntry]:
        """Entries due by `now`, oldest due first."""
        due = sorted(one for one in self._free() if one[0] <= now)[:count]
        for _, entry_id in due:
            self._kept[entry_id].leased = True
        return [self._kept[entry_id].entry for _, entry_id in due]

    @override
    def next_due(self) -> float | None:
        """The wall time of the earliest unclaimed entry, or None."""
        return min((due for due, _ in self._free()), default=None)

    @override
    async def open(self, entry_id: str) -> Message:
        """The content; raises StoreError."""
        if entry_id not in self._kept:
            raise StoreError(f"message {entry_id} is not in the queue")
        return self._kept[entry_id].message

    @override
    def at_hand(self, entry_id: str) -> Message | None:
        """The content, if it is in memory."""
        kept = self._kept.get(entry_id)
        return kept.message if kept else None

    @override
    async def dot_sent(
        self, entry_id: str, recipients: Sequence[Recipient], now: float
    ) -> None:
        """Note that a final dot is about to go out."""
        if entry_id not in self._kept:
            raise StoreError(f"message {entry_id} is not in the queue")
        note = ", ".join(str(one.mailbox) for one in recipients)
        self._kept[entry_id].steps.append(Step(now, DOT_SENT, note))

    @override
    async def record(
        self, entry: QueueEntry, step: Step, *, release: bool = True
    ) -> QueueEntry:
        """Keep the entry's new state, operators' waiting changes applied."""
        kept = self._kept.get(entry.id)
        if kept is None:
            return entry
        self._write(kept, entry, step)
        if release and not (kept.entry.owed and kept.leased):
            kept.leased = False
        self._tell()
        return kept.entry

    def _write(self, kept: _Kept, entry: QueueEntry, step: Step) -> None:
        kept.entry, kept.until = entry, 0.0
        kept.steps.append(step)
        for change, changed in kept.changes:
            kept.entry = change(kept.entry)
            kept.steps.append(changed)
        kept.changes.clear()

    @override
    async def postpone(self, entry: QueueEntry, until: float) -> None:
        """End the lease of an entry that was not tried; look at it again by then."""
        kept = self._kept.get(entry.id)
        if kept is None:
            return
        kept.leased, kept.until = False, until
        for change, changed in kept.changes:
            kept.entry, kept.until = change(kept.entry), 0.0
            kept.steps.append(changed)
        kept.changes.clear()
        self._tell()

    @override
    async def pay(
        self, entry: QueueEntry, notices: Sequence[tuple[QueueEntry, Message]]
    ) -> QueueEntry:
        """Put the owed notices into the queue and clear them from their parent."""
        kept = self._kept.get(entry.id)
        if kept is None:
            return entry
        paid = {notice.id for notice, _ in notices}
        if not kept.leased:
            entry = kept.entry
            if not paid & {notice.id for notice in entry.owed}:
                return entry
        for notice, message in notices:
            await self._enter(notice, message)
        left = tuple(notice for notice in entry.owed if notice.id not in paid)
        step = Step(self._wall.now(), "paid", ", ".join(sorted(paid)))
        self._write(kept, replace(entry, owed=left), step)
        kept.leased = False
        self._tell()
        return kept.entry

    # For operators and the sweep

    @override
    async def entries(self, wanted: EntryFilter) -> list[QueueEntry]:
        """Entries that the filter takes, oldest first."""
        found = [one.entry for one in self._kept.values() if wanted.takes(one.entry)]
        found = sorted(found, key=lambda entry: entry.id)[: wanted.limit]
        return sorted(found, key=lambda entry: (entry.queued_at, entry.id))

    @override
    async def page(self, wanted: EntryFilter) -> Page:
        """The next entries that the filter takes."""
        found = sorted(await self.entries(wanted), key=lambda entry: entry.id)
        more = wanted.limit is not None and len(found) >= wanted.limit
        return Page(tuple(found), found[-1].id if more and found else None)

    @override
    async def ids(self, wanted: EntryFilter) -> Ids:
        """The next ids that the filter takes."""
        page = await self.page(wanted)
        return Ids(tuple(one.id for one in page.entries), page.next)

    @override
    async def tally(self, wanted: EntryFilter) -> Tally:
        """Count what the filter takes."""
        found = await self.entries(wanted)
        held = sum(one.held is not None for one in found)
        return Tally(Counter(one.status for one in found), held)

    @override
    async def shape(self, by: str, now: float, after: str = "") -> Shape:
        """Count the recipients that wait."""
        waiting = await self.entries(EntryFilter(after=after))
        rows = [row for entry in waiting for row in site_rows(entry)]
        return Shape(shape_of(rows, by, now))

    @override
    async def timeline(self, entry_id: str) -> list[Step]:
        """All that happened to an entry; empty if it is not known."""
        kept = self._kept.get(entry_id)
        return list(kept.steps) if kept else []

    @override
    async def change(
        self, entry_id: str, change: Change, step: Step
    ) -> QueueEntry | None:
        """Apply a change now, or with the next record of whoever has the entry."""
        kept = self._kept.get(entry_id)
        if kept is None:
            return None
        if kept.leased:
            kept.changes.append((change, step))
            return kept.entry
        finished = kept.entry.is_final and not kept.entry.owed
        changed = change(kept.entry)
        if finished:
            changed = replace(kept.entry, held=changed.held)
        if changed != kept.entry:
            self._write(kept, changed, step)
            self._tell()
        return kept.entry

    @override
    async def redact(self, entry_id: str) -> bool:
        """Replace the content of a finished message by its placeholder."""
        kept = self._kept.get(entry_id)
        if kept is None or not can_be_redacted(kept.entry):
            return False
        if kept.entry.redacted_at is None:
            await self._redact(kept)
        return True

    async def _redact(self, kept: _Kept) -> None:
        original = kept.message
        digest = content_digest(
            original.head, await original.read(0, original.body_size)
        )
        kept.message = placeholder(kept.entry, original, digest)
        now = self._wall.now()
        entry = replace(kept.entry, redacted_at=now)
        self._write(kept, entry, Step(now, "redacted", f"sha256 {digest}"))

    @override
    async def sweep(self, now: float) -> Swept:
        """Redact and purge what is due by the retention policy."""
        done: list[RetentionStep] = []
        digest = sha256()
        for entry_id, kept in list(self._kept.items()):
            step = due_step(kept.entry, self._retention, now)
            if step is None:
                continue
            if step is RetentionStep.REDACT:
                await self._redact(kept)
            else:
                del self._kept[entry_id]
            done.append(step)
            digest.update(f"{step} {entry_id}\n".encode())
        return Swept(
            done.count(RetentionStep.REDACT),
            done.count(RetentionStep.PURGE),
            digest.hexdigest(),
        )

    @override
    async def inspect(self, after: str = "") -> Inspected:
        """Nothing: there is no disk."""
        return Inspected(0, 0)

    @override
    async def census(self) -> Census:
        """Count what waits."""
        waiting = [one.entry for one in self._kept.values() if not one.entry.is_final]
        held = sum(one.held is not None for one in waiting)
        free = [one for one in waiting if one.held is None]
        tried = sum(one.status is Status.DEFERRED for one in free)
        first = min((one.id for one in waiting), default=None)
        oldest = None if first is None else made_at(first)
        return Census(len(free) - tried, tried, held, oldest)


def content_digest(head: bytes, body: bytes) -> str:
    """The SHA-256 of a message as it goes over the wire, in hexadecimal."""
    return sha256(b"\r\n".join((head, body))).hexdigest()
