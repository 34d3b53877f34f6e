"""The queue manager: claims, deliveries, records and notices."""

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Attempted, Event, Finished, Notified, Trouble
from fwd_mta.mail.entry import (
    DeliveryResult,
    EntryFilter,
    NoticeKind,
    QueueEntry,
    StandingState,
    Status,
    Step,
)
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import StoreError
from fwd_mta.mail.message import Message
from fwd_mta.queue.memory import MemoryStore
from fwd_mta.queue.scheduler import Machine, NoticeStyle, Scheduler
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.routing import RoutingTable
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from tests.builders import DEFERRED, DELIVERED, REFUSED, entry
from tests.queue.fakes import ScriptedAgent

MESSAGE = Message(b"From: ann@example.com\r\nSubject: hello\r\n", b"Hello\r\n")
ANSWERS = {"ok": DELIVERED, "later": DEFERRED, "no": REFUSED}


def by_name(recipient: Recipient) -> DeliveryResult:
    """Answer ok@, later@ and no@ by their names; anybody else takes it."""
    result = ANSWERS.get(recipient.mailbox.local, DELIVERED)
    return replace(result, recipient=recipient)


class SchedulerTests(SynchronousTestCase):
    """With the store in memory and a scripted agent."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = VirtualWall(self.clock)
        self.events: list[Event] = []
        self.store = MemoryStore(self.wall, RetentionPolicy(3600.0, 7200.0))
        self.successResultOf(Deferred.fromCoroutine(self.begin_store()))
        self.agent = ScriptedAgent(by_name, self.wall.now)
        self.scheduler = Scheduler(
            self.store,
            self.agent,
            Machine(self.clock, self.wall, SeededEntropy(), self.events.append),
            RoutingTable(),
            RetrySchedule(),
            NoticeStyle("mail.example.com"),
        )

    async def begin_store(self) -> None:
        """Start the store."""
        await self.store.start(self.wall.now())

    def add(self, *recipients: str, entry_id: str = "0123456789bcdfgh") -> QueueEntry:
        """Put a message into the queue."""
        made = entry(*recipients, entry_id=entry_id, queued_at=self.wall.now())

        async def adding() -> None:
            await self.store.add(made, MESSAGE)

        self.successResultOf(Deferred.fromCoroutine(adding()))
        return made

    def entries(self) -> list[QueueEntry]:
        """All that the store knows."""

        async def asking() -> list[QueueEntry]:
            return await self.store.entries(EntryFilter(finished=True))

        return self.successResultOf(Deferred.fromCoroutine(asking()))

    def find(self, entry_id: str) -> QueueEntry:
        """One entry."""
        return next(one for one in self.entries() if one.id == entry_id)

    def happened(self, kind: type[Event]) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def test_new_mail_is_delivered_at_once(self) -> None:
        """What is added while it runs goes out without waiting for a timer."""
        self.scheduler.start()
        made = self.add("ok@example.net")
        self.assertEqual(self.find(made.id).status, Status.SENT)
        self.assertEqual(len(self.happened(Attempted)), 1)
        self.assertEqual(len(self.happened(Finished)), 1)

    def test_a_deferral_comes_back_when_it_is_due(self) -> None:
        """One timer for the next that is due: five minutes, shortened by chance."""
        self.scheduler.start()
        self.add("later@example.net")
        self.clock.pump([1.0] * 200)
        self.assertEqual(len(self.agent.times), 1)
        self.clock.pump([1.0] * 150)
        self.assertEqual(len(self.agent.times), 2)
        self.assertTrue(240 <= self.agent.times[1] - self.agent.times[0] <= 301)

    def test_recipients_of_one_place_go_together(self) -> None:
        """Two recipients of a domain are one delivery, another domain's its own."""
        self.scheduler.start()
        self.add("a@example.net", "b@example.net", "c@example.org")
        sizes = sorted(len(d.envelope.recipients) for d in self.agent.deliveries)
        self.assertEqual(sizes, [1, 2])

    def test_many_recipients_are_split_by_fifty(self) -> None:
        """120 recipients of one domain are three deliveries of at most fifty."""
        self.scheduler.start()
        self.add(*(f"r{number}@example.net" for number in range(120)))
        sizes = [len(d.envelope.recipients) for d in self.agent.deliveries]
        self.assertEqual(sizes, [50, 50, 20])
        self.assertEqual(self.entries()[0].status, Status.SENT)

    def test_deliveries_that_end_side_by_side_share_a_record(self) -> None:
        """A record holds the whole entry: a thousand recipients are not twenty."""
        disk: Deferred[None] = Deferred()
        record, steps = self.store.record, []

        async def slowly(
            made: QueueEntry, step: Step, *, release: bool = True
        ) -> QueueEntry:
            steps.append(step)
            await disk
            return await record(made, step, release=release)

        self.patch(self.store, "record", slowly)
        self.agent.gate = Deferred()
        self.scheduler.start()
        self.add(*(f"ok{number}@example.net" for number in range(1000)))
        self.agent.gate.callback(None)
        disk.callback(None)
        self.assertEqual(self.entries()[0].status, Status.SENT)
        told = [len(step.attempt.results) for step in steps if step.attempt]
        self.assertEqual(told[0], 50)
        self.assertEqual(sum(told), 1000)
        self.assertTrue(len(told) < 8, told)
        self.assertEqual(len(self.happened(Attempted)), 1000)
        self.assertEqual(len(self.happened(Finished)), 1)

    def test_a_refusal_makes_a_notice_that_is_delivered(self) -> None:
        """The failure notice re-enters by the queue, with the null reverse-path."""
        self.scheduler.start()
        made = self.add("no@example.net")
        self.clock.advance(1)
        notice = self.find(f"{made.id}-1")
        self.assertIsNone(notice.envelope.reverse_path)
        self.assertEqual(notice.cause, made.id)
        self.assertEqual(notice.status, Status.SENT)
        self.assertEqual(self.find(made.id).owed, ())
        told = self.happened(Notified)
        self.assertEqual([one.kind for one in told], [NoticeKind.FAILED.value])  # type: ignore[union-attr]

    def test_only_who_waits_is_tried_again(self) -> None:
        """A retry goes to the deferred recipient alone (guarantee 25)."""
        self.scheduler.start()
        self.add("ok@example.net", "later@example.net")
        self.clock.pump([1.0] * 310)
        names = [
            [r.mailbox.local for r in d.envelope.recipients]
            for d in self.agent.deliveries
        ]
        self.assertEqual(names, [["ok", "later"], ["later"]])

    def test_a_defect_of_ours_bounces_nothing(self) -> None:
        """An exception in the agent defers, says so, and the message lives on (P4)."""
        self.agent.error = ZeroDivisionError("oops")
        self.scheduler.start()
        made = self.add("ok@example.net")
        waiting = self.find(made.id)
        self.assertEqual(waiting.status, Status.DEFERRED)
        self.assertEqual(waiting.standings[0].state, StandingState.OPEN)
        self.assertEqual(len(self.happened(Trouble)), 1)
        self.agent.error = None
        self.clock.pump([1.0] * 310)
        self.assertEqual(self.find(made.id).status, Status.SENT)

    def test_a_result_the_disk_refuses_is_written_later_and_not_sent_twice(
        self,
    ) -> None:
        """The record is tried again, the delivery is not (P2)."""
        record = self.store.record
        faults = [StoreError("disk full"), StoreError("disk full")]

        async def failing(*given: object, **named: object) -> QueueEntry:
            if faults:
                raise faults.pop()
            return await record(*given, **named)  # type: ignore[arg-type]

        self.patch(self.store, "record", failing)
        self.scheduler.start()
        made = self.add("ok@example.net")
        self.clock.pump([1.0] * 25)
        self.assertEqual(self.find(made.id).status, Status.SENT)
        self.assertEqual(len(self.agent.deliveries), 1)
        self.assertEqual(len(self.happened(Trouble)), 2)

    def test_a_debt_that_a_payment_leaves_is_not_paid_in_a_loop(self) -> None:
        """A store that pays nothing is asked again in ten seconds, not at once."""
        asked: list[str] = []

        async def paying(entry: QueueEntry, notices: object) -> QueueEntry:
            asked.append(entry.id)
            return self.find(entry.id)

        self.patch(self.store, "pay", paying)
        self.scheduler.start()
        self.add("no@example.net")
        self.clock.pump([1.0] * 25)
        self.assertEqual(len(asked), 3)

    def test_stopping_sends_no_new_dot(self) -> None:
        """After stop began, before_dot interrupts; the message is due as before."""
        self.agent.slow = Deferred()
        self.scheduler.start()
        made = self.add("ok@example.net")
        stopped = Deferred.fromCoroutine(self.scheduler.stop(15.0))
        self.agent.slow.callback(None)
        self.successResultOf(stopped)
        after = self.find(made.id)
        self.assertEqual(after.standings[0].attempts, 0)
        self.assertEqual(after.due, made.due)

    def test_stop_waits_for_a_reply_that_is_on_its_way(self) -> None:
        """A dot already sent is waited for, within the grace."""
        self.agent.gate = Deferred()
        self.scheduler.start()
        made = self.add("ok@example.net")
        stopped = Deferred.fromCoroutine(self.scheduler.stop(15.0))
        self.clock.advance(10)
        self.assertNoResult(stopped)
        self.agent.gate.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.find(made.id).status, Status.SENT)

    def test_stop_ends_when_the_grace_is_over(self) -> None:
        """A peer that never answers does not keep us from stopping."""
        self.agent.gate = Deferred()
        self.scheduler.start()
        self.add("ok@example.net")
        stopped = Deferred.fromCoroutine(self.scheduler.stop(15.0))
        self.clock.advance(15.1)
        self.successResultOf(stopped)

    def test_work_is_bounded(self) -> None:
        """Never more entries in work than the limit; the rest follow."""
        self.scheduler._active_limit = 3
        self.agent.gate = Deferred()
        self.scheduler.start()
        letters = "bcdfghjkmn"
        for letter in letters:
            self.add("ok@example.net", entry_id=letter * 16)
        self.assertEqual(self.scheduler.active, 3)
        gate, self.agent.gate = self.agent.gate, None
        gate.callback(None)
        self.clock.advance(1)
        self.assertEqual({one.status for one in self.entries()}, {Status.SENT})
        self.assertEqual(len(self.entries()), len(letters))

    def test_a_set_wall_clock_is_noticed_within_a_minute(self) -> None:
        """When the date jumps forward, due mail goes out without a restart."""
        self.scheduler.start()
        self.add("later@example.net")
        self.wall.jump(3600)
        self.clock.pump([10.0] * 7)
        self.assertEqual(len(self.agent.times), 2)
