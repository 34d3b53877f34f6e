"""Queue ids."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.rules.identity import entry_id, is_entry_id, notice_id
from tests.builders import T0


class EntryIdTests(SynchronousTestCase):
    """Ids are unique, ordered by time, and safe as a file name."""

    def test_later_ids_sort_later(self) -> None:
        """Sorting ids sorts by the time of arrival."""
        ids = [entry_id(T0 + n * 0.001, b"\xff" * 8) for n in range(100)]
        self.assertEqual(ids, sorted(ids))
        self.assertEqual(len(set(ids)), 100)

    def test_the_same_moment_with_other_chance_differs(self) -> None:
        """Two messages of one millisecond have two ids."""
        one, other = entry_id(T0, b"abcdefgh"), entry_id(T0, b"abcdefgi")
        self.assertNotEqual(one, other)

    def test_what_is_an_id(self) -> None:
        """Only ids of ours become file names: no path, no dot, no capital."""
        self.assertTrue(is_entry_id(entry_id(T0, b"12345678")))
        self.assertTrue(is_entry_id(notice_id(entry_id(T0, b"12345678"), 12)))
        for bad in (
            "",
            "../../etc/passwd",
            "0123456789bcdfg",
            "0123456789BCDFGH",
            "0123456789bcdfgh-",
            "0123456789bcdfgh\n",
            "0123456789bcdfgh-1-2",
        ):
            self.assertFalse(is_entry_id(bad), bad)

    def test_a_notice_is_named_for_its_cause(self) -> None:
        """The same cause and number give the same id, so paying twice writes once."""
        cause = entry_id(T0, b"12345678")
        self.assertEqual(notice_id(cause, 1), f"{cause}-1")
