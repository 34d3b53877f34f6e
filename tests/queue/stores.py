"""What tests of queue stores share: nouns as the scheduler makes them, a store."""

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from fwd_mta.events import Event
from fwd_mta.interfaces import QueueStore
from fwd_mta.mail.entry import (
    EntryFilter,
    Notice,
    NoticeKind,
    QueueEntry,
    Standing,
    StandingState,
    Step,
)
from fwd_mta.mail.message import Message
from fwd_mta.rules.identity import entry_id, notice_id
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from tests.builders import DEFERRED, DELIVERED, REFUSED, attempt, entry, recipient

T = TypeVar("T")

HEAD = (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\n"
    b"Subject: a secret\r\nMessage-ID: <m1@example.com>\r\n"
)
BODY = b"Hello Bob,\r\nthe password is xyzzy.\r\n"
MESSAGE = Message(HEAD, BODY)
POLICY = RetentionPolicy(content=30 * 86_400.0, record=90 * 86_400.0)
MEBI = 1 << 20


def finished(one: QueueEntry, now: float) -> QueueEntry:
    """The entry with all of its recipients delivered."""
    standings = tuple(
        replace(standing, state=StandingState.DELIVERED, attempts=1, last=DELIVERED)
        for standing in one.standings
    )
    return replace(one, standings=standings, finished_at=now)


def deferred(one: QueueEntry, until: float) -> QueueEntry:
    """The entry with all of its recipients tried once, to be tried again then."""
    standings = tuple(
        replace(standing, next_attempt_at=until, attempts=1, last=DEFERRED)
        for standing in one.standings
    )
    return replace(one, standings=standings)


def owing(one: QueueEntry, now: float) -> QueueEntry:
    """The entry with all of its recipients failed, and a notice owed about them."""
    standings = tuple(
        replace(standing, state=StandingState.FAILED, attempts=1, last=REFUSED)
        for standing in one.standings
    )
    about = tuple(standing.recipient for standing in standings)
    notice = Notice(notice_id(one.id, one.notices + 1), NoticeKind.FAILED, about)
    return replace(
        one,
        standings=standings,
        owed=(notice,),
        notices=one.notices + 1,
        finished_at=now,
    )


def notices_for(one: QueueEntry, now: float) -> list[tuple[QueueEntry, Message]]:
    """What the scheduler makes of the notices an entry owes."""
    made = Message(b"From: MAILER-DAEMON@mail.example.com\r\n", b"It failed.\r\n")
    to = recipient("ann@example.com")
    return [
        (
            replace(
                entry("ann@example.com", sender=None, entry_id=notice.id),
                standings=(Standing(to, now),),
                queued_at=now,
                size=made.size,
                cause=one.id,
            ),
            made,
        )
        for notice in one.owed
    ]


class StoreCase:
    """A store under a virtual clock; subclasses make it."""

    store: QueueStore
    clock: Clock
    wall: VirtualWall
    events: list[Event]

    def make(self) -> QueueStore:
        """Make a store over what is there already, and do not start it."""
        raise NotImplementedError

    def set_up(self) -> None:
        """Make and start a store in an empty place."""
        self.clock = Clock()
        self.wall = VirtualWall(self.clock)
        self.entropy = SeededEntropy(7)
        self.events = []
        self.store = self.make()
        self.get(self.store.start(self.now))

    @property
    def now(self) -> float:
        """The wall time."""
        return self.wall.now()

    def get(self, work: Awaitable[T]) -> T:
        """What a call of the store gives, as all have ended when they return here."""
        case: Any = self
        result: T = case.successResultOf(_deferred(work))
        return result

    def failure(self, work: Awaitable[Any], kind: type[Exception]) -> str:
        """The words with which a call fails."""
        case: Any = self
        return str(case.failureResultOf(_deferred(work), kind).value)

    def fresh(self, *recipients: str, **fields: Any) -> QueueEntry:
        """A new entry, due now."""
        made = entry_id(self.now, self.entropy.octets(8))
        one = entry(*recipients, entry_id=made, queued_at=self.now)
        return replace(one, **fields)

    def add(self, *recipients: str, **fields: Any) -> QueueEntry:
        """A new entry in the store."""
        one = self.fresh(*recipients, **fields)
        self.get(self.store.add(one, MESSAGE))
        return one

    def claim(self, count: int = 10) -> list[QueueEntry]:
        """What is due now, leased."""
        return self.get(self.store.claim(self.now, count))

    def record(self, one: QueueEntry, what: str = "attempt", **how: Any) -> QueueEntry:
        """Record an entry as it is."""
        step = Step(self.now, what, attempt=attempt(DEFERRED, at=self.now))
        return self.get(self.store.record(one, step, **how))

    def body(self, message: Message) -> bytes:
        """All of a body."""
        return self.get(message.read(0, message.body_size))

    def listed(self, **fields: Any) -> list[QueueEntry]:
        """Entries by a filter."""
        return self.get(self.store.entries(EntryFilter(**fields)))

    def finish(self, **fields: Any) -> QueueEntry:
        """A message that was added and delivered at once."""
        one = self.add(**fields)
        self.claim()
        return self.record(finished(one, self.now))

    def steps(self, one: QueueEntry) -> list[str]:
        """The words of a timeline."""
        return [step.what for step in self.get(self.store.timeline(one.id))]

    def large(self) -> tuple[QueueEntry, bytes]:
        """A message of three and a half MiB that came through a spool."""
        line = b"0123456789" * 7 + b"\r\n"
        octets = line * (3 * MEBI // len(line) + 7000)
        spool = self.store.spool()
        for at in range(0, len(octets), 65_000):
            spool.write(octets[at : at + 65_000])
        self.get(spool.drained())
        body = self.get(spool.done())
        one = self.fresh()
        self.get(self.store.add(one, Message(HEAD, body)))
        spool.discard()
        return one, octets

    def record_new(self, due: float) -> QueueEntry:
        """A message that was tried once and waits."""
        one = self.add()
        self.claim()
        return self.record(deferred(one, due))

    def change(self, one: QueueEntry, how: Any, what: str) -> QueueEntry | None:
        """Have an operator change an entry."""
        step = Step(self.now, what, "by root")
        return self.get(self.store.change(one.id, how, step))


def _deferred(work: Any) -> Deferred[Any]:
    return work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
