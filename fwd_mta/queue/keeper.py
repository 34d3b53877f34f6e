"""The sweep, every 30 seconds: content and records go when their time has come (P8)."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from fwd_mta.events import Emit, Receipt, Trouble
from fwd_mta.interfaces import QueueKeeper, Swept, WallClock

SWEEP_EVERY = 30.0
_DAY = 86_400.0
_HOUR = 3600.0


class Keeper:
    """Sweeps a store, one sweep at a time; a failed one is reported and tried again.

    After the wall clock jumped by more than a day it waits until both clocks have
    agreed for an hour: a wrong date must not remove anything.
    """

    def __init__(
        self, store: QueueKeeper, clock: IReactorTime, wall: WallClock, emit: Emit
    ) -> None:
        self._store = store
        self._clock = clock
        self._wall = wall
        self._emit = emit
        self._loop = LoopingCall(self._sweep_later)
        self._loop.clock = clock
        self.every = SWEEP_EVERY
        self._ended: Deferred[LoopingCall] | None = None
        self._offset = 0.0
        self._distrusted_until = 0.0

    def start(self) -> None:
        """Sweep now, and then every 30 seconds (`every`)."""
        self._offset = self._wall.now() - self._clock.seconds()
        self._distrusted_until = self._clock.seconds()
        self._ended = self._loop.start(self.every)

    async def stop(self) -> None:
        """Begin no sweep any more, and wait for the one that runs."""
        ended, self._ended = self._ended, None
        if ended is not None:
            if self._loop.running:
                self._loop.stop()
            await ended

    def _sweep_later(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._sweep())

    async def _sweep(self) -> None:
        if not self._clocks_agree():
            return
        try:
            self._tell(await self._store.sweep(self._wall.now()))
        except Exception as error:  # noqa: BLE001 - the next sweep must come
            what = f"the sweep failed: {type(error).__name__}: {error}"
            self._emit(Trouble("keeper", what, "it is tried again in 30 seconds"))

    def _tell(self, swept: Swept) -> None:
        """Give a receipt of what was done, if anything was."""
        if swept.redacted or swept.purged:
            self._emit(Receipt(swept.redacted, swept.purged, swept.digest))

    def _clocks_agree(self) -> bool:
        """Whether the wall clock went as far as the timers' clock, for an hour now."""
        seconds = self._clock.seconds()
        offset = self._wall.now() - seconds
        if abs(offset - self._offset) > _DAY:
            self._distrusted_until = seconds + _HOUR
            what = f"the clock was set by {offset - self._offset:.0f} seconds"
            cure = "nothing is redacted or purged for an hour; check the clock"
            self._emit(Trouble("keeper", what, cure))
        self._offset = offset
        return seconds >= self._distrusted_until
