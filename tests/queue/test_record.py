"""Tests for a message in a file: what is written is read, and damage is seen."""

from dataclasses import replace
from typing import Any
from zlib import crc32

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

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
from fwd_mta.mail.errors import Corrupt
from fwd_mta.mail.reply import Reply
from fwd_mta.queue.record import (
    FORMAT,
    HEADER_SIZE,
    NewerFormat,
    dot_line,
    header_for,
    header_line,
    message_octets,
    parse_header,
    parse_records,
    record_line,
)
from tests.builders import (
    DEFERRED,
    DELIVERED,
    ID,
    T0,
    about,
    attempt,
    entry,
    recipient,
)
from tests.properties import HealthCheck, given, settings, st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIMES = st.floats(0, 4e9, allow_nan=False)
MAYBE_TIME = st.none() | TIMES


def some(kind: Any) -> Any:
    """A value of an enumeration."""
    return st.sampled_from(list(kind))


MAILBOXES = st.builds(Mailbox, TEXT, TEXT)
RECIPIENTS = st.builds(
    Recipient,
    MAILBOXES,
    st.none() | st.lists(some(Notify), max_size=3).map(tuple),
    st.none() | TEXT,
)
REPLIES = st.builds(Reply, st.integers(200, 599), st.none() | TEXT, TEXT)
DIAGNOSES = st.builds(
    Diagnosis,
    some(Action),
    some(Category),
    some(Scope),
    TEXT,
    st.integers(0, 599),
    TEXT,
    TEXT,
)
RESULTS = st.builds(
    DeliveryResult,
    RECIPIENTS,
    some(Stage),
    st.none() | REPLIES,
    st.none() | DIAGNOSES,
    st.none() | TEXT,
    st.none() | TEXT,
    st.booleans(),
    st.booleans(),
)
ATTEMPTS = st.builds(
    Attempt,
    TIMES,
    TIMES,
    st.lists(RESULTS, max_size=2).map(tuple),
    st.lists(TEXT, max_size=2).map(tuple),
)
STANDINGS = st.builds(
    Standing,
    RECIPIENTS,
    TIMES,
    some(StandingState),
    st.integers(0, 200),
    st.none() | RESULTS,
    st.booleans(),
    MAYBE_TIME,
    st.booleans(),
)
ENVELOPES = st.builds(
    Envelope,
    st.none() | MAILBOXES,
    st.lists(RECIPIENTS, max_size=2).map(tuple),
    st.none() | some(Body),
    st.booleans(),
    st.none() | some(Ret),
    st.none() | TEXT,
    st.booleans(),
    MAYBE_TIME,
)
NOTICES = st.builds(
    Notice, TEXT, some(NoticeKind), st.lists(RECIPIENTS, max_size=2).map(tuple)
)
ENTRIES = st.builds(
    QueueEntry,
    id=TEXT,
    account=st.none() | TEXT,
    envelope=ENVELOPES,
    standings=st.lists(STANDINGS, max_size=2).map(tuple),
    queued_at=TIMES,
    size=st.integers(0, 1 << 40),
    origin=st.builds(Origin, TEXT, TEXT, TEXT, TEXT),
    message_id=TEXT,
    held=st.none() | TEXT,
    owed=st.lists(NOTICES, max_size=2).map(tuple),
    notices=st.integers(0, 9),
    cause=st.none() | TEXT,
    finished_at=MAYBE_TIME,
    redacted_at=MAYBE_TIME,
)
STEPS = st.builds(Step, TIMES, TEXT, TEXT, st.none() | ATTEMPTS)


