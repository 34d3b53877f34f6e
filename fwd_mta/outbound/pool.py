"""Connections kept for the next message, and how many there may be to one host."""

from collections import deque
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from fwd_mta.mail.errors import Interrupted
from fwd_mta.mail.route import Host, TlsLevel, TlsMode
from fwd_mta.outbound.connection import Connection
from fwd_mta.rules.security import Demand

_LEAVE = 1.0


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Limits: connections to one host, messages on one connection, idle seconds."""

    per_host: int = 20
    messages: int = 100
    idle: float = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """What makes two connections alike enough for one to serve for the other.

    `in_clear`: TLS was tried with that host and failed; `demand`: what it has proved.
    """

    host: Host
    source: str | None = None
    tls: TlsLevel = TlsLevel.MAY
    tls_mode: TlsMode = TlsMode.STARTTLS
    in_clear: bool = False
    lmtp: bool = False
    login: str | None = None
    demand: Demand = field(default_factory=Demand)


@dataclass(slots=True)
class Lease:
    """The right to one connection; `connection` is a kept one, or None to make one."""

    line: Line
    connection: Connection | None = None


@dataclass(slots=True, eq=False)
class _Kept:
    line: Line
    connection: Connection
    timer: IDelayedCall | None = None


@dataclass(slots=True)
class _Site:
    """One host's connections: in use, idle (latest last), and who waits for one."""

    used: int = 0
    idle: list[_Kept] = field(default_factory=list)
    waiting: deque[tuple[Line, Deferred[Lease]]] = field(default_factory=deque)


class Pool:
    """Gives leases on connections; what is given back in order is kept a while."""

    def __init__(self, clock: IReactorTime, settings: PoolSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._sites: dict[tuple[str, int], _Site] = {}
        self._leaving: set[Deferred[None]] = set()
        self._is_stopped = False

    def take(self, line: Line) -> Deferred[Lease]:
        """Fires with a lease as soon as the host's limit allows one.

        Fails with Interrupted when the pool stops.
        """
        if self._is_stopped:
            return fail(Interrupted("the server is stopping"))
        site = self._sites.setdefault(_site(line), _Site())
        lease = self._lease(site, line)
        if lease is not None:
            return succeed(lease)
        waiting: Deferred[Lease] = Deferred(lambda _: site.waiting.remove(place))
        place = (line, waiting)
        site.waiting.append(place)
        return waiting

    def give_back(
        self, lease: Lease, connection: Connection | None, *, keep: bool = True
    ) -> None:
        """End a lease; with `keep` the connection waits for the next message."""
        site = self._sites[_site(lease.line)]
        site.used -= 1
        if connection is not None and not keep:
            self._leave(connection)
        elif connection is not None:
            self._keep(site, lease.line, connection)
        while site.waiting:
            line, waiting = site.waiting[0]
            following = self._lease(site, line)
            if following is None:
                break
            site.waiting.popleft()
            waiting.callback(following)
        self._forget(lease.line, site)

    async def stop(self) -> None:
        """Close what is idle, refuse who waits; leases in use end as they end."""
        self._is_stopped = True
        for site in list(self._sites.values()):
            for kept in list(site.idle):
                self._dismiss(site, kept, _LEAVE)
            while site.waiting:
                _, waiting = site.waiting.popleft()
                waiting.errback(Interrupted("the server is stopping"))
        self._sites = {key: site for key, site in self._sites.items() if site.used}
        await gatherResults(list(self._leaving))

    def _lease(self, site: _Site, line: Line) -> Lease | None:
        """An idle connection of that line, or room for a new one, or nothing now."""
        for kept in reversed(site.idle):
            if kept.line == line:
                self._unkeep(site, kept)
                site.used += 1
                return Lease(line, kept.connection)
        if site.used + len(site.idle) >= self._settings.per_host and site.idle:
            self._dismiss(site, site.idle[0])
        if site.used + len(site.idle) >= self._settings.per_host:
            return None
        site.used += 1
        return Lease(line)

    def _keep(self, site: _Site, line: Line, connection: Connection) -> None:
        worn = connection.messages >= self._settings.messages
        if not connection.usable or worn or self._is_stopped:
            self._leave(connection)
            return
        kept = _Kept(line, connection)
        idle = self._settings.idle
        kept.timer = self._clock.callLater(idle, self._give_up, site, kept)
        connection.on_trouble = lambda: self._give_up(site, kept)
        site.idle.append(kept)

    def _unkeep(self, site: _Site, kept: _Kept) -> None:
        site.idle.remove(kept)
        kept.connection.on_trouble = None
        if kept.timer is not None and kept.timer.active():
            kept.timer.cancel()

    def _dismiss(self, site: _Site, kept: _Kept, seconds: float | None = None) -> None:
        self._unkeep(site, kept)
        self._leave(kept.connection, seconds)

    def _give_up(self, site: _Site, kept: _Kept) -> None:
        self._dismiss(site, kept)
        self._forget(kept.line, site)

    def _leave(self, connection: Connection, seconds: float | None = None) -> None:
        leaving = connection.leave(seconds)
        if not leaving.called:
            left = leaving.addCallback(lambda _: self._leaving.discard(leaving))
            self._leaving.add(left)

    def _forget(self, line: Line, site: _Site) -> None:
        is_empty = not (site.used or site.idle or site.waiting)
        if is_empty and self._sites.get(_site(line)) is site:
            del self._sites[_site(line)]


def _site(line: Line) -> tuple[str, int]:
    return line.host.address, line.host.port
