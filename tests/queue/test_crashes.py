"""Every operation stopped in every disk call, with every loss (docs/crashes.md).

For each operation and each n, the process dies in the n-th call that changes the disk.
Then another store starts on what is left: on all of it, as after a kill, and once on
every state that a power cut can leave, in which each write that was not synced is
whole, torn or lost, and each name new or old, independently of one another. What it
finds must be a line of the table.
"""

import copy
import errno
import gc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Attempted, Event, Trouble
from fwd_mta.interfaces import DiskFile, Entropy
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Standing, Step
from fwd_mta.mail.errors import StoreError
from fwd_mta.mail.message import Message
from fwd_mta.queue.commit import seen_to
from fwd_mta.queue.files import FileStore
from fwd_mta.queue.recovery import Recovery
from fwd_mta.rules import settlement
from fwd_mta.world.disk import Crash, Died, MemoryDisk
from fwd_mta.world.machine import InlineWorker, SeededEntropy, VirtualWall
from tests.builders import DEFERRED, attempt, entry, recipient
from tests.queue.stores import (
    BODY,
    HEAD,
    MESSAGE,
    POLICY,
    deferred,
    finished,
    notices_for,
    owing,
)

T = TypeVar("T")

ROOT = "/srv/fwdmta"
LARGE = b"0123456789abcde\r\n" * 20_000


class Violation(Exception):
    """The disk is in a state that no line of the table allows."""


class Choices(Entropy):
    """Answers given in advance, the first one where there are no more."""

    def __init__(self, answers: list[int]) -> None:
        self._answers = answers
        self.asked = 0

    @override
    def random(self) -> float:
        """The next answer: a name is kept, kept, lost; a write lost, torn, kept."""
        self.asked += 1
        number = self.asked - 1
        answer = self._answers[number] if number < len(self._answers) else 0
        return (0.0, 0.49, 0.99)[answer]

    @override
    def octets(self, count: int) -> bytes:
        """Not asked for."""
        return bytes(count)


def power_cuts(disk: MemoryDisk) -> Iterator[MemoryDisk]:
    """Each state that a power cut can leave of a disk, once."""
    seen = set()
    answers: list[int] = []
    while True:
        left, choices = copy.deepcopy(disk), Choices(answers)
        left.crash(Crash.CHOSEN, choices)
        state = left.state()
        if state not in seen:
            seen.add(state)
            yield left
        answers = (answers + [0] * choices.asked)[: choices.asked]
        while answers and answers[-1] == 2:
            answers.pop()
        if not answers:
            return
        answers[-1] += 1


def lost(disk: MemoryDisk) -> Iterator[MemoryDisk]:
    """What is left when all goes that was not synced."""
    left = copy.deepcopy(disk)
    left.crash(Crash.LOST)
    yield left


def killed(disk: MemoryDisk) -> MemoryDisk:
    """What a kill leaves of a disk: all that was written."""
    left = copy.deepcopy(disk)
    left.crash(Crash.KEPT)
    return left


