"""Must-show: a hundred days by the clock; content goes on time, and no byte stays."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.mail.entry import EntryFilter
from fwd_mta.queue.index import NAME
from tests.kit import World

DAY = 86_400.0
CANARY = b"canary-7f3a"
SUBJECT = b"subject-canary-91bd"
CONTENT = (
    b"From: ann@example.com\r\nTo: bob@example.net\r\nSubject: %s\r\n\r\nHello %s\r\n"
    % (SUBJECT, CANARY)
)


ACCEPTED = ("accepted",)
TRIES = ("attempt", "attempt", "attempt", "dot-sent", "attempt")


class HundredDaysTests(SynchronousTestCase):
    """Messages from submission to the end of their record, all rooms real."""

    @override
    def setUp(self) -> None:
        """A server at day 0."""
        self.world = World()
        self.world.start()
        self.began = self.world.wall.now()

    def until_day(self, day: float) -> None:
        """Let time pass, an hour at a time."""
        left = self.began + day * DAY - self.world.wall.now()
        self.world.pass_time(left, step=3600.0)

    def holding(self, canary: bytes) -> list[str]:
        """Files with the canary in any of their bytes."""
        files = dict(self.world.disk.files())
        self.world.done(self.world.server.store.tally(EntryFilter()))  # written by now
        files[NAME] = self.world.databases.image(f"/state/{NAME}")
        self.assertGreater(len(files[NAME]), 4096)
        return [path for path, octets in files.items() if canary in octets]

    def ask(self, verb: str, **words: Any) -> dict[str, Any]:
        """Ask the server, as the command does."""
        asked = self.world.server.commands.obey({"verb": verb, **words})
        return self.world.done(asked)

    def message(self) -> str:
        """The id of ann's message."""
        found = self.world.server.store.entries(EntryFilter(finished=True))
        return next(one.id for one in self.world.done(found) if one.cause is None)

    def words(self, entry_id: str) -> list[str]:
        """The steps of a timeline."""
        return [step["what"] for step in self.ask("timeline", id=entry_id)["items"]]

    def assert_verified(self) -> None:
        """Reading every byte finds nothing."""
        seen = self.ask("inspect")
        self.assertEqual((seen["items"], seen["next"]), ([], None))

    def test_deferred_delivered_redacted_purged(self) -> None:
        """Three tries, delivery, redaction at day 30, the end of its record at 90."""
        self.patch(self.world.resolver, "_failing", ("example.net",))
        self.world.submit("bob@example.net", content=CONTENT)
        one = self.message()
        self.world.until(lambda: self.words(one).count("attempt") == 3, DAY)
        self.patch(self.world.resolver, "_failing", ())
        self.world.until(lambda: bool(self.world.inbox.messages), DAY)
        self.world.settle()
        self.assertEqual(self.words(one), [*ACCEPTED, *TRIES])
        self.assertEqual(len(self.holding(CANARY)), 1)
        self.until_day(29.9)
        self.assertEqual(len(self.holding(CANARY)), 1)
        self.assert_verified()
        self.until_day(30.1)
        self.assertEqual(self.holding(CANARY) + self.holding(SUBJECT), [])
        self.assertEqual(self.words(one), [*ACCEPTED, *TRIES, "redacted"])
        (reason,) = self.ask("why", name=one)["reasons"]
        self.assertIn("retention.record", reason["waits_for"])
        self.assert_verified()
        self.until_day(89.9)
        self.assertEqual(self.words(one), [*ACCEPTED, *TRIES, "redacted"])
        self.until_day(90.1)
        self.assertIn("error", self.ask("timeline", id=one))
        self.assertFalse([path for path in self.world.disk.files() if one in path])
        self.until_day(100)
        self.assert_verified()

    def test_failed_and_reported(self) -> None:
        """A failure is told to the sender; what the notice quotes goes on time too."""
        self.world.submit("bob+unknown@example.net", content=CONTENT)
        self.world.until(lambda: bool(self.world.inbox.messages), DAY)
        (notice,) = self.world.inbox.messages
        self.assertIn(b"Action: failed", notice.content)
        self.world.pass_time(300)  # its segment of the journal has been put away
        self.assertEqual(len(self.holding(SUBJECT)), 2, "the message and its notice")
        self.until_day(29.9)
        self.assertEqual(len(self.holding(SUBJECT)), 2)
        self.until_day(30.1)
        self.assertEqual(self.holding(CANARY) + self.holding(SUBJECT), [])
        self.assert_verified()
        self.until_day(90.1)
        self.assertEqual(self.ask("list", finished=True)["items"], [])

    def test_terms_of_an_account(self) -> None:
        """An account's term is shorter, its notices' too; a new term counts for all."""
        self.world.submit("bob@example.net", content=CONTENT)
        self.world.submit("bob+unknown@example.net", content=CONTENT)
        self.world.until(lambda: len(self.world.inbox.messages) == 2, DAY)
        self.until_day(2)
        self.assertEqual(len(self.holding(SUBJECT)), 3)
        self.world.extra = (
            '[retention]\ncontent = "30d"\n'
            '[[retention.term]]\naccount = "ann@example.com"\ncontent = "3d"\n'
        )
        self.assertEqual(self.world.done(self.world.server.reload()), ())
        self.world.pass_time(120)
        self.assert_verified()
        self.assertEqual(len(self.holding(SUBJECT)), 3)
        self.until_day(3.1)
        self.assertEqual(self.holding(CANARY) + self.holding(SUBJECT), [])
        self.assert_verified()
        status = self.ask("retained")
        self.assertEqual(status["others"]["ann@example.com"]["content"], 3 * DAY)

    def test_kept_as_evidence(self) -> None:
        """What an operator keeps stays; let go, it goes with the next sweep."""
        self.world.submit("bob@example.net", content=CONTENT)
        self.world.until(lambda: bool(self.world.inbox.messages), DAY)
        self.world.settle()
        one = self.message()
        (kept,) = self.ask("change", change="keep", reason="a case", ids=[one])["items"]
        self.assertTrue(kept["done"], kept)
        (refused,) = self.ask("redact", ids=[one])["items"]
        self.assertIn("is kept (a case)", refused["why"])
        self.until_day(100)
        self.assertEqual(len(self.holding(CANARY)), 1)
        self.assert_verified()
        self.ask("change", change="let-go", ids=[one])
        self.world.pass_time(60)
        self.assertEqual(self.holding(CANARY), [])

    def test_redacted_on_request(self) -> None:
        """What somebody has the right to have erased is erased now, if it is over."""
        self.patch(self.world.resolver, "_failing", ("example.net",))
        self.world.submit("bob@example.net", content=CONTENT)
        one = self.message()
        (waits,) = self.ask("redact", ids=[one])["items"]
        self.assertIn("is not finished", waits["why"])
        self.ask("change", change="cancel", ids=[one])
        (done,) = self.ask("redact", ids=[one])["items"]
        self.assertTrue(done["done"], done)
        self.assertEqual(self.holding(CANARY) + self.holding(SUBJECT), [])
        (unknown,) = self.ask("redact", ids=["nonsense"])["items"]
        self.assertFalse(unknown["done"])
