"""The queue manager: takes what is due, has it delivered, settles and records it.

One coroutine per entry in work, one timer for the next that is due; the work of a tick
follows what is due, not what waits (P7). What a peer answered is recorded before
anything acts on it; a record that the disk refuses is tried again, the delivery is not.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater

from fwd_mta.events import Attempted, Emit, Finished, Notified, Trouble
from fwd_mta.interfaces import (
    Delivery,
    DeliveryAgent,
    Entropy,
    QueueWorker,
    WallClock,
)
from fwd_mta.mail.entry import (
    Action,
    Attempt,
    Category,
    DeliveryResult,
    Diagnosis,
    Notice,
    QueueEntry,
    Scope,
    Stage,
    Standing,
    StandingState,
    Step,
)
from fwd_mta.mail.envelope import Recipient, Ret
from fwd_mta.mail.errors import Corrupt, Interrupted, StoreError
from fwd_mta.mail.message import Message
from fwd_mta.mail.route import Destination
from fwd_mta.queue.sites import Granted, Obstacle, PutOff, Sites, SiteSettings, Turn
from fwd_mta.rules import dsn, settlement
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.routing import RoutingTable, group

RECIPIENTS_A_DELIVERY = 50
_CLAIM_AT_ONCE = 100
_DISK_PAUSE = 10.0
_FINDING_AT_ONCE = 200  # entries that may wait for one domain's exchangers
_ACCOUNT_SHARE = 4  # times what is free: one account never has the ready set alone
_SOON = 2.0
_LITTLE_LATER = 10.0
_NOTHING_CAME = 1.0
LONGEST_NAP = 60.0


@dataclass(frozen=True, slots=True)
class NoticeStyle:
    """What notices say of us, and how much of the message they return (octets)."""

    hostname: str
    bounce_size_limit: int = 65_536
    help_url: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the scheduler needs of the machine it runs on."""

    clock: IReactorTime
    wall: WallClock
    entropy: Entropy
    emit: Emit


class Scheduler:
    """Runs the queue: at most `active_limit` entries in work at any time."""

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
        self._store = store
        self._agent = agent
        self._machine = machine
        self.table = table
        self.schedule = schedule
        self.style = style
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
        self._active: dict[_Work, str] = {}
        self._timer: IDelayedCall | None = None
        self._claiming = False
        self._again = False
        self._idle: Deferred[None] | None = None
        self.longest_nap = LONGEST_NAP
        self.stopping = True

    def start(self) -> None:
        """Begin to look for due mail."""
        self.stopping = False
        self.sites.start()
        self._store.watch(self.wake)
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
            timer = self._machine.clock.callLater(grace, self._fire_idle)
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

    def doing(self, entry_id: str) -> str:
        """What of the queue's own an entry is in, or waits for; nothing: its time."""
        if entry_id in self._active.values():
            return "the end of an attempt that runs now"
        if self._room() <= 0:
            return f"one of the {self._active_limit} places, which are all taken"
        return ""

    async def obstacle(self, recipients: Sequence[Recipient]) -> Obstacle | None:
        """What keeps recipients that are due from being tried at this moment."""
        for destination in group(recipients, self.table):
            site = await self._agent.site(destination)
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
        due = self._store.next_due()
        if due is not None and self._room() > 0:
            self._set_timer(max(0.0, due - self._machine.wall.now()))

    def _room(self) -> int:
        return self._active_limit - len(self._active)

    def _set_timer(self, wait: float) -> None:
        self._cancel_timer()
        if wait <= 0:
            self._claim()
            return
        # The wall clock may be set meanwhile: never sleep longer than a minute.
        nap = min(wait, self.longest_nap)
        self._timer = self._machine.clock.callLater(nap, self._on_timer)

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
            now = self._machine.wall.now()
            entries = await self._store.claim(now, min(room, _CLAIM_AT_ONCE))
            for entry in entries:
                self._begin(entry)
            begun += len(entries)
            due = self._store.next_due()
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
        due = self._store.next_due()
        if due is not None:
            self._set_timer(max(due - self._machine.wall.now(), at_least))

    def _begin(self, entry: QueueEntry) -> None:
        self._accounts[entry.account or ""] += 1
        # The same entry may come again before its last work has quite returned.
        work = _Work(self, entry)
        self._active[work] = entry.id
        done = Deferred.fromCoroutine(work.run())
        _ = done.addErrback(lambda failure: self._trouble(entry.id, failure.value))
        _ = done.addCallback(lambda _: self._ended(work, entry))

    def _ended(self, work: "_Work", entry: QueueEntry) -> None:
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

    async def turn(self, entry: QueueEntry, destination: Destination) -> Granted | None:
        """Wait for a turn at a destination's site; None where nobody has to wait."""
        if self._finding[destination] >= _FINDING_AT_ONCE or self._is_crowded(entry):
            return PutOff(_SOON + self._machine.entropy.random() * _LITTLE_LATER)
        site = await self._site(destination)
        if not site:
            return None
        last_try = self._machine.wall.now() >= self.schedule.expires_at(entry)
        granted = self.sites.turn(site, entry.account or "", last_try=last_try)
        return await granted if isinstance(granted, Deferred) else granted

    async def _site(self, destination: Destination) -> str:
        self._finding[destination] += 1
        try:
            return await self._agent.site(destination)
        finally:
            self._finding[destination] -= 1
            if not self._finding[destination]:
                del self._finding[destination]

    def _is_crowded(self, entry: QueueEntry) -> bool:
        """Whether an account has so much in work that others would not get in."""
        share = _ACCOUNT_SHARE * max(1, self._room())
        return self._accounts[entry.account or ""] > share

    def _trouble(self, where: str, error: BaseException | None) -> None:
        what = f"{type(error).__name__}: {error}"
        self._machine.emit(Trouble(f"scheduler {where}", what))


