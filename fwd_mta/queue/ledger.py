"""Writing down what became of a message: records, paid notices, operators' changes."""

from collections.abc import Awaitable, Sequence
from functools import partial

from twisted.internet.defer import Deferred

from fwd_mta.interfaces import Change
from fwd_mta.mail import noun
from fwd_mta.mail.entry import QueueEntry, Step
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.message import Message
from fwd_mta.queue.commit import Gone, Outcome, seen_to
from fwd_mta.queue.journal import Mail
from fwd_mta.queue.layout import MINUTE
from fwd_mta.queue.leases import History, Lease, Leases
from fwd_mta.queue.operations import Filed
from fwd_mta.queue.reading import State
from fwd_mta.queue.record import dot_line, message_octets, record_line
from fwd_mta.queue.recovery import doubted
from fwd_mta.queue.spill import Spill
from fwd_mta.queue.tree import value
from fwd_mta.rules.retention import next_step

Notices = Sequence[tuple[QueueEntry, Message]]


class Ledger:
    """The writes that an entry's holder makes; each ends or keeps its lease."""

    def __init__(self, leases: Leases, spill: Spill) -> None:
        self._tree = leases.tree
        self._all = leases
        self._spill = spill
        self._journal = leases.tree.journal
        leases.follow_up = self._follow_up

    # Records

    def record(
        self, entry: QueueEntry, step: Step, *, release: bool = True
    ) -> Awaitable[QueueEntry]:
        """Write the new state, with the changes that waited for it."""
        lease = self._all.lease(entry.id)
        mail = self._journal.at_rest(entry.id)
        is_plain = _ends_young(entry, release=release) and not lease.changes
        if mail is None or not is_plain:
            return self._record(entry, step, release=release)
        history = [(entry, step)]
        written = self._journal.progress(mail, record_line(entry, step))
        return written.addCallback(
            self._recorded_young, mail, lease, history, release=release
        )

    async def _record(
        self, entry: QueueEntry, step: Step, *, release: bool = True
    ) -> QueueEntry:
        lease = self._all.lease(entry.id)
        mail = await self._journal.settled(entry.id)
        history = _with_changes(entry, step, lease)
        if mail is not None:
            return await self._record_young(mail, lease, history, release=release)
        state = history[-1][0]
        owing = bool(state.owed)
        home = self._all.home(state) if release and not owing else None
        operations = self._tree.operations
        stored: QueueEntry = await self._all.lane.run(
            entry.id,
            lambda: operations.record(
                entry.id, lease.path, history, owing=owing, home=home
            ),
            partial(self._recorded, lease, history, release),
        )
        return stored

    async def _record_young(
        self, mail: Mail, lease: Lease, history: History, *, release: bool
    ) -> QueueEntry:
        """Record in the journal what ends there; all else makes a file of it."""
        entry = history[-1][0]
        lines = b"".join(record_line(state, step) for state, step in history)
        path = lease.path
        if _ends_young(entry, release=release):
            await self._journal.progress(mail, lines)
            return self._recorded_young(None, mail, lease, history, release=release)
        home = self._tree.layout.incoming
        if release and not entry.owed:
            home = self._all.home(entry)
        filed = await self._spill.run(mail, lines, home)
        self._recorded(lease, history, release, Outcome(filed))
        if filed.path != path:
            self._all.tell()
        return entry

    def _recorded_young(
        self, _: None, mail: Mail, lease: Lease, history: History, *, release: bool
    ) -> QueueEntry:
        entry = history[-1][0]
        step = next_step(entry, self._tree.retention) if release else None
        mail.due = step[1] if step else None
        return self._recorded(lease, history, release, Outcome(Filed(lease.path)))

    def _recorded(
        self, lease: Lease, history: History, release: bool, outcome: Outcome
    ) -> QueueEntry:
        entry = history[-1][0]
        if not self._is_there(entry, outcome):
            return entry
        self._filed(lease, history, outcome.value)
        # What a claimed entry owes, its holder pays; the lease ends with that.
        if release and not (entry.owed and lease.claimed):
            self._all.free(entry, lease.path)
        return entry

    def _is_there(self, entry: QueueEntry, outcome: Outcome) -> bool:
        """False when the file is gone, which no writing mends; raises other errors."""
        if outcome.error is None:
            return True
        if not isinstance(outcome.error, Gone):
            raise outcome.error
        self._tree.say(entry.id, outcome.error, "somebody removed or moved its file")
        self._all.abandon(entry.id)
        return False

    def _filed(self, lease: Lease, history: History, filed: Filed) -> None:
        lease.path, lease.entry = filed.path, history[-1][0]
        self._all.note(history[-1][0], filed.path)
        del lease.changes[: len(history) - 1]
        self._all.young.drop(history[-1][0].id)
        if filed.trouble:
            what = f"was recorded, but not filed: {filed.trouble}"
            self._tree.say(filed.path, what, "it is tried again in a minute")

    def _follow_up(self, lease: Lease, entry: QueueEntry) -> None:
        """Record changes that came too late for the record that ended the lease."""
        change, step = lease.changes.pop(0)
        lease.claimed = False
        following = Deferred.fromCoroutine(self._changed(entry, change, step))

        def failed(failure: object) -> None:
            self._tree.say(entry.id, f"a change was not recorded: {failure}")
            lease.changes.clear()
            self._all.free(entry, lease.path)

        seen_to(following.addErrback(failed))

    async def postpone(self, entry: QueueEntry, until: float) -> None:
        """File an entry that was not tried for later; no record is made of it.

        What is to come back within a minute stays where it is, unless too much is near.
        """
        lease, agenda = self._all.lease(entry.id), self._all.agenda
        soon = self._tree.wall.now() + MINUTE
        if until < soon and not agenda.is_full:
            self._all.free(entry, lease.path, until)
            self._all.tell()
            return
        until = max(until, soon)
        operations, home = self._tree.operations, self._all.minute(until)
        mail = await self._journal.settled(entry.id)
        if mail is not None:
            filed = await self._spill.run(mail, b"", home)
            self._postponed(lease, entry, until, Outcome(filed))
            self._all.tell()
            return
        await self._all.lane.run(
            entry.id,
            lambda: operations.file(entry.id, lease.path, home),
            partial(self._postponed, lease, entry, until),
        )

    def _postponed(
        self, lease: Lease, entry: QueueEntry, until: float, outcome: Outcome
    ) -> None:
        if self._is_moved(entry, outcome):
            path = lease.path if outcome.error else outcome.value.path
            self._all.free(entry, path, until)

    def _is_moved(self, entry: QueueEntry, outcome: Outcome) -> bool:
        """False when the file is gone; a disk that refuses leaves it where it was."""
        if isinstance(outcome.error, Gone):
            return self._is_there(entry, outcome)
        trouble = outcome.error or outcome.value.trouble
        if trouble:
            self._tree.say(entry.id, f"cannot be filed: {trouble}", "it is tried again")
        return True

    # Notices

    async def pay(self, entry: QueueEntry, notices: Notices) -> QueueEntry:
        """Put notices into the queue and clear them from what their parent owes."""
        paid = {notice.id for notice, _ in notices}
        if self._all.get(entry.id) is None:
            state = await self._stored(entry.id)
            stored = state.entry if state else entry
            if state is None or not paid & {notice.id for notice in stored.owed}:
                return stored
            entry = stored
        lease = self._all.lease(entry.id)
        left = tuple(notice for notice in entry.owed if notice.id not in paid)
        step = Step(self._tree.wall.now(), "paid", ", ".join(sorted(paid)))
        history = _with_changes(noun.changed(entry, owed=left), step, lease)
        made = [(notice, await _in_memory(message)) for notice, message in notices]
        return await self._pay(lease, history, made)

    async def _pay(
        self, lease: Lease, history: History, notices: Notices
    ) -> QueueEntry:
        entry = history[-1][0]
        home = None if entry.owed else self._all.home(entry)
        operations = self._tree.operations
        stored: QueueEntry = await self._all.lane.run(
            entry.id,
            lambda: operations.pay(
                entry.id,
                lease.path,
                history,
                [(notice.id, _octets(notice, message)) for notice, message in notices],
                home,
            ),
            partial(self._paid, lease, history, notices),
        )
        return stored

    def _paid(
        self, lease: Lease, history: History, notices: Notices, outcome: Outcome
    ) -> QueueEntry:
        entry = history[-1][0]
        if not self._is_there(entry, outcome):
            return entry
        filed, entered = outcome.value
        self._filed(lease, history, filed)
        for notice, message in notices:
            if notice.id in entered:
                path = f"{self._tree.layout.incoming}/{notice.id}"
                self._all.enter(notice, path, message)
        self._all.free(entry, lease.path)
        return entry

    # Marks

    def dot_sent(
        self, entry_id: str, recipients: Sequence[Recipient], now: float
    ) -> Deferred[None]:
        """Note that a final dot is about to go out; young mail waits for no sync.

        A file's mark is written in turn with its records: each may have to be mended.
        """
        mail = self._journal.at_rest(entry_id)
        if mail is not None:
            return self._journal.progress(mail, dot_line(recipients, now))
        return Deferred.fromCoroutine(self._dot_sent(entry_id, recipients, now))

    async def _dot_sent(
        self, entry_id: str, recipients: Sequence[Recipient], now: float
    ) -> None:
        mail = await self._journal.settled(entry_id)
        if mail is not None:
            await self._journal.progress(mail, dot_line(recipients, now))
            return
        path = self._all.path(entry_id)
        operations = self._tree.operations
        await self._all.lane.run(
            entry_id,
            lambda: operations.dot(entry_id, path, dot_line(recipients, now)),
            value,
        )

    # Operators

    async def change(
        self, entry_id: str, change: Change, step: Step
    ) -> QueueEntry | None:
        """Apply a change now, or with the next record of whoever has the entry."""
        while (lease := self._all.get(entry_id)) is not None:
            if lease.claimed:
                lease.changes.append((change, step))
                return lease.entry
            ended: Deferred[None] = Deferred()
            lease.ended.append(ended)
            await ended
        self._all.lease(entry_id)
        try:
            state = await self._stored(entry_id)
            if state is None:
                self._all.drop(entry_id)
                return None
            entry = await self.doubt(state) if state.records.doubt else state.entry
        except BaseException:
            self._give_back(entry_id)
            raise
        return await self._change(entry, change, step)

    async def doubt(self, state: State, *, release: bool = False) -> QueueEntry:
        """Record that a final dot went out before we died; it is tried late (P2)."""
        entry, step, events = doubted(state, self._tree.wall.now())
        recorded = await self.record(entry, step, release=release)
        for event in events:
            self._tree.emit(event)
        return recorded

    async def _change(
        self, entry: QueueEntry, change: Change, step: Step
    ) -> QueueEntry | None:
        lease = self._all.lease(entry.id)
        try:
            return await self._changed(entry, change, step)
        except BaseException:
            if self._all.get(entry.id) is lease:
                self._all.free(entry, lease.path)
            raise

    async def _changed(
        self, entry: QueueEntry, change: Change, step: Step
    ) -> QueueEntry:
        """Record a change of an entry that is leased; a finished one stays as it is."""
        changed = change(entry)
        if entry.is_final and not entry.owed:
            changed = noun.changed(entry, held=changed.held)
        if changed == entry:
            self._all.free(entry, self._all.path(entry.id))
            return entry
        return await self.record(changed, step)

    async def _stored(self, entry_id: str) -> State | None:
        """The state on disk, its place noted in the lease; None: unknown."""
        reader, hint = self._tree.reader, self._all.path(entry_id)
        try:
            state = await self._tree.job(
                lambda: reader.located(entry_id, hint, reader.state)
            )
        except Gone:
            return None
        lease = self._all.get(entry_id)
        if lease is not None:
            lease.path = state.path
        if state.torn:
            self._tree.operations.spoil(entry_id, state.good_length)
        return state

    def _give_back(self, entry_id: str) -> None:
        """A lease ends because its entry cannot be read: the next claim sees to it."""
        path = self._all.path(entry_id)
        self._all.drop(entry_id)
        if path:
            self._all.agenda.add(entry_id, self._tree.wall.now(), path)


def _ends_young(entry: QueueEntry, *, release: bool) -> bool:
    """Whether the journal holds its record: all that is to wait becomes a file."""
    is_free = not entry.owed and entry.held is None
    return is_free and (entry.is_final or not release)


def _with_changes(entry: QueueEntry, step: Step, lease: Lease) -> History:
    """The records to write: the step, then each operator's change that waits."""
    history = [(entry, step)]
    for change, changed in lease.changes:
        history.append((change(history[-1][0]), changed))
    return history


async def _in_memory(message: Message) -> Message:
    if isinstance(message.body, bytes):
        return message
    return Message(message.head, await message.read(0, message.body_size))


def _octets(notice: QueueEntry, message: Message) -> bytes:
    step = Step(notice.queued_at, "accepted", f"a notice about {notice.cause}")
    body = message.body if isinstance(message.body, bytes) else b""
    return message_octets(notice, step, message.head, body)
