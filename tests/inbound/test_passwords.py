"""Tests for comparing passwords: what is remembered, and for how long."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.inbound import passwords as subject
from fwd_mta.inbound.passwords import Passwords, is_hash
from fwd_mta.world.machine import InlineWorker, SeededEntropy
from tests.inbound.bench import CHEAP, HASHED, SECRET


class PasswordsTests(SynchronousTestCase):
    """`Passwords` compares, remembers and forgets."""

    @override
    def setUp(self) -> None:
        """Passwords at the lowest cost."""
        self.passwords = Passwords(InlineWorker(), SeededEntropy(), CHEAP)

    def fits(self, *hashes: str, password: str = SECRET) -> bool:
        """Whether the password fits one of the hashes."""
        asked = Deferred.fromCoroutine(self.passwords.fits(hashes, password))
        return self.successResultOf(asked)

    def test_fits(self) -> None:
        """The right password fits its hash, and none fits no hash."""
        self.assertTrue(self.fits(HASHED))
        self.assertFalse(self.fits(HASHED, password="other"))
        self.assertFalse(self.fits())

    def test_nobodys_hash_costs_what_others_do(self) -> None:
        """Hashes of another program may cost more or less than ours."""
        tried: list[str] = []

        def fits(hasher: object, hashed: str, password: str) -> bool:
            tried.append(hashed)
            return False

        self.patch(subject, "_fits", fits)
        other = HASHED.replace("m=8,t=1", "m=16,t=2")
        self.passwords.expect(1, other)
        self.fits()
        self.assertEqual(tried[0].split("$")[:4], other.split("$")[:4])
        self.assertTrue(is_hash(tried[0]))
        self.assertNotEqual(tried[0], other)

    def test_memory_is_bounded(self) -> None:
        """The oldest success is forgotten when there are too many."""
        self.patch(subject, "REMEMBERED_LIMIT", 2)
        for name in ("a", "b", "c"):
            self.passwords._remember(name, name.encode())
        self.assertEqual(list(self.passwords._remembered), ["b", "c"])

    def test_keep_only(self) -> None:
        """A hash that is gone is forgotten."""
        self.fits(HASHED)
        self.passwords.keep_only([])
        self.assertEqual(self.passwords._remembered, {})

    def test_is_hash(self) -> None:
        """Only argon2id is a hash of ours."""
        self.assertTrue(is_hash(HASHED))
        for value in ("", None, "$2b$12$x", HASHED.replace("argon2id", "argon2i")):
            self.assertFalse(is_hash(value), value)
