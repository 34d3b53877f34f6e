"""Reading the tree: one message's state or content, and where it lies.

Everything here runs on a worker's thread and changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from errno import ENOENT, EROFS
from typing import TypeVar
from zlib import crc32

from typing_extensions import override

from fwd_mta.interfaces import Disk, DiskFile
from fwd_mta.mail.entry import QueueEntry, Step
from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.queue.commit import Gone
from fwd_mta.queue.index_file import Place
from fwd_mta.queue.journal import Mail
from fwd_mta.queue.layout import (
    PACK,
    Layout,
    hour_end,
    may_hold,
    minute_start,
    parts,
)
from fwd_mta.queue.record import (
    HEADER_SIZE,
    Header,
    Records,
    Section,
    parse_header,
    parse_records,
)
from fwd_mta.queue.segment import TRAILER_SIZE, pack_index, pack_index_size
from fwd_mta.rules.identity import is_entry_id

T = TypeVar("T")

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class State:
    """What one file says of its message: where it lies, and its records."""

    path: str
    header: Header
    records: Records
    torn: bool

    @property
    def entry(self) -> QueueEntry:
        """The message's state."""
        return self.records.entry

    @property
    def good_length(self) -> int:
        """The length of the file without a torn tail."""
        return self.header.records + self.records.length


@dataclass(frozen=True, slots=True)
class Look:
    """One attempt to read a state: it, or why not (FileNotFoundError: it moved)."""

    path: str
    state: State | None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A message's checked content; `body` is None when it was too large to keep."""

    path: str
    header: Header
    head: bytes
    body: bytes | None


