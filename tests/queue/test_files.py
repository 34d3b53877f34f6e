"""Tests for the file store: damage, failing disks, bounds, restarts."""

import errno
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Attempted, Trouble
from fwd_mta.interfaces import Space
from fwd_mta.mail.entry import QueueEntry, Step
from fwd_mta.mail.errors import Corrupt, NoSpace, StoreError
from fwd_mta.mail.message import Message
from fwd_mta.queue.files import FileStore
from fwd_mta.queue.record import NewerFormat
from fwd_mta.rules import settlement
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.world.disk import Crash, MemoryDisk
from fwd_mta.world.machine import InlineWorker
from tests.builders import recipient
from tests.queue.stores import (
    BODY,
    HEAD,
    MESSAGE,
    StoreCase,
    deferred,
    finished,
    notices_for,
    owing,
)


class FileStoreCase(StoreCase):
    """A file store on a disk in memory."""

    root: str

    disk: MemoryDisk
    memory_bound = 1 << 20
    retention = RetentionPolicy(30 * 86_400.0, 90 * 86_400.0)

    def prepare(self) -> None:
        """A fresh disk, a started store."""
        self.disk = MemoryDisk()
        self.root = "/srv"
        self.set_up()

    @override
    def make(self) -> FileStore:
        """A store on the disk, as it is."""
        return FileStore(
            self.disk,
            self.root,
            InlineWorker(),
            self.wall,
            self.clock,
            self.retention,
            minimum_free_space=1000,
            message_size_limit=10_000,
            emit=self.events.append,
            memory_bound=self.memory_bound,
        )

    def kill(self, crash: Crash = Crash.KEPT) -> None:
        """Kill the process and start another."""
        self.disk.crash(crash)
        self.events.clear()
        self.store = self.make()
        self.get(self.store.start(self.now))

    def paths(self) -> list[str]:
        """Where messages lie."""
        return [
            path.removeprefix("/srv/")
            for path in self.disk.files()
            if not path.endswith("/format")
        ]

    def troubles(self) -> list[Trouble]:
        """What was reported."""
        return [event for event in self.events if isinstance(event, Trouble)]

    def plant(self, path: str, octets: bytes) -> None:
        """A file from elsewhere."""
        file = self.disk.create(path)
        file.append(octets)


class PlaceTests(FileStoreCase, SynchronousTestCase):
    """A message's directory is its state."""

    @override
    def setUp(self) -> None:
        self.prepare()

    def test_the_places(self) -> None:
        """Fresh, waiting, held, finished: each in its place, by UTC minute and hour."""
        fresh = self.add()
        self.assertEqual(self.paths(), [f"queue/incoming/{fresh.id}"])
        self.claim()
        self.record(deferred(fresh, self.now + 600))
        self.assertEqual(self.paths(), [f"queue/deferred/20270115T0810/{fresh.id}"])
        self.change(fresh, lambda e: settlement.hold(e, "odd"), "held")
        self.assertEqual(self.paths(), [f"queue/hold/{fresh.id}"])
        self.change(fresh, lambda e: settlement.cancel(e, self.now), "cancelled")
        self.assertEqual(self.paths(), [f"retained/20270214T08/{fresh.id}"])

    def test_what_owes_lies_in_incoming(self) -> None:
        """A start finds all debts by reading one directory."""
        one = self.record_new(self.now + 600)
        self.clock.advance(600)
        self.claim()
        failed = self.record(owing(one, self.now))
        self.assertEqual(self.paths(), [f"queue/incoming/{one.id}"])
        self.get(self.store.pay(failed, notices_for(failed, self.now)))
        self.assertEqual(
            self.paths(),
            [f"queue/incoming/{one.id}-1", f"retained/20270214T08/{one.id}"],
        )

    def test_empty_minutes_are_removed(self) -> None:
        """The directories do not pile up."""
        for _ in range(5):
            one = self.record_new(self.now + 120)
            self.clock.advance(120)
            self.assertEqual([claimed.id for claimed in self.claim()], [one.id])
            self.record(finished(one, self.now))
        self.clock.advance(120)
        self.claim()
        self.assertLessEqual(len(self.disk.names("/srv/queue/deferred")), 1)

    def test_zero_retention(self) -> None:
        """With content = "0" the next sweep redacts what has just finished."""
        self.retention = RetentionPolicy(0, 90 * 86_400.0)
        self.kill()
        done = self.finish()
        self.clock.advance(30)
        self.assertEqual(self.get(self.store.sweep(self.now)).redacted, 1)
        self.assertNotIn(b"xyzzy", b"".join(self.disk.files().values()))
        self.assertEqual(self.steps(done)[-1], "redacted")

    def test_the_lock_is_released(self) -> None:
        """After a stop another may start."""
        self.get(self.store.stop())
        other = self.make()
        self.get(other.start(self.now))
        self.get(other.stop())


