"""Editing accounts.toml: what is kept, what is written, what never goes wrong."""

import os
import stat
import threading
import tomllib
from base64 import b64decode
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.accounts import (
    AccountRow,
    AccountsError,
    AccountsFile,
    NewAccount,
    check_pattern,
    scram_keys,
)
from fwd_mta.inbound.accounts import parse_accounts
from fwd_mta.inbound.passwords import HashCost, argon2id_hash
from fwd_mta.world.machine import SeededEntropy

CHEAP = HashCost(time=1, memory=8)


def cheap(password: str) -> str:
    """Hash as the command does, at the least cost."""
    return argon2id_hash(password, cost=CHEAP)


class AccountsCase(SynchronousTestCase):
    """A directory with an accounts file, or none."""

    @override
    def setUp(self) -> None:
        """Begin with no file."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.path = self.directory / "accounts.toml"
        self.accounts = AccountsFile(str(self.path), SeededEntropy(), cheap)

    def add(self, login: str = "you@example.com", password: str = "secret") -> None:  # noqa: S107
        """Add an account."""
        self.accounts.add(NewAccount(login, password))

    def tables(self) -> list[dict[str, Any]]:
        """Read the accounts as any TOML reader does."""
        tables: list[dict[str, Any]] = tomllib.loads(self.path.read_text("utf-8"))[
            "account"
        ]
        return tables

    def error(self, act: Any, *arguments: object, **named: object) -> str:
        """Do something impossible, and see that the file stays as it is."""
        before = self.path.read_bytes() if self.path.exists() else None
        error = self.assertRaises(AccountsError, act, *arguments, **named)
        after = self.path.read_bytes() if self.path.exists() else None
        self.assertEqual(after, before)
        self.assertNotIn("\n", str(error))
        return str(error)


class ChangeTests(AccountsCase):
    """Each verb, and what the server makes of its work."""

    def test_adds_an_account_that_the_server_takes(self) -> None:
        """What the command writes, the server reads."""
        self.accounts.add(
            NewAccount("you@example.com", "secret", ("*@example.org",), ("success",))
        )
        table = parse_accounts(self.path.read_bytes())
        account = table["you@example.com"].account
        self.assertEqual(account.send_as, ("*@example.org",))
        self.assertTrue(account.smtp)

    def test_sends_as_its_login_by_default(self) -> None:
        """Without --send-as an account sends as itself, and the file says so."""
        self.add()
        self.assertEqual(self.tables()[0]["send_as"], ["you@example.com"])

    def test_never_writes_the_password(self) -> None:
        """The file holds argon2id and SCRAM keys, nothing readable (P8)."""
        self.add(password="correct horse")
        text = self.path.read_text("utf-8")
        self.assertNotIn("correct horse", text)
        (table,) = self.tables()
        self.assertTrue(table["password"].startswith("$argon2id$"))
        self.assertTrue(table["scram"].startswith("SCRAM-SHA-256$32768:"))

    def test_refuses_a_login_twice(self) -> None:
        """A second account of the same login, in any case, is refused with the cure."""
        self.add("you@example.com")
        words = self.error(self.add, "You@EXAMPLE.com")
        self.assertIn("fwdmta account password", words)

    def test_lets_an_account_send_as_more(self) -> None:
        """It keeps its own address, its password and what it had; doubles are one."""
        self.add()
        (before,) = self.tables()
        patterns = ["a@b.example", "*@c.example"]
        self.accounts.allow("you@example.com", patterns)
        now = self.accounts.allow("YOU@example.com", patterns)
        self.assertEqual(now, ("you@example.com", "a@b.example", "*@c.example"))
        (after,) = self.tables()
        self.assertEqual(after["password"], before["password"])
        self.assertEqual(tuple(after["send_as"]), now)
        self.assertTrue(self.accounts.has("you@EXAMPLE.com"))
        self.assertFalse(self.accounts.has("a@b.example"))
        self.error(self.accounts.allow, "you@example.com", ["nonsense"])
        self.error(self.accounts.allow, "a@b.example", ["a@b.example"])

    def test_scram_knows_both_passwords(self) -> None:
        """Keys of old and new have one salt: SCRAM tells it before it knows which."""
        self.add()
        self.accounts.set_password("you@example.com", "other", keep_old=True)
        table = parse_accounts(self.path.read_bytes())
        self.assertTrue(table["you@example.com"].has_scram)
        self.assertEqual(len(table["you@example.com"].scram), 2)

    def test_gives_a_new_password(self) -> None:
        """The new password is the only one."""
        self.add()
        old = self.tables()[0]
        self.accounts.set_password("you@example.com", "other", keep_old=False)
        (new,) = self.tables()
        self.assertIsInstance(new["password"], str)
        self.assertNotEqual(new["password"], old["password"])
        self.assertNotEqual(new["scram"], old["scram"])

    def test_keeps_the_old_password_for_a_while(self) -> None:
        """With keep_old both work, and never more than the server takes."""
        self.add()
        for number in range(6):
            self.accounts.set_password("you@example.com", f"p{number}", keep_old=True)
        (table,) = self.tables()
        self.assertEqual((len(table["password"]), len(table["scram"])), (4, 4))
        self.assertIn("you@example.com", parse_accounts(self.path.read_bytes()))

    def test_switches_off_and_on(self) -> None:
        """A switched off account stays in the file."""
        self.add()
        self.accounts.switch("YOU@example.com", on=False)
        self.assertIs(self.tables()[0]["smtp"], False)
        self.assertFalse(self.accounts.rows()[0].smtp)
        self.accounts.switch("you@example.com", on=True)
        self.assertIs(self.tables()[0]["smtp"], True)

    def test_removes(self) -> None:
        """Only the one account goes, the last one too."""
        self.add("a@example.com")
        self.add("b@example.com")
        self.accounts.remove("a@example.com")
        self.assertEqual([one.login for one in self.accounts.rows()], ["b@example.com"])
        self.accounts.remove("b@example.com")
        self.assertEqual(self.accounts.rows(), [])
        self.add("c@example.com")
        self.assertEqual([one.login for one in self.accounts.rows()], ["c@example.com"])

    def test_lists(self) -> None:
        """A list tells what an operator asks, and no secret."""
        self.accounts.add(NewAccount("*@example.com", "secret", (), ("delay",)))
        self.assertEqual(
            self.accounts.rows(),
            [AccountRow("*@example.com", True, 1, ("*@example.com",), ("delay",))],
        )

    def test_names_unknown_accounts(self) -> None:
        """A change to nobody is refused, with the way to the list."""
        self.add()
        for act, named in (
            (self.accounts.remove, {}),
            (self.accounts.check_known, {}),
            (self.accounts.switch, {"on": True}),
        ):
            words = self.error(act, "x@example.com", **named)
            self.assertIn("fwdmta account list", words)

    def test_refuses_what_is_no_login(self) -> None:
        """A login is a full address, or a domain with a star."""
        for login in ("you", "you@", "@example.com", "a b@example.com", "", "a\n@b.c"):
            self.assertIn("full address", self.error(self.add, login))
        self.assertEqual(check_pattern("*@example.com"), "*@example.com")

    def test_refuses_passwords_no_client_can_send(self) -> None:
        """Empty, endless and unprintable passwords are refused."""
        for password in ("", "x" * 257, "a\0b", "a\nb", "tab\t"):
            self.assertIn("password", self.error(self.add, "a@example.com", password))


class FileTests(AccountsCase):
    """What happens to the file around a change."""

    def test_keeps_comments_and_what_it_does_not_know(self) -> None:
        """A hand-written file stays the hand's."""
        self.path.write_text(
            "# Ours.\n\n[[account]]   # the boss\nlogin = 'boss@example.com'\n"
            "retention_content = '7d' # she asked for it\n\n# the printer\n"
            "[[account]]\nlogin = 'printer@example.com'\n"
        )
        self.add()
        self.accounts.switch("boss@example.com", on=False)
        text = self.path.read_text("utf-8")
        for kept in ("# Ours.\n", "# the boss", "'7d' # she asked", "# the printer"):
            self.assertIn(kept, text)
        self.assertEqual(
            [table["login"] for table in self.tables()],
            ["boss@example.com", "printer@example.com", "you@example.com"],
        )

    def test_makes_a_file_for_its_owner_alone(self) -> None:
        """A new file is 0600."""
        self.add()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_keeps_mode_and_owner(self) -> None:
        """A change leaves mode and owner as an operator set them."""
        self.add()
        self.path.chmod(0o640)
        before = self.path.stat()
        self.accounts.switch("you@example.com", on=False)
        after = self.path.stat()
        self.assertNotEqual(after.st_ino, before.st_ino)
        self.assertEqual(
            (after.st_mode, after.st_uid, after.st_gid),
            (before.st_mode, before.st_uid, before.st_gid),
        )

    def test_gives_a_new_file_to_the_owner_of_its_directory(self) -> None:
        """Made by root, the file can be read by the server's user all the same."""
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")
        os.chown(self.directory, 12345, 12345)
        self.add()
        found = self.path.stat()
        self.assertEqual((found.st_uid, found.st_gid), (12345, 12345))

    def test_leaves_nothing_beside_the_file(self) -> None:
        """Neither a change nor a failed one leaves a file behind."""
        self.add()
        self.patch(os, "fsync", self.fail_to_sync)
        self.error(self.add, "other@example.com")
        self.assertEqual(
            [one.name for one in self.directory.iterdir()], [self.path.name]
        )

    def fail_to_sync(self, descriptor: int) -> None:
        """Fail as a dying disk does."""
        raise OSError(5, "Input/output error", descriptor)

    def test_says_that_the_disk_failed(self) -> None:
        """A failed write is one line that names the file."""
        self.patch(os, "fsync", self.fail_to_sync)
        words = self.error(self.add)
        self.assertIn(f"{self.path} cannot be written: Input/output error", words)

    def test_says_that_the_directory_is_missing(self) -> None:
        """No directory is one line too."""
        accounts = AccountsFile("/nonexistent/accounts.toml", SeededEntropy(), cheap)
        error = self.assertRaises(
            AccountsError, accounts.add, NewAccount("a@example.com", "x")
        )
        self.assertIn("/nonexistent/accounts.toml", str(error))

    def test_leaves_a_broken_file_alone(self) -> None:
        """A file that is no TOML, or no accounts, is not touched."""
        for content in (
            b"[[account",
            b"\xff",
            b"account = 5",
            b"[[account]]\nlogin = 5",
        ):
            self.path.write_bytes(content)
            self.assertIn("accounts.toml", self.error(self.add))

    def test_loses_no_change_of_two_at_once(self) -> None:
        """Two operators at the same time both get what they asked for."""
        logins = [f"a{number}@example.com" for number in range(8)]
        threads = [threading.Thread(target=self.add, args=(login,)) for login in logins]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(one["login"] for one in self.tables()), logins)


