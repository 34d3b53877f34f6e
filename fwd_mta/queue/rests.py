"""Rests of sites over a restart: a small file, replaced whole soon after each change.

Without it a restart would ask every dead site at once, and every site that does not
trust our address, which is what kept us on its list.
"""

import msgspec
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from fwd_mta.events import Emit, Trouble
from fwd_mta.interfaces import Disk, WallClock, Worker
from fwd_mta.net.small_file import read_whole, replace_whole
from fwd_mta.queue.shapes import StoredResult, result_in, result_out
from fwd_mta.queue.sites import Rest, Sites

_SOON = 2.0  # seconds, so that many changes are one write
_OLDEST = 86_400.0  # what ended so long ago says nothing any more


class _StoredRest(msgspec.Struct, frozen=True):
    """One site's rest; times are wall times."""

    name: str
    rests: int
    until: float
    blocks: dict[str, tuple[float, int]]
    last: StoredResult | None = None


_decoder = msgspec.json.Decoder(list[_StoredRest])


class RestsFile:
    """Reads what was kept, and keeps what changes."""

    def __init__(
        self,
        path: str,
        disk: Disk,
        worker: Worker,
        clock: IReactorTime,
        wall: WallClock,
        emit: Emit,
    ) -> None:
        self._path = path
        self._disk = disk
        self._worker = worker
        self._clock = clock
        self._wall = wall
        self._emit = emit
        self._sites: Sites | None = None
        self._timer: IDelayedCall | None = None
        self._turn = DeferredLock()

    async def start(self, sites: Sites) -> None:
        """Take in what was kept; from now on changes are written."""
        try:
            content = await self._worker.run(lambda: read_whole(self._disk, self._path))
            for one in _decoder.decode(content) if content else ():
                self._take(one, sites)
        except Exception as error:  # noqa: BLE001 - mail must go on
            self._say("read", error, "every site is tried anew")
        self._sites = sites
        sites.changed = self._changed

    def _take(self, kept: _StoredRest, sites: Sites) -> None:
        now = self._wall.now()
        ends = [until for until, _ in kept.blocks.values()]
        if max(kept.until, *ends, 0.0) < now - _OLDEST:
            return
        blocks = {
            source: (max(0.0, until - now), times)
            for source, (until, times) in kept.blocks.items()
        }
        last = result_in(kept.last) if kept.last else None
        seconds = max(0.0, kept.until - now)
        sites.remember(Rest(kept.name, kept.rests, seconds, blocks, last))

    def _changed(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(_SOON, self._write_soon)

    def _write_soon(self) -> None:
        self._timer = None
        _ = self._turn.run(self._write_now)

    def _write_now(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._write())

    async def stop(self) -> None:
        """Write a last time, if there is something to write."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
            await self._turn.run(self._write_now)

    async def _write(self) -> None:
        if self._sites is None:
            return
        now = self._wall.now()
        octets = msgspec.json.encode(
            [_stored(one, now) for one in self._sites.resting_now()]
        )
        try:
            await self._worker.run(
                lambda: replace_whole(self._disk, self._path, octets)
            )
        except Exception as error:  # noqa: BLE001 - mail must go on
            self._say("written", error, "it is tried with the next change")

    def _say(self, what: str, error: Exception, cure: str) -> None:
        words = f"{self._path} cannot be {what}: {type(error).__name__}: {error}"
        self._emit(Trouble("rests", words, cure))


def _stored(rest: Rest, now: float) -> _StoredRest:
    blocks = {
        source: (now + seconds, times)
        for source, (seconds, times) in rest.blocks.items()
    }
    last = result_out(rest.last) if rest.last else None
    return _StoredRest(rest.name, rest.rests, now + rest.seconds, blocks, last)
