"""What no sound record says."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import (
    Attempt,
    Notice,
    NoticeKind,
    QueueEntry,
    StandingState,
)
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.settlement import cancel, settle
from fwd_mta.rules.soundness import flaws, is_beyond
from tests.builders import DEFERRED, DELIVERED, ID, REFUSED, T0, entry, recipient

SCHEDULE = RetrySchedule()
DAY = 86_400.0


class FlawTests(SynchronousTestCase):
    """`flaws`."""

    def assert_flaw(self, odd: QueueEntry, words: str) -> None:
        """There is one flaw, in these words."""
        self.assertEqual(list(flaws(odd)), [words])

    def after(self, *results: object) -> QueueEntry:
        """An entry after an attempt with these results."""
        attempt = Attempt(T0, T0, results)  # type: ignore[arg-type]
        return settle(entry(), attempt, SCHEDULE, T0, 0.5)

    def test_sound_records(self) -> None:
        """What the rules make of an entry has no flaw, whatever happens to it."""
        made = [
            entry(),
            entry(sender=None),
            self.after(DELIVERED),
            self.after(DEFERRED),
            self.after(REFUSED),
            cancel(entry(), T0),
        ]
        self.assertEqual([list(flaws(one)) for one in made], [[]] * len(made))

    def test_recipients(self) -> None:
        """None of them, or others than those of the envelope."""
        some = entry("bob@example.net", "carol@example.net")
        one_less = replace(some, standings=some.standings[:1])
        self.assert_flaw(one_less, "its recipients are not those of its envelope")
        none = replace(entry(), standings=())
        self.assertIn("it has no recipients", flaws(none))

    def test_over_or_not(self) -> None:
        """What is over knows since when; what waits is not over, and has content."""
        over = replace(self.after(DELIVERED), finished_at=None)
        self.assert_flaw(over, "nothing waits, and nobody knows since when")
        waits = replace(entry(), finished_at=T0)
        self.assert_flaw(waits, "it is said to be over, and a recipient waits")
        gone = replace(entry(), redacted_at=T0)
        self.assert_flaw(gone, "its content is gone, and a recipient waits")

    def test_an_end_without_an_attempt(self) -> None:
        """Nobody is given up who was not tried."""
        (standing,) = entry().standings
        given_up = replace(standing, state=StandingState.EXPIRED)
        odd = replace(entry(), standings=(given_up,), finished_at=T0)
        self.assert_flaw(odd, "a recipient has an end without an attempt")

    def test_notices(self) -> None:
        """They are about its recipients, counted, for somebody, and have none."""
        owing = self.after(REFUSED)
        self.assert_flaw(replace(owing, notices=0), "the notices it owes do not fit it")
        stranger = Notice(f"{ID}-1", NoticeKind.FAILED, (recipient("x@example.org"),))
        self.assert_flaw(
            replace(owing, owed=(stranger,)), "the notices it owes do not fit it"
        )
        nobody = replace(owing.envelope, reverse_path=None)
        self.assert_flaw(replace(owing, envelope=nobody), "it owes a notice to nobody")
        notice = replace(entry(), cause=ID)
        self.assert_flaw(notice, "it is a notice, and not from the null sender")
        loop = replace(entry(sender=None), cause=ID, notices=1)
        self.assert_flaw(loop, "a notice has notices of its own")


class BeyondTests(SynchronousTestCase):
    """`is_beyond`."""

    def waiting(self, seconds: float) -> QueueEntry:
        """An entry that is to be tried so many seconds after it came."""
        (standing,) = entry().standings
        later = replace(standing, next_attempt_at=T0 + seconds)
        return replace(entry(), standings=(later,))

    def test_within(self) -> None:
        """Any time up to the end of its lifetime can be the next."""
        for seconds in (0, 4000, 5 * DAY):
            self.assertFalse(is_beyond(self.waiting(seconds), SCHEDULE, T0), seconds)

    def test_beyond(self) -> None:
        """No rule sets a time after that."""
        self.assertTrue(is_beyond(self.waiting(5 * DAY + 3600), SCHEDULE, T0))

    def test_a_shortened_lifetime(self) -> None:
        """What was due by an older, longer schedule is tried once more, and no flaw."""
        shorter = RetrySchedule(maximal_queue_lifetime=DAY)
        now = T0 + 2 * DAY
        self.assertFalse(is_beyond(self.waiting(2 * DAY + 3600), shorter, now))
        self.assertTrue(is_beyond(self.waiting(4 * DAY), shorter, now))
