"""Tests for accounts from rows and fields: odd shapes, and what is wrong with them."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.admin.accounts import scram_keys
from fwd_mta.inbound.rows import account_of, limits_and_more
from fwd_mta.mail.account import Account
from fwd_mta.mail.envelope import Notify
from fwd_mta.mail.errors import LookUpFailed
from tests.inbound.bench import HASHED

_ANN = "ann@example.com"


class AccountOfTests(SynchronousTestCase):
    """`account_of` reads rows as databases give them."""

    def test_all_columns(self) -> None:
        """Every column that the accounts file has as a key, and foreign ones."""
        row = {
            "login": "ignored",
            "password": "{ARGON2ID}" + HASHED,
            "scram": scram_keys("x", b"0123456789abcdef", 4096),
            "send_as": "ann@example.com, *@news.example",
            "notify": "failure delay",
            "smtp": 1,
            "messages_per_account": "300",
            "recipients_per_account": 0,
            "retention_content": "7d",
            "language": "fi",
            "rules": "executable_name=note, office_macro=off",
            "shoe_size": 43,
        }
        stored = account_of(_ANN, [row])
        self.assertEqual(
            stored.account,
            Account(
                _ANN,
                send_as=("ann@example.com", "*@news.example"),
                notify=(Notify.DELAY, Notify.FAILURE),
                messages_per_account=300,
                recipients_per_account=0,
                retention_content=7 * 86400.0,
                language="fi",
                rules=(("executable-name", "note"), ("office-macro", "off")),
            ),
        )
        self.assertEqual(stored.passwords, (HASHED,))
        self.assertTrue(stored.has_scram)

    def test_rotation(self) -> None:
        """Each row is a password; four of them count."""
        rows = [{"password": HASHED}] * 6
        self.assertEqual(account_of(_ANN, rows).passwords, (HASHED,) * 4)

    def test_switched_off(self) -> None:
        """The many ways in which databases say no."""
        for value in (False, 0, "0", "f", "no", "FALSE"):
            account = account_of(_ANN, [{"password": HASHED, "smtp": value}]).account
            self.assertFalse(account.smtp, value)

    def test_nothing_written(self) -> None:
        """NULL and empty columns are the defaults."""
        row = {"password": HASHED, "send_as": "", "smtp": None, "notify": None}
        self.assertEqual(account_of(_ANN, [row]).account, Account(_ANN))

    def test_a_list_of_the_database(self) -> None:
        """An array of PostgreSQL is a list already."""
        row = {"password": HASHED, "send_as": ["a@b.example"]}
        self.assertEqual(account_of(_ANN, [row]).account.send_as, ("a@b.example",))

    def test_mistakes(self) -> None:
        """A bad row is our own trouble; it names login and column, and no secret."""
        for column, value in (
            ("password", "hunter2"),
            ("password", None),
            ("send_as", "bob"),
            ("smtp", "perhaps"),
            ("notify", "sometimes"),
            ("messages_per_account", "-3"),
            ("retention_content", "soon"),
            ("scram", "none"),
            ("rules", "eicar"),
        ):
            row = {"password": HASHED, column: value}
            fault = self.assertRaises(LookUpFailed, account_of, _ANN, [row])
            self.assertIn(_ANN, str(fault))
            self.assertIn(column, str(fault))
            self.assertNotIn("hunter2", str(fault))


class FieldsTests(SynchronousTestCase):
    """`limits_and_more` reads what Dovecot adds to an answer."""

    def test_fields(self) -> None:
        """Our names hold; Dovecot's own are not ours."""
        fields = {"user": _ANN, "proxy": "", "smtp": "no", "send_as": "*@b.example"}
        account = limits_and_more(_ANN, fields)
        self.assertEqual(account, Account(_ANN, send_as=("*@b.example",), smtp=False))

    def test_mistakes(self) -> None:
        """A bad field is our own trouble."""
        fault = self.assertRaises(
            LookUpFailed, limits_and_more, _ANN, {"messages_per_account": "many"}
        )
        self.assertIn("messages_per_account", str(fault))
