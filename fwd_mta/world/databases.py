"""SQLite in memory: a database outlives its connections, as a file does."""

import sqlite3
from collections.abc import Callable
from functools import partial

from typing_extensions import override

from fwd_mta.interfaces import Databases


class _Connection(sqlite3.Connection):
    """A connection whose database is kept when it is closed."""

    keep: Callable[[bytes], None] = staticmethod(lambda octets: None)

    @override
    def close(self) -> None:
        self.keep(self.serialize())
        super().close()


class MemoryDatabases(Databases):
    """Databases by path; `image` gives the octets of one, as they would be on disk."""

    def __init__(self) -> None:
        self._images: dict[str, bytes] = {}
        self._open: dict[str, _Connection] = {}

    @override
    def open(self, path: str) -> sqlite3.Connection:
        """Open or make one, with what it held when it was closed or we crashed."""
        kept = self.image(path)
        connection = sqlite3.connect(
            ":memory:", check_same_thread=False, factory=_Connection
        )
        if kept:
            connection.deserialize(kept)
        connection.keep = partial(self._closed, path)
        self._open[path] = connection
        return connection

    def _closed(self, path: str, octets: bytes) -> None:
        self._open.pop(path, None)
        self._images[path] = octets

    @override
    def remove(self, path: str) -> None:
        """Remove one."""
        self._open.pop(path, None)
        self._images.pop(path, None)

    def image(self, path: str) -> bytes:
        """The octets of a database; empty if there is none."""
        connection = self._open.get(path)
        if connection is not None:
            return connection.serialize()
        return self._images.get(path, b"")