class Reader:
    """Reads the files of one tree."""

    def __init__(self, disk: Disk, layout: Layout, mails: dict[str, Mail]) -> None:
        self._disk = disk
        self._layout = layout
        self._mails = mails
        self._last_index: tuple[
            tuple[str, int, bytes] | None, dict[str, tuple[int, int]]
        ] = (None, {})

    def opened(self, path: str) -> DiskFile:
        """A message's file, or what stands for it in the journal or a pack."""
        directory, name = parts(path)
        if self._layout.is_young(path):
            return self._young(name)
        if directory.endswith(PACK):
            return self._member(directory, name)
        return self._disk.open(path)

    def _young(self, entry_id: str) -> DiskFile:
        mail = self._mails.get(entry_id)
        if mail is None:
            raise FileNotFoundError(ENOENT, "not in the journal", entry_id)
        file = self._disk.open(self._layout.segment(mail.segment))
        try:
            return Held(file.read_at(mail.offset, mail.length) + mail.lines)
        finally:
            file.close()

    def _member(self, pack: str, entry_id: str) -> DiskFile:
        file = self._disk.open(pack)
        try:
            place = self._index(pack, file).get(entry_id)
        except BaseException:
            file.close()
            raise
        if place is not None:
            return Part(file, *place)
        file.close()
        raise FileNotFoundError(ENOENT, "not in the pack", entry_id)

    def _index(self, pack: str, file: DiskFile) -> dict[str, tuple[int, int]]:
        """Where each message of a pack lies; the last index read is kept.

        A pack that was written anew has another trailer, or the same index.
        """
        end = file.size() - TRAILER_SIZE
        trailer = file.read_at(max(0, end), TRAILER_SIZE)
        known, index = self._last_index
        if known != (pack, end, trailer):
            length, crc = pack_index_size(trailer)
            read = pack_index(file.read_at(max(0, end - length), length), crc)
            index = {name: (offset, length) for name, offset, length in read}
            self._last_index = (pack, end, trailer), index
        return index

    def members(self, pack: str) -> list[str]:
        """The ids of a pack's messages, in order; raises OSError or Corrupt."""
        file = self._disk.open(pack)
        try:
            return list(self._index(pack, file))
        finally:
            file.close()

    def _exists(self, path: str) -> bool:
        directory, name = parts(path)
        if self._layout.is_young(path):
            return name in self._mails
        if directory.endswith(PACK):
            return self._disk.exists(directory) and name in self.members(directory)
        return self._disk.exists(path)

    def state(self, path: str) -> State:
        """Read header line and records; raises OSError, Corrupt or NewerFormat."""
        return self._state(path, self.opened(path))

    def state_within(self, path: str, at: int, length: int) -> State:
        """Read a message's state in a pack, where it is thought to begin."""
        return self._state(path, Part(self._disk.open(parts(path)[0]), at, length))

    def _state(self, path: str, file: DiskFile) -> State:
        try:
            header = parse_header(file.read_at(0, HEADER_SIZE))
            octets = _rest(file, header.records)
        finally:
            file.close()
        records = parse_records(octets)
        name = parts(path)[1].partition(".")[0]
        if not name == header.id == records.entry.id:
            raise Corrupt(f"the file holds message {records.entry.id}")
        mail = self._mails.get(header.id) if self._layout.is_young(path) else None
        if mail is not None and mail.doubtful:
            open_ones = tuple(one.recipient for one in records.entry.open)
            records = replace(records, doubt=open_ones)
        return State(path, header, records, records.length < len(octets))

    def octets(self, path: str) -> bytes:
        """All octets of a message's file."""
        file = self.opened(path)
        try:
            return file.read_at(0, file.size())
        finally:
            file.close()

    def look(self, path: str) -> Look:
        """Read a state; what is wrong is a value."""
        try:
            return Look(path, self.state(path))
        except (OSError, StoreError) as error:
            return Look(path, None, error)

    def content(self, path: str, keep: int) -> Content:
        """Read head and body and verify them; a body over `keep` is only verified."""
        file = self.opened(path)
        try:
            header = parse_header(file.read_at(0, HEADER_SIZE))
            head = _section(file, header.head, "header section")
            if header.body.length <= keep:
                return Content(path, header, head, _section(file, header.body, "body"))
            _verify(file, header.body)
            return Content(path, header, head, None)
        finally:
            file.close()

    def piece(self, path: str, expected: Header, offset: int, length: int) -> bytes:
        """Some of a body, if the file still holds the content of that header."""
        file = self.opened(path)
        try:
            if parse_header(file.read_at(0, HEADER_SIZE)) != expected:
                raise StoreError(f"the content of {expected.id} was redacted meanwhile")
            left = max(0, expected.body.length - offset)
            return file.read_at(expected.body.offset + offset, min(length, left))
        finally:
            file.close()

    # Where things lie

    def find(self, entry_id: str, hint: str = "") -> str | None:
        """The path of a message, wherever it lies; `hint` is tried first."""
        if hint and self._exists(hint):
            return hint
        if not is_entry_id(entry_id):
            return None
        # A second look: it may have moved to where the first had been already.
        for _ in range(2):
            if (mail := self._mails.get(entry_id)) is not None:
                return f"{self._layout.segment(mail.segment)}/{entry_id}"
            for directory in self._directories():
                path = f"{directory}/{entry_id}"
                if self._disk.exists(path):
                    return path
            if (packed := self.packed(entry_id)) is not None:
                return packed
        return None

    def packed(self, entry_id: str) -> str | None:
        """Its path in a pack; the names of packs say what can lie in them."""
        for hour in self.hours():
            for name in self._disk.names(hour):
                path = f"{hour}/{name}/{entry_id}"
                if may_hold(name, entry_id) and self._is_member(path):
                    return path
        return None

    def _is_member(self, path: str) -> bool:
        try:
            return self._exists(path)
        except (OSError, StoreError):
            return False  # the sweep says what is wrong with the pack

    def located(self, entry_id: str, hint: str, read: Callable[[str], T]) -> T:
        """Read at the hint, or where it is found when it moved; raises Gone."""
        for path in (hint, None):
            found = path or self.find(entry_id)
            if not found:
                continue
            try:
                return read(found)
            except FileNotFoundError:
                continue
        raise Gone(entry_id)

    def _directories(self) -> Iterator[str]:
        yield self._layout.incoming
        yield from self.minutes()
        yield self._layout.hold
        yield from self.hours()
        yield self._layout.kept

    def minutes(self) -> list[str]:
        """The directories of waiting mail, earliest first."""
        root = self._layout.deferred
        names = self._disk.names(root)
        return [f"{root}/{name}" for name in names if minute_start(name) is not None]

    def hours(self, ended_by: float | None = None) -> list[str]:
        """The directories of finished mail, those that have ended by a time or all."""
        root = self._layout.retained
        ends = {name: hour_end(name) for name in self._disk.names(root)}
        return [
            f"{root}/{name}"
            for name, end in ends.items()
            if end is not None and (ended_by is None or end <= ended_by)
        ]

    def hinted(self, rows: Sequence[tuple[str, Place]]) -> list[tuple[str, Look]]:
        """The states of some, each looked for first where it is thought to be."""
        return [(name, self._hinted(name, place)) for name, place in rows]

    def _hinted(self, entry_id: str, place: Place) -> Look:
        path = f"{self._layout.root}/{place.path}/{entry_id}"
        try:
            if place.length:
                return Look(path, self.state_within(path, place.at, place.length))
            return Look(path, self.state(path))
        except (OSError, StoreError):
            pass
        try:
            state = self.located(entry_id, "", self.state)
        except (OSError, StoreError) as error:
            return Look(path, None, error)
        return Look(state.path, state)

    def part(self, path: str) -> tuple[int, int]:
        """Where a message of a pack lies in it, and how long it is; else zeros."""
        pack, name = parts(path)
        if not pack.endswith(PACK):
            return 0, 0
        file = self._disk.open(pack)
        try:
            return self._index(pack, file).get(name, (0, 0))
        finally:
            file.close()

    def readable(self, places: Iterable[tuple[str, str]]) -> Iterator[QueueEntry]:
        """The entries of some names, at paths where they were, that can be read."""
        for name, path in places:
            with suppress(OSError, StoreError):
                yield self.located(name, path, self.state).entry

    # All that happened

    def timeline(self, entry_id: str) -> list[Step]:
        """All that happened to a message; empty if it is not known."""
        try:
            state = self.located(entry_id, "", self.state)
        except Gone:
            return []
        return state.records.steps()


