"""A certificate authority for one run, and what it issues."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

_LIFE = timedelta(days=2)
LOOPBACK = (
    x509.DNSName("localhost"),
    x509.DNSName("mail.interop.example"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Authority:
    """Signs server certificates; `certificate` is the file that clients trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.certificate = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("fwd_mta interop")
        root = (
            self._begin(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, SHA256())
        )
        self.certificate.write_bytes(root.public_bytes(Encoding.PEM))

    def _begin(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        life: timedelta = _LIFE,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        issuing = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._key.public_key()
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + life)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
                critical=False,
            )
            .add_extension(issuing, critical=False)
        )

    def issue(
        self,
        chain: Path,
        private_key: Path,
        names: Sequence[x509.GeneralName] = LOOPBACK,
        life: timedelta = _LIFE,
    ) -> int:
        """Write a fresh certificate, for this machine's loopback; its serial number.

        Its issuer follows it in the chain. A negative `life` is one that is over.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = (
            self._begin(_named("fwd_mta interop leaf"), key, life)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, SHA256())
        )
        private_key.write_bytes(_key_text(key))
        private_key.chmod(0o600)
        octets = leaf.public_bytes(Encoding.PEM) + self.certificate.read_bytes()
        chain.write_bytes(octets)
        return leaf.serial_number
