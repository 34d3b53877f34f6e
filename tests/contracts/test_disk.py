"""What every disk must do, asked of the one in memory and of the real one."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.interfaces import Disk
from fwd_mta.mail.errors import StoreError
from fwd_mta.net.disk import SystemDisk
from fwd_mta.world.disk import MemoryDisk


class DiskContract:
    """The contract; `root` is an empty directory."""

    disk: Disk
    root: str

    def write(self, name: str, *pieces: bytes) -> str:
        """A new file with content; gives its path."""
        path = f"{self.root}/{name}"
        file = self.disk.create(path)
        for piece in pieces:
            file.append(piece)
        file.close()
        return path

    def read(self, path: str) -> bytes:
        """All of a file."""
        file = self.disk.open(path)
        try:
            return file.read_at(0, file.size())
        finally:
            file.close()

    def test_append_and_read(self) -> None:
        """What is appended is read, by ranges, and nothing after the end."""
        case: Any = self
        path = self.write("a", b"one ", b"two")
        file = self.disk.open(path)
        file.append(b" three")
        case.assertEqual(file.size(), 13)
        case.assertEqual(file.read_at(4, 3), b"two")
        case.assertEqual(file.read_at(8, 100), b"three")
        case.assertEqual(file.read_at(13, 1), b"")
        file.sync()
        file.close()

    def test_sync_all(self) -> None:
        """Many are synced as one; what fails is named, and fails alone."""
        case: Any = self
        files = [self.disk.open(self.write(name, b"x")) for name in "abc"]
        gone = f"{self.root}/gone"
        case.assertEqual(self.disk.sync_all([]), {})
        case.assertEqual(self.disk.sync_all([*files, self.root]), {})
        errors = self.disk.sync_all([files[0], gone, self.root])
        case.assertEqual(list(errors), [gone])
        case.assertIsInstance(errors[gone], FileNotFoundError)
        for file in files:
            file.close()

    def test_room_in_front(self) -> None:
        """A new file can be written at its beginning after its end."""
        case: Any = self
        path = f"{self.root}/a"
        file = self.disk.create(path)
        file.append(bytes(4))
        file.append(b"body")
        file.write_at(0, b"head")
        file.append(b"tail")
        file.sync()
        file.close()
        case.assertEqual(self.read(path), b"headbodytail")

    def test_a_name_is_taken_once(self) -> None:
        """Creating over a file fails, and leaves it."""
        case: Any = self
        path = self.write("a", b"first")
        case.assertRaises(FileExistsError, self.disk.create, path)
        case.assertEqual(self.read(path), b"first")

    def test_what_is_not_there(self) -> None:
        """Opening, renaming, removing nothing fails; listing it gives nothing."""
        case: Any = self
        path = f"{self.root}/none"
        case.assertRaises(FileNotFoundError, self.disk.open, path)
        case.assertRaises(FileNotFoundError, self.disk.remove, path)
        case.assertRaises(FileNotFoundError, self.disk.rename, path, path + "2")
        case.assertRaises(FileNotFoundError, self.disk.create, path + "/file")
        case.assertRaises(FileNotFoundError, self.disk.sync_directory, path)
        case.assertEqual(self.disk.names(path), [])
        case.assertEqual(list(self.disk.scan(path)), [])
        case.assertFalse(self.disk.exists(path))

    def test_a_directory_is_no_file(self) -> None:
        """Opening a directory fails as an OSError."""
        case: Any = self
        self.disk.make_directory(f"{self.root}/d")
        case.assertRaises(OSError, self.disk.open, f"{self.root}/d")

    def test_rename_replaces(self) -> None:
        """A rename takes the place of what was there; open files follow."""
        case: Any = self
        old, new = self.write("a", b"old"), self.write("b", b"new")
        file = self.disk.open(new)
        self.disk.rename(new, old)
        case.assertEqual(self.read(old), b"new")
        case.assertFalse(self.disk.exists(new))
        file.append(b"er")
        file.close()
        case.assertEqual(self.read(old), b"newer")

    def test_directories(self) -> None:
        """Directories are made with parents, listed in order, removed when empty."""
        case: Any = self
        inner = f"{self.root}/x/y"
        self.disk.make_directory(inner)
        self.disk.make_directory(inner)
        for name in ("b", "c", "a"):
            self.write(f"x/y/{name}")
        case.assertEqual(self.disk.names(inner), ["a", "b", "c"])
        case.assertEqual(sorted(self.disk.scan(inner)), ["a", "b", "c"])
        case.assertRaises(OSError, self.disk.remove_directory, inner)
        for name in ("a", "b", "c"):
            self.disk.remove(f"{inner}/{name}")
        self.disk.sync_directory(inner)
        self.disk.remove_directory(inner)
        case.assertEqual(self.disk.names(f"{self.root}/x"), [])

    def test_space(self) -> None:
        """A working disk has something left."""
        case: Any = self
        left = self.disk.space(self.root)
        case.assertGreater(left.octets, 0)
        case.assertGreater(left.inodes, 0)

    def test_one_lock(self) -> None:
        """A lock is held once, says who holds it, and can be had again."""
        case: Any = self
        path = f"{self.root}/lock"
        release = self.disk.lock(path, "process 42\nboot b\n")
        error = case.assertRaises(StoreError, self.disk.lock, path, "process 43\n")
        case.assertIn("locked by process 42: one process owns the queue", str(error))
        release()
        self.disk.lock(path, "process 43\n")()


class MemoryDiskContractTests(DiskContract, SynchronousTestCase):
    """The disk in memory."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.root = "/mnt/disk"
        self.disk.make_directory(self.root)


class SystemDiskContractTests(DiskContract, SynchronousTestCase):
    """The real disk."""

    @override
    def setUp(self) -> None:
        self.disk = SystemDisk()
        self.root = self.mktemp()
        self.disk.make_directory(self.root)
