"""Tests for the disk in memory: what a crash leaves, how it fails."""

import errno

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.mail.errors import StoreError
from fwd_mta.world.disk import Crash, Died, MemoryDisk
from fwd_mta.world.machine import SeededEntropy


class CrashedDiskTests(SynchronousTestCase):
    """Contents and names are durable when they are synced, each for itself."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.disk.make_directory("/d")
        self.disk.sync_directory("/")

    def write(self, path: str, data: bytes, *, sync: bool = True) -> None:
        """A new file."""
        file = self.disk.create(path)
        file.append(data)
        if sync:
            file.sync()

    def test_a_name_that_is_not_synced_is_lost(self) -> None:
        """A synced file without its directory is not there."""
        self.write("/d/a", b"x")
        self.disk.crash(Crash.LOST)
        self.assertEqual(self.disk.files(), {})

    def test_a_content_that_is_not_synced_is_lost(self) -> None:
        """A synced name may have no content."""
        self.write("/d/a", b"x", sync=False)
        self.disk.sync_directory("/d")
        self.disk.crash(Crash.LOST)
        self.assertEqual(self.disk.files(), {"/d/a": b""})

    def test_what_is_synced_stays(self) -> None:
        """File and directory synced: nothing takes it away."""
        self.write("/d/a", b"x")
        self.disk.sync_directory("/d")
        for crash in Crash:
            self.disk.crash(crash, SeededEntropy(1))
            self.assertEqual(self.disk.files(), {"/d/a": b"x"})

    def test_a_kill_keeps_all(self) -> None:
        """The page cache survives the process."""
        self.write("/d/a", b"x", sync=False)
        self.disk.rename("/d/a", "/d/b")
        self.disk.crash(Crash.KEPT)
        self.assertEqual(self.disk.files(), {"/d/b": b"x"})

    def test_a_torn_write(self) -> None:
        """The last unsynced write may be there by half."""
        self.write("/d/a", b"abcd", sync=False)
        self.disk.crash(Crash.TORN)
        self.assertEqual(self.disk.files(), {"/d/a": b"ab"})

    def test_a_rename_is_in_one_place(self) -> None:
        """Whatever a crash chooses, the file is at one name."""
        seen = set()
        for seed in range(30):
            disk = MemoryDisk()
            disk.make_directory("/a")
            disk.make_directory("/b")
            disk.sync_directory("/")
            file = disk.create("/a/x")
            file.sync()
            disk.sync_directory("/a")
            disk.rename("/a/x", "/b/x")
            disk.crash(Crash.CHOSEN, SeededEntropy(seed))
            self.assertEqual(len(disk.files()), 1)
            seen |= set(disk.files())
        self.assertEqual(seen, {"/a/x", "/b/x"})

    def test_a_directory_that_is_not_synced_takes_its_files(self) -> None:
        """Names in a directory whose own name is lost are lost."""
        self.disk.make_directory("/d/new")
        self.write("/d/new/a", b"x")
        self.disk.sync_directory("/d/new")
        self.disk.crash(Crash.LOST)
        self.assertEqual(self.disk.files(), {})
        self.assertFalse(self.disk.exists("/d/new"))

    def test_a_removed_file_may_come_back(self) -> None:
        """A removal is sure only after its directory's sync."""
        self.write("/d/a", b"x")
        self.disk.sync_directory("/d")
        self.disk.remove("/d/a")
        self.disk.crash(Crash.LOST)
        self.assertEqual(self.disk.files(), {"/d/a": b"x"})
        self.disk.remove("/d/a")
        self.disk.sync_directory("/d")
        self.disk.crash(Crash.LOST)
        self.assertEqual(self.disk.files(), {})

    def test_a_directory_goes_after_its_files(self) -> None:
        """Removing an emptied directory never takes what had moved out of it."""
        for seed in range(20):
            disk = MemoryDisk()
            disk.make_directory("/a/b")
            disk.sync_directory("/")
            disk.sync_directory("/a")
            disk.create("/a/b/x")
            disk.sync_directory("/a/b")
            disk.rename("/a/b/x", "/a/x")
            disk.remove_directory("/a/b")
            disk.crash(Crash.CHOSEN, SeededEntropy(seed))
            self.assertEqual(len(disk.files()), 1)

    def test_open_files_and_locks_do_not_survive(self) -> None:
        """After a crash an old descriptor is bad and a lock is free."""
        file = self.disk.create("/d/a")
        release = self.disk.lock("/d/lock", "process 1\n")
        self.disk.crash(Crash.KEPT)
        self.assertRaises(OSError, file.append, b"x")
        self.disk.lock("/d/lock", "process 2\n")
        release()
        self.assertRaises(StoreError, self.disk.lock, "/d/lock", "process 3\n")


class FailingDiskTests(SynchronousTestCase):
    """Dying and refusing on request."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.disk.make_directory("/d")

    def test_it_dies_in_the_nth_call(self) -> None:
        """The n-th change has no effect, and nothing works after it."""
        self.disk.fail_at(2)
        self.disk.create("/d/a")
        self.assertRaises(Died, self.disk.create, "/d/b")
        self.assertRaises(Died, self.disk.exists, "/d/a")
        self.disk.crash(Crash.KEPT)
        self.assertEqual(self.disk.names("/d"), ["a"])

    def test_it_refuses(self) -> None:
        """Chosen calls fail with an errno until it relents."""
        self.disk.refuse(errno.EROFS)
        error = self.assertRaises(OSError, self.disk.create, "/d/a")
        self.assertEqual(error.errno, errno.EROFS)
        self.assertEqual(self.disk.names("/d"), [])
        self.disk.relent()
        self.disk.create("/d/a")

    def test_a_refused_append_writes_half(self) -> None:
        """A full disk takes what it can."""
        file = self.disk.create("/d/a")
        self.disk.refuse(errno.ENOSPC, "append")
        self.assertRaises(OSError, file.append, b"abcd")
        self.assertEqual(self.disk.files(), {"/d/a": b"ab"})

    def test_it_refuses_where_it_is_told(self) -> None:
        """A refusal can be for some paths only."""
        self.disk.refuse(errno.EIO, "open", path="bad")
        self.disk.create("/d/good")
        self.disk.create("/d/bad")
        self.disk.open("/d/good")
        self.assertRaises(OSError, self.disk.open, "/d/bad")

    def test_the_log(self) -> None:
        """All calls are logged in order, those that change something are counted."""
        before = self.disk.calls
        file = self.disk.create("/d/a")
        file.append(b"x")
        file.size()
        file.sync()
        self.disk.rename("/d/a", "/d/b")
        self.assertEqual(
            list(self.disk.log)[-5:],
            [
                "create /d/a",
                "append /d/a",
                "size /d/a",
                "sync /d/a",
                "rename /d/a /d/b",
            ],
        )
        self.assertEqual(self.disk.calls - before, 4)

    def test_spoiling(self) -> None:
        """Bits can rot, also in what was synced."""
        file = self.disk.create("/d/a")
        file.append(b"abcd")
        self.disk.spoil("/d/a", 1, b"X")
        self.assertEqual(file.read_at(0, 4), b"aXcd")
