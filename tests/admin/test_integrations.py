"""The pages for those who write programs, held equal to what is really printed.

`python -m tests.admin.test_integrations` writes the examples into docs/integrations.md.
"""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.client_config import FORMATS, Wanted, filled
from fwd_mta.inbound import words
from fwd_mta.mail.account import Account
from fwd_mta.mail.address import parse_mailbox
from fwd_mta.rules.submission import sender_refusal
from fwd_mta.smtp.replies import write

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "integrations.md"
TROUBLE = DOCS / "troubleshooting.md"
HOST = "mail.your-domain.com"
LOGIN = "your-username@your-domain.com"
FOREIGN = "somebody@elsewhere.example"
# for people, or for what mail programs ask by themselves: nothing is run from these
FORMS = {"apple", "autoconfig", "autodiscover", "gmail", "mobileconfig", "srv"}
# whose words for a wrong password are their own
SILENT = {"mutt", "thunderbird"}

_EXAMPLE = re.compile(
    r"(<!-- fwdmta client-config (\S+) --format (\S+) -->\n```\w*\n)(.*?)(?=^```$)",
    re.DOTALL | re.MULTILINE,
)
_QUOTED = re.compile(r"`([45][0-9]{2} [^`]*)`")
_ROW = re.compile(r"^\| `([a-z-]+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def printed(login: str, name: str) -> str:
    """What the command prints for this example."""
    return filled(name, Wanted(host=HOST, login=login))


def page(text: str) -> str:
    """The page with every example as it is printed now."""
    return _EXAMPLE.sub(lambda found: found[1] + printed(found[2], found[3]), text)


def refusal() -> list[str]:
    """The lines of the real refusal of a sender."""
    reply = sender_refusal(Account(login=LOGIN), parse_mailbox(FOREIGN))
    return write(reply).decode().splitlines() if reply else []


class ExamplesTests(SynchronousTestCase):
    """docs/integrations.md."""

    @override
    def setUp(self) -> None:
        """Read it."""
        self.text = EXAMPLES.read_text("utf-8")

    def test_as_printed(self) -> None:
        """Each example is what the command prints."""
        for _, login, name, shown in _EXAMPLE.findall(self.text):
            self.assertEqual(shown, printed(login, name), name)

    def test_all(self) -> None:
        """Each format has its example, once."""
        shown = [name for _, _, name, _ in _EXAMPLE.findall(self.text)]
        self.assertEqual(sorted(shown), sorted(FORMATS))


class TroubleTests(SynchronousTestCase):
    """docs/troubleshooting.md."""

    @override
    def setUp(self) -> None:
        """Read it."""
        self.text = TROUBLE.read_text("utf-8")
        self.rows = {row[0]: row[1:] for row in _ROW.findall(self.text)}

    def test_replies(self) -> None:
        """Each reply that it quotes is one of docs/errors.md, word for word."""
        errors = (DOCS / "errors.md").read_text("utf-8").replace("\\", "")
        known = {line.split(" | ")[0].strip("| ") for line in errors.splitlines()}
        quoted = _QUOTED.findall(self.text)
        self.assertGreater(len(quoted), 15)
        self.assertEqual([one for one in quoted if one not in known], [])

    def test_refusal(self) -> None:
        """The refusal of a sender is shown as it is."""
        self.assertEqual(len(refusal()), 2)
        self.assertIn("\n".join(["```", *refusal(), "```"]), self.text)

    def test_log(self) -> None:
        """What the log says of wrong ports and old clients is quoted from it."""
        said = [words.HELLO_IN_CLEAR, *(one for _, _, one in words.TLS_MISTAKES)]
        for line in said:
            self.assertIn(f"`{line}`", self.text)

    def test_programs(self) -> None:
        """Each program that is run has its row, with our words in it."""
        self.assertEqual(set(self.rows), set(FORMATS) - FORMS)
        lines = [line.partition(" ")[2] for line in refusal()]
        for name, (wrong_password, wrong_sender) in self.rows.items():
            if name not in SILENT:
                words_of_ours = "5.7.8 Authentication failed: wrong login or password"
                self.assertIn(words_of_ours, wrong_password, name)
            pieces = wrong_sender.split("…")
            first = FOREIGN + pieces[0].partition(FOREIGN)[2]
            self.assertTrue(
                first in lines[0] or lines[1] in wrong_sender,
                f"{name}: {first!r} is not in {lines}",
            )


if __name__ == "__main__":
    EXAMPLES.write_text(page(EXAMPLES.read_text("utf-8")), "utf-8")
