"""The journal of young mail: one append and one sync for all that wait.

`SegmentWriter` is the thread's side: it owns the open segment and does nothing else.
`Journal` is the reactor's: what waits, and the index of what lies in segments. Spill
and packing are in `retiring`, the start in `replay`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from fwd_mta.interfaces import Disk, DiskFile, WallClock, Worker
from fwd_mta.mail.errors import NoSpace, StoreError
from fwd_mta.queue.commit import seen_to, store_error
from fwd_mta.queue.layout import Layout
from fwd_mta.queue.segment import (
    Item,
    Kind,
    frame,
    header_item,
    octets_offset,
)

SEGMENT_OCTETS = 64 * 1024 * 1024
SEGMENT_MESSAGES = 20_000
SEGMENT_SECONDS = 60.0
_SYNC_WITHIN = 1.0


@dataclass(slots=True, eq=False)
class Mail:
    """A message in the journal: where its octets lie, and the records behind them.

    `due`: when it is to be redacted or purged; None while it is not over. `left`: the
    file in tmp it was spilled to, which the disk did not move to its place.
    """

    id: str
    segment: int
    offset: int
    length: int
    lines: bytes = b""
    due: float | None = None
    doubtful: bool = False
    moving: list[Deferred[None]] | None = None
    left: str = ""


@dataclass(slots=True, eq=False)
class Segment:
    """A segment, open or closed, and what lies in it.

    `pack`: its finished mail is this pack from now on, though not in its place yet;
    `index`: what lies where in that.
    """

    number: int
    opened_at: float
    closed_at: float | None = None
    octets: int = 0
    mails: dict[str, Mail] = field(default_factory=dict)
    pack: tuple[str, str] | None = None
    index: list[tuple[str, int, int]] = field(default_factory=list)


Written = tuple[int, int]  # the segment, and where an item's octets begin in it


class SegmentWriter:
    """Writes segments, on the worker's thread; one call at a time."""

    def __init__(self, disk: Disk, layout: Layout, wall: WallClock, owner: str) -> None:
        self._disk = disk
        self._layout = layout
        self._wall = wall
        self._owner = owner
        self._file: DiskFile | None = None
        self._length = 0
        self._safe = 0
        self._sequence = 0
        self._loose: list[Item] = []
        self.number = 0
        self.previous = (0, 0)

    @property
    def length(self) -> int:
        """Octets in the open segment."""
        return self._length

    @property
    def takes_more(self) -> bool:
        """Whether a segment is open and not full."""
        return self._file is not None and self._length < SEGMENT_OCTETS

    @property
    def open_number(self) -> int | None:
        """The segment that is open, if one is."""
        return self.number if self._file is not None else None

    @property
    def is_dirty(self) -> bool:
        """Whether something was written and not synced."""
        return bool(self._loose)

    def write(self, items: Sequence[Item], *, sync: bool) -> list[Written]:
        """Write items; synced when it returns, if that is wanted. Raises OSError."""
        file = self._file or self._open()
        frames: list[bytes] = []
        places: list[Written] = []
        at = self._length
        for item in items:
            self._sequence += 1
            frames.append(frame(item, self.number, self._sequence, self._safe))
            places.append((self.number, at + octets_offset(item)))
            at += len(frames[-1])
        try:
            if frames:
                file.append(b"".join(frames))
            if sync:
                file.sync()
        except OSError:
            self._abandon()
            raise
        self._length = at
        if sync:
            self._safe = at
            self._loose.clear()
        else:
            self._loose += items
        return places

    def close(self) -> None:
        """Sync and close the segment; the next write opens another. Raises OSError."""
        file = self._file
        if file is None:
            return
        try:
            file.sync()
        except OSError:
            self._abandon()
            raise
        self._safe = self._length
        self._loose.clear()
        self._abandon()

    def _abandon(self) -> None:
        """Never write to it again; what it holds past what is safe is not valid."""
        file, self._file = self._file, None
        self.previous = self.number, self._safe
        if file is not None:
            file.close()

    def _open(self) -> DiskFile:
        """Have a new segment, durably, with what the last one may have lost."""
        number = max(self.number + 1, int(self._wall.now() * 1000))
        self.number = number
        items = [header_item(self._owner, *self.previous), *self._loose]
        octets = b"".join(
            frame(item, number, sequence, 0) for sequence, item in enumerate(items, 1)
        )
        path = self._layout.segment(number)
        file = self._disk.create(path)
        try:
            file.append(octets)
            file.sync()
            self._disk.sync_directory(self._layout.journal)
        except OSError:
            file.close()
            self._remove(path)
            raise
        self._file = file
        self._length = self._safe = len(octets)
        self._sequence = len(items)
        self._loose.clear()
        return file

    def _remove(self, path: str) -> None:
        try:
            self._disk.remove(path)
        except OSError:
            return  # a header that was not promised to anybody


