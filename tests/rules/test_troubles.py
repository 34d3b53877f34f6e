"""What a failure without a reply means."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import Action, Category, Scope, Stage
from fwd_mta.rules.classification import RuleTable
from fwd_mta.rules.troubles import KINDS, diagnose


class TroubleTests(SynchronousTestCase):
    """Failures of DNS, network, TLS and of what a host can take."""

    def test_kinds(self) -> None:
        """Each kind has the codes of SPEC section 3."""
        expected = {
            "connection-refused": (Action.DEFER, 0, "4.4.1"),
            "timeout": (Action.DEFER, 0, "4.4.2"),
            "connection-lost": (Action.DEFER, 0, "4.4.2"),
            "lost-after-dot": (Action.DEFER, 0, "4.4.2"),
            "no-route": (Action.DEFER, 0, "4.4.1"),
            "dns-failure": (Action.DEFER, 0, "4.4.3"),
            "no-such-domain": (Action.REJECT, 550, "5.1.2"),
            "null-mx": (Action.REJECT, 556, "5.1.10"),
            "no-usable-exchanger": (Action.REJECT, 550, "5.4.4"),
            "loop": (Action.REJECT, 554, "5.4.6"),
            "tls-failed": (Action.DEFER, 0, "4.7.5"),
            "tls-required": (Action.DEFER, 0, "4.7.4"),
            "requiretls": (Action.REJECT, 550, "5.7.30"),
            "protocol": (Action.DEFER, 0, "4.5.0"),
            "size": (Action.REJECT, 552, "5.3.4"),
            "8bit": (Action.REJECT, 554, "5.6.3"),
            "smtputf8": (Action.REJECT, 553, "5.6.7"),
            "smtputf8-header": (Action.REJECT, 550, "5.6.9"),
            "expired": (Action.REJECT, 0, "5.4.7"),
            "interrupted": (Action.DEFER, 0, "4.3.2"),
        }
        found = {kind: diagnose(kind, "", Stage.MAIL) for kind in KINDS}
        given = {
            kind: (one.action, one.code, one.status) for kind, one in found.items()
        }
        self.assertEqual(given, expected)
        self.assertTrue(
            all(one.rule == f"trouble-{kind}" for kind, one in found.items())
        )

    def test_timeout_of_a_connection(self) -> None:
        """A host that never accepted did not answer (RFC 3463 X.4.1)."""
        self.assertEqual(diagnose("timeout", "", Stage.CONNECT).status, "4.4.1")

    def test_unknown_kind(self) -> None:
        """What has no name is our fault: tried again, and rests no site."""
        found = diagnose("surprise", "", Stage.DATA)
        self.assertIs(found.action, Action.DEFER)
        self.assertIs(found.category, Category.OTHER)
        self.assertIs(found.scope, Scope.MESSAGE)

    def test_interruption_rests_no_site(self) -> None:
        """Our own stop says nothing about the other side."""
        found = diagnose("interrupted", "", Stage.DATA)
        self.assertIs(found.scope, Scope.MESSAGE)

    def test_detail(self) -> None:
        """A detail is added, on one line and bounded."""
        table = RuleTable(())
        found = table.trouble("no-route", "mx\r\n\x1b[1m " + "x" * 900, Stage.CONNECT)
        self.assertIn("(mx [1m xxx", found.message)
        self.assertTrue(found.message.isprintable())
        self.assertLess(len(found.message), 400)
