"""Events as log lines."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.events import Accepted, Lifecycle, Refused, Trouble
from fwd_mta.net.log import EventLog, line


class LineTests(SynchronousTestCase):
    """What an operator greps."""

    def test_plain_fields(self) -> None:
        """An accepted message is one line of key=value."""
        event = Accepted(
            "0123", "ann@example.com", "192.0.2.1", "ann@example.com", 2, 9
        )
        self.assertEqual(
            line(event),
            "accepted id=0123 account=ann@example.com client=192.0.2.1"
            " sender=ann@example.com recipients=2 size=9",
        )

    def test_nothing_from_the_wire_makes_a_line_of_its_own(self) -> None:
        """CR, LF, ESC and quotes of a client are escaped (guarantee 19)."""
        hostile = Refused(
            "192.0.2.1", "", "MAIL", 'no\r\nforged id=1\x1b[31m "x"\u2028'
        )
        written = line(hostile)
        self.assertTrue(written.isprintable())
        self.assertIn("\\r\\nforged", written)
        self.assertTrue(written.isascii())

    def test_lines_are_bounded(self) -> None:
        """A megabyte of text does not become a megabyte of log."""
        self.assertTrue(len(line(Trouble("x", "y" * 1_000_000))) < 1200)

    def test_counts(self) -> None:
        """Every event is counted by its kind."""
        log = EventLog()
        log(Lifecycle("started"))
        log(Lifecycle("stopped"))
        self.assertEqual(log.counts["Lifecycle"], 2)
