"""Tests of the TLS that a hop must have."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.route import TlsLevel
from fwd_mta.rules import security
from fwd_mta.rules.security import Course


class SecurityTests(SynchronousTestCase):
    """Each level against what a host does."""

    def test_before_tls(self) -> None:
        """Only "may" and "none" go on in clear; only "none" refuses an offer."""
        for level, offered, course in (
            (TlsLevel.NONE, True, Course.PROCEED),
            (TlsLevel.NONE, False, Course.PROCEED),
            (TlsLevel.MAY, True, Course.START_TLS),
            (TlsLevel.MAY, False, Course.PROCEED),
            (TlsLevel.ENCRYPT, True, Course.START_TLS),
            (TlsLevel.ENCRYPT, False, Course.NEXT_HOST),
            (TlsLevel.SECURE, True, Course.START_TLS),
            (TlsLevel.SECURE, False, Course.NEXT_HOST),
        ):
            said = security.before_tls(level, offered=offered, failed_before=False)
            self.assertIs(said, course, (level, offered))

    def test_after_a_failed_handshake(self) -> None:
        """The second connection goes in clear under "may", never above it."""
        for level, course in (
            (TlsLevel.MAY, Course.PROCEED),
            (TlsLevel.ENCRYPT, Course.START_TLS),
            (TlsLevel.SECURE, Course.START_TLS),
        ):
            said = security.before_tls(level, offered=True, failed_before=True)
            self.assertIs(said, course, level)

    def test_failed_handshake(self) -> None:
        """A failed handshake falls back to clear under "may" only."""
        self.assertIs(security.failed(TlsLevel.MAY), Course.IN_CLEAR)
        self.assertIs(security.failed(TlsLevel.ENCRYPT), Course.NEXT_HOST)
        self.assertIs(security.failed(TlsLevel.SECURE), Course.NEXT_HOST)

    def test_refused_starttls(self) -> None:
        """STARTTLS offered, then refused: 5yz sends on, "may" ends in clear."""
        for level, permanent, course in (
            (TlsLevel.MAY, False, Course.PROCEED),
            (TlsLevel.MAY, True, Course.IN_CLEAR),
            (TlsLevel.ENCRYPT, False, Course.NEXT_HOST),
            (TlsLevel.ENCRYPT, True, Course.NEXT_HOST),
            (TlsLevel.SECURE, False, Course.NEXT_HOST),
            (TlsLevel.SECURE, True, Course.NEXT_HOST),
        ):
            said = security.refused(level, permanent=permanent)
            self.assertIs(said, course, (level, permanent))

    def test_certificates(self) -> None:
        """Only "secure" cares whose certificate it is."""
        for level in TlsLevel:
            self.assertIs(security.verified(level, None), Course.PROCEED)
        fault = "self-signed certificate"
        self.assertIs(security.verified(TlsLevel.ENCRYPT, fault), Course.PROCEED)
        self.assertIs(security.verified(TlsLevel.SECURE, fault), Course.NEXT_HOST)
