"""The page of figures: `/metrics` for Prometheus, `/healthz` and `/readyz`.

Doorway: `MetricsPage(metrics, ready, clock)`, a factory to listen with at
`metrics.address`. Nothing else is served there, and nothing is asked of who comes: keep
the address on loopback, or behind a wall.
"""

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import NoResource, Resource
from twisted.web.server import Request, Site
from typing_extensions import override

from fwd_mta.events import Emit, Trouble
from fwd_mta.interfaces import Census, QueueKeeper, WallClock
from fwd_mta.mail.errors import StoreError
from fwd_mta.net.metrics import Metrics, Reading

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_IDLE = 30
COUNT_EVERY = 60.0


class Gauges:
    """Counts what waits every minute, in the background, for the page to show."""

    def __init__(
        self,
        metrics: Metrics,
        store: QueueKeeper,
        clock: IReactorTime,
        wall: WallClock,
        emit: Emit,
    ) -> None:
        self._store = store
        self._wall = wall
        self._emit = emit
        self._last: Census | None = None
        self._loop = LoopingCall(self._count_later)
        self._loop.clock = clock
        self._ended: Deferred[LoopingCall] | None = None
        metrics.show(
            *(
                Reading(
                    "queue_messages",
                    "Messages that wait",
                    partial(self._figure, place),
                    "place",
                    place,
                )
                for place in ("incoming", "deferred", "held")
            ),
            Reading("oldest_message_seconds", "Age of the oldest", self._age),
        )

    def start(self) -> None:
        """Count now, and every minute from now on."""
        self._ended = self._loop.start(COUNT_EVERY)

    async def stop(self) -> None:
        """Wait for a count that runs, and begin no other."""
        ended, self._ended = self._ended, None
        if ended is not None:
            if self._loop.running:
                self._loop.stop()
            await ended

    def _count_later(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._count())

    async def _count(self) -> None:
        try:
            self._last = await self._store.census()
        except StoreError as error:
            self._last = None
            self._emit(Trouble("metrics", f"the queue cannot be counted: {error}"))

    def _figure(self, place: str) -> float | None:
        """One figure of the last count; None before the first."""
        figure: float | None = getattr(self._last, place, None)
        return figure

    def _age(self) -> float | None:
        """How long the oldest message that waits is here; 0 when none does."""
        if self._last is None:
            return None
        oldest = self._last.oldest
        return 0.0 if oldest is None else max(0.0, self._wall.now() - oldest)


class _Page(Resource):
    """One page; its text is made when it is asked for."""

    def __init__(self, make: Callable[[], tuple[int, bytes]]) -> None:
        super().__init__()
        self._make = make

    def render_GET(self, request: Request) -> bytes:  # noqa: N802 - Twisted's name
        """Answer GET, and HEAD by it."""
        status, text = self._make()
        request.setResponseCode(status)
        request.setHeader(b"content-type", _TEXT)
        return text


class _Root(Resource):
    """What is there, and the same short word for all that is not."""

    @override
    def getChild(self, path: bytes, request: Request) -> Resource:
        return NoResource()


class MetricsPage(Site):
    """Serves the figures of one server."""

    noisy = False

    def __init__(
        self,
        metrics: Metrics,
        ready: Callable[[], str],
        clock: IReactorTime,
    ) -> None:
        root = _Root()
        root.putChild(b"metrics", _Page(lambda: (200, metrics.text())))
        root.putChild(b"healthz", _Page(lambda: (200, b"ok\n")))
        root.putChild(b"readyz", _Page(lambda: _readiness(ready())))
        super().__init__(root, timeout=_IDLE, reactor=clock)

    @override
    def log(self, request: HttpRequest) -> None:
        """Write no line for a scrape."""


def _readiness(reason: str) -> tuple[int, bytes]:
    """200 when there is no reason against; else 503 and the reason."""
    return (503, f"{reason}\n".encode()) if reason else (200, b"ready\n")
