"""Every operation of the journal stopped in every disk call (docs/crashes.md)."""

import contextlib
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Trouble
from fwd_mta.interfaces import DiskFile
from fwd_mta.mail.entry import QueueEntry, Step
from fwd_mta.mail.errors import Corrupt, NoSpace, StoreError
from fwd_mta.queue.journal import SegmentWriter
from fwd_mta.world.disk import Crash, MemoryDisk
from tests.builders import DEFERRED, attempt, recipient
from tests.queue.stores import BODY, HEAD, MESSAGE
from tests.queue.test_crashes import (
    OPERATIONS,
    NoDirectorySync,
    NoFileSync,
    Operation,
    Violation,
    World,
    added,
    becomes,
    crashes,
    demand,
    doubted,
    forget_deaths,
    fresh,
    kept,
    lost,
    old,
    purged,
    recorded,
    redacted,
    sound,
    to_defer,
    to_finish,
    to_hold,
    to_keep,
    to_owe,
)


def survives_a_kill(
    change: Callable[[World, QueueEntry], QueueEntry],
) -> Callable[..., None]:
    """The new state after a kill; the old or the new one after a power cut."""
    check = becomes(change)

    def checked(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
        check(world, one, promised and crash is Crash.KEPT, crash)

    return checked


def retire(world: World, one: QueueEntry) -> Awaitable[Any]:
    """Put away what the journal holds."""
    store: Any = world.store
    retiring: Awaitable[Any] = store._retirement.retire(at_once=True)
    return retiring


def retired(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """The message is there once, and in the end no segment holds it."""
    found = world.entry(one.id)
    demand(found == to_finish(world, one), f"it is {found}")
    demand(world.content(one.id) == HEAD + BODY, "it is another content")
    demand(not world.live_on(), "a finished message came back")
    world.clock.advance(60)
    held = [path for path in world.disk.files() if path.endswith(".log")]
    for path in held:
        demand(b"xyzzy" not in world.disk.files()[path], "a segment keeps content")
    listed = world.entry(one.id)
    demand(listed is not None and listed.is_final, "its record is lost")
    demand(world.content(one.id) == HEAD + BODY, "its content is lost")
    redacted(world, one, promised=False, crash=crash)


def spilt(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """The message is there and open, whether a file or not."""
    demand(world.entry(one.id) == one, "it is another entry")
    demand(world.content(one.id) == HEAD + BODY, "it is another content")
    demand(len(world.live_on()) == 1, "it is not delivered once")


def to_finish_one(world: World, one: QueueEntry) -> QueueEntry:
    """The same as it was: a result that ends nothing."""
    return one


def ended(world: World) -> QueueEntry:
    """A finished message in the journal, its last record synced with the timer."""
    one = world.record(to_finish(world, added(world)))
    world.clock.advance(2)
    return one


def packed(world: World) -> QueueEntry:
    """A finished message in a pack, beside one that was not swept."""
    one = world.record(to_finish(world, added(world)))
    world.get(world.store.add(fresh(world, 2), MESSAGE))
    (two,) = world.get(world.store.claim(world.now, 1))
    world.record(to_finish(world, two))
    world.get(retire(world, one))
    demand(world.entry(one.id) == one, "it is not in the pack")
    demand(any(path.endswith(".pack") for path in world.disk.files()), "no pack")
    return one


def old_pack(world: World) -> QueueEntry:
    """A finished message in a pack, whose record is due to go."""
    one = world.record(to_finish(world, added(world)))
    world.get(retire(world, one))
    world.clock.advance(91 * 86_400)
    return one


def in_the_last_segment(world: World) -> QueueEntry:
    """A message in a segment that is to be closed with the next write."""
    added(world)
    journal(world)._rotate = True
    return fresh(world, 2)


def both(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """The message of the last segment is there; the new one when it was promised."""
    seen = sorted(claimed.id for claimed in world.live_on())
    first = f"{1:016d}"
    demand(seen in ([first, one.id], *([] if promised else [[first]])), f"it is {seen}")


def journal(world: World) -> Any:
    """The journal of the store that runs."""
    store: Any = world.store
    return store._tree.journal


def answered(world: World) -> QueueEntry:
    """A message whose delivery was written, and not synced yet."""
    one = added(world)
    world.record(to_finish(world, one))
    return one


def stopped(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """Nothing is lost by a stop, and a clean one leaves no doubt to another boot."""
    found = world.entry(one.id)
    demand(found is not None, "a message is lost")
    doubt = found is not None and found.standings[0].in_doubt_since is not None
    demand(not (doubt and promised), "a clean stop left a doubt")
    demand(len(world.live_on()) == 1, "it is not delivered once")


def rotten(world: World) -> QueueEntry:
    """A message whose content proved damaged in the journal."""
    one = added(world)
    (path,) = (path for path in world.disk.files() if path.endswith(".log"))
    world.disk.spoil(path, world.disk.files()[path].find(b"xyzzy"), b"XXXX")
    store: Any = world.store
    store._leases.young.drop(one.id)
    return one


def set_aside(world: World, one: QueueEntry, promised: bool, crash: Crash) -> None:
    """Its octets are in the journal, or in corrupt and nowhere else."""
    places = world.places().get(one.id, [])
    demand(places in ([], [f"queue/corrupt/{one.id}"]), f"it lies in {places}")
    files = world.disk.files()
    held = [path for path in files if b"the password is XXXX" in files[path]]
    demand(bool(held), "evidence is lost")
    demand(not (places and world.entry(one.id)), "it is there twice")


async def read_back(world: World, one: QueueEntry) -> None:
    """Read what is damaged; that it is, is no failure here."""
    with contextlib.suppress(Corrupt):
        await world.store.open(one.id)


YOUNG: dict[str, Operation] = {
    "next_segment": Operation(
        in_the_last_segment, lambda world, one: world.store.add(one, MESSAGE), both
    ),
    "sync": Operation(
        answered,
        lambda world, one: journal(world).sync(),
        becomes(to_finish),
    ),
    "stop": Operation(added, lambda world, one: world.store.stop(), stopped),
    "put_off": Operation(
        added, lambda world, one: world.store.postpone(one, world.now + 900), spilt
    ),
    "set_aside": Operation(rotten, read_back, set_aside, troubled=True),
    "keep_in_pack": Operation(
        packed,
        lambda world, one: world.store.change(
            one.id, lambda e: to_keep(world, e), Step(world.now, "kept")
        ),
        kept,
        troubled=True,
    ),
    "add_small": OPERATIONS["add_small"],
    "add_second": Operation(
        lambda world: (added(world), fresh(world, 2))[1],
        lambda world, one: world.store.add(one, MESSAGE),
        lambda world, one, promised, crash: (
            demand(len(world.live_on()) == 2, "not both are delivered")
            if promised
            else None
        ),
    ),
    "spill_deferral": Operation(added, recorded(to_defer), becomes(to_defer)),
    "spill_debt": Operation(added, recorded(to_owe), becomes(to_owe)),
    "spill_held": Operation(added, recorded(to_hold), becomes(to_hold)),
    "spill_old": Operation(added, retire, spilt),
    "final": Operation(added, recorded(to_finish), survives_a_kill(to_finish)),
    "partial": Operation(
        added,
        lambda world, one: world.store.record(
            one, Step(world.now, "attempt", attempt=attempt(DEFERRED)), release=False
        ),
        survives_a_kill(to_finish_one),
    ),
    "dot_sent": Operation(
        added,
        lambda world, one: world.store.dot_sent(one.id, [recipient()], world.now),
        doubted,
    ),
    "pack": Operation(ended, retire, retired),
    "redact": Operation(ended, lambda world, one: world.store.redact(one.id), redacted),
    "redact_in_pack": Operation(
        packed, lambda world, one: world.store.redact(one.id), redacted
    ),
    "purge": Operation(old, lambda world, one: world.store.sweep(world.now), purged),
    "purge_pack": Operation(
        old_pack, lambda world, one: world.store.sweep(world.now), purged
    ),
}


class JournalCrashCase(SynchronousTestCase):
    """Tests of the table."""

    def crash(self, name: str) -> None:
        """Each state that an operation's crashes leave is in the table."""
        found = list(crashes(YOUNG[name], MemoryDisk, journal=True))
        self.assertEqual(found[:2], [])
        forget_deaths(self)


class JournalCrashTests(JournalCrashCase):
    """One test an operation."""

    def test_add_small(self) -> None:
        """An accepted message is delivered; another is whole or not there."""
        self.crash("add_small")

    def test_add_second(self) -> None:
        """A second message in the same segment is as sure as the first."""
        self.crash("add_second")

    def test_final(self) -> None:
        """A delivery that was written survives a kill, and is not repeated."""
        self.crash("final")

    def test_partial(self) -> None:
        """A result among others survives a kill."""
        self.crash("partial")

    def test_dot_sent(self) -> None:
        """A dot without an answer is in doubt after a kill."""
        self.crash("dot_sent")

    def test_spill_deferral(self) -> None:
        """A deferred message becomes a file once, with its old or its new state."""
        self.crash("spill_deferral")

    def test_spill_debt(self) -> None:
        """A debt that was recorded is found by the start."""
        self.crash("spill_debt")

    def test_spill_held(self) -> None:
        """A message on hold waits there."""
        self.crash("spill_held")

    def test_spill_old(self) -> None:
        """A message that leaves its segment still open is delivered once."""
        self.crash("spill_old")

    def test_pack(self) -> None:
        """Finished mail lies in its segment or in a pack, never in none."""
        self.crash("pack")

    def test_redact(self) -> None:
        """Content in the journal is whole or gone, and gone once that is promised."""
        self.crash("redact")

    def test_redact_in_pack(self) -> None:
        """Content in a pack is whole or gone, and gone once that is promised."""
        self.crash("redact_in_pack")

    def test_purge(self) -> None:
        """A record in the journal goes when its time has come."""
        self.crash("purge")

    def test_purge_pack(self) -> None:
        """A pack with nothing left in it is removed."""
        self.crash("purge_pack")


class MoreJournalCrashTests(JournalCrashCase):
    """The rarer operations."""

    def test_next_segment(self) -> None:
        """A new segment takes nothing from the one before."""
        self.crash("next_segment")

    def test_sync(self) -> None:
        """What was only written is sure once it is synced."""
        self.crash("sync")

    def test_stop(self) -> None:
        """A stop that is itself stopped loses nothing."""
        self.crash("stop")

    def test_put_off(self) -> None:
        """A message that is put off becomes a file, and is delivered once."""
        self.crash("put_off")

    def test_set_aside(self) -> None:
        """Damaged mail of the journal is in it or in corrupt, never in none."""
        self.crash("set_aside")

    def test_keep_in_pack(self) -> None:
        """Evidence is taken out of its pack and kept once that is promised."""
        self.crash("keep_in_pack")


class CrashedStartTests(SynchronousTestCase):
    """A start that is itself stopped in every call."""

    def crash_twice(self, name: str) -> list[str]:
        """Stop an operation everywhere, then the start everywhere."""
        violations = []
        promised = False
        for number in range(1, 30):
            for second in range(1, 60):
                world, one, promised = begun(YOUNG[name], number)
                world.disk.crash(Crash.KEPT)
                world.disk.fail_at(second)
                started = world.run(world.make().start(world.now))
                ended = bool(started) and not isinstance(started[0], Failure)
                try:
                    world.restart(Crash.LOST, 0)
                    sound(world)
                    YOUNG[name].check(world, one, promised, Crash.LOST)
                except Violation as violation:
                    violations.append(f"after {number}, {second}: {violation}")
                if ended:
                    break
            if promised:
                break
        return violations

    def test_a_start_after_a_spill(self) -> None:
        """A message becomes a file once, however often the start is stopped."""
        self.assertEqual(self.crash_twice("spill_deferral")[:1], [])
        forget_deaths(self)

    def test_a_start_after_packing(self) -> None:
        """A pack enters once, however often the start is stopped."""
        self.assertEqual(self.crash_twice("pack")[:1], [])
        forget_deaths(self)

    def test_a_start_after_an_acceptance(self) -> None:
        """What one start read from the page cache, no later power cut takes away."""
        self.assertEqual(self.crash_twice("add_small")[:1], [])
        forget_deaths(self)


def begun(operation: Operation, number: int) -> tuple[World, QueueEntry, bool]:
    """An operation stopped in one call, and whether it had been promised."""
    world = World(MemoryDisk(), journal=True)
    world.get(world.store.start(world.now))
    one = operation.prepare(world)
    world.disk.fail_at(number)
    done = world.run(operation.act(world, one))
    return world, one, bool(done) and not isinstance(done[0], Failure)


class ErrorIgnoringDisk(MemoryDisk):
    """A planted fault: a sync that fails says that it did not."""

    @override
    def create(self, path: str) -> DiskFile:
        """Make a file whose sync hides its error."""
        return _hiding(super().create(path))


def _hiding(file: DiskFile) -> DiskFile:
    really = file.sync

    def sync() -> None:
        with contextlib.suppress(OSError):
            really()

    file.sync = sync  # type: ignore[method-assign]
    return file


class PlantedFaultTests(SynchronousTestCase):
    """The table must find a journal that is careless."""

    def find(self, make: type[MemoryDisk], *names: str) -> None:
        """Each operation shows a violation on a disk with the fault."""
        for name in names:
            careless = crashes(YOUNG[name], make, journal=True, cuts=lost)
            found = next(careless, None)
            self.assertIsNotNone(found, name)
        forget_deaths(self)

    def test_directories_not_synced(self) -> None:
        """A segment whose directory is not synced loses accepted mail."""
        self.find(NoDirectorySync, "add_small", "pack", "spill_deferral")

    def test_files_not_synced(self) -> None:
        """A segment that is not synced loses accepted mail."""
        self.find(NoFileSync, "add_small", "pack", "spill_deferral")

    def test_answered_before_the_sync(self) -> None:
        """A writer that promises what it only wrote loses accepted mail."""
        really = SegmentWriter.write

        def hasty(self: SegmentWriter, items: Any, *, sync: bool) -> Any:
            return really(self, items, sync=False)

        self.patch(SegmentWriter, "write", hasty)
        self.find(MemoryDisk, "add_second")

    def test_an_error_of_a_sync_ignored(self) -> None:
        """A failed sync that is not heard loses accepted mail."""
        self.assertEqual(failing_sync(MemoryDisk()), [True, True])
        self.assertEqual(failing_sync(ErrorIgnoringDisk()), [True, False])


def failing_sync(disk: MemoryDisk) -> list[bool]:
    """Two messages, the second with a failing sync, then a power cut.

    Gives for each whether what was promised of it holds.
    """
    world = World(disk, journal=True)
    world.get(world.store.start(world.now))
    kept = []
    for number in (1, 2):
        if number == 2:
            disk.refuse(errno.EIO, "sync")
        answer = world.run(world.store.add(fresh(world, number), MESSAGE))
        kept.append(not isinstance(answer[0], Failure))
    disk.relent()
    world.restart(Crash.LOST, 0)
    there = [world.entry(f"{number:016d}") is not None for number in (1, 2)]
    return [found or not promised for found, promised in zip(there, kept, strict=True)]


class JournalTroubleTests(SynchronousTestCase):
    """Disks that fail, power that goes, octets that rot."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.world = World(self.disk, journal=True)
        self.world.get(self.world.store.start(self.world.now))

    def add(self, number: int) -> QueueEntry:
        """A message in the journal."""
        one = fresh(self.world, number)
        self.world.get(self.world.store.add(one, MESSAGE))
        return one

    def segments(self) -> list[str]:
        """The segments there are."""
        return [path for path in self.disk.files() if path.endswith(".log")]

    def test_young_mail_has_no_file(self) -> None:
        """Accepting, sending and recording cost one file for all of it."""
        self.add(1)
        self.world.get(self.world.store.claim(self.world.now, 1))
        self.world.record(to_finish(self.world, fresh(self.world, 1)))
        self.assertEqual(len(self.segments()), 1)
        self.assertEqual(self.world.places(), {})

    def test_a_failed_sync_abandons_the_segment(self) -> None:
        """What failed is refused and not there; what was promised before is."""
        self.add(1)
        for verb in ("sync", "append"):
            self.disk.refuse(errno.EIO, verb)
            with self.assertRaises(StoreError):
                self.add(2)
            self.disk.relent()
            self.add(3 if verb == "sync" else 4)
        self.assertEqual(len(self.segments()), 3)
        for crash in (Crash.KEPT, Crash.LOST):
            self.world.restart(crash, 0)
            there = [self.world.entry(f"{n:016d}") is not None for n in range(1, 5)]
            self.assertEqual(there, [True, False, True, True])

    def test_what_a_failed_sync_took_is_written_again(self) -> None:
        """A result that was answered, but not synced, goes to the next segment."""
        one = self.add(1)
        self.world.get(self.world.store.claim(self.world.now, 1))
        self.world.record(to_finish(self.world, one))
        self.disk.refuse(errno.EIO, "sync")
        self.world.clock.advance(1)
        self.disk.relent()
        self.world.clock.advance(1)
        self.world.restart(Crash.LOST, 0)
        found = self.world.entry(one.id)
        self.assertEqual(found, to_finish(self.world, one))

    def test_a_full_disk_leaves_nothing(self) -> None:
        """The first segment that cannot be made is not there."""
        self.disk.refuse(errno.ENOSPC, "append")
        with self.assertRaises(NoSpace):
            self.add(1)
        self.disk.relent()
        self.assertEqual(self.segments(), [])
        self.add(1)
        self.assertEqual(len(self.world.live_on()), 1)

    def test_power_loss_doubts_all_that_is_open(self) -> None:
        """Another boot without a clean stop: each young recipient may have it."""
        self.add(1)
        self.world.owner = "process 9\nboot b\n"
        self.world.restart(Crash.LOST, 0)
        self.assertEqual(self.world.get(self.world.store.claim(self.world.now, 1)), [])
        self.world.clock.advance(600)
        (again,) = self.world.get(self.world.store.claim(self.world.now, 1))
        self.assertIsNotNone(again.standings[0].in_doubt_since)

    def test_a_clean_stop_leaves_no_doubt(self) -> None:
        """After a stop, another boot delivers at once."""
        one = self.add(1)
        self.world.get(self.world.store.stop())
        self.world.owner = "process 9\nboot b\n"
        self.world.restart(Crash.LOST, 0)
        claimed = self.world.get(self.world.store.claim(self.world.now, 1))
        self.assertEqual(claimed, [one])

    def test_damage_is_passed_over_and_kept(self) -> None:
        """Rotten octets take one message with them; a copy and an event tell it."""
        for number in (1, 2, 3):
            self.add(number)
        (path,) = self.segments()
        at = self.disk.files()[path].find(b"fwd_mta message 1 id=0000000000000002")
        self.disk.spoil(path, at + 5, b"XXXX")
        self.world.restart(Crash.KEPT, 0)
        there = [self.world.entry(f"{n:016d}") is not None for n in (1, 2, 3)]
        self.assertEqual(there, [True, False, True])
        (event,) = [one for one in self.world.events if isinstance(one, Trouble)]
        self.assertIn("damaged", event.what)
        kept = [name for name in self.disk.files() if "/corrupt/" in name]
        self.assertIn(b"xyzzy", self.disk.files()[kept[0]])

    def rot(self, one: QueueEntry, what: bytes) -> None:
        """Let octets of a message in the journal rot, behind everyone's back."""
        (path,) = self.segments()
        octets = self.disk.files()[path]
        at = octets.find(what, octets.find(one.id.encode()))
        self.disk.spoil(path, at, b"XXXX")

    def set_aside(self, one: QueueEntry) -> bytes:
        """What lies in corrupt of a message; nothing else knows it any more."""
        self.assertIsNone(self.world.entry(one.id))
        self.assertEqual(self.world.places()[one.id], [f"queue/corrupt/{one.id}"])
        return self.disk.files()[f"/srv/fwdmta/queue/corrupt/{one.id}"]

    def test_young_mail_that_rots_is_set_aside(self) -> None:
        """Content that is damaged when it is read back goes to corrupt, with a word."""
        one, two = self.add(1), self.add(2)
        self.rot(one, b"xyzzy")
        store: Any = self.world.store
        store._leases.young.drop(one.id)
        self.world.get(store.claim(self.world.now, 2))
        with self.assertRaises(Corrupt):
            self.world.get(store.open(one.id))
        self.assertIn(b"the password is XXXX", self.set_aside(one))
        troubles = [one for one in self.world.events if isinstance(one, Trouble)]
        self.assertIn("queue/corrupt", troubles[0].cure)
        for crash in (Crash.KEPT, Crash.LOST):
            self.world.restart(crash, 0)
            self.set_aside(one)
            self.assertEqual(self.world.entry(two.id), two)

    def test_young_records_that_rot_are_set_aside(self) -> None:
        """A state that cannot be read back does not keep its segment for ever."""
        one = self.add(1)
        self.rot(one, b"accepted")
        store: Any = self.world.store
        store._leases.young.drop(one.id)
        self.assertEqual(self.world.get(store.claim(self.world.now, 1)), [])
        self.set_aside(one)
        for _ in range(40):
            self.world.clock.advance(5)
        self.assertEqual(self.segments(), [])

    def test_an_old_segment_whose_mail_rots(self) -> None:
        """What nobody had claimed is set aside as its segment is put away."""
        one = self.add(1)
        self.rot(one, b"accepted")
        for _ in range(40):
            self.world.clock.advance(5)
        self.set_aside(one)
        self.assertEqual(self.segments(), [])

    def test_an_old_segment_empties_itself(self) -> None:
        """After two minutes what is open is a file, what is finished in a pack."""
        one, two = self.add(1), self.add(2)
        self.world.get(self.world.store.claim(self.world.now, 1))
        self.world.record(to_finish(self.world, one))
        for _ in range(40):
            self.world.clock.advance(5)
        self.assertEqual(self.segments(), [])
        (pack, path) = self.world.places().values()
        self.assertTrue(pack[0].endswith(".pack") or path[0].endswith(".pack"))
        self.assertEqual(self.world.entry(two.id), two)
        self.assertEqual([seen.id for seen in self.world.live_on()], [two.id])

    def test_a_leased_message_may_spill(self) -> None:
        """An attempt goes on while its message becomes a file; its result is kept."""
        one = added(self.world)
        for _ in range(40):
            self.world.clock.advance(5)
        self.assertEqual(self.world.places(), {one.id: [f"queue/incoming/{one.id}"]})
        self.world.get(self.world.store.dot_sent(one.id, [recipient()], self.world.now))
        self.world.record(to_finish(self.world, one))
        steps = self.world.get(self.world.store.timeline(one.id))
        said = [step.what for step in steps]
        self.assertEqual(said, ["accepted", "dot-sent", "attempt"])
        self.assertEqual(self.world.live_on(), [])

    def test_a_packed_message_is_kept_as_evidence(self) -> None:
        """A legal hold takes a message out of its pack, and the rest stays there."""
        one = packed(self.world)
        store = self.world.store
        kept = self.world.get(
            store.change(
                one.id,
                lambda entry: replace(entry, held="a court"),
                Step(self.world.now, "kept"),
            )
        )
        assert kept is not None
        self.assertEqual(kept.held, "a court")
        places = self.world.places()
        self.assertEqual(places[one.id], [f"retained/hold/{one.id}"])
        self.world.clock.advance(31 * 86_400)
        self.world.get(store.sweep(self.world.now))
        self.assertIn(b"xyzzy", self.world.content(one.id))
        self.assertNotIn(b"xyzzy", self.world.content(f"{2:016d}"))

    def test_a_message_that_rots_in_its_pack(self) -> None:
        """It is set aside alone when its time comes; the rest is redacted."""
        one = packed(self.world)
        (pack,) = [path for path in self.disk.files() if path.endswith(".pack")]
        self.disk.spoil(pack, self.disk.files()[pack].find(b"xyzzy"), b"XXXX")
        self.world.clock.advance(31 * 86_400)
        self.world.get(self.world.store.sweep(self.world.now))
        self.set_aside(one)
        self.assertNotIn(b"xyzzy", self.world.content(f"{2:016d}"))
        (trouble,) = [one for one in self.world.events if isinstance(one, Trouble)]
        self.assertIn("look at /srv/fwdmta/queue/corrupt", trouble.cure)

    def test_a_pack_is_mended(self) -> None:
        """`fsck --repair` takes damaged messages out of a pack, and leaves the rest."""
        one = packed(self.world)
        (pack,) = [path for path in self.disk.files() if path.endswith(".pack")]
        self.disk.spoil(pack, self.disk.files()[pack].find(b"xyzzy"), b"XXXX")
        store = self.world.store
        said = self.world.get(store.mend(pack.removeprefix("/srv/fwdmta/")))
        self.assertIn("set aside", said)
        self.set_aside(one)
        self.assertEqual(self.world.content(f"{2:016d}"), HEAD + BODY)

    def test_nothing_of_it_is_a_finding(self) -> None:
        """The walk over every byte knows segments and packs, and reads the latter."""
        packed(self.world)
        inspected = self.world.get(self.world.store.inspect())
        self.assertEqual([str(one) for one in inspected.findings], [])
        (pack,) = [path for path in self.disk.files() if path.endswith(".pack")]
        self.disk.spoil(pack, 200, b"XXXX")
        inspected = self.world.get(self.world.store.inspect())
        self.assertEqual(len(inspected.findings), 1)

    def test_a_segment_without_a_header(self) -> None:
        """A header that rotted takes no message with it; both hear of it."""
        one = self.add(1)
        (path,) = self.segments()
        self.disk.spoil(path, 3, b"XX")
        (finding,) = self.world.get(self.world.store.inspect()).findings
        self.assertIn("damaged", finding.what)
        self.world.restart(Crash.KEPT, 0)
        self.assertEqual(self.world.entry(one.id), one)
        troubles = [one for one in self.world.events if isinstance(one, Trouble)]
        self.assertIn("has no header", troubles[0].what)

    def test_a_pack_that_cannot_be_moved(self) -> None:
        """It counts from its commit; it is moved later, or by the next start."""
        for at_start in (False, True):
            one = self.finish(1 + at_start)
            self.disk.refuse(errno.EIO, "rename")
            self.world.get(retire(self.world, one))
            self.disk.relent()
            if at_start:
                self.world.restart(Crash.LOST, 0)
            else:
                self.world.get(retire(self.world, one))
            (place,) = [
                place
                for place in self.world.places().values()
                if f"{one.id}_" in place[0]
            ]
            self.assertEqual(len(place), 1)
            self.assertEqual(self.world.entry(one.id), one)

    def test_a_spill_that_cannot_be_moved(self) -> None:
        """It counts from its commit; its segment stays until it is in its place.

        So it is moved a minute later, or by the next start, and nothing is lost.
        """
        for tens, verb in enumerate(("rename", "sync_directory"), 1):
            for ones, crash in enumerate((None, *Crash)):
                one = self.spilled(10 * tens + ones, verb)
                self.assertNotEqual(self.segments(), [], (verb, crash))
                if crash is not None:
                    self.world.restart(crash, 0)
                for _ in range(60):
                    self.world.clock.advance(5)
                    self.world.get(self.world.store.claim(self.world.now, 10))
                places = self.world.places()[one.id]
                self.assertEqual(len(places), 1, (verb, crash, places))
                (place,) = places
                self.assertTrue(place.startswith("queue/deferred/"), (verb, crash))
                self.assertEqual(self.world.entry(one.id), one)
                self.assertEqual(self.segments(), [], (verb, crash))

    def spilled(self, number: int, verb: str) -> QueueEntry:
        """A message to be tried in a day, whose file was not moved durably."""
        one = self.add(number)
        self.world.get(self.world.store.claim(self.world.now, 10))
        (standing,) = one.standings
        later = replace(standing, next_attempt_at=self.world.now + 86_400)
        self.disk.refuse(errno.EIO, verb, path="deferred")
        done = self.world.record(replace(one, standings=(later,)))
        for _ in range(40):
            self.world.clock.advance(5)
        self.disk.relent()
        return done

    def finish(self, number: int) -> QueueEntry:
        """A message delivered at once, with all of it synced."""
        one = self.add(number)
        self.world.get(self.world.store.claim(self.world.now, 1))
        done = self.world.record(to_finish(self.world, one))
        self.world.clock.advance(2)
        return done

    def test_a_stop_on_a_dead_disk(self) -> None:
        """The server ends even if it cannot say that it did, and nothing is left."""
        self.add(1)
        self.disk.refuse(errno.EIO)
        self.world.get(self.world.store.stop())
        self.assertEqual(self.world.clock.getDelayedCalls(), [])
        self.disk.relent()
        self.world.restart(Crash.KEPT, 0)
        self.assertEqual(len(self.world.live_on()), 1)
