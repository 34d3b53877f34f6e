"""TLSA records against certificate chains."""

from hashlib import sha256, sha512

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.rules.dane import proved, usable
from fwd_mta.world.certificates import Authority

NOW = 1_800_000_000.0
AUTHORITY = Authority(NOW)
OTHER = Authority(NOW, "another")
PEM, _ = AUTHORITY.issue("mx.example")
LEAF, ISSUER = x509.load_pem_x509_certificates(PEM)
CHAIN = [one.public_bytes(Encoding.DER) for one in (LEAF, ISSUER)]


def key(certificate: x509.Certificate) -> bytes:
    """The public key info of a certificate."""
    return certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def record(usage: int, selector: int, matching: int, octets: bytes) -> bytes:
    """A record about some octets."""
    hashed = {
        0: octets,
        1: sha256(octets).digest(),
        2: sha512(octets).digest(),
    }[matching]
    return bytes([usage, selector, matching]) + hashed


class DaneTests(SynchronousTestCase):
    """Which record proves what (RFC 7672 3)."""

    def fault(
        self, *records: bytes, chain: list[bytes] = CHAIN, named: bool = True
    ) -> str | None:
        """What is wrong with a chain."""
        return proved(usable(records), chain, NOW, is_named=named)

    def test_every_form(self) -> None:
        """Certificate and key, whole, SHA-256 and SHA-512, of leaf and issuer."""
        for usage, certificate in ((3, LEAF), (2, ISSUER)):
            der = certificate.public_bytes(Encoding.DER)
            for selector, octets in ((0, der), (1, key(certificate))):
                for matching in (0, 1, 2):
                    one = record(usage, selector, matching, octets)
                    self.assertIsNone(self.fault(one), (usage, selector, matching))

    def test_usage_3_checks_neither_name_nor_dates(self) -> None:
        """The key is enough."""
        one = record(3, 1, 1, key(LEAF))
        self.assertIsNone(self.fault(one, named=False))
        late = NOW + 400 * 86_400
        self.assertIsNone(proved(usable([one]), CHAIN, late, is_named=False))

    def test_usage_2_checks_both(self) -> None:
        """An issuer signs for many: the name has to be right, and the dates."""
        one = record(2, 1, 1, key(ISSUER))
        self.assertIsNotNone(self.fault(one, named=False))
        late = NOW + 400 * 86_400
        self.assertIsNotNone(proved(usable([one]), CHAIN, late, is_named=True))

    def test_the_wrong_one(self) -> None:
        """Another certificate, another issuer, a leaf as issuer, no chain at all."""
        other = x509.load_pem_x509_certificates(OTHER.issue("mx.example")[0])
        for one in (
            record(3, 1, 1, key(other[0])),
            record(3, 1, 1, key(ISSUER)),
            record(2, 1, 1, key(other[1])),
            record(2, 1, 1, key(LEAF)),
        ):
            self.assertIsNotNone(self.fault(one))
        self.assertIsNotNone(self.fault(record(3, 1, 1, key(LEAF)), chain=[]))
        self.assertIsNotNone(self.fault(record(3, 1, 1, b""), chain=[b"nonsense"]))

    def test_a_chain_that_does_not_fit_together(self) -> None:
        """A named issuer beside a leaf that it did not sign proves nothing."""
        foreign = x509.load_pem_x509_certificates(OTHER.issue("mx.example")[0])[0]
        chain = [foreign.public_bytes(Encoding.DER), CHAIN[1]]
        self.assertIsNotNone(self.fault(record(2, 1, 1, key(ISSUER)), chain=chain))

    def test_the_issuer_in_the_record(self) -> None:
        """An issuer that is written out whole need not be sent."""
        whole = record(2, 0, 0, ISSUER.public_bytes(Encoding.DER))
        self.assertIsNone(self.fault(whole, chain=CHAIN[:1]))

    def test_one_of_several_is_enough(self) -> None:
        """As during a change of keys."""
        wrong = record(3, 1, 1, b"old key")
        self.assertIsNone(self.fault(wrong, record(3, 1, 1, key(LEAF))))

    def test_unusable(self) -> None:
        """Usages 0 and 1, unknown numbers, wrong lengths (RFC 7672 3.1.3)."""
        for wire in (
            record(0, 1, 1, b"x"),
            record(1, 1, 1, b"x"),
            bytes([4, 1, 1]) + bytes(32),
            bytes([3, 2, 1]) + bytes(32),
            bytes([3, 1, 3]) + bytes(32),
            bytes([3, 1, 1]) + bytes(31),
            bytes([3, 1, 2]) + bytes(32),
            bytes([3, 1]),
            b"",
        ):
            self.assertEqual(usable([wire]), (), wire)
