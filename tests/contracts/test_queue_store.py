"""What every queue store must do, asked of each implementation."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.interfaces import Census, Disk, DiskFile, QueueStore
from fwd_mta.mail.entry import (
    Notice,
    NoticeKind,
    QueueEntry,
    Standing,
    Status,
    Step,
)
from fwd_mta.mail.errors import StoreError
from fwd_mta.mail.message import Message
from fwd_mta.net.disk import SystemDisk
from fwd_mta.queue.files import FileStore
from fwd_mta.queue.memory import MemoryStore
from fwd_mta.rules import settlement
from fwd_mta.rules.identity import notice_id
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.machine import InlineWorker
from tests.builders import recipient
from tests.queue.stores import (
    BODY,
    HEAD,
    MEBI,
    MESSAGE,
    POLICY,
    StoreCase,
    deferred,
    finished,
    notices_for,
    owing,
)


class QueueStoreContract(StoreCase):
    """The contract; subclasses make a store, and may open the same one anew."""

    # add, claim, open

    def test_what_is_added_comes_back(self) -> None:
        """A message is claimed once, and is byte for byte what was added."""
        case: Any = self
        one = self.add("bob@example.net", "eve@example.net")
        case.assertEqual(self.claim(), [one])
        case.assertEqual(self.claim(), [])
        found = self.get(self.store.open(one.id))
        case.assertEqual((found.head, self.body(found)), (HEAD, BODY))
        case.assertEqual(self.steps(one), ["accepted"])

    def test_an_empty_message_is_a_message(self) -> None:
        """A body of no octets is kept and given back."""
        case: Any = self
        one = self.fresh()
        self.get(self.store.add(one, Message(b"", b"")))
        found = self.get(self.store.open(one.id))
        case.assertEqual((found.head, self.body(found)), (b"", b""))

    def test_adding_twice_adds_once(self) -> None:
        """An id that is there stays as it is, wherever its message lies."""
        case: Any = self
        one = self.add()
        self.get(self.store.add(one, Message(HEAD, b"other\r\n")))
        case.assertEqual(len(self.claim()), 1)
        self.record(deferred(one, self.now + 600))
        self.get(self.store.add(one, Message(HEAD, b"other\r\n")))
        case.assertEqual(self.claim(), [])
        case.assertEqual(self.body(self.get(self.store.open(one.id))), BODY)
        case.assertEqual(len(self.listed()), 1)

    def test_an_id_that_is_none_is_refused(self) -> None:
        """What becomes a file name must be an id of ours."""
        bad = self.fresh(id="../../etc/passwd")
        self.failure(self.store.add(bad, MESSAGE), StoreError)

    def test_the_oldest_due_is_first(self) -> None:
        """Claims follow the due times, and take no more than was asked for."""
        case: Any = self
        third = self.add(standings=(Standing(recipient(), self.now - 1),))
        first = self.add(standings=(Standing(recipient(), self.now - 30),))
        second = self.add(standings=(Standing(recipient(), self.now - 20),))
        case.assertEqual(self.claim(2), [first, second])
        case.assertEqual(self.claim(2), [third])

    def test_nothing_comes_before_it_is_due(self) -> None:
        """A message with a release time waits for it (RFC 4865)."""
        case: Any = self
        later = self.now + 7200
        one = self.add(standings=(Standing(recipient(), later),))
        case.assertEqual(self.claim(), [])
        due = self.store.next_due()
        assert due is not None
        case.assertTrue(later - 60 < due <= later)
        self.clock.advance(7200)
        case.assertEqual(self.claim(), [one])

    def test_what_arrives_held_is_not_claimed(self) -> None:
        """A message on hold waits for an operator."""
        case: Any = self
        self.add(held="looks odd")
        case.assertEqual(self.claim(), [])
        case.assertIsNone(self.store.next_due())
        case.assertEqual([one.held for one in self.listed()], ["looks odd"])

    def test_watchers_hear_of_new_mail(self) -> None:
        """Whoever watches is called when something is added."""
        case: Any = self
        heard: list[float | None] = []
        self.store.watch(lambda: heard.append(self.store.next_due()))
        one = self.add()
        case.assertEqual(heard[-1:], [one.due])

    def test_unknown_content(self) -> None:
        """Content that is not there is an error of the store, not of the caller."""
        self.failure(self.store.open("0000000000000000"), StoreError)

    # Large messages

    def test_a_large_message(self) -> None:
        """A large body is spooled, added, and read by ranges."""
        case: Any = self
        one, octets = self.large()
        case.assertEqual(self.claim(), [one])
        found = self.get(self.store.open(one.id))
        case.assertEqual(found.body_size, len(octets))
        case.assertEqual(self.get(found.read(MEBI, 100)), octets[MEBI : MEBI + 100])
        case.assertEqual(self.get(found.read(len(octets) - 5, 100)), octets[-5:])
        case.assertEqual(self.get(found.read(len(octets), 100)), b"")
        self.record(deferred(one, self.now + 600))
        case.assertEqual(self.body(found), octets)

    def test_a_body_of_another_entry_can_be_added(self) -> None:
        """A large body read from one message can be the content of another."""
        case: Any = self
        one, octets = self.large()
        found = self.get(self.store.open(one.id))
        two = self.fresh()
        self.get(self.store.add(two, found))
        again = self.get(self.store.open(two.id))
        case.assertEqual(self.body(again), octets)

    def test_a_small_body_through_the_spool(self) -> None:
        """A small body is given back as bytes."""
        case: Any = self
        spool = self.store.spool()
        spool.write(b"one\r\n")
        spool.write(b"two\r\n")
        case.assertEqual(spool.backlog, 0)
        case.assertEqual(self.get(spool.done()), b"one\r\ntwo\r\n")
        spool.discard()
        spool.discard()

    # record

    def test_a_deferred_entry_comes_back(self) -> None:
        """What was recorded for later is claimed then, with all that was recorded."""
        case: Any = self
        one = self.add()
        self.claim()
        waiting = deferred(one, self.now + 300)
        case.assertEqual(self.record(waiting), waiting)
        case.assertEqual(self.claim(), [])
        self.clock.advance(299)
        case.assertEqual(self.claim(), [])
        self.clock.advance(1)
        case.assertEqual(self.claim(), [waiting])
        case.assertEqual(self.body(self.get(self.store.open(one.id))), BODY)
        case.assertEqual(self.steps(one), ["accepted", "attempt"])

    def test_five_days_of_retries(self) -> None:
        """An entry can be claimed and recorded over and over."""
        case: Any = self
        one = self.add()
        times = []
        for _ in range(100):
            (claimed,) = self.claim()
            times.append(self.now)
            self.record(deferred(claimed, self.now + 4000.25))
            due = self.store.next_due()
            while due is not None and due < times[-1] + 4000:
                self.clock.advance(max(0.0, due - self.now))
                case.assertEqual(self.claim(), [])
                due = self.store.next_due()
            assert due is not None
            self.clock.advance(due - self.now)
        waits = {round(b - a, 3) for a, b in pairwise(times)}
        case.assertEqual(waits, {4000.25})
        case.assertEqual(len(self.steps(one)), 101)

    def test_what_is_put_off_comes_back_untouched(self) -> None:
        """Without a record: soon in memory, later by its place, and never too early."""
        case: Any = self
        for wait in (5.0, 2000.0):
            one = self.add()
            case.assertEqual(self.claim(), [one])
            self.get(self.store.postpone(one, self.now + wait))
            case.assertEqual(self.claim(), [])
            self.clock.advance(wait - min(61, wait - 1))
            case.assertEqual(self.claim(), [])
            self.clock.advance(62)
            case.assertEqual(self.claim(), [one])
            case.assertEqual(self.steps(one), ["accepted"])
            self.record(finished(one, self.now))

    def test_a_change_reaches_what_is_put_off(self) -> None:
        """An operator's wish that came during the attempt is done with its end."""
        case: Any = self
        one = self.add()
        self.claim()
        step = Step(self.now, "retried")
        self.get(
            self.store.change(
                one.id, lambda found: settlement.hold(found, "look"), step
            )
        )
        self.get(self.store.postpone(one, self.now + 2000))
        case.assertEqual([each.held for each in self.listed()], ["look"])

    def test_a_lease_can_be_kept(self) -> None:
        """A record without release keeps the entry with whoever has it."""
        case: Any = self
        one = self.add()
        self.claim()
        half = deferred(one, self.now - 1)
        case.assertEqual(self.record(half, release=False), half)
        case.assertEqual(self.claim(), [])
        case.assertIsNone(self.store.next_due())
        self.record(deferred(one, self.now))
        case.assertEqual(len(self.claim()), 1)

    def test_a_finished_entry_is_over(self) -> None:
        """It is due no more, is listed only when asked for, and can still be read."""
        case: Any = self
        done = self.finish()
        self.clock.advance(86_400)
        case.assertEqual(self.claim(), [])
        case.assertIsNone(self.store.next_due())
        case.assertEqual(self.listed(), [])
        case.assertEqual(self.listed(finished=True), [done])
        case.assertEqual(self.listed(states=(Status.SENT,)), [done])
        case.assertEqual(self.listed(ids=(done.id,)), [done])
        case.assertEqual(self.body(self.get(self.store.open(done.id))), BODY)

    def test_many_come_back_together(self) -> None:
        """Hundreds that are due in one minute are all claimed, each once."""
        case: Any = self
        for number in range(250):
            self.record_new(self.now + 600 + number % 50)
        self.clock.advance(700)
        found: list[str] = []
        while some := self.claim(40):
            found += [one.id for one in some]
            for one in some:
                self.record(finished(one, self.now))
        case.assertEqual((len(found), len(set(found))), (250, 250))
        case.assertIsNone(self.store.next_due())

    # Notices

    def test_what_is_owed_is_paid_once(self) -> None:
        """The notice enters with the parent's debt cleared, and only once."""
        case: Any = self
        one = self.add()
        self.claim()
        failed = self.record(owing(one, self.now))
        case.assertEqual(len(failed.owed), 1)
        notices = notices_for(failed, self.now)
        paid = self.get(self.store.pay(replace(failed, owed=()), notices))
        case.assertEqual(paid.owed, ())
        again = self.get(self.store.pay(failed, notices))
        case.assertEqual(again, paid)
        case.assertEqual(self.claim(), [notices[0][0]])
        case.assertEqual(self.claim(), [])
        found = self.get(self.store.open(notices[0][0].id))
        case.assertEqual(self.body(found), b"It failed.\r\n")
        case.assertEqual(self.steps(one), ["accepted", "attempt", "paid"])

    def test_two_notices_of_one_entry(self) -> None:
        """A delay notice and a failure notice are two messages."""
        case: Any = self
        one = self.add()
        self.claim()
        failed = owing(one, self.now)
        other = Notice(notice_id(one.id, 2), NoticeKind.DELAYED, (recipient(),))
        failed = self.record(replace(failed, owed=(*failed.owed, other), notices=2))
        self.get(self.store.pay(failed, notices_for(failed, self.now)))
        case.assertEqual(
            {claimed.id for claimed in self.claim()}, {f"{one.id}-1", f"{one.id}-2"}
        )

    def test_a_waiting_entry_that_pays_waits_on(self) -> None:
        """After a delay notice the entry comes back when it is due."""
        case: Any = self
        one = self.add()
        self.claim()
        notice = Notice(notice_id(one.id, 1), NoticeKind.DELAYED, (recipient(),))
        late = replace(deferred(one, self.now + 900), owed=(notice,), notices=1)
        late = self.record(late)
        paid = self.get(self.store.pay(late, notices_for(late, self.now)))
        case.assertEqual([claimed.id for claimed in self.claim()], [notice.id])
        self.clock.advance(900)
        case.assertEqual(self.claim(), [paid])

    # dot sent

    def test_a_dot_is_noted(self) -> None:
        """That a final dot goes out is in the timeline."""
        case: Any = self
        one = self.add()
        self.claim()
        self.get(self.store.dot_sent(one.id, [recipient()], self.now))
        self.record(finished(one, self.now))
        case.assertEqual(self.steps(one), ["accepted", "dot-sent", "attempt"])
        note = self.get(self.store.timeline(one.id))[1].note
        case.assertEqual(note, "bob@example.net")

    # Operators

    def test_hold_and_release(self) -> None:
        """A held entry is not claimed until it is released."""
        case: Any = self
        one = self.add()
        held = self.change(one, lambda e: settlement.hold(e, "wait"), "held")
        case.assertEqual(held and held.held, "wait")
        self.clock.advance(86_400)
        case.assertEqual(self.claim(), [])
        case.assertIsNone(self.store.next_due())
        self.change(one, lambda e: settlement.release(e, self.now), "released")
        case.assertEqual([claimed.id for claimed in self.claim()], [one.id])
        case.assertEqual(self.steps(one), ["accepted", "held", "released"])

    def test_retry_now(self) -> None:
        """What waits for hours can be made due at once."""
        case: Any = self
        one = self.record_new(self.now + 7200)
        heard: list[float | None] = []
        self.store.watch(lambda: heard.append(self.store.next_due()))
        self.change(one, lambda e: settlement.retry_now(e, self.now), "retried")
        case.assertTrue(heard[-1] is not None and heard[-1] <= self.now)
        case.assertEqual([claimed.id for claimed in self.claim()], [one.id])

    def test_cancel(self) -> None:
        """A cancelled entry is finished, and says so."""
        case: Any = self
        one = self.record_new(self.now + 7200)
        gone = self.change(one, lambda e: settlement.cancel(e, self.now), "cancelled")
        case.assertEqual(gone and gone.status, Status.REJECTED)
        self.clock.advance(7200)
        case.assertEqual(self.claim(), [])

    def test_a_change_during_an_attempt_waits_for_its_record(self) -> None:
        """What the attempt did is recorded, then the operator's wish is applied."""
        case: Any = self
        one = self.add()
        self.claim()
        now = self.change(one, lambda e: settlement.hold(e, "wait"), "held")
        case.assertEqual(now, one)
        stored = self.record(deferred(one, self.now + 60))
        case.assertEqual((stored.held, stored.standings[0].attempts), ("wait", 1))
        self.clock.advance(3600)
        case.assertEqual(self.claim(), [])
        case.assertEqual(self.steps(one), ["accepted", "attempt", "held"])

    def test_a_change_of_what_is_not_there(self) -> None:
        """An unknown id is None, and nothing is made."""
        case: Any = self
        unknown = self.fresh()
        case.assertIsNone(self.change(unknown, lambda e: e, "held"))
        case.assertEqual(self.listed(), [])

    def test_a_finished_entry_is_not_changed(self) -> None:
        """What is over cannot be held or cancelled."""
        case: Any = self
        done = self.finish()
        same = self.change(done, lambda e: settlement.cancel(e, self.now), "cancelled")
        case.assertEqual(same, done)
        case.assertEqual(self.steps(done), ["accepted", "attempt"])

    def test_lists_and_filters(self) -> None:
        """Lists are oldest first and take what the filter wants."""
        case: Any = self
        first = self.add("a@one.example")
        self.clock.advance(1)
        second = self.record_new(self.now + 900)
        self.clock.advance(1)
        third = self.add(held="odd")
        case.assertEqual(
            [one.id for one in self.listed()], [first.id, second.id, third.id]
        )
        case.assertEqual(self.listed(domain="one.example"), [first])
        case.assertEqual(self.listed(states=(Status.DEFERRED,)), [second])
        case.assertEqual(self.listed(ids=(third.id,)), [third])
        case.assertEqual(self.listed(ids=("0000000000000000",)), [])

    def test_no_timeline_of_what_is_not_there(self) -> None:
        """An unknown id has no timeline."""
        case: Any = self
        case.assertEqual(self.get(self.store.timeline("0000000000000000")), [])

    # Retention

    def test_redaction_on_request(self) -> None:
        """Content goes, the placeholder and the timeline stay."""
        case: Any = self
        done = self.finish()
        case.assertTrue(self.get(self.store.redact(done.id)))
        case.assertTrue(self.get(self.store.redact(done.id)))
        found = self.get(self.store.open(done.id))
        whole = found.head + self.body(found)
        case.assertNotIn(b"secret", whole)
        case.assertNotIn(b"xyzzy", whole)
        case.assertIn(b"From: Ann <ann@example.com>\r\n", found.head)
        case.assertIn(b"delivered to all of its recipients", whole)
        case.assertEqual(self.steps(done), ["accepted", "attempt", "redacted"])
        (kept,) = self.listed(ids=(done.id,))
        case.assertEqual(kept, replace(done, redacted_at=self.now))

    def test_what_waits_is_never_redacted(self) -> None:
        """Redaction of queued mail is refused, at whatever age."""
        case: Any = self
        one = self.record_new(self.now + 900)
        case.assertFalse(self.get(self.store.redact(one.id)))
        case.assertFalse(self.get(self.store.redact("0000000000000000")))
        self.clock.advance(100 * 86_400)
        self.get(self.store.sweep(self.now))
        case.assertEqual(self.body(self.get(self.store.open(one.id))), BODY)

    def test_the_sweep(self) -> None:
        """Content goes after 30 days, the record after 90, neither before."""
        case: Any = self
        done = self.finish()
        self.clock.advance(30 * 86_400 - 3600)
        self.get(self.store.sweep(self.now))
        case.assertEqual(self.body(self.get(self.store.open(done.id))), BODY)
        self.clock.advance(2 * 3600)
        case.assertEqual(self.get(self.store.sweep(self.now)).redacted, 1)
        case.assertNotEqual(self.body(self.get(self.store.open(done.id))), BODY)
        self.clock.advance(60 * 86_400 - 2 * 3600)
        case.assertEqual(self.get(self.store.sweep(self.now)).purged, 0)
        case.assertEqual(len(self.steps(done)), 3)
        self.clock.advance(2 * 3600)
        case.assertEqual(self.get(self.store.sweep(self.now)).purged, 1)
        case.assertEqual(self.steps(done), [])
        case.assertEqual(self.listed(finished=True), [])

    def test_a_page_at_a_time(self) -> None:
        """A list comes in pages by id, wherever each message lies; none is missed."""
        case: Any = self
        ids = []
        for number in range(7):
            ids.append(self.add(held="odd" if number % 3 == 0 else None).id)
            self.clock.advance(1)
        pages, after = [], ""
        while page := self.listed(limit=3, after=after):
            pages.append([one.id for one in page])
            after = page[-1].id
        case.assertEqual(pages, [ids[:3], ids[3:6], ids[6:]])
        case.assertEqual([one.id for one in self.listed(limit=1, ids=ids)], ids[:1])

    def test_a_receipt(self) -> None:
        """A sweep tells what it did by a digest that anybody can compute."""
        case: Any = self
        done = self.finish()
        self.clock.advance(30 * 86_400 + 3600)
        swept = self.get(self.store.sweep(self.now))
        lines = f"redact {done.id}\n".encode()
        case.assertEqual(swept.digest, sha256(lines).hexdigest())

    def test_a_census(self) -> None:
        """What waits is counted by place; what is finished is not."""
        case: Any = self
        case.assertEqual(self.get(self.store.census()), Census())
        first = self.record_new(self.now + 900)
        self.clock.advance(10)
        self.finish()
        self.add(held="odd")
        self.add()
        counted = self.get(self.store.census())
        case.assertEqual((counted.incoming, counted.deferred, counted.held), (1, 1, 1))
        case.assertAlmostEqual(counted.oldest, first.queued_at, delta=0.001)

    def test_what_is_late_is_swept_at_once(self) -> None:
        """A message that finishes after its content is due is redacted next."""
        case: Any = self
        one = self.add()
        self.claim()
        self.clock.advance(31 * 86_400)
        done = self.record(finished(one, self.now))
        case.assertEqual(self.get(self.store.sweep(self.now)).redacted, 1)
        case.assertEqual(self.steps(done)[-1], "redacted")


