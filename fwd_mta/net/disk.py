"""The real disk: the few calls of `interfaces.Disk`, on POSIX files."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from typing_extensions import override

from fwd_mta.interfaces import Disk, DiskFile, Space
from fwd_mta.mail.errors import StoreError

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_PLENTY = 1 << 62
_SYNC_THREADS = 16
_TOGETHER = 2  # one alone is synced on the caller's thread


class SystemFile(DiskFile):
    """A descriptor of a regular file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @override
    def append(self, data: bytes) -> None:
        """Write at the end; a short write is an error, and the file is spoilt."""
        written = os.write(self._descriptor, data)
        if written != len(data):
            raise OSError(errno.ENOSPC, f"wrote {written} of {len(data)} octets")

    @override
    def write_at(self, offset: int, data: bytes) -> None:
        """Write at an offset, in a file made by `create`."""
        written = os.pwrite(self._descriptor, data, offset)
        if written != len(data):
            raise OSError(errno.ENOSPC, f"wrote {written} of {len(data)} octets")

    @override
    def read_at(self, offset: int, length: int) -> bytes:
        """Give up to `length` octets from `offset`; empty at the end."""
        return os.pread(self._descriptor, length, offset)

    @override
    def size(self) -> int:
        """Octets in the file."""
        return os.fstat(self._descriptor).st_size

    @override
    def sync(self) -> None:
        """Return when data and size are on stable storage."""
        os.fdatasync(self._descriptor)  # noqa: TID251 - this is the disk

    @override
    def close(self) -> None:
        """Release the descriptor."""
        os.close(self._descriptor)


class SystemDisk(Disk):
    """The file system; links are not followed at the end of a path."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    @override
    def create(self, path: str) -> DiskFile:
        """Make a new file, 0600; FileExistsError if the name is taken."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return SystemFile(os.open(path, flags, 0o600))  # noqa: TID251 - this is the disk

    @override
    def open(self, path: str) -> DiskFile:
        """Open an existing file to read and append; read only if the disk is so."""
        flags = os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return SystemFile(os.open(path, flags | os.O_RDWR))  # noqa: TID251 - as above
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
        return SystemFile(os.open(path, flags | os.O_RDONLY))  # noqa: TID251 - as above

    @override
    def rename(self, source: str, target: str) -> None:
        """Rename, replacing the target atomically."""
        os.rename(source, target)  # noqa: TID251 - this is the disk

    @override
    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)  # noqa: TID251 - this is the disk

    @override
    def make_directory(self, path: str) -> None:
        """Make a directory, 0700, and its parents; fine if it is there."""
        os.makedirs(path, 0o700, exist_ok=True)  # noqa: TID251 - this is the disk

    @override
    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    @override
    def sync_directory(self, path: str) -> None:
        """Return when the directory's names are on stable storage."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(path, flags)  # noqa: TID251 - this is the disk
        try:
            os.fsync(descriptor)  # noqa: TID251 - this is the disk
        finally:
            os.close(descriptor)

    @override
    def sync_all(
        self, wanted: Sequence[DiskFile | str]
    ) -> dict[DiskFile | str, OSError]:
        """Sync side by side: the file system makes one commit of all that wait."""
        if len(wanted) < _TOGETHER:
            outcomes = [self._sync(one) for one in wanted]
        else:
            outcomes = list(self._syncing().map(self._sync, wanted))
        return {
            one: error
            for one, error in zip(wanted, outcomes, strict=True)
            if error is not None
        }

    def _sync(self, one: DiskFile | str) -> OSError | None:
        try:
            if isinstance(one, str):
                self.sync_directory(one)
            else:
                one.sync()
        except OSError as error:
            return error
        return None

    def _syncing(self) -> ThreadPoolExecutor:
        """The threads that sync; made when first needed, after twistd has forked."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_SYNC_THREADS, "sync")
        return self._threads

    @override
    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty if there is no such directory."""
        try:
            return sorted(os.listdir(path))  # noqa: TID251 - this is the disk
        except FileNotFoundError:
            return []

    @override
    def scan(self, path: str) -> Iterator[str]:
        """Names in a directory one by one, in no order, without listing it whole."""
        try:
            with os.scandir(path) as names:  # noqa: TID251 - this is the disk
                for name in names:
                    yield name.name
        except FileNotFoundError:
            return

    @override
    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of that name."""
        try:
            os.lstat(path)
        except FileNotFoundError:
            return False
        return True

    @override
    def space(self, path: str) -> Space:
        """What is left where the path lies, for a user without privileges.

        A file system without a table of inodes has plenty of them.
        """
        found = os.statvfs(path)
        inodes = found.f_favail if found.f_files else _PLENTY
        return Space(found.f_bavail * found.f_frsize, inodes)

    @override
    def lock(self, path: str, text: str) -> Callable[[], None]:
        """Lock the file for this process; the lock goes with the process.

        The file stays when it is released: removing it would let two in.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)  # noqa: TID251 - this is the disk
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode("ascii", "replace").split("\n")
            os.close(descriptor)
            raise StoreError(
                f"{path} is locked by {holder[0] or 'another process'}:"
                " one process owns the queue, stop that one first"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
        return lambda: os.close(descriptor)


def lock_text() -> str:
    """Who we are, for a lock file: the process on one line, the boot id on another."""
    try:
        descriptor = os.open(_BOOT_ID, os.O_RDONLY | os.O_CLOEXEC)  # noqa: TID251 - no disk
    except OSError:
        return f"process {os.getpid()}\nboot unknown\n"
    boot = os.read(descriptor, 100).decode("ascii", "replace").strip()
    os.close(descriptor)
    return f"process {os.getpid()}\nboot {boot}\n"
