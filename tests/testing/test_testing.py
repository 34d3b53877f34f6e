"""A mail server for the tests of others, as docs/testing.md tells it."""

import io
import os
import re
import smtplib
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestLoader, TestResult

from twisted.internet.defer import Deferred
from twisted.mail.smtp import SMTPSenderFactory
from twisted.trial.unittest import SynchronousTestCase

import fwd_mta
from fwd_mta.testing.case import MailServerMixin

ROOT = os.path.dirname(os.path.dirname(fwd_mta.__file__))
LOGIN, PASSWORD = "app@example.com", "a long word"
DAY = 86_400


def letter(to: str = "bob@example.net") -> EmailMessage:
    """What an application sends."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = LOGIN, to, "Your order"
    message.set_content("It is on its way.\n.\n")
    return message


class SmtplibTests(MailServerMixin, SynchronousTestCase):
    """An application that uses smtplib."""

    mail_accounts: ClassVar = {LOGIN: PASSWORD}

    def send(self, to: str = "bob@example.net") -> None:
        """Send as the application does."""
        with self.mail.smtp("smtp.example.com", 587) as client:
            client.starttls()
            client.login(LOGIN, PASSWORD)
            client.send_message(letter(to))

    def test_it_arrives(self) -> None:
        """The message is in the inbox, with what the server added."""
        self.send()
        self.mail.advance(10)
        (message,) = self.mail.messages("bob@example.net")
        self.assertEqual(message["Subject"], "Your order")
        self.assertEqual(message.get_content(), "It is on its way.\n.\n")
        self.assertIn("ESMTPSA", message["Received"])
        self.assertEqual(self.mail.messages("eve@example.net"), [])

    def test_tls_from_the_start(self) -> None:
        """Port 465 speaks TLS at once."""
        with self.mail.smtp(port=465) as client:
            client.login(LOGIN, PASSWORD)
            client.send_message(letter())
        self.mail.advance(10)
        self.assertEqual(len(self.mail.messages()), 1)

    def test_a_trusted_network(self) -> None:
        """Port 25 asks for no login."""
        with self.mail.smtp() as client:
            client.send_message(letter())
        self.mail.advance(10)
        self.assertEqual(len(self.mail.messages()), 1)

    def test_refusals(self) -> None:
        """A wrong password and a wrong sender are smtplib's errors."""
        with self.mail.smtp(port=587) as client:
            client.starttls()
            wrong = smtplib.SMTPAuthenticationError
            self.assertRaises(wrong, client.login, LOGIN, "a wrong word")
            client.login(LOGIN, PASSWORD)
            refused = smtplib.SMTPSenderRefused
            self.assertRaises(
                refused, client.sendmail, "boss@example.com", "bob@example.net", b"x"
            )

    def test_no_such_port(self) -> None:
        """Where nobody listens there is no connection."""
        self.assertRaises(OSError, self.mail.smtp, "smtp.example.com", 2525)

    def test_a_bounce(self) -> None:
        """A recipient that does not exist: a notice comes back to the sender."""
        self.mail.behave("bob@example.net", "unknown")
        self.send()
        self.mail.advance(60)
        self.assertEqual(self.mail.results("bob@example.net"), ["failed"])
        (notice,) = self.mail.messages(LOGIN)
        self.assertEqual(notice.get_content_type(), "multipart/report")

    def test_a_host_that_is_down(self) -> None:
        """Mail waits, its sender hears of the delay, and at last it arrives."""
        self.mail.behave("example.net", "defers")
        self.send()
        self.mail.advance(6 * 3600)
        self.assertEqual(self.mail.messages("bob@example.net"), [])
        self.assertEqual(len(self.mail.messages(LOGIN)), 1)
        self.mail.behave("example.net", "plain")
        self.mail.advance(2 * 3600)
        self.assertEqual(self.mail.results("bob@example.net")[-1], "delivered")
        self.mail.advance(5 * DAY)
        self.assertEqual(len(self.mail.messages("bob@example.net")), 1)

    def test_what_is_no_behaviour(self) -> None:
        """A name that is not known is told with those that are."""
        for who in ("example.net", "bob@example.net"):
            error = self.assertRaises(ValueError, self.mail.behave, who, "odd")
            self.assertIn("'odd' is none of", str(error))
        self.mail.behave("bob@example.net", "plain")


class ConfiguredTests(MailServerMixin, SynchronousTestCase):
    """A server with settings of its own, and an application on Twisted."""

    mail_configuration = "[queue]\nmaximal_queue_lifetime = '1h'\n"

    def test_twisted(self) -> None:
        """Any protocol connects to it; its Deferred fires when time passes."""
        sent: Deferred[object] = Deferred()
        content = io.BytesIO(letter().as_bytes())
        factory = SMTPSenderFactory(LOGIN, "bob@example.net", content, sent)
        _ = self.mail.connect(factory, 25)
        self.assertNoResult(sent)
        self.mail.advance(60)
        self.successResultOf(sent)
        self.assertEqual(len(self.mail.messages("bob@example.net")), 1)

    def test_settings(self) -> None:
        """A short lifetime is over soon."""
        self.mail.behave("example.net", "defers")
        with self.mail.smtp() as client:
            client.send_message(letter())
        self.mail.advance(2 * 3600)
        self.assertEqual(self.mail.results("bob@example.net")[-1], "expired")


def example(number: int) -> str:
    """One of the examples of docs/testing.md."""
    page = (Path(ROOT) / "docs" / "testing.md").read_text("utf-8")
    found: list[str] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return found[number]


class UnittestTests(SynchronousTestCase):
    """The mixin, as the page shows it."""

    def test_example(self) -> None:
        """The example of docs/testing.md passes as it stands."""
        names: dict[str, Any] = {"__name__": "example"}
        exec(example(1), names)  # noqa: S102 - our own page
        suite = TestLoader().loadTestsFromTestCase(names["ShopTests"])
        result = TestResult()
        suite.run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (1, [], []))


class PytestTests(SynchronousTestCase):
    """The fixture."""

    def test_fixture(self) -> None:
        """The example of docs/testing.md passes: each test has its own server."""
        try:
            import pytest  # noqa: F401, PLC0415
        except ImportError:
            self.skipTest("pytest is not installed")
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "test_app.py").write_text(example(0))
        plugins = ["-p", "fwd_mta.testing.pytest_plugin", "-p", "no:cacheprovider"]
        done = subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-m", "pytest", "-q", *plugins, "test_app.py"],
            cwd=directory,
            env=os.environ
            | {"PYTHONPATH": ROOT, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertIn("3 passed", done.stdout, done.stdout + done.stderr)
