"""`fwdmta check --deep`: what the world sees of us."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.deep_check import FAIL, OK, WARN, Finding, findings
from fwd_mta.config import parse
from fwd_mta.world.certificates import Authority
from fwd_mta.world.disk import MemoryDisk

NOW = 1_800_000_000.0
HOST = "mail.example.com"
CONFIGURATION = f"""
hostname = "{HOST}"
state_dir = "/state"
[tls]
certificate = "/tls/chain"
private_key = "/tls/key"
"""
NAMES = {
    (HOST, "A"): ["192.0.2.1"],
    ("1.2.0.192.in-addr.arpa", "PTR"): [f"{HOST}."],
}


class DeepCheckTests(SynchronousTestCase):
    """`findings` over a disk and names in memory."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.names: dict[tuple[str, str], list[str]] = dict(NAMES)
        self.disk.make_directory("/tls")
        self.disk.make_directory("/state")
        self.write("/tls/chain", Authority(NOW).issue(HOST)[0])

    def write(self, path: str, octets: bytes) -> None:
        """Put a file in place."""
        if self.disk.exists(path):
            self.disk.remove(path)
        file = self.disk.create(path)
        file.append(octets)
        file.close()

    def ask(self, name: str, kind: str) -> Sequence[str]:
        """DNS of the test."""
        return self.names.get((name, kind), ())

    def found(self, what: str, *, at: float = NOW, extra: str = "") -> Finding:
        """The finding about something."""
        configuration = parse(CONFIGURATION + extra, "/fwdmta.toml")
        seen = findings(configuration, self.ask, self.disk, at)
        return next(one for one in seen if one.what.startswith(what))

    def test_all_right(self) -> None:
        """Name, address, certificate and disk are right; no key is a warning."""
        for what in ("certificate", "disk", "name", "address"):
            self.assertEqual(self.found(what).state, OK, what)
        self.assertEqual(self.found("dkim").state, WARN)
        self.assertFalse(self.disk.exists("/state/.check"))

    def test_certificate_ends(self) -> None:
        """It is told in time, and when it is too late."""
        days = self.found("certificate").found
        left = int(days.rpartition("in ")[2].split()[0])
        for more, state in ((left - 5, WARN), (left + 2, FAIL)):
            given = self.found("certificate", at=NOW + more * 86400.0)
            self.assertEqual(given.state, state, given)
            self.assertIn("renew", given.cure)

    def test_certificate_unreadable(self) -> None:
        """No certificate at all is told as such."""
        self.write("/tls/chain", b"no certificate")
        self.assertEqual(self.found("certificate").state, FAIL)

    def test_no_address(self) -> None:
        """A name without an address is told with the record to publish."""
        del self.names[HOST, "A"]
        given = self.found("name")
        self.assertEqual(given.state, FAIL)
        self.assertIn(f"{HOST}. IN A", given.cure)

    def test_reverse_names(self) -> None:
        """No PTR, one that does not lead back, and one with another name."""
        pointer = ("1.2.0.192.in-addr.arpa", "PTR")
        for names, state in (
            ([], FAIL),
            (["other.example.org."], FAIL),
            (["web.example.com."], WARN),
        ):
            self.names[pointer] = names
            self.names["web.example.com", "A"] = ["192.0.2.1"]
            given = self.found("address 192.0.2.1")
            self.assertEqual(given.state, state, given)
            self.assertIn(f"IN PTR {HOST}.", given.cure)

    def test_domains(self) -> None:
        """Each record of a domain that we sign for, with the line to paste."""
        key_file = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        self.write("/dkim", key_file)
        table = (
            '[[dkim]]\ndomain = "example.com"\nselector = "s1"\nprivate_key = "/dkim"\n'
        )
        self.names["example.com", "TXT"] = [f"v=spf1 a:{HOST} -all"]
        self.assertEqual(self.found("example.com TXT", extra=table).state, OK)
        given = self.found("_dmarc.example.com", extra=table)
        self.assertEqual(given.state, FAIL)
        self.assertIn("v=DMARC1", given.cure)
        self.assertEqual(self.found("_submission._tcp", extra=table).state, WARN)
        key = self.found("s1._domainkey.example.com", extra=table)
        self.assertIn("publish: s1._domainkey.example.com. IN TXT", key.cure)
