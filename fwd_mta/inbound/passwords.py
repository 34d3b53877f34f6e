"""Passwords and their hashes: one slow comparison, then none for the same client.

A success is remembered as a keyed digest beside the hash it was for, so that a changed
hash forgets it. A login that does not exist costs as many hashes as one that does.
"""

import base64
import hmac
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from fwd_mta.interfaces import Entropy, Worker

PASSWORDS_LIMIT = 4  # each costs a hash at every wrong try, for everybody
SALT_OCTETS = 16
REMEMBERED_LIMIT = 100_000  # about 20 MB


@dataclass(frozen=True, slots=True)
class HashCost:
    """What one argon2id hash costs: passes, memory in KiB, lanes (RFC 9106 4)."""

    time: int = 3
    memory: int = 65536
    lanes: int = 1

    def hasher(self) -> PasswordHasher:
        """A hasher of that cost."""
        return PasswordHasher(self.time, self.memory, self.lanes)


def argon2id_hash(
    password: str, salt: bytes | None = None, cost: HashCost | None = None
) -> str:
    """Hash a password for storage; slow on purpose, so call it on a worker.

    Without a salt argon2 takes one from the operating system.
    """
    return (cost or HashCost()).hasher().hash(_prepared(password), salt=salt)


def is_hash(value: object) -> bool:
    """Whether it is an argon2id hash as we store it."""
    if not isinstance(value, str) or not value.startswith("$argon2id$"):
        return False
    try:
        extract_parameters(value)
    except InvalidHashError:
        return False
    return True


class Passwords:
    """Compares passwords with stored hashes, on a worker; the time tells nothing."""

    def __init__(
        self, worker: Worker, entropy: Entropy, cost: HashCost | None = None
    ) -> None:
        self._worker = worker
        self._cost = cost or HashCost()
        self._made_up = _made_up_hash(self._cost, entropy)
        self._chance = self._made_up.split("$")[4:]
        self._hasher = self._cost.hasher()
        self._key = entropy.octets(32)
        self._remembered: dict[str, bytes] = {}
        self._most = 1

    def expect(self, most: int, like: str = "") -> None:
        """Say how many hashes a login may have; each comparison costs that many.

        `like` is a stored hash: one that nobody has is to cost what it does.
        """
        self._most = most
        if like:
            self._made_up = "$".join([*like.split("$")[:4], *self._chance])

    def keep_only(self, stored: Collection[str]) -> None:
        """Forget the successes of hashes that are gone."""
        self._remembered = {
            hashed: digest
            for hashed, digest in self._remembered.items()
            if hashed in stored
        }

    async def fits(self, hashes: tuple[str, ...], password: str) -> bool:
        """Whether it is the password of one of the hashes; as slow without any."""
        digest = blake2b(password.encode(), key=self._key).digest()
        if any(self._remembers(hashed, digest) for hashed in hashes):
            return True
        padding = (self._made_up,) * (self._most - len(hashes))
        tried = hashes + padding
        matching = await self._worker.run(lambda: self._matching(tried, password))
        if matching not in hashes:
            return False
        self._remember(matching, digest)
        return True

    def _remembers(self, hashed: str, digest: bytes) -> bool:
        return hmac.compare_digest(self._remembered.get(hashed, b""), digest)

    def _remember(self, hashed: str, digest: bytes) -> None:
        if len(self._remembered) >= REMEMBERED_LIMIT:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[hashed] = digest

    def _matching(self, hashes: tuple[str, ...], password: str) -> str:
        """The hash that fits, or nothing; all are tried."""
        found = ""
        for hashed in hashes:
            if _fits(self._hasher, hashed, password):
                found = hashed
        return found


def _fits(hasher: PasswordHasher, hashed: str, password: str) -> bool:
    try:
        return hasher.verify(hashed, _prepared(password))
    except VerificationError:
        return False


def _made_up_hash(cost: HashCost, entropy: Entropy) -> str:
    """A hash that no password has: its salt and value are chance."""
    salt, value = (
        base64.b64encode(entropy.octets(count)).rstrip(b"=").decode("ascii")
        for count in (SALT_OCTETS, 32)
    )
    return f"$argon2id$v=19$m={cost.memory},t={cost.time},p={cost.lanes}${salt}${value}"


def _prepared(password: str) -> str:
    """One form for what looks the same on any keyboard (NFKC, as in RFC 4013 2.2)."""
    return unicodedata.normalize("NFKC", password)
