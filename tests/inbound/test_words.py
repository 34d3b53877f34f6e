"""Tests for what a failed handshake is said to mean."""

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.inbound.words import fault, tls_mistake
from fwd_mta.mail.errors import StoreError


class TlsMistakeTests(SynchronousTestCase):
    """`tls_mistake` speaks to the one who set up the client."""

    def test_known(self) -> None:
        """The mistakes that people make have words of their own."""
        table = (
            ("http request", "clear text on a port that speaks TLS"),
            ("wrong version number", "not STARTTLS"),
            ("unsupported protocol", "TLS 1.2 or newer"),
            ("tlsv1 alert unknown ca", "does not trust our certificate"),
        )
        for said, meant in table:
            error = SSL.Error([("SSL routines", "", said)])
            name, text = tls_mistake(error)
            self.assertIn(meant, text, said)
            self.assertNotEqual(name, "other")

    def test_unknown(self) -> None:
        """What nobody foresaw is given as OpenSSL says it, bounded."""
        name, text = tls_mistake(SSL.Error([("SSL routines", "", "odd " * 200)]))
        self.assertEqual(name, "other")
        self.assertIn("the TLS handshake failed: ", text)
        self.assertIn("odd odd", text)
        self.assertLess(len(text), 300)


class FaultTests(SynchronousTestCase):
    """`fault` tells the log what broke, without anybody's secret."""

    def test_ours(self) -> None:
        """Our own errors say what happened."""
        self.assertEqual(fault(StoreError("disk gone")), "StoreError: disk gone")

    def test_any(self) -> None:
        """Others are known by type and place; their words may hold a password."""
        text = ""
        try:
            int("hunter2")
        except ValueError as error:
            text = fault(error)
        self.assertTrue(text.startswith("ValueError at test_words.py:"), text)
        self.assertNotIn("hunter2", text)

    def test_never_raised(self) -> None:
        """One that was made and not raised has no place."""
        self.assertEqual(fault(KeyError("x")), "KeyError")