class DamageTests(FileStoreCase, SynchronousTestCase):
    """What is not as it was written is set aside, never delivered, never deleted."""

    @override
    def setUp(self) -> None:
        self.prepare()

    def test_foreign_files_in_incoming(self) -> None:
        """The start goes on, the files are in corrupt, with a reason each."""
        good = self.add()
        torn = self.fresh()
        self.plant("/srv/queue/incoming/README", b"hello\n")
        self.plant(f"/srv/queue/incoming/{torn.id}", b"fwd_mta message 1 id=")
        self.kill()
        self.assertEqual(
            self.paths(),
            [
                f"queue/corrupt/{torn.id}",
                "queue/corrupt/README",
                f"queue/incoming/{good.id}",
            ],
        )
        words = {event.where: event.what for event in self.troubles()}
        self.assertIn("header line", words[f"/srv/queue/incoming/{torn.id}"])
        self.assertEqual(len(words), 2)
        self.assertEqual([one.id for one in self.claim()], [good.id])

    def test_two_of_one_name(self) -> None:
        """Nothing in corrupt is overwritten."""
        for octets in (b"one", b"two"):
            self.plant("/srv/queue/incoming/x", octets)
            self.kill()
        files = self.disk.files()
        self.assertEqual(files["/srv/queue/corrupt/x"], b"one")
        self.assertEqual(files["/srv/queue/corrupt/x.1"], b"two")

    def test_a_damaged_waiting_file(self) -> None:
        """It is found when its minute comes; the others of the minute go out."""
        bad, good = (self.record_new(self.now + 600) for _ in range(2))
        place = "/srv/queue/deferred/20270115T0810"
        self.disk.spoil(f"{place}/{bad.id}", 400, b"\x00\x00")
        self.plant(f"{place}/note.txt", b"x")
        self.clock.advance(600)
        self.assertEqual([one.id for one in self.claim()], [good.id])
        self.assertEqual(
            self.disk.names("/srv/queue/corrupt"), sorted([bad.id, "note.txt"])
        )
        self.assertEqual(len(self.troubles()), 2)

    def test_damaged_content(self) -> None:
        """Content that fails its checksum is never given out, nor tried again."""
        one = self.record_new(self.now + 600)
        self.clock.advance(600)
        self.claim()
        path = f"/srv/queue/deferred/20270115T0810/{one.id}"
        self.disk.spoil(path, 195, b"XXX")
        self.assertIn(
            "checksum of the body", self.failure(self.store.open(one.id), Corrupt)
        )
        self.assertEqual(self.paths(), [f"queue/corrupt/{one.id}"])
        self.assertIsNone(self.store.next_due())
        same = self.record(deferred(one, self.now + 60))
        self.assertEqual(same.id, one.id)
        self.assertEqual(self.claim(), [])

    def test_what_cannot_be_read_is_not_damaged(self) -> None:
        """EIO leaves the file where it is; it is tried again a minute later."""
        one = self.record_new(self.now + 600)
        self.clock.advance(600)
        self.disk.refuse(errno.EIO, "read_at")
        self.assertEqual(self.claim(), [])
        self.assertIn("cannot be read", self.troubles()[0].what)
        self.disk.relent()
        self.assertEqual(self.claim(), [])
        self.clock.advance(60)
        self.assertEqual([claimed.id for claimed in self.claim()], [one.id])
        self.disk.refuse(errno.EIO, "open")
        self.failure(self.store.open(one.id), StoreError)
        self.assertEqual(len(self.disk.names("/srv/queue/corrupt")), 0)

    def test_a_minute_that_cannot_be_listed(self) -> None:
        """It is listed again a minute later."""
        one = self.record_new(self.now + 600)
        self.clock.advance(600)
        self.disk.refuse(errno.EIO, "names", path="T0810")
        self.assertEqual(self.claim(), [])
        self.disk.relent()
        self.clock.advance(60)
        self.assertEqual([claimed.id for claimed in self.claim()], [one.id])

    def test_a_newer_tree(self) -> None:
        """An older program refuses to start on it, with one clear line."""
        self.get(self.store.stop())
        self.disk.spoil("/srv/queue/format", 0, b"fwd_mta queue 3\n")
        words = self.failure(self.make().start(self.now), NewerFormat)
        self.assertIn("the queue has format 3, this fwd_mta reads up to 2", words)
        self.disk.spoil("/srv/queue/format", 0, b"fwd_mta queue 2\n")
        self.get(self.make().start(self.now))

    def test_a_newer_message(self) -> None:
        """Nor does it touch a message of a newer format."""
        one = self.add()
        path = f"/srv/queue/incoming/{one.id}"
        self.disk.spoil(path, 0, b"fwd_mta message 2")
        self.get(self.store.stop())
        words = self.failure(self.make().start(self.now), NewerFormat)
        self.assertIn(path, words)
        self.assertTrue(self.disk.exists(path))

    def test_a_torn_record(self) -> None:
        """A half-written last record is ignored, and mended by the next one."""
        one = self.record_new(self.now + 600)
        path = f"/srv/queue/deferred/20270115T0810/{one.id}"
        file = self.disk.open(path)
        file.append(b"999 0badf00d {half of a rec")
        self.clock.advance(600)
        self.assertEqual(self.claim(), [one])
        self.record(deferred(one, self.now + 600))
        self.clock.advance(600)
        self.assertEqual(len(self.claim()), 1)
        self.assertEqual(self.steps(one), ["accepted", "attempt", "attempt"])
        self.assertEqual(self.body(self.get(self.store.open(one.id))), BODY)
        self.assertEqual(self.troubles(), [])

    def test_a_file_that_is_gone(self) -> None:
        """A file that somebody removed ends its entry with a word about it."""
        one = self.add()
        self.claim()
        self.disk.remove(f"/srv/queue/incoming/{one.id}")
        self.record(deferred(one, self.now + 60))
        self.assertEqual(len(self.troubles()), 1)
        self.clock.advance(60)
        self.assertEqual(self.claim(), [])


