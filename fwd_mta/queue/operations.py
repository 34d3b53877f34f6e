"""The operations of docs/crashes.md as scripts: disk calls in order, one commit point.

A script yields what it wants synced. Each runs on a worker's thread and owns nothing
but its arguments; an OSError before the commit point means that nothing happened, and
after it an operation no longer fails.
"""

import errno
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from fwd_mta.interfaces import Disk, DiskFile
from fwd_mta.mail.entry import QueueEntry, Step
from fwd_mta.mail.noun import noun
from fwd_mta.queue.commit import Gone, Script
from fwd_mta.queue.layout import Layout, parts
from fwd_mta.queue.reading import CHUNK, Reader
from fwd_mta.queue.record import (
    header_for,
    header_line,
    message_octets,
    record_line,
)

NOTICE = ".notice"

History = Sequence[tuple[QueueEntry, Step]]


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A body that was streamed to a file, behind room for the header line."""

    path: str
    file: DiskFile
    length: int
    crc: int


@noun
class Filed:
    """Where a message lies after an operation; `trouble`: what failed after it."""

    path: str
    trouble: OSError | None = None


def _lines(history: History) -> bytes:
    return b"".join(record_line(entry, step) for entry, step in history)


class Operations:
    """The scripts of one tree."""

    def __init__(self, disk: Disk, layout: Layout, reader: Reader) -> None:
        self._disk = disk
        self._layout = layout
        self._reader = reader
        self._durable: set[str] = set(layout.directories)
        self._spoilt: dict[str, int] = {}

    def spoil(self, entry_id: str, good_length: int) -> None:
        """Note that a file must be mended before it is written to again."""
        self._spoilt[entry_id] = good_length

    # add

    def add(
        self, entry: QueueEntry, step: Step, head: bytes, body: bytes, directory: str
    ) -> Script[str]:
        """A small message, written whole; nothing for one that is there already."""
        if self._disk.exists(f"{directory}/{entry.id}"):
            return f"{directory}/{entry.id}"
        source = f"{self._layout.tmp}/{entry.id}"
        yield from self.write(source, message_octets(entry, step, head, body))
        return (yield from self._enter(source, f"{directory}/{entry.id}"))

    def add_spooled(
        self,
        entry: QueueEntry,
        step: Step,
        head: bytes,
        body: SpooledFile,
        directory: str,
    ) -> Script[str]:
        """A large message whose body is in a file already."""
        header = header_for(entry.id, body.length, body.crc, head)
        try:
            body.file.append(head + record_line(entry, step))
            body.file.write_at(0, header_line(header))
            yield (body.file,)
        except OSError:
            self.forget(body.path)
            raise
        finally:
            body.file.close()
        return (yield from self._enter(body.path, f"{directory}/{entry.id}"))

    def write(self, path: str, octets: bytes) -> Script[None]:
        """A new file, synced; a failed one is removed and its name not used again."""
        file = self.fresh(path)
        try:
            file.append(octets)
            yield (file,)
        except OSError:
            self.forget(path)
            raise
        finally:
            file.close()

    def fresh(self, path: str) -> DiskFile:
        """A new file; one of that name is of an operation that failed."""
        try:
            return self._disk.create(path)
        except FileExistsError:
            self._disk.remove(path)  # of an operation that failed before its commit
            return self._disk.create(path)

    def _enter(self, source: str, target: str) -> Script[str]:
        """Rename into the queue; the directory's sync is the commit."""
        directory = parts(target)[0]
        try:
            yield from self._directory(directory)
            self._disk.rename(source, target)
            yield (directory,)
        except OSError:
            self.forget(target)
            self.forget(source)
            raise
        return target

    def _directory(self, path: str) -> Script[None]:
        """Have a directory, durably, before anything is renamed into it."""
        if path not in self._durable:
            self._disk.make_directory(path)
            yield (parts(path)[0],)
            self._durable.add(path)

    def forget(self, path: str) -> None:
        """Remove a file if that can be done now; the next start does it else."""
        try:
            self._disk.remove(path)
        except OSError:
            return

    # record, pay, dot sent

    def record(
        self,
        entry_id: str,
        hint: str,
        history: History,
        *,
        owing: bool,
        home: str | None,
    ) -> Script[Filed]:
        """Append records; with a `home` the message is filed there afterwards."""
        path = yield from self._ready(entry_id, hint, owing=owing, home=home)
        yield from self._append(entry_id, path, _lines(history))
        return (yield from self.file_at(path, home))

    def pay(
        self,
        entry_id: str,
        hint: str,
        history: History,
        notices: Sequence[tuple[str, bytes]],
        home: str | None,
    ) -> Script[tuple[Filed, list[str]]]:
        """Notices in, and their parent's debt cleared; gives which are in incoming."""
        path = yield from self._ready(entry_id, hint, owing=True)
        yield from self._prepare(notices)
        yield from self._append(entry_id, path, _lines(history))
        entered, trouble = yield from self._let_in(notices)
        filed = yield from self.file_at(path, home)
        return replace(filed, trouble=trouble or filed.trouble), entered

    def _prepare(self, notices: Sequence[tuple[str, bytes]]) -> Script[None]:
        """Write the notices to tmp, synced with their names."""
        paths = [f"{self._layout.tmp}/{name}{NOTICE}" for name, _ in notices]
        files: list[DiskFile] = []
        try:
            for path, (_, octets) in zip(paths, notices, strict=True):
                files.append(self.fresh(path))
                files[-1].append(octets)
            yield tuple(files)
            yield (self._layout.tmp,)
        except OSError:
            for path in paths:
                self.forget(path)
            raise
        finally:
            for file in files:
                file.close()

    def _let_in(
        self, notices: Sequence[tuple[str, bytes]]
    ) -> Script[tuple[list[str], OSError | None]]:
        """Rename paid notices into the queue; the next start does what fails here."""
        entered: list[str] = []
        try:
            for name, _ in notices:
                self._disk.rename(
                    f"{self._layout.tmp}/{name}{NOTICE}",
                    f"{self._layout.incoming}/{name}",
                )
                entered.append(name)
            yield (self._layout.incoming, self._layout.tmp)
        except OSError as error:
            return entered, error
        return entered, None

    def dot(self, entry_id: str, hint: str, line: bytes) -> Script[None]:
        """Append the mark that a final dot goes out, and sync it (P2)."""
        if entry_id in self._spoilt:
            hint = yield from self._ready(entry_id, hint, owing=False)
        file = self._reader.located(entry_id, hint, self._disk.open)
        length = file.size()
        try:
            file.append(line)
            yield (file,)
        except OSError:
            self.spoil(entry_id, length)
            raise
        finally:
            file.close()

    def _ready(
        self, entry_id: str, hint: str, *, owing: bool, home: str | None = None
    ) -> Script[str]:
        """The file's path, mended if need be, in incoming if it owes or leaves hold.

        No start reads hold, so nothing may lie there that is not held.
        """
        path = self._reader.find(entry_id, hint)
        if path is None:
            raise Gone(entry_id)
        if entry_id in self._spoilt:
            yield from self._mend(entry_id, path)
        directory = parts(path)[0]
        leaving = directory == self._layout.hold and home not in {None, directory}
        if leaving or (owing and directory != self._layout.incoming):
            target = f"{self._layout.incoming}/{entry_id}"
            self._disk.rename(path, target)
            yield (self._layout.incoming, directory)
            return target
        return path

    def _mend(self, entry_id: str, path: str) -> Script[None]:
        """Replace a file that was not written well by a copy of what was good."""
        copy = f"{self._layout.tmp}/{entry_id}.copy"
        old, new = self._disk.open(path), self.fresh(copy)
        try:
            at, end = 0, self._spoilt[entry_id]
            while piece := old.read_at(at, min(CHUNK, end - at)):
                new.append(piece)
                at += len(piece)
            yield (new,)
            self._disk.rename(copy, path)
            yield (parts(path)[0],)
        except OSError:
            self.forget(copy)
            raise
        finally:
            old.close()
            new.close()
        del self._spoilt[entry_id]

    def _append(self, entry_id: str, path: str, lines: bytes) -> Script[None]:
        """Append and sync: the commit of every operation that uses it."""
        file = self._disk.open(path)
        length = file.size()
        try:
            file.append(lines)
            yield (file,)
        except OSError:
            self.spoil(entry_id, length)
            raise
        finally:
            file.close()

    # Filing

    def file(self, entry_id: str, hint: str, home: str) -> Script[Filed]:
        """File a message anew; its records say that it belongs there."""
        path = yield from self._ready(entry_id, hint, owing=False)
        return (yield from self.file_at(path, home))

    def file_at(self, path: str, home: str | None) -> Script[Filed]:
        """Move to another directory; failing here leaves it where it is, rightly."""
        directory, name = parts(path)
        if home is None or directory == home:
            return Filed(path)
        if directory == self._layout.tmp:
            name = name.partition(".")[0]  # a spill has a number behind its id
        target = f"{home}/{name}"
        try:
            yield from self._moved(path, target)
        except OSError as error:
            return Filed(path, error)
        try:
            yield (home, directory)
        except OSError as error:
            return Filed(target, error)
        return Filed(target)

    # Out of the journal

    def copy(self, path: str, lines: bytes, source: str) -> Script[None]:
        """A message of the journal and more records to a file in tmp, durable there."""
        octets = self._reader.octets(path)
        yield from self.write(source, octets + lines)
        try:
            yield (self._layout.tmp,)
        except OSError:
            self.forget(source)
            raise

    def move(self, source: str, target: str) -> Script[Filed]:
        """Give a file in tmp its place; failing here leaves it to the next start."""
        home = parts(target)[0]
        try:
            yield from self._moved(source, target)
        except OSError as error:
            return Filed(source, error)
        try:
            yield (home, self._layout.tmp)
        except OSError as error:
            return Filed(target, error)
        return Filed(target)

    def remove(self, path: str) -> Script[None]:
        """Remove a file, durably; fine if it is gone."""
        with suppress(FileNotFoundError):
            self._disk.remove(path)
        yield (parts(path)[0],)

    def _moved(self, path: str, target: str) -> Script[None]:
        home = parts(target)[0]
        yield from self._directory(home)
        try:
            self._disk.rename(path, target)
        except FileNotFoundError:
            # The directory was found empty and removed in between.
            self._durable.discard(home)
            yield from self._directory(home)
            self._disk.rename(path, target)

    def tidy(self, directory: str) -> Script[bool]:
        """Remove a directory if it is empty; whether it is gone."""
        self._durable.discard(directory)
        yield from ()
        try:
            self._disk.remove_directory(directory)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            return False
        return True

    def set_aside(self, path: str) -> Script[str]:
        """Move what is no message of ours to corrupt, under a name that is free."""
        directory, name = parts(path)
        target, number = f"{self._layout.corrupt}/{name}", 0
        while self._disk.exists(target):
            number += 1
            target = f"{self._layout.corrupt}/{name}.{number}"
        self._disk.rename(path, target)
        yield (self._layout.corrupt, directory)
        return target
