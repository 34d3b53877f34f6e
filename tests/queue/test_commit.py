"""Tests for the batches: what waits together is synced together and fails alone."""

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.interfaces import Worker
from fwd_mta.mail.errors import NoSpace, StoreError
from fwd_mta.queue.commit import (
    Lane,
    Outcome,
    Script,
    run_together,
    seen_to,
    store_error,
)
from fwd_mta.queue.tree import value
from fwd_mta.world.disk import Died, MemoryDisk

T = TypeVar("T")


class HeldWorker(Worker):
    """Keeps jobs until the test lets one run."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Keep the job."""
        done: Deferred[T] = Deferred()
        self.jobs.append((job, done))
        return done

    def let_one_run(self) -> None:
        """Run the oldest job."""
        job, done = self.jobs.pop(0)
        seen_to(maybeDeferred(job).chainDeferred(done))


class TogetherTests(SynchronousTestCase):
    """`run_together`."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.disk.make_directory("/d")

    def write(self, name: str, target: str = "/d") -> Script[str]:
        """A script of two syncs."""
        file = self.disk.create(f"/d/{name}")
        file.append(b"x")
        yield (file,)
        self.disk.rename(f"/d/{name}", f"{target}/{name}2")
        yield (target,)
        return name

    def test_a_directory_is_synced_once(self) -> None:
        """Ten files in one directory: ten syncs and one of the directory."""
        scripts = [self.write(str(number)) for number in range(10)]
        outcomes = run_together(self.disk, scripts)
        self.assertEqual([one.value for one in outcomes], [str(n) for n in range(10)])
        log = list(self.disk.log)
        self.assertEqual(sum(line.startswith("sync /d") for line in log), 10)
        self.assertEqual(log.count("sync_directory /d"), 1)

    def test_all_names_follow_all_contents(self) -> None:
        """Every file is synced before any is renamed."""
        run_together(self.disk, [self.write("a"), self.write("b")])
        verbs = [line.split()[0] for line in self.disk.log]
        self.assertLess(
            max(at for at, verb in enumerate(verbs) if verb == "sync"),
            min(at for at, verb in enumerate(verbs) if verb == "rename"),
        )

    def test_one_that_fails_fails_alone(self) -> None:
        """A file whose sync fails stops only its own script."""
        self.disk.refuse(errno.EIO, "sync", path="/d/b")
        scripts = [self.write(name) for name in ("a", "b", "c")]
        outcomes = run_together(self.disk, scripts)
        errors = [type(one.error) for one in outcomes]
        self.assertEqual(errors, [type(None), StoreError, type(None)])

    def test_a_directory_that_fails_fails_its_own(self) -> None:
        """A failed directory sync fails all in that directory, and no other."""
        self.disk.make_directory("/e")
        self.disk.refuse(errno.EIO, "sync_directory", path="/e")
        scripts = [self.write("a"), self.write("b", "/e"), self.write("c", "/e")]
        outcomes = run_together(self.disk, scripts)
        self.assertEqual([one.error is None for one in outcomes], [True, False, False])

    def test_a_bug_fails_alone(self) -> None:
        """An unexpected exception of one script is its outcome."""

        def broken() -> Script[None]:
            yield ()
            raise ZeroDivisionError

        outcomes = run_together(self.disk, [broken(), self.write("a")])
        self.assertIsInstance(outcomes[0].error, ZeroDivisionError)
        self.assertEqual(outcomes[1].value, "a")

    def test_errors_of_the_store(self) -> None:
        """A full disk is NoSpace, all else StoreError."""
        kinds = {
            errno.ENOSPC: NoSpace,
            errno.EDQUOT: NoSpace,
            errno.ENOENT: StoreError,
            errno.EIO: StoreError,
            errno.EMFILE: StoreError,
        }
        for number, kind in kinds.items():
            self.assertIs(type(store_error(OSError(number, "words"))), kind)


class GoneDirectoryTests(SynchronousTestCase):
    """A directory that was emptied and removed before its sync."""

    def test_it_needs_no_sync(self) -> None:
        """The last name has left it: there is nothing to be made sure of."""
        disk = MemoryDisk()
        disk.make_directory("/a")
        disk.make_directory("/b")

        def move() -> Script[str]:
            disk.create("/a/x")
            disk.rename("/a/x", "/b/x")
            disk.remove_directory("/a")
            yield ("/a", "/b")
            return "moved"

        (outcome,) = run_together(disk, [move()])
        self.assertEqual((outcome.value, outcome.error), ("moved", None))


class LaneTests(SynchronousTestCase):
    """`Lane`."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.worker = HeldWorker()
        self.after = 0
        self.lane = Lane(self.worker, self.disk, self.count)
        self.ran: list[str] = []

    def count(self) -> None:
        """Note that a batch has ended."""
        self.after += 1

    def script(self, name: str) -> Callable[[], Script[str]]:
        """A script that notes its name."""

        def run() -> Script[str]:
            self.ran.append(name)
            yield ()
            return name

        return run

    def run_one(self, key: str, name: str | None = None) -> Deferred[Any]:
        """Give the lane a script."""
        return self.lane.run(key, self.script(name or key), value)

    def test_all_that_waits_is_one_job(self) -> None:
        """While one job runs, the others gather for the next."""
        done = [self.run_one(name) for name in "abcde"]
        self.assertEqual(len(self.worker.jobs), 1)
        self.worker.let_one_run()
        self.assertEqual(self.successResultOf(done[0]), "a")
        self.worker.let_one_run()
        self.assertEqual([self.successResultOf(one) for one in done[1:]], [*"bcde"])
        self.assertEqual(self.worker.jobs, [])
        self.assertEqual(self.after, 2)

    def test_one_message_once_a_batch(self) -> None:
        """Two operations on one message follow one another, in order."""
        done = [self.run_one(*pair) for pair in [("x", "0"), ("a", "1"), ("a", "2")]]
        done.append(self.run_one("b", "3"))
        for _ in range(3):
            self.worker.let_one_run()
        self.assertEqual(self.ran, ["0", "1", "3", "2"])
        self.assertEqual(self.successResultOf(done[2]), "2")

    def test_a_batch_is_bounded(self) -> None:
        """No batch holds more descriptors open than a process may have."""
        done = [self.run_one(str(number)) for number in range(300)]
        batches = 0
        while self.worker.jobs:
            self.worker.let_one_run()
            batches += 1
        self.assertEqual(batches, 4)
        self.assertEqual(len([self.successResultOf(one) for one in done]), 300)

    def test_bookkeeping_comes_first(self) -> None:
        """`finished` is called even when nobody waits any more."""
        seen: list[Outcome] = []
        done = self.lane.run("a", self.script("a"), seen.append)
        done.cancel()
        self.worker.let_one_run()
        self.failureResultOf(done)
        self.assertEqual([one.value for one in seen], ["a"])

    def test_idle(self) -> None:
        """Idle is when nothing runs and nothing waits."""
        self.successResultOf(self.lane.idle())
        first = self.run_one("a")
        second = self.run_one("b")
        idle = self.lane.idle()
        self.worker.let_one_run()
        self.assertNoResult(idle)
        self.worker.let_one_run()
        self.successResultOf(idle)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_a_worker_that_breaks(self) -> None:
        """When the job itself fails, all of its batch are told, and others go on."""
        self.disk.fail_at(1)

        def dying() -> Script[None]:
            self.disk.create("/x")
            yield ()

        done = self.lane.run("a", dying, value)
        self.worker.let_one_run()
        self.failureResultOf(done, Died)
        after = self.run_one("b")
        self.worker.let_one_run()
        self.assertEqual(self.successResultOf(after), "b")
