"""The shipped fail2ban filter takes the lines that a guesser makes, and no others."""

import re
from configparser import RawConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.events import Refused
from fwd_mta.net.log import line
from tests.inbound.bench import Bench

FILTER = Path(__file__).parent.parent / "etc/fail2ban/filter.d/fwdmta.conf"
HOST = r"(?P<host>[0-9a-fA-F:.]+)"
STAMP = "2026-11-24T15:35:11+0000 [fwd_mta#info] "


def found(text: str) -> str | None:
    """The client that a line of the log accuses, as fail2ban would see it."""
    parser = RawConfigParser()
    parser.read(FILTER)
    pattern = parser["Definition"]["failregex"].replace("<HOST>", HOST)
    match = re.search(pattern, text)
    return match["host"] if match else None


class FilterTests(SynchronousTestCase):
    """`etc/fail2ban/filter.d/fwdmta.conf`."""

    def test_real_guesses(self) -> None:
        """Wrong passwords of a real dialogue are seen, each with its client."""
        bench = Bench()
        wire = bench.connect("192.0.2.66")
        wire.say("EHLO guesser")
        for _ in range(3):
            wire.say("AUTH PLAIN AGFubkBleGFtcGxlLmNvbQB3cm9uZw==")
        refused = [one for one in bench.events if isinstance(one, Refused)]
        self.assertEqual(
            [found(STAMP + line(one)) for one in refused], ["192.0.2.66"] * 3
        )

    def test_all_forms(self) -> None:
        """IPv6, no address, and the last word before we cut off are seen too."""
        wrong = "535 5.7.8 Authentication failed: wrong login or password"
        for client, account, reply in (
            ("2001:db8::7", "", wrong),
            ("192.0.2.7", "ann@example.com", wrong),
            ("192.0.2.7", "a b\r\n", "Too many failed logins, closing"),
        ):
            text = line(Refused(client, account, "AUTH", reply))
            self.assertEqual(found(STAMP + text), client, text)

    def test_nobody_is_accused_by_words(self) -> None:
        """What a client says itself cannot look like a guess of somebody else."""
        wrong = "535 5.7.8 wrong"
        forged = f'x"\n{STAMP}refused client=192.0.2.1 where=AUTH reply="{wrong}"'
        for event in (
            Refused("203.0.113.9", forged, "MAIL", "553 5.7.1 not yours"),
            Refused("203.0.113.9", "", "RCPT", forged),
            Refused("203.0.113.9", "", "AUTH", "454 4.7.0 later"),
        ):
            self.assertNotEqual(found(STAMP + line(event)), "192.0.2.1")
            self.assertIsNone(found(STAMP + line(event)))
