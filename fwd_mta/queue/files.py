"""The queue in files: one per message, its place says when to look at it.

`FileStore` is the doorway; it composes what the queue is made of:

    layout      where a message lies
    record      what its file holds, in the shapes of `shapes`
    operations  the disk calls of each change, with one commit point (docs/crashes.md)
    finished    the same for mail that is over: redact, purge
    commit      many operations in one batch, synced together
    reading     one state, one content
    listing     lists of all there is, page by page
    recovery    the start
    leases      who has which message; agenda and young: what is near, in memory
    claims      giving out what is due
    ledger      writing down what became of it
    journal     young mail: one append and sync for all that wait (segment, replay)
    spill       a message of the journal becomes a file
    retiring    finished mail of a segment becomes a pack (packs)
    lookup      lists, counts and shapes, by the index (index_file) where there is one
    archive     the sweep of finished mail
    census      how many wait
    inspection  every byte on the disk, and whether it may be there
    spool       a body on its way in
    room        what space is left (spare: what is kept back of it)
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.events import Emit
from fwd_mta.interfaces import (
    Census,
    Change,
    Disk,
    Ids,
    Inspected,
    Page,
    QueueStore,
    Shape,
    Spool,
    Swept,
    Tally,
    WallClock,
    Worker,
)
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Step
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.mail.message import Body, Message
from fwd_mta.queue.archive import Archive
from fwd_mta.queue.census import census
from fwd_mta.queue.claims import Claims
from fwd_mta.queue.commit import Outcome, Script
from fwd_mta.queue.index import NAME as INDEX_NAME
from fwd_mta.queue.index import Index
from fwd_mta.queue.inspection import inspect, outlived
from fwd_mta.queue.journal import Mail
from fwd_mta.queue.layout import is_fresh, parts
from fwd_mta.queue.leases import Leases
from fwd_mta.queue.ledger import Ledger
from fwd_mta.queue.listing import Names
from fwd_mta.queue.lookup import LookUp
from fwd_mta.queue.reading import Content
from fwd_mta.queue.record import Header, message_octets
from fwd_mta.queue.recovery import Recovery
from fwd_mta.queue.retiring import Retirement
from fwd_mta.queue.room import Room
from fwd_mta.queue.spill import Spill
from fwd_mta.queue.spool import FileSpool, SpooledBody
from fwd_mta.queue.tree import Tree
from fwd_mta.rules.identity import is_entry_id
from fwd_mta.rules.retention import RetentionPolicy

SMALL = 256 * 1024
_PIECE = 64 * 1024
_RECENT = 16_384


class StoredBody(Body):
    """A large body in a message's file, read by ranges wherever the file moves."""

    def __init__(self, store: "FileStore", path: str, header: Header) -> None:
        self._store = store
        self._path = path
        self._header = header

    @property
    @override
    def size(self) -> int:
        """How many octets."""
        return self._header.body.length

    @override
    async def read(self, offset: int, length: int) -> bytes:
        """Give up to `length` octets from `offset`; StoreError if it is redacted."""
        return await self._store.piece(self._path, self._header, offset, length)