class ShortageTests(FileStoreCase, SynchronousTestCase):
    """Full, read-only and failing disks: nothing is promised, nothing is lost."""

    @override
    def setUp(self) -> None:
        self.prepare()

    def test_a_full_disk(self) -> None:
        """A message that does not fit is refused with 452 and leaves nothing."""
        self.disk.refuse(errno.ENOSPC, "append")
        self.failure(self.store.add(self.fresh(), MESSAGE), NoSpace)
        self.disk.relent()
        self.assertEqual(self.paths(), [])
        self.assertEqual(self.claim(), [])
        self.add()
        self.assertEqual(len(self.claim()), 1)

    def test_a_failed_sync(self) -> None:
        """After a failed sync the file is gone, whichever sync it was."""
        for verb in ("sync", "sync_directory"):
            self.disk.refuse(errno.EIO, verb)
            self.failure(self.store.add(self.fresh(), MESSAGE), StoreError)
            self.disk.relent()
            self.assertEqual(self.paths(), [])
        self.assertEqual(self.claim(), [])

    def test_a_read_only_disk(self) -> None:
        """Acceptance answers 451, and resumes by itself."""
        self.disk.refuse(errno.EROFS)
        self.failure(self.store.add(self.fresh(), MESSAGE), StoreError)
        self.disk.relent()
        self.add()
        self.assertEqual(len(self.claim()), 1)

    def test_a_large_message_on_a_full_disk(self) -> None:
        """A spool that cannot write says so at its end, and leaves nothing."""
        self.disk.refuse(errno.ENOSPC, "append")
        spool = self.store.spool()
        for _ in range(10):
            spool.write(b"x" * 100_000)
        self.assertEqual(spool.backlog, 0)
        self.failure(spool.done(), NoSpace)
        spool.discard()
        self.disk.relent()
        self.assertEqual(self.paths(), [])

    def test_a_discarded_spool(self) -> None:
        """A client that goes away leaves no file."""
        spool = self.store.spool()
        spool.write(b"x" * 300_000)
        self.assertEqual(self.paths(), ["queue/tmp/1.body"])
        spool.discard()
        self.assertEqual(self.paths(), [])
        self.failure(spool.done(), StoreError)

    def test_a_record_that_failed_is_made_again(self) -> None:
        """After a failed write or sync the next record first mends the file."""
        for verb in ("append", "sync"):
            one = self.add()
            self.claim()
            waiting = deferred(one, self.now + 600)
            self.disk.refuse(errno.EIO, verb)
            step = Step(self.now, "attempt")
            self.failure(self.store.record(waiting, step), StoreError)
            self.disk.relent()
            self.disk.log.clear()
            self.record(waiting)
            copy = f"/srv/queue/tmp/{one.id}.copy"
            self.assertIn(f"rename {copy} /srv/queue/incoming/{one.id}", self.disk.log)
            self.assertEqual(self.steps(one), ["accepted", "attempt"])
            self.assertEqual(self.body(self.get(self.store.open(one.id))), BODY)

    def test_a_payment_that_failed_is_made_again(self) -> None:
        """Whichever call fails, a second payment ends with one notice."""
        for verb, path in [
            ("create", "notice"),
            ("append", "notice"),
            ("sync", "notice"),
            ("sync_directory", "tmp"),
            ("append", "incoming"),
            ("sync", "incoming"),
        ]:
            one = self.add()
            self.claim()
            failed = self.record(owing(one, self.now))
            notices = notices_for(failed, self.now)
            self.disk.refuse(errno.EIO, verb, path=path)
            self.failure(self.store.pay(failed, notices), StoreError)
            self.disk.relent()
            self.get(self.store.pay(failed, notices))
            claimed = [found.id for found in self.claim()]
            self.assertEqual(claimed, [f"{one.id}-1"], f"{verb} {path}")
            self.record(finished(notices[0][0], self.now))
            self.assertEqual(self.steps(one), ["accepted", "attempt", "paid"])
        self.assertEqual(self.disk.names("/srv/queue/tmp"), [])

    def test_a_message_that_cannot_be_filed_stays_recorded(self) -> None:
        """A record whose rename fails is a record; the next start files it."""
        one = self.add()
        self.claim()
        self.disk.refuse(errno.EIO, "rename")
        waiting = deferred(one, self.now + 600)
        self.assertEqual(self.record(waiting), waiting)
        self.assertIn("not filed", self.troubles()[0].what)
        self.disk.relent()
        self.assertEqual(self.claim(), [])
        self.kill()
        self.assertEqual(self.paths(), [f"queue/deferred/20270115T0810/{one.id}"])

    def test_room(self) -> None:
        """The reserve, one and a half largest messages, and what is arriving fit."""
        need = 1000 + 15_000
        for octets, inodes, answer in [
            (need, 1000, True),
            (need - 1, 1000, False),
            (need, 999, False),
        ]:
            self.disk.left = Space(octets, inodes)
            self.clock.advance(5)
            self.assertIs(self.store.has_room(0), answer)
        self.disk.left = Space(need, 1000)
        self.clock.advance(5)
        self.assertTrue(self.store.has_room(0))
        spool = self.store.spool()
        spool.write(b"12345")
        self.assertFalse(self.store.has_room(0))
        self.get(spool.done())
        self.assertTrue(self.store.has_room(15_000))
        self.assertFalse(self.store.has_room(15_001))
        words = [event.what for event in self.troubles()]
        self.assertIn("inodes are left", words[0])
        self.assertIn("there is room again", words[1])

    def test_a_disk_that_cannot_be_asked(self) -> None:
        """No answer is no room."""
        self.disk.refuse(errno.EIO, "space")
        self.clock.advance(5)
        self.assertFalse(self.store.has_room(0))


