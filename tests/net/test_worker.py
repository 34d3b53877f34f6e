"""Threads for blocking work."""

import threading
from functools import partial
from typing import cast

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import TestCase
from typing_extensions import override

from fwd_mta.net.worker import ThreadWorker


class ThreadWorkerTests(TestCase):
    """Jobs run beside the reactor, their results come back to it."""

    timeout = 30

    @override
    def setUp(self) -> None:
        self.worker = self.make(1)
        self.worker.start()
        self.addCleanup(self.worker.stop)

    def make(self, threads: int) -> ThreadWorker:
        """A worker that has not started."""
        return ThreadWorker(cast("IReactorFromThreads", reactor), "store", threads)

    async def test_elsewhere(self) -> None:
        """A job runs on a thread of its own; the answer arrives on the reactor's."""
        here = threading.current_thread()
        there = await self.worker.run(threading.current_thread)
        self.assertIsNot(there, here)
        self.assertIs(threading.current_thread(), here)
        self.assertIn("store", there.name)

    async def test_failure(self) -> None:
        """What a job raises is raised where it is awaited; the thread goes on."""
        with self.assertRaises(ZeroDivisionError):
            await self.worker.run(lambda: 1 // 0)
        self.assertEqual(await self.worker.run(lambda: 42), 42)

    async def test_in_order(self) -> None:
        """One thread does its jobs in the order they were given."""
        done: list[int] = []
        jobs = [self.worker.run(partial(done.append, n)) for n in range(20)]
        for job in jobs:
            await job
        self.assertEqual(done, list(range(20)))

    async def test_side_by_side(self) -> None:
        """Two threads do two jobs at a time; one that waits holds up nobody."""
        pair = self.make(2)
        pair.start()
        self.addCleanup(pair.stop)
        opened = threading.Event()
        waiting = pair.run(partial(opened.wait, 20))
        await pair.run(opened.set)
        self.assertTrue(await waiting)

    async def test_end(self) -> None:
        """What was asked for is done before the threads end; a second stop is fine."""
        done: list[int] = []
        jobs = [self.worker.run(partial(done.append, n)) for n in range(100)]
        self.worker.stop()
        self.worker.stop()
        self.assertEqual(done, list(range(100)))
        for job in jobs:
            await job

    def test_never_started(self) -> None:
        """A worker that never began can be stopped."""
        self.make(2).stop()
