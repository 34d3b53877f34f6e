"""The queue manager: takes what is due, has it delivered, settles and records it.

One `Work` per entry in work, one timer for the next that is due; the work of a tick
follows what is due, not what waits (P7). What a peer answered is recorded before
anything acts on it; a record that the disk refuses is tried again, the delivery is not.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from fwd_mta.events import Trouble
from fwd_mta.interfaces import (
    DeliveryAgent,
    QueueWorker,
)
from fwd_mta.mail.entry import (
    QueueEntry,
)
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.route import Destination
from fwd_mta.queue.sites import Granted, Obstacle, PutOff, Sites, SiteSettings
from fwd_mta.queue.work import RECIPIENTS_A_DELIVERY, Asked, Machine, NoticeStyle, Work
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.return_path import ReturnPaths
from fwd_mta.rules.routing import RoutingTable, group

__all__ = ["RECIPIENTS_A_DELIVERY", "Machine", "NoticeStyle", "Scheduler"]

_CLAIM_AT_ONCE = 100
_DISK_PAUSE = 10.0
_FINDING_AT_ONCE = 200  # entries that may wait for one domain's exchangers
_ACCOUNT_SHARE = 4  # times what is free: one account never has the ready set alone
_SOON = 2.0
_LITTLE_LATER = 10.0
_NOTHING_CAME = 1.0
_NAMES_KEPT = 10_000
_NAMED_FOR = 5.0  # seconds that a destination keeps the name of its site
LONGEST_NAP = 60.0


class Scheduler:
    """Runs the queue: at most `active_limit` entries in work at any time.

    `language_of` gives the language in which an entry's sender is told.
    """

    def __init__(
        self,
        store: QueueWorker,
        agent: DeliveryAgent,
        machine: Machine,
        table: RoutingTable,
        schedule: RetrySchedule,
        style: NoticeStyle,
        active_limit: int = 2000,
        limits: SiteSettings | None = None,
    ) -> None:
        self.store = store
        self.agent = agent
        self.machine = machine
        self.table = table
        self.schedule = schedule
        self.style = style
        self.return_paths: ReturnPaths = {}
        self._active_limit = active_limit
        self.sites = Sites(
            machine.clock,
            machine.entropy,
            machine.emit,
            schedule,
            limits or SiteSettings(),
            self._room,
        )
        self._accounts: Counter[str] = Counter()
        self._finding: Counter[Destination] = Counter()
        self._active: dict[Work, str] = {}
        self._names: dict[Destination, tuple[float, str]] = {}
        self._timer: IDelayedCall | None = None
        self._claiming = False
        self._again = False
        self._idle: Deferred[None] | None = None
        self.longest_nap = LONGEST_NAP
        self.language_of: Callable[[QueueEntry], Awaitable[str]] = _english
        self.stopping = True

    def start(self) -> None:
        """Begin to look for due mail."""
        self.stopping = False
        self.sites.start()
        self.store.watch(self.wake)
        self.wake()

    async def stop(self, grace: float) -> None:
        """Send no new dot; wait up to `grace` seconds for what is on its way.

        What is not answered by then is in doubt on disk already.
        """
        self.stopping = True
        self._cancel_timer()
        self.sites.stop()
        if self._active:
            self._idle = Deferred()
            timer = self.machine.clock.callLater(grace, self._fire_idle)
            await self._idle
            if timer.active():
                timer.cancel()

    def _fire_idle(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    @property
    def active(self) -> int:
        """How many entries are in work."""
        return len(self._active)

    @property
    def has_room(self) -> bool:
        """Whether more would be taken into work now."""
        return not self.stopping and not self._claiming and self._room() > 0

    def doing(self, entry_id: str) -> str:
        """What of the queue's own an entry is in, or waits for; nothing: its time."""
        if entry_id in self._active.values():
            return "the end of an attempt that runs now"
        if self._room() <= 0:
            return f"one of the {self._active_limit} places, which are all taken"
        return ""

    async def obstacle(
        self, recipients: Sequence[Recipient], via: str = ""
    ) -> Obstacle | None:
        """What keeps recipients that are due from being tried at this moment."""
        for destination in group(recipients, self.table, via):
            site = await self.agent.site(destination)
            found = self.sites.obstacle(site) if site else None
            if found is not None:
                return found
        return None

    def wake(self) -> None:
        """Look at the queue again: something may be due earlier than thought."""
        if self.stopping:
            return
        if self._claiming:
            self._again = True
            return
        due = self.store.next_due()
        if due is not None and self._room() > 0:
            self._set_timer(max(0.0, due - self.machine.wall.now()))

    def _room(self) -> int:
        return self._active_limit - len(self._active)

    def _set_timer(self, wait: float) -> None:
        self._cancel_timer()
        if wait <= 0:
            self._claim()
            return
        # The wall clock may be set meanwhile: never sleep longer than a minute.
        nap = min(wait, self.longest_nap)
        self._timer = self.machine.clock.callLater(nap, self._on_timer)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

    def _claim(self) -> None:
        self._claiming = True
        claimed = Deferred.fromCoroutine(self._claim_and_begin())
        _ = claimed.addErrback(lambda failure: self._trouble("claim", failure.value))
        _ = claimed.addCallback(self._claimed)

    async def _claim_and_begin(self) -> int:
        """Take what is due, as far as there is room; a loop, however much it is."""
        begun = 0
        while not self.stopping and (room := self._room()) > 0:
            now = self.machine.wall.now()
            entries = await self.store.claim(now, min(room, _CLAIM_AT_ONCE))
            for entry in entries:
                self._begin(entry)
            begun += len(entries)
            due = self.store.next_due()
            if not entries or due is None or due > now:
                break
        return begun

    def _claimed(self, count: int | None) -> None:
        self._claiming = False
        again, self._again = self._again, False
        if count or again:
            self.wake()
        elif not self.stopping:
            self._look_later(_DISK_PAUSE if count is None else _NOTHING_CAME)

    def _look_later(self, at_least: float) -> None:
        """Wait for the next that is due; something due that did not come waits too."""
        due = self.store.next_due()
        if due is not None:
            self._set_timer(max(due - self.machine.wall.now(), at_least))

    def _begin(self, entry: QueueEntry) -> None:
        self._accounts[entry.account or ""] += 1
        # The same entry may come again before its last work has quite returned.
        work = Work(self, entry, self._ended)
        self._active[work] = entry.id
        work.begin()

    def _ended(self, work: Work, defect: BaseException | None) -> None:
        entry = work.entry
        if defect is not None:
            self._trouble(entry.id, defect)
        del self._active[work]
        account = entry.account or ""
        self._accounts[account] -= 1
        if not self._accounts[account]:
            del self._accounts[account]
        if not self._active:
            self._fire_idle()
        if len(self._active) + 1 == self._active_limit:
            self.wake()

    # Turns

    def turn(self, entry: QueueEntry, destination: Destination) -> Asked:
        """A turn at a destination's site; None where nobody has to wait."""
        if (
            self._finding and self._finding[destination] >= _FINDING_AT_ONCE
        ) or self._is_crowded(entry):
            return PutOff(_SOON + self.machine.entropy.random() * _LITTLE_LATER)
        known = self._names.get(destination)
        if known is not None and self.machine.clock.seconds() < known[0]:
            return self._turn_at(known[1], entry)
        return Deferred.fromCoroutine(self._turn_at_found(entry, destination))

    async def _turn_at_found(
        self, entry: QueueEntry, destination: Destination
    ) -> Granted | None:
        turn = self._turn_at(await self._site(destination), entry)
        granted: Granted | None = await turn if isinstance(turn, Deferred) else turn
        return granted

    def _turn_at(self, site: str, entry: QueueEntry) -> Asked:
        if not site:
            return None
        last_try = self.machine.wall.now() >= self.schedule.expires_at(entry)
        return self.sites.turn(site, entry.account or "", last_try=last_try)

    async def _site(self, destination: Destination) -> str:
        self._finding[destination] += 1
        try:
            name = await self.agent.site(destination)
        finally:
            self._finding[destination] -= 1
            if not self._finding[destination]:
                del self._finding[destination]
        if len(self._names) >= _NAMES_KEPT:
            self._names.clear()
        self._names[destination] = self.machine.clock.seconds() + _NAMED_FOR, name
        return name

    def _is_crowded(self, entry: QueueEntry) -> bool:
        """Whether an account has so much in work that others would not get in."""
        share = _ACCOUNT_SHARE * max(1, self._room())
        return self._accounts[entry.account or ""] > share

    def _trouble(self, where: str, error: BaseException | None) -> None:
        what = f"{type(error).__name__}: {error}"
        self.machine.emit(Trouble(f"scheduler {where}", what))


async def _english(_: QueueEntry) -> str:
    return "en"
