"""SQLite files on the real disk."""

import os
import sqlite3

from typing_extensions import override

from fwd_mta.interfaces import Databases

_BESIDE = ("", "-wal", "-shm")


class SystemDatabases(Databases):
    """Databases in files that only we may read; SQLite gives its logs the same mode."""

    @override
    def open(self, path: str) -> sqlite3.Connection:
        """Open or make one, for one thread at a time."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(path, flags, 0o600))  # noqa: TID251 - this is the disk
        return sqlite3.connect(path, check_same_thread=False)

    @override
    def remove(self, path: str) -> None:
        """Remove one and its logs."""
        for ending in _BESIDE:
            if os.path.lexists(path + ending):
                os.unlink(path + ending)  # noqa: TID251 - this is the disk
