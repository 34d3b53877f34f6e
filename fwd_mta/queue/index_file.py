"""The index in SQLite: who, to whom, when, in which state, and where it lies.

Everything here runs on the index's own thread. What is written is what a redacted
record keeps, and most of it as a hash: a row is a hint, the truth is at the message's
file. `secure_delete` overwrites what goes (P8).
"""

import sqlite3
from bisect import bisect_right
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from heapq import merge
from operator import itemgetter
from struct import pack, unpack
from typing import Any
from zlib import adler32, crc32

from fwd_mta.interfaces import Shape, Tally
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Status
from fwd_mta.rules.identity import id_bound

VERSION = 3
SCANNED = 4000  # rows that one page of an answer looks at
_RARE = 2000  # rows that are counted to find the rarest word
_STATUSES = tuple(Status)
_NUMBERS = {status: number for number, status in enumerate(_STATUSES)}
_SENT = _NUMBERS[Status.SENT]  # most of all: an index of them would cost and not help
_WAITING = (Status.QUEUED, Status.DEFERRED)
_SCHEMA = """
PRAGMA secure_delete = ON;
CREATE TABLE message (
    id TEXT PRIMARY KEY, status INTEGER, held INTEGER, queued_at REAL,
    words BLOB, place TEXT, at INTEGER, length INTEGER
) WITHOUT ROWID;
CREATE INDEX by_status ON message (status, id) WHERE status <> {sent};
CREATE INDEX notice ON message (status, id) WHERE instr(id, '-') > 0;
CREATE TABLE word (
    hash INTEGER, id TEXT, PRIMARY KEY (hash, id)
) WITHOUT ROWID;
CREATE TABLE waiting (
    id TEXT, site TEXT, domain TEXT, queued_at REAL, recipients INTEGER,
    PRIMARY KEY (id, site, domain)
) WITHOUT ROWID;
CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_TABLES = ("message", "word", "waiting", "mark", "seen")
MINUTES = (5, 10, 20, 40, 80, 160, 320, 640, 1280)  # the columns of qshape


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message was last: a directory, or a part of a pack."""

    path: str
    at: int = 0
    length: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """A page of an answer: ids in order, each with its place; `next` goes on."""

    rows: list[tuple[str, Place]] = field(default_factory=list)
    next: str | None = None


_KINDS = {
    name: crc32(name.encode())
    for name in (
        "account",
        "category",
        "domain",
        "held",
        "host",
        "message_id",
        "recipient",
        "sender",
    )
}


def _hash(kind: str, value: str) -> int:
    """Two checksums of a value in one number: quick, and only ever a hint."""
    octets = value.encode("utf-8", "replace")
    return crc32(octets, _KINDS[kind]) << 31 ^ adler32(octets)


def _words(entry: QueueEntry) -> set[int]:
    """The hashes by which an entry is found."""
    path = entry.envelope.reverse_path
    words = {_hash("sender", str(path) if path else "")}
    if entry.account is not None:
        words.add(_hash("account", entry.account))
    if entry.message_id:
        words.add(_hash("message_id", entry.message_id))
    if entry.held is not None:
        words.add(_hash("held", ""))
    for standing in entry.standings:
        mailbox, last = standing.recipient.mailbox, standing.last
        words.add(_hash("recipient", str(mailbox).lower()))
        words.add(_hash("domain", mailbox.key[1]))
        if last is None:
            continue
        if last.diagnosis is not None:
            words.add(_hash("category", last.diagnosis.category))
        if last.host and standing.is_open:
            words.add(_hash("host", _host(last.host)))
    return words


def _host(name: str) -> str:
    return name.partition("[")[0].lower()


_NONE: frozenset[int] = frozenset()
SiteRow = tuple[str, str, str, float, int]


def site_rows(entry: QueueEntry) -> list[SiteRow]:
    """Its open recipients by the host that was tried last, and by domain."""
    if entry.is_final:
        return []
    counts: Counter[tuple[str, str]] = Counter()
    for standing in entry.open:
        domain = standing.recipient.mailbox.key[1]
        host = _host(standing.last.host or "") if standing.last else ""
        counts[host or domain, domain] += 1
    return [
        (entry.id, site, domain, entry.queued_at, count)
        for (site, domain), count in counts.items()
    ]


