"""Tests for a body on its way in, on a worker that takes its time."""

import errno

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.mail.errors import NoSpace, StoreError
from fwd_mta.queue.record import HEADER_SIZE
from fwd_mta.queue.spool import FileSpool, SpooledBody
from fwd_mta.world.disk import MemoryDisk
from tests.queue.test_commit import HeldWorker


class FileSpoolTests(SynchronousTestCase):
    """`FileSpool`, with ten octets as the bound of what is small."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.worker = HeldWorker()
        self.closed: list[FileSpool] = []
        self.spool = FileSpool(self.disk, self.worker, "/body", 10, self.closed.append)

    def done(self) -> Deferred[object]:
        """End the body."""
        return Deferred.fromCoroutine(self.spool.done())

    def work(self) -> None:
        """Let the worker do all it has."""
        while self.worker.jobs:
            self.worker.let_one_run()

    def test_small_bodies_touch_no_disk(self) -> None:
        """Up to the bound nothing is written."""
        self.spool.write(b"0123456789")
        self.assertEqual(self.spool.backlog, 0)
        self.assertEqual(self.successResultOf(self.done()), b"0123456789")
        self.assertEqual(self.disk.files(), {})
        self.assertEqual(self.closed, [self.spool])

    def test_what_comes_while_one_writes_is_gathered(self) -> None:
        """The reactor never waits: writes are one at a time, each takes all."""
        for piece in (b"0123456789", b"a", b"b", b"c"):
            self.spool.write(piece)
        self.assertEqual(len(self.worker.jobs), 1)
        self.assertEqual(self.spool.backlog, 13)
        self.worker.let_one_run()
        self.assertEqual(self.spool.backlog, 2)
        self.work()
        self.assertEqual(self.spool.backlog, 0)
        self.assertEqual(
            self.disk.files(), {"/body": bytes(HEADER_SIZE) + b"0123456789abc"}
        )

    def test_drained_waits_for_the_disk(self) -> None:
        """A client that is faster than the disk is held back."""
        self.spool.write(b"x" * 100_000)
        self.spool.write(b"x" * 100_000)
        drained = self.spool.drained()
        self.worker.let_one_run()
        self.assertNoResult(drained)
        self.work()
        self.successResultOf(drained)

    def test_done_waits_and_syncs(self) -> None:
        """The body is given when it is on the disk, and can be read."""
        self.spool.write(b"0123456789abcdef")
        done = self.done()
        self.assertNoResult(done)
        self.work()
        body = self.successResultOf(done)
        assert isinstance(body, SpooledBody)
        self.assertIn("sync /body", self.disk.log)
        self.assertEqual(body.size, 16)
        read = Deferred.fromCoroutine(body.read(10, 100))
        self.work()
        self.assertEqual(self.successResultOf(read), b"abcdef")

    def test_a_failed_write(self) -> None:
        """The error comes at the end, the backlog is none, the file goes."""
        self.spool.write(b"0123456789abc")
        self.work()
        self.disk.refuse(errno.ENOSPC, "append")
        self.spool.write(b"def")
        drained = self.spool.drained()
        self.work()
        self.successResultOf(drained)
        self.spool.write(b"more")
        self.assertEqual(self.spool.backlog, 0)
        self.failureResultOf(self.done(), NoSpace)
        self.disk.relent()
        self.spool.discard()
        self.work()
        self.assertEqual(self.disk.files(), {})

    def test_a_failed_sync(self) -> None:
        """A body whose sync fails is not given."""
        self.spool.write(b"0123456789abc")
        self.work()
        self.disk.refuse(errno.EIO, "sync")
        done = self.done()
        self.work()
        self.failureResultOf(done, StoreError)

    def test_discarding_while_a_write_runs(self) -> None:
        """The file is removed when the write has ended."""
        self.spool.write(b"0123456789abc")
        self.spool.write(b"def")
        self.spool.discard()
        self.spool.write(b"ghi")
        self.spool.discard()
        self.work()
        self.assertEqual(self.disk.files(), {})
        self.failureResultOf(self.done(), StoreError)
        self.assertEqual(self.closed, [self.spool])

    def test_discarding_what_was_given(self) -> None:
        """A body that nobody adds is removed, and cannot be read any more."""
        self.spool.write(b"0123456789abc")
        done = self.done()
        self.work()
        body = self.successResultOf(done)
        assert isinstance(body, SpooledBody)
        self.spool.discard()
        self.work()
        self.assertEqual(self.disk.files(), {})
        self.failureResultOf(Deferred.fromCoroutine(body.read(0, 1)), StoreError)
