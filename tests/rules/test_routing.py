"""Tests of where recipients go next."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.route import Destination, TlsLevel, Via
from fwd_mta.rules.routing import (
    RoutingTable,
    group,
    parse_key,
    parse_transport,
    route,
)


def _table(**entries: str) -> RoutingTable:
    named = {
        key.replace("_", "."): parse_transport(value) for key, value in entries.items()
    }
    return RoutingTable(transports=named)


class ParseTransportTests(SynchronousTestCase):
    """What an operator may write into the transport table."""

    def test_forms(self) -> None:
        """Every form of the page."""
        host, mx, lmtp = Via.HOST, Via.MX, Via.LMTP
        may, none = TlsLevel.MAY, TlsLevel.NONE
        for text, expected in (
            ("[10.1.2.3]:2525", Destination(host, "10.1.2.3", 2525, may, trusted=True)),
            (
                "[Mail.example]",
                Destination(host, "mail.example", 25, may, trusted=True),
            ),
            ("[::1]:26", Destination(host, "::1", 26, may, trusted=True)),
            ("hub.example", Destination(mx, "hub.example", 25, may, trusted=True)),
            ("hub.example:26", Destination(mx, "hub.example", 26, may, trusted=True)),
            ("mx", Destination(mx, "", 25, may)),
            ("discard", Destination(Via.DISCARD, "", 0)),
            ("error:5.1.1 gone away", Destination(Via.ERROR, "5.1.1 gone away", 0)),
            (
                "lmtp:unix:/run/l",
                Destination(lmtp, "unix:/run/l", 0, none, trusted=True),
            ),
            (
                "lmtp:box.example:24",
                Destination(lmtp, "box.example", 24, may, trusted=True),
            ),
            ("lmtp:[::1]:24", Destination(lmtp, "::1", 24, may, trusted=True)),
        ):
            self.assertEqual(parse_transport(text), expected, text)

    def test_defaults(self) -> None:
        """Port and level of the configuration hold where the entry says nothing."""
        parsed = parse_transport("hub.example", port=2525, tls=TlsLevel.SECURE)
        self.assertEqual((parsed.port, parsed.tls), (2525, TlsLevel.SECURE))

    def test_errors_say_what_is_allowed(self) -> None:
        """What is none of the forms is refused in plain words."""
        for text in (
            "",
            "[a.example",
            "[a.example]x25",
            "a b",
            "smtp:a:b",
            "[]:25",
            "é",
        ):
            fault = self.assertRaises(SyntaxFault, parse_transport, text)
            self.assertIn("[host]:port", str(fault))

    def test_bad_ports(self) -> None:
        """A port is a number from 1 to 65535."""
        for text in (
            "a.example:0",
            "a.example:65536",
            "[a.example]:",
            "a:9999999999999",
        ):
            fault = self.assertRaises(SyntaxFault, parse_transport, text)
            self.assertIn("port", str(fault))

    def test_bad_error_and_path(self) -> None:
        """An error needs its code and text, a socket its absolute path."""
        for text in ("error:", "error:no", "error:2.0.0 fine", "lmtp:unix:run/lmtp"):
            self.assertRaises(SyntaxFault, parse_transport, text)

    def test_keys(self) -> None:
        """Keys are compared in lower case, as A-labels."""
        self.assertEqual(parse_key("Example.COM"), "example.com")
        self.assertEqual(parse_key(".Bücher.example"), ".xn--bcher-kva.example")
        self.assertEqual(parse_key("*"), "*")
        self.assertEqual(parse_key("[192.0.2.1]"), "[192.0.2.1]")
        for text in ("", ".", "a b", "*.example.com"):
            self.assertRaises(SyntaxFault, parse_key, text)


class RouteTests(SynchronousTestCase):
    """The next hop of an address."""

    def test_by_dns(self) -> None:
        """Without any table the domain's MX decides; it is not trusted."""
        table = RoutingTable(port=2525, tls=TlsLevel.ENCRYPT)
        found = route(Mailbox("a", "Example.COM"), table)
        expected = Destination(Via.MX, "example.com", 2525, TlsLevel.ENCRYPT)
        self.assertEqual(found, expected)

    def test_relayhost(self) -> None:
        """All else goes to the relayhost, literals included."""
        relay = Destination(Via.HOST, "relay.example", 587, trusted=True)
        table = RoutingTable(relayhost=relay)
        self.assertEqual(route(Mailbox("a", "example.com"), table), relay)
        self.assertEqual(route(Mailbox("a", "[192.0.2.1]"), table), relay)

    def test_most_specific_key_wins(self) -> None:
        """Domain before parent, nearer parent before farther, all before "*"."""
        entries = {
            "a.b.example": "one.example",
            ".b.example": "two.example",
            ".example": "three.example",
            "*": "four.example",
        }
        table = RoutingTable(
            transports={key: parse_transport(value) for key, value in entries.items()}
        )
        for domain, hop in (
            ("a.b.example", "one.example"),
            ("A.B.Example", "one.example"),
            ("x.a.b.example", "two.example"),
            ("b.example", "three.example"),
            ("example", "four.example"),
            ("example.org", "four.example"),
        ):
            self.assertEqual(route(Mailbox("u", domain), table).next_hop, hop, domain)

    def test_mx_passes_a_relayhost(self) -> None:
        """The entry "mx" is the usual look-up; DNS is not trusted as operators are."""
        relay = Destination(Via.HOST, "relay.example", trusted=True)
        table = RoutingTable(relay, {".lists.example": parse_transport("mx")})
        found = route(Mailbox("a", "x.lists.example"), table)
        self.assertEqual(found, Destination(Via.MX, "x.lists.example"))
        self.assertFalse(found.trusted)

    def test_literals(self) -> None:
        """An address literal is its own host, and a stranger wrote it."""
        table = RoutingTable()
        for domain, address in (
            ("[192.0.2.1]", "192.0.2.1"),
            ("[IPv6:2001:db8::1]", "2001:db8::1"),
        ):
            found = route(Mailbox("a", domain), table)
            self.assertEqual(found, Destination(Via.HOST, address))
            self.assertFalse(found.trusted)

    def test_unknown_literals(self) -> None:
        """A literal of another kind, or none at all, is refused, not looked up."""
        for domain in ("[x400:c=fi]", "[300.1.2.3]", ""):
            found = route(Mailbox("a", domain), RoutingTable())
            self.assertIs(found.via, Via.ERROR, domain)
            self.assertTrue(found.next_hop.startswith("5.1.3 "))

    def test_mx_of_literal(self) -> None:
        """Also an "mx" entry finds the host that a literal names."""
        table = RoutingTable(transports={"*": parse_transport("mx")})
        found = route(Mailbox("a", "[192.0.2.1]"), table)
        self.assertEqual(found, Destination(Via.HOST, "192.0.2.1"))


