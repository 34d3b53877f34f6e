"""One entry in work: delivered where it is due, settled, recorded, its notices paid.

Mail that goes one way, with its content at hand, is seen through by plain calls;
whatever has to be waited for in between, or goes wrong, is left to a coroutine.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

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
from fwd_mta.mail.route import Destination, Via
from fwd_mta.queue.sites import Granted, PutOff, Sites, Turn
from fwd_mta.rules import dsn, settlement
from fwd_mta.rules.retention import owner_of
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.return_path import ReturnPaths, returned_to
from fwd_mta.rules.routing import RoutingTable, group

T = TypeVar("T")
Asked = Granted | Deferred[Granted] | Deferred[Granted | None] | None
RECIPIENTS_A_DELIVERY = 50
_DISK_PAUSE = 10.0


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


class Office(Protocol):
    """What works ask of the scheduler that runs them."""

    stopping: bool
    store: QueueWorker
    agent: DeliveryAgent
    machine: Machine
    table: RoutingTable
    schedule: RetrySchedule
    style: NoticeStyle
    return_paths: ReturnPaths
    language_of: Callable[[QueueEntry], Awaitable[str]]
    sites: Sites

    def turn(self, entry: QueueEntry, destination: Destination) -> Asked:
        """A turn at a destination's site; None where nobody has to wait."""


