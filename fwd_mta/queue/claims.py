"""Giving out what is due: from memory, from the minutes on the disk as they begin."""

from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from itertools import islice

from twisted.internet.defer import Deferred, DeferredLock, gatherResults

from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.queue.commit import Outcome, seen_to
from fwd_mta.queue.layout import MINUTE, parts
from fwd_mta.queue.leases import Leases
from fwd_mta.queue.ledger import Ledger
from fwd_mta.queue.operations import Filed
from fwd_mta.queue.reading import Look, State
from fwd_mta.queue.record import NewerFormat
from fwd_mta.queue.spill import Spill
from fwd_mta.queue.tree import value
from fwd_mta.rules.identity import is_entry_id

_NAMES_AT_ONCE = 100
_READ_AGAIN = 60.0

Placed = tuple[str, str]  # an id and its path


class Claims:
    """One claim after the other; the work of one follows what is due (P7)."""

    def __init__(self, leases: Leases, ledger: Ledger, spill: Spill) -> None:
        self._tree = leases.tree
        self._all = leases
        self._ledger = ledger
        self._spill = spill
        self._agenda = leases.agenda
        self._young = leases.young
        self._turn = DeferredLock()
        self._names: Iterator[str] | None = None
        self._tidied_at = 0.0

    def claim(self, now: float, count: int) -> Awaitable[list[QueueEntry]]:
        """Entries due by now, earliest first; one claim after the other."""
        return self._turn.run(lambda: Deferred.fromCoroutine(self._claim(now, count)))

    async def _claim(self, now: float, count: int) -> list[QueueEntry]:
        claimed: list[QueueEntry] = []
        while len(claimed) < count:
            minute = self._agenda.minute_to_read(now)
            if minute is not None:
                await self._read_names(minute, now)
                continue
            wanted = self._agenda.take(now, count - len(claimed))
            if not wanted:
                break
            claimed += await self._claimed(wanted, now)
        self._tidy(now)
        return claimed

    async def _claimed(self, wanted: Sequence[Placed], now: float) -> list[QueueEntry]:
        """Lease what is wanted, from memory or read; what is not due goes back."""
        kept: dict[str, QueueEntry] = {}
        unread: list[Placed] = []
        for entry_id, path in wanted:
            self._all.lease(entry_id, path)
            entry = self._young.entry(entry_id)
            if entry is None:
                unread.append((entry_id, path))
            else:
                kept[entry_id] = entry
        kept.update((entry.id, entry) for entry in await self._looked(unread, now))
        in_order = [kept[entry_id] for entry_id, _ in wanted if entry_id in kept]
        return [entry for entry in in_order if self._give_out(entry, now)]

    def _give_out(self, entry: QueueEntry, now: float) -> bool:
        """Whether it is due, and claimed from now on; else it goes back."""
        lease = self._all.lease(entry.id)
        if not entry.owed and (entry.due or now) > now:
            self._all.free(entry, lease.path)
            return False
        lease.entry, lease.claimed = entry, True
        return True

    async def _read_names(self, minute: str, now: float) -> None:
        """Take some more names of the minute being read, and what they say."""
        if self._names is None:
            self._names = self._tree.disk.scan(minute)
        names = self._names
        try:
            some = await self._tree.job(lambda: list(islice(names, _NAMES_AT_ONCE)))
        except StoreError as error:
            self._tree.say(minute, f"cannot be read: {error}", "it is tried again")
            self._agenda.expect(minute, now + _READ_AGAIN)
            some = []
        if len(some) < _NAMES_AT_ONCE:
            self._names = None
            self._agenda.was_read()
        await self._take_in([(name, f"{minute}/{name}") for name in some], now)

    async def _take_in(self, found: Sequence[Placed], now: float) -> None:
        new = []
        for name, path in found:
            if not is_entry_id(name):
                await self._tree.set_aside(
                    path, "is no message of ours", self._all.lane
                )
            elif not self._all.knows(name):
                self._all.lease(name, path)
                new.append((name, path))
        for entry in await self._looked(new, now):
            self._all.free(entry, self._all.path(entry.id))
            if entry.id in self._agenda:
                self._young.put(entry)

    async def _looked(self, wanted: Sequence[Placed], now: float) -> list[QueueEntry]:
        """Read leased entries; gives those in order, and sees to the others."""
        if not wanted:
            return []
        reader = self._tree.reader
        looks = await self._tree.job(lambda: [reader.look(path) for _, path in wanted])
        judged = [
            Deferred.fromCoroutine(self._judged(entry_id, look, now))
            for (entry_id, _), look in zip(wanted, looks, strict=True)
        ]
        return [one for one in await gatherResults(judged) if one is not None]

    async def _judged(self, entry_id: str, look: Look, now: float) -> QueueEntry | None:
        """A leased entry if it is in order; else it is seen to, and leased no more."""
        if look.state is None:
            await self._cannot_use(entry_id, look, now)
        elif await self._in_order(look.state, now):
            return look.state.entry
        return None

    async def _cannot_use(self, entry_id: str, look: Look, now: float) -> None:
        """A leased entry that was not read: set aside, tried again, or not there."""
        self._young.drop(entry_id)
        self._all.drop(entry_id)
        if isinstance(look.error, Corrupt):
            await self._spill.set_aside(look.path, look.error)
        elif isinstance(look.error, NewerFormat):
            self._tree.say(look.path, look.error)
        elif not isinstance(look.error, FileNotFoundError):
            self._tree.say(look.path, f"cannot be read: {look.error}", "tried again")
            self._agenda.add(entry_id, now + _READ_AGAIN, look.path)

    async def _in_order(self, state: State, now: float) -> bool:
        """Whether an entry is as its place says; otherwise it is recorded or filed."""
        entry = state.entry
        if state.torn:
            self._tree.operations.spoil(entry.id, state.good_length)
        if state.records.doubt:
            await self._doubt(state, now)
            return False
        if entry.owed:
            return True
        waits = not entry.is_final and entry.held is None
        home = self._all.home(entry)
        if waits and (
            (entry.due or now) <= now + MINUTE
            or parts(state.path)[0] == home
            or self._tree.layout.is_young(state.path)
        ):
            return True
        finished = partial(self._filed, entry, state.path)
        script = partial(self._tree.operations.file, entry.id, state.path, home)
        await self._all.lane.run(entry.id, script, finished)
        return False

    def _filed(self, entry: QueueEntry, path: str, outcome: Outcome) -> None:
        filed = Filed(path) if outcome.error else outcome.value
        trouble = outcome.error or filed.trouble
        if trouble:
            self._tree.say(entry.id, f"cannot be filed: {trouble}", "it is tried again")
        self._all.free(entry, filed.path)

    async def _doubt(self, state: State, now: float) -> None:
        """Write down that a final dot went out before we died, and wait (P2)."""
        entry_id = state.entry.id
        try:
            await self._ledger.doubt(state, release=True)
        except StoreError as error:
            self._tree.say(entry_id, error, "it is tried again")
            self._all.drop(entry_id)
            self._agenda.add(entry_id, now + _READ_AGAIN, state.path)

    def _tidy(self, now: float) -> None:
        """Remove minutes that were read and are empty by now, once in a while."""
        if abs(now - self._tidied_at) < MINUTE:
            return
        self._tidied_at = now
        for directory in self._agenda.read_minutes():
            script = partial(self._tree.operations.tidy, directory)
            tidied = self._all.lane.run(directory, script, value)
            seen_to(tidied.addCallbacks(partial(self._tidied, directory), _quietly))

    def _tidied(self, directory: str, gone: object) -> None:
        if gone:
            self._agenda.close(directory)


def _quietly(failure: object) -> None:
    """A directory that cannot be removed now is tried again with the next claim."""
