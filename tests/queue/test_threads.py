"""The file store on real threads and a real disk."""

from dataclasses import replace

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.trial.unittest import TestCase
from typing_extensions import override

from fwd_mta.events import Event
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Step
from fwd_mta.net.chance import SystemEntropy
from fwd_mta.net.clocks import SystemClock
from fwd_mta.net.disk import SystemDisk, lock_text
from fwd_mta.net.worker import ThreadWorker
from fwd_mta.queue.files import FileStore
from fwd_mta.rules.identity import entry_id
from tests.builders import DELIVERED, attempt, entry
from tests.queue.stores import MESSAGE, POLICY, finished

MESSAGES = 100


class ThreadedFileStoreTests(TestCase):
    """Twenty clients and a scheduler at once."""

    journal = False

    @override
    def setUp(self) -> None:
        self.wall = SystemClock()
        self.entropy = SystemEntropy()
        self.events: list[Event] = []
        threads = IReactorFromThreads(reactor)
        self.worker = ThreadWorker(threads, "store", 4)
        self.worker.start()
        self.addCleanup(self.worker.stop)
        self.store = FileStore(
            SystemDisk(),
            self.mktemp(),
            self.worker,
            self.wall,
            IReactorTime(reactor),
            POLICY,
            0,
            1000,
            self.events.append,
            owner=lock_text(),
            journal_worker=self.make_journal(threads) if self.journal else None,
        )

    def make_journal(self, threads: IReactorFromThreads) -> ThreadWorker:
        """The one thread of a journal."""
        worker = ThreadWorker(threads, "journal", 1)
        worker.start()
        self.addCleanup(worker.stop)
        return worker

    async def submit(self, left: list[int]) -> None:
        """A client that submits one message after the other."""
        while left:
            left.pop()
            now = self.wall.now()
            made = entry_id(now, self.entropy.octets(8))
            await self.store.add(entry(entry_id=made, queued_at=now), MESSAGE)

    async def deliver(self, one: QueueEntry) -> None:
        """Deliver a message."""
        now = self.wall.now()
        found = await self.store.open(one.id)
        self.assertEqual(found, MESSAGE)
        recipients = [standing.recipient for standing in one.standings]
        await self.store.dot_sent(one.id, recipients, now)
        step = Step(now, "attempt", attempt=attempt(DELIVERED, at=now))
        await self.store.record(replace(finished(one, now)), step)

    async def test_twenty_clients(self) -> None:
        """All messages are accepted, given out once, and finished."""
        await self.store.start(self.wall.now())
        left = [*range(MESSAGES)]
        clients = [Deferred.fromCoroutine(self.submit(left)) for _ in range(20)]
        await gatherResults(clients)
        claimed: list[QueueEntry] = []
        while some := await self.store.claim(self.wall.now(), 30):
            claimed += some
        self.assertEqual(len({one.id for one in claimed}), MESSAGES)
        work = [Deferred.fromCoroutine(self.deliver(one)) for one in claimed]
        await gatherResults(work)
        self.assertEqual(await self.store.entries(EntryFilter()), [])
        done = await self.store.entries(EntryFilter(finished=True))
        self.assertEqual(len(done), MESSAGES)
        await self.put_away()
        await self.store.stop()
        self.assertEqual(self.events, [])

    async def put_away(self) -> None:
        """Nothing: each message is in its file."""


class ThreadedJournalTests(ThreadedFileStoreTests):
    """The same with a journal, whose segments are put away while all goes on."""

    journal = True

    @override
    async def put_away(self) -> None:
        """Retire everything; all of it is still there."""
        await self.store._retirement.retire(at_once=True)
        done = await self.store.entries(EntryFilter(finished=True))
        self.assertEqual(len(done), MESSAGES)
        self.assertEqual(self.store._tree.journal.mails, {})
