"""Whose turn it is: a window for each site, rests, and fairness between all that wait.

A delivery asks for a turn at its site. It gets one at once, or waits among the few that
may (round robin over sites and, within a site, over accounts), or is put off: its
message goes back to the queue, untried. All times here are the monotonic clock's.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from fwd_mta.events import Emit, SiteRests, SiteWorks
from fwd_mta.interfaces import Entropy
from fwd_mta.mail.entry import Attempt, DeliveryResult
from fwd_mta.mail.envelope import Recipient
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.windows import Verdict, Window, block_rest, is_block, verdict

_PROBE_WAIT = 60.0  # for the others, while one message finds out about a dead site
_SPREAD = 0.2  # of a rest: what waited for it does not come back all at once
_OF_A_BACKOFF = 0.75
_LONGEST_BUSY = 900.0
_USUAL_SECONDS = 1.0
_REMEMBERED = 10_000
_LINE = 3  # deliveries that wait for one that comes, rather than for a connection
_QUICK = 0.2  # seconds a delivery takes, at a site where that is worth it
_LONGEST_LINE = 0.05


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """Limits: deliveries to one site, deliveries in all, and our source addresses."""

    per_site: int = 20
    deliveries: int = 1000
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PutOff:
    """No turn now: come back in so many seconds; None: the server is stopping.

    `last` is what a resting site said last.
    """

    seconds: float | None
    last: DeliveryResult | None = None


@dataclass(slots=True, eq=False)
class Turn:
    """The right to one delivery; `shunned` are sources that this site does not trust.

    `is_probe`: it finds out whether the site works; `probing`: the sources it may try
    again. `comes`: its last dot is still to leave, and another delivery may follow it.
    """

    site: "Site"
    began: float
    shunned: frozenset[str] = frozenset()
    is_probe: bool = False
    probing: frozenset[str] = frozenset()
    comes: bool = False


Granted = Turn | PutOff


@dataclass(frozen=True, slots=True)
class Rest:
    """A site that is left alone: after so many failures, for so many seconds more.

    `blocks` has the same, seconds and times, for each of our addresses that it does
    not trust; `last` is what it said last.
    """

    name: str
    rests: int = 0
    seconds: float = 0.0
    blocks: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    last: DeliveryResult | None = None


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps mail from a site now: in words, and for about how many seconds."""

    words: str
    seconds: float = 0.0


@dataclass(slots=True)
class _Block:
    """A source address that a site does not trust."""

    until: float
    times: int
    probing: bool = False


@dataclass(slots=True, eq=False)
class Site:
    """One set of exchangers: its window, who waits for it, and how it has behaved."""

    name: str
    window: Window
    busy: int = 0
    waiting: dict[str, deque[Deferred[Granted]]] = field(default_factory=dict)
    is_queued: bool = False
    rests: int = 0
    until: float = 0.0
    is_probed: bool = False
    blocks: dict[str, _Block] = field(default_factory=dict)
    last: DeliveryResult | None = None
    failed_at: float = 0.0
    seconds: float = _USUAL_SECONDS
    next_slot: float = 0.0
    lined: int = 0
    coming: int = 0
    is_watched: bool = False

    @property
    def has_room(self) -> bool:
        """Whether another delivery may begin."""
        return self.busy < self.window.size

    @property
    def calls_soon(self) -> bool:
        """Whether one more in the line would soon follow on a connection in use.

        That is cheaper than a connection of its own; where a site takes its time,
        waiting would be the dearer thing.
        """
        return self.lined < _LINE * self.coming and self.seconds < _QUICK

    @property
    def is_plain(self) -> bool:
        """Whether nothing is known of it that a fresh site would not have."""
        idle = not self.busy and not self.waiting
        return idle and not self.rests and not self.blocks


