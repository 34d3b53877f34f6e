"""A disk in memory that models the page cache, so that it can crash and fail.

Contents and names are what the running process sees; what a crash would leave is kept
apart. A write reaches the durable side by `sync` of its file, a name by
`sync_directory` of its directory, and both perhaps by themselves: `crash` decides.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from typing_extensions import override

from fwd_mta.interfaces import Disk, DiskFile, Entropy, Space
from fwd_mta.mail.errors import StoreError

_LOG_LENGTH = 4096


class Died(BaseException):
    """The process ended in the middle of a disk call; nothing catches this."""


class Crash(StrEnum):
    """What becomes of all that was not synced."""

    LOST = "lost"
    KEPT = "kept"
    TORN = "torn"
    CHOSEN = "chosen"


class _Node:
    """A file's content: as seen, as durable, and the writes in between."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = b""
        self.writes: list[tuple[int, bytes]] = []

    def write(self, offset: int, data: bytes) -> None:
        """Write, in the page cache."""
        _put(self.content, offset, data)
        self.writes.append((offset, data))

    def sync(self) -> None:
        """Make what is seen durable."""
        if self.writes:
            self.durable = bytes(self.content)
            self.writes.clear()

    def settle(self, crash: Crash, entropy: Entropy | None) -> None:
        """Become what a crash leaves."""
        content = bytearray(self.durable)
        for number, (offset, data) in enumerate(self.writes, 1):
            kept = _kept(data, crash, entropy, last=number == len(self.writes))
            if kept:
                _put(content, offset, kept)
        self.content = content
        self.durable = bytes(content)
        self.writes.clear()


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _kept(data: bytes, crash: Crash, entropy: Entropy | None, *, last: bool) -> bytes:
    """How much of one unsynced write a crash leaves."""
    if crash is Crash.KEPT:
        return data
    if crash is Crash.TORN:
        return data[: len(data) // 2] if last else data
    if crash is Crash.CHOSEN and entropy is not None:
        chance = entropy.random() * 1.5 - 0.25
        return data[: int(min(1.0, max(0.0, chance)) * len(data))]
    return b""


_Found = _Node | None  # None: a directory


class _Change:
    """One change of names that is not durable yet: names gone, names new."""

    def __init__(self, gone: tuple[str, ...], new: dict[str, _Found]) -> None:
        self.gone = gone
        self.new = new
        self.paths = {*gone, *new}
        self.directories = {os.path.dirname(path) for path in self.paths}

    def apply(self, names: dict[str, _Found]) -> None:
        """Change the names."""
        for path in self.gone:
            names.pop(path, None)
        names.update(self.new)


class MemoryDisk(Disk):
    """The twin of `net.disk.SystemDisk`.

    `calls` counts the calls that change or sync something, `log` holds the last of
    all of them; `left` is what `space` reports.
    """

    def __init__(self) -> None:
        self._names: dict[str, _Found] = {"/": None}
        self._durable: dict[str, _Found] = {"/": None}
        self._pending: list[_Change] = []
        self._children: dict[str, set[str]] = {"/": set()}
        self._locks: dict[str, str] = {}
        self._die_at: int | None = None
        self._doom: tuple[str, int] | None = None
        self._refusal: tuple[int, frozenset[str], str] | None = None
        self._life = 0
        self.log: deque[str] = deque(maxlen=_LOG_LENGTH)
        self.calls = 0
        self.left = Space(1 << 40, 1 << 30)

    # What a test does to it

    def fail_at(self, number: int, verb: str = "") -> None:
        """Die in the n-th changing call from now (1 is the next), and in all later.

        With a verb only its calls count.
        """
        self._die_at = None if verb else self.calls + number
        self._doom = (verb, number) if verb else None

    def refuse(self, error: int, *verbs: str, path: str = "") -> None:
        """Answer these calls (all that change, when none is named) with an errno.

        Only where `path` occurs in theirs. A refused append writes half.
        """
        self._refusal = (error, frozenset(verbs), path)

    def relent(self) -> None:
        """Work again."""
        self._refusal = None

    def crash(self, crash: Crash = Crash.LOST, entropy: Entropy | None = None) -> None:
        """Stop the machine and start it again: open files and locks are gone."""
        for change in list(self._pending):
            if change in self._pending and _survives(crash, entropy):
                self._make_durable(change)
        self._pending.clear()
        names = {"/": None} | {
            path: found
            for path, found in sorted(self._durable.items())
            if self._reachable(path)
        }
        self._names, self._durable = dict(names), dict(names)
        self._children = {path: set() for path, found in names.items() if found is None}
        for path, found in names.items():
            if path != "/":
                self._children[os.path.dirname(path)].add(os.path.basename(path))
            if found is not None:
                found.settle(crash, entropy)
        self._locks.clear()
        self._die_at = None
        self._doom = None
        self._life += 1

    def _reachable(self, path: str) -> bool:
        while path != "/":
            path = os.path.dirname(path)
            if self._durable.get(path, _MISSING) is not None:
                return False
        return True

    def aside(self) -> tuple[object, ...]:
        """Work, and note nothing, until `back` of what this gives."""
        kept = self._die_at, self._doom, self._refusal, self.log, self.calls
        self._die_at = self._doom = self._refusal = None
        self.log = deque(maxlen=1)
        return kept

    def back(self, kept: tuple[object, ...]) -> None:
        """Be again as before `aside`."""
        self._die_at, self._doom, self._refusal, self.log, self.calls = kept  # type: ignore[assignment]

    def files(self) -> dict[str, bytes]:
        """All files as they are seen now, by path."""
        return {
            path: bytes(found.content)
            for path, found in sorted(self._names.items())
            if found is not None
        }

    def state(self) -> frozenset[tuple[str, bytes | None]]:
        """All that a start can see: names and contents, None for a directory."""
        return frozenset(
            (path, None if found is None else bytes(found.content))
            for path, found in self._names.items()
        )

    def paths(self) -> list[str]:
        """The paths of all files, without reading any."""
        return sorted(path for path, found in self._names.items() if found is not None)

    def spoil(self, path: str, offset: int, data: bytes) -> None:
        """Change octets of a file behind everyone's back."""
        node = self._node(path)
        _put(node.content, offset, data)
        node.durable = bytes(node.content)

    # The calls

    def touch(self, life: int, verb: str, path: str, *, changes: bool = True) -> None:
        """Note a call; dies or refuses when it is told to."""
        if life != self._life:
            raise OSError(errno.EBADF, "this file was open in an earlier life")
        self.log.append(f"{verb} {path}")
        if changes:
            self.calls += 1
        if self._doom is not None and self._doom[0] == verb:
            self._doom = verb, self._doom[1] - 1
            if not self._doom[1]:
                self._die_at, self._doom = self.calls, None
        if self._die_at is not None and self.calls >= self._die_at:
            raise Died(f"in {verb} {path}")
        if self._refusal is None:
            return
        error, verbs, part = self._refusal
        if part in path and (verb in verbs if verbs else changes):
            raise OSError(error, os.strerror(error), path)

    def _node(self, path: str) -> _Node:
        found = self._names.get(path, _MISSING)
        if found is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if found is _MISSING:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def _parent(self, path: str) -> set[str]:
        parent = os.path.dirname(path)
        if parent not in self._children:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), parent)
        return self._children[parent]

    def _change(self, gone: tuple[str, ...], new: dict[str, _Found]) -> None:
        change = _Change(gone, new)
        for path in gone:
            self._parent(path).discard(os.path.basename(path))
        for path in new:
            self._parent(path).add(os.path.basename(path))
        change.apply(self._names)
        self._pending.append(change)

    def _make_durable(self, wanted: _Change) -> None:
        """Apply a change, and before it all earlier ones that it cannot be without.

        Those are the ones of the same names, and those in a directory that goes.
        """
        paths, gone = set(wanted.paths), set(wanted.gone)
        earlier = self._pending[: self._pending.index(wanted) + 1]
        needed = []
        for change in reversed(earlier):
            if change.paths & paths or change.directories & gone:
                needed.append(change)
                paths |= change.paths
        for change in reversed(needed):
            change.apply(self._durable)
            self._pending.remove(change)

    @override
    def create(self, path: str) -> DiskFile:
        """Make a new file; FileExistsError if the name is taken."""
        self.touch(self._life, "create", path)
        if path in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._parent(path)
        node = _Node()
        self._change((), {path: node})
        return MemoryFile(self, self._life, node, path)

    @override
    def open(self, path: str) -> DiskFile:
        """Open an existing file to read and append."""
        self.touch(self._life, "open", path, changes=False)
        return MemoryFile(self, self._life, self._node(path), path)

    @override
    def rename(self, source: str, target: str) -> None:
        """Rename, replacing the target atomically."""
        self.touch(self._life, "rename", f"{source} {target}")
        node = self._node(source)
        self._parent(target)
        if self._names.get(target, _MISSING) is None:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        if source != target:
            self._change((source,), {target: node})

    @override
    def remove(self, path: str) -> None:
        """Remove a file."""
        self.touch(self._life, "remove", path)
        self._node(path)
        self._change((path,), {})

    @override
    def make_directory(self, path: str) -> None:
        """Make a directory and its parents; fine if it is there."""
        self.touch(self._life, "make_directory", path)
        found = self._names.get(path, _MISSING)
        if isinstance(found, _Node) and found is not _MISSING:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        missing = []
        while self._names.get(path, _MISSING) is not None:
            missing.append(path)
            path = os.path.dirname(path)
        for one in reversed(missing):
            self._change((), {one: None})
            self._children[one] = set()

    @override
    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        self.touch(self._life, "remove_directory", path)
        if path not in self._children:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if self._children[path]:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._change((path,), {})
        del self._children[path]

    @override
    def sync_directory(self, path: str) -> None:
        """Make the directory's names durable."""
        self.touch(self._life, "sync_directory", path)
        if path not in self._children:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        for change in list(self._pending):
            if path in change.directories and change in self._pending:
                self._make_durable(change)

    @override
    def sync_all(
        self, wanted: Sequence[DiskFile | str]
    ) -> dict[DiskFile | str, OSError]:
        """Sync one after the other, so that a stop can come between any two."""
        errors: dict[DiskFile | str, OSError] = {}
        for one in wanted:
            try:
                if isinstance(one, str):
                    self.sync_directory(one)
                else:
                    one.sync()
            except OSError as error:
                errors[one] = error
        return errors

    @override
    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted; empty if there is no such directory."""
        self.touch(self._life, "names", path, changes=False)
        return sorted(self._children.get(path, ()))

    @override
    def scan(self, path: str) -> Iterator[str]:
        """Names in a directory one by one."""
        yield from self.names(path)

    @override
    def exists(self, path: str) -> bool:
        """Whether there is a file or directory of that name."""
        self.touch(self._life, "exists", path, changes=False)
        return path in self._names

    @override
    def space(self, path: str) -> Space:
        """What a test says is left."""
        self.touch(self._life, "space", path, changes=False)
        return self.left

    @override
    def lock(self, path: str, text: str) -> Callable[[], None]:
        """Take the lock of that name until it is released, or until the crash."""
        self.touch(self._life, "lock", path, changes=False)
        if path in self._locks:
            raise StoreError(
                f"{path} is locked by {self._locks[path].split(chr(10))[0]}:"
                " one process owns the queue, stop that one first"
            )
        self._locks[path] = text
        life = self._life

        def release() -> None:
            if life == self._life:
                self._locks.pop(path, None)

        return release


_MISSING = _Node()


def _survives(crash: Crash, entropy: Entropy | None) -> bool:
    if crash is Crash.CHOSEN and entropy is not None:
        return entropy.random() < 0.5
    return crash in {Crash.KEPT, Crash.TORN}


class MemoryFile(DiskFile):
    """An open file of a MemoryDisk."""

    def __init__(self, disk: MemoryDisk, life: int, node: _Node, path: str) -> None:
        self._disk = disk
        self._life = life
        self._node = node
        self._path = path

    @override
    def append(self, data: bytes) -> None:
        """Write at the end."""
        try:
            self._disk.touch(self._life, "append", self._path)
        except OSError:
            self._node.write(len(self._node.content), data[: len(data) // 2])
            raise
        self._node.write(len(self._node.content), bytes(data))

    @override
    def write_at(self, offset: int, data: bytes) -> None:
        """Write at an offset."""
        self._disk.touch(self._life, "write_at", self._path)
        self._node.write(offset, bytes(data))

    @override
    def read_at(self, offset: int, length: int) -> bytes:
        """Give up to `length` octets from `offset`; empty at the end."""
        self._disk.touch(self._life, "read_at", self._path, changes=False)
        return bytes(self._node.content[offset : offset + length])

    @override
    def size(self) -> int:
        """Octets in the file."""
        self._disk.touch(self._life, "size", self._path, changes=False)
        return len(self._node.content)

    @override
    def sync(self) -> None:
        """Make the content durable."""
        self._disk.touch(self._life, "sync", self._path)
        self._node.sync()

    @override
    def close(self) -> None:
        """Nothing to release."""
