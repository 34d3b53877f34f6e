"""Tests for the accounts file: what it may hold, who gets in, what a reload does."""

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.accounts import scram_keys
from fwd_mta.inbound import passwords as subject
from fwd_mta.inbound.accounts import AccountsFault, FileAccounts, parse_accounts
from fwd_mta.inbound.passwords import HashCost, argon2id_hash
from fwd_mta.mail.account import Account
from fwd_mta.mail.envelope import Notify
from fwd_mta.mail.errors import LookUpFailed
from fwd_mta.world.machine import InlineWorker, SeededEntropy
from tests.inbound.bench import CHEAP, HASHED, SECRET

T = TypeVar("T")

OTHER = argon2id_hash("second", b"fedcba9876543210", CHEAP)

SCRAM = scram_keys("second", b"fedcba9876543210", 4096)

FILE = f"""
[[account]]
login = "Ann@Example.com"
password = ["{HASHED}", "{OTHER}"]
scram = "{SCRAM}"
send_as = ["ann@example.com", "*@news.example"]
notify = ["failure", "delay", "success"]
messages_per_account = 1000
recipients_per_account = 0
retention_content = "7d"
rules = {{ office_macro = "reject", gtube = "off" }}

[[account]]
login = "quiet@example.com"
password = "{HASHED}"
smtp = false
notify = []

[[account]]
login = "*@wide.example"
password = "{HASHED}"
"""


class ParseTests(SynchronousTestCase):
    """`parse_accounts` reads everything or names every mistake."""

    def test_scram(self) -> None:
        """SCRAM counts where it takes every password: keys for each, with one salt."""
        one, other = (scram_keys("x", salt, 4096) for salt in (b"a" * 16, b"b" * 16))
        for passwords, keys, has_scram in (
            (1, [one], True),
            (2, [one, one], True),
            (2, [one, other], False),
            (2, [one], False),
            (1, [], False),
        ):
            text = f"""
            [[account]]
            login = "ann@example.com"
            password = {[HASHED] * passwords}
            scram = {keys}
            """
            table = parse_accounts(text.encode())
            self.assertIs(table["ann@example.com"].has_scram, has_scram)

    def errors(self, text: str) -> tuple[str, ...]:
        """The mistakes in a file."""
        fault = self.assertRaises(AccountsFault, parse_accounts, text.encode())
        errors: tuple[str, ...] = fault.errors
        return errors

    def test_everything(self) -> None:
        """Every key, as it becomes an account."""
        table = parse_accounts(FILE.encode())
        self.assertEqual(
            table["ann@example.com"].account,
            Account(
                "Ann@Example.com",
                send_as=("ann@example.com", "*@news.example"),
                notify=(Notify.DELAY, Notify.FAILURE, Notify.SUCCESS),
                messages_per_account=1000,
                recipients_per_account=0,
                retention_content=7 * 86400.0,
                rules=(("office-macro", "reject"), ("gtube", "off")),
            ),
        )
        self.assertEqual(table["ann@example.com"].passwords, (HASHED, OTHER))
        quiet = table["quiet@example.com"].account
        self.assertFalse(quiet.smtp)
        self.assertEqual(quiet.notify, (Notify.NEVER,))
        self.assertEqual(table["*@wide.example"].account.patterns, ("*@wide.example",))

    def test_empty(self) -> None:
        """A file without accounts is fine: nobody can log in."""
        self.assertEqual(parse_accounts(b"# nobody yet\n"), {})

    def test_all_mistakes_at_once(self) -> None:
        """Each mistake has the login and the key, and all are told at once."""
        errors = self.errors(f"""
            [[account]]
            login = "ann"
            password = "{HASHED}"
            [[account]]
            login = "bob@example.com"
            password = "plaintext"
            sendas = []
            smtp = "yes"
            [[account]]
            login = "bob@EXAMPLE.com"
            password = []
            notify = ["sometimes"]
            messages_per_account = -1
            retention_content = "soon"
            rules = {{ office_macro = "perhaps" }}
            send_as = ["bob"]
            [[account]]
            login = "carl@example.com"
            """)
        text = "\n".join(errors)
        for words in (
            "account 1: login:",
            "bob@example.com: password:",
            "bob@example.com: sendas: unknown; allowed: login, password",
            "bob@example.com: smtp: true or false",
            "bob@EXAMPLE.com: password:",
            "bob@EXAMPLE.com: notify:",
            "bob@EXAMPLE.com: messages_per_account:",
            "bob@EXAMPLE.com: retention_content:",
            "bob@EXAMPLE.com: rules: a table of eicar, gtube, executable_name",
            "bob@EXAMPLE.com: send_as:",
            "bob@EXAMPLE.com: login: there are two accounts",
            "carl@example.com: password: missing",
        ):
            self.assertIn(words, text)
        self.assertEqual(len(errors), 12)

    def test_no_secret_in_mistakes(self) -> None:
        """A password written in clear is not repeated in the message about it."""
        errors = self.errors('[[account]]\nlogin = "a@b.example"\npassword = "hunter2"')
        self.assertNotIn("hunter2", "".join(errors))

    def test_no_toml(self) -> None:
        """What is no TOML, no UTF-8 or no account says so."""
        fault = self.assertRaises(AccountsFault, parse_accounts, b"\xff")
        self.assertIn("not TOML", fault.errors[0])
        self.assertIn("not TOML", self.errors("[[account")[0])
        self.assertIn("double brackets", self.errors("[account]\nlogin = 'x'")[0])
        self.assertIn("double brackets", self.errors("account = [1]")[0])
        self.assertIn("unknown", self.errors("accounts = []")[0])

    def test_secrets_do_not_show(self) -> None:
        """A stored account printed by mistake shows no hash."""
        table = parse_accounts(FILE.encode())
        self.assertNotIn("argon2", repr(table))


