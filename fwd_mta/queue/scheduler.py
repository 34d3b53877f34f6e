"""The queue manager: takes what is due, has it delivered, settles and records it.

One coroutine per entry in work, one timer for the next that is due; the work of a tick
follows what is due, not what waits (P7). What a peer answered is recorded before
anything acts on it; a record that the disk refuses is tried again, the delivery is not.
"""

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
from fwd_mta.rules import dsn, settlement
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.routing import RoutingTable, group

RECIPIENTS_A_DELIVERY = 50
_CLAIM_AT_ONCE = 100
_DISK_PAUSE = 10.0
_NOTHING_CAME = 1.0


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
    ) -> None:
        self._store = store
        self._agent = agent
        self._machine = machine
        self.table = table
        self.schedule = schedule
        self.style = style
        self._active_limit = active_limit
        self._active: dict[str, Deferred[None]] = {}
        self._timer: IDelayedCall | None = None
        self._claiming = False
        self._again = False
        self._idle: Deferred[None] | None = None
        self.stopping = True

    def start(self) -> None:
        """Begin to look for due mail."""
        self.stopping = False
        self._store.watch(self.wake)
        self.wake()

    async def stop(self, grace: float) -> None:
        """Send no new dot; wait up to `grace` seconds for what is on its way.

        What is not answered by then is in doubt on disk already.
        """
        self.stopping = True
        self._cancel_timer()
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
        self._timer = self._machine.clock.callLater(min(wait, 60.0), self._on_timer)

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
        count = min(self._room(), _CLAIM_AT_ONCE)
        entries = await self._store.claim(self._machine.wall.now(), count)
        for entry in entries:
            self._begin(entry)
        return len(entries)

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
        work = Deferred.fromCoroutine(_Work(self, entry).run())
        self._active[entry.id] = work
        _ = work.addErrback(lambda failure: self._trouble(entry.id, failure.value))
        _ = work.addCallback(lambda _: self._ended(entry.id))

    def _ended(self, entry_id: str) -> None:
        del self._active[entry_id]
        if not self._active:
            self._fire_idle()
        if len(self._active) + 1 == self._active_limit:
            self.wake()

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
        self._left = 0

    async def run(self) -> None:
        """Deliver what is due, then pay what is owed."""
        if not self._entry.owed:
            await self._deliver_due()
        while self._entry.owed and not self._of.stopping:
            await self._pay()

    async def _deliver_due(self) -> None:
        message = await self._open()
        if message is None:
            return
        deliveries = list(self._deliveries(message))
        self._left = len(deliveries)
        if len(deliveries) == 1:
            await self._deliver(deliveries[0])
            return
        together = [Deferred.fromCoroutine(self._deliver(one)) for one in deliveries]
        for one in together:
            await one

    async def _open(self) -> Message | None:
        """The content; an entry whose content is gone or damaged is left to the store.

        A disk that cannot read now is asked again with the next back-off.
        """
        try:
            return await self._store.open(self._entry.id)
        except Corrupt as damage:
            self._say(str(damage), "see queue/corrupt and `fwdmta timeline`")
        except StoreError as error:
            self._say(str(error), "the message is tried again later")
            await self._settle(self._own_fault(f"cannot be read: {error}"), last=True)
        return None

    def _due(self) -> Iterator[Standing]:
        now = self._machine.wall.now()
        return (one for one in self._entry.open if one.next_attempt_at <= now)

    def _deliveries(self, message: Message) -> Iterator[Delivery]:
        recipients = tuple(standing.recipient for standing in self._due())
        for destination, members in group(recipients, self._of.table).items():
            for start in range(0, len(members), RECIPIENTS_A_DELIVERY):
                some = members[start : start + RECIPIENTS_A_DELIVERY]
                yield self._delivery(destination, some, message)

    def _delivery(
        self,
        destination: Destination,
        recipients: tuple[Recipient, ...],
        message: Message,
    ) -> Delivery:
        envelope = replace(self._entry.envelope, recipients=recipients)
        return Delivery(
            self._entry.id, envelope, destination, message, self._before_dot
        )

    async def _before_dot(self, recipients: Sequence[Recipient]) -> None:
        if self._of.stopping:
            raise Interrupted("the server is stopping")
        now = self._machine.wall.now()
        await self._store.dot_sent(self._entry.id, recipients, now)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            attempt = await self._agent.deliver(delivery)
        except Exception as error:  # noqa: BLE001 - a bug of ours bounces nothing (P4)
            self._say(f"{type(error).__name__}: {error}", "this is a defect of ours")
            attempt = self._own_fault("internal error", delivery.envelope.recipients)
        if not attempt.results and not self._of.stopping:
            attempt = self._own_fault("no result", delivery.envelope.recipients)
        await self._lock.run(self._settle_in_turn, attempt)

    def _settle_in_turn(self, attempt: Attempt) -> Deferred[None]:
        self._left -= 1
        return Deferred.fromCoroutine(self._settle(attempt, last=self._left == 0))

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
            await self._pause()
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
                self._machine.emit(_attempted(after.id, result, standing))
        if after.is_final and not before.is_final:
            seconds = self._machine.wall.now() - after.queued_at
            self._machine.emit(Finished(after.id, after.status.value, seconds))

    def _say(self, what: str, cure: str) -> None:
        self._machine.emit(Trouble(f"message {self._entry.id}", what, cure))


def _attempted(entry_id: str, result: DeliveryResult, standing: Standing) -> Attempted:
    diagnosis = result.diagnosis
    waits = standing.state is StandingState.OPEN
    return Attempted(
        id=entry_id,
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
    )
