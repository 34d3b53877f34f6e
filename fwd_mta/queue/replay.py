"""The start of the journal: from segments to what is young (docs/crashes.md).

Runs on a worker's thread, before the files are looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fwd_mta.events import Event, Trouble
from fwd_mta.interfaces import Disk
from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.errors import Corrupt
from fwd_mta.queue.journal import Mail, Segment
from fwd_mta.queue.layout import Layout, parts, segment_number
from fwd_mta.queue.reading import Reader
from fwd_mta.queue.record import HEADER_SIZE, parse_header, parse_records
from fwd_mta.queue.segment import (
    Damage,
    Frame,
    Kind,
    Moved,
    Scanned,
    SegmentHeader,
    header_in,
    moved_in,
    scan,
)
from fwd_mta.rules.identity import is_entry_id
from fwd_mta.rules.retention import RetentionPolicy, next_step


@dataclass(slots=True)
class Replayed:
    """What the journal holds: its segments, and what is open in them by due time."""

    segments: list[Segment] = field(default_factory=list)
    open: list[tuple[Mail, float]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class _Read:
    """One segment as it was read."""

    number: int
    octets: bytes
    header: SegmentHeader
    found: Scanned


class Replay:
    """One start."""

    def __init__(
        self, disk: Disk, layout: Layout, reader: Reader, policy: RetentionPolicy
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._reader = reader
        self._policy = policy

    def run(self, owner: str) -> Replayed:
        """Read all segments, finish what was committed; raises OSError, StoreError."""
        result = Replayed()
        read = list(self._segments(result))
        mails, moves = self._applied(read, owner)
        self._finish([moved for _, moved in moves])
        gone = {int(name) for name, _ in moves if not is_entry_id(name)}
        for one in read:
            self._set_aside(one, result)
            if one.number in gone:
                self._remove(one.number)
                continue
            segment = Segment(one.number, 0.0, 0.0, len(one.octets))
            result.segments.append(segment)
        self._index(read, mails, result)
        return result

    # Reading

    def _segments(self, result: Replayed) -> Iterator[_Read]:
        """All segments in order, each synced: what was read must not go again."""
        found: list[tuple[int, bytes, SegmentHeader]] = []
        for name in self._disk.names(self._layout.journal):
            number = segment_number(name)
            path = f"{self._layout.journal}/{name}"
            if number is None:
                result.events.append(Trouble(path, "is no segment of ours", "move it"))
                continue
            octets = self._octets(path)
            header = header_in(scan(octets, number))
            if header is None:
                self._headless(path, octets, result)
            else:
                found.append((number, octets, header))
        self._disk.sync_directory(self._layout.journal)
        valid = {header.previous: header.valid for _, _, header in found}
        for number, octets, header in found:
            scanned = scan(octets, number, valid.get(number))
            yield _Read(number, octets, header, scanned)

    def _octets(self, path: str) -> bytes:
        file = self._disk.open(path)
        try:
            file.sync()
            return file.read_at(0, file.size())
        finally:
            file.close()

    def _headless(self, path: str, octets: bytes, result: Replayed) -> None:
        """A segment whose header was never synced holds nothing that was promised."""
        number = segment_number(parts(path)[1]) or 0
        if not scan(octets, number).frames:
            self._disk.remove(path)
            return
        target = f"{self._layout.corrupt}/{parts(path)[1]}"
        self._disk.rename(path, target)
        self._disk.sync_directory(self._layout.corrupt)
        result.events.append(Trouble(path, "has no header", f"look at {target}"))

    # What the frames say

    def _applied(
        self, read: list[_Read], owner: str
    ) -> tuple[dict[str, Mail], list[tuple[str, Moved]]]:
        mails: dict[str, Mail] = {}
        moves: dict[str, Moved] = {}
        for one in read:
            power_lost = _boot(one.header.owner) != _boot(owner)
            for frame in one.found.frames:
                self._apply(one.number, frame, mails, moves, power_lost=power_lost)
        return mails, list(moves.items())

    @staticmethod
    def _apply(
        number: int,
        frame: Frame,
        mails: dict[str, Mail],
        moves: dict[str, Moved],
        *,
        power_lost: bool,
    ) -> None:
        if frame.kind is Kind.MESSAGE:
            mail = Mail(frame.id, number, frame.offset, len(frame.octets))
            mail.doubtful = power_lost
            mails[frame.id] = mail
        elif frame.kind is Kind.LINES and frame.id in mails:
            mails[frame.id].lines += frame.octets
        elif frame.kind is Kind.MOVED:
            moves[frame.id] = moved_in(frame)
            mails.pop(frame.id, None)
        elif frame.kind is Kind.STOPPED:
            for mail in mails.values():
                mail.doubtful = False

    def _finish(self, moves: list[Moved]) -> None:
        """Finish each rename that was committed."""
        touched: dict[str, None] = {}
        for moved in moves:
            if not self._disk.exists(moved.source):
                continue
            directory = parts(moved.target)[0]
            self._disk.make_directory(directory)
            self._disk.sync_directory(parts(directory)[0])
            self._disk.rename(moved.source, moved.target)
            touched[directory] = None
        for directory in [*touched, self._layout.tmp]:
            if touched:
                self._disk.sync_directory(directory)

    def _remove(self, number: int) -> None:
        self._disk.remove(self._layout.segment(number))
        self._disk.sync_directory(self._layout.journal)

    def _set_aside(self, one: _Read, result: Replayed) -> None:
        """Copy what is damaged to corrupt, once."""
        for damage in one.found.damaged:
            target = f"{self._layout.corrupt}/{one.number}-{damage.offset}"
            if not self._disk.exists(target):
                self._copy(one.octets, damage, target)
            what = f"{damage.length} octets at {damage.offset} are damaged"
            path = self._layout.segment(one.number)
            result.events.append(Trouble(path, what, f"look at {target}"))

    def _copy(self, octets: bytes, damage: Damage, target: str) -> None:
        file = self._disk.create(target)
        try:
            file.append(octets[damage.offset : damage.offset + damage.length])
            file.sync()
        finally:
            file.close()
        self._disk.sync_directory(self._layout.corrupt)

    # The index

    def _index(
        self, read: list[_Read], mails: dict[str, Mail], result: Replayed
    ) -> None:
        segments = {segment.number: segment for segment in result.segments}
        octets = {one.number: one.octets for one in read}
        for mail in mails.values():
            segment = segments.get(mail.segment)
            if segment is None:
                continue  # it lies in a pack
            try:
                whole = octets[mail.segment][mail.offset : mail.offset + mail.length]
                entry = self._entry(whole + mail.lines)
            except Corrupt as error:
                result.events.append(Trouble(mail.id, str(error), "see queue/journal"))
                continue
            segment.mails[mail.id] = mail
            step = next_step(entry, self._policy)
            if step is not None:
                mail.due = step[1]
                continue
            result.open.append((mail, entry.due or 0.0))

    @staticmethod
    def _entry(octets: bytes) -> QueueEntry:
        header = parse_header(octets[:HEADER_SIZE])
        return parse_records(octets[header.records :]).entry


def _boot(owner: str) -> str:
    """The boot that an owner's text names."""
    return owner.partition("\n")[2]
