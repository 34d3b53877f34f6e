"""Tests of the dialogue before any mail."""

from twisted.internet.defer import Deferred

from fwd_mta.mail.entry import Stage
from fwd_mta.mail.route import TlsLevel
from fwd_mta.net.tls import ClientTlsContext
from fwd_mta.outbound.opening import NotOpened, Opening, Terms
from tests.outbound.wired import Wired

CONTEXT = ClientTlsContext()


class OpeningTests(Wired):
    """What a host may say before it takes mail; TLS itself is in test_agent."""

    def start(self, terms: Terms | None = None) -> Deferred[None]:
        """Begin the dialogue."""
        creator = CONTEXT.towards("host.example")
        opening = Opening(self.connection, terms or Terms(), creator)
        return self.begin(opening.run())

    def refused(self, work: Deferred[None]) -> NotOpened:
        """Why the host cannot be used."""
        why = self.failureResultOf(work, NotOpened).value
        assert isinstance(why, NotOpened)
        return why

    def test_plain(self) -> None:
        """Greeting and EHLO are all it takes under "may" without STARTTLS."""
        work = self.start()
        self.assertEqual(self.said(), b"", "nothing is said before the greeting")
        self.hear(b"220 hi\r\n")
        self.assertEqual(self.said(), b"EHLO us.example\r\n")
        self.hear(b"250-host\r\n250 PIPELINING\r\n")
        self.successResultOf(work)
        self.assertTrue(self.connection.offered.offers("PIPELINING"))

    def test_lmtp(self) -> None:
        """A mail store is greeted by LHLO."""
        work = self.start(Terms(TlsLevel.NONE, lmtp=True))
        self.hear(b"220 hi\r\n")
        self.assertEqual(self.said(), b"LHLO us.example\r\n")
        self.hear(b"250 hi\r\n")
        self.successResultOf(work)

    def test_refusals(self) -> None:
        """A refusal is told with its stage and its words."""
        work = self.start()
        self.hear(b"554 5.7.1 no\r\n")
        why = self.refused(work)
        self.assertIs(why.stage, Stage.GREETING)
        self.assertEqual(str(why.reply), "554 5.7.1 no")
        self.assertEqual(self.said(), b"")
        self.setUp()
        work = self.start()
        self.hear(b"220 hi\r\n", b"450 later\r\n")
        self.assertIs(self.refused(work).stage, Stage.HELLO)

    def test_odd_greeting(self) -> None:
        """A greeting that asks for more is a breach, not a yes."""
        work = self.start()
        self.hear(b"354 go on\r\n")
        why = self.refused(work)
        assert why.trouble is not None
        self.assertEqual(why.trouble.kind, "protocol")

    def test_silence(self) -> None:
        """Silence ends at its stage's time-out."""
        work = self.start()
        self.hear(b"220 hi\r\n")
        self.clock.advance(20)
        why = self.refused(work)
        self.assertIs(why.stage, Stage.HELLO)
        assert why.trouble is not None
        self.assertEqual(why.trouble.kind, "timeout")

    def test_stripped_starttls(self) -> None:
        """Who takes STARTTLS out of the answer stops the mail, not its secrecy."""
        work = self.start(Terms(TlsLevel.ENCRYPT))
        self.hear(b"220 hi\r\n", b"250-host\r\n250 XXXXXXXA\r\n")
        why = self.refused(work)
        self.assertIs(why.stage, Stage.STARTTLS)
        assert why.trouble is not None
        self.assertEqual(why.trouble.kind, "tls-required")

    def test_in_clear_after_a_failure(self) -> None:
        """The second connection under "may" does not try TLS again."""
        work = self.start(Terms(failed_before=True))
        self.hear(b"220 hi\r\n", b"250-host\r\n250 STARTTLS\r\n")
        self.successResultOf(work)
        self.assertEqual(self.said(), b"EHLO us.example\r\n")