class Held(DiskFile):
    """Octets in memory, read as if they were a file."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    @override
    def append(self, data: bytes) -> None:
        """Refused."""
        raise OSError(EROFS, "what lies in the journal is not written to")

    @override
    def write_at(self, offset: int, data: bytes) -> None:
        """Refused."""
        self.append(data)

    @override
    def read_at(self, offset: int, length: int) -> bytes:
        """Give up to `length` octets from `offset`."""
        return self._octets[offset : offset + length]

    @override
    def size(self) -> int:
        """Octets in it."""
        return len(self._octets)

    @override
    def sync(self) -> None:
        """Nothing was written."""

    @override
    def close(self) -> None:
        """Nothing is open."""


class Part(Held):
    """A part of an open file, read as if it were one."""

    def __init__(self, file: DiskFile, offset: int, length: int) -> None:
        super().__init__(b"")
        self._file = file
        self._offset = offset
        self._length = length

    @override
    def read_at(self, offset: int, length: int) -> bytes:
        """Give up to `length` octets from `offset`."""
        length = max(0, min(length, self._length - offset))
        return self._file.read_at(self._offset + offset, length)

    @override
    def size(self) -> int:
        """Octets in it."""
        return self._length

    @override
    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _rest(file: DiskFile, offset: int) -> bytes:
    """All octets from an offset on."""
    return file.read_at(offset, max(0, file.size() - offset))


def _section(file: DiskFile, section: Section, name: str) -> bytes:
    if section.offset + section.length > file.size():
        raise Corrupt(f"the file ends before its {name} does")
    return section.check(file.read_at(section.offset, section.length), name)


def _verify(file: DiskFile, section: Section) -> None:
    """Check a large section's checksum piece by piece."""
    crc, at = 0, 0
    while piece := file.read_at(section.offset + at, min(CHUNK, section.length - at)):
        crc, at = crc32(piece, crc), at + len(piece)
    if at != section.length or crc != section.crc:
        raise Corrupt("the checksum of the body is wrong")
