"""Where mail to an address would go now, without sending any."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.route import Destination, TlsLevel, Via
from fwd_mta.outbound.agent import AgentSettings
from fwd_mta.outbound.outlook import Outlook, outlook
from fwd_mta.rules.routing import RoutingTable, parse_transport
from fwd_mta.world.names import TableResolver

NAMES = TableResolver(
    {
        "example.net": [(20, "mx2.example.net"), (10, "mx1.example.net")],
        "null.example": [(0, ".")],
        "us.example": [(10, "mail.example.com")],
        "inside.example": [(10, "inside.example")],
        "odd.example": [(10, "gone.example"), (20, "broken.example")],
    },
    {
        "mx1.example.net": ["203.0.113.5", "2001:db8::5"],
        "mx2.example.net": ["203.0.113.6"],
        "mail.example.com": ["198.51.100.1"],
        "bare.example": ["203.0.113.7"],
        "inside.example": ["10.0.0.1"],
    },
    failing=("broken.example", "failing.example"),
)


class OutlookTests(SynchronousTestCase):
    """`outlook`."""

    def look(
        self, domain: str, table: RoutingTable | None = None, **how: bool
    ) -> Outlook:
        """Look at bob's address there."""
        settings = AgentSettings("mail.example.com", **how)  # type: ignore[arg-type]
        asked = outlook(
            Mailbox("bob", domain), table or RoutingTable(), NAMES, settings
        )
        return self.successResultOf(Deferred.fromCoroutine(asked))

    def test_exchangers(self) -> None:
        """Exchangers come in the order they would be tried, with their addresses."""
        found = self.look("example.net")
        self.assertIn("mail exchangers of example.net, port 25", found.via)
        self.assertEqual((found.decided_by, found.trouble), ("DNS", ""))
        self.assertTrue(found.tls.startswith("may: "))
        self.assertEqual(
            [(stop.preference, stop.name) for stop in found.stops],
            [(10, "mx1.example.net"), (20, "mx2.example.net")],
        )
        self.assertEqual(found.stops[0].addresses, ("203.0.113.5", "2001:db8::5"))

    def test_what_would_not_go(self) -> None:
        """Each reason for mail to stay, or to fail, is told before any is sent."""
        for domain, words in (
            ("null.example", "takes no mail: it would fail"),
            ("nowhere.example", "does not exist: it would fail"),
            ("failing.example", "it would wait and be tried again"),
            ("us.example", "is this host"),
            ("odd.example", "no host can be tried"),
            ("inside.example", "no host can be tried"),
        ):
            self.assertIn(words, self.look(domain).trouble, domain)
        gone, broken = self.look("odd.example").stops
        self.assertEqual(gone.trouble, "has no address")
        self.assertIn("SERVFAIL", broken.trouble)
        (inside,) = self.look("inside.example").stops
        self.assertIn("10.0.0.1, where no mail of strangers goes", inside.trouble)

    def test_a_private_network(self) -> None:
        """Where private addresses are allowed they are shown like others."""
        found = self.look("inside.example", allow_private_destinations=True)
        self.assertEqual(found.stops[0].addresses, ("10.0.0.1",))

    def test_what_an_operator_wrote(self) -> None:
        """The setting that decides is named."""
        relay = Destination(Via.HOST, "10.1.1.1", 587, TlsLevel.SECURE, trusted=True)
        transports = {
            "one.example": parse_transport("discard"),
            ".two.example": parse_transport("error:5.1.1 moved"),
            "three.example": parse_transport("lmtp:unix:/run/lmtp"),
        }
        table = RoutingTable(relay, transports)
        for domain, decided, via in (
            ("one.example", 'delivery.transport, "one.example"', "thrown away"),
            ("a.two.example", 'delivery.transport, ".two.example"', "5.1.1 moved"),
            ("three.example", 'delivery.transport, "three.example"', "/run/lmtp"),
            ("example.net", "delivery.relayhost", "to 10.1.1.1, port 587"),
        ):
            found = self.look(domain, table)
            self.assertEqual((found.decided_by, found.trouble), (decided, ""), domain)
            self.assertIn(via, found.via)
        self.assertIn("secure: always", self.look("example.net", table).tls)

    def test_a_host_without_exchangers(self) -> None:
        """A name without MX takes its mail itself (RFC 5321 5.1)."""
        (stop,) = self.look("bare.example").stops
        self.assertEqual(stop.addresses, ("203.0.113.7",))