class ScramTests(SynchronousTestCase):
    """The keys for SCRAM-SHA-256."""

    def test_gives_the_keys_of_the_standard(self) -> None:
        """The example of RFC 7677 3 gives the server signature it prints."""
        import hashlib  # noqa: PLC0415
        import hmac  # noqa: PLC0415

        salt = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
        written = scram_keys("pencil", salt, 4096)
        head, keys = written.rsplit("$", 1)
        self.assertEqual(head, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==")
        stored, server = (b64decode(key) for key in keys.split(":"))
        said = (
            b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        )
        signature = hmac.digest(server, said, "sha256")
        self.assertEqual(
            signature, b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        )
        proof = b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
        client = bytes(
            a ^ b
            for a, b in zip(proof, hmac.digest(stored, said, "sha256"), strict=True)
        )
        self.assertEqual(hashlib.sha256(client).digest(), stored)

    def test_gives_one_form_to_what_looks_the_same(self) -> None:
        """A password typed with other spaces or ligatures is the same (RFC 4013)."""
        salt = b"0123456789abcdef"
        self.assertEqual(
            scram_keys("ﬁn\u00a0de\u00ad", salt, 10), scram_keys("fin de", salt, 10)
        )
        self.assertNotEqual(scram_keys("ü", salt, 10), scram_keys("u", salt, 10))
