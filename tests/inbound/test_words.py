"""Tests for what a failed handshake is said to mean."""

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.inbound.words import tls_mistake


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
            self.assertIn(meant, tls_mistake(error), said)

    def test_unknown(self) -> None:
        """What nobody foresaw is given as OpenSSL says it, bounded."""
        text = tls_mistake(SSL.Error([("SSL routines", "", "odd " * 200)]))
        self.assertIn("the TLS handshake failed: ", text)
        self.assertIn("odd odd", text)
        self.assertLess(len(text), 300)