class DoubtTests(FileStoreCase, SynchronousTestCase):
    """A final dot without an answer (P2)."""

    @override
    def setUp(self) -> None:
        self.prepare()

    def dot(self, one: QueueEntry) -> None:
        """A dot goes out, and the process is killed."""
        self.get(self.store.dot_sent(one.id, [recipient()], self.now))
        self.kill()

    def test_a_fresh_message(self) -> None:
        """It is tried again ten minutes later, and everybody is told."""
        one = self.add()
        self.claim()
        self.dot(one)
        self.assertEqual(self.claim(), [])
        (event,) = self.events
        assert isinstance(event, Attempted)
        self.assertEqual((event.id, event.recipient), (one.id, "bob@example.net"))
        self.assertEqual((event.in_doubt, event.next_at), (True, self.now + 600))
        self.clock.advance(600)
        (again,) = self.claim()
        self.assertIsNotNone(again.standings[0].in_doubt_since)
        self.assertEqual(self.steps(one), ["accepted", "dot-sent", "in-doubt"])

    def test_an_operator_overrides_the_wait(self) -> None:
        """`queue retry` makes what is in doubt due, also before it was read."""
        one = self.record_new(self.now + 600)
        self.clock.advance(600)
        self.claim()
        self.dot(one)
        self.change(one, lambda e: settlement.retry_now(e, self.now), "retried")
        self.assertEqual([claimed.id for claimed in self.claim()], [one.id])
        self.assertEqual(self.steps(one)[-3:], ["dot-sent", "in-doubt", "retried"])

    def test_a_dot_that_cannot_be_noted(self) -> None:
        """Without the mark the dot must not go: the caller is told."""
        one = self.add()
        self.claim()
        self.disk.refuse(errno.EIO, "append")
        noting = self.store.dot_sent(one.id, [recipient()], self.now)
        self.failure(noting, StoreError)
        self.disk.relent()
        self.record(deferred(one, self.now + 600))
        self.assertEqual(self.steps(one), ["accepted", "attempt"])


