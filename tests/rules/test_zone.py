"""Tests for the records a domain publishes."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.rules.signing import SigningKey, record
from fwd_mta.rules.zone import Wanted, fault, wanted

KEY = SigningKey("example.com", "s1", Ed25519PrivateKey.generate())
HOST = "mail.example.net"
SPF = Wanted("example.com", "TXT", f"v=spf1 a:{HOST} ~all", "")
DMARC = Wanted("_dmarc.example.com", "TXT", "v=DMARC1; p=none; rua=mailto:x@y.z", "")

# record, what DNS gives, what the fault says ("" is none)
FAULTS: list[tuple[Wanted, list[str], str]] = [
    (SPF, [f"v=spf1 a:{HOST} ~all"], ""),
    (SPF, ["other", f"V=spf1  mx A:{HOST.upper()} -all"], ""),
    (SPF, ["v=spf1 include:_spf.example.org -all"], ""),
    (SPF, ["v=spf1 redirect=_spf.example.org"], ""),
    (SPF, ["v=spf1 mx -all"], f"a:{HOST} is missing"),
    (SPF, ["v=spf10 a:x"], "not there"),
    (SPF, [], "not there"),
    (SPF, ["v=spf1 -all", f"v=spf1 a:{HOST} -all"], "2 records begin with v=spf1"),
    (DMARC, ["v=DMARC1; p=reject"], ""),
    (DMARC, ["v=DMARC1; p=none", "v=DMARC1; p=reject"], "2 records"),
    (DMARC, ["v=spf1 -all"], "not there"),
]


class WantedTests(SynchronousTestCase):
    """The records, as a zone file has them."""

    def test_all(self) -> None:
        """Each has its name and a reason; DKIM is there for each key."""
        records = list(wanted("example.com", HOST, keys=[KEY]))
        names = [f"{one.name} {one.kind}" for one in records]
        self.assertEqual(
            names,
            [
                "example.com TXT",
                "s1._domainkey.example.com TXT",
                "_dmarc.example.com TXT",
                "_submissions._tcp.example.com SRV",
                "_submission._tcp.example.com SRV",
                "_smtp._tls.example.com TXT",
            ],
        )
        self.assertTrue(all(one.why for one in records))
        self.assertEqual(records[1].value, record(KEY))
        self.assertIn("rua=mailto:postmaster@example.com", records[2].value)

    def test_addresses(self) -> None:
        """Where we send from addresses of our own, SPF names them."""
        addresses = ("192.0.2.1", "2001:db8::1")
        spf = next(wanted("example.com", HOST, addresses=addresses))
        self.assertEqual(spf.value, "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ~all")

    def test_long_text(self) -> None:
        """A long record is split into strings, of which DNS makes one again."""
        long = Wanted("x.example.com", "TXT", "k" * 500, "")
        strings = long.line.split('"')[1::2]
        self.assertEqual("".join(strings), "k" * 500)
        self.assertTrue(all(len(one) <= 255 for one in strings))
        self.assertTrue(long.line.startswith("x.example.com. IN TXT ( "))


class FaultTests(SynchronousTestCase):
    """What is wrong with what is published."""

    def test_table(self) -> None:
        """Each row of the table."""
        for record_, found, said in FAULTS:
            given = fault(record_, found)
            if said:
                self.assertIn(said, given or "", (record_.value, found))
            else:
                self.assertIsNone(given, (record_.value, found))

    def test_exact_ones(self) -> None:
        """A key or a service has to be the same but for blanks."""
        for one in wanted("example.com", HOST, keys=[KEY]):
            if one.kind == "SRV" or "_domainkey" in one.name:
                self.assertIsNone(fault(one, ["other", one.value.replace(" ", "  ")]))
                self.assertIn("found 'other'", fault(one, ["other"]) or "")
                self.assertEqual(fault(one, []), "not there")
