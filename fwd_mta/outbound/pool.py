"""Connections kept for the next message, and how many there may be to one host."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from fwd_mta.mail.errors import Interrupted
from fwd_mta.mail.route import Host, TlsLevel, TlsMode
from fwd_mta.outbound.connection import Connection
from fwd_mta.rules.security import Demand

_LEAVE = 1.0
_SINGLES = 10_000
_SINGLE_FOR = 3600.0


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


@dataclass(slots=True, eq=False)
class Lease:
    """The right to one connection; `connection` is a kept one, or None to make one.

    `follower` has the connection next, and begins to use it before this one ends.
    """

    line: Line
    connection: Connection | None = None
    follower: "Lease | None" = None


@dataclass(slots=True, eq=False)
class _Kept:
    line: Line
    connection: Connection
    until: float


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
        self._offered: Lease | None = None
        self._singles: dict[tuple[str, int], float] = {}
        self._timer: IDelayedCall | None = None

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
        if lease.follower is not None:
            return
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

    # What is there at once

    def ready(self, line: Line) -> Connection | None:
        """The connection that a lease would come with now, if there is one."""
        offered = self._offered
        if offered is not None and (offered.line is line or offered.line == line):
            return offered.connection
        site = self._sites.get(_site(line))
        kept = self._kept(site, line) if site is not None else None
        return kept.connection if kept is not None else None

    def take_ready(self, line: Line) -> Lease:
        """Take the lease of that connection."""
        offered = self._offered
        if offered is not None and (offered.line is line or offered.line == line):
            self._offered = None
            offered.follower = Lease(line, offered.connection)
            return offered.follower
        site = self._sites[_site(line)]
        kept = self._kept(site, line)
        if kept is None:
            raise LookupError(f"no connection to {line.host} is ready")
        self._unkeep(site, kept)
        site.used += 1
        return Lease(line, kept.connection)

    def offer(self, lease: Lease, call: Callable[[], None]) -> None:
        """While the call runs, whoever wants a connection like this has it next.

        Not when it is worn, or others wait for their turn at the host.
        """
        connection, key = lease.connection, _site(lease.line)
        site = self._sites.get(key)
        if (
            self._is_stopped
            or site is None
            or site.waiting
            or connection is None
            or connection.messages >= self._settings.messages
            or self._clock.seconds() < self._singles.get(key, 0.0)
        ):
            return
        self._offered = lease
        try:
            call()
        finally:
            self._offered = None

    def one_at_a_time(self, line: Line) -> None:
        """Let nobody follow on a connection to this host for a while."""
        if len(self._singles) >= _SINGLES:
            self._singles.clear()
        self._singles[_site(line)] = self._clock.seconds() + _SINGLE_FOR

    async def stop(self) -> None:
        """Close what is idle, refuse who waits; leases in use end as they end."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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
        kept = self._kept(site, line)
        if kept is not None:
            self._unkeep(site, kept)
            site.used += 1
            return Lease(line, kept.connection)
        if site.used + len(site.idle) >= self._settings.per_host and site.idle:
            self._dismiss(site, site.idle[0])
        if site.used + len(site.idle) >= self._settings.per_host:
            return None
        site.used += 1
        return Lease(line)

    def _kept(self, site: _Site, line: Line) -> _Kept | None:
        for kept in reversed(site.idle):
            if kept.line is line or kept.line == line:
                return kept
        return None

    def _keep(self, site: _Site, line: Line, connection: Connection) -> None:
        worn = connection.messages >= self._settings.messages
        if not connection.usable or worn or self._is_stopped:
            self._leave(connection)
            return
        kept = _Kept(line, connection, self._clock.seconds() + self._settings.idle)
        connection.on_trouble = partial(self._give_up, site, kept)
        site.idle.append(kept)
        if self._timer is None:
            idle = self._settings.idle
            self._timer = self._clock.callLater(idle, self._close_idle)

    def _close_idle(self) -> None:
        """Close what is idle for long enough; look again when the next one will be."""
        self._timer, now = None, self._clock.seconds()
        idle = [(site, one) for site in self._sites.values() for one in site.idle]
        for site, kept in idle:
            if kept.until <= now:
                self._give_up(site, kept)
        following = min((one.until for _, one in idle if one.until > now), default=None)
        if following is not None:
            self._timer = self._clock.callLater(following - now, self._close_idle)

    def _unkeep(self, site: _Site, kept: _Kept) -> None:
        site.idle.remove(kept)
        kept.connection.on_trouble = None

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