class MemoryStoreTests(QueueStoreContract, SynchronousTestCase):
    """The store in a dictionary."""

    @override
    def setUp(self) -> None:
        self.set_up()

    @override
    def make(self) -> QueueStore:
        """A dictionary."""
        return MemoryStore(self.wall, POLICY)


class FileStoreContract(QueueStoreContract):
    """Stores in files, which can be opened again."""

    disk: Disk
    root: str
    journal = False

    @override
    def make(self) -> QueueStore:
        """A store on the disk, as it is."""
        return FileStore(
            self.disk,
            self.root,
            InlineWorker(),
            self.wall,
            self.clock,
            POLICY,
            minimum_free_space=1000,
            message_size_limit=10_000,
            emit=self.events.append,
            journal_worker=InlineWorker() if self.journal else None,
        )

    def restart(self) -> None:
        """Stop the store cleanly and start another on the same disk."""
        self.get(self.store.stop())
        self.store = self.make()
        self.get(self.store.start(self.now))

    def test_all_is_there_after_a_restart(self) -> None:
        """Fresh, waiting, held and finished mail is where it was."""
        case: Any = self
        waiting = self.record_new(self.now + 900)
        done = self.finish()
        held = self.add(held="odd")
        fresh = self.add()
        self.restart()
        wanted: Sequence[QueueEntry] = (fresh, waiting, held)
        case.assertEqual({one.id for one in self.listed()}, {one.id for one in wanted})
        case.assertEqual(self.claim(), [fresh])
        case.assertEqual(self.listed(ids=(done.id,)), [done])
        self.clock.advance(900)
        case.assertEqual(self.claim(), [waiting])

    def test_a_debt_is_there_after_a_restart(self) -> None:
        """What owes a notice is due at once."""
        case: Any = self
        one = self.add()
        self.claim()
        failed = self.record(owing(one, self.now))
        self.restart()
        case.assertEqual(self.claim(), [failed])
        self.get(self.store.pay(failed, notices_for(failed, self.now)))
        self.restart()
        case.assertEqual([claimed.id for claimed in self.claim()], [f"{one.id}-1"])

    def test_a_second_store_is_refused(self) -> None:
        """One process owns the queue; the other is told what to do."""
        case: Any = self
        words = self.failure(self.make().start(self.now), StoreError)
        case.assertIn("stop that one first", words)