class RoundTripTests(SynchronousTestCase):
    """Nouns to octets and back."""

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(ENTRIES, STEPS)
    def test_any_entry(self, one: QueueEntry, step: Step) -> None:
        """Whatever an entry and a step hold comes back as it was."""
        records = parse_records(record_line(one, step))
        self.assertEqual(records.entry, one)
        self.assertEqual(records.steps(), [step])

    def test_the_last_entry_is_the_state(self) -> None:
        """Several records are the timeline, the last that holds an entry the state."""
        first, last = entry(), replace(entry(), held="odd")
        octets = (
            record_line(first, Step(T0, "accepted", "here"))
            + record_line(last, Step(T0 + 1, "held", "by root"))
            + dot_line([recipient()], T0 + 2)
        )
        records = parse_records(octets)
        self.assertEqual(records.entry, last)
        self.assertEqual(records.length, len(octets))
        self.assertEqual(
            records.steps(),
            [
                Step(T0, "accepted", "here"),
                Step(T0 + 1, "held", "by root"),
                Step(T0 + 2, "dot-sent", "bob@example.net"),
            ],
        )

    def test_recipients_are_written_once(self) -> None:
        """The envelope's recipients are those of the standings, and not repeated."""
        line = record_line(entry("someone@example.net"), Step(T0, "accepted"))
        self.assertEqual(line.count(b"someone"), 1)

    def test_a_record_can_be_read_by_people(self) -> None:
        """One line of plain JSON, with its length and checksum before it."""
        line = record_line(entry(), Step(T0, "accepted", "from here"))
        length, crc, text = line.split(b" ", 2)
        self.assertEqual(int(length), len(text) - 1)
        self.assertRegex(crc, rb"\A[0-9a-f]{8}\Z")
        self.assertIn(b'"what":"accepted","note":"from here"', text)
        self.assertIn(b'"to":["bob","example.net"]', text)
        self.assertEqual(line.count(b"\n"), 1)


class DoubtTests(SynchronousTestCase):
    """Who is in doubt, from the order of the records."""

    TWO = ("a@example.net", "b@example.net")

    def doubt(self, *lines: bytes) -> list[str]:
        """The recipients in doubt after these records."""
        first = record_line(entry(*self.TWO), Step(T0, "accepted"))
        records = parse_records(first + b"".join(lines))
        return [str(one.mailbox) for one in records.doubt]

    def dot(self, *names: str) -> bytes:
        """A mark."""
        return dot_line([recipient(name) for name in names], T0)

    def tried(self, *names: str, what: str = "attempt") -> bytes:
        """A record of an attempt."""
        results = [about(name, DEFERRED) for name in names]
        return record_line(entry(*self.TWO), Step(T0, what, "", attempt(*results)))

    def test_a_dot_alone(self) -> None:
        """A mark without a later word is a doubt."""
        self.assertEqual(self.doubt(self.dot(*self.TWO)), list(self.TWO))
        self.assertEqual(self.doubt(), [])

    def test_an_answered_dot(self) -> None:
        """An attempt that speaks of the recipient ends the doubt."""
        self.assertEqual(self.doubt(self.dot(*self.TWO), self.tried(*self.TWO)), [])

    def test_deliveries_side_by_side(self) -> None:
        """One delivery's answer is not the other's."""
        a, b = self.TWO
        lines = (self.dot(a), self.dot(b), self.tried(b))
        self.assertEqual(self.doubt(*lines), [a])

    def test_a_second_dot(self) -> None:
        """A later attempt can be in doubt again."""
        a, _ = self.TWO
        self.assertEqual(self.doubt(self.dot(a), self.tried(a), self.dot(a)), [a])

    def test_a_doubt_that_was_written_down(self) -> None:
        """What is recorded as in doubt is so only once."""
        a, _ = self.TWO
        self.assertEqual(self.doubt(self.dot(a), self.tried(what="in-doubt")), [])

    def test_who_waits_no_more_is_not_in_doubt(self) -> None:
        """A recipient that is final, however it became so, is not tried again."""
        a, _ = self.TWO
        one = entry(*self.TWO)
        done = replace(one.standings[0], state=StandingState.CANCELLED, last=DELIVERED)
        over = replace(one, standings=(done, one.standings[1]))
        self.assertEqual(
            self.doubt(self.dot(a), record_line(over, Step(T0, "cancelled"))), []
        )


