"""The index: what it finds is what the files say, whatever happened to it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.interfaces import QueueStore, Tally
from fwd_mta.mail.entry import Category, EntryFilter, QueueEntry, Status
from fwd_mta.net.databases import SystemDatabases
from fwd_mta.queue import index_file
from fwd_mta.queue.files import FileStore
from fwd_mta.queue.index import DELAY, NAME, Index
from fwd_mta.queue.index_file import IndexFile
from fwd_mta.rules import settlement
from fwd_mta.world.databases import MemoryDatabases
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.machine import InlineWorker
from tests.queue.stores import (
    MEBI,
    POLICY,
    StoreCase,
    deferred,
    finished,
    notices_for,
    owing,
)

ROOT = "/state"
DAY = 86_400.0
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"finished": True},
    {"states": (Status.SENT,)},
    {"states": (Status.QUEUED, Status.DEFERRED, Status.BOUNCED)},
    {"sender": "ann@example.com", "finished": True},
    {"sender": "", "finished": True},
    {"recipient": "BOB@example.net"},
    {"domain": "example.org"},
    {"domain": "example.org", "states": (Status.SENT,)},
    {"account": "ann@example.com"},
    {"account": "nobody@example.com", "finished": True},
    {"message_id": "<7@example.com>", "finished": True},
    {"category": Category.NETWORK},
    {"category": Category.NETWORK, "domain": "example.org", "finished": True},
    {"held": True},
    {"held": True, "finished": True},
    {"host": "mx.example.net"},
)


class IndexCase(StoreCase, SynchronousTestCase):
    """A store of files with an index, in memory."""

    @override
    def setUp(self) -> None:
        """Begin empty."""
        self.disk = MemoryDisk()
        self.databases = MemoryDatabases()
        self.set_up()
        self.clock.pump([0.1] * 10)

    @override
    def make(self) -> QueueStore:
        """A store over the same disk."""
        return FileStore(
            self.disk,
            ROOT,
            InlineWorker(),
            self.wall,
            self.clock,
            POLICY,
            minimum_free_space=MEBI,
            message_size_limit=MEBI,
            emit=self.events.append,
            journal_worker=InlineWorker(),
            make_index=self.make_index,
        )

    def make_index(self, path: str) -> Index:
        """Its index; the last one made is `index`."""
        self.index = Index(
            self.databases, path, InlineWorker(), self.clock, self.events.append
        )
        return self.index

    def some_of_each(self) -> list[QueueEntry]:
        """Messages in all states."""
        made = [
            self.add("bob@example.net"),
            self.add("Bob@Example.net", "eve@example.org"),
            self.record_new(self.now + 600),
            self.finish(),
            self.finish(message_id="<7@example.com>"),
        ]
        made.append(self.record_new(self.now + 900))
        self.change(made[-1], lambda one: settlement.hold(one, "look"), "held")
        one = self.add("carl@example.org")
        self.claim()
        made.append(self.record(owing(one, self.now)))
        return made

    def both(self, **words: Any) -> tuple[list[str], list[str]]:
        """The ids that a filter takes, by the index and by the files."""
        wanted = EntryFilter(**words)
        by_index = self.get(self.store.entries(wanted))
        believed, self.index.believed = self.index.believed, False
        by_files = self.get(self.store.entries(wanted))
        self.index.believed = believed
        return [one.id for one in by_index], [one.id for one in by_files]

    def assert_same(self) -> None:
        """Each filter takes the same by the index as by the files."""
        self.assertTrue(self.index.believed)
        for words in FILTERS:
            by_index, by_files = self.both(**words)
            self.assertEqual(by_index, by_files, words)

    def rows(self, table: str) -> int:
        """How many rows a table has."""
        file = self.index._file
        assert isinstance(file, IndexFile)
        asked = file._db.execute(f"SELECT count(*) FROM {table}")  # noqa: S608
        number: int = asked.fetchone()[0]
        return number


class IndexTests(IndexCase):
    """Answers by the index."""

    def test_it_finds_what_the_files_say(self) -> None:
        """Each filter, and each pair of them, takes what a walk over files takes."""
        self.some_of_each()
        self.assert_same()
        for one, other in product(FILTERS, FILTERS):
            by_index, by_files = self.both(**(one | other))
            self.assertEqual(by_index, by_files, one | other)

    def test_a_message_moves_on(self) -> None:
        """Young, waiting, finished, packed, redacted, purged: it is found all along."""
        self.some_of_each()
        for seconds in (DELAY, 70, 200, 30 * DAY, 70):
            self.clock.advance(seconds)
            self.get(self.store.sweep(self.now))
            self.clock.pump([10.0] * 20)
            self.assert_same()
        for _ in range(3):
            self.clock.advance(31 * DAY)
            self.get(self.store.sweep(self.now))
        self.assert_same()
        left = self.both(finished=True)[0]
        self.assertEqual((len(left), self.rows("message")), (5, 5))

    def test_what_lies_in_a_pack_is_read_where_it_begins(self) -> None:
        """A row says where in the pack; nothing is searched for."""
        ids = sorted(self.finish().id for _ in range(3))
        self.clock.pump([10.0] * 30)
        self.get(self.store.ids(EntryFilter(finished=True)))
        found = self.successResultOf(self.deferred(self.index.find, finished=True))
        self.assertEqual([name for name, _ in found.rows], ids)
        for _, place in found.rows:
            self.assertIn(".pack", place.path)
            self.assertGreater(place.length, 0)

        def searched(*_: object) -> None:
            raise AssertionError

        assert isinstance(self.store, FileStore)
        self.patch(self.store._tree.reader, "find", searched)
        self.assertEqual(self.both(finished=True)[0], ids)

    def deferred(self, find: Any, **words: Any) -> Any:
        """Ask the index itself."""
        return Deferred.fromCoroutine(find(EntryFilter(**words), 100))

    def test_what_came_since(self) -> None:
        """Messages and notices by when they came, whichever way it is asked."""
        for _ in range(4):
            self.some_of_each()
            for one in self.listed(finished=True):
                if one.owed:
                    self.get(self.store.pay(one, notices_for(one, self.now)))
            self.clock.advance(3600)
        for seconds, filter_ in product((0, 3000, 5000, 99_000), FILTERS):
            words = filter_ | {"queued_after": self.now - seconds}
            by_index, by_files = self.both(**words)
            self.assertEqual(sorted(by_index), sorted(by_files), words)
        self.assertTrue(any("-" in one for one in self.both(sender="")[0]))

    def test_counts(self) -> None:
        """Counts are those of the list, with and without a filter."""
        self.some_of_each()
        for words in FILTERS:
            listed = self.listed(**words)
            told = self.get(self.store.tally(EntryFilter(**words)))
            self.assertEqual(sum(told.counts.values()), len(listed), words)
            held = sum(one.held is not None for one in listed)
            self.assertEqual((told.held, told.next), (held, None))

    def parts(self, **words: Any) -> Iterator[Tally]:
        """A count, part by part."""
        after: str | None = ""
        while after is not None:
            part = self.get(self.store.tally(EntryFilter(**words, after=after)))
            yield part
            after = part.next

    def test_long_answers_come_in_parts(self) -> None:
        """A part looks at so many rows, whatever the filter; all of them are all."""
        self.patch(index_file, "SCANNED", 3)
        for number in range(10):
            self.add("bob@example.net" if number % 4 else "eve@example.org")
        parts = list(self.parts(domain="example.org", account="ann@example.com"))
        self.assertEqual(sum(sum(part.counts.values()) for part in parts), 3)
        parts = list(self.parts())
        self.assertEqual([sum(part.counts.values()) for part in parts], [3, 3, 3, 1])
        self.assertEqual(len(self.both(domain="example.org")[0]), 3)

    def test_shape(self) -> None:
        """Recipients that wait, by age, as qshape shows them."""
        self.add("bob@example.net", "eve@example.org")
        self.clock.advance(12 * 60)
        self.add("bob@example.net")
        self.finish()
        by_domain = self.get(self.store.shape("domain", self.now)).rows
        self.assertEqual(sorted(by_domain), ["example.net", "example.org"])
        self.assertEqual(list(by_domain["example.net"])[:4], [1, 0, 1, 0])
        self.index.believed = False
        self.assertEqual(self.get(self.store.shape("domain", self.now)).rows, by_domain)

    def test_a_row_is_a_hint(self) -> None:
        """What is not there is not shown, and forgotten."""
        one = self.finish()
        self.clock.pump([10.0] * 30)
        self.both(finished=True)
        for path in [path for path in self.disk.files() if ".pack" in path]:
            self.disk.remove(path)
        self.assertEqual(self.both(finished=True)[0], [])
        self.clock.advance(DELAY)
        self.assertEqual(self.rows("message"), 0)
        self.assertTrue(one.is_final)


class IndexLifeTests(IndexCase):
    """Stops, kills, damage."""

    def restart(self, *, clean: bool) -> None:
        """Another process on the same files."""
        if clean:
            self.get(self.store.stop())
        self.store = self.make()
        if not clean:
            self.patch(self.disk, "lock", lambda path, text: lambda: None)
        self.get(self.store.start(self.now))

    def test_after_a_clean_stop_it_is_believed_at_once(self) -> None:
        """The next start reads nothing."""
        self.some_of_each()
        self.restart(clean=True)
        self.assertTrue(self.index.believed)
        self.assert_same()

    def test_after_a_kill_it_is_reconciled(self) -> None:
        """What it missed is read in the background; lists are right all the time."""
        self.some_of_each()
        self.clock.advance(DELAY)
        self.finish()
        self.index.put = lambda *_, **__: None  # type: ignore[method-assign]
        self.finish(message_id="<7@example.com>")
        self.restart(clean=False)
        self.assertFalse(self.index.believed)
        self.assertEqual(*self.both(message_id="<7@example.com>", finished=True))
        self.clock.pump([0.1] * 20)
        self.assert_same()

    def test_what_comes_meanwhile_is_not_lost(self) -> None:
        """Mail that comes and goes during a reconciliation is as it is afterwards."""
        self.some_of_each()
        self.restart(clean=False)
        one = self.finish()
        self.add("carl@example.org")
        self.clock.pump([0.1] * 20)
        self.assert_same()
        self.assertIn(one.id, self.both(finished=True)[0])

    def test_made_anew(self) -> None:
        """An index that was removed, or is asked to be, is made from the files."""
        self.some_of_each()
        self.get(self.store.stop())
        self.databases.remove(f"{ROOT}/{NAME}")
        self.restart(clean=False)
        self.clock.pump([0.1] * 20)
        self.assert_same()
        assert isinstance(self.store, FileStore)
        self.assertFalse(self.get(self.store.reindex()))
        self.assertFalse(self.index.believed)
        self.clock.pump([0.1] * 20)
        self.assert_same()

    def test_what_is_no_database_is_made_anew(self) -> None:
        """Garbage in its place costs a reconciliation, no more."""
        self.some_of_each()
        self.get(self.store.stop())
        path = self.mktemp()
        Path(path).write_bytes(b"no database " * 1000)
        self.databases = _At(path)  # type: ignore[assignment]
        self.restart(clean=False)
        self.clock.pump([0.1] * 20)
        self.assert_same()
        self.get(self.store.stop())
        self.assertEqual(Path(path).stat().st_mode & 0o077, 0)

    def test_nothing_is_mapped(self) -> None:
        """No file of it is shared memory: on a full disk that kills the server."""
        path = self.mktemp()
        self.databases = _At(path)  # type: ignore[assignment]
        self.restart(clean=False)
        self.some_of_each()
        self.clock.pump([0.1] * 20)
        found = {one.name for one in Path(path).parent.glob(f"{Path(path).name}*")}
        self.assertEqual(found, {Path(path).name, f"{Path(path).name}-wal"})

    def test_a_broken_one_is_done_without(self) -> None:
        """When it fails, mail goes on, lists come from the files, and it is told."""
        self.some_of_each()
        assert self.index._file is not None
        self.index._file._db.close()
        self.add("carl@example.org")
        self.assertEqual(len(self.listed(domain="example.org")), 2)
        self.assertFalse(self.index.believed)
        (told,) = [one for one in self.events if getattr(one, "where", "") == "index"]
        self.assertIn("fsck --reindex", getattr(told, "cure", ""))


class _At(SystemDatabases):
    """Real databases, all at one path."""

    def __init__(self, path: str) -> None:
        self._path = path

    @override
    def open(self, path: str) -> Any:
        return super().open(self._path)

    @override
    def remove(self, path: str) -> None:
        super().remove(self._path)


class IndexPrivacyTests(IndexCase):
    """What is in the octets of the index (P8)."""

    def test_no_address_and_no_content(self) -> None:
        """Finished mail is known by hashes; nothing of it is there in clear."""
        self.add("bob@example.net")
        self.claim()
        self.finish(message_id="<secret-id@example.com>")
        self.clock.advance(DELAY)
        octets = self.databases.image(f"{ROOT}/{NAME}")
        for word in (b"xyzzy", b"a secret", b"secret-id", b"ann@", b"bob@"):
            self.assertNotIn(word, octets)

    def test_what_is_purged_is_overwritten(self) -> None:
        """Of a message whose record went, no octet is left."""
        one = self.finish()
        self.clock.pump([10.0] * 30)
        self.assertEqual(len(self.both(finished=True)[0]), 1)
        self.assertIn(one.id.encode(), self.databases.image(f"{ROOT}/{NAME}"))
        for _ in range(4):
            self.clock.advance(30 * DAY)
            self.get(self.store.sweep(self.now))
        self.clock.advance(DELAY)
        self.assertNotIn(one.id.encode(), self.databases.image(f"{ROOT}/{NAME}"))

    def test_verify_reads_the_index_too(self) -> None:
        """A row that outlived its message's record is found, and the cure helps."""
        one = self.finish()
        self.clock.pump([10.0] * 30)
        self.assertEqual(self.get(self.store.inspect()).findings, ())
        self.index.gone = lambda ids: None  # type: ignore[method-assign]
        for _ in range(4):
            self.clock.advance(31 * DAY)
            self.get(self.store.sweep(self.now))
        (found,) = self.get(self.store.inspect()).findings
        self.assertIn("knows 1 messages whose record went", found.what)
        assert isinstance(self.store, FileStore)
        self.get(self.store.reindex())
        self.clock.pump([0.1] * 20)
        self.assertEqual(self.get(self.store.inspect()).findings, (), one.id)

    def test_states_are_those_of_the_entries(self) -> None:
        """A deferred message that is finished later changes its row."""
        one = self.record_new(self.now)
        self.assertEqual(self.both(states=(Status.DEFERRED,))[0], [one.id])
        self.claim()
        self.record(finished(replace(one), self.now))
        self.assertEqual(self.both(states=(Status.DEFERRED,))[0], [])
        self.assertEqual(self.both(states=(Status.SENT,))[0], [one.id])
        self.assertEqual(self.rows("waiting"), 0)
        self.assertNotEqual(deferred(one, 1.0), one)