class FileStoreInMemoryTests(FileStoreContract, SynchronousTestCase):
    """Files on the disk in memory."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.root = "/var/lib/fwdmta"
        self.set_up()

    def test_a_page_opens_only_what_it_shows(self) -> None:
        """The cost of a page follows its length, not the length of the queue."""
        for _ in range(20):
            self.add()
            self.clock.advance(1)
        opened: list[str] = []
        really = self.disk.open

        def counted(path: str) -> DiskFile:
            opened.append(path)
            return really(path)

        self.patch(self.disk, "open", counted)
        first = self.listed(limit=2)
        self.listed(limit=2, after=first[-1].id)
        self.assertEqual(len(opened), 4)


class FileStoreTests(FileStoreContract, SynchronousTestCase):
    """Files on a real disk."""

    @override
    def setUp(self) -> None:
        self.disk = SystemDisk()
        self.root = self.mktemp()
        self.set_up()
        self.addCleanup(lambda: self.get(self.store.stop()))


class JournalInMemoryTests(FileStoreContract, SynchronousTestCase):
    """Young mail in the journal, on the twin of the disk."""

    journal = True

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.root = "/var/lib/fwdmta"
        self.set_up()


class JournalTests(FileStoreContract, SynchronousTestCase):
    """Young mail in the journal, on a real disk."""

    journal = True

    @override
    def setUp(self) -> None:
        self.disk = SystemDisk()
        self.root = self.mktemp()
        self.set_up()