class Work:
    """One entry in work, from claimed to filed."""

    def __init__(
        self,
        office: Office,
        entry: QueueEntry,
        ended: Callable[["Work", BaseException | None], None],
    ) -> None:
        self._of = office
        self._store = office.store
        self._agent = office.agent
        self._machine = office.machine
        self._entry = entry
        self._ended = ended
        self._lock = DeferredLock()
        self._opening = DeferredLock()
        self._message: Message | None = None
        self._is_gone = False
        self._left = 0
        self._is_over = False
        self._came: list[Attempt] = []
        self._is_recorded = False
        self._elsewhere: frozenset[Recipient] = frozenset()
        self._put_off: list[tuple[Sequence[Recipient], float]] = []

    @property
    def entry(self) -> QueueEntry:
        """The entry as it is by now."""
        return self._entry

    def begin(self) -> None:
        """See it through; `ended` is called once, with a defect of ours if any."""
        try:
            if self._entry.owed:
                self._at_length(self._run([]))
                return
            groups = list(self._groups())
            if len(groups) == 1:
                self._go_straight(*groups[0])
            else:
                self._at_length(self._run(groups))
        except Exception as defect:  # noqa: BLE001 - it ends this work alone
            self._ended(self, defect)

    def _at_length(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a coroutine do the rest, and then what is owed."""
        done = Deferred.fromCoroutine(self._to_the_end(work))
        _ = done.addCallbacks(lambda _: self._ended(self, None), self._defect)

    def _defect(self, failure: Failure) -> None:
        self._ended(self, failure.value)

    async def _to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        await work
        while (owed := self._entry.owed) and not self._of.stopping:
            await self._pay()
            if self._entry.owed == owed:
                await self._pause()

    async def _run(
        self, groups: Sequence[tuple[Destination, tuple[Recipient, ...]]]
    ) -> None:
        """Deliver to many sites side by side."""
        self._left = len(groups)
        together = [Deferred.fromCoroutine(self._go(*one)) for one in groups]
        for one in together:
            await one

    # The straight way

    def _go_straight(
        self, destination: Destination, recipients: tuple[Recipient, ...]
    ) -> None:
        """Deliver to the only site, when it is its turn."""
        turn = self._of.turn(self._entry, destination)
        if not isinstance(turn, Deferred):
            self._turned(turn, destination, recipients)
            return
        _ = turn.addCallbacks(
            self._turned, self._defect, (destination, recipients), {}, ()
        )

    def _turned(
        self,
        turn: Granted | None,
        destination: Destination,
        recipients: tuple[Recipient, ...],
    ) -> None:
        try:
            if isinstance(turn, Turn) and self._is_begun(turn, destination, recipients):
                return
            self._at_length(self._turned_at_length(turn, destination, recipients))
        except Exception as defect:  # noqa: BLE001 - it ends this work alone
            self._ended(self, defect)

    def _is_begun(
        self, turn: Turn, destination: Destination, recipients: tuple[Recipient, ...]
    ) -> bool:
        message = self._store.at_hand(self._entry.id)
        if message is None:
            return False
        delivery = self._delivery(destination, recipients, message, turn)
        self._of.sites.comes(turn)
        if self._agent.at_once(delivery, partial(self._tried, turn)):
            return True
        self._of.sites.came(turn)
        return False

    async def _turned_at_length(
        self,
        turn: Granted | None,
        destination: Destination,
        recipients: tuple[Recipient, ...],
    ) -> None:
        await self._finish(await self._try(turn, destination, recipients), last=True)

    def _tried(self, turn: Turn, attempt: Attempt) -> None:
        """Take in what the straight way came to, and write it down."""
        try:
            self._of.sites.end(turn, attempt)
            self._elsewhere |= self._of.sites.elsewhere(turn, attempt)
            if not attempt.results and not self._of.stopping:
                attempt = self._own_fault("no result")
            settled = self._settled(attempt) if attempt.results else None
            if settled is None or settled.owed or not settled.is_final:
                self._at_length(self._finish(attempt, last=True))
                return
            before, self._entry = self._entry, settled
            step = Step(self._machine.wall.now(), "attempt", attempt=attempt)
            recorded = _fired(self._store.record(settled, step, release=True))
        except Exception as defect:  # noqa: BLE001 - it ends this work alone
            self._ended(self, defect)
            return
        _ = recorded.addCallbacks(
            self._recorded, self._not_recorded, (before, attempt), {}, (before, step)
        )

    def _recorded(
        self, entry: QueueEntry, before: QueueEntry, attempt: Attempt
    ) -> None:
        settled, self._entry = self._entry, entry
        try:
            self._report(before, settled, attempt)
        except Exception as defect:  # noqa: BLE001 - the record stands
            self._ended(self, defect)
        else:
            self._ended(self, None)

    def _not_recorded(self, failure: Failure, before: QueueEntry, step: Step) -> None:
        self._at_length(self._record_again(failure.value, before, step))

    async def _record_again(
        self, error: BaseException | None, before: QueueEntry, step: Step
    ) -> None:
        if not isinstance(error, StoreError):
            raise error or RuntimeError("a record failed without an error")
        settled, attempt = self._entry, step.attempt
        if await self._is_put_back(error):
            await self._record(step, release=True)
        if attempt is not None:
            self._report(before, settled, attempt)

    # What is due

    def _due(self) -> Iterator[Standing]:
        now = self._machine.wall.now()
        return (one for one in self._entry.open if one.next_attempt_at <= now)

    def _groups(self) -> Iterator[tuple[Destination, tuple[Recipient, ...]]]:
        recipients = tuple(standing.recipient for standing in self._due())
        table, via = self._of.table, self._entry.via
        for destination, members in group(recipients, table, via).items():
            for start in range(0, len(members), RECIPIENTS_A_DELIVERY):
                yield destination, members[start : start + RECIPIENTS_A_DELIVERY]

    async def _go(
        self, destination: Destination, recipients: tuple[Recipient, ...]
    ) -> None:
        """Deliver to some recipients when it is their site's turn, or put them off."""
        turn = self._of.turn(self._entry, destination)
        granted = await turn if isinstance(turn, Deferred) else turn
        attempt = await self._try(granted, destination, recipients)
        self._left -= 1
        if attempt is not None:
            self._came.append(attempt)
        await self._lock.run(self._finish_in_turn)

    async def _try(
        self,
        turn: Granted | None,
        destination: Destination,
        recipients: tuple[Recipient, ...],
    ) -> Attempt | None:
        if isinstance(turn, PutOff):
            return self._turned_away(turn, recipients)
        return await self._on_turn(turn, destination, recipients)

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
                attempt = await self._deliver(
                    self._delivery(destination, recipients, self._message, turn), turn
                )
        finally:
            if turn is not None:
                came_to = attempt or Attempt(now, now, ())
                self._of.sites.end(turn, came_to)
                self._elsewhere |= self._of.sites.elsewhere(turn, came_to)
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
        turn: Turn | None,
    ) -> Delivery:
        envelope, before_dot = self._entry.envelope, self._before_dot
        if envelope.recipients != recipients:
            envelope = replace(envelope, recipients=recipients)
        if self._of.return_paths and destination.via is not Via.LMTP:
            paths = self._of.return_paths
            envelope = returned_to(envelope, self._entry.id, paths)
        if turn is None:
            return Delivery(self._entry.id, envelope, destination, message, before_dot)
        return Delivery(
            self._entry.id,
            envelope,
            destination,
            message,
            before_dot,
            turn.shunned,
            partial(self._of.sites.follow, turn),
        )

    def _before_dot(self, recipients: Sequence[Recipient]) -> Awaitable[None]:
        if self._of.stopping:
            raise Interrupted("the server is stopping")
        now = self._machine.wall.now()
        return self._store.dot_sent(self._entry.id, recipients, now)

    async def _sent(self, delivery: Delivery, turn: Turn | None) -> Attempt:
        if turn is not None:
            done: Deferred[Attempt] = Deferred()
            self._of.sites.comes(turn)
            if self._agent.at_once(delivery, done.callback):
                return await done
            self._of.sites.came(turn)
        return await self._agent.deliver(delivery)

    async def _deliver(self, delivery: Delivery, turn: Turn | None) -> Attempt:
        try:
            attempt = await self._sent(delivery, turn)
        except Exception as error:  # noqa: BLE001 - a bug of ours bounces nothing (P4)
            self._say(f"{type(error).__name__}: {error}", "this is a defect of ours")
            attempt = self._own_fault("internal error", delivery.envelope.recipients)
        if not attempt.results and not self._of.stopping:
            attempt = self._own_fault("no result", delivery.envelope.recipients)
        return attempt

    def _finish_in_turn(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._finish_what_came())

    async def _finish_what_came(self) -> None:
        """One record for all that came while the last one was written.

        A record holds the whole entry: with one for each delivery, a message to a
        thousand would cost a hundred times what one to a hundred does.
        """
        came, self._came = self._came, []
        is_last = self._left == 0
        if self._is_over or not (came or is_last):
            return
        self._is_over = is_last
        await self._finish(_together(came), last=is_last)

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
        settled = self._entry = self._settled(attempt)
        if last:
            self._apply_put_off()
        self._is_recorded = True
        await self._record(Step(now, "attempt", attempt=attempt), release=last)
        self._report(before, settled, attempt)

    def _settled(self, attempt: Attempt) -> QueueEntry:
        now, jitter = self._machine.wall.now(), self._machine.entropy.random()
        at_once, self._elsewhere = self._elsewhere, frozenset()
        return settlement.settle(
            self._entry, attempt, self._of.schedule, now, jitter, at_once
        )

    async def _record(self, step: Step, *, release: bool) -> None:
        while True:
            try:
                self._entry = await self._store.record(
                    self._entry, step, release=release
                )
            except StoreError as error:
                if not await self._is_put_back(error):
                    return
            else:
                return

    async def _is_put_back(self, error: StoreError) -> bool:
        """Wait before a record is tried again; False: the server is stopping."""
        self._say(str(error), "the result is written as soon as the disk can")
        if self._of.stopping:
            return False
        await self._pause()
        return True

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
            language=await self._of.language_of(self._entry),
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
            owner=owner_of(self._entry),
        )
        return entry, made

    async def _returned(self, message: Message) -> bytes | None:
        """The body for a notice with RET=FULL, when it is small enough."""
        full = self._entry.envelope.ret is Ret.FULL
        if not full or message.size > self._of.style.bounce_size_limit:
            return None
        return await message.read(0, message.body_size)

    def _report(self, before: QueueEntry, after: QueueEntry, attempt: Attempt) -> None:
        for result, standing in _pairs(attempt, after):
            self._machine.emit(_attempted(after, result, standing))
        if after.is_final and not before.is_final:
            seconds = self._machine.wall.now() - after.queued_at
            self._machine.emit(Finished(after.id, after.status.value, seconds))

    def _say(self, what: str, cure: str) -> None:
        self._machine.emit(Trouble(f"message {self._entry.id}", what, cure))


def _together(attempts: Sequence[Attempt]) -> Attempt | None:
    """Deliveries that ended side by side, as one attempt; None: there was none."""
    if len(attempts) < 2:
        return attempts[0] if attempts else None
    return Attempt(
        min(one.started for one in attempts),
        max(one.ended for one in attempts),
        tuple(result for one in attempts for result in one.results),
        tuple(line for one in attempts for line in one.trail),
    )


def _fired(awaitable: Awaitable[T]) -> Deferred[T]:
    """Something to wait for, as what calls back."""
    if isinstance(awaitable, Deferred):
        return awaitable
    return Deferred.fromCoroutine(_awaited(awaitable))


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _pairs(
    attempt: Attempt, entry: QueueEntry
) -> Iterator[tuple[DeliveryResult, Standing]]:
    """Each result with what became of its recipient."""
    standings = {one.recipient: one for one in entry.standings}
    for result in attempt.results:
        standing = standings.get(result.recipient)
        if standing is not None:
            yield result, standing


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
