"""The start of the journal: from segments to what is young (docs/crashes.md).

Runs on a worker's thread, before the files are looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fwd_mta.events import Event, Trouble
from fwd_mta.interfaces import Disk
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
    SegmentHeader,
    header_in,
    moved_in,
    scan,
)
from fwd_mta.rules.identity import is_entry_id
from fwd_mta.rules.retention import RetentionPolicy, next_step

_HEADER_OCTETS = 4096


@dataclass(slots=True)
class Replayed:
    """What the journal holds: its segments, and what is open in them by due time."""

    segments: list[Segment] = field(default_factory=list)
    open: list[tuple[Mail, float]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class _Told:
    """What the frames say, gathered segment by segment."""

    mails: dict[str, Mail] = field(default_factory=dict)
    first: dict[str, bytes] = field(default_factory=dict)
    moves: dict[str, Moved] = field(default_factory=dict)

    def take(self, number: int, frame: Frame, *, power_lost: bool) -> None:
        """Take the next frame; raises Corrupt."""
        mails = self.mails
        if frame.kind is Kind.MESSAGE:
            mail = Mail(frame.id, number, frame.offset, len(frame.octets))
            mail.doubtful = power_lost
            mails[frame.id] = mail
            header = parse_header(frame.octets[:HEADER_SIZE])
            self.first[frame.id] = frame.octets[header.records :]
        elif frame.kind is Kind.LINES and frame.id in mails:
            mails[frame.id].lines += frame.octets
        elif frame.kind is Kind.MOVED:
            self.moves[frame.id] = moved_in(frame)
            mails.pop(frame.id, None)
        elif frame.kind is Kind.STOPPED:
            for mail in mails.values():
                mail.doubtful = False


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
        headers = dict(self._headers(result))
        self._disk.sync_directory(self._layout.journal)
        valid = {header.previous: header.valid for header in headers.values()}
        told = _Told()
        for number, header in headers.items():
            power_lost = _boot(header.owner) != _boot(owner)
            octets = self._octets(self._layout.segment(number))
            found = scan(octets, number, valid.get(number))
            for frame in found.frames:
                told.take(number, frame, power_lost=power_lost)
            self._set_aside(number, octets, found.damaged, result)
            result.segments.append(Segment(number, 0.0, 0.0, len(octets)))
        self._finish(list(told.moves.values()))
        self._remove_packed(told.moves, result)
        self._index(told, result)
        return result

    # Reading

    def _headers(self, result: Replayed) -> Iterator[tuple[int, SegmentHeader]]:
        """The segments in order, by their headers."""
        for name in self._disk.names(self._layout.journal):
            number = segment_number(name)
            path = f"{self._layout.journal}/{name}"
            if number is None:
                result.events.append(Trouble(path, "is no segment of ours", "move it"))
                continue
            header = header_in(scan(self._octets(path, _HEADER_OCTETS), number))
            if header is not None:
                yield number, header
            elif scan(self._octets(path), number).frames:
                what = "has no header, what else it holds is read"
                result.events.append(Trouble(path, what, "look at queue/corrupt"))
                yield number, SegmentHeader("", 0, 0)
            else:
                self._disk.remove(path)  # its header was never synced

    def _octets(self, path: str, limit: int | None = None) -> bytes:
        """A segment, synced: what was read must not go again."""
        file = self._disk.open(path)
        try:
            if limit is None:
                file.sync()
            return file.read_at(0, file.size() if limit is None else limit)
        finally:
            file.close()

    # What was committed

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

    def _remove_packed(self, moves: dict[str, Moved], result: Replayed) -> None:
        """Remove the segments that are packs by now."""
        packed = {int(name) for name in moves if not is_entry_id(name)}
        for segment in result.segments:
            if segment.number in packed:
                self._disk.remove(self._layout.segment(segment.number))
                self._disk.sync_directory(self._layout.journal)
        result.segments = [one for one in result.segments if one.number not in packed]

    def _set_aside(
        self, number: int, octets: bytes, damaged: list[Damage], result: Replayed
    ) -> None:
        """Copy what is damaged to corrupt, once."""
        for damage in damaged:
            target = f"{self._layout.corrupt}/{number}-{damage.offset}"
            if not self._disk.exists(target):
                self._copy(octets, damage, target)
            what = f"{damage.length} octets at {damage.offset} are damaged"
            path = self._layout.segment(number)
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

    def _index(self, told: _Told, result: Replayed) -> None:
        segments = {segment.number: segment for segment in result.segments}
        for mail in told.mails.values():
            segment = segments.get(mail.segment)
            if segment is None:
                continue  # it lies in a pack
            try:
                entry = parse_records(told.first[mail.id] + mail.lines).entry
            except Corrupt as error:
                result.events.append(Trouble(mail.id, str(error), "see queue/journal"))
                continue
            segment.mails[mail.id] = mail
            step = next_step(entry, self._policy)
            if step is not None:
                mail.due = step[1]
                continue
            result.open.append((mail, entry.due or 0.0))


def _boot(owner: str) -> str:
    """The boot that an owner's text names."""
    return owner.partition("\n")[2]
