"""Tests for what is near: order, minutes, bounds."""

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.queue import agenda as module
from fwd_mta.queue.agenda import Agenda
from fwd_mta.queue.layout import Layout
from tests.builders import T0

LAYOUT = Layout("/srv")
MINUTE = LAYOUT.minute(T0)


class AgendaTests(SynchronousTestCase):
    """`Agenda`."""

    @override
    def setUp(self) -> None:
        self.agenda = Agenda()

    def test_earliest_first(self) -> None:
        """What is due is taken in the order of its time, and only what is due."""
        for name, due in [("c", 3.0), ("a", 1.0), ("b", 2.0)]:
            self.agenda.add(name, due, f"/p/{name}")
        self.assertEqual(self.agenda.next_due(), 1.0)
        self.assertEqual(self.agenda.take(2.5, 9), [("a", "/p/a"), ("b", "/p/b")])
        self.assertEqual(self.agenda.next_due(), 3.0)
        self.assertEqual(self.agenda.take(2.5, 9), [])

    def test_a_new_time_replaces_the_old(self) -> None:
        """An entry is near once, whatever was said of it before."""
        self.agenda.add("a", 1.0, "/p/a")
        self.agenda.add("a", 5.0, "/q/a")
        self.assertEqual(self.agenda.take(2.0, 9), [])
        self.assertEqual(self.agenda.take(9.0, 9), [("a", "/q/a")])
        self.assertIsNone(self.agenda.next_due())

    def test_forgetting(self) -> None:
        """What is forgotten is not taken; where it lay is told."""
        self.agenda.add("a", 1.0, "/p/a")
        self.assertEqual(self.agenda.path("a"), "/p/a")
        self.assertEqual(self.agenda.forget("a"), "/p/a")
        self.assertIsNone(self.agenda.forget("a"))
        self.assertEqual(self.agenda.path("a"), "")
        self.assertEqual(self.agenda.take(9.0, 9), [])

    def test_a_minute_is_read_when_it_begins(self) -> None:
        """Not before; and only one at a time, the earliest."""
        later = LAYOUT.minute(T0 + 60)
        for minute in (later, MINUTE, MINUTE):
            self.agenda.expect(minute)
        self.assertEqual(self.agenda.next_due(), T0)
        self.assertIsNone(self.agenda.minute_to_read(T0 - 1))
        self.assertEqual(self.agenda.minute_to_read(T0 + 90), MINUTE)
        self.assertEqual(self.agenda.minute_to_read(T0 + 90), MINUTE)
        self.assertEqual(self.agenda.next_due(), T0)
        self.agenda.was_read()
        self.assertEqual(self.agenda.minute_to_read(T0 + 90), later)
        self.assertEqual(self.agenda.read_minutes(), [MINUTE])
        self.assertTrue(self.agenda.is_open(MINUTE))
        self.agenda.close(MINUTE)
        self.assertFalse(self.agenda.is_open(MINUTE))

    def test_what_is_due_goes_before_a_later_minute(self) -> None:
        """A minute is not read while something no later is ready."""
        self.agenda.expect(MINUTE)
        self.agenda.add("a", T0 - 10, "/p/a")
        self.assertIsNone(self.agenda.minute_to_read(T0 + 30))
        self.agenda.take(T0 + 30, 1)
        self.assertEqual(self.agenda.minute_to_read(T0 + 30), MINUTE)

    def test_what_is_near_is_bounded(self) -> None:
        """With enough near, no more names are read, and none are said to be due."""
        self.patch(module, "LOOKAHEAD", 3)
        self.agenda.expect(MINUTE)
        for number in range(3):
            self.agenda.add(str(number), T0 + 100, "/p")
        self.assertTrue(self.agenda.is_full)
        self.assertIsNone(self.agenda.minute_to_read(T0 + 30))
        self.assertEqual(self.agenda.next_due(), T0 + 100)

    def test_a_directory_that_is_no_minute(self) -> None:
        """Other directories are never read."""
        for path in ("/srv/queue/hold", "/srv/queue/deferred/20270132T0000"):
            self.agenda.expect(path)
        self.assertIsNone(self.agenda.next_due())