class GroupTests(SynchronousTestCase):
    """Recipients that travel together."""

    def test_order_is_kept(self) -> None:
        """Each group keeps the order of its recipients, and each has one group."""
        one, two, three, four = (
            Recipient(Mailbox(local, domain))
            for local, domain in (
                ("1", "a.example"),
                ("2", "b.example"),
                ("3", "A.example"),
                ("4", "c.example"),
            )
        )
        table = _table(b_example="discard", c_example="discard")
        groups = group([one, two, three, four], table)
        self.assertEqual(list(groups.values()), [(one, three), (two, four)])

    def test_nobody(self) -> None:
        """No recipients, no groups."""
        self.assertEqual(group([], RoutingTable()), {})


class TlsPolicyTests(SynchronousTestCase):
    """`[[delivery.tls_policy]]`: a TLS level for one domain."""

    def test_the_most_specific_one(self) -> None:
        """By domain, then by what is above it; a relayhost keeps its own level."""
        policies = {"example.com": TlsLevel.SECURE, ".example.net": TlsLevel.NONE}
        table = RoutingTable(tls_policies=policies)
        levels = [
            route(Mailbox("a", domain), table).tls
            for domain in ("Example.com", "sub.example.net", "example.net")
        ]
        self.assertEqual(levels, [TlsLevel.SECURE, TlsLevel.NONE, TlsLevel.MAY])
        relay = parse_transport("[relay.example]", tls=TlsLevel.ENCRYPT)
        table = RoutingTable(relayhost=relay, tls_policies=policies)
        self.assertIs(route(Mailbox("a", "example.com"), table), relay)
