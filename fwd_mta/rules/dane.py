"""DANE for SMTP: what TLSA records of an exchanger ask, and whether a chain meets it.

RFC 7672: usages 2 and 3 only. Usage 3 names the certificate or key itself, and neither
name nor dates count; usage 2 names an issuer, and the name counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256, sha512

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER = 2
ITSELF = 3
_WHOLE = {0, 1}
_LENGTHS = {1: 32, 2: 64}
_MOST_RECORDS = 50
_LONGEST_CHAIN = 10


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record (RFC 6698 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def names(self, certificate: x509.Certificate) -> bool:
        """Whether it is about this certificate."""
        octets = _selected(certificate, self.selector)
        if self.matching == 1:
            octets = sha256(octets).digest()
        elif self.matching == 2:
            octets = sha512(octets).digest()
        return octets == self.data


def _selected(certificate: x509.Certificate, selector: int) -> bytes:
    if selector == 0:
        return certificate.public_bytes(Encoding.DER)
    key = certificate.public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def usable(records: Iterable[bytes]) -> tuple[Tlsa, ...]:
    """The records, in wire form, that SMTP can use (RFC 7672 3.1)."""
    found = []
    for wire in list(records)[:_MOST_RECORDS]:
        if len(wire) < 4:
            continue
        record = Tlsa(wire[0], wire[1], wire[2], wire[3:])
        known = record.usage in {ISSUER, ITSELF} and record.selector in _WHOLE
        length = _LENGTHS.get(record.matching, len(record.data))
        if known and record.matching in {0, 1, 2} and len(record.data) == length:
            found.append(record)
    return tuple(found)


def proved(
    records: Sequence[Tlsa], chain: Sequence[bytes], now: float, *, is_named: bool
) -> str | None:
    """Why a chain (DER, leaf first) is not what the records ask for; None: it is.

    `is_named`: the leaf is for one of the names that count.
    """
    try:
        parsed = [x509.load_der_x509_certificate(one) for one in chain[:_LONGEST_CHAIN]]
        if not parsed:
            return "the host showed no certificate"
        if any(one.usage == ITSELF and one.names(parsed[0]) for one in records):
            return None
        issuers = [one for one in records if one.usage == ISSUER]
        if not _has_anchor(issuers, parsed, now):
            return "no TLSA record fits its certificate"
    except (ValueError, UnsupportedAlgorithm) as fault:
        return f"its certificate cannot be judged: {fault}"
    return None if is_named else "its certificate is for another name"


def _has_anchor(
    records: Sequence[Tlsa], chain: Sequence[x509.Certificate], now: float
) -> bool:
    """Whether a chain of good signatures leads from the leaf to a named issuer."""
    current = chain[0]
    given = [*chain[1:], *_in_records(records)]
    for _ in range(_LONGEST_CHAIN):
        if not _is_valid(current, now):
            return False
        issuer = next((one for one in given if _issued(one, current)), None)
        if issuer is None:
            return False
        if any(record.names(issuer) for record in records):
            return _is_valid(issuer, now)
        given = [one for one in given if one is not issuer]
        current = issuer
    return False


def _in_records(records: Sequence[Tlsa]) -> list[x509.Certificate]:
    """Issuers that stand in a record itself, so that the host need not send them."""
    whole = [one.data for one in records if (one.selector, one.matching) == (0, 0)]
    return [x509.load_der_x509_certificate(data) for data in whole]


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.verify_directly_issued_by(issuer)
    except (
        x509.ExtensionNotFound,
        InvalidSignature,
        TypeError,
        ValueError,
        UnsupportedAlgorithm,
    ):
        return False
    return constraints.value.ca


def _is_valid(certificate: x509.Certificate, now: float) -> bool:
    at = datetime.fromtimestamp(now, UTC)
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
