"""Tests for what a person writes into a client."""

import ast
import plistlib
import shlex
from importlib.resources import files
from xml.etree import ElementTree as ET

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.admin.client_config import FORMATS, PORTS, Wanted, filled
from tests.admin.test_cli import CommandCase

HOST = "mail.example.com"
ANN = "ann@example.com"
ODD = "o'brien&co@example.com"
# where each client finds everything by the address alone
FOUND = {"autoconfig", "srv"}


def wanted(login: str = ANN, port: int = 465, sender: str = "") -> Wanted:
    """What is asked for."""
    return Wanted(host=HOST, login=login, port=port, sender=sender)


class TemplateTests(SynchronousTestCase):
    """Every format is filled in, and safe against what a login may hold."""

    def test_filled(self) -> None:
        """Host and login stand in it, and nothing is left to fill in or leave out."""
        for name in FORMATS:
            for port in PORTS:
                text = filled(name, wanted(port=port))
                self.assertIn(HOST, text, name)
                self.assertNotRegex(text, "@[A-Z_]+@")
                self.assertNotRegex(text, r"(?m)^(465|587|dsn)\|")
                self.assertIn(str(port), text, name)
                if name not in FOUND:
                    self.assertIn(ANN, text.replace("%40", "@"), name)

    def test_one_port(self) -> None:
        """The other port is not in it, but where both are offered."""
        for name in set(FORMATS) - FOUND:
            for port, other in (PORTS, PORTS[::-1]):
                self.assertNotIn(str(other), filled(name, wanted(port=port)), name)

    def test_sender(self) -> None:
        """Another sender stands where the From is, and the login where one logs in."""
        for name in set(FORMATS) - FOUND - {"thunderbird", "postfix", "autodiscover"}:
            text = filled(name, wanted(sender="me@b.example")).replace("%40", "@")
            self.assertIn("me@b.example", text, name)
            self.assertIn(ANN, text, name)

    def test_once(self) -> None:
        """What looks like a place to fill in is no such place in a login."""
        text = filled("msmtp", wanted("@HOST@@example.com"))
        self.assertIn("user @HOST@@example.com\n", text)

    def test_notices(self) -> None:
        """Those that can ask for notices of delivery do so only when told."""
        for name in ("nodemailer", "phpmailer", "javamail", "jakarta"):
            self.assertNotIn("dsn", filled(name, wanted()))
            told = Wanted(host=HOST, login=ANN, notices=True)
            self.assertIn("dsn", filled(name, told))

    def test_each_file_is_used(self) -> None:
        """No template is forgotten."""
        there = {
            one.name for one in files("fwd_mta.admin").joinpath("clients").iterdir()
        }
        self.assertEqual(there, {file for file, _ in FORMATS.values()})

    def test_python(self) -> None:
        """The Python ones are Python, with any login."""
        for name in ("smtplib", "django", "aiosmtplib"):
            for login in (ANN, ODD, "a\\@example.com"):
                for port in PORTS:
                    text = filled(name, wanted(login, port))
                    constants = {
                        node.value
                        for node in ast.walk(ast.parse(text))
                        if isinstance(node, ast.Constant)
                    }
                    self.assertLessEqual({HOST, login}, constants)

    def test_shell(self) -> None:
        """The commands are one command, with any login."""
        for name in ("swaks", "curl"):
            words = shlex.split(filled(name, wanted(ODD)), comments=True)
            self.assertEqual(words[0], name)
            self.assertTrue(any(word.startswith(ODD) for word in words), words)

    def test_xml(self) -> None:
        """The XML parses; autoconfig names both ports, autodiscover the one."""
        tree = ET.fromstring(filled("autoconfig", wanted(ODD)))  # noqa: S314 - our own
        ports = [one.text for one in tree.iter("port")]
        self.assertEqual(ports, ["993", "465", "587"])
        text = filled("autodiscover", wanted(ODD, 587))
        found = ET.fromstring(text)  # noqa: S314 - our own
        said = {one.tag.rpartition("}")[2]: one.text for one in found.iter()}
        self.assertEqual((said["Port"], said["Encryption"]), ("587", "TLS"))
        self.assertEqual(said["LoginName"], ODD)

    def test_profile(self) -> None:
        """Apple's profile is a property list that names what Apple wants."""
        text = filled("mobileconfig", Wanted(host=HOST, login=ODD, imap="imap.example"))
        profile = plistlib.loads(text.encode())
        (mail,) = profile["PayloadContent"]
        self.assertEqual(mail["PayloadType"], "com.apple.mail.managed")
        self.assertEqual(mail["OutgoingMailServerHostName"], HOST)
        self.assertEqual(mail["OutgoingMailServerUsername"], ODD)
        self.assertEqual(mail["OutgoingMailServerPortNumber"], 465)
        self.assertEqual(mail["IncomingMailServerHostName"], "imap.example")
        self.assertNotEqual(mail["PayloadUUID"], profile["PayloadUUID"])
        again = filled(
            "mobileconfig", Wanted(host=HOST, login=ODD, imap="imap.example")
        )
        self.assertEqual(text, again)


class CommandTests(CommandCase):
    """`fwdmta client-config`."""

    def test_prints(self) -> None:
        """It needs a configuration and neither server nor account."""
        self.write("")
        ran = self.done("client-config", ANN, "--format", "django")
        self.assertIn("EMAIL_PORT = 465", ran.out)

    def test_choices(self) -> None:
        """Port, sender and the host of IMAP are said on the command line."""
        self.write("")
        more = ("--port", "587", "--from", "me@b.example", "--imap", "imap.b.example")
        ran = self.done("client-config", ANN, "--format", "mobileconfig", *more)
        for piece in ("<integer>587<", "me@b.example", "imap.b.example"):
            self.assertIn(piece, ran.out)

    def test_wrong(self) -> None:
        """No address, a format or a port that there is not: used wrongly."""
        self.write("")
        self.assertIn("in full", self.fails(2, "client-config", "ann"))
        self.assertIn("in full", self.fails(2, "client-config", ANN, "--from", "me"))
        self.fails(2, "client-config", ANN, "--format", "telegraph")
        self.fails(2, "client-config", ANN, "--port", "25")