class _Work:
    """One entry in work, from claimed to filed."""

    def __init__(self, scheduler: Scheduler, entry: QueueEntry) -> None:
        self._of = scheduler
        self._store = scheduler._store  # noqa: SLF001 - one thing in two classes
        self._agent = scheduler._agent  # noqa: SLF001
        self._machine = scheduler._machine  # noqa: SLF001
        self._entry = entry
        self._lock = DeferredLock()
        self._opening = DeferredLock()
        self._message: Message | None = None
        self._is_gone = False
        self._left = 0
        self._alone = False
        self._is_recorded = False
        self._put_off: list[tuple[Sequence[Recipient], float]] = []

    async def run(self) -> None:
        """Deliver what is due, then pay what is owed."""
        if not self._entry.owed:
            await self._deliver_due()
        while (owed := self._entry.owed) and not self._of.stopping:
            await self._pay()
            if self._entry.owed == owed:
                await self._pause()

    async def _deliver_due(self) -> None:
        groups = list(self._groups())
        self._left = len(groups)
        self._alone = len(groups) == 1
        if len(groups) == 1:
            await self._go(*groups[0])
            return
        together = [Deferred.fromCoroutine(self._go(*one)) for one in groups]
        for one in together:
            await one

    def _due(self) -> Iterator[Standing]:
        now = self._machine.wall.now()
        return (one for one in self._entry.open if one.next_attempt_at <= now)

    def _groups(self) -> Iterator[tuple[Destination, tuple[Recipient, ...]]]:
        recipients = tuple(standing.recipient for standing in self._due())
        for destination, members in group(recipients, self._of.table).items():
            for start in range(0, len(members), RECIPIENTS_A_DELIVERY):
                yield destination, members[start : start + RECIPIENTS_A_DELIVERY]

    async def _go(
        self, destination: Destination, recipients: tuple[Recipient, ...]
    ) -> None:
        """Deliver to some recipients when it is their site's turn, or put them off."""
        turn = await self._of.turn(self._entry, destination)
        if isinstance(turn, PutOff):
            attempt = self._turned_away(turn, recipients)
        else:
            attempt = await self._on_turn(turn, destination, recipients)
        if self._alone:
            self._left -= 1
            await self._finish(attempt, last=True)
        else:
            await self._lock.run(self._finish_in_turn, attempt)

    async def _on_turn(
        self,
        turn: Turn | None,
        destination: Destination,
        recipients: tuple[Recipient, ...],
    ) -> Attempt | None:
        now = self._machine.wall.now()
        attempt: Attempt | None = None
        try:
            attempt = await self._open()
            if self._message is not None:
                shunned = turn.shunned if turn else frozenset()
                attempt = await self._deliver(
                    self._delivery(destination, recipients, self._message, shunned)
                )
        finally:
            if turn is not None:
                self._of.sites.end(turn, attempt or Attempt(now, now, ()))
        return attempt

    async def _open(self) -> Attempt | None:
        """Have the content; an attempt at our own fault when the disk cannot read now.

        An entry whose content is gone or damaged is left to the store.
        """
        await self._opening.acquire()
        try:
            if self._message is None and not self._is_gone:
                self._message = await self._store.open(self._entry.id)
        except Corrupt as damage:
            self._is_gone = True
            self._say(str(damage), "see queue/corrupt and `fwdmta timeline`")
        except StoreError as error:
            self._say(str(error), "the message is tried again later")
            return self._own_fault(f"cannot be read: {error}")
        finally:
            self._opening.release()
        return None

    def _turned_away(
        self, put_off: PutOff, recipients: Sequence[Recipient]
    ) -> Attempt | None:
        """Note when to look again; an attempt by hearsay where words are needed."""
        if put_off.seconds is None:
            self._is_gone = True  # the server is stopping: it stays due as it was
            return None
        now, schedule = self._machine.wall.now(), self._of.schedule
        mine = frozenset(recipients)
        if put_off.last is not None and any(
            settlement.needs_words(one, self._entry, schedule, now)
            for one in self._due()
            if one.recipient in mine
        ):
            return _hearsay(put_off.last, recipients, now)
        until = now + put_off.seconds
        until = settlement.look_again(self._entry, schedule, now, until)
        self._put_off.append((recipients, until))
        return None

    def _delivery(
        self,
        destination: Destination,
        recipients: tuple[Recipient, ...],
        message: Message,
        shunned: frozenset[str],
    ) -> Delivery:
        envelope = replace(self._entry.envelope, recipients=recipients)
        return Delivery(
            self._entry.id, envelope, destination, message, self._before_dot, shunned
        )

    async def _before_dot(self, recipients: Sequence[Recipient]) -> None:
        if self._of.stopping:
            raise Interrupted("the server is stopping")
        now = self._machine.wall.now()
        await self._store.dot_sent(self._entry.id, recipients, now)

    async def _deliver(self, delivery: Delivery) -> Attempt:
        try:
            attempt = await self._agent.deliver(delivery)
        except Exception as error:  # noqa: BLE001 - a bug of ours bounces nothing (P4)
            self._say(f"{type(error).__name__}: {error}", "this is a defect of ours")
            attempt = self._own_fault("internal error", delivery.envelope.recipients)
        if not attempt.results and not self._of.stopping:
            attempt = self._own_fault("no result", delivery.envelope.recipients)
        return attempt

    def _finish_in_turn(self, attempt: Attempt | None) -> Deferred[None]:
        self._left -= 1
        return Deferred.fromCoroutine(self._finish(attempt, last=self._left == 0))

    async def _finish(self, attempt: Attempt | None, *, last: bool) -> None:
        """Write down what one group came to; the last one gives the entry back."""
        if attempt is not None:
            await self._settle(attempt, last=last)
        elif last and not self._is_gone:
            await self._give_back()

    async def _give_back(self) -> None:
        """End with what was put off; without a record, if nothing was tried at all."""
        if not self._is_recorded:
            until = min(until for _, until in self._put_off)
            await self._store.postpone(self._entry, until)
            return
        self._apply_put_off()
        now = self._machine.wall.now()
        await self._record(Step(now, "put-off", "their site rests"), release=True)

    def _apply_put_off(self) -> None:
        for recipients, until in self._put_off:
            self._entry = settlement.put_off(self._entry, recipients, until)

    def _own_fault(
        self, words: str, recipients: Sequence[Recipient] | None = None
    ) -> Attempt:
        """An attempt that failed for our own reasons: always a deferral (P4)."""
        now = self._machine.wall.now()
        diagnosis = Diagnosis(
            Action.DEFER,
            Category.CONFIG,
            Scope.MESSAGE,
            f"This server had a problem of its own: {words}",
            0,
            "4.3.0",
            "own-fault",
        )
        if recipients is None:
            recipients = [standing.recipient for standing in self._due()]
        results = tuple(
            DeliveryResult(one, Stage.CONNECT, diagnosis=diagnosis)
            for one in recipients
        )
        return Attempt(now, now, results)

    async def _settle(self, attempt: Attempt, *, last: bool) -> None:
        if not attempt.results and self._of.stopping:
            return  # interrupted before its dot: it is due as before
        now = self._machine.wall.now()
        before = self._entry
        jitter = self._machine.entropy.random()
        settled = settlement.settle(before, attempt, self._of.schedule, now, jitter)
        self._entry = settled
        if last:
            self._apply_put_off()
        self._is_recorded = True
        await self._record(Step(now, "attempt", attempt=attempt), release=last)
        self._report(before, settled, attempt)

    async def _record(self, step: Step, *, release: bool) -> None:
        while True:
            try:
                self._entry = await self._store.record(
                    self._entry, step, release=release
                )
            except StoreError as error:
                self._say(str(error), "the result is written as soon as the disk can")
                if self._of.stopping:
                    return
                await self._pause()
            else:
                return

    async def _pause(self) -> None:
        await deferLater(self._machine.clock, _DISK_PAUSE)

    async def _pay(self) -> None:
        try:
            message = await self._store.open(self._entry.id)
        except StoreError as error:
            self._say(str(error), "its notice goes out without the headers")
            message = Message(b"", b"")
        notices = [await self._notice(one, message) for one in self._entry.owed]
        parent = self._entry
        try:
            self._entry = await self._store.pay(settlement.paid(parent), notices)
        except StoreError as error:
            self._say(str(error), "its notice is made as soon as the disk can")
            return
        for one in parent.owed:
            self._machine.emit(Notified(parent.id, one.id, one.kind.value))

    async def _notice(
        self, notice: Notice, message: Message
    ) -> tuple[QueueEntry, Message]:
        now = self._machine.wall.now()
        style = self._of.style
        message_id = f"{notice.id}.{int(now)}@{style.hostname}"
        envelope, head, body = dsn.compose(
            self._entry,
            notice,
            message.head,
            await self._returned(message),
            hostname=style.hostname,
            now=now,
            until=self._of.schedule.expires_at(self._entry),
            boundary=self._machine.entropy.octets(12).hex(),
            message_id=message_id,
            help_url=style.help_url,
            contact=style.contact,
        )
        made = Message(head, body)
        standings = tuple(Standing(one, now) for one in envelope.recipients)
        entry = QueueEntry(
            id=notice.id,
            account=None,
            envelope=envelope,
            standings=standings,
            queued_at=now,
            size=made.size,
            message_id=f"<{message_id}>",
            cause=self._entry.id,
        )
        return entry, made

    async def _returned(self, message: Message) -> bytes | None:
        """The body for a notice with RET=FULL, when it is small enough."""
        full = self._entry.envelope.ret is Ret.FULL
        if not full or message.size > self._of.style.bounce_size_limit:
            return None
        return await message.read(0, message.body_size)

    def _report(self, before: QueueEntry, after: QueueEntry, attempt: Attempt) -> None:
        standings = {one.recipient: one for one in after.standings}
        for result in attempt.results:
            standing = standings.get(result.recipient)
            if standing is not None:
                self._machine.emit(_attempted(after, result, standing))
        if after.is_final and not before.is_final:
            seconds = self._machine.wall.now() - after.queued_at
            self._machine.emit(Finished(after.id, after.status.value, seconds))

    def _say(self, what: str, cure: str) -> None:
        self._machine.emit(Trouble(f"message {self._entry.id}", what, cure))


def _hearsay(
    last: DeliveryResult, recipients: Sequence[Recipient], now: float
) -> Attempt:
    """What a resting site said to others, for recipients that it is not asked for."""
    results = tuple(
        replace(last, recipient=one, in_doubt=False, relayed=False)
        for one in recipients
    )
    where = last.host or "the other side"
    return Attempt(now, now, results, (f"not tried: {where} rests after this answer",))


def _attempted(
    entry: QueueEntry, result: DeliveryResult, standing: Standing
) -> Attempted:
    diagnosis = result.diagnosis
    waits = standing.state is StandingState.OPEN
    return Attempted(
        id=entry.id,
        recipient=str(result.recipient.mailbox),
        host=result.host or "",
        tls=result.tls or "",
        state="deferred" if waits else standing.state.value,
        reply=str(result.reply or (diagnosis.message if diagnosis else "")),
        category=diagnosis.category.value if diagnosis else "",
        rule=diagnosis.rule if diagnosis else "",
        next_at=standing.next_attempt_at if waits else 0.0,
        in_doubt=result.in_doubt,
        possible_duplicate=standing.possible_duplicate,
        account=entry.account or "",
    )
