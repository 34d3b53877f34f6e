"""Tests of the table of names beyond what every resolver does."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.route import CannotSay, Found, NoSuchName
from fwd_mta.world.names import TableResolver


class TableResolverTests(SynchronousTestCase):
    """A world whose names change."""

    def test_changes(self) -> None:
        """What a test changes in its maps is answered from then on."""
        addresses = {"a.example": ["192.0.2.1"]}
        failing: set[str] = set()
        resolver = TableResolver(addresses=addresses, failing=failing)

        def ask(name: str) -> object:
            return self.successResultOf(
                Deferred.fromCoroutine(resolver.addresses(name))
            )

        self.assertEqual(ask("a.example"), Found(("192.0.2.1",)))
        self.assertEqual(ask("b.example"), NoSuchName("b.example"))
        addresses["b.example"] = ["192.0.2.2"]
        failing.add("a.example")
        self.assertEqual(ask("b.example"), Found(("192.0.2.2",)))
        self.assertIsInstance(ask("a.example"), CannotSay)

    def test_questions_are_kept(self) -> None:
        """What was asked can be looked at."""
        resolver = TableResolver()
        self.successResultOf(Deferred.fromCoroutine(resolver.exchangers("A.example.")))
        self.successResultOf(Deferred.fromCoroutine(resolver.tlsa("mx.example", 25)))
        self.assertEqual(
            resolver.asked, [("MX", "a.example"), ("TLSA", "_25._tcp.mx.example")]
        )

    def test_secure(self) -> None:
        """A signed world says so in its answers."""
        resolver = TableResolver(addresses={"a.example": ["192.0.2.1"]}, secure=True)
        answer = self.successResultOf(
            Deferred.fromCoroutine(resolver.addresses("a.example"))
        )
        self.assertEqual(answer, Found(("192.0.2.1",), secure=True))
