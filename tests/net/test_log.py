"""Events as log lines."""

import io
import os
from threading import Thread

from twisted.internet.task import Clock
from twisted.logger import (
    ILogObserver,
    Logger,
    formatTime,
    globalLogPublisher,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Accepted, Lifecycle, Refused, Trouble
from fwd_mta.net.log import EventLog, line
from fwd_mta.world.machine import VirtualWall


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


class GatheringTests(SynchronousTestCase):
    """Lines of one turn in one write, and everything else as twistd would."""

    @override
    def setUp(self) -> None:
        """Take the place of twistd's observers."""
        self.file = io.StringIO()
        self.writes: list[str] = []
        self.clock = Clock()
        self.wall = VirtualWall(self.clock)
        self.kept = list(globalLogPublisher._observers)
        self.addCleanup(self.use, *self.kept)

    def use(self, *observers: ILogObserver) -> None:
        """Have these observers, and no others."""
        for one in list(globalLogPublisher._observers):
            globalLogPublisher.removeObserver(one)
        for one in observers:
            globalLogPublisher.addObserver(one)

    def gathering(self) -> EventLog:
        """A log that writes as twistd's text observer does."""
        write = self.file.write

        def noted(text: str) -> int:
            self.writes.append(text)
            return write(text)

        self.file.write = noted  # type: ignore[method-assign]
        self.use(textFileLogObserver(self.file))
        log = EventLog()
        log.gather(self.clock, self.wall)
        return log

    def test_one_write_a_turn(self) -> None:
        """Three events of a turn are three lines, in one write, when it ends."""
        log = self.gathering()
        for number in range(3):
            log(Lifecycle(f"step{number}"))
        self.assertEqual(self.writes, [])
        self.clock.advance(0)
        self.assertEqual(len(self.writes), 1)
        stamp = formatTime(self.wall.now())
        expected = [f"{stamp} [fwd_mta#info] lifecycle what=step{n}" for n in range(3)]
        self.assertEqual(self.file.getvalue().splitlines(), expected)

    def test_same_as_twistd(self) -> None:
        """A line looks exactly as it does without gathering."""
        log = self.gathering()
        log(Lifecycle("a"))
        self.clock.advance(0)
        gathered = self.file.getvalue().partition(" ")[2]
        plain = io.StringIO()
        self.use(textFileLogObserver(plain))
        EventLog()(Lifecycle("a"))
        self.assertEqual(gathered, plain.getvalue().partition(" ")[2])

    def test_order(self) -> None:
        """Trouble, and what others log, comes after what was said before it."""
        log = self.gathering()
        log(Lifecycle("first"))
        log(Trouble("disk", "second"))
        log(Lifecycle("third"))
        Logger().info("fourth")
        words = [one.split()[-1] for one in self.file.getvalue().splitlines()]
        self.assertEqual(words, ["what=first", "what=second", "what=third", "fourth"])

    def test_time(self) -> None:
        """Each line bears the time of its event, not of the write."""
        log = self.gathering()
        begun = self.wall.now()
        log(Lifecycle("early"))
        self.wall.jump(5)
        log(Lifecycle("late"))
        log.flush()
        stamps = [one.split()[0] for one in self.file.getvalue().splitlines()]
        self.assertEqual(stamps, [formatTime(begun), formatTime(begun + 5)])

    def test_much(self) -> None:
        """What waits for the end of a turn is bounded."""
        log = self.gathering()
        for _ in range(2000):
            log(Lifecycle("x" * 400))
        self.assertGreater(len(self.writes), 1)
        self.assertLess(max(map(len, self.writes)), 512 * 1024)

    def test_other_observers(self) -> None:
        """JSON, and syslog beside text, get each event as Twisted gives it."""
        heard: list[object] = []
        for others in ([jsonFileLogObserver(self.file)], [heard.append]):
            self.use(textFileLogObserver(io.StringIO()), *others)
            log = EventLog()
            log.gather(self.clock, self.wall)
            log(Lifecycle("now"))
        self.assertIn('"line": "lifecycle what=now"', self.file.getvalue())
        self.assertEqual(len(heard), 1)

    def test_full_disk(self) -> None:
        """A log that cannot be written ends nothing."""
        log = self.gathering()
        self.file.close()
        log(Lifecycle("unheard"))
        self.clock.advance(0)
        self.assertEqual(log.counts["Lifecycle"], 1)

    def test_other_threads(self) -> None:
        """An event of another thread does not touch the reactor's timers."""
        log = self.gathering()
        thread = Thread(target=log, args=(Lifecycle("elsewhere"),))
        thread.start()
        thread.join()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIn("what=elsewhere", self.file.getvalue())

    def test_rotation(self) -> None:
        """A rotating log of twistd cuts between lines."""
        path = self.mktemp()
        os.mkdir(path)
        rotating = LogFile("log", path, rotateLength=2000)
        self.addCleanup(rotating.close)
        self.use(textFileLogObserver(rotating))  # type: ignore[arg-type]
        log = EventLog()
        log.gather(self.clock, self.wall)
        for number in range(100):
            log(Lifecycle(f"step{number}"))
            self.clock.advance(0)
        names = os.listdir(path)
        self.assertGreater(len(names), 2)
        text = ""
        for name in names:
            with open(f"{path}/{name}", encoding="utf-8") as file:  # noqa: PTH123
                text += file.read()
        self.assertEqual(text.count("lifecycle what=step"), 100)
        self.assertTrue(all("#info]" in one for one in text.splitlines()))
