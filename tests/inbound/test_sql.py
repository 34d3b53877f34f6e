"""Tests for accounts in a database: who is asked for, and what the answer opens."""

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.accounts import scram_keys
from fwd_mta.inbound import passwords
from fwd_mta.inbound.passwords import Passwords
from fwd_mta.inbound.sql import SqlAccounts
from fwd_mta.interfaces import AccountRows, Row
from fwd_mta.mail.errors import LookUpFailed
from fwd_mta.world.machine import InlineWorker, SeededEntropy
from tests.inbound.bench import CHEAP, HASHED, SECRET

QUERY = "SELECT * FROM accounts WHERE login = :login"
OTHER = passwords.argon2id_hash("second", b"fedcba9876543210", CHEAP)
KEYS = scram_keys("x", b"0123456789abcdef", 4096)


class ScriptedDatabase(AccountRows):
    """A table of rows by login; or down."""

    def __init__(self, table: Mapping[str, list[Row]]) -> None:
        self.table = dict(table)
        self.asked: list[str] = []
        self.down = False
        self.closed = False

    @override
    async def rows(
        self, query: str, values: Sequence[Mapping[str, str]]
    ) -> list[list[Row]]:
        """The rows of each login."""
        if self.down:
            raise LookUpFailed("The database of accounts: gone")
        self.asked += [one["login"] for one in values]
        return [self.table.get(one["login"], []) for one in values]

    @override
    def close(self) -> None:
        """Remember it."""
        self.closed = True


class SqlAccountsTests(SynchronousTestCase):
    """`SqlAccounts` finds and verifies."""

    @override
    def setUp(self) -> None:
        """Three rows."""
        self.database = ScriptedDatabase(
            {
                "ann@example.com": [{"password": HASHED}, {"password": OTHER}],
                "key@example.com": [{"password": HASHED, "scram": KEYS}],
                "*@wide.example": [{"password": HASHED}],
            }
        )
        self.accounts = SqlAccounts(
            self.database,
            QUERY,
            Passwords(InlineWorker(), SeededEntropy(), CHEAP),
            has_scram=True,
        )
        self.accounts.salt_secret = b"salt"

    def verify(self, login: str, password: str = SECRET) -> str | None:
        """The login of the account that a password opens."""
        asked = Deferred.fromCoroutine(self.accounts.verify(login, password))
        account = self.successResultOf(asked)
        return account.login if account else None

    def test_right_and_wrong(self) -> None:
        """Any case of the login, each of its passwords, and nothing else."""
        self.assertEqual(self.verify("ANN@Example.com"), "ann@example.com")
        self.assertEqual(self.verify("ann@example.com", "second"), "ann@example.com")
        self.assertIsNone(self.verify("ann@example.com", "wrong"))
        self.assertIsNone(self.verify("bob@example.com"))
        self.assertEqual(self.verify("bob@wide.example"), "*@wide.example")

    def test_same_work(self) -> None:
        """An unknown login costs as many queries and hashes as a wrong password."""
        self.verify("ann@example.com", "wrong")
        tried: list[str] = []

        def fits(hasher: object, hashed: str, password: str) -> bool:
            tried.append(hashed)
            return False

        self.patch(passwords, "_fits", fits)
        costs = set()
        for login in ("ann@example.com", "key@example.com", "bob@example.com"):
            tried.clear()
            self.database.asked.clear()
            self.verify(login, "wrong")
            costs.add((len(tried), len(self.database.asked)))
        self.assertEqual(costs, {(2, 2)})

    def test_a_changed_password_holds_at_once(self) -> None:
        """What was remembered of the old one opens nothing."""
        self.verify("key@example.com")
        self.database.table["key@example.com"] = [{"password": OTHER}]
        self.assertIsNone(self.verify("key@example.com"))
        self.assertEqual(self.verify("key@example.com", "second"), "key@example.com")

    def test_gone(self) -> None:
        """A database that is gone is "cannot say", never "wrong password"."""
        self.database.down = True
        for asked in (
            self.accounts.verify("ann@example.com", SECRET),
            self.accounts.find("ann@example.com"),
            self.accounts.scram_keys("ann@example.com"),
        ):
            self.failureResultOf(Deferred.fromCoroutine(asked), LookUpFailed)

    def test_scram(self) -> None:
        """The keys of a row, or made-up ones that stay the same."""
        self.assertTrue(self.accounts.offers_scram())
        keys = []
        for login in ("key@example.com", "bob@example.com", "BOB@example.com"):
            asked = Deferred.fromCoroutine(self.accounts.scram_keys(login))
            keys.append(self.successResultOf(asked)[0])
        self.assertEqual(keys[0].salt, b"0123456789abcdef")
        self.assertEqual(keys[1], keys[2])
        self.assertEqual({one.iterations for one in keys}, {4096})

    def test_close(self) -> None:
        """The database is let go."""
        self.accounts.close()
        self.assertTrue(self.database.closed)
