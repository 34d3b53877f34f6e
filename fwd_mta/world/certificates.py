"""An authority of our own, made for one run: certificates for demo and tests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=30)
_SKEW = timedelta(hours=1)


class Authority:
    """A certificate authority whose key never leaves memory.

    `pem` is the certificate to trust; `now` is a wall time. Keys come from the
    operating system, never from a seed.
    """

    def __init__(self, now: float, name: str = "fwd_mta demo authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self._from = datetime.fromtimestamp(now, UTC) - _SKEW
        builder = self._certificate(self._name, self._key.public_key(), authority=True)
        self._own = builder.sign(self._key, SHA256())
        self.pem = self._own.public_bytes(Encoding.PEM)

    def issue(self, *names: str) -> tuple[bytes, bytes]:
        """Make a server's certificate chain and key, PEM both, for names or addresses.

        ECDSA on P-256 (RFC 8422), which every client of today takes.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(names[0])
        builder = (
            self._certificate(subject, key.public_key(), authority=False)
            .add_extension(x509.SubjectAlternativeName(_names(names)), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
            )
        )
        leaf = builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return leaf + self.pem, private

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool
    ) -> x509.CertificateBuilder:
        known = x509.SubjectKeyIdentifier.from_public_key(key)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._key.public_key()
        )
        path = 0 if authority else None
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._from)
            .not_valid_after(self._from + _LIFE)
            .add_extension(x509.BasicConstraints(authority, path), critical=True)
            .add_extension(_usage(authority=authority), critical=True)
            .add_extension(known, critical=False)
            .add_extension(issuer, critical=False)
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _names(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