class CountingWorker(InlineWorker):
    """Counts the jobs."""

    jobs = 0

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run and count it."""
        self.jobs += 1
        return super().run(job)


class FileAccountsTests(SynchronousTestCase):
    """`FileAccounts` finds, verifies, remembers and reloads."""

    @override
    def setUp(self) -> None:
        """Accounts of the file above."""
        self.file = FILE.encode()
        self.worker = CountingWorker()
        self.accounts = FileAccounts(
            lambda: self.file, self.worker, SeededEntropy(), CHEAP
        )
        self.load()
        self.verified = 0
        fits = subject._fits

        def counted(hasher: object, hashed: str, password: str) -> bool:
            self.verified += 1
            return fits(hasher, hashed, password)  # type: ignore[arg-type]

        self.patch(subject, "_fits", counted)

    def load(self) -> None:
        """Read the file, now as it is."""
        self.successResultOf(Deferred.fromCoroutine(self.accounts.load()))

    def verify(self, login: str, password: str = SECRET) -> str | None:
        """The login of the account that a password opens."""
        asked = Deferred.fromCoroutine(self.accounts.verify(login, password))
        account = self.successResultOf(asked)
        return account.login if account else None

    def test_right_and_wrong(self) -> None:
        """Any case of the login, each of its passwords, and nothing else."""
        self.assertEqual(self.verify("ann@example.com"), "Ann@Example.com")
        self.assertEqual(self.verify("ANN@EXAMPLE.COM", "second"), "Ann@Example.com")
        self.assertIsNone(self.verify("ann@example.com", "Sesame"))
        self.assertIsNone(self.verify("bob@example.com"))
        self.assertIsNone(self.verify(""))

    def test_domain_wide(self) -> None:
        """A domain-wide credential is for all logins without an account there."""
        self.assertEqual(self.verify("any@wide.example"), "*@wide.example")
        self.assertEqual(self.verify("*@wide.example"), "*@wide.example")
        self.assertIsNone(self.verify("any@other.example"))

    def test_same_work(self) -> None:
        """An unknown login costs as many hashes as a wrong password."""
        for login in ("ann@example.com", "quiet@example.com", "bob@example.com", "x"):
            self.verified = 0
            self.verify(login, "wrong")
            self.assertEqual(self.verified, 2, login)

    def test_remembered(self) -> None:
        """The second login with the same password costs no hash; a wrong one does."""
        self.verify("ann@example.com")
        self.verified = 0
        self.assertEqual(self.verify("ann@example.com"), "Ann@Example.com")
        self.assertEqual(self.verified, 0)
        self.assertIsNone(self.verify("ann@example.com", "wrong"))
        self.assertEqual(self.verified, 2)

    def test_memory_is_bounded(self) -> None:
        """What is remembered does not grow with the logins of one domain."""
        for number in range(5):
            self.verify(f"user{number}@wide.example")
        self.assertEqual(len(self.accounts._passwords._remembered), 1)

    def test_same_keys_on_any_keyboard(self) -> None:
        """A password with accents fits in either Unicode form."""
        composed, decomposed = "caf\u00e9", "cafe\u0301"
        hashed = argon2id_hash(decomposed, b"0123456789abcdef", CHEAP)
        self.file = (
            f'[[account]]\nlogin = "a@b.example"\npassword = "{hashed}"'.encode()
        )
        self.load()
        self.assertEqual(self.verify("a@b.example", composed), "a@b.example")

    def test_reload(self) -> None:
        """A new file holds at once; a password that is gone opens nothing."""
        self.verify("ann@example.com")
        self.file = self.file.replace(f'"{HASHED}", '.encode(), b"")
        self.load()
        self.assertIsNone(self.verify("ann@example.com"))
        self.assertEqual(self.verify("ann@example.com", "second"), "Ann@Example.com")

    def test_bad_reload_changes_nothing(self) -> None:
        """A file with a mistake leaves the accounts as they were, and says why."""
        self.file = b"[[account]]\nlogin = 3"
        loading = Deferred.fromCoroutine(self.accounts.load())
        failure = self.failureResultOf(loading, AccountsFault)
        self.assertIn("account 1", str(failure.value))
        self.assertEqual(self.verify("ann@example.com"), "Ann@Example.com")

    def test_unreadable(self) -> None:
        """A file that cannot be read is a mistake like any other."""

        def missing() -> bytes:
            raise FileNotFoundError(2, "No such file", "accounts.toml")

        accounts = FileAccounts(missing, self.worker, SeededEntropy(), CHEAP)
        loading = Deferred.fromCoroutine(accounts.load())
        failure = self.failureResultOf(loading, AccountsFault)
        self.assertIn("accounts.toml", str(failure.value))

    def test_before_the_first_load(self) -> None:
        """Who asks too early hears "cannot say", never "does not exist"."""
        accounts = FileAccounts(lambda: b"", self.worker, SeededEntropy(), CHEAP)
        asked = Deferred.fromCoroutine(accounts.find("ann@example.com"))
        self.failureResultOf(asked, LookUpFailed)

    def test_off_the_reactor(self) -> None:
        """Reading and hashing are the worker's jobs."""
        self.worker.jobs = 0
        self.load()
        self.verify("ann@example.com", "wrong")
        self.assertEqual(self.worker.jobs, 2)

    def test_made_up_hash_is_a_hash(self) -> None:
        """The hash that unknown logins are checked against has the real cost."""
        made_up = self.accounts._passwords._made_up
        self.assertTrue(subject.is_hash(made_up))
        self.assertEqual(made_up.split("$")[3], HASHED.split("$")[3])
        self.assertEqual(len(made_up), len(HASHED))


class HashTests(SynchronousTestCase):
    """`argon2id_hash` makes what the file holds."""

    def test_form(self) -> None:
        """argon2id, with its own salt each time."""
        one, two = (argon2id_hash("x", cost=HashCost(1, 8, 1)) for _ in range(2))
        self.assertTrue(one.startswith("$argon2id$v=19$m=8,t=1,p=1$"))
        self.assertNotEqual(one, two)
