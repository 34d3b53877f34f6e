"""Out of the journal: what stays becomes a file, what is finished goes into a pack.

Both have one commit point, a `moved` in the journal (docs/crashes.md, spill and pack).
Segments go in order, so that none needs one that is gone.
"""

from collections.abc import Sequence
from functools import partial

from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.queue.commit import seen_to
from fwd_mta.queue.journal import SEGMENT_SECONDS, Mail, Segment
from fwd_mta.queue.layout import pack_name
from fwd_mta.queue.leases import Leases
from fwd_mta.queue.ledger import Ledger
from fwd_mta.queue.operations import Filed
from fwd_mta.queue.segment import moved_item
from fwd_mta.queue.spill import Spill
from fwd_mta.queue.tree import value
from fwd_mta.rules.identity import made_at

_EVERY = 5.0
_LATE = 600_000.0  # a segment is named in milliseconds; clocks may be set a little


class Retirement:
    """Looks at the segments every few seconds while there are any."""

    def __init__(
        self, leases: Leases, ledger: Ledger, spill: Spill, clock: IReactorTime
    ) -> None:
        self._tree = leases.tree
        self._all = leases
        self._ledger = ledger
        self._spill = spill
        self._journal = leases.tree.journal
        self._journal.opened = self._look_soon
        self._clock = clock
        self._lane = leases.tree.lane()
        self._turn = DeferredLock()
        self._timer: IDelayedCall | None = None
        self._stopping = False
        self._packed = 0

    def start(self) -> None:
        """Look from now on."""
        self._stopping = False
        self._look_soon()

    async def stop(self) -> None:
        """Look no more; what is under way is finished."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._turn.run(lambda: None)
        await self._lane.idle()

    def _look_soon(self) -> None:
        if self._timer is None and not self._stopping and self._journal.segments:
            self._timer = self._clock.callLater(_EVERY, self._look)

    def _look(self) -> None:
        self._timer = None
        looked = Deferred.fromCoroutine(self.retire())
        seen_to(looked.addBoth(lambda _: self._look_soon()))

    async def sweep(self, now: float) -> None:
        """Have no content in the journal that is due to go."""
        if any(m.due is not None and m.due <= now for m in self._mails()):
            await self.retire(at_once=True)

    async def redacting(self, entry_id: str) -> None:
        """Have no content of a message in the journal, wherever it lies itself."""
        came = made_at(entry_id) * 1000
        recent = any(number <= came + _LATE for number in self._journal.segments)
        if recent or entry_id in self._journal.mails:
            await self.retire(at_once=True)

    def _mails(self) -> list[Mail]:
        return list(self._journal.mails.values())

    async def retire(self, *, at_once: bool = False) -> None:
        """Retire segments that are closed, in order; `at_once` all there are."""
        await self._turn.run(
            lambda: Deferred.fromCoroutine(self._retire(at_once=at_once))
        )

    async def _retire(self, *, at_once: bool) -> None:
        try:
            await self._close(at_once=at_once)
            for number in sorted(self._journal.segments):
                segment = self._journal.segments[number]
                if segment.closed_at is None or self._stopping:
                    return
                if not await self._emptied(segment, at_once=at_once):
                    return
                await self._remove(segment)
        except StoreError as error:
            self._tree.say("journal", f"cannot be put away: {error}", "tried again")

    async def _close(self, *, at_once: bool) -> None:
        """Close the open segment when it is old."""
        current = self._journal.current()
        if current is None:
            return
        age = self._clock.seconds() - current.opened_at
        if at_once or age >= SEGMENT_SECONDS:
            await self._journal.rotate()

    async def _emptied(self, segment: Segment, *, at_once: bool) -> bool:
        """Whether nothing is left in a segment."""
        closed = segment.closed_at or 0.0
        await self._forget_moved(segment)
        here = [mail for mail in segment.mails.values() if not mail.left]
        waiting = [mail for mail in here if mail.due is None]
        if waiting:
            if not at_once and self._clock.seconds() - closed < SEGMENT_SECONDS:
                return False
            await gatherResults(
                [Deferred.fromCoroutine(self._out(mail)) for mail in waiting]
            )
        here = [mail for mail in segment.mails.values() if not mail.left]
        finished = [mail for mail in here if mail.moving is None]
        if any(mail.due is None for mail in finished):
            return False
        if finished:
            await self._pack(segment, finished)
        return not segment.mails

    async def _forget_moved(self, segment: Segment) -> None:
        """Forget what was left in tmp, and has its place by now, durably."""
        left = [mail for mail in segment.mails.values() if mail.left]
        if not left:
            return
        disk, tmp = self._tree.disk, self._tree.layout.tmp

        def look() -> list[Mail]:
            gone = [mail for mail in left if not disk.exists(mail.left)]
            if gone:
                disk.sync_directory(tmp)
            return gone

        for mail in await self._tree.job(look):
            self._journal.forget(mail)

    async def _out(self, mail: Mail) -> None:
        """Spill a message that is still open."""
        if await self._journal.settled(mail.id) is not mail or mail.due is not None:
            return
        try:
            if self._all.get(mail.id) is not None:
                await self._spill.run(mail, b"", self._tree.layout.incoming)
            else:
                await self._out_of_nobody(mail)
        except StoreError as error:
            self._tree.say(mail.id, f"cannot be filed: {error}", "it is tried again")

    async def _out_of_nobody(self, mail: Mail) -> None:
        """Spill what nobody has at the moment, with its doubt written down."""
        path = self._journal.path(mail)
        lease = self._all.lease(mail.id, path)
        reader = self._tree.reader
        try:
            state = await self._tree.job(lambda: reader.state(path))
            if state.records.doubt:
                await self._ledger.doubt(state, release=True)
                return
            await self._spill.run(mail, b"", self._all.home(state.entry))
        except Corrupt as damage:
            self._all.drop(mail.id)
            await self._spill.set_aside(path, damage)
            return
        except StoreError:
            self._all.drop(mail.id)
            self._all.agenda.add(mail.id, self._tree.wall.now(), path)
            raise
        self._all.free(state.entry, lease.path)
        self._all.tell()

    async def _pack(self, segment: Segment, mails: Sequence[Mail]) -> None:
        """Put finished mail into a pack; what was committed is only moved again."""
        if segment.pack is None:
            segment.pack = await self._committed(segment, mails)
        source, target = segment.pack
        operations = self._tree.operations
        filed = await self._lane.run(
            source, lambda: operations.move(source, target), value
        )
        assert isinstance(filed, Filed)  # noqa: S101 - what `move` gives
        if filed.path != target:
            raise StoreError(f"{source} is not in its place: {filed.trouble}")
        self._tree.finished.placed(target, segment.index)
        for mail in mails:
            self._journal.forget(mail)

    async def _committed(
        self, segment: Segment, mails: Sequence[Mail]
    ) -> tuple[str, str]:
        """Write a pack to tmp, and in the journal that it counts; where it goes."""
        layout, now = self._tree.layout, self._tree.wall.now()
        await self._journal.sync()
        ids = [mail.id for mail in mails]
        name = pack_name(min(ids), max(ids), segment.number)
        due = min(mail.due or now for mail in mails)
        self._packed += 1
        source = f"{layout.tmp}/{name}.{self._packed}"
        target = f"{layout.hour(due, now)}/{name}"
        packs = self._tree.packs
        written = await self._lane.run(
            source, lambda: packs.write(source, mails), value
        )
        segment.index = written if isinstance(written, list) else []
        await self._journal.moved(moved_item(str(segment.number), source, target))
        return source, target

    async def _remove(self, segment: Segment) -> None:
        path = self._tree.layout.segment(segment.number)
        operations = self._tree.operations
        await self._lane.run(path, partial(operations.remove, path), value)
        self._journal.segments.pop(segment.number, None)
