"""Tests of which exchangers are tried, and where they may be."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.route import CannotSay, Exchanger, Found, NoSuchName
from fwd_mta.rules.exchangers import (
    Unroutable,
    interleave,
    is_address,
    is_public,
    order,
    share,
)

Answer = Found[Exchanger] | NoSuchName | CannotSay
US = frozenset({"mail.us.example"})


def _found(*records: tuple[int, str]) -> Found[Exchanger]:
    return Found(tuple(Exchanger(preference, name) for preference, name in records))


def _names(answer: Answer, draws: tuple[float, ...] = ()) -> list[str]:
    chances = iter(draws)
    ordered = order("example.com", answer, US, lambda: next(chances, 0.5))
    assert not isinstance(ordered, Unroutable), ordered
    return [each.name for each in ordered]


def _why(answer: Answer) -> str:
    ordered = order("example.com", answer, US, lambda: 0.5)
    assert isinstance(ordered, Unroutable), ordered
    return ordered.kind


class OrderTests(SynchronousTestCase):
    """The exchangers of a domain (RFC 5321 5.1)."""

    def test_by_preference(self) -> None:
        """The lowest preference comes first."""
        answer = _found((20, "b.example"), (10, "A.example."), (30, "c.example"))
        self.assertEqual(_names(answer), ["a.example", "b.example", "c.example"])

    def test_equal_ones_are_shuffled(self) -> None:
        """Chance decides among equals, and only among them."""
        answer = _found((10, "a.example"), (10, "b.example"), (5, "c.example"))
        first = _names(answer, (0.1, 0.9, 0.5))
        second = _names(answer, (0.9, 0.1, 0.5))
        self.assertEqual(first, ["c.example", "a.example", "b.example"])
        self.assertEqual(second, ["c.example", "b.example", "a.example"])

    def test_implicit(self) -> None:
        """Without MX records the domain itself takes its mail."""
        self.assertEqual(_names(Found(())), ["example.com"])

    def test_null(self) -> None:
        """A lone "." says that there is no mail here (RFC 7505)."""
        self.assertEqual(_why(_found((0, "."))), "null-mx")
        self.assertEqual(_why(_found((0, ""))), "null-mx")

    def test_null_among_others(self) -> None:
        """Beside real exchangers "." is a mistake and is skipped."""
        answer = _found((0, "."), (10, "a.example"))
        self.assertEqual(_names(answer), ["a.example"])

    def test_no_such_domain(self) -> None:
        """NXDOMAIN fails at once; a failed look-up does not."""
        self.assertEqual(_why(NoSuchName("example.com")), "no-such-domain")
        self.assertEqual(_why(CannotSay("example.com", "SERVFAIL")), "dns-failure")

    def test_ourselves_and_worse(self) -> None:
        """We and what is no better than we are left out, against loops."""
        answer = _found(
            (10, "a.example"),
            (20, "mail.us.example"),
            (20, "b.example"),
            (30, "c.example"),
        )
        self.assertEqual(_names(answer), ["a.example"])

    def test_loop(self) -> None:
        """Where we are the best, mail would come back to us."""
        answer = _found((10, "Mail.Us.example."), (20, "b.example"))
        self.assertEqual(_why(answer), "loop")
        implicit = order("mail.us.example", Found(()), US, lambda: 0.5)
        assert isinstance(implicit, Unroutable)
        self.assertEqual(implicit.kind, "loop")

    def test_address_as_name(self) -> None:
        """An address where a name belongs is skipped; nothing else: unusable."""
        answer = _found((10, "192.0.2.1"), (20, "a.example"))
        self.assertEqual(_names(answer), ["a.example"])
        self.assertEqual(_why(_found((10, "192.0.2.1"))), "no-usable-exchanger")

    def test_doubles(self) -> None:
        """A name twice counts once, at its best preference."""
        answer = _found((20, "a.example"), (10, "b.example"), (5, "A.example"))
        self.assertEqual(_names(answer), ["a.example", "b.example"])

    def test_bounded(self) -> None:
        """A domain with a thousand exchangers gets twenty of them tried."""
        answer = _found(*((number, f"mx{number}.example") for number in range(1000)))
        self.assertEqual(len(_names(answer)), 20)
        self.assertEqual(_names(answer)[0], "mx0.example")


class AddressTests(SynchronousTestCase):
    """Where strangers may send us."""

    def test_public(self) -> None:
        """Addresses of the open net are fine."""
        for address in ("192.0.2.1", "8.8.8.8", "2001:db8::1", "172.32.0.1"):
            self.assertTrue(is_public(address, frozenset()), address)

    def test_inside(self) -> None:
        """Loopback, private, link-local, multicast, nowhere: refused."""
        for address in (
            *("127.0.0.1", "127.255.0.9", "0.0.0.0", "0.1.2.3", "10.0.0.1"),
            *("172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
            *("100.64.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1"),
            *("fc00::1", "fd12::1", "fec0::1", "ff02::1"),
        ):
            self.assertFalse(is_public(address, frozenset()), address)

    def test_hidden_inside(self) -> None:
        """An inside address in the clothes of another family is refused too."""
        for address in (
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "2002:7f00:1::1",
            "64:ff9b::7f00:1",
        ):
            self.assertFalse(is_public(address, frozenset()), address)

    def test_own(self) -> None:
        """Our own addresses are refused, however they are written."""
        own = frozenset({"192.0.2.9", "2001:db8::9"})
        for address in ("192.0.2.9", "::ffff:192.0.2.9", "2001:db8:0::9"):
            self.assertFalse(is_public(address, own), address)
        self.assertTrue(is_public("192.0.2.8", own))

    def test_no_address(self) -> None:
        """What is no address is nowhere to go."""
        self.assertFalse(is_public("localhost", frozenset()))
        self.assertFalse(is_address("localhost"))
        self.assertTrue(is_address("::1"))


class InterleaveTests(SynchronousTestCase):
    """Which addresses of a host are tried, in turns."""

    def test_families_take_turns(self) -> None:
        """One dead family costs every second try only."""
        mixed = interleave(["1.1.1.1", "1.1.1.2", "1.1.1.3", "::1", "::2"])
        self.assertEqual(mixed, ("1.1.1.1", "::1", "1.1.1.2", "::2", "1.1.1.3"))

    def test_limit(self) -> None:
        """At most five, of both families where there are both."""
        addresses = [f"1.1.1.{number}" for number in range(9)] + ["::1"]
        mixed = interleave(addresses)
        self.assertEqual(len(mixed), 5)
        self.assertIn("::1", mixed)

    def test_one_family(self) -> None:
        """One family alone keeps its order; none is none."""
        self.assertEqual(interleave(["::2", "::1"]), ("::2", "::1"))
        self.assertEqual(interleave([]), ())

    def test_share(self) -> None:
        """Several exchangers share the five addresses of a try."""
        self.assertEqual([share(count) for count in (1, 2, 3, 9)], [5, 3, 2, 2])
