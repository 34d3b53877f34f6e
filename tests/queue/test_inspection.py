"""Every byte on the disk is accounted for: what is found, and what is not."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.interfaces import Finding, FindingKind
from fwd_mta.mail.message import Message
from fwd_mta.queue import inspection
from fwd_mta.rules import retention, settlement
from fwd_mta.rules.retention import RetentionPolicy
from tests.queue.stores import BODY, HEAD, deferred
from tests.queue.test_files import FileStoreCase

DAY = 86_400.0


class InspectionTests(FileStoreCase, SynchronousTestCase):
    """`FileStore.inspect`."""

    @override
    def setUp(self) -> None:
        self.prepare()

    def inspect(self) -> list[Finding]:
        """Walk over everything."""
        findings: list[Finding] = []
        after: str | None = ""
        while after is not None:
            seen = self.get(self.store.inspect(after))
            findings += seen.findings
            after = seen.next
        return findings

    def only(self, kind: FindingKind) -> Finding:
        """The one finding there is."""
        (found,) = self.inspect()
        self.assertIs(found.kind, kind, found)
        return found

    def put(self, path: str, octets: bytes) -> None:
        """Replace a file by hand."""
        self.disk.remove(path)
        self.plant(path, octets)

    def path(self, entry_id: str) -> str:
        """Where a message lies."""
        return next(path for path in self.disk.files() if path.endswith(entry_id))

    def test_small_files(self) -> None:
        """What lies in state is JSON of ours; all else is named."""
        self.disk.make_directory(f"{self.root}/state")
        self.plant(f"{self.root}/state/limits.json", b'{"version": 1}')
        self.assertEqual(self.inspect(), [])
        self.put(f"{self.root}/state/limits.json", b"From: ann@example.com")
        self.assertIn("is not JSON", self.only(FindingKind.DAMAGE).what)
        self.put(f"{self.root}/state/limits.json", b"{}")
        self.plant(f"{self.root}/state/message.eml", b"Subject: x")
        self.assertIn("none of the small files", self.only(FindingKind.UNKNOWN).what)

    def test_a_body_that_stayed_behind(self) -> None:
        """A body that came in a day ago, and became no message, is content."""
        spool = self.store.spool()
        spool.write(b"x" * 70_000 * 10)
        self.assertEqual(self.inspect(), [])
        self.clock.advance(2 * DAY)
        self.assertIn("left over", self.only(FindingKind.LEFTOVER).what)
        spool.discard()
        self.assertEqual(self.inspect(), [])

    def test_all_is_well(self) -> None:
        """Mail in every state, where it belongs, is no finding at any time."""
        self.record_new(self.now + 600)
        self.add(held="odd")
        kept = self.finish()
        self.change(kept, lambda one: retention.keep(one, "a case"), "kept")
        self.finish()
        self.large()
        self.assertEqual(self.inspect(), [])
        for _ in range(95):
            self.clock.advance(DAY)
            self.get(self.store.sweep(self.now))
            self.assertEqual(self.inspect(), [], self.now)

    def test_a_volume_of_its_own(self) -> None:
        """What a file system keeps at its root is no stranger."""
        self.disk.make_directory("/srv/lost+found")
        self.assertEqual(self.inspect(), [])

    def test_reads_every_byte(self) -> None:
        """The files and octets that were read are those that there are."""
        self.finish()
        self.add()
        seen = self.get(self.store.inspect())
        messages = [
            octets
            for path, octets in self.disk.files().items()
            if not path.endswith(("format", "lock", "terms"))
        ]
        self.assertEqual(seen.octets, sum(map(len, messages)))
        self.assertEqual(seen.files, len(self.disk.files()), "directories are none")
        self.assertIsNone(seen.next)

    def test_page_by_page(self) -> None:
        """A long walk comes in pages; together they are all there is, once each."""
        self.patch(inspection, "_PAGE_FILES", 3)
        self.patch(inspection, "_SLICE", 2)
        for _ in range(10):
            self.finish()
        self.clock.advance(40 * DAY)
        found = self.inspect()
        self.assertEqual(len(found), 10)
        self.assertEqual(len({one.path for one in found}), 10)

    def test_content_past_its_time(self) -> None:
        """Where no sweep came, what should be gone is named."""
        done = self.finish()
        self.clock.advance(30 * DAY + 2 * 3600 - 1)
        self.assertEqual(self.inspect(), [])
        self.clock.advance(3600)
        found = self.only(FindingKind.CONTENT)
        self.assertIn(done.id, found.path)
        self.assertFalse(found.path.startswith("/"))

    def test_a_record_past_its_time(self) -> None:
        """A placeholder that should be gone is named too."""
        self.finish()
        self.clock.advance(31 * DAY)
        self.get(self.store.sweep(self.now))
        self.clock.advance(60 * DAY)
        self.only(FindingKind.RECORD)

    def test_a_redaction_that_is_none(self) -> None:
        """A record that says redacted does not make it so: the content is read."""
        done = self.finish()
        self.clock.advance(31 * DAY)
        self.get(self.store.sweep(self.now))
        path = self.path(done.id)
        tree = self.store._tree  # type: ignore[attr-defined]
        for message in (Message(HEAD, BODY), Message(HEAD, b"x" * 5000)):
            whole = tree.finished._with_content(tree.reader.state(path), message)
            self.put(path, whole)
            found = self.only(FindingKind.CONTENT)
            self.assertIn("more than a placeholder", found.what)

    def test_what_no_sound_record_says(self) -> None:
        """A record that cannot be, whole as it is, is a finding of fsck."""
        self.record_new(self.now + 600)
        self.patch(inspection, "flaws", lambda entry: iter([f"{entry.size} octets"]))
        found = self.only(FindingKind.RECORD)
        self.assertTrue(found.what.endswith(" octets"), found)

    def test_damage(self) -> None:
        """A flipped byte is found, wherever it is."""
        done = self.finish()
        path = self.path(done.id)
        octets = self.disk.files()[path]
        for place in (10, octets.index(BODY) + 1, octets.index(HEAD) + 1, -20):
            broken = bytearray(octets)
            broken[place] ^= 1
            self.put(path, bytes(broken))
            self.only(FindingKind.DAMAGE)

    def test_a_torn_record(self) -> None:
        """A last line that was cut is found; the message is not lost by it."""
        done = self.finish()
        path = self.path(done.id)
        self.put(path, self.disk.files()[path] + b"17 0000")
        found = self.only(FindingKind.DAMAGE)
        self.assertIn("not written to its end", found.what)

    def test_what_is_not_ours(self) -> None:
        """A copy that somebody left is found: nobody would redact it."""
        self.finish()
        for path in (
            "/srv/mail.bak",
            "/srv/queue/incoming/copy.eml",
            "/srv/queue/core",
            "/srv/retained/old.tar",
        ):
            self.plant(path, BODY)
            found = self.only(FindingKind.UNKNOWN)
            self.assertEqual(f"/srv/{found.path}", path)
            self.disk.remove(path)

    def test_left_over(self) -> None:
        """What failed long ago and was not cleared away is found."""
        name = f"/srv/queue/tmp/{self.fresh().id}.redacted"
        self.plant(name, BODY)
        self.assertEqual(self.inspect(), [])
        self.clock.advance(2 * DAY)
        self.only(FindingKind.LEFTOVER)

    def test_damaged_mail_past_its_time(self) -> None:
        """What was set aside is evidence for as long as content is kept, no longer."""
        self.plant(f"/srv/queue/corrupt/{self.fresh().id}", BODY)
        self.assertEqual(self.inspect(), [])
        self.clock.advance(31 * DAY)
        self.only(FindingKind.CONTENT)

    def test_a_wrong_place(self) -> None:
        """Finished mail where no sweep looks, or looks too late, is found and filed."""
        done = self.finish()
        path = self.path(done.id)
        for place in ("queue/hold", "queue/incoming", "retained/20400101T00"):
            self.disk.make_directory(f"/srv/{place}")
            self.disk.rename(path, f"/srv/{place}/{done.id}")
            found = self.only(FindingKind.PLACE)
            self.assertIn("filed in retained/", self.get(self.store.mend(found.path)))  # type: ignore[attr-defined]
            self.assertEqual(self.path(done.id), path)
            self.assertEqual(self.inspect(), [])

    def test_mending_damage(self) -> None:
        """A damaged file is set aside, not removed."""
        done = self.finish()
        path = self.path(done.id)
        self.put(path, self.disk.files()[path][:-3])
        broken = self.disk.files()[path]
        self.disk.spoil(path, 0, b"X")
        found = self.only(FindingKind.DAMAGE)
        self.assertEqual(self.get(self.store.mend(found.path)), "set aside")  # type: ignore[attr-defined]
        aside = self.disk.files()[f"/srv/queue/corrupt/{done.id}"]
        self.assertEqual(aside[1:], broken[1:])


class KeptTests(FileStoreCase, SynchronousTestCase):
    """What is kept as evidence, and what a changed term does."""

    @override
    def setUp(self) -> None:
        self.prepare()

    def test_kept_until_let_go(self) -> None:
        """No sweep touches it, however old; then its time counts again."""
        done = self.finish()
        self.change(done, lambda one: retention.keep(one, "a case"), "kept")
        self.clock.advance(200 * DAY)
        self.assertEqual(self.get(self.store.sweep(self.now)).redacted, 0)
        self.assertFalse(self.get(self.store.redact(done.id)))
        self.assertEqual(self.body(self.get(self.store.open(done.id))), BODY)
        self.kill()
        self.assertEqual(self.listed(finished=True)[0].held, "a case")
        self.change(done, retention.let_go, "let-go")
        self.assertEqual(self.get(self.store.sweep(self.now)).purged, 1)

    def test_keeping_is_for_what_is_over(self) -> None:
        """What waits is not kept by this; other changes do nothing to what is over."""
        one = self.record_new(self.now + 600)
        self.change(one, lambda e: retention.keep(e, "a case"), "kept")
        self.assertIsNone(self.listed()[0].held)
        self.clock.advance(600)
        self.claim()
        done = self.record(replace(deferred(one, self.now), held=None), release=True)
        self.change(done, lambda e: settlement.cancel(e, self.now), "cancelled")
        (over,) = self.listed(finished=True)
        for change in (
            lambda e: settlement.hold(e, "odd"),
            lambda e: settlement.release(e, self.now),
            lambda e: settlement.retry_now(e, self.now),
        ):
            self.change(over, change, "tried")
            self.assertEqual(self.listed(finished=True), [over])

    def test_a_shorter_term_counts_for_what_is_filed(self) -> None:
        """After a change of the terms the next sweep looks at all finished mail."""
        self.finish()
        self.get(self.store.sweep(self.now))
        self.clock.advance(5 * DAY)
        self.assertEqual(self.get(self.store.sweep(self.now)).redacted, 0)
        self.store.use_retention(RetentionPolicy(2 * DAY, 90 * DAY))  # type: ignore[attr-defined]
        self.assertEqual(self.get(self.store.sweep(self.now)).redacted, 1)

    def test_a_longer_term_counts_too(self) -> None:
        """What was to go keeps its content; a restart with other terms is the same."""
        done = self.finish()
        self.get(self.store.sweep(self.now))
        self.retention = RetentionPolicy(60 * DAY, 90 * DAY)
        self.kill()
        self.clock.advance(31 * DAY)
        self.assertEqual(self.get(self.store.sweep(self.now)).redacted, 0)
        self.assertEqual(self.body(self.get(self.store.open(done.id))), BODY)
        self.clock.advance(30 * DAY)
        self.assertEqual(self.get(self.store.sweep(self.now)).redacted, 1)