class World:
    """A machine with a disk, on which stores live one after the other."""

    def __init__(
        self, disk: MemoryDisk, *, journal: bool = False, seconds: float = 0.0
    ) -> None:
        self.disk = disk
        self.journal = journal
        self.owner = "process 1\nboot a\n"
        self.clock = Clock()
        self.wall = VirtualWall(self.clock)
        self.clock.advance(seconds)
        self.events: list[Event] = []
        self.store = self.make()

    def make(self) -> FileStore:
        """A store that is not started."""
        return FileStore(
            self.disk,
            ROOT,
            InlineWorker(),
            self.wall,
            self.clock,
            POLICY,
            minimum_free_space=1000,
            message_size_limit=1_000_000,
            emit=self.events.append,
            owner=self.owner,
            journal_worker=InlineWorker() if self.journal else None,
        )

    @property
    def now(self) -> float:
        """The wall time."""
        return self.wall.now()

    def get(self, work: Awaitable[T]) -> T:
        """What a call gives; it must have ended."""
        results = self.run(work)
        if not results:
            raise Violation("a call of the store never ends")
        result = results[0]
        if isinstance(result, Failure):
            result.raiseException()
        found: T = result
        return found

    @staticmethod
    def run(work: Any) -> list[Any]:
        """Begin a call; its result or failure, or nothing yet."""
        results: list[Any] = []
        begun = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        seen_to(begun.addBoth(results.append))
        return results

    def restart(self, crash: Crash, seed: int) -> None:
        """Crash, and start another store on what is left."""
        self.disk.crash(crash, SeededEntropy(seed))
        self.events.clear()
        for call in list(self.clock.getDelayedCalls()):
            call.cancel()
        self.store = self.make()
        self.get(self.store.start(self.now))

    # What is there

    def places(self) -> dict[str, list[str]]:
        """Where the files of each message lie."""
        found: dict[str, list[str]] = {}
        for path in self.disk.files():
            known = ("/format", "/terms", ".lock")
            if path.endswith(known) or "/journal/" in path:
                continue
            name = path.rpartition("/")[2]
            found.setdefault(name, []).append(path.removeprefix(f"{ROOT}/"))
        return found

    def entry(self, entry_id: str) -> QueueEntry | None:
        """A message's state, if it is there."""
        wanted = EntryFilter(ids=(entry_id,), finished=True)
        return next(iter(self.get(self.store.entries(wanted))), None)

    def content(self, entry_id: str) -> bytes:
        """A message's content."""
        message = self.get(self.store.open(entry_id))
        return message.head + self.get(message.read(0, message.body_size))

    def record(self, one: QueueEntry, what: str = "attempt") -> QueueEntry:
        """Record an entry."""
        step = Step(self.now, what, attempt=attempt(DEFERRED, at=self.now))
        return self.get(self.store.record(one, step))

    def live_on(self) -> list[QueueEntry]:
        """Run the queue until nothing is left; gives all that was claimed."""
        seen: list[QueueEntry] = []
        for _ in range(10):
            for one in self.get(self.store.claim(self.now, 10)):
                seen.append(one)
                if one.owed:
                    self.get(self.store.pay(one, notices_for(one, self.now)))
                else:
                    self.record(finished(one, self.now))
            self.clock.advance(1800)
        return seen


@dataclass(frozen=True)
class Operation:
    """One operation: what is there before, what is done, what may be afterwards."""

    prepare: Callable[[World], QueueEntry]
    act: Callable[[World, QueueEntry], Awaitable[Any]]
    check: Callable[[World, QueueEntry, bool, Crash], None]
    troubled: bool = False


def demand(fact: bool, words: str) -> None:
    """A state that is not in the table is a violation."""
    if not fact:
        raise Violation(words)


def sound(world: World) -> None:
    """What holds after every start, whatever was lost."""
    for name, paths in world.places().items():
        demand(len(paths) == 1, f"{name} lies in two places: {paths}")
        demand(not paths[0].startswith("queue/tmp"), f"{paths[0]} is left over")
        demand("/corrupt/" not in paths[0], f"{paths[0]} is damaged")
    troubles = [event for event in world.events if isinstance(event, Trouble)]
    demand(not troubles, f"the start had trouble: {troubles}")


# The operations


def fresh(world: World, number: int = 1) -> QueueEntry:
    """A new entry, due now."""
    made = f"{number:016d}"
    return entry("bob@example.net", entry_id=made, queued_at=world.now)


def added(world: World) -> QueueEntry:
    """An entry in the queue that somebody has claimed."""
    one = fresh(world)
    world.get(world.store.add(one, MESSAGE))
    world.get(world.store.claim(world.now, 1))
    return one


def waited(world: World) -> QueueEntry:
    """An entry that waited in a file under a minute, and was claimed again."""
    one = world.record(deferred(added(world), world.now + 600))
    world.clock.advance(600)
    (again,) = world.get(world.store.claim(world.now, 1))
    demand(again == one, "it is not the same")
    return one