class BoundTests(FileStoreCase, SynchronousTestCase):
    """Memory follows what is near, not what waits (P7)."""

    memory_bound = 20_000

    @override
    def setUp(self) -> None:
        self.prepare()

    def test_young_mail_over_the_bound_is_read_back(self) -> None:
        """Much more young mail than fits in memory is given out whole all the same."""
        added = [self.add() for _ in range(60)]
        leases = self._leases()
        self.assertLessEqual(leases.young.octets, 20_000)
        claimed = self.claim(100)
        self.assertEqual(
            sorted(one.id for one in claimed), sorted(one.id for one in added)
        )
        for one in claimed:
            self.assertEqual(self.body(self.get(self.store.open(one.id))), BODY)

    def test_young_mail_within_the_bound_reads_no_disk(self) -> None:
        """The first delivery of fresh mail opens no file."""
        one = self.add()
        self.disk.log.clear()
        self.claim()
        found = self.get(self.store.open(one.id))
        self.assertEqual((found.head, found.body), (HEAD, BODY))
        self.assertEqual(list(self.disk.log), [])

    def _leases(self) -> Any:
        store: Any = self.store
        return store._leases

    def test_waiting_mail_is_not_in_memory(self) -> None:
        """Of mail that waits only the minutes are known, before and after a start."""
        for number in range(300):
            self.record_new(self.now + 7200 + 60 * (number % 5))
        for _ in range(2):
            self.assertEqual(len(self._leases().agenda), 0)
            self.assertLess(self._leases().young.octets, 20_000)
            self.kill()
            reads = [line for line in self.disk.log if line.startswith("open ")]
            self.assertFalse([line for line in reads[-2:] if "deferred" in line])

    def test_a_claim_reads_what_it_gives(self) -> None:
        """A small claim of a large minute does not read the whole minute."""
        for _ in range(350):
            self.record_new(self.now + 600)
        self.clock.advance(660)
        self.disk.log.clear()
        self.assertEqual(len(self.claim(5)), 5)
        opened = [line for line in self.disk.log if line.startswith("open ")]
        self.assertLessEqual(len(opened), 110)

    def test_a_wrong_minute_is_put_right(self) -> None:
        """A file whose records say later than its directory is filed anew."""
        one = self.record_new(self.now + 7200)
        old = f"/srv/queue/deferred/20270115T1000/{one.id}"
        self.disk.make_directory("/srv/queue/deferred/20270115T0801")
        self.disk.rename(old, f"/srv/queue/deferred/20270115T0801/{one.id}")
        self.kill()
        self.clock.advance(120)
        self.assertEqual(self.claim(), [])
        self.assertEqual(self.paths(), [old.removeprefix("/srv/")])
        self.clock.advance(7080)
        self.assertEqual(self.claim(), [one])

    def test_a_held_file_in_a_minute(self) -> None:
        """A file whose records say held goes to hold when it is found."""
        one = self.add(held="odd")
        self.disk.make_directory("/srv/queue/deferred/20270115T0801")
        self.disk.rename(
            f"/srv/queue/hold/{one.id}", f"/srv/queue/deferred/20270115T0801/{one.id}"
        )
        self.kill()
        self.clock.advance(120)
        self.assertEqual(self.claim(), [])
        self.assertEqual(self.paths(), [f"queue/hold/{one.id}"])

    def test_a_flush_of_a_large_queue(self) -> None:
        """Retrying everything keeps memory bounded and gives out all of it, once."""
        self.patch_lookahead(10)
        waiting = [self.record_new(self.now + 7200) for _ in range(50)]
        for one in waiting:
            self.change(one, lambda e: settlement.retry_now(e, self.now), "retried")
            self.assertLessEqual(len(self._leases().agenda), 11)
        found: list[str] = []
        for _ in range(20):
            found += [one.id for one in self.claim(5)]
            self.clock.advance(30)
        self.assertEqual(sorted(found), sorted(one.id for one in waiting))

    def patch_lookahead(self, number: int) -> None:
        """Let fewer entries be near."""
        self.patch(__import__("fwd_mta.queue.agenda").queue.agenda, "LOOKAHEAD", number)

    def test_a_change_while_it_is_read(self) -> None:
        """Two changes of one entry at once are both made."""
        one = self.record_new(self.now + 7200)
        first = self.hold(one, "first")
        second = self.hold(one, "second")
        held = [self.get(work) for work in (first, second)]
        self.assertEqual([found and found.held for found in held], ["first", "second"])

    def hold(self, one: QueueEntry, reason: str) -> Awaitable[QueueEntry | None]:
        """Have an operator hold an entry."""
        step = Step(self.now, "held", reason)
        return self.store.change(one.id, lambda e: settlement.hold(e, reason), step)

    def test_redaction_while_a_large_message_is_read(self) -> None:
        """A reader never gets the placeholder's octets as if they were the body's."""
        one, _ = self.large()
        self.claim()
        self.record(finished(one, self.now))
        found = self.get(self.store.open(one.id))
        self.get(self.store.redact(one.id))
        self.assertIn("redacted", self.failure(found.read(0, 10), StoreError))

    def test_an_old_id_is_known_wherever_it_lies(self) -> None:
        """After a restart, too, an id is added only once."""
        one = self.record_new(self.now + 7200)
        self.clock.advance(1)
        self.kill()
        self.get(self.store.add(one, Message(HEAD, b"other\r\n")))
        self.assertEqual(len(self.paths()), 1)
        self.assertEqual(self.body(self.get(self.store.open(one.id))), BODY)

    def test_a_copy_of_a_finished_entry(self) -> None:
        """A finished message found among the waiting is filed, not sent again."""
        one = self.finish()
        (path,) = self.paths()
        self.disk.rename(f"/srv/{path}", f"/srv/queue/incoming/{one.id}")
        self.kill()
        self.assertEqual(self.paths(), [path])
        self.assertEqual(self.claim(), [])
        self.assertEqual(replace(one), self.listed(ids=(one.id,))[0])
