"""What people read: tables, one message, timelines."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.admin import show
from fwd_mta.admin.answers import row, step_json, whole
from fwd_mta.mail.entry import QueueEntry, Step
from tests.admin.keeping import NOW, an_attempt, an_id, deferred, delivered, each, entry


class WordTests(SynchronousTestCase):
    """Times, sizes, and text of strangers."""

    def test_cleans_what_others_said(self) -> None:
        """No escape sequence of a peer reaches the terminal, and no line of its own."""
        said = "a\x1b[31mb\r\nc\td\x00\u202e\ud800"
        self.assertEqual(show.clean(said), "a?[31mb c d???")
        self.assertEqual(len(show.clean("x" * 9000)), 1000)

    def test_tells_lengths_of_time(self) -> None:
        """The two largest units are enough."""
        for seconds, words in (
            (0, "0 s"),
            (59.6, "1 min"),
            (3600, "1 h"),
            (4000, "1 h 6 min"),
            (90_061, "1 d 1 h"),
            (-5, "5 s"),
        ):
            self.assertEqual(show.span(seconds), words)

    def test_tells_sizes(self) -> None:
        """Three digits are enough."""
        for size, words in (
            (0, "0 B"),
            (999, "999 B"),
            (12_345, "12.3 kB"),
            (50_000_000, "50 MB"),
            (5 * 10**12, "5e+03 GB"),
        ):
            self.assertEqual(show.octets(size), words)

    def test_tells_when(self) -> None:
        """A next try is in some time, or now."""
        self.assertEqual(show.when(NOW + 750, NOW), "in 12 min 30 s")
        self.assertEqual(show.when(NOW - 1, NOW), "now")
        self.assertEqual(show.when(None, NOW), "-")
        self.assertEqual(show.moment(NOW), "2027-01-15 08:00:00")
        self.assertEqual(show.moment(None), "-")

    def test_aligns_tables(self) -> None:
        """Columns are as wide as their widest cell."""
        lines = list(show.table(("A", "B"), [("long", "1"), ("x", "22")]))
        self.assertEqual(lines, ["A     B", "long  1", "x     22"])


class QueueTests(SynchronousTestCase):
    """Rows of a list, and one message whole."""

    def lines(self, one: QueueEntry) -> list[str]:
        """Show a row."""
        return list(show.queue_row(row(one), NOW))

    def test_shows_a_row(self) -> None:
        """A row is who to whom, how old, how large, and why it is still here."""
        first, who, why = self.lines(deferred(1, "a@example.net", "b@example.net"))
        self.assertIn(an_id(1), first)
        self.assertIn("deferred", first)
        self.assertIn("in 12 min 30 s", first)
        self.assertEqual(who, "    you@example.com -> a@example.net, b@example.net")
        self.assertEqual(
            why,
            "    452 4.2.2 Mailbox ?[31mfull quite [capacity: The mailbox is full.]",
        )

    def test_has_heads_above_its_columns(self) -> None:
        """The heads stand where the columns begin."""
        first = self.lines(deferred())[0]
        for head, cell in (
            ("SIZE", "12.3 kB"),
            ("STATE", "deferred"),
            ("NEXT", "in 12"),
        ):
            self.assertEqual(show.QUEUE_HEADS.index(head), first.index(cell), head)

    def test_shows_that_it_is_on_hold(self) -> None:
        """On hold counts more than why it waited before."""
        first, _, why = self.lines(replace(deferred(), held="abuse?"))
        self.assertIn("held", first)
        self.assertEqual(why, "    on hold: abuse?")

    def test_shows_no_reason_where_there_is_none(self) -> None:
        """What was never tried, or went well, needs no reason."""
        self.assertEqual(len(self.lines(entry())), 2)
        self.assertEqual(len(self.lines(delivered())), 2)

    def test_counts_recipients_it_does_not_show(self) -> None:
        """A long list of recipients ends in a number."""
        many = [f"r{number}@example.net" for number in range(8)]
        self.assertIn("r4@example.net and 3 more", self.lines(entry(1, *many))[1])

    def test_shows_one_whole(self) -> None:
        """Every promise of P3 is on the page: codes, words, meaning, rule, next try."""
        text = "\n".join(show.whole(whole(deferred()), NOW))
        for words in (
            "you@example.com",
            "[192.0.2.1] laptop (ESMTPSA, TLSv1.3)",
            "to them@example.net: open, 1 try",
            "mx.example.net[192.0.2.9]:25, at rcpt (TLSv1.3, TLS_AES_256_GCM_SHA384)",
            "452 4.2.2 Mailbox ?[31mfull quite",
            "4.2.2 capacity, defer the recipient: The mailbox is full.",
            "mailbox-full",
            "2027-01-15 08:12:30 UTC (in 12 min 30 s)",
        ):
            self.assertIn(words, text)

    def test_shows_doubt(self) -> None:
        """A message that may have arrived twice is named so (P2)."""
        doubtful = each(
            deferred(),
            lambda one: replace(one, in_doubt_since=NOW, possible_duplicate=True),
        )
        text = "\n".join(show.whole(whole(doubtful), NOW))
        self.assertIn("in doubt since 2027-01-15 08:00:00 UTC", text)
        self.assertIn("may have arrived twice", text)

    def test_promises_no_try_of_held_mail(self) -> None:
        """What is on hold has no next try."""
        text = "\n".join(show.whole(whole(replace(deferred(), held="x")), NOW))
        self.assertNotIn("next try", text)


class TimelineTests(SynchronousTestCase):
    """What happened, step by step."""

    def lines(self, step: Step) -> str:
        """Show a step."""
        return "\n".join(show.timeline_step(step_json(step)))

    def test_shows_a_step(self) -> None:
        """A step is a time, a word and a note."""
        self.assertEqual(
            self.lines(Step(NOW, "held", "by an operator:\x1b abuse")),
            "2027-01-15 08:00:00  held        by an operator:? abuse",
        )
        self.assertEqual(self.lines(Step(NOW, "paid")), "2027-01-15 08:00:00  paid")

    def test_shows_an_attempt(self) -> None:
        """An attempt tells what was tried, and each recipient's result."""
        text = self.lines(an_attempt(deferred()))
        for words in (
            "attempt     took 2 s",
            "tried         mx1.example.net[192.0.2.8]:25: connection refused",
            "them@example.net: deferred",
            "rule          mailbox-full",
        ):
            self.assertIn(words, text)

    def test_shows_a_delivery(self) -> None:
        """What went well shows the other side's words."""
        text = self.lines(an_attempt(delivered()))
        self.assertIn("them@example.net: taken by the next host", text)
        self.assertIn("they said     250 2.0.0 Ok", text)

    def test_shows_what_comes_next(self) -> None:
        """A timeline ends with the state and the next try of each that waits."""
        lines = list(show.outlook(whole(deferred()), NOW))
        self.assertEqual(lines[0], "now: deferred")
        self.assertIn("them@example.net: next try", lines[1])
        self.assertIn("in 12 min 30 s", lines[1])
        self.assertEqual(list(show.outlook(whole(delivered()), NOW)), ["now: sent"])
        held = list(show.outlook(whole(replace(deferred(), held="abuse?")), NOW))
        self.assertEqual(held, ["now: deferred", "  on hold: abuse?"])


class RuleTests(SynchronousTestCase):
    """The schedule, and a classification."""

    def test_shows_a_schedule(self) -> None:
        """Each try has a number, a time after arrival and the wait before it."""
        self.assertEqual(
            list(show.schedule([0.0, 300.0, 90_061.4])),
            [
                "   1  0 d 00:00:00  at once",
                "   2  0 d 00:05:00  after 5 min",
                "   3  1 d 01:01:01  after 1 d 56 min",
            ],
        )

    def test_shows_a_classification(self) -> None:
        """A classification is a line for each of its facts."""
        lines = list(show.bounce_info({"action": "defer", "code": 452}))
        self.assertEqual(lines, ["action        defer", "code          452"])