class FileStore(QueueStore):
    """The queue under one state directory, owned by one process.

    `owner` goes into the lock file. Young mail is kept in memory up to `memory_bound`
    octets; more of it is read back from its files.
    """

    def __init__(
        self,
        disk: Disk,
        root: str,
        worker: Worker,
        wall: WallClock,
        clock: IReactorTime,
        retention: RetentionPolicy,
        minimum_free_space: int,
        message_size_limit: int,
        emit: Emit,
        memory_bound: int = 64 * 1024 * 1024,
        owner: str = "",
        journal_worker: Worker | None = None,
        make_index: Callable[[str], Index] | None = None,
    ) -> None:
        self._tree = Tree(
            disk, root, worker, wall, retention, emit, clock, owner, journal_worker
        )
        self._has_journal = journal_worker is not None
        self._leases = Leases(self._tree, memory_bound)
        self._spill = spill = Spill(self._leases)
        self._ledger = Ledger(self._leases, spill)
        self._retirement = Retirement(self._leases, self._ledger, spill, clock)
        self._claims = Claims(self._leases, self._ledger, spill)
        self._archive = Archive(self._tree)
        self._look_up = LookUp(self._tree)
        self._inspected = Names()
        if make_index is not None:
            index = make_index(f"{root}/{INDEX_NAME}")
            self._leases.index = self._archive.index = self._look_up.index = index
            self._tree.finished.placed = index.placed
        self._room = Room(self._tree, clock, minimum_free_space, message_size_limit)
        self._tree.full = self._room.short
        self._owner = owner
        self._recent: dict[str, None] = {}
        self._spooled = 0
        self._started_at = 0.0
        self._release: Callable[[], None] | None = None

    # Its life

    @override
    async def start(self, now: float) -> None:
        """Take the lock, recover what a crash left; raises StoreError."""
        tree = self._tree
        recovery = Recovery(
            tree.disk, tree.layout, tree.reader, tree.operations, tree.retention
        )
        found = await tree.job(lambda: recovery.run(self._owner, now))
        self._release = found.release
        self._started_at = now
        self._archive.stopping = False
        for entry_id, due in found.fresh:
            self._leases.agenda.add(entry_id, due, f"{tree.layout.incoming}/{entry_id}")
        tree.journal.adopt(found.journal.segments)
        for mail, due in found.journal.open:
            self._leases.agenda.add(mail.id, due or now, tree.journal.path(mail))
        for minute in found.minutes:
            self._leases.agenda.expect(minute)
        for event in found.events:
            tree.emit(event)
        self._retirement.start()
        await self._look_up.start()
        await self._room.start()

    @override
    async def stop(self) -> None:
        """Finish what was begun, release the lock."""
        self._room.stop()
        self._archive.stopping = True
        await self._retirement.stop()
        await self._leases.lane.idle()
        await self._archive.lane.idle()
        await self._tree.journal.stop()
        await self._look_up.stop()
        release, self._release = self._release, None
        if release is not None:
            release()

    # For intake

    @override
    def has_room(self, octets: int) -> bool:
        """Whether a message of that size fits beside the reserve (SPEC [queue])."""
        return self._room.has(octets)

    @override
    def spool(self) -> Spool:
        """Begin a body."""
        self._spooled += 1
        path = f"{self._tree.layout.tmp}/{self._spooled}.body"
        tree = self._tree
        tree.bodies[path] = tree.wall.now()
        if len(tree.bodies) > _RECENT:
            del tree.bodies[next(iter(tree.bodies))]
        spool = FileSpool(tree.disk, tree.worker, path, SMALL, self._room.received)
        self._room.receiving(spool)
        return spool

    @override
    async def add(self, entry: QueueEntry, message: Message) -> None:
        """Durable when it returns; a no-op for an id already there."""
        if not is_entry_id(entry.id):
            raise StoreError(f"{entry.id!r} is no queue id")
        if entry.id in self._recent or self._leases.knows(entry.id):
            return
        if entry.queued_at < self._started_at and await self._is_found(entry.id):
            return
        body = message.body
        if not isinstance(body, bytes):
            body = await self._own(body)
        elif self._goes_to_journal(entry, message):
            await self._accept(entry, message, body)
            return
        script = self._adding(entry, message.head, body)
        await self._leases.lane.run(
            entry.id, script, partial(self._added, entry, Message(message.head, body))
        )

    def _goes_to_journal(self, entry: QueueEntry, message: Message) -> bool:
        """Whether it is small, and to be delivered at once."""
        if not self._has_journal or message.size > SMALL:
            return False
        is_waiting = entry.held is None and not entry.is_final
        return is_waiting and is_fresh(entry, self._tree.wall.now())

    def _accept(
        self, entry: QueueEntry, message: Message, body: bytes
    ) -> Deferred[None]:
        """Into the journal: one append and one sync for all that wait."""
        step = Step(entry.queued_at, "accepted", _origin(entry))
        octets = message_octets(entry, step, message.head, body)
        journal = self._tree.journal

        def accepted(mail: Mail) -> None:
            self._entered(entry)
            self._leases.enter_young(entry, journal.path(mail), message)

        def failed(failure: Failure) -> None:
            error = failure.value
            self._added(entry, message, Outcome(None, error))  # type: ignore[arg-type]

        return journal.accept(entry.id, octets, accepted).addErrback(failed)

    async def _is_found(self, entry_id: str) -> bool:
        """Whether the id is there; one from before our start may lie anywhere."""
        reader = self._tree.reader
        return await self._tree.job(lambda: reader.find(entry_id)) is not None

    def _adding(
        self, entry: QueueEntry, head: bytes, body: bytes | Body
    ) -> Callable[[], Script[str]]:
        operations, home = self._tree.operations, self._leases.home(entry)
        step = Step(entry.queued_at, "accepted", _origin(entry))
        if isinstance(body, bytes):
            return lambda: operations.add(entry, step, head, body, home)
        spooled = body.file if isinstance(body, SpooledBody) else None
        if spooled is None:
            raise StoreError("this body was added to the queue already")
        body.file = None  # type: ignore[attr-defined]
        return lambda: operations.add_spooled(entry, step, head, spooled, home)

    def _added(self, entry: QueueEntry, message: Message, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._tree.say("queue", f"a message was not accepted: {outcome.error}")
            raise outcome.error
        self._entered(entry)
        self._leases.enter(entry, outcome.value, message)

    def _entered(self, entry: QueueEntry) -> None:
        self._recent[entry.id] = None
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]

    async def _own(self, body: Body) -> SpooledBody | bytes:
        """A body in a file of ours, copied where it lies elsewhere."""
        if isinstance(body, SpooledBody):
            return body
        spool = self.spool()
        try:
            for at in range(0, body.size, _PIECE):
                spool.write(await body.read(at, _PIECE))
                await spool.drained()
            copied = await spool.done()
        except BaseException:
            spool.discard()
            raise
        if not isinstance(copied, SpooledBody | bytes):
            raise StoreError("a spool of this store gave a foreign body")
        return copied

    # For the scheduler

    @override
    def watch(self, changed: Callable[[], None]) -> None:
        """Call back whenever `next_due` may have become earlier."""
        self._leases.watch(changed)

    @override
    def claim(self, now: float, count: int) -> Awaitable[list[QueueEntry]]:
        """Entries due by `now`, oldest due first; leased until recorded not due."""
        return self._claims.claim(now, count)

    @override
    def next_due(self) -> float | None:
        """The wall time of the earliest unclaimed entry, or None."""
        return self._leases.agenda.next_due()

    @override
    async def open(self, entry_id: str) -> Message:
        """The content; Corrupt (then it is set aside) or StoreError."""
        kept = self._leases.young.message(entry_id)
        if kept is not None:
            return kept
        hint = self._leases.path(entry_id)
        content = await self._tree.job(lambda: self._content(entry_id, hint))
        if isinstance(content, tuple):
            path, error = content
            self._leases.abandon(entry_id)
            await self._spill.set_aside(path, error)
            raise Corrupt(f"message {entry_id}: {error}") from error
        if content.body is not None:
            return Message(content.head, content.body)
        return Message(content.head, StoredBody(self, content.path, content.header))

    @override
    def at_hand(self, entry_id: str) -> Message | None:
        """The content, if it is in memory."""
        return self._leases.young.message(entry_id)

    def _content(self, entry_id: str, hint: str) -> Content | tuple[str, Corrupt]:
        def read(path: str) -> Content | tuple[str, Corrupt]:
            try:
                return self._tree.reader.content(path, SMALL)
            except Corrupt as error:
                return path, error

        return self._tree.reader.located(entry_id, hint, read)

    async def piece(self, path: str, header: Header, offset: int, length: int) -> bytes:
        """Some of a stored body, wherever its file lies now."""
        reader = self._tree.reader
        read = partial(
            reader.piece, expected=header, offset=offset, length=max(0, length)
        )
        return await self._tree.job(lambda: reader.located(parts(path)[1], path, read))

    @override
    def dot_sent(
        self, entry_id: str, recipients: Sequence[Recipient], now: float
    ) -> Awaitable[None]:
        """Note that a final dot is about to go out (P2); survives a kill."""
        return self._ledger.dot_sent(entry_id, recipients, now)

    @override
    def record(
        self, entry: QueueEntry, step: Step, *, release: bool = True
    ) -> Awaitable[QueueEntry]:
        """Write the entry's new state, durable when it returns."""
        return self._ledger.record(entry, step, release=release)

    @override
    def postpone(self, entry: QueueEntry, until: float) -> Awaitable[None]:
        """End the lease of an entry that was not tried; look at it again by then."""
        return self._ledger.postpone(entry, until)

    @override
    def pay(
        self, entry: QueueEntry, notices: Sequence[tuple[QueueEntry, Message]]
    ) -> Awaitable[QueueEntry]:
        """Put the owed notices into the queue and clear them from their parent."""
        return self._ledger.pay(entry, notices)

    # For operators and the sweep

    @override
    async def entries(self, wanted: EntryFilter) -> list[QueueEntry]:
        """Entries that the filter takes, oldest first."""
        return await self._look_up.entries(wanted)

    @override
    def page(self, wanted: EntryFilter) -> Awaitable[Page]:
        """The next entries that the filter takes, at most `wanted.limit`."""
        return self._look_up.page(wanted)

    @override
    def ids(self, wanted: EntryFilter) -> Awaitable[Ids]:
        """The next ids that the filter takes, by the index: nothing is opened."""
        return self._look_up.ids(wanted)

    @override
    def tally(self, wanted: EntryFilter) -> Awaitable[Tally]:
        """Count what the filter takes, the next part of it."""
        return self._look_up.tally(wanted)

    @override
    def shape(self, by: str, now: float, after: str = "") -> Awaitable[Shape]:
        """Count the recipients that wait by "site" or "domain" and age, a part."""
        return self._look_up.shape(by, now, after)

    async def reindex(self, *, wait: bool = False) -> bool:
        """Make the index anew, in the background or at once; whether it is whole."""
        return await self._look_up.remake(wait=wait)

    @override
    async def timeline(self, entry_id: str) -> list[Step]:
        """All that happened to an entry; empty if it is not known."""
        return await self._tree.job(lambda: self._tree.reader.timeline(entry_id))

    @override
    async def change(
        self, entry_id: str, change: Change, step: Step
    ) -> QueueEntry | None:
        """Apply a pure change and record it, now or with the running attempt."""
        if not self._leases.knows(entry_id):
            await self._archive.unpack(entry_id)
        return await self._ledger.change(entry_id, change, step)

    @override
    async def redact(self, entry_id: str) -> bool:
        """Replace the content of a finished message by its placeholder, durably."""
        await self._retirement.redacting(entry_id)
        return await self._archive.redact(entry_id)

    @override
    async def sweep(self, now: float) -> Swept:
        """Redact and purge what is due by the retention policy."""
        await self._retirement.sweep(now)
        return await self._archive.sweep(now)

    @override
    async def inspect(self, after: str = "") -> Inspected:
        """Read the next files behind the path `after`, every byte of them."""
        seen = await inspect(self._tree, self._inspected, after)
        if seen.next is not None:
            return seen
        more = await outlived(self._tree, self._look_up.index)
        return replace(seen, findings=seen.findings + more)

    def use_retention(self, policy: RetentionPolicy) -> None:
        """Go by another policy; the next sweep files all that is finished anew."""
        self._tree.retention = policy

    async def mend(self, path: str) -> str:
        """File a message where it belongs, or set a damaged one aside; what was done.

        Only where no server runs: nothing else has the message at that time.
        """
        return await self._archive.mend(f"{self._tree.layout.root}/{path}")

    @property
    def near(self) -> int:
        """How many messages are known by id; bounded, however many wait."""
        return len(self._leases.agenda)

    async def sample(self, after: str, count: int) -> list[QueueEntry]:
        """The next of what is near behind an id, as it is on the disk now."""
        some, reader = self._leases.agenda.some(after, count), self._tree.reader
        return await self._tree.job(lambda: list(reader.readable(some)))

    @override
    def census(self) -> Awaitable[Census]:
        """Count what waits, without opening it."""
        return census(self._tree)


def _origin(entry: QueueEntry) -> str:
    """How it came, for its timeline."""
    origin = entry.origin
    if entry.cause:
        return f"a notice about {entry.cause}"
    came = origin.protocol
    if origin.client:
        came = f"{came} from {origin.client}"
    if entry.account:
        came = f"{came} as {entry.account}"
    if origin.tls:
        came = f"{came} ({origin.tls})"
    return "; ".join([came.lstrip(), *origin.checks])
