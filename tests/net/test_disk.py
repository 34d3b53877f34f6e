"""Tests for the real disk: rights, links, locks, short writes."""

import os
import stat

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.net.disk import SystemDisk, SystemFile, lock_text


class SystemDiskTests(SynchronousTestCase):
    """What only a real file system shows."""

    @override
    def setUp(self) -> None:
        self.disk = SystemDisk()
        self.root = self.mktemp()
        self.disk.make_directory(self.root)

    def mode(self, name: str) -> int:
        """The rights of a name."""
        return stat.S_IMODE(os.stat(f"{self.root}/{name}").st_mode)

    def test_only_the_owner_reads(self) -> None:
        """Files are 0600 and directories 0700, whatever the umask allows."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.disk.create(f"{self.root}/file").close()
        self.disk.make_directory(f"{self.root}/directory")
        self.assertEqual(self.mode("file"), 0o600)
        self.assertEqual(self.mode("directory"), 0o700)

    def test_links_are_not_followed(self) -> None:
        """A link planted in the queue leads nowhere."""
        self.disk.create(f"{self.root}/target").close()
        os.symlink("target", f"{self.root}/link")
        self.assertRaises(OSError, self.disk.open, f"{self.root}/link")
        self.assertRaises(OSError, self.disk.create, f"{self.root}/link")
        self.assertTrue(self.disk.exists(f"{self.root}/link"))

    def test_a_pipe_does_not_block(self) -> None:
        """A pipe planted in the queue is an error, not a wait for ever."""
        os.mkfifo(f"{self.root}/pipe")
        file = self.disk.open(f"{self.root}/pipe")
        self.addCleanup(file.close)
        self.assertRaises(OSError, file.read_at, 0, 10)

    def test_a_full_disk(self) -> None:
        """No space is an OSError of the write, as the device says it."""
        file = SystemFile(os.open("/dev/full", os.O_RDWR))
        self.addCleanup(file.close)
        error = self.assertRaises(OSError, file.append, b"x" * 100)
        self.assertIn("No space", str(error))

    def test_a_short_write_is_an_error(self) -> None:
        """A write that took less than all of it fails, for both kinds of write."""
        self.patch(os, "write", lambda descriptor, data: len(data) - 1)
        self.patch(os, "pwrite", lambda descriptor, data, offset: len(data) - 1)
        file = self.disk.create(f"{self.root}/short")
        self.addCleanup(file.close)
        error = self.assertRaises(OSError, file.append, b"abc")
        self.assertIn("wrote 2 of 3 octets", str(error))
        self.assertRaises(OSError, file.write_at, 0, b"abc")

    def test_a_read_only_disk_can_be_read(self) -> None:
        """Where writing is refused by the file system, reading still works."""
        self.disk.create(f"{self.root}/a").close()
        real = os.open

        def read_only(path: str, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_RDWR:
                raise OSError(30, "Read-only file system")
            return real(path, flags, mode)

        self.patch(os, "open", read_only)
        file = self.disk.open(f"{self.root}/a")
        self.assertEqual(file.read_at(0, 10), b"")
        self.assertRaises(OSError, file.append, b"x")
        file.close()

    def test_who_holds_the_lock(self) -> None:
        """A lock's text names the process and the boot."""
        text = lock_text()
        self.assertIn(f"process {os.getpid()}\n", text)
        self.assertRegex(text, r"\nboot \S+\n\Z")

    def test_the_lock_file_says_who(self) -> None:
        """The text stands in the file while the lock is held."""
        path = f"{self.root}/lock"
        self.disk.lock(path, "a much longer text of an earlier process\n")()
        release = self.disk.lock(path, "process 1\n")
        self.addCleanup(release)
        file = self.disk.open(path)
        self.addCleanup(file.close)
        self.assertEqual(file.read_at(0, 100), b"process 1\n")
