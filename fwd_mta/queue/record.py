"""A message in a file, format version 1: written and read; pure.

A file is a header line of fixed size, the body, the head (header section), and one
record a line. The header line says where body and head lie and their CRC-32; a record
line has the length and CRC-32 of its JSON. The last record that holds an entry is the
state of the message, all of them are its timeline. What is in the JSON: `shapes`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import msgspec

from fwd_mta.mail.entry import QueueEntry, Step
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.mail.noun import noun
from fwd_mta.queue.shapes import (
    StoredEntry,
    StoredLine,
    StoredRecipient,
    StoredRecord,
    attempt_out,
    entry_in,
    entry_out,
    recipient_in,
    recipient_out,
    step_in,
)

FORMAT = 1
HEADER_SIZE = 192
DOT_SENT = "dot-sent"
IN_DOUBT = "in-doubt"

_HEADER = re.compile(
    rb"fwd_mta message (?P<version>\d+) id=(?P<id>\S+)"
    rb" body=(?P<body>\d+)\+(?P<body_length>\d+) crc32=(?P<body_crc>[0-9a-f]{8})"
    rb" head=(?P<head>\d+)\+(?P<head_length>\d+) crc32=(?P<head_crc>[0-9a-f]{8})"
    rb" *(?P<sum>[0-9a-f]{8})\n\Z"
)
_VERSION = re.compile(rb"fwd_mta message (\d{1,9}) ")
_HOLE = b"\0"
_RECORD = re.compile(rb"(\d{1,10}) ([0-9a-f]{8}) ")


class NewerFormat(StoreError):
    """A file that a newer version of this program wrote."""


# The header line


@noun
class Section:
    """Where a part of the file lies, and its checksum."""

    offset: int
    length: int
    crc: int

    def check(self, octets: bytes, name: str) -> bytes:
        """Give the octets if they are what was written; raises Corrupt."""
        if len(octets) != self.length:
            raise Corrupt(f"the {name} has {len(octets)} octets of {self.length}")
        if crc32(octets) != self.crc:
            raise Corrupt(f"the checksum of the {name} is wrong")
        return octets


@noun
class Header:
    """What the header line says."""

    id: str
    body: Section
    head: Section

    @property
    def records(self) -> int:
        """Where the records begin."""
        return self.head.offset + self.head.length


def header_for(entry_id: str, body_length: int, body_crc: int, head: bytes) -> Header:
    """The header of a message whose body lies directly behind it, then the head."""
    body = Section(HEADER_SIZE, body_length, body_crc)
    return Header(
        entry_id, body, Section(HEADER_SIZE + body_length, len(head), crc32(head))
    )


def header_line(header: Header) -> bytes:
    """Write the line: readable, of fixed size, with a checksum of its own."""
    body, head = header.body, header.head
    text = (
        f"fwd_mta message {FORMAT} id={header.id}"
        f" body={body.offset}+{body.length} crc32={body.crc:08x}"
        f" head={head.offset}+{head.length} crc32={head.crc:08x} "
    ).encode()
    line = text.ljust(HEADER_SIZE - 9)
    return b"%s%08x\n" % (line, crc32(line))


def parse_header(line: bytes) -> Header:
    """Read the first HEADER_SIZE octets; raises Corrupt or NewerFormat."""
    version = _VERSION.match(line)
    if version and int(version[1]) > FORMAT:
        raise NewerFormat(
            f"the file has format {int(version[1])}, this fwd_mta reads up to"
            f" {FORMAT}: run the version that wrote it, or a newer one"
        )
    match = _HEADER.match(line)
    if match is None:
        raise Corrupt("the header line is not one of fwd_mta")
    if int(match["sum"], 16) != crc32(line[: HEADER_SIZE - 9]):
        raise Corrupt("the checksum of the header line is wrong")
    part = match.groupdict()
    return Header(
        part["id"].decode("ascii", "replace"),
        Section(int(part["body"]), int(part["body_length"]), int(part["body_crc"], 16)),
        Section(int(part["head"]), int(part["head_length"]), int(part["head_crc"], 16)),
    )


# Record lines

_encoder = msgspec.json.Encoder()
_lines = msgspec.json.Decoder(StoredLine)
_entries = msgspec.json.Decoder(StoredEntry)


# Writing


def record_line(entry: QueueEntry, step: Step) -> bytes:
    """One record: what happened, and the whole entry as it is from then on."""
    attempt = attempt_out(step.attempt) if step.attempt else None
    return _line(
        StoredRecord(step.at, step.what, step.note, attempt, (), entry_out(entry))
    )


def dot_line(recipients: Iterable[Recipient], at: float) -> bytes:
    """A record that a final dot is about to go out; it holds no entry."""
    dot = tuple(recipient_out(one) for one in recipients)
    return _line(StoredRecord(at, DOT_SENT, dot=dot))


def _line(record: StoredRecord) -> bytes:
    text = _encoder.encode(record)
    return b"%d %08x %s\n" % (len(text), crc32(text), text)


def message_octets(entry: QueueEntry, step: Step, head: bytes, body: bytes) -> bytes:
    """A whole new file: header line, body, head, first record."""
    header = header_for(entry.id, len(body), crc32(body), head)
    return b"".join((header_line(header), body, head, record_line(entry, step)))


# Reading


@dataclass(frozen=True, slots=True)
class Records:
    """What the records of one file say.

    `doubt` are recipients whose final dot went out without a later word of them;
    `length` is how many octets of the records are valid, the rest is a torn tail.
    """

    entry: QueueEntry
    length: int
    doubt: tuple[Recipient, ...] = ()
    _lines: tuple[StoredLine, ...] = field(default=(), repr=False)

    def steps(self) -> list[Step]:
        """The timeline; raises Corrupt."""
        try:
            return [step_in(line) for line in self._lines]
        except ValueError as error:
            raise Corrupt(f"a record holds what no version wrote: {error}") from error


def parse_records(octets: bytes) -> Records:
    """Read all records; a last line without its end is torn, other damage Corrupt.

    Behind NULs in a line a record may begin: a power cut lost the end of an earlier
    write and kept this one, so neither had been synced.
    """
    lines: list[StoredLine] = []
    at = 0
    while (end := octets.find(b"\n", at)) >= 0:
        line = octets[at:end].rpartition(_HOLE)[2]
        lines.append(_line_in(line, len(lines) + 1))
        at = end + 1
    state = next((one.entry for one in reversed(lines) if bytes(one.entry)), None)
    if state is None:
        raise Corrupt("there is no record")
    try:
        entry = entry_in(_entries.decode(state))
        doubt = tuple(recipient_in(one) for one in _in_doubt(lines))
        waiting = frozenset(one.recipient for one in entry.open) if doubt else ()
    except (msgspec.MsgspecError, ValueError) as error:
        raise Corrupt(f"the last record does not parse: {error}") from error
    doubt = tuple(one for one in doubt if one in waiting)
    return Records(entry, at, doubt, tuple(lines))


def _line_in(line: bytes, number: int) -> StoredLine:
    match = _RECORD.match(line)
    text = line[match.end() :] if match else b""
    if match is None or len(text) != int(match[1]):
        raise Corrupt(f"record {number} is not one of fwd_mta")
    if crc32(text) != int(match[2], 16):
        raise Corrupt(f"the checksum of record {number} is wrong")
    try:
        return _lines.decode(text)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Corrupt(f"record {number} does not parse: {error}") from error


def _in_doubt(lines: Sequence[StoredLine]) -> list[StoredRecipient]:
    """Recipients of a final dot that no later attempt speaks of."""
    waiting: dict[StoredRecipient, None] = {}
    for line in lines:
        waiting.update(dict.fromkeys(line.dot))
        if line.what == IN_DOUBT:
            waiting.clear()
        for result in line.attempt.results if line.attempt else ():
            waiting.pop(result.recipient, None)
    return list(waiting)
