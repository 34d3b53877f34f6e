"""The live server looks at itself, a little each minute: what it finds is a defect.

Doorway: `Auditor`. It asks what the simulation asks of every life: whether memory is
bounded, whether due mail is taken, and whether records are sound, some of what is near
each time. A look costs at most sixteen small reads, however much waits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from fwd_mta.events import Emit, Trouble
from fwd_mta.interfaces import WallClock
from fwd_mta.mail.entry import QueueEntry
from fwd_mta.queue.agenda import LOOKAHEAD
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.soundness import flaws, is_beyond

LOOK_EVERY = 60.0
_SAMPLE = 16
_OVERDUE = 300.0
_LOOKS = 3  # in a row, before due mail that is not taken counts


class Audited(Protocol):
    """What the auditor needs of a store."""

    @property
    def near(self) -> int:
        """How many messages are known by id."""

    async def sample(self, after: str, count: int) -> Sequence[QueueEntry]:
        """The next of those behind an id, as they are on the disk now."""

    def next_due(self) -> float | None:
        """The earliest time that mail is due at."""


class Auditor:
    """Counts what is broken in `found`, which reads 0; tells of each find."""

    def __init__(
        self,
        store: Audited,
        clock: IReactorTime,
        wall: WallClock,
        emit: Emit,
        schedule: Callable[[], RetrySchedule],
        takes_more: Callable[[], bool],
    ) -> None:
        self._store = store
        self._wall = wall
        self._emit = emit
        self._schedule = schedule
        self._takes_more = takes_more
        self._loop = LoopingCall(self._look_later)
        self._loop.clock = clock
        self._ended: Deferred[LoopingCall] | None = None
        self._after = ""
        self._late = 0
        self.every = LOOK_EVERY
        self.found = 0

    def start(self) -> None:
        """Look each minute (`every`)."""
        self._ended = self._loop.start(self.every, now=False)

    async def stop(self) -> None:
        """Look no more."""
        ended, self._ended = self._ended, None
        if ended is not None:
            if self._loop.running:
                self._loop.stop()
            await ended

    def _look_later(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look())

    async def _look(self) -> None:
        try:
            entries = await self._store.sample(self._after, _SAMPLE)
        except Exception as error:  # noqa: BLE001 - the next look must come
            what = f"looking failed: {type(error).__name__}: {error}"
            self._emit(Trouble("auditor", what, "it looks again in a minute"))
            return
        self._after = entries[-1].id if len(entries) == _SAMPLE else ""
        for words in (*self._memory(), *self._dues(), *self._records(entries)):
            self.found += 1
            cure = "this is a defect or damage: run fwdmta fsck, and report it"
            self._emit(Trouble("auditor", words, cure))

    def _memory(self) -> Iterator[str]:
        if self._store.near > LOOKAHEAD + _SAMPLE:
            yield f"{self._store.near} messages are known by id, over {LOOKAHEAD}"

    def _dues(self) -> Iterator[str]:
        """Mail that is due for long, and nobody takes it although there is room."""
        due, now = self._store.next_due(), self._wall.now()
        is_late = due is not None and due < now - _OVERDUE and self._takes_more()
        self._late = self._late + 1 if is_late else 0
        if self._late == _LOOKS and due is not None:
            yield f"mail is due since {now - due:.0f} seconds and is not tried"

    def _records(self, entries: Sequence[QueueEntry]) -> Iterator[str]:
        now, schedule = self._wall.now(), self._schedule()
        for entry in entries:
            for words in flaws(entry):
                yield f"message {entry.id}: {words}"
            if is_beyond(entry, schedule, now):
                yield f"message {entry.id}: it waits for a time beyond its schedule"
