"""Tests for what a person writes into a client."""

import ast
from importlib.resources import files
from xml.etree import ElementTree as ET

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.admin.client_config import FORMATS, filled
from tests.admin.test_cli import CommandCase

HOST = "mail.example.com"
ANN = "ann@example.com"
ODD = "o'brien&co@example.com"


class TemplateTests(SynchronousTestCase):
    """Every format is filled in, and safe against what a login may hold."""

    def test_filled(self) -> None:
        """Host and login stand in it, and nothing is left to fill in."""
        for name in FORMATS:
            text = filled(name, HOST, ANN)
            self.assertIn(HOST, text, name)
            self.assertNotRegex(text, "@(HOST|LOGIN|DOMAIN)@")
            if name not in {"autoconfig", "srv"}:
                self.assertIn(ANN, text, name)

    def test_each_file_is_used(self) -> None:
        """No template is forgotten."""
        there = {
            one.name for one in files("fwd_mta.admin").joinpath("clients").iterdir()
        }
        self.assertEqual(there, {file for file, _ in FORMATS.values()})

    def test_python(self) -> None:
        """The Python ones are Python, with any login."""
        for name in ("smtplib", "django"):
            for login in (ANN, ODD, "a\\@example.com"):
                constants = {
                    node.value
                    for node in ast.walk(ast.parse(filled(name, HOST, login)))
                    if isinstance(node, ast.Constant)
                }
                self.assertLessEqual({HOST, login}, constants)

    def test_xml(self) -> None:
        """The XML parses and names both ports."""
        tree = ET.fromstring(filled("autoconfig", HOST, ODD))  # noqa: S314 - our own
        self.assertEqual([one.text for one in tree.iter("port")], ["465", "587"])


class CommandTests(CommandCase):
    """`fwdmta client-config`."""

    def test_prints(self) -> None:
        """It needs a configuration and neither server nor account."""
        self.write("")
        ran = self.done("client-config", ANN, "--format", "django")
        self.assertIn("EMAIL_PORT = 465", ran.out)

    def test_wrong(self) -> None:
        """No login, or a format that there is not: used wrongly."""
        self.write("")
        self.assertIn("full address", self.fails(2, "client-config", "ann"))
        self.fails(2, "client-config", ANN, "--format", "telegraph")