class IndexFile:
    """The tables of one index, over an open connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._db.isolation_level = None
        # nobody else has it open; shared memory would be a mapped file, and a mapped
        # file on a full disk kills the process (SIGBUS)
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.execute("PRAGMA synchronous = NORMAL").fetchall()
        self._db.execute("PRAGMA secure_delete = ON").fetchall()
        self._db.execute("PRAGMA cache_size = -16384")
        self._db.execute("PRAGMA wal_autocheckpoint = 8000")

    def begin(self) -> bool:
        """Take it into use; whether it was whole, and may be believed at once."""
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            self.empty()
        whole = self._mark("whole") == 1
        self._set("whole", 0)
        return whole

    def end(self, *, whole: bool) -> None:
        """Close it; `whole`: nothing is missing, the next start may believe it."""
        self._set("whole", int(whole))
        self.checkpoint()
        self._db.close()

    def empty(self) -> None:
        """Have it without any row, and of our version."""
        for table in _TABLES:
            self._db.execute(f"DROP TABLE IF EXISTS {table}")
        self._db.executescript(_SCHEMA.format(sent=_SENT))
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def checkpoint(self) -> None:
        """Leave nothing of what went in the write-ahead log."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _mark(self, name: str) -> int:
        found = self._db.execute("SELECT value FROM mark WHERE name = ?", (name,))
        row = found.fetchone()
        return row[0] if row else 0

    def _set(self, name: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, value))

    # Writing

    def write(
        self,
        entries: Sequence[tuple[QueueEntry, Place | None, bool]],
        gone: Iterable[str],
        placed: Iterable[tuple[str, Place]],
        *,
        seen: bool = False,
    ) -> None:
        """Write some entries, each with its place and whether it is new; in one go."""
        self._db.execute("BEGIN")
        try:
            self._put(entries)
            for entry_id in gone:
                self._remove(entry_id)
            self._db.executemany(
                "UPDATE message SET place = ?, at = ?, length = ? WHERE id = ?",
                ((p.path, p.at, p.length, name) for name, p in placed),
            )
            if seen:
                self.note_seen(entry.id for entry, _, _ in entries)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _put(self, entries: Sequence[tuple[QueueEntry, Place | None, bool]]) -> None:
        rows, words, waiting = [], [], []
        for entry, place, new in entries:
            known, old = (None, _NONE) if new else self._words_of(entry.id)
            fresh = _words(entry)
            rows.append(_row(entry, fresh, place or known or Place("")))
            words += [(one, entry.id) for one in fresh - old]
            if old - fresh:
                self._forget_words(entry.id, old - fresh)
            if not new:
                self._db.execute("DELETE FROM waiting WHERE id = ?", (entry.id,))
            waiting += site_rows(entry)
        self._db.executemany(
            "INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
        self._db.executemany("INSERT OR IGNORE INTO word VALUES (?, ?)", words)
        self._db.executemany(
            "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?)", waiting
        )

    def _words_of(self, entry_id: str) -> tuple[Place | None, frozenset[int]]:
        asked = "SELECT words, place, at, length FROM message WHERE id = ?"
        row = self._db.execute(asked, (entry_id,)).fetchone()
        if row is None:
            return None, frozenset()
        octets, path, at, length = row
        return Place(path, at, length), frozenset(_unpacked(octets))

    def _forget_words(self, entry_id: str, words: Iterable[int]) -> None:
        self._db.executemany(
            "DELETE FROM word WHERE hash = ? AND id = ?",
            ((one, entry_id) for one in words),
        )

    def _remove(self, entry_id: str) -> None:
        self._forget_words(entry_id, self._words_of(entry_id)[1])
        self._db.execute("DELETE FROM message WHERE id = ?", (entry_id,))
        self._db.execute("DELETE FROM waiting WHERE id = ?", (entry_id,))

    # Reconciling

    def unsettled(self, ids: Sequence[str]) -> list[str]:
        """Note that these are there; gives those of which the state may be old."""
        self._db.execute("BEGIN")
        self.note_seen(ids)
        self._db.execute("COMMIT")
        over = {_NUMBERS[one] for one in _STATUSES if one not in _WAITING}
        asked = "SELECT status, held, place FROM message WHERE id = ?"
        left = []
        for one in ids:
            row = self._db.execute(asked, (one,)).fetchone()
            if row is None or row[0] not in over or row[1] or not row[2]:
                left.append(one)
        return left

    def note_seen(self, ids: Iterable[str]) -> None:
        """Note that these are there."""
        self._db.executemany(
            "INSERT OR IGNORE INTO seen VALUES (?)", ((one,) for one in ids)
        )

    def unseen(self) -> list[str]:
        """Some ids that no file was found for."""
        asked = (
            "SELECT id FROM message WHERE id NOT IN (SELECT id FROM seen) LIMIT 1000"
        )
        return [one for (one,) in self._db.execute(asked)]

    def forget_seen(self) -> None:
        """The end of a reconciliation."""
        self._db.execute("DELETE FROM seen")

    # Asking

    def find(self, wanted: EntryFilter, limit: int) -> Found:
        """The first ids beyond `wanted.after` that may be wanted, with their places.

        It looks at a bounded number of rows; `next` says where to go on.
        """
        rows: list[tuple[str, Place]] = []
        scanned, last = 0, ""
        with closing(self._rows(wanted)) as found:
            for entry_id, takes, place, at, length in found:
                scanned, last = scanned + 1, entry_id
                if takes:
                    rows.append((entry_id, Place(place, at, length)))
                if len(rows) >= limit or scanned >= SCANNED:
                    return Found(rows, last)
        return Found(rows)

    def tally(self, wanted: EntryFilter) -> Tally:
        """Count, by state, of the next rows that are wanted."""
        counts: Counter[Status] = Counter()
        held, scanned, last = 0, 0, ""
        with closing(self._rows(wanted, "status", "m.held")) as found:
            for entry_id, takes, status, is_held in found:
                scanned, last = scanned + 1, entry_id
                if takes:
                    counts[_STATUSES[status]] += 1
                    held += is_held
                if scanned >= SCANNED:
                    return Tally(counts, held, last)
        return Tally(counts, held)

    def _rows(
        self, wanted: EntryFilter, *columns: str
    ) -> Generator[tuple[Any, ...], None, None]:
        """Rows in order of id, by way of the rarest thing that is asked for."""
        names = columns or ("place", "at", "length")
        words = _asked_words(wanted)
        statuses = _asked_statuses(wanted)
        driver, rest = self._driver(words, statuses)
        tests, values = _tests(wanted, rest, None if driver is None else statuses)
        bounds, limits = _bounds(wanted)
        chosen = ", ".join(f"m.{name.removeprefix('m.')}" for name in names)
        takes = " AND ".join(tests) or "1"
        if driver is not None:
            text = (
                f"SELECT m.id, {takes}, {chosen} FROM word w"  # noqa: S608 - our names
                " CROSS JOIN message m ON m.id = w.id"
                f" WHERE w.hash = ?{bounds.replace('.id', 'w.id')} ORDER BY w.id"
            )
            yield from self._db.execute(text, (*values, driver, *limits))
            return
        some = [
            self._db.execute(
                f"SELECT m.id, {takes}, {chosen} FROM message m{which}"  # noqa: S608
                f" WHERE m.status = {number}{bounds.replace('.id', 'm.id')}{more}"
                " ORDER BY m.id",
                (*values, beyond, *limits[1:]),
            )
            for number in statuses or range(len(_STATUSES))
            for which, more, beyond in _newer(wanted)
        ]
        last = ""
        for row in merge(*some, key=itemgetter(0)):
            if row[0] != last:  # a notice that came since is found twice
                yield row
            last = row[0]

    def _driver(
        self, words: Sequence[int], statuses: Sequence[int] | None
    ) -> tuple[int | None, list[int]]:
        """The rarest word, if it is rarer than the states; and the other words."""
        if not words:
            return None, []
        counted = sorted(
            (self._count("word", "hash", one), place) for place, one in enumerate(words)
        )
        least, place = counted[0]
        if statuses is not None:
            among = sum(
                _RARE if one == _SENT else self._count("message", "status", one)
                for one in statuses
            )
            if among < least:
                return None, list(words)
        return words[place], [one for one in words if one != words[place]]

    def _count(self, table: str, column: str, value: int) -> int:
        """How many there are, as far as it matters."""
        asked = (
            f"SELECT count(*) FROM (SELECT 1 FROM {table}"  # noqa: S608 - our names
            f" WHERE {column} = {value} LIMIT {_RARE})"
        )
        (number,) = self._db.execute(asked).fetchone()
        return int(number)

    def shape(self, by: str, now: float, after: str) -> Shape:
        """Count the recipients that wait, by site or domain and by age."""
        asked = (
            "SELECT id, site, domain, queued_at, recipients FROM waiting"
            " WHERE id > ? ORDER BY id LIMIT ?"
        )
        rows: list[SiteRow] = list(self._db.execute(asked, (after, SCANNED)))
        if len(rows) < SCANNED:
            return Shape(shape_of(rows, by, now))
        # The last message may have more rows: it is for the next part.
        last = rows[-1][0]
        whole = [row for row in rows if row[0] != last]
        return Shape(shape_of(whole, by, now), whole[-1][0] if whole else last)

    def older_than(self, at: float) -> int:
        """How many are known that were accepted before a time, and are not kept."""
        asked = "SELECT count(*) FROM message WHERE id < ? AND held = 0 AND status > 1"
        (number,) = self._db.execute(asked, (id_bound(at),)).fetchone()
        return int(number)


def _row(entry: QueueEntry, words: Iterable[int], place: Place) -> tuple[object, ...]:
    some = tuple(words)
    return (
        entry.id,
        _NUMBERS[entry.status],
        int(entry.held is not None),
        entry.queued_at,
        pack(f">{len(some)}q", *some),
        place.path,
        place.at,
        place.length,
    )


def _unpacked(octets: bytes) -> tuple[int, ...]:
    return unpack(f">{len(octets) // 8}q", octets)


def shape_of(rows: Iterable[SiteRow], by: str, now: float) -> dict[str, list[int]]:
    """Count recipients by name and age."""
    found: dict[str, list[int]] = {}
    for _, site, domain, queued_at, recipients in rows:
        name = domain if by == "domain" else site
        row = found.setdefault(name, [0] * (len(MINUTES) + 1))
        row[bisect_right(MINUTES, (now - queued_at) / 60)] += recipients
    return found


_NOTICES = " INDEXED BY notice"
_ASKED = ("message_id", "recipient", "sender", "domain", "account", "host", "category")


def _asked_words(wanted: EntryFilter) -> list[int]:
    """The hashes of what is asked for."""
    asked = [(name, getattr(wanted, name)) for name in _ASKED]
    words = [
        _hash(name, value.lower() if name == "recipient" else value)
        for name, value in asked
        if value is not None
    ]
    return words + ([_hash("held", "")] if wanted.held else [])


def _asked_statuses(wanted: EntryFilter) -> list[int] | None:
    """The numbers of the states that are asked for; None: all."""
    if wanted.states:
        return [_NUMBERS[one] for one in wanted.states]
    return None if wanted.finished else [_NUMBERS[one] for one in _WAITING]


def _tests(
    wanted: EntryFilter, words: Iterable[int], statuses: Sequence[int] | None
) -> tuple[list[str], list[object]]:
    """What is tested of each row, and the values for it."""
    tests: list[str] = []
    values: list[object] = []
    for one in words:
        tests.append("EXISTS (SELECT 1 FROM word WHERE hash = ? AND id = m.id)")
        values.append(one)
    if statuses is not None:
        tests.append(f"m.status IN ({', '.join(map(str, statuses))})")
    for name, test in (("queued_before", "<"), ("queued_after", ">=")):
        if getattr(wanted, name) is not None:
            tests.append(f"m.queued_at {test} ?")
            values.append(getattr(wanted, name))
    return tests, values


def _newer(wanted: EntryFilter) -> list[tuple[str, str, str]]:
    """Which rows, and which ids they lie beyond: what came since a time.

    Its ids begin later, but those of notices, which begin with their cause's.
    """
    if wanted.queued_after is None:
        return [("", "", wanted.after)]
    since = id_bound(wanted.queued_after)
    late = " AND instr(m.id, '-') > 0"
    return [("", "", max(since, wanted.after)), (_NOTICES, late, wanted.after)]


def _bounds(wanted: EntryFilter) -> tuple[str, list[object]]:
    """The ids that come into question: they begin with the time."""
    text, values = " AND .id > ?", [wanted.after]
    if wanted.queued_before is not None:
        text += " AND .id < ?"
        values.append(id_bound(wanted.queued_before + 1))
    return text, list(values)
