"""Tests for where a message lies."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.queue.layout import Layout, hour_end, minute_start, parts
from fwd_mta.rules import settlement
from fwd_mta.rules.retention import RetentionPolicy
from tests.builders import T0, entry
from tests.queue.stores import POLICY, deferred, finished, owing

LAYOUT = Layout("/srv")


class LayoutTests(SynchronousTestCase):
    """`Layout` and the names of times."""

    def home(self, one: object, now: float = T0) -> str:
        """The place of an entry, below the root."""
        assert isinstance(one, type(entry()))
        return LAYOUT.home(one, now, POLICY).removeprefix("/srv/")

    def test_the_home_of_each_state(self) -> None:
        """The state of an entry decides the directory."""
        self.assertEqual(self.home(entry()), "queue/incoming")
        self.assertEqual(
            self.home(deferred(entry(), T0 + 600)), "queue/deferred/20270115T0810"
        )
        self.assertEqual(self.home(settlement.hold(entry(), "x")), "queue/hold")
        self.assertEqual(self.home(finished(entry(), T0)), "retained/20270214T08")
        self.assertEqual(self.home(owing(entry(), T0)), "queue/incoming")

    def test_debts_go_before_everything(self) -> None:
        """A held or finished message that owes lies in incoming."""
        held = settlement.hold(deferred(entry(), T0 + 600), "x")
        owed = owing(entry(), T0).owed
        self.assertEqual(self.home(replace(held, owed=owed)), "queue/incoming")

    def test_a_message_with_a_release_time(self) -> None:
        """Fresh mail that is not due within a minute waits with the others."""
        one = entry()
        late = replace(one.standings[0], next_attempt_at=T0 + 3600)
        self.assertEqual(
            self.home(replace(one, standings=(late,))), "queue/deferred/20270115T0900"
        )

    def test_what_is_due_already(self) -> None:
        """Finished content that is due goes to the hour that has ended last."""
        done = finished(entry(), T0)
        policy = RetentionPolicy(0, 90 * 86_400.0)
        self.assertEqual(LAYOUT.home(done, T0, policy), "/srv/retained/20270115T07")

    def test_names_of_times(self) -> None:
        """Names are read as they were written, and nothing else is."""
        minute = parts(LAYOUT.minute(T0 + 59))[1]
        self.assertEqual(minute_start(minute), T0)
        self.assertEqual(hour_end("20270115T08"), T0 + 3600)
        for bad in ("", "hold", "20270115T08", "20270115T08000", "20271315T0800"):
            self.assertIsNone(minute_start(bad), bad)
        for bad in ("", "hold", "20270115T0800", "2027015T08", "20270115T24"):
            self.assertIsNone(hour_end(bad), bad)

    def test_times_without_a_name(self) -> None:
        """A release time beyond all calendars still has a directory."""
        self.assertEqual(
            minute_start(parts(LAYOUT.minute(1e15))[1]), 253_402_300_000 // 60 * 60
        )
        self.assertEqual(minute_start(parts(LAYOUT.minute(-5.0))[1]), 0)

    def test_names_sort_by_time(self) -> None:
        """A sorted listing is in the order of time."""
        names = [LAYOUT.minute(T0 + 60 * step) for step in (0, 1, 59, 60, 1440, 44640)]
        self.assertEqual(names, sorted(names))