@dataclass(slots=True, eq=False)
class _Waiting:
    item: Item | None
    written: Callable[[Written], None]
    done: Deferred[None]


class Journal:
    """What waits to be written, and the index of all mail that lies in segments."""

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        worker: Worker,
        wall: WallClock,
        clock: IReactorTime,
        owner: str = "",
    ) -> None:
        self._worker = worker
        self._wall = wall
        self._clock = clock
        self._layout = layout
        self.writer = SegmentWriter(disk, layout, wall, owner)
        self.mails: dict[str, Mail] = {}
        self.segments: dict[int, Segment] = {}
        self._waiting: list[_Waiting] = []
        self._running = self._sync_wanted = False
        self._idle: list[Deferred[None]] = []
        self._soon: IDelayedCall | None = None
        self._rotate = False
        self.opened: Callable[[], None] = _nothing
        self.after: Callable[[], None] = _nothing
        self.short: Callable[[], None] = _nothing

    def path(self, mail: Mail) -> str:
        """The place of a message, as a path."""
        return f"{self._layout.segment(mail.segment)}/{mail.id}"

    # Writing

    def accept(
        self, entry_id: str, octets: bytes, accepted: Callable[[Mail], None]
    ) -> Deferred[None]:
        """Write a message; it is durable when `accepted` is called, and then it fires.

        All of a batch are accepted before anything else is told of them.
        """

        def written(place: Written) -> None:
            number, offset = place
            mail = Mail(entry_id, number, offset, len(octets))
            self.mails[entry_id] = mail
            self.segments[number].mails[entry_id] = mail
            accepted(mail)

        return self._write(Item(Kind.MESSAGE, entry_id, octets), True, written)

    def progress(self, mail: Mail, lines: bytes) -> Deferred[None]:
        """Write more records of a message; they survive a kill when it fires."""
        item = Item(Kind.LINES, mail.id, lines)
        if self.writer.takes_more and not (self._running or self._rotate):
            return self._at_once(mail, item)

        def written(_: Written) -> None:
            mail.lines += lines

        return self._write(item, False, written)

    def _at_once(self, mail: Mail, item: Item) -> Deferred[None]:
        """Write a record that waits for no sync, while the thread rests.

        That is a copy to the page cache, as a line of the log is; two changes of
        threads would take ten times as long.
        """
        try:
            self.writer.write((item,), sync=False)
        except BaseException as error:  # noqa: BLE001 - as a job on the thread
            self._note()
            self._sync_soon()
            return fail(store_error(error) if isinstance(error, Exception) else error)
        mail.lines += item.octets
        if self._soon is None:
            self._sync_soon()
        return succeed(None)

    def moved(self, item: Item) -> Deferred[None]:
        """Write that something is a file now; durable when it fires."""
        return self._write(item, True)

    def sync(self) -> Deferred[None]:
        """Fires when all that was written is durable."""
        return self._write(None, True)

    async def rotate(self) -> None:
        """Close the open segment; the next write opens another."""
        self._rotate = True
        await self._write(None, True)

    def at_rest(self, entry_id: str) -> Mail | None:
        """The message if it lies in the journal and is not on its way out."""
        mail = self.mails.get(entry_id)
        return None if mail is None or mail.moving is not None else mail

    async def settled(self, entry_id: str) -> Mail | None:
        """The message if it lies in the journal, once it is not on its way out."""
        while (mail := self.mails.get(entry_id)) is not None:
            if mail.moving is None:
                return mail
            waiting: Deferred[None] = Deferred()
            mail.moving.append(waiting)
            await waiting
        return None

    def _write(
        self,
        item: Item | None,
        sync: bool,
        written: Callable[[Written], None] | None = None,
    ) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._waiting.append(_Waiting(item, written or _ignored, done))
        self._sync_wanted = self._sync_wanted or sync
        if not self._running:
            self._next()
        return done

    def _next(self) -> None:
        if self._running:
            return
        if not self._waiting:
            idle, self._idle = self._idle, []
            for one in idle:
                one.callback(None)
            return
        self._running = True
        batch, self._waiting = self._waiting, []
        items = [one.item for one in batch if one.item is not None]
        sync, self._sync_wanted = self._sync_wanted, False
        rotate, self._rotate = self._rotate or self._is_over(), False
        job = self._worker.run(partial(self._job, items, sync, rotate))
        seen_to(
            job.addCallbacks(self._ended, self._failed, (batch, sync), {}, (batch,), {})
        )

    def _job(self, items: Sequence[Item], sync: bool, rotate: bool) -> list[Written]:
        """On the worker's thread; gives where each item lies."""
        if rotate:
            self.writer.close()
        if items or self.writer.is_dirty:
            return self.writer.write(items, sync=sync)
        return []

    def _ended(self, places: list[Written], batch: list[_Waiting], sync: bool) -> None:
        self._running = False
        self._note()
        if not sync:
            self._sync_soon()
        given = iter(places)
        for one in batch:
            if one.item is not None:
                one.written(next(given))
        self._next()
        for one in batch:
            one.done.callback(None)
        self.after()

    def _failed(self, failure: Failure, batch: list[_Waiting]) -> None:
        self._running = False
        self._note()
        error = failure.value
        told = store_error(error) if isinstance(error, Exception) else error
        if isinstance(told, NoSpace):
            self.short()
        self._sync_soon()
        for one in batch:
            one.done.errback(told)
        self._next()

    def _sync_soon(self) -> None:
        """What was only written is synced within a second, whatever comes."""
        if self._soon is None:
            self._soon = self._clock.callLater(_SYNC_WITHIN, self._sync_now)

    def _sync_now(self) -> None:
        self._soon = None
        if self.writer.is_dirty:
            seen_to(self._write(None, True).addErrback(lambda _: None))

    # Segments

    def _note(self) -> None:
        """Know the segment that is open; all others are closed."""
        now, open_one = self._clock.seconds(), self.writer.open_number
        for other in self.segments.values():
            if other.closed_at is None and other.number != open_one:
                other.closed_at = now
        if open_one is None:
            return
        if open_one not in self.segments:
            self.segments[open_one] = Segment(open_one, now)
            self.opened()
        self.segments[open_one].octets = self.writer.length

    def current(self) -> Segment | None:
        """The segment that is written to, if there is one."""
        return next((s for s in self.segments.values() if s.closed_at is None), None)

    def _is_over(self) -> bool:
        """Whether the open segment is large or old enough."""
        found = self.current()
        return found is not None and (
            found.octets >= SEGMENT_OCTETS
            or len(found.mails) >= SEGMENT_MESSAGES
            or self._clock.seconds() - found.opened_at >= SEGMENT_SECONDS
        )

    def adopt(self, segments: Sequence[Segment]) -> None:
        """Know what a start found: all of it is closed."""
        for segment in segments:
            segment.opened_at = segment.closed_at = self._clock.seconds()
            self.segments[segment.number] = segment
            self.mails.update(segment.mails)
            self.writer.number = max(self.writer.number, segment.number)
        if segments:
            self.opened()

    def forget(self, mail: Mail) -> None:
        """A message lies in the journal no more."""
        self.mails.pop(mail.id, None)
        segment = self.segments.get(mail.segment)
        if segment is not None:
            segment.mails.pop(mail.id, None)

    def leave(self, mail: Mail, source: str) -> None:
        """A message is a file, whose place is not durable: its segment must stay.

        The next start finishes the move by what the segment says.
        """
        self.mails.pop(mail.id, None)
        mail.left = source

    def idle(self) -> Deferred[None]:
        """Fires when nothing is being written and nothing waits."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._next()
        return idle

    async def stop(self) -> None:
        """Note that this is a clean stop, unless a doubt of the start is left; end."""
        doubtful = any(mail.doubtful for mail in self.mails.values())
        try:
            if self.segments and not doubtful:
                await self._write(Item(Kind.STOPPED, "", b""), True)
            self._rotate = True  # nothing more at once: the thread has the file
            await self._worker.run(self.writer.close)
        except (OSError, StoreError):
            return  # the next start sees a stop that was not clean
        finally:
            await self.idle()
            if self._soon is not None:
                self._soon.cancel()
                self._soon = None


def _ignored(place: Written) -> None:
    """Where it lies does not matter."""


def _nothing() -> None:
    """Nobody wants to know."""