class DamageTests(SynchronousTestCase):
    """Torn tails are ignored, all other damage is seen."""

    @override
    def setUp(self) -> None:
        self.first = record_line(entry(), Step(T0, "accepted"))
        self.second = record_line(replace(entry(), held="odd"), Step(T0, "held"))

    def test_a_torn_tail(self) -> None:
        """A last line without its end was never promised."""
        for length in range(len(self.second)):
            records = parse_records(self.first + self.second[:length])
            self.assertEqual(records.entry, entry())
            self.assertEqual(records.length, len(self.first))
        zeros = parse_records(self.first + bytes(500))
        self.assertEqual(zeros.length, len(self.first))

    def test_a_hole(self) -> None:
        """A power cut that keeps a later write and not an earlier one harms nothing."""
        dot = dot_line([recipient()], T0)
        for kept in (0, 1, 20, len(dot) - 1):
            hole = dot[:kept] + bytes(len(dot) - kept)
            records = parse_records(self.first + hole + self.second)
            self.assertEqual(records.entry, parse_records(self.second).entry)
            self.assertEqual(records.doubt, ())
            self.assertEqual(parse_records(self.first + hole).entry, entry())

    def test_zeros_in_a_record(self) -> None:
        """A sector that reads as zeros is damage, not a hole."""
        for at in range(0, len(self.second) - 1, 7):
            bad = bytearray(self.second)
            bad[at] = 0
            self.assertRaises(Corrupt, parse_records, self.first + bad)

    def test_any_flipped_octet(self) -> None:
        """Every change of an octet in a complete record is found."""
        octets = self.first + self.second
        for at in range(0, len(octets) - 1, 3):
            bad = bytearray(octets)
            bad[at] ^= 0x01
            self.assertRaises(Corrupt, parse_records, bytes(bad))

    def test_no_record(self) -> None:
        """A file without a complete record is no message."""
        for octets in (b"", self.first[:-1], dot_line([recipient()], T0)):
            self.assertRaises(Corrupt, parse_records, octets)

    def test_words_of_no_version(self) -> None:
        """A sound record that says what no version says is damage, not a crash."""
        line = self.first.replace(b'"queued_at":', b'"queued_by":')
        text = line.split(b" ", 2)[2][:-1]
        again = _sealed(text)
        error = self.assertRaises(Corrupt, parse_records, again)
        self.assertIn("does not parse", str(error))
        bad = self.first.split(b" ", 2)[2][:-1].replace(
            b'"next":', b'"state":"lost","next":'
        )
        self.assertRaises(Corrupt, parse_records, _sealed(bad))

    def test_fields_of_a_later_version(self) -> None:
        """A field we do not know is left out, not refused."""
        text = self.first.split(b" ", 2)[2][:-1]
        later = text.replace(b'"what":', b'"mood":"good","what":')
        self.assertEqual(parse_records(_sealed(later)).entry, entry())


def _sealed(text: bytes) -> bytes:
    return b"%d %08x %s\n" % (len(text), crc32(text), text)


class HeaderTests(SynchronousTestCase):
    """The header line."""

    def test_round_trip(self) -> None:
        """What the line says is read back, from a fixed number of octets."""
        header = header_for(ID, 12_345_678_901, 0xDEADBEEF, b"From: a@b\r\n")
        line = header_line(header)
        self.assertEqual(len(line), HEADER_SIZE)
        self.assertEqual(parse_header(line), header)
        self.assertEqual(header.records, HEADER_SIZE + 12_345_678_901 + 11)

    def test_it_can_be_read_by_people(self) -> None:
        """`head -1` of a message says what it is."""
        line = header_line(header_for(f"{ID}-1", 5, 0, b""))
        self.assertTrue(
            line.startswith(f"fwd_mta message 1 id={ID}-1 body=192+5 crc32=".encode())
        )
        self.assertTrue(line.endswith(b"\n"))

    def test_a_newer_format_is_refused_with_words(self) -> None:
        """An older program does not touch what a newer one wrote."""
        line = b"fwd_mta message %d whatever comes\n" % (FORMAT + 1)
        error = self.assertRaises(NewerFormat, parse_header, line)
        self.assertIn("run the version that wrote it", str(error))

    def test_what_is_no_header(self) -> None:
        """Foreign and damaged lines are Corrupt."""
        good = header_line(header_for(ID, 5, 0, b""))
        flipped = good.replace(b"192+5", b"192+6")
        for bad in (b"", b"From: x\r\n", good[:-1], bytes(HEADER_SIZE), flipped):
            self.assertRaises(Corrupt, parse_header, bad)

    def test_a_whole_file(self) -> None:
        """Header line, body, head, records: each where the header says."""
        octets = message_octets(entry(), Step(T0, "accepted"), b"A: b\r\n", b"body\r\n")
        header = parse_header(octets[:HEADER_SIZE])
        body, head = header.body, header.head
        self.assertEqual(octets[body.offset : body.offset + body.length], b"body\r\n")
        self.assertEqual(
            head.check(octets[head.offset :][: head.length], "x"), b"A: b\r\n"
        )
        self.assertRaises(Corrupt, head.check, b"A: c\r\n", "head")
        self.assertRaises(Corrupt, head.check, b"A: b\r", "head")
        self.assertEqual(parse_records(octets[header.records :]).entry, entry())
