"""Must-show: a wrong schedule shows its damage before it goes live."""

import json
from random import Random
from xml.etree import ElementTree as ET

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.config import Configuration, parse
from fwd_mta.simulation.forecast import Fault, FaultError, Forecast, Outcome
from fwd_mta.simulation.report import span, svg, table, warnings
from fwd_mta.simulation.traffic import DAY, HOUR, Mail, TrafficError, made_up, read

DOWN = Fault("down", "example.net", 0.0, 9 * HOUR)
MAILS = [
    Mail(60.0, "ann@example.com", ("bob@example.net", "b+unknown@example.org")),
    Mail(2 * HOUR, "ann@example.com", ("bob@example.net",)),
    Mail(3 * HOUR, "eve@example.com", ("carol+greylist@example.org",)),
]


def configured(queue: str = "") -> Configuration:
    """The defaults, but for some lines."""
    return parse(f'hostname = "mail.example.com"\n{queue}', "fwdmta.toml")


WRONG = configured(
    '[queue]\nminimal_backoff_time = "12h"\nmaximal_backoff_time = "10d"\n'
    'maximal_queue_lifetime = "2d"\nbounce_queue_lifetime = "1d"\n'
)


class ForecastTests(SynchronousTestCase):
    """`fwd_mta.simulation.forecast`."""

    def lived(self, configuration: Configuration, *faults: Fault) -> Outcome:
        """What becomes of the mail."""
        return Forecast(configuration, MAILS, faults).run()

    def test_a_good_schedule(self) -> None:
        """All that can arrive does, soon after its host is there again."""
        outcome = self.lived(configured(), DOWN)
        self.assertEqual(outcome.messages, 3)
        self.assertEqual(outcome.recipients, 4)
        self.assertEqual(dict(outcome.ended), {"delivered": 3, "failed": 1})
        self.assertEqual(outcome.notices["failed"], 1)
        self.assertGreater(outcome.notices["delayed"], 0)
        self.assertTrue(9 * HOUR < max(outcome.waits) < 11 * HOUR, outcome.waits)
        self.assertEqual((outcome.left, outcome.never, outcome.refused), (0, 0, 0))
        self.assertGreaterEqual(outcome.peak, 1)
        self.assertEqual(sum(one.submitted for one in outcome.hours), 3)
        self.assertEqual(sum(one.delivered for one in outcome.hours), 3)

    def test_a_cap_above_the_lifetime(self) -> None:
        """It is warned of, and mail waits for longer than by the defaults."""
        self.assertTrue(
            any(
                "is above queue.maximal_queue_lifetime" in one
                for one in warnings(WRONG)
            )
        )
        self.assertTrue(any("tries in 2.0 d" in one for one in warnings(WRONG)))
        wrong, usual = self.lived(WRONG, DOWN), self.lived(configured(), DOWN)
        self.assertGreater(max(wrong.waits), max(usual.waits) + HOUR)
        self.assertGreater(wrong.worst_gap, 9 * HOUR)
        lines = list(table(wrong, usual))
        (row,) = [line for line in lines if "longest time without a try" in line]
        self.assertGreater(len(set(row.split("  "))), 2, row)

    def test_a_good_schedule_is_not_warned_of(self) -> None:
        """Nothing is wrong with the defaults."""
        self.assertEqual(list(warnings(configured())), [])

    def test_a_lifetime_that_is_too_short(self) -> None:
        """Mail is lost to a trouble that lasts longer."""
        short = configured(
            '[queue]\nmaximal_queue_lifetime = "4h"\ndelay_warning_time = "4h"\n'
        )
        outcome = self.lived(short, DOWN)
        self.assertEqual(outcome.never, 2)
        told = "\n".join(warnings(short))
        self.assertIn("a night's trouble loses it", told)
        self.assertIn("nobody hears of a delay", told)

    def test_limits(self) -> None:
        """What an account may send a day holds mail back at its clients."""
        limited = configured("[limits]\nmessages_per_account = 1\n")
        outcome = self.lived(limited)
        self.assertEqual(outcome.messages, 3)
        self.assertEqual(outcome.hours[0].submitted, 1)
        late = [n for n, one in enumerate(outcome.hours) if one.submitted]
        self.assertGreater(late[-1], 23)

    def test_each_fault(self) -> None:
        """Any trouble is over at last, and what it kept arrives."""
        for name in ("network", "silent", "blocklist", "busy", "full", "slow", "dns"):
            outcome = self.lived(configured(), Fault(name, "", 0.0, 2 * HOUR))
            self.assertEqual(outcome.ended["delivered"], 3, name)

    def test_faults_are_written_so(self) -> None:
        """A name, perhaps a domain, a start and a length; all else is refused."""
        self.assertEqual(Fault.parse("down"), Fault("down"))
        wanted = Fault("dns", "example.org", 2 * HOUR, DAY)
        self.assertEqual(Fault.parse("dns=Example.ORG@2h+1d"), wanted)
        for wrong in ("plague", "down@soon", "down@1h+never"):
            self.assertRaises(FaultError, Fault.parse, wrong)