class Sites:
    """All sites that mail goes to. `room` tells how many entries may still be taken."""

    def __init__(
        self,
        clock: IReactorTime,
        entropy: Entropy,
        emit: Emit,
        schedule: RetrySchedule,
        settings: SiteSettings,
        room: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._emit = emit
        self.schedule = schedule
        self.settings = settings
        self._room = room
        self.changed: Callable[[], None] = lambda: None
        self._sites: dict[str, Site] = {}
        self._ready: deque[Site] = deque()
        self._running = 0
        self._is_serving = False
        self._is_stopped = False

    # Asking

    def turn(
        self, name: str, account: str, *, last_try: bool = False
    ) -> Granted | Deferred[Granted]:
        """Ask for a turn; mail at its `last_try` may probe a resting site early."""
        if self._is_stopped:
            return PutOff(None)
        site = self._site(name)
        if site.rests:
            return self._at_dead(site, last_try=last_try)
        if site.blocks and self._all_blocked(site):
            if last_try and not any(one.probing for one in site.blocks.values()):
                return self._grant_last(site)
            return self._at_blocked(site)
        return self._at_working(site, account, last_try=last_try)

    def _at_working(
        self, site: Site, account: str, *, last_try: bool
    ) -> Granted | Deferred[Granted]:
        if site.has_room and self._has_capacity:
            if site.calls_soon:
                return self._line_up(site, account)
            if not site.waiting:
                return self._grant(site)
        crowd = len(site.waiting.get(account, ()))
        if crowd >= max(self._room(), site.window.size) and not last_try:
            return self._slot(site, crowd)
        waiting = self._wait(site, account)
        if site.is_watched:
            self._serve()  # the line was full: its first goes, on another connection
        return waiting

    # Looking, for people

    def obstacle(self, name: str) -> Obstacle | None:
        """What keeps mail from a site at this moment; None: nothing of its own."""
        site = self._sites.get(name)
        if site is None:
            return None
        now = self._clock.seconds()
        if site.rests:
            what = "is probed by one message" if site.is_probed else "rests"
            words = f"its site {name}, which {what} after failures"
            return Obstacle(words, max(0.0, site.until - now))
        if site.blocks and self._all_blocked(site):
            until = min(site.blocks[source].until for source in self._sources)
            words = f"its site {name}, which rests because it refuses our address"
            return Obstacle(words, max(0.0, until - now))
        if not site.has_room:
            places = f"all {site.busy} places there are taken"
            return Obstacle(f"a turn at its site {name}: {places}")
        return None

    @property
    def resting(self) -> int:
        """How many sites are left alone, by all or by some of our addresses."""
        return sum(bool(one.rests or one.blocks) for one in self._sites.values())

    @property
    def _has_capacity(self) -> bool:
        return self._running < self.settings.deliveries

    def _site(self, name: str) -> Site:
        site = self._sites.get(name)
        if site is None:
            if len(self._sites) >= _REMEMBERED:
                self._forget()
            site = Site(name, Window.first(self.settings.per_site))
            self._sites[name] = site
        return site

    def _forget(self) -> None:
        """Forget the sites of which nothing special is known."""
        self._sites = {
            name: site for name, site in self._sites.items() if not site.is_plain
        }

    def _grant(self, site: Site, *, is_probe: bool = False) -> Turn:
        site.busy += 1
        self._running += 1
        now = self._clock.seconds()
        if not site.blocks:
            return Turn(site, now, is_probe=is_probe)
        return self._grant_beside_blocks(site, now, is_probe=is_probe)

    def _wait(self, site: Site, account: str) -> Deferred[Granted]:
        waiting: Deferred[Granted] = Deferred()
        site.waiting.setdefault(account, deque()).append(waiting)
        site.lined += 1
        self._queue(site)
        return waiting

    # Following on a connection in use

    def comes(self, turn: Turn) -> None:
        """A delivery is on its way, and will call the next before its last dot."""
        turn.comes = True
        turn.site.coming += 1

    def follow(self, turn: Turn) -> None:
        """Give the next in the line its turn: it follows this one's last dot.

        It has no place in the window of its own: the site sees one connection.
        """
        site = turn.site
        self.came(turn)
        is_off = self._is_stopped or site.rests or site.blocks
        if site.waiting and not is_off and self._has_capacity:
            self._next(site).callback(self._grant(site))

    def came(self, turn: Turn) -> None:
        """It calls nobody any more."""
        if turn.comes:
            turn.comes = False
            turn.site.coming -= 1

    def _line_up(self, site: Site, account: str) -> Deferred[Granted]:
        """Wait to follow, but not long: a connection may stop all of a sudden."""
        if not site.is_watched:
            site.is_watched = True
            self._clock.callLater(_LONGEST_LINE, self._open_up, site)
        return self._wait(site, account)

    def _open_up(self, site: Site) -> None:
        site.is_watched = False
        if site.waiting:
            self._queue(site, at_once=True)
            self._serve(at_once=True)

    def _slot(self, site: Site, crowd: int) -> PutOff:
        """Put off mail beyond its share, to about when its turn will come.

        Guessed on the early side: a message that comes too early waits again, a site
        that nobody comes to stands idle.
        """
        now = self._clock.seconds()
        spacing = site.seconds / site.window.limit / 2
        soonest = now + max(1.0, crowd * spacing)
        site.next_slot = max(site.next_slot, soonest) + spacing
        return PutOff(min(site.next_slot - now, _LONGEST_BUSY))

    # Sites that are dead

    def _at_dead(self, site: Site, *, last_try: bool) -> Granted:
        now = self._clock.seconds()
        if not site.is_probed:
            early = last_try and now >= site.failed_at + _PROBE_WAIT
            if now >= site.until or early:
                site.is_probed = True
                return self._grant(site, is_probe=True)
        return self._rest(site, now)

    def _rest(self, site: Site, now: float) -> PutOff:
        chance = self._entropy.random()
        if now >= site.until:
            return PutOff(_PROBE_WAIT * (1 + chance), site.last)
        spread = _SPREAD * self._rest_of(site) * chance
        return PutOff(site.until - now + spread, site.last)

    def _rest_of(self, site: Site) -> float:
        """How long it rests now: never so long that its probe would come too late."""
        return _OF_A_BACKOFF * self.schedule.backoff(site.rests)

    # Sites that do not trust our addresses

    @property
    def _sources(self) -> tuple[str, ...]:
        return self.settings.sources or ("",)

    def _shunned(self, site: Site, now: float) -> Iterator[str]:
        """The sources that rest at this site, or are being probed there."""
        for source, block in site.blocks.items():
            if now < block.until or block.probing:
                yield source

    def _all_blocked(self, site: Site) -> bool:
        shunned = set(self._shunned(site, self._clock.seconds()))
        return shunned.issuperset(self._sources)

    def _at_blocked(self, site: Site) -> PutOff:
        now = self._clock.seconds()
        until = min(site.blocks[source].until for source in self._sources)
        chance = self._entropy.random()
        wait = max(until - now, _PROBE_WAIT)
        return PutOff(wait * (1 + _SPREAD * chance), site.last)

    def _grant_last(self, site: Site) -> Turn:
        """One message at a time may ask once more, before it is given up."""
        site.busy += 1
        self._running += 1
        sources = frozenset(site.blocks)
        for block in site.blocks.values():
            block.probing = True
        return Turn(site, self._clock.seconds(), sources, probing=sources)

    def _grant_beside_blocks(self, site: Site, now: float, *, is_probe: bool) -> Turn:
        shunned = frozenset(self._shunned(site, now))
        probing = frozenset(site.blocks) - shunned
        for source in probing:
            site.blocks[source].probing = True
        return Turn(site, now, shunned, is_probe, probing)

    # The end of a turn

    def end(self, turn: Turn, attempt: Attempt) -> None:
        """Take in how a delivery went, and let others have their turn."""
        site = turn.site
        was_full = not site.has_room or bool(site.waiting)
        self.came(turn)
        site.busy -= 1
        self._running -= 1
        if turn.probing:
            for source in turn.probing & site.blocks.keys():
                site.blocks[source].probing = False
        self._learn(turn, attempt, was_full=was_full)
        if turn.is_probe:
            site.is_probed = False
        self._queue(site)
        self._serve()

    def _learn(self, turn: Turn, attempt: Attempt, *, was_full: bool) -> None:
        site = turn.site
        match verdict(attempt):
            case Verdict.WORKS:
                self._works(site, attempt)
                seconds = self._clock.seconds() - turn.began
                site.seconds += (seconds - site.seconds) / 8
                site.window = site.window.worked(in_full_use=was_full)
            case Verdict.SLOWER:
                self._works(site, attempt)
                site.window = site.window.slowed()
            case Verdict.SILENT:
                self._silent(turn, attempt)
            case Verdict.BLOCKS:
                self._blocked(turn, attempt)
            case Verdict.NOTHING:
                pass

    def elsewhere(self, turn: Turn, attempt: Attempt) -> frozenset[Recipient]:
        """Who may go at once by another of our addresses; ask after `end`.

        Only whose address was not known to be blocked: so this ends with the last one.
        """
        if self._all_blocked(turn.site):
            return frozenset()
        return frozenset(
            result.recipient
            for result in attempt.results
            if result.diagnosis is not None
            and is_block(result.diagnosis)
            and (result.source or "") in self._sources
            and (result.source or "") not in turn.shunned
        )

    def _works(self, site: Site, attempt: Attempt) -> None:
        if site.rests or site.blocks:
            self.changed()
        if site.rests:
            site.rests = 0
            site.window = site.window.restarted()
            self._emit(SiteWorks(site.name))
        for result in attempt.results:
            if site.blocks.pop(result.source or "", None) is not None:
                self._emit(SiteWorks(site.name))

    def _silent(self, turn: Turn, attempt: Attempt) -> None:
        site = turn.site
        site.last = attempt.results[-1]
        site.failed_at = self._clock.seconds()
        if site.rests and not turn.is_probe:
            return  # it began before the site was known to be dead
        if not site.rests:
            site.window = site.window.failed()
            if not site.window.is_dead:
                return
        self.changed()
        site.rests += 1
        rest = self._rest_of(site) * (1 - _SPREAD * self._entropy.random())
        site.until = site.failed_at + rest
        if site.rests == 1:
            self._emit(SiteRests(site.name, "", _words(site.last), rest))
        self._send_away(site)

    def _blocked(self, turn: Turn, attempt: Attempt) -> None:
        site, now = turn.site, self._clock.seconds()
        for result in attempt.results:
            source = result.source or ""
            diagnosis = result.diagnosis
            known = site.blocks.get(source)
            if diagnosis is None or not is_block(diagnosis):
                continue
            if known is not None and now < known.until:
                continue
            self.changed()
            site.last = result
            times = known.times + 1 if known else 1
            site.blocks[source] = _Block(now + block_rest(times), times)
            self._emit(SiteRests(site.name, source, _words(result), block_rest(times)))
        if self._all_blocked(site):
            self._send_away(site)

    def _send_away(self, site: Site) -> None:
        """Put off whoever waits: nobody gets a turn here for a while."""
        waiting, site.waiting, site.lined = site.waiting, {}, 0
        for queue in waiting.values():
            for each in queue:
                now = self._clock.seconds()
                rests = bool(site.rests)
                each.callback(
                    self._rest(site, now) if rests else self._at_blocked(site)
                )

    # Fairness

    def _queue(self, site: Site, *, at_once: bool = False) -> None:
        """Enter a site that could begin a delivery into the round.

        Those who may follow on a connection in use wait for that, but `at_once`.
        """
        if not site.waiting or site.is_queued or not site.has_room:
            return
        if at_once or not _keeps_line(site):
            site.is_queued = True
            self._ready.append(site)

    def _serve(self, *, at_once: bool = False) -> None:
        if self._is_serving:
            return  # a delivery that ended at once; the loop below goes on
        self._is_serving = True
        while self._ready and self._has_capacity:
            site = self._ready.popleft()
            site.is_queued = False
            self._serve_one(site, at_once=at_once)
        self._is_serving = False

    def _serve_one(self, site: Site, *, at_once: bool) -> None:
        if not site.waiting or not site.has_room:
            return
        if site.blocks and self._all_blocked(site):
            self._send_away(site)
            return
        waiting = self._next(site)
        turn = self._grant(site)
        self._queue(site, at_once=at_once)
        waiting.callback(turn)

    def _next(self, site: Site) -> Deferred[Granted]:
        """Take the next in turn; its account goes behind the others."""
        account = next(iter(site.waiting))
        queue = site.waiting.pop(account)
        first = queue.popleft()
        site.lined -= 1
        if queue:
            site.waiting[account] = queue
        return first

    # What operators and the server do

    def lift(self, *, blocks: bool) -> None:
        """Let the next message probe every dead site; forget `blocks`, if wished."""
        self.changed()
        for site in self._sites.values():
            site.until = min(site.until, self._clock.seconds())
            site.failed_at = min(site.failed_at, site.until - _PROBE_WAIT)
            if blocks:
                site.blocks.clear()

    def resting_now(self) -> list[Rest]:
        """What is worth keeping over a restart."""
        now = self._clock.seconds()
        return [
            Rest(
                site.name,
                site.rests,
                max(0.0, site.until - now) if site.rests else 0.0,
                {
                    source: (max(0.0, block.until - now), block.times)
                    for source, block in site.blocks.items()
                },
                site.last,
            )
            for site in self._sites.values()
            if site.rests or site.blocks
        ]

    def remember(self, rest: Rest) -> None:
        """Take in what was kept before a restart."""
        now, site = self._clock.seconds(), self._site(rest.name)
        site.rests, site.until, site.last = rest.rests, now + rest.seconds, rest.last
        site.failed_at = now
        for source, (seconds, times) in rest.blocks.items():
            site.blocks[source] = _Block(now + seconds, times)

    def start(self) -> None:
        """Give turns."""
        self._is_stopped = False

    def stop(self) -> None:
        """Give no more turns; whoever waits is sent home untried."""
        self._is_stopped = True
        for site in list(self._sites.values()):
            waiting, site.waiting, site.lined = site.waiting, {}, 0
            for queue in waiting.values():
                for each in queue:
                    each.callback(PutOff(None))


def _keeps_line(site: Site) -> bool:
    """Whether all in the line of a site will soon follow on connections in use."""
    return site.lined <= _LINE * site.coming and site.seconds < _QUICK


def _words(result: DeliveryResult | None) -> str:
    if result is None:
        return ""
    diagnosis = result.diagnosis
    return str(result.reply or (diagnosis.message if diagnosis else ""))
