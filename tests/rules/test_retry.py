"""When we try again."""

import itertools
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.rules.retry import RetrySchedule
from tests.builders import T0, entry

DAY = 86_400.0


class RetryScheduleTests(SynchronousTestCase):
    """The schedule of SPEC section 3, printed and counted."""

    def test_the_first_day_as_a_list(self) -> None:
        """5, 10, 20, 40 minutes, then every 67: the schedule without jitter."""
        times = RetrySchedule().times(lambda: 0.0)
        waits = [b - a for a, b in itertools.pairwise(times)]
        self.assertEqual(waits[:7], [300, 600, 1200, 2400, 4000, 4000, 4000])

    def test_the_last_try_is_at_five_days(self) -> None:
        """Five days mean five days: the last of about 120 tries is at their end."""
        for jitter in (0.0, 0.5, 0.999):
            times = RetrySchedule().times(lambda jitter=jitter: jitter)  # type: ignore[misc]
            self.assertEqual(times[-1], 5 * DAY)
            self.assertTrue(105 < len(times) < 140, len(times))

    def test_jitter_shortens_by_a_fifth_at_most(self) -> None:
        """Chance never makes a wait longer, nor shorter than four fifths."""
        schedule = RetrySchedule()
        latest = schedule.next_attempt(5, T0, T0 + DAY, 0.0)
        earliest = schedule.next_attempt(5, T0, T0 + DAY, 0.9999)
        assert latest is not None
        assert earliest is not None
        self.assertEqual(latest, T0 + 4000)
        self.assertTrue(3200 <= earliest - T0 < 3201)

    def test_a_huge_number_of_attempts_does_not_overflow(self) -> None:
        """A message tried a million times still has a finite wait."""
        self.assertEqual(RetrySchedule().backoff(1_000_000), 4000.0)

    def test_no_attempt_after_the_end(self) -> None:
        """At the end of the lifetime there is no next try."""
        self.assertIsNone(RetrySchedule().next_attempt(3, T0, T0, 0.5))

    def test_notices_have_their_own_lifetime(self) -> None:
        """bounce_queue_lifetime counts for the null reverse-path."""
        schedule = RetrySchedule(bounce_queue_lifetime=DAY)
        self.assertEqual(schedule.expires_at(entry(sender=None)), T0 + DAY)
        self.assertEqual(schedule.expires_at(entry()), T0 + 5 * DAY)

    def test_a_message_with_a_lifetime_of_its_own(self) -> None:
        """A TLS report is of no use after a day."""
        short = replace(entry(), lifetime=DAY)
        self.assertEqual(RetrySchedule().expires_at(short), T0 + DAY)

    def test_the_clock_starts_at_the_release_time(self) -> None:
        """A FUTURERELEASE message has its five days from its release (RFC 4865)."""
        held = entry()
        later = replace(held.envelope, hold_until=T0 + DAY)
        waiting = replace(held, envelope=later)
        self.assertEqual(RetrySchedule().expires_at(waiting), T0 + 6 * DAY)
        self.assertFalse(RetrySchedule().is_late(waiting, T0 + DAY))

    def test_delay_warning_can_be_switched_off(self) -> None:
        """delay_warning_time "0": nobody is told of a delay."""
        self.assertTrue(RetrySchedule().is_late(entry(), T0 + 4 * 3600))
        self.assertFalse(RetrySchedule().is_late(entry(), T0 + 4 * 3600 - 1))
        silent = RetrySchedule(delay_warning_time=0)
        self.assertFalse(silent.is_late(entry(), T0 + DAY))