class TrafficTests(SynchronousTestCase):
    """Mail from a file, or made up."""

    def test_a_file(self) -> None:
        """JSON lines, in any order; empty lines count for nothing."""
        lines = [
            json.dumps({"at": "1h", "from": "a@b.example", "to": "c@d.example"}),
            "",
            json.dumps(
                {"at": 5, "from": "a@b.example", "to": ["x@y.example"], "size": 9}
            ),
        ]
        self.assertEqual(
            read(lines, "traffic"),
            [
                Mail(5.0, "a@b.example", ("x@y.example",), 9),
                Mail(HOUR, "a@b.example", ("c@d.example",)),
            ],
        )

    def test_wrong_lines(self) -> None:
        """A line that is none is named, with what is wanted."""
        good = {"at": 1, "from": "a@b.example", "to": ["c@d.example"]}
        for wrong in (
            "no JSON",
            "[]",
            "{}",
            json.dumps(good | {"at": "soon"}),
            json.dumps(good | {"to": []}),
            json.dumps(good | {"from": "nobody at all"}),
            json.dumps(good | {"size": -1}),
        ):
            lines = [json.dumps(good), wrong]
            caught = self.assertRaises(TrafficError, read, lines, "traffic")
            self.assertIn("traffic, line 2: want {", str(caught))
        self.assertRaises(TrafficError, read, [], "traffic")

    def test_made_up(self) -> None:
        """The same seed is the same mail: most of it at work time."""
        mails, again = (made_up(2, Random(1)) for _ in range(2))  # noqa: S311
        self.assertEqual(mails, again)
        self.assertTrue(400 < len(mails) < 560, len(mails))
        work = [one for one in mails if 8 <= one.at / HOUR % 24 < 18]
        self.assertGreater(len(work), len(mails) / 2)


class PlotTests(SynchronousTestCase):
    """What is drawn and printed."""

    def test_svg(self) -> None:
        """The plot is well-formed, with a line for each figure."""
        outcome = Forecast(configured(), MAILS).run()
        root = ET.fromstring(svg(outcome, "<title> & more"))  # noqa: S314 - our own
        names = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
        self.assertEqual(names, ["submitted", "delivered", "waiting", "peak", "failed"])
        texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
        self.assertIn("<title> & more", texts)

    def test_nothing_at_all(self) -> None:
        """An outcome without anything is drawn and told too."""
        _ = ET.fromstring(svg(Outcome(), "nothing"))  # noqa: S314 - our own
        self.assertIn("messages accepted", "\n".join(table(Outcome(), None)))

    def test_spans(self) -> None:
        """Times are told in the unit that fits."""
        told = [span(one) for one in (0, 59, 90, 5400, 2 * DAY)]
        self.assertEqual(told, ["0 s", "59 s", "1.5 min", "1.5 h", "2.0 d"])
