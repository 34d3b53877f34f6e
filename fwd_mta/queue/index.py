"""The index beside the store: kept up a moment behind it, believed when it is whole.

Derived and disposable: when it is missing, broken or was not closed, answers come from
the files themselves until it has been reconciled with them, in the background. Never on
the path of a 250: what changed is noted in memory and written a moment later, on a
thread of its own; a message that is over by then was written once.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater

from fwd_mta.events import Emit, Lifecycle, Trouble
from fwd_mta.interfaces import Databases, Shape, Tally, Worker
from fwd_mta.mail.entry import EntryFilter, QueueEntry
from fwd_mta.mail.errors import StoreError
from fwd_mta.queue.commit import seen_to
from fwd_mta.queue.index_file import Found, IndexFile, Place
from fwd_mta.queue.layout import parts

T = TypeVar("T")

NAME = "index.sqlite3"
DELAY = 5.0  # seconds that a change may wait for others
_BATCH = 1000  # entries in one write
_MANY = 5000  # that are not kept waiting
_SLICE = 250  # names in one step of a reconciliation
_REST = 0.02  # seconds between two steps of it
_CURE = "lists are read from the files until then; fwdmta fsck --reindex makes it anew"

_Noted = tuple[QueueEntry, str, bool]  # where it lies, and whether it is new
States = Callable[[Sequence[tuple[str, str]]], list[tuple[QueueEntry, Place]]]


class Index:
    """Keeps an index of one tree; `believed` says whether answers may come from it.

    `job` runs something that reads files; `reconciles`: what is not whole is made so,
    in the background.
    """

    def __init__(
        self,
        databases: Databases,
        path: str,
        worker: Worker,
        clock: IReactorTime,
        emit: Emit,
        *,
        reconciles: bool = True,
    ) -> None:
        self._databases = databases
        self._root = parts(path)[0] + "/"
        self._path = path
        self._worker = worker
        self._clock = clock
        self._emit = emit
        self._reconciles = reconciles
        self._file: IndexFile | None = None
        self._changed: dict[str, _Noted] = {}
        self._gone: dict[str, None] = {}
        self._placed: deque[tuple[str, Place]] = deque()
        self._timer: IDelayedCall | None = None
        self._turn = DeferredLock()
        self._seen = False
        self._stopping = False
        self._background: Deferred[None] | None = None
        self.believed = False

    # Its life

    async def start(
        self, names: Callable[[], Iterator[tuple[str, str]]], states: States
    ) -> None:
        """Open it; what is not whole is reconciled with all `names` in background."""
        self._names, self._states = names, states
        self._stopping = False
        try:
            whole = await self._worker.run(self._open)
        except (sqlite3.Error, OSError) as error:
            self._broken(error)
            return
        self.believed = whole
        if not whole and self._reconciles:
            self._reconcile_later()

    def _open(self) -> bool:
        try:
            self._file = IndexFile(self._databases.open(self._path))
            return self._file.begin()
        except sqlite3.DatabaseError:
            # Disposable: what cannot be read is made anew.
            self._databases.remove(self._path)
            self._file = IndexFile(self._databases.open(self._path))
            return self._file.begin()

    async def stop(self) -> None:
        """Write what is left, and close."""
        self._stopping = True
        if self._background is not None:
            await self._background
        await self._flush()
        file, self._file = self._file, None
        whole, self.believed = self.believed, False
        if file is None:
            return
        try:
            await self._worker.run(partial(file.end, whole=whole))
        except sqlite3.Error as error:
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        """Do without it."""
        self._file, self.believed = None, False
        self._changed.clear()
        self._gone.clear()
        self._placed.clear()
        self._emit(Trouble("index", f"{self._path}: {error}", _CURE))

    # What changed

    def put(self, entry: QueueEntry, path: str, *, new: bool = False) -> None:
        """Note an entry's state, and where it lies."""
        if self._file is None:
            return
        known = self._changed.get(entry.id)
        if known is not None:
            new = new or known[2]
        elif self._timer is None:
            self._timer = self._clock.callLater(DELAY, self._flush_now)
        elif len(self._changed) == _MANY:
            self._timer.reset(0)
        self._changed[entry.id] = entry, path, new

    def _place(self, path: str) -> Place:
        return Place(parts(path)[0].removeprefix(self._root))

    def gone(self, ids: Iterable[str]) -> None:
        """Note that some are purged."""
        if self._file is None:
            return
        for one in ids:
            self._changed.pop(one, None)
            self._gone[one] = None
        self._flush_later()

    def placed(self, directory: str, rows: Iterable[tuple[str, int, int]]) -> None:
        """Note where finished messages lie; from any thread."""
        if self._file is not None:
            path = directory.removeprefix(self._root)
            self._placed.extend((name, Place(path, at, n)) for name, at, n in rows)

    def _flush_later(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(DELAY, self._flush_now)

    def _flush_now(self) -> None:
        self._timer = None
        seen_to(Deferred.fromCoroutine(self._flush()))

    async def _flush(self) -> None:
        """Write all that was noted, some at a time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._turn.run(lambda: Deferred.fromCoroutine(self._written()))

    async def _written(self) -> None:
        """Write what was noted by now; what comes meanwhile waits for its own turn."""
        changed, self._changed = list(self._changed.values()), {}
        gone, self._gone = self._gone, {}
        for first in range(0, len(changed), _BATCH):
            some = changed[first : first + _BATCH]
            await self._ask(partial(self._write, some, seen=self._seen))
        count = len(self._placed)
        placed = [self._placed.popleft() for _ in range(count)]
        for first in range(0, count, _BATCH):
            rows = placed[first : first + _BATCH]
            await self._ask(lambda file, r=rows: file.write((), (), r))  # type: ignore[misc]
        if gone:
            await self._ask(lambda file: file.write((), gone, ()))
            await self._ask(IndexFile.checkpoint)

    def _write(self, some: Sequence[_Noted], file: IndexFile, *, seen: bool) -> None:
        """On its thread: a reconciliation (`seen`) may have met them already."""
        rows = [
            (entry, self._place(path), new and not seen) for entry, path, new in some
        ]
        file.write(rows, (), (), seen=seen)

    async def _ask(self, ask: Callable[[IndexFile], T]) -> T | None:
        """Ask it on its thread; None when it is broken, which it then stays."""
        file = self._file
        if file is None:
            return None
        try:
            return await self._worker.run(lambda: ask(file))
        except sqlite3.Error as error:
            self._broken(error)
            return None

    # Asking

    async def find(self, wanted: EntryFilter, limit: int) -> Found | None:
        """Ids and places; None when it cannot be believed."""
        return await self._answer(lambda file: file.find(wanted, limit))

    async def tally(self, wanted: EntryFilter) -> Tally | None:
        """A part of a count; None when it cannot be believed."""
        return await self._answer(lambda file: file.tally(wanted))

    async def shape(self, by: str, now: float, after: str) -> Shape | None:
        """A part of the shape; None when it cannot be believed."""
        return await self._answer(lambda file: file.shape(by, now, after))

    async def older_than(self, at: float) -> int:
        """How many it knows of that should be gone."""
        return await self._ask(lambda file: file.older_than(at)) or 0

    async def _answer(self, ask: Callable[[IndexFile], T]) -> T | None:
        if not self.believed:
            return None
        if self._changed or self._gone or self._placed:
            await self._flush()
        return await self._ask(ask)

    # Made anew

    async def remake(self) -> None:
        """Forget all of it, and read every file, in the background."""
        if self._file is None:
            await self._worker.run(partial(self._databases.remove, self._path))
            await self._worker.run(self._open)
        self.believed = False
        await self._ask(IndexFile.empty)
        self._reconcile_later()

    async def remade(self) -> bool:
        """Wait until it is whole; whether it is."""
        if self._background is not None:
            await self._background
        return self.believed

    def _reconcile_later(self) -> None:
        if self._background is None:
            working = Deferred.fromCoroutine(self._reconcile())
            waiting: Deferred[None] = Deferred()
            self._background = waiting

            def over(result: object) -> None:
                self._background = None
                waiting.callback(None)

            seen_to(working.addBoth(over))

    async def _reconcile(self) -> None:
        """Look at every name there is, read what may have changed, forget the rest."""
        self._seen = True
        names = self._names()
        number = 0
        while some := await self._next(names):
            number += len(some)
            unsettled = await self._ask(
                lambda file, s=some: file.unsettled([name for name, _ in s])  # type: ignore[misc]
            )
            if unsettled is None or self._stopping:
                self._seen = False
                return
            wanted = [one for one in some if one[0] in frozenset(unsettled)]
            await self._turn.run(self._read, wanted)
            await deferLater(self._clock, _REST)
        await self._flush()
        while unseen := await self._ask(IndexFile.unseen):
            gone = tuple(unseen)
            await self._ask(lambda file, g=gone: file.write((), g, ()))  # type: ignore[misc]
        self._seen = False
        await self._ask(IndexFile.forget_seen)
        await self._ask(IndexFile.checkpoint)
        self.believed = self._file is not None
        if self.believed:
            self._emit(Lifecycle(f"the index is whole: {number} messages"))

    async def _next(self, names: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
        try:
            return await self._worker.run(lambda: list(islice(names, _SLICE)))
        except (OSError, StoreError) as error:
            self._emit(Trouble("index", f"cannot be reconciled: {error}", _CURE))
            return []

    async def _read(self, paths: Sequence[tuple[str, str]]) -> None:
        """Read states, in our turn: what changes meanwhile is written after them."""
        read = await self._worker.run(partial(self._states, paths))
        rows = [
            (entry, place, False)
            for entry, place in read
            if entry.id not in self._changed and entry.id not in self._gone
        ]
        await self._ask(lambda file: file.write(rows, (), (), seen=True))
