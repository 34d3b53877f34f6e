"""The real clocks."""

import time

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.net.clocks import SystemClock, make_monotonic


class Timers:
    """As much of a reactor as has a clock."""

    seconds: object = time.time


class SystemClockTests(SynchronousTestCase):
    """Dates by the system's clock."""

    def test_now(self) -> None:
        """It tells the system's time, in seconds since the epoch."""
        before = time.time()
        told = SystemClock().now()
        self.assertTrue(before <= told <= time.time())

    def test_monotonic(self) -> None:
        """Timers leave the wall clock alone, so that setting it moves no time-out."""
        timers = Timers()
        make_monotonic(timers)
        self.assertIs(timers.seconds, time.monotonic)
