"""Tests of service extensions, offered by others and by us."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.reply import Reply
from fwd_mta.smtp.extensions import Offered, keywords


class OfferedTests(SynchronousTestCase):
    """What an EHLO answer says."""

    def test_names(self) -> None:
        """The lines after the first are keywords, in any case."""
        offered = Offered.parse(Reply(250, None, "SIZE hello\nPIPELINING\nstarttls"))
        self.assertEqual(offered.names, {"PIPELINING", "STARTTLS"})
        self.assertTrue(offered.offers("StartTLS"))
        self.assertFalse(offered.offers("SIZE"))

    def test_size(self) -> None:
        """SIZE may have a limit; none, 0 and nonsense mean that none is told."""
        for words, size in (
            ("SIZE 1000", 1000),
            ("SIZE", None),
            ("SIZE 0", None),
            ("SIZE -5", None),
            ("SIZE " + "9" * 5000, None),
        ):
            offered = Offered.parse(Reply(250, None, "host\n" + words))
            self.assertEqual(offered.size, size)
            self.assertIn("SIZE", offered.names)

    def test_auth(self) -> None:
        """Mechanisms keep their order; the old spelling with "=" adds no doubles."""
        reply = Reply(250, None, "host\nAUTH plain LOGIN\nAUTH=LOGIN XOAUTH2")
        self.assertEqual(Offered.parse(reply).auth, ("PLAIN", "LOGIN", "XOAUTH2"))

    def test_limits(self) -> None:
        """A limit of recipients is understood (RFC 9422)."""
        reply = Reply(250, None, "host\nLIMITS MAILMAX=5 RCPTMAX=20")
        self.assertEqual(Offered.parse(reply).rcpt_max, 20)

    def test_empty_lines(self) -> None:
        """An empty line is no keyword."""
        self.assertEqual(
            Offered.parse(Reply(250, None, "host\n\n ")).names, frozenset()
        )

    def test_none(self) -> None:
        """Who was greeted by HELO offers nothing."""
        self.assertEqual(Offered.none(), Offered())
        self.assertFalse(Offered.none().offers("PIPELINING"))


class KeywordsTests(SynchronousTestCase):
    """What we offer."""

    def _ours(self, *, encrypted: bool, starttls: bool) -> tuple[str, ...]:
        return keywords(
            encrypted=encrypted,
            starttls=starttls,
            auth=("PLAIN", "LOGIN"),
            size_limit=1000,
            recipient_limit=50,
            hold_until=1798761600.0,
        )

    def test_in_clear(self) -> None:
        """Before TLS there is STARTTLS and nothing about AUTH."""
        ours = self._ours(encrypted=False, starttls=True)
        self.assertIn("STARTTLS", ours)
        self.assertFalse(
            [line for line in ours if line.startswith(("AUTH", "LIMITS", "REQ", "FUT"))]
        )

    def test_encrypted(self) -> None:
        """Inside TLS there is AUTH and no second STARTTLS."""
        ours = self._ours(encrypted=True, starttls=True)
        self.assertIn("AUTH PLAIN LOGIN", ours)
        self.assertIn("LIMITS RCPTMAX=50", ours)
        self.assertIn("REQUIRETLS", ours)
        self.assertIn("FUTURERELEASE 2592000 2027-01-01T00:00:00Z", ours)
        self.assertNotIn("STARTTLS", ours)

    def test_read_by_ourselves(self) -> None:
        """What we offer, our own client understands."""
        lines = "\n".join(("host", *self._ours(encrypted=True, starttls=False)))
        offered = Offered.parse(Reply(250, None, lines))
        self.assertEqual(offered.size, 1000)
        self.assertEqual(offered.auth, ("PLAIN", "LOGIN"))
        self.assertEqual(offered.rcpt_max, 50)
        self.assertLessEqual({"PIPELINING", "8BITMIME", "SMTPUTF8"}, offered.names)
