"""`fwdmta dkim new`."""

import io
import os
import stat
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.cli import main
from fwd_mta.config import check, parse
from fwd_mta.rules.signing import record, signing_key

CONFIGURATION = 'hostname = "mail.example.com"\n'


class NewTests(SynchronousTestCase):
    """A key is made, and its advice is right."""

    @override
    def setUp(self) -> None:
        """A directory of our own."""
        folder = self.mktemp()
        os.makedirs(folder)
        self.path = os.path.abspath(f"{folder}/key.pem")

    def run_command(self, *words: str) -> tuple[int, str, str]:
        """Status, output, errors."""
        said, complained = io.StringIO(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(complained):
            status = main(["dkim", "new", *words])
        return status, said.getvalue(), complained.getvalue()

    def test_both_kinds(self) -> None:
        """The file is private and parses; record and table printed fit to it."""
        for algorithm in ("rsa", "ed25519"):
            path = f"{self.path}.{algorithm}"
            words = ("--algorithm", algorithm, "--selector", "s1", "--out", path)
            status, said, _ = self.run_command("Example.com", *words)
            self.assertEqual(status, 0)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
            key = signing_key("example.com", "s1", Path(path).read_bytes())
            printed = next(line for line in said.splitlines() if " IN TXT " in line)
            self.assertEqual("".join(printed.split('"')[1::2]), record(key))
            self.assertTrue(printed.lower().startswith("s1._domainkey.example.com. "))
            table = said[said.index("[[dkim]]") :]
            lines = check(parse(CONFIGURATION + table, path))
            self.assertEqual([line for line in lines if "dkim" in line], [])

    def test_never_over_another(self) -> None:
        """A file that is there stays as it is."""
        Path(self.path).write_text("precious", encoding="utf-8")
        status, _, error = self.run_command("example.com", "--out", self.path)
        self.assertEqual(status, 1)
        self.assertIn("never written over", error)
        self.assertEqual(Path(self.path).read_text(encoding="utf-8"), "precious")

    def test_wrong(self) -> None:
        """A domain that is none, and a place that is not there, are told."""
        status, _, error = self.run_command("not a domain", "--out", self.path)
        self.assertEqual((status, "allowed" in error), (1, True))
        status, _, error = self.run_command("a.example", "--out", "/nowhere/x/key")
        self.assertEqual((status, "cannot be written" in error), (1, True))
