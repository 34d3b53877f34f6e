"""Windows of sites: growth, shrinking, death, and what an attempt tells of a site."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import Action, Attempt, Category, DeliveryResult, Scope, Stage
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.windows import Verdict, Window, block_rest, verdict
from tests.builders import DELIVERED, diagnosis, recipient


def told(
    stage: Stage,
    category: Category,
    scope: Scope,
    action: Action = Action.DEFER,
    reply: Reply | None = None,
) -> DeliveryResult:
    """A result of some meaning."""
    found = diagnosis(action, category, scope)
    return DeliveryResult(recipient(), stage, reply, found)


SITE, MESSAGE, PERSON = Scope.DESTINATION, Scope.MESSAGE, Scope.RECIPIENT
BUSY = Reply(421, "4.3.2", "busy")
NO = Reply(550, "1.1", "no")
LATER = Reply(450, "2.0", "later")
SILENT = told(Stage.CONNECT, Category.NETWORK, SITE)

VERDICTS = [
    ("it took the message", DELIVERED, Verdict.WORKS),
    ("nobody answers", SILENT, Verdict.SILENT),
    (
        "its greeting refuses",
        told(Stage.GREETING, Category.OTHER, SITE, reply=BUSY),
        Verdict.SILENT,
    ),
    (
        "it refuses for ever, so each message has its answer",
        told(Stage.GREETING, Category.POLICY, SITE, Action.REJECT, NO),
        Verdict.WORKS,
    ),
    (
        "a mailbox is full",
        told(Stage.RCPT, Category.CAPACITY, PERSON, reply=LATER),
        Verdict.WORKS,
    ),
    (
        "no such person",
        told(Stage.RCPT, Category.RECIPIENT, PERSON, Action.REJECT, NO),
        Verdict.WORKS,
    ),
    (
        "a first sight",
        told(Stage.RCPT, Category.GREYLIST, MESSAGE, reply=LATER),
        Verdict.WORKS,
    ),
    (
        "its disk is full",
        told(Stage.MAIL, Category.CAPACITY, SITE, reply=LATER),
        Verdict.SILENT,
    ),
    (
        "slow down",
        told(Stage.MAIL, Category.RATE, SITE, Action.SLOWDOWN, LATER),
        Verdict.SLOWER,
    ),
    (
        "we are on a block list",
        told(Stage.RCPT, Category.BLOCKLIST, SITE, reply=NO),
        Verdict.BLOCKS,
    ),
    (
        "a domain of the message is on a block list",
        told(Stage.DOT, Category.BLOCKLIST, MESSAGE, Action.REJECT, NO),
        Verdict.WORKS,
    ),
    ("no DNS", told(Stage.DNS, Category.DNS, SITE), Verdict.SILENT),
    ("its TLS is not good enough", told(Stage.STARTTLS, Category.TLS, SITE), None),
    ("lost after the dot", told(Stage.DOT, Category.NETWORK, SITE), None),
    ("our own fault", told(Stage.CONNECT, Category.CONFIG, MESSAGE), None),
]


class VerdictTests(SynchronousTestCase):
    """What one attempt tells of a site."""

    def test_each(self) -> None:
        """Only what concerns the site as a whole counts against it."""
        for words, result, wanted in VERDICTS:
            found = verdict(Attempt(0, 1, (result,)))
            self.assertIs(found, wanted or Verdict.NOTHING, words)

    def test_one_that_was_answered_shows_that_it_works(self) -> None:
        """A failure of some recipients says nothing beside a success."""
        found = verdict(Attempt(0, 1, (SILENT, DELIVERED)))
        self.assertIs(found, Verdict.WORKS)

    def test_a_block_list_outweighs(self) -> None:
        """A site that took some may still not trust us."""
        blocked = told(Stage.RCPT, Category.BLOCKLIST, SITE, reply=NO)
        found = verdict(Attempt(0, 1, (blocked, DELIVERED)))
        self.assertIs(found, Verdict.BLOCKS)


class WindowTests(SynchronousTestCase):
    """The window of one site."""

    def test_it_begins_at_five_or_at_the_limit(self) -> None:
        """A stranger gets five connections at most."""
        self.assertEqual(Window.first(20).size, 5)
        self.assertEqual(Window.first(2).size, 2)

    def test_growth_takes_a_whole_step(self) -> None:
        """At five, three successes make six: 3/sqrt(5) > 1; two do not."""
        window = Window.first(20)
        sizes = []
        for _ in range(3):
            window = window.worked(in_full_use=True)
            sizes.append(window.size)
        self.assertEqual(sizes, [5, 5, 6])

    def test_it_ends_at_the_limit(self) -> None:
        """Twenty is enough for anybody."""
        window = Window.first(20)
        for _ in range(500):
            window = window.worked(in_full_use=True)
        self.assertEqual(window.size, 20)

    def test_what_is_not_used_does_not_grow(self) -> None:
        """A trickle of mail opens no window."""
        window = Window.first(20)
        for _ in range(500):
            window = window.worked(in_full_use=False)
        self.assertEqual(window.size, 5)

    def test_one_failure_among_successes_swings_nothing(self) -> None:
        """Hysteresis: success and failure in turn leave the window as it is."""
        window = Window.first(20)
        for _ in range(100):
            window = window.failed().worked(in_full_use=True)
        self.assertEqual(window.size, 5)
        self.assertFalse(window.is_dead)

    def test_a_window_of_failures_is_death(self) -> None:
        """Five failures in a row, and no success: it is dead; four are not."""
        window = Window.first(20)
        deaths = []
        for _ in range(5):
            window = window.failed()
            deaths.append(window.is_dead)
        self.assertEqual(deaths[:3], [False, False, False])
        self.assertTrue(deaths[-1])

    def test_slow_start(self) -> None:
        """After death: one, then one more with each success, from five on slowly."""
        window = Window.first(20).failed().restarted()
        sizes = [window.size]
        for _ in range(5):
            window = window.worked(in_full_use=True)
            sizes.append(window.size)
        self.assertEqual(sizes, [1, 2, 3, 4, 5, 5])

    def test_a_failure_in_slow_start_is_death_again(self) -> None:
        """A site that falls back is not tried five times more."""
        self.assertTrue(Window.first(20).restarted().failed().is_dead)

    def test_the_wish_for_less_is_heard_at_once(self) -> None:
        """Each `slow down` takes one away, never the last."""
        window = replace(Window.first(20), size=3)
        sizes = []
        for _ in range(4):
            window = window.slowed()
            sizes.append(window.size)
        self.assertEqual(sizes, [2, 1, 1, 1])

    def test_rests_after_block_lists(self) -> None:
        """One hour, doubling to six."""
        hours = [block_rest(times) / 3600 for times in (1, 2, 3, 4, 5, 1000)]
        self.assertEqual(hours, [1, 2, 4, 6, 6, 6])
