"""A message in a file, format version 1: written and read; pure.

A file is a header line of fixed size, the body, the head (header section), and one
record a line. The header line says where body and head lie and their CRC-32; a record
line has the length and CRC-32 of its JSON. The last record that holds an entry is the
state of the message, all of them are its timeline. Nothing here is a noun of `mail`:
they are converted by hand, so that renaming a field there never changes a format.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import msgspec

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import (
    Action,
    Attempt,
    Category,
    DeliveryResult,
    Diagnosis,
    Notice,
    NoticeKind,
    Origin,
    QueueEntry,
    Scope,
    Stage,
    Standing,
    StandingState,
    Step,
)
from fwd_mta.mail.envelope import Body, Envelope, Notify, Recipient, Ret
from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.mail.reply import Reply

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
_RECORD = re.compile(rb"(\d{1,10}) ([0-9a-f]{8}) ")


class NewerFormat(StoreError):
    """A file that a newer version of this program wrote."""


# The header line


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


# What a record holds


class _Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    to: tuple[str, str]
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None


class _Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int
    detail: str | None
    text: str


class _Diagnosis(msgspec.Struct, frozen=True, omit_defaults=True):
    action: str
    category: str
    scope: str
    message: str
    code: int
    status: str
    rule: str


class _Result(msgspec.Struct, frozen=True, omit_defaults=True):
    recipient: _Recipient
    stage: str
    reply: _Reply | None = None
    diagnosis: _Diagnosis | None = None
    host: str | None = None
    tls: str | None = None
    in_doubt: bool = False
    relayed: bool = False


class _Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    started: float
    ended: float
    results: tuple[_Result, ...]
    trail: tuple[str, ...] = ()


class _Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    recipient: _Recipient
    next: float
    state: str = "open"
    attempts: int = 0
    last: _Result | None = None
    warned: bool = False
    in_doubt_since: float | None = None
    possible_duplicate: bool = False


class _Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    kind: str
    recipients: tuple[_Recipient, ...]


class _Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    sender: tuple[str, str] | None
    recipients: tuple[_Recipient, ...] | None = None  # None: those of the standings
    body: str | None = None
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    require_tls: bool = False
    hold_until: float | None = None


class _Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    client: str = ""
    hello: str = ""
    protocol: str = ""
    tls: str = ""


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    queued_at: float
    size: int
    envelope: _Envelope
    standings: tuple[_Standing, ...]
    account: str | None = None
    origin: _Origin = _Origin()
    message_id: str = ""
    held: str | None = None
    owed: tuple[_Notice, ...] = ()
    notices: int = 0
    cause: str | None = None
    finished_at: float | None = None
    redacted_at: float | None = None


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    at: float
    what: str
    note: str = ""
    attempt: _Attempt | None = None
    dot: tuple[_Recipient, ...] = ()
    entry: _Entry | None = None


class _Line(msgspec.Struct, frozen=True):
    """A record as it is read: an entry that is not the last is not decoded."""

    at: float
    what: str
    note: str = ""
    attempt: _Attempt | None = None
    dot: tuple[_Recipient, ...] = ()
    entry: msgspec.Raw = msgspec.Raw()


_encoder = msgspec.json.Encoder()
_lines = msgspec.json.Decoder(_Line)
_entries = msgspec.json.Decoder(_Entry)


# Writing


def record_line(entry: QueueEntry, step: Step) -> bytes:
    """One record: what happened, and the whole entry as it is from then on."""
    attempt = _attempt_out(step.attempt) if step.attempt else None
    return _line(_Record(step.at, step.what, step.note, attempt, (), _entry_out(entry)))


def dot_line(recipients: Iterable[Recipient], at: float) -> bytes:
    """A record that a final dot is about to go out; it holds no entry."""
    dot = tuple(_recipient_out(one) for one in recipients)
    return _line(_Record(at, DOT_SENT, dot=dot))


def _line(record: _Record) -> bytes:
    text = _encoder.encode(record)
    return b"%d %08x %s\n" % (len(text), crc32(text), text)


def _recipient_out(recipient: Recipient) -> _Recipient:
    mailbox, notify = recipient.mailbox, recipient.notify
    return _Recipient(
        (mailbox.local, mailbox.domain),
        None if notify is None else tuple(one.value for one in notify),
        recipient.orcpt,
    )


def _diagnosis_out(found: Diagnosis) -> _Diagnosis:
    return _Diagnosis(
        found.action.value,
        found.category.value,
        found.scope.value,
        found.message,
        found.code,
        found.status,
        found.rule,
    )


def _result_out(result: DeliveryResult) -> _Result:
    reply, found = result.reply, result.diagnosis
    return _Result(
        _recipient_out(result.recipient),
        result.stage.value,
        _Reply(reply.code, reply.detail, reply.text) if reply else None,
        _diagnosis_out(found) if found else None,
        result.host,
        result.tls,
        result.in_doubt,
        result.relayed,
    )


def _attempt_out(attempt: Attempt) -> _Attempt:
    results = tuple(_result_out(one) for one in attempt.results)
    return _Attempt(attempt.started, attempt.ended, results, attempt.trail)


def _standing_out(standing: Standing) -> _Standing:
    return _Standing(
        _recipient_out(standing.recipient),
        standing.next_attempt_at,
        standing.state.value,
        standing.attempts,
        _result_out(standing.last) if standing.last else None,
        standing.warned,
        standing.in_doubt_since,
        standing.possible_duplicate,
    )


def _envelope_out(entry: QueueEntry) -> _Envelope:
    envelope, path = entry.envelope, entry.envelope.reverse_path
    same = envelope.recipients == tuple(one.recipient for one in entry.standings)
    return _Envelope(
        (path.local, path.domain) if path else None,
        None if same else tuple(_recipient_out(one) for one in envelope.recipients),
        envelope.body and envelope.body.value,
        envelope.smtputf8,
        envelope.ret and envelope.ret.value,
        envelope.envid,
        envelope.require_tls,
        envelope.hold_until,
    )


def _notice_out(notice: Notice) -> _Notice:
    recipients = tuple(_recipient_out(one) for one in notice.recipients)
    return _Notice(notice.id, notice.kind.value, recipients)


def _entry_out(entry: QueueEntry) -> _Entry:
    origin = entry.origin
    return _Entry(
        entry.id,
        entry.queued_at,
        entry.size,
        _envelope_out(entry),
        tuple(_standing_out(one) for one in entry.standings),
        entry.account,
        _Origin(origin.client, origin.hello, origin.protocol, origin.tls),
        entry.message_id,
        entry.held,
        tuple(_notice_out(one) for one in entry.owed),
        entry.notices,
        entry.cause,
        entry.finished_at,
        entry.redacted_at,
    )


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
    _lines: tuple[_Line, ...] = field(default=(), repr=False)

    def steps(self) -> list[Step]:
        """The timeline; raises Corrupt."""
        try:
            return [_step_in(line) for line in self._lines]
        except ValueError as error:
            raise Corrupt(f"a record holds what no version wrote: {error}") from error


def parse_records(octets: bytes) -> Records:
    """Read all records; a last line without its end is torn, other damage Corrupt."""
    lines: list[_Line] = []
    at = 0
    while (end := octets.find(b"\n", at)) >= 0:
        lines.append(_line_in(octets[at:end], len(lines) + 1))
        at = end + 1
    state = next((one.entry for one in reversed(lines) if bytes(one.entry)), None)
    if state is None:
        raise Corrupt("there is no record")
    try:
        entry = _entry_in(_entries.decode(state))
        doubt = tuple(_recipient_in(one) for one in _in_doubt(lines))
        waiting = frozenset(one.recipient for one in entry.open) if doubt else ()
    except (msgspec.MsgspecError, ValueError) as error:
        raise Corrupt(f"the last record does not parse: {error}") from error
    doubt = tuple(one for one in doubt if one in waiting)
    return Records(entry, at, doubt, tuple(lines))


def _line_in(line: bytes, number: int) -> _Line:
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


def _in_doubt(lines: Sequence[_Line]) -> list[_Recipient]:
    """Recipients of a final dot that no later attempt speaks of."""
    waiting: dict[_Recipient, None] = {}
    for line in lines:
        waiting.update(dict.fromkeys(line.dot))
        if line.attempt and waiting:
            for result in line.attempt.results:
                waiting.pop(result.recipient, None)
        elif line.what == IN_DOUBT:
            waiting.clear()
    return list(waiting)


def _mailbox_in(pair: tuple[str, str]) -> Mailbox:
    return Mailbox(pair[0], pair[1])


def _recipient_in(recipient: _Recipient) -> Recipient:
    notify = recipient.notify
    return Recipient(
        _mailbox_in(recipient.to),
        None if notify is None else tuple(Notify(one) for one in notify),
        recipient.orcpt,
    )


def _diagnosis_in(found: _Diagnosis) -> Diagnosis:
    return Diagnosis(
        Action(found.action),
        Category(found.category),
        Scope(found.scope),
        found.message,
        found.code,
        found.status,
        found.rule,
    )


def _result_in(result: _Result) -> DeliveryResult:
    reply, found = result.reply, result.diagnosis
    return DeliveryResult(
        _recipient_in(result.recipient),
        Stage(result.stage),
        Reply(reply.code, reply.detail, reply.text) if reply else None,
        _diagnosis_in(found) if found else None,
        result.host,
        result.tls,
        result.in_doubt,
        result.relayed,
    )


def _attempt_in(attempt: _Attempt) -> Attempt:
    results = tuple(_result_in(one) for one in attempt.results)
    return Attempt(attempt.started, attempt.ended, results, attempt.trail)


def _step_in(line: _Line) -> Step:
    attempt = _attempt_in(line.attempt) if line.attempt else None
    note = line.note or ", ".join("@".join(one.to) for one in line.dot)
    return Step(line.at, line.what, note, attempt)


def _standing_in(standing: _Standing) -> Standing:
    return Standing(
        _recipient_in(standing.recipient),
        standing.next,
        StandingState(standing.state),
        standing.attempts,
        _result_in(standing.last) if standing.last else None,
        standing.warned,
        standing.in_doubt_since,
        standing.possible_duplicate,
    )


def _envelope_in(entry: _Entry, standings: tuple[Standing, ...]) -> Envelope:
    envelope = entry.envelope
    recipients = (
        tuple(one.recipient for one in standings)
        if envelope.recipients is None
        else tuple(_recipient_in(one) for one in envelope.recipients)
    )
    return Envelope(
        _mailbox_in(envelope.sender) if envelope.sender else None,
        recipients,
        Body(envelope.body) if envelope.body else None,
        envelope.smtputf8,
        Ret(envelope.ret) if envelope.ret else None,
        envelope.envid,
        envelope.require_tls,
        envelope.hold_until,
    )


def _notice_in(notice: _Notice) -> Notice:
    recipients = tuple(_recipient_in(one) for one in notice.recipients)
    return Notice(notice.id, NoticeKind(notice.kind), recipients)


def _entry_in(entry: _Entry) -> QueueEntry:
    standings = tuple(_standing_in(one) for one in entry.standings)
    origin = entry.origin
    return QueueEntry(
        id=entry.id,
        account=entry.account,
        envelope=_envelope_in(entry, standings),
        standings=standings,
        queued_at=entry.queued_at,
        size=entry.size,
        origin=Origin(origin.client, origin.hello, origin.protocol, origin.tls),
        message_id=entry.message_id,
        held=entry.held,
        owed=tuple(_notice_in(one) for one in entry.owed),
        notices=entry.notices,
        cause=entry.cause,
        finished_at=entry.finished_at,
        redacted_at=entry.redacted_at,
    )