def indebted(world: World) -> QueueEntry:
    """An entry that owes a notice."""
    return world.record(owing(waited(world), world.now))


def over(world: World) -> QueueEntry:
    """A finished message."""
    return world.record(finished(added(world), world.now))


async def add_large(world: World, one: QueueEntry) -> None:
    """Add a message through a spool that goes to a file."""
    spool = world.store.spool()
    for at in range(0, len(LARGE), 100_000):
        spool.write(LARGE[at : at + 100_000])
    await world.store.add(one, Message(HEAD, await spool.done()))


def there_when_promised(content: bytes) -> Callable[..., None]:
    """A message that was promised is there, whole; another is whole or not there."""

    def check(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
        found = world.entry(one.id)
        demand(found is not None or not promised, "an accepted message is lost")
        if found is None:
            return
        demand(found == one, "it is another entry")
        demand(world.content(one.id) == content, "it is another content")
        demand(len(world.live_on()) == 1, "it is not delivered once")

    return check


def becomes(change: Callable[[World, QueueEntry], QueueEntry]) -> Callable[..., None]:
    """The state is the new one when promised, else the old or the new one."""

    def check(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
        found = world.entry(one.id)
        new = change(world, one)
        demand(found is not None, "a message is lost")
        allowed = [new] if promised else [one, new]
        demand(found in allowed, f"it is {found}, promised: {promised}")
        demand(world.content(one.id) == HEAD + BODY, "it is another content")
        seen = [claimed.id for claimed in world.live_on()]
        if found is not None and not found.owed:
            waits = not found.is_final and found.held is None
            demand(seen.count(one.id) == int(waits), f"it came back as {seen}")

    return check


def to_defer(world: World, one: QueueEntry) -> QueueEntry:
    """The entry tried once more, in vain."""
    return deferred(one, one.queued_at + 7200)


def to_finish(world: World, one: QueueEntry) -> QueueEntry:
    """The entry delivered."""
    return finished(one, one.queued_at + 700)


def to_owe(world: World, one: QueueEntry) -> QueueEntry:
    """The entry failed, owing a notice."""
    return owing(one, one.queued_at + 700)


def to_hold(world: World, one: QueueEntry) -> QueueEntry:
    """The entry on hold."""
    return settlement.hold(one, "wait")


def held(world: World) -> QueueEntry:
    """An entry on hold."""
    return world.record(to_hold(world, waited(world)), "held")


def to_release(world: World, one: QueueEntry) -> QueueEntry:
    """The entry let go from hold."""
    return settlement.release(one, one.queued_at + 700)


def to_cancel(world: World, one: QueueEntry) -> QueueEntry:
    """The entry given up."""
    return settlement.cancel(one, one.queued_at + 700)


def becomes_swept(
    change: Callable[[World, QueueEntry], QueueEntry],
) -> Callable[..., None]:
    """As `becomes`; what is final is swept when its time has come."""
    first = becomes(change)

    def check(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
        first(world, one, promised, crash)
        found = world.entry(one.id)
        if found is not None and found.is_final:
            world.clock.advance(91 * 86_400)
            world.get(world.store.sweep(world.now))
            demand(not world.places(), "the sweep does not find it")

    return check


def recorded(change: Callable[[World, QueueEntry], QueueEntry]) -> Callable[..., Any]:
    """Record what the change makes of the entry."""
    return lambda world, one: world.store.record(
        change(world, one), Step(world.now, "attempt", attempt=attempt(DEFERRED))
    )


def notified_once(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """The parent owes or its notice is queued; in the end there is one notice."""
    found = world.entry(one.id)
    demand(found is not None, "the parent is lost")
    if promised:
        demand(found is not None and not found.owed, "a payment is forgotten")
    seen = [claimed.id for claimed in world.live_on()]
    notice = one.owed[0].id
    demand(seen.count(notice) == 1, f"the notice came back as {seen}")
    last = world.entry(notice)
    demand(last is not None and last.is_final, "the notice is lost")
    parent = world.entry(one.id)
    demand(parent is not None and not parent.owed, "the parent still owes")
    sound(world)


def doubted(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """The recipient is in doubt, and tried again ten minutes later.

    In the journal after a kill only; after a power cut another boot doubts all of it.
    """
    found = world.entry(one.id)
    demand(found is not None, "a message is lost")
    standing: Standing | None = found.standings[0] if found else None
    marked = standing is not None and standing.in_doubt_since is not None
    said = any(isinstance(event, Attempted) for event in world.events)
    # The mark is in a minute's file: it is read with the next claim.
    claimed = world.get(world.store.claim(world.now, 1))
    if promised and (crash is Crash.KEPT or not world.journal):
        demand(not claimed, "what is in doubt was tried again at once")
        world.clock.advance(600)
        (again,) = world.get(world.store.claim(world.now, 1))
        demand(again.standings[0].in_doubt_since is not None, "the doubt is forgotten")
        events = [one for one in world.events if isinstance(one, Attempted)]
        demand(len(events) == 1 and events[0].in_doubt, "nobody was told of the doubt")
        steps = [step.what for step in world.get(world.store.timeline(one.id))]
        demand(steps[-2:] == ["dot-sent", "in-doubt"], f"the timeline says {steps}")
    demand(marked is said, "a doubt without an event")


def redacted(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """The content is the whole old one, or the placeholder."""
    found = world.entry(one.id)
    demand(found is not None, "a record is lost")
    gone = found is not None and found.redacted_at is not None
    demand(gone or not promised, "content is back")
    content = world.content(one.id)
    demand((b"xyzzy" in content) is not gone, "content and record disagree")
    demand(gone or content == HEAD + BODY, "it is another content")
    world.clock.advance(31 * 86_400)
    world.get(world.store.sweep(world.now))
    demand(b"xyzzy" not in world.content(one.id), "the sweep does not find it")
    world.clock.advance(61 * 86_400)
    world.get(world.store.sweep(world.now))
    demand(not world.places(), "the sweep does not remove it")


def purged(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """A purge that was promised is done, another is done by the next sweep."""
    demand(world.entry(one.id) is None or not promised, "a record is back")
    world.get(world.store.sweep(world.now))
    demand(not world.places(), "the sweep does not remove it")


def old(world: World) -> QueueEntry:
    """A finished message whose record is due to go."""
    one = over(world)
    world.clock.advance(91 * 86_400)
    return one


def later(world: World) -> QueueEntry:
    """A new entry that is not to be looked at for two hours (RFC 4865)."""
    one = fresh(world)
    standings = (replace(one.standings[0], next_attempt_at=world.now + 7200),)
    return replace(one, standings=standings)


def parked(world: World) -> QueueEntry:
    """A new entry that arrives held."""
    return to_hold(world, fresh(world))


def there_and_held(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """What arrived held is there when that was promised, and is not tried."""
    found = world.entry(one.id)
    demand(found is not None or not promised, "an accepted message is lost")
    demand(found in {None, one}, f"it is {found}")
    demand(not world.live_on(), "what is held was tried")


def tried(world: World, one: QueueEntry) -> QueueEntry:
    """The same as it was: nothing is recorded."""
    return one


def spoilt(world: World) -> QueueEntry:
    """An entry whose last record failed: its file has to be mended first."""
    one = waited(world)
    world.disk.refuse(errno.EIO, "sync")
    try:
        world.record(to_defer(world, one))
    except StoreError:
        world.disk.relent()
        return one
    raise Violation("a failed sync was not told")


def changed_meanwhile(world: World) -> QueueEntry:
    """An entry in work that an operator holds."""
    one = waited(world)
    step = Step(world.now, "held")
    world.get(world.store.change(one.id, lambda e: to_hold(world, e), step))
    return one


def to_defer_held(world: World, one: QueueEntry) -> QueueEntry:
    """Tried once more in vain, and then held."""
    return to_hold(world, to_defer(world, one))


def to_keep(world: World, one: QueueEntry) -> QueueEntry:
    """The finished entry kept as evidence."""
    return replace(one, held="a court")


def kept(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """It is kept when that was promised, and then no sweep redacts it."""
    found = world.entry(one.id)
    new = to_keep(world, one)
    demand(found in ([new] if promised else [one, new]), f"it is {found}")
    world.clock.advance(31 * 86_400)
    world.get(world.store.sweep(world.now))
    demand((b"xyzzy" in world.content(one.id)) is (found == new), "the wrong content")


def died_with_a_dot(world: World) -> QueueEntry:
    """An entry whose dot went out before the process was killed."""
    one = waited(world)
    world.get(world.store.dot_sent(one.id, [recipient()], world.now))
    world.restart(Crash.KEPT, 0)
    return one


def doubted_once(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """Its doubt is written down once, and it is tried late, once."""
    demand(not world.get(world.store.claim(world.now, 1)), "it was tried at once")
    seen = [claimed.id for claimed in world.live_on()]
    demand(seen == [one.id], f"it came back as {seen}")
    steps = [step.what for step in world.get(world.store.timeline(one.id))]
    demand(steps.count("in-doubt") == 1, f"the timeline says {steps}")


OPERATIONS: dict[str, Operation] = {
    "add_later": Operation(
        later,
        lambda world, one: world.store.add(one, MESSAGE),
        there_when_promised(HEAD + BODY),
    ),
    "add_held": Operation(
        parked, lambda world, one: world.store.add(one, MESSAGE), there_and_held
    ),
    "put_off": Operation(
        waited,
        lambda world, one: world.store.postpone(one, world.now + 900),
        becomes(tried),
    ),
    "mend": Operation(spoilt, recorded(to_defer), becomes(to_defer)),
    "record_with_a_change": Operation(
        changed_meanwhile, recorded(to_defer), becomes(to_defer_held)
    ),
    "keep": Operation(
        over,
        lambda world, one: world.store.change(
            one.id, lambda e: to_keep(world, e), Step(world.now, "kept")
        ),
        kept,
    ),
    "doubt": Operation(
        died_with_a_dot,
        lambda world, one: world.store.claim(world.now, 1),
        doubted_once,
    ),
    "add_small": Operation(
        fresh,
        lambda world, one: world.store.add(one, MESSAGE),
        there_when_promised(HEAD + BODY),
    ),
    "add_large": Operation(fresh, add_large, there_when_promised(HEAD + LARGE)),
    "record_first_deferral": Operation(added, recorded(to_defer), becomes(to_defer)),
    "record_next_deferral": Operation(waited, recorded(to_defer), becomes(to_defer)),
    "record_final": Operation(added, recorded(to_finish), becomes(to_finish)),
    "record_late_final": Operation(waited, recorded(to_finish), becomes(to_finish)),
    "record_debt": Operation(waited, recorded(to_owe), becomes(to_owe)),
    "pay": Operation(
        indebted,
        lambda world, one: world.store.pay(one, notices_for(one, world.now)),
        notified_once,
    ),
    "dot_sent": Operation(
        waited,
        lambda world, one: world.store.dot_sent(one.id, [recipient()], world.now),
        doubted,
    ),
    "hold": Operation(
        lambda world: world.record(deferred(added(world), world.now + 600)),
        lambda world, one: world.store.change(
            one.id, lambda e: to_hold(world, e), Step(world.now, "held")
        ),
        becomes(to_hold),
    ),
    "release": Operation(
        held,
        lambda world, one: world.store.change(
            one.id, lambda e: to_release(world, e), Step(world.now, "released")
        ),
        becomes(to_release),
    ),
    "cancel_held": Operation(
        held,
        lambda world, one: world.store.change(
            one.id, lambda e: to_cancel(world, e), Step(world.now, "cancelled")
        ),
        becomes_swept(to_cancel),
    ),
    "redact": Operation(over, lambda world, one: world.store.redact(one.id), redacted),
    "purge": Operation(old, lambda world, one: world.store.sweep(world.now), purged),
}


def crashes(
    operation: Operation,
    make: Callable[[], MemoryDisk],
    *,
    journal: bool = False,
    cuts: Callable[[MemoryDisk], Iterator[MemoryDisk]] = power_cuts,
) -> Iterator[str]:
    """Every crash of an operation; says which ones are not in the table."""
    for number in range(1, 100):
        world = World(make(), journal=journal)
        world.get(world.store.start(world.now))
        one = operation.prepare(world)
        world.disk.fail_at(number)
        results = world.run(operation.act(world, one))
        promised = bool(results) and not isinstance(results[0], Failure)
        log = ", ".join(list(world.disk.log)[-40:])
        cut = ((Crash.CHOSEN, left) for left in cuts(world.disk))
        for crash, left in chain([(Crash.KEPT, killed(world.disk))], cut):
            again = World(left, journal=journal, seconds=world.clock.seconds())
            try:
                again.get(again.store.start(again.now))
                if not operation.troubled:
                    sound(again)
                operation.check(again, one, promised, crash)
            except (Violation, StoreError) as violation:
                yield f"{crash} after call {number}: {violation}; {log}"
        if promised:
            return
    yield "the operation never ends"


def forget_deaths(case: SynchronousTestCase) -> None:
    """What nobody waited for died as well, and said so when it was collected."""
    gc.collect()
    case.flushLoggedErrors(Died)


class CrashCase(SynchronousTestCase):
    """Tests of the table."""

    def crash(self, name: str) -> None:
        """Each state that an operation's crashes leave is in the table."""
        self.assertEqual(list(crashes(OPERATIONS[name], MemoryDisk))[:2], [])
        forget_deaths(self)


class CrashTests(CrashCase):
    """One test an operation."""

    def test_add_small(self) -> None:
        """A small message is whole or not there, and there once it is promised."""
        self.crash("add_small")

    def test_add_large(self) -> None:
        """A large message is whole or not there, and there once it is promised."""
        self.crash("add_large")

    def test_record_first_deferral(self) -> None:
        """A fresh message's first attempt is recorded or not, and it waits on."""
        self.crash("record_first_deferral")

    def test_record_next_deferral(self) -> None:
        """A waiting message's attempt is recorded or not, and it waits on."""
        self.crash("record_next_deferral")

    def test_record_final(self) -> None:
        """A fresh message that was delivered is never delivered again."""
        self.crash("record_final")

    def test_record_late_final(self) -> None:
        """A waiting message that was delivered is never delivered again."""
        self.crash("record_late_final")

    def test_record_debt(self) -> None:
        """A message that owes a notice is found by the start."""
        self.crash("record_debt")

    def test_pay(self) -> None:
        """A notice is in the queue exactly once."""
        self.crash("pay")

    def test_dot_sent(self) -> None:
        """A dot without an answer is in doubt, also after a power cut."""
        self.crash("dot_sent")

    def test_hold(self) -> None:
        """A message is on hold or waits on."""
        self.crash("hold")

    def test_release(self) -> None:
        """A message that was released is tried, though no start reads hold."""
        self.crash("release")

    def test_cancel_held(self) -> None:
        """A message cancelled while on hold is redacted and purged in time."""
        self.crash("cancel_held")

    def test_redact(self) -> None:
        """Content is whole or gone, and gone once that is promised."""
        self.crash("redact")

    def test_purge(self) -> None:
        """A record is whole or gone, and gone once that is promised."""
        self.crash("purge")


class MoreCrashTests(CrashCase):
    """The rarer operations."""

    def test_add_later(self) -> None:
        """Mail for later is whole or not there, and there once it is promised."""
        self.crash("add_later")

    def test_add_held(self) -> None:
        """Mail that arrives held is there once it is promised, and waits."""
        self.crash("add_held")

    def test_put_off(self) -> None:
        """A message that is filed for later without a record is tried all the same."""
        self.crash("put_off")

    def test_mend(self) -> None:
        """A file that was not written well is mended whole, or not yet."""
        self.crash("mend")

    def test_record_with_a_change(self) -> None:
        """An operator's change is recorded with the attempt that it waited for."""
        self.crash("record_with_a_change")

    def test_keep(self) -> None:
        """Evidence is kept once that is promised, also beyond its time."""
        self.crash("keep")

    def test_doubt(self) -> None:
        """A doubt is written down once, however often that is stopped."""
        self.crash("doubt")


class CrashedStartTests(SynchronousTestCase):
    """A start that is itself stopped in every call."""

    def crash_twice(self, name: str) -> Iterator[str]:
        """Stop the operation everywhere, kept whole, then the start everywhere."""
        operation = OPERATIONS[name]
        promised = False
        for number in range(1, 30):
            for second in range(1, 60):
                world = World(MemoryDisk())
                world.get(world.store.start(world.now))
                one = operation.prepare(world)
                world.disk.fail_at(number)
                done = world.run(operation.act(world, one))
                promised = bool(done) and not isinstance(done[0], Failure)
                world.disk.crash(Crash.KEPT)
                world.disk.fail_at(second)
                started = world.run(world.make().start(world.now))
                ended = bool(started) and not isinstance(started[0], Failure)
                try:
                    world.restart(Crash.LOST, 0)
                    sound(world)
                    operation.check(world, one, promised, Crash.LOST)
                except Violation as violation:
                    yield f"after {number}, {second}: {violation}"
                if ended:
                    break
            if promised:
                return

    def test_a_start_after_a_payment(self) -> None:
        """Notices enter once, however often the start is stopped."""
        self.assertEqual(list(self.crash_twice("pay")), [])
        forget_deaths(self)

    def test_a_start_after_a_deferral(self) -> None:
        """A message is filed once, however often the start is stopped."""
        self.assertEqual(list(self.crash_twice("record_first_deferral")), [])
        forget_deaths(self)


class NoDirectorySync(MemoryDisk):
    """A planted fault: names are never synced."""

    @override
    def sync_directory(self, path: str) -> None:
        """Do nothing."""


class NoFileSync(MemoryDisk):
    """A planted fault: contents are never synced."""

    @override
    def create(self, path: str) -> DiskFile:
        """Make a file that cannot be synced."""
        return _careless(super().create(path))

    @override
    def open(self, path: str) -> DiskFile:
        """Open a file that cannot be synced."""
        return _careless(super().open(path))


def _careless(file: DiskFile) -> DiskFile:
    file.sync = lambda: None  # type: ignore[method-assign]
    return file


class PlantedFaultTests(SynchronousTestCase):
    """The table must find a store that forgets to sync."""

    def find(self, make: type[MemoryDisk], *names: str) -> None:
        """Each operation shows a violation on a disk with the fault."""
        for name in names:
            found = next(crashes(OPERATIONS[name], make, cuts=lost), None)
            self.assertIsNotNone(found, name)
        forget_deaths(self)

    def test_directories_not_synced(self) -> None:
        """A store that syncs no directory loses accepted mail."""
        self.find(NoDirectorySync, "add_small", "add_large", "redact")

    def test_files_not_synced(self) -> None:
        """A store that syncs no file loses content and records."""
        self.find(NoFileSync, "add_small", "add_large", "record_late_final", "redact")

    def test_the_start_reads_incoming_first(self) -> None:
        """A start that took all of tmp for rubbish would lose a paid notice."""
        self.patch(Recovery, "_empty_tmp", _remove_all)
        self.find(MemoryDisk, "pay")


def _remove_all(recovery: Recovery, found: object, now: float) -> None:
    disk, tmp = recovery._disk, recovery._layout.tmp
    for name in disk.names(tmp):
        disk.remove(f"{tmp}/{name}")
