"""Scripts that pipe a whole session in and close their end: printf ... | nc."""

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.world.hosts import Inbox
from tests.kit import Wire, World

SESSION = (
    b"EHLO script\r\nMAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.net>\r\n"
    b"DATA\r\nFrom: ann@example.com\r\n\r\nHello\r\n.\r\n"
)


@implementer(IHalfCloseableProtocol)
class Script(Wire):
    """Hears to the end what it is answered after it has closed its own side."""

    def readConnectionLost(self) -> None:
        """The server is done."""
        self.closed = True

    def writeConnectionLost(self) -> None:
        """It closed its side."""


class HalfCloseTests(SynchronousTestCase):
    """Over the network in memory, whose ends close one by one as TCP's do."""

    @override
    def setUp(self) -> None:
        self.world = World()
        self.world.start()

    def say(self, octets: bytes) -> Script:
        """Say it all, close our side, and let the server answer."""
        script = Script()
        self.world.connect(25, script)
        script.say(octets)
        assert script.transport is not None
        script.transport.loseWriteConnection()  # type: ignore[attr-defined]
        self.world.settle()
        return script

    def test_the_last_reply_is_heard(self) -> None:
        """The 250 of the message comes, then the server closes."""
        script = self.say(SESSION)
        self.assertIn(b"250 2.0.0 Ok: queued as", script.heard)
        self.assertTrue(script.closed)
        self.world.pass_time(2)
        self.assertEqual(len(self.inbox.of("bob@example.net")), 1)

    def test_half_a_message_is_none(self) -> None:
        """Content without its dot is dropped, and the line closed."""
        script = self.say(SESSION[:-5])
        self.assertTrue(
            script.heard.endswith(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        )
        self.assertTrue(script.closed)
        self.world.pass_time(2)
        self.assertEqual(self.inbox.messages, [])

    @property
    def inbox(self) -> Inbox:
        """What the far side took."""
        return self.world.inbox
