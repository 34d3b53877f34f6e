"""The judge of our signatures: dkimpy, with the keys' records in a table."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from unittest.mock import patch

import dkim  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwd_mta.rules.signing import SigningKey

Records = Mapping[bytes, bytes]
# dkimpy refuses signatures from the future: it reads the tests' own clock
_CLOCK = SimpleNamespace(time=lambda: 1_800_000_100)


def publish(keys: Iterable[SigningKey]) -> dict[bytes, bytes]:
    """The DNS records of keys, by name."""
    return dict(map(_record, keys))


def verify(message: bytes, records: Records, limit: int | None = None) -> list[bool]:
    """Whether each signature holds, from the last one (at most `limit`) up."""
    judge = dkim.DKIM(message, logger=_Silence())
    count = sum(name.lower() == b"dkim-signature" for name, _ in judge.headers)
    wanted = count if limit is None else min(limit, count)
    return [_holds(message, at, records) for at in range(count - wanted, count)]


def _holds(message: bytes, at: int, records: Records) -> bool:
    def look_up(name: bytes, timeout: int = 5) -> bytes | None:
        return records.get(name.rstrip(b"."))

    try:
        with patch.object(dkim, "time", _CLOCK):
            judge = dkim.DKIM(message, logger=_Silence())
            return bool(judge.verify(idx=at, dnsfunc=look_up))
    except dkim.DKIMException:
        return False


def _record(key: SigningKey) -> tuple[bytes, bytes]:
    name = f"{key.selector}._domainkey.{key.domain}".encode()
    public = key.private.public_key()
    if isinstance(key.private, RSAPrivateKey):
        octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return name, b"v=DKIM1; k=rsa; p=" + b64encode(octets)
    octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return name, b"v=DKIM1; k=ed25519; p=" + b64encode(octets)


class _Silence:
    """A logger that says nothing."""

    def debug(self, *words: object) -> None:
        """Nothing."""

    info = warning = error = debug
