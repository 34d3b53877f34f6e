"""Tests for several sources of accounts: whose a login is, what a refusal costs."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Lifecycle, Trouble
from fwd_mta.inbound import passwords
from fwd_mta.inbound.accounts import FileAccounts
from fwd_mta.inbound.dialogue import Place
from fwd_mta.inbound.dovecot import DovecotAccounts
from fwd_mta.inbound.passwords import Passwords
from fwd_mta.inbound.sources import ALARM_EVERY, AllAccounts
from fwd_mta.inbound.sql import SqlAccounts
from fwd_mta.mail.account import Account
from fwd_mta.mail.errors import LookUpFailed
from fwd_mta.world.machine import InlineWorker, SeededEntropy
from fwd_mta.world.network import MemoryNetwork
from tests.inbound.bench import ACCOUNTS, CHEAP, HASHED, SECRET
from tests.inbound.test_sql import KEYS, OTHER, QUERY, ScriptedDatabase


class SourcesTests(SynchronousTestCase):
    """`AllAccounts` over a file and a database."""

    @override
    def setUp(self) -> None:
        """A file, and a database in which two logins of the file's domains are."""
        self.clock = Clock()
        self.events: list[Event] = []
        self.content = ACCOUNTS
        self.file = FileAccounts(
            lambda: self.content, InlineWorker(), SeededEntropy(), CHEAP
        )
        self.load()
        self.database = ScriptedDatabase(
            {
                "ann@example.com": [{"password": OTHER}],
                "eva@wide.example": [{"password": OTHER}],
                "*@sql.example": [{"password": OTHER}],
            }
        )
        self.sql = self.make_sql()
        self.accounts = AllAccounts(self.file, self.clock, self.events.append)
        self.accounts.use(self.sql, None)
        self.accounts.use_secret(b"salt")

    def make_sql(self, *, has_scram: bool = False) -> SqlAccounts:
        """Accounts in the database."""
        compared = Passwords(InlineWorker(), SeededEntropy(), CHEAP)
        return SqlAccounts(self.database, QUERY, compared, has_scram=has_scram)

    def load(self) -> None:
        """Read the file as it is now."""
        self.successResultOf(Deferred.fromCoroutine(self.file.load()))

    def verify(self, login: str, password: str) -> str | None:
        """The login of the account that a password opens."""
        asked = Deferred.fromCoroutine(self.accounts.verify(login, password))
        account = self.successResultOf(asked)
        return account.login if account else None

    def find(self, login: str) -> Account | None:
        """The account of a login."""
        asked = Deferred.fromCoroutine(self.accounts.find(login))
        return self.successResultOf(asked)

    def test_the_first_that_names_it(self) -> None:
        """A login in both is the file's: the database's password does not open it."""
        self.assertEqual(self.verify("ann@example.com", SECRET), "ann@example.com")
        self.assertIsNone(self.verify("ann@example.com", "second"))

    def test_its_own_before_a_domain_wide_one(self) -> None:
        """A login of its own never becomes the account of its whole domain."""
        self.assertEqual(self.verify("eva@wide.example", "second"), "eva@wide.example")
        self.assertIsNone(self.verify("eva@wide.example", SECRET))
        found = self.find("eva@wide.example")
        assert found is not None
        self.assertEqual(found.patterns, ("eva@wide.example",))
        self.assertEqual(self.verify("bob@wide.example", SECRET), "*@wide.example")
        self.assertEqual(self.verify("bob@sql.example", "second"), "*@sql.example")

    def test_a_refusal_costs_the_same_everywhere(self) -> None:
        """As many hashes and queries for a login of either source, and for nobody's."""
        tried: list[str] = []

        def fits(hasher: object, hashed: str, password: str) -> bool:
            tried.append(hashed)
            return False

        self.patch(passwords, "_fits", fits)
        costs = set()
        for login in ("ann@example.com", "eva@wide.example", "bob@example.com"):
            tried.clear()
            self.database.asked.clear()
            self.assertIsNone(self.verify(login, "wrong"))
            costs.add((len(tried), len(self.database.asked)))
        self.assertEqual(costs, {(2, 4)})

    def test_down_and_back(self) -> None:
        """One alarm for an outage, one again after a while, one line when it ends."""
        self.database.down = True
        for _ in range(3):
            for login in ("ann@example.com", "bob@example.com"):
                asked = Deferred.fromCoroutine(self.accounts.verify(login, SECRET))
                self.failureResultOf(asked, LookUpFailed)
        [alarm] = self.events
        assert isinstance(alarm, Trouble)
        self.assertEqual(alarm.what, "The database of accounts: gone")
        self.clock.advance(ALARM_EVERY)
        asked = Deferred.fromCoroutine(self.accounts.find("bob@example.com"))
        self.failureResultOf(asked, LookUpFailed)
        self.assertEqual(len(self.events), 2)
        self.database.down = False
        for _ in range(2):
            self.verify("ann@example.com", SECRET)
        self.assertIsInstance(self.events[2], Lifecycle)
        self.assertEqual(len(self.events), 3)

    def test_scram(self) -> None:
        """Offered only while every source that holds accounts has keys."""
        self.assertFalse(self.accounts.offers_scram())
        self.accounts.use(self.make_sql(has_scram=True), None)
        self.assertFalse(self.accounts.offers_scram())
        self.content = (
            f'[[account]]\nlogin = "ann@example.com"\npassword = "{HASHED}"\n'
            f'scram = "{KEYS}"\n'
        ).encode()
        self.load()
        self.assertTrue(self.accounts.offers_scram())
        self.content = b""
        self.load()
        self.assertTrue(self.accounts.offers_scram())

    def test_the_file_alone(self) -> None:
        """Without another source all is as the file has it."""
        self.accounts.use(None, None)
        self.assertTrue(self.database.closed)
        self.assertEqual(self.verify("ann@example.com", SECRET), "ann@example.com")
        self.assertIsNone(self.find("eva@sql.example"))

    def test_dovecot_is_asked_last(self) -> None:
        """A login of the file is never told to Dovecot; another's is."""
        network = MemoryNetwork(self.clock, SeededEntropy())
        place = Place.parse("unix:/run/auth")
        dovecot = DovecotAccounts(network, place, self.clock, SeededEntropy())
        self.accounts.use(None, dovecot)
        self.assertEqual(self.verify("ann@example.com", SECRET), "ann@example.com")
        self.assertEqual(self.events, [])
        asked = Deferred.fromCoroutine(self.accounts.verify("bob@dc.example", "x"))
        self.clock.advance(30)
        self.failureResultOf(asked, LookUpFailed)
        self.assertIn("unix:/run/auth", str(self.events[0]))
