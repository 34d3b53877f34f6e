"""A segment of the journal, format version 1: frames written and read; pure.

A frame is a fixed part, an id and octets. `safe` is how much of its segment was known
to be on stable storage when it was written: damage below that is damage, at or above
it is only what a power cut took before it was promised (docs/crashes.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import TypeVar
from zlib import crc32

import msgspec

from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.mail.noun import noun

T = TypeVar("T")

VERSION = 1
MAGIC = b"\xf5fwj"
_FIXED = Struct(
    ">4sBBBxQQQI"
)  # magic, version, kind, id, segment, sequence, safe, size
_SUM = Struct(">I")
FRAME_SIZE = _FIXED.size + _SUM.size


class NewerSegment(StoreError):
    """A segment that a newer version of this program wrote."""


class Kind(IntEnum):
    """What a frame holds."""

    HEADER = 1
    MESSAGE = 2
    LINES = 3
    MOVED = 4
    STOPPED = 5


@noun
class Item:
    """What is to be written: the id it is about, and octets."""

    kind: Kind
    id: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it lies in its segment; `offset` is where its octets begin."""

    kind: Kind
    id: str
    offset: int
    octets: bytes
    safe: int


class SegmentHeader(msgspec.Struct, frozen=True):
    """Who wrote a segment; the one before it, and how much of that is valid."""

    owner: str
    previous: int
    valid: int


class Moved(msgspec.Struct, frozen=True):
    """A message, or all of a segment, is a file now; it goes from `source` there."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Damage:
    """Octets that are no frame, by offset and length, though they were synced once."""

    offset: int
    length: int


@dataclass(slots=True)
class Scanned:
    """What a segment holds: frames in order, and what is damaged."""

    frames: list[Frame] = field(default_factory=list)
    damaged: list[Damage] = field(default_factory=list)


def frame(item: Item, segment: int, sequence: int, safe: int) -> bytes:
    """Write one frame."""
    name = item.id.encode("ascii")
    fixed = _FIXED.pack(
        MAGIC, VERSION, item.kind, len(name), segment, sequence, safe, len(item.octets)
    )
    crc = crc32(item.octets, crc32(name, crc32(fixed)))
    return b"".join((fixed, _SUM.pack(crc), name, item.octets))


def octets_offset(item: Item) -> int:
    """Where an item's octets begin in its frame."""
    return FRAME_SIZE + len(item.id)


def scan(octets: bytes, segment: int, valid: int | None = None) -> Scanned:
    """Read a segment; `valid` is what the next one's header says, if there is one.

    Raises NewerSegment.
    """
    if valid is not None:
        octets = octets[:valid]
    found = Scanned()
    gaps: list[Damage] = []
    at = 0
    while at < len(octets):
        read = _frame_at(octets, at, segment)
        if read is not None:
            found.frames.append(read)
            at = read.offset + len(read.octets)
            continue
        after = octets.find(MAGIC, at + 1)
        end = len(octets) if after < 0 else after
        gaps = _with(gaps, at, end)
        at = end
    safe = max((one.safe for one in found.frames), default=0)
    safe = safe if valid is None else max(safe, valid)
    found.damaged = [one for one in gaps if one.offset < safe]
    return found


def _with(gaps: list[Damage], at: int, end: int) -> list[Damage]:
    """Gaps and one more; two that touch are one."""
    if gaps and gaps[-1].offset + gaps[-1].length == at:
        at = gaps[-1].offset
        gaps = gaps[:-1]
    return [*gaps, Damage(at, end - at)]


def _frame_at(octets: bytes, at: int, segment: int) -> Frame | None:
    """The frame at an offset, None if there is none that holds."""
    if len(octets) - at < FRAME_SIZE:
        return None
    magic, version, kind, named, number, _, safe, size = _FIXED.unpack_from(octets, at)
    begin = at + FRAME_SIZE + named
    if magic != MAGIC or number != segment or begin + size > len(octets):
        return None
    (crc,) = _SUM.unpack_from(octets, at + _FIXED.size)
    name, content = octets[at + FRAME_SIZE : begin], octets[begin : begin + size]
    if crc != crc32(content, crc32(name, crc32(octets[at : at + _FIXED.size]))):
        return None
    if version > VERSION:
        raise NewerSegment(
            f"segment {segment} has format {version}, this fwd_mta reads up to"
            f" {VERSION}: run the version that wrote it, or a newer one"
        )
    try:
        return Frame(Kind(kind), name.decode("ascii"), begin, content, safe)
    except ValueError:
        return None


_encode = msgspec.json.Encoder().encode
_headers = msgspec.json.Decoder(SegmentHeader)
_moves = msgspec.json.Decoder(Moved)


def header_item(owner: str, previous: int, valid: int) -> Item:
    """The first item of a segment."""
    return Item(Kind.HEADER, "", _encode(SegmentHeader(owner, previous, valid)))


def moved_item(name: str, source: str, target: str) -> Item:
    """A message, or a segment by its number, is the file named."""
    return Item(Kind.MOVED, name, _encode(Moved(source, target)))


def header_in(found: Scanned) -> SegmentHeader | None:
    """What the header of a segment says, None if it has none."""
    if not found.frames or found.frames[0].kind is not Kind.HEADER:
        return None
    return _decoded(_headers, found.frames[0].octets)


def moved_in(read: Frame) -> Moved:
    """Where something went; raises Corrupt."""
    return _decoded(_moves, read.octets)


def _decoded(decoder: msgspec.json.Decoder[T], octets: bytes) -> T:
    try:
        return decoder.decode(octets)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Corrupt(f"a frame of the journal does not parse: {error}") from error


# The index of a pack


class PackIndex(msgspec.Struct, frozen=True):
    """Where each message of a pack lies: id, offset, length."""

    messages: tuple[tuple[str, int, int], ...]


_indexes = msgspec.json.Decoder(PackIndex)
TRAILER_SIZE = 48


def pack_tail(messages: Sequence[tuple[str, int, int]]) -> bytes:
    """The end of a pack: its index, and a line of fixed size that says where it is."""
    index = _encode(PackIndex(tuple(messages)))
    line = f"fwd_mta pack {VERSION} {len(index)} {crc32(index):08x}"
    return index + line.encode().ljust(TRAILER_SIZE - 1) + b"\n"


def pack_index_size(trailer: bytes) -> tuple[int, int]:
    """Length and checksum of the index before a trailer; Corrupt or NewerSegment."""
    words = trailer.split()
    if len(words) != 5 or words[:2] != [b"fwd_mta", b"pack"]:
        raise Corrupt("the last line is not that of a pack")
    try:
        version, length, crc = int(words[2]), int(words[3]), int(words[4], 16)
    except ValueError as error:
        raise Corrupt("the last line is not that of a pack") from error
    if version > VERSION:
        raise NewerSegment(f"the pack has format {version}, a newer one than ours")
    return length, crc


def pack_index(octets: bytes, crc: int) -> tuple[tuple[str, int, int], ...]:
    """The index of a pack; raises Corrupt."""
    if crc32(octets) != crc:
        raise Corrupt("the checksum of the index is wrong")
    return _decoded(_indexes, octets).messages
