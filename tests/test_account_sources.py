"""A whole server whose accounts are elsewhere: configured, reloaded, gone, back."""

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.asking import CommandError
from fwd_mta.events import Trouble
from fwd_mta.mail.errors import LookUpFailed
from tests.inbound.bench import HASHED, SECRET
from tests.inbound.test_sql import ScriptedDatabase
from tests.kit import PASSWORD, World

LOGIN = "eva@sql.example"
SQL = """
[accounts.sql]
url = "sqlite:///mail"
password_query = "SELECT * FROM accounts WHERE login = :login"
"""


class SourcesTests(SynchronousTestCase):
    """`Server` asks what the settings name."""

    @override
    def setUp(self) -> None:
        """A server with a database beside its file."""
        self.database = ScriptedDatabase({LOGIN: [{"password": HASHED}]})
        self.world = World()
        self.world.account_rows["sqlite:///mail"] = self.database
        self.world.extra = SQL
        self.world.server = self.world.make()
        self.world.start()

    def verify(self, login: str, password: str) -> str | None:
        """The login of the account that a password opens."""
        asked = self.world.server.logins.verify(login, password)
        account = self.world.done(asked)
        return account.login if account else None

    def test_both(self) -> None:
        """The file's logins and the database's."""
        self.assertEqual(self.verify(LOGIN, SECRET), LOGIN)
        self.assertEqual(self.verify("ann@example.com", PASSWORD), "ann@example.com")

    def test_gone(self) -> None:
        """While the database is gone the operator's question is answered in words."""
        self.database.down = True
        with self.assertRaises(LookUpFailed):
            self.verify(LOGIN, SECRET)
        troubles = [one for one in self.world.events if isinstance(one, Trouble)]
        self.assertEqual(len(troubles), 1)
        with self.assertRaises(CommandError) as caught:
            self.world.done(self.world.server._limits_of({"login": LOGIN}))
        self.assertIn("cannot look the account up now", str(caught.exception))

    def test_reload(self) -> None:
        """A reload lets a source go that is no longer named, and takes a new one."""
        self.world.extra = ""
        self.assertEqual(self.world.done(self.world.server.reload()), ())
        self.assertTrue(self.database.closed)
        self.assertIsNone(self.verify(LOGIN, SECRET))
        self.world.extra = SQL
        self.assertEqual(self.world.done(self.world.server.reload()), ())
        self.assertEqual(self.verify(LOGIN, SECRET), LOGIN)

    def test_dovecot_by_name(self) -> None:
        """Dovecot is asked at an address: a name is refused, and nothing changes."""
        self.world.extra = 'dovecot = "tcp:dovecot.example:12345"'
        [line] = self.world.done(self.world.server.reload())
        self.assertIn("accounts.dovecot: dovecot.example is a name", line)
        self.world.extra = 'dovecot = "unix:/run/auth"'
        self.assertEqual(self.world.done(self.world.server.reload()), ())
