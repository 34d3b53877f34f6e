"""Tests for the reverse-path that the world sees."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import Stage
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.return_path import entry_of, returned_to
from fwd_mta.world.hosts import Behaviour
from tests.builders import ID, envelope, mailbox
from tests.kit import World

PATHS = {"example.com": mailbox("bounces@rp.example.com")}


class ReturnPathTests(SynchronousTestCase):
    """`returned_to` and its way back."""

    def test_carries_the_message(self) -> None:
        """The address of the domain, with the id; the recipients stay."""
        given = returned_to(envelope(sender="ann@Example.COM"), ID, PATHS)
        self.assertEqual(str(given.reverse_path), f"bounces+{ID}@rp.example.com")
        self.assertEqual(given.recipients, envelope().recipients)
        assert given.reverse_path is not None
        self.assertEqual(entry_of(given.reverse_path, PATHS), ID)

    def test_null_stays_null(self) -> None:
        """A notice has no sender, whatever is set."""
        null = envelope(sender=None)
        self.assertIs(returned_to(null, ID, PATHS), null)

    def test_others_stay(self) -> None:
        """A domain without a return path, or a part of one, is left alone."""
        for sender in ("ann@example.org", "ann@sub.example.com"):
            given = envelope(sender=sender)
            self.assertIs(returned_to(given, ID, PATHS), given)

    def test_foreign_addresses(self) -> None:
        """What is no return path of ours tells of no message."""
        for text in (
            f"bounces+{ID}@example.com",
            f"other+{ID}@rp.example.com",
            "bounces@rp.example.com",
            "bounces+@rp.example.com",
            "bounces+../../x@rp.example.com",
        ):
            self.assertIsNone(entry_of(mailbox(text), PATHS), text)


class ReturningServerTests(SynchronousTestCase):
    """A whole server with a return path."""

    def test_on_the_wire(self) -> None:
        """The next hop sees it; the notice about the message goes to the sender."""
        table = (
            '[[return_path]]\ndomain = "example.com"\naddress = "b@rp.example.com"\n'
        )
        world = World(extra=table)
        world.start()
        self.assertIn(b"250", world.submit("bob@example.net"))
        world.pass_time(5)
        [arrived] = world.inbox.messages
        self.assertRegex(arrived.reverse_path, r"b\+[0-9a-z]+@rp\.example\.com")
        path = mailbox(arrived.reverse_path)
        self.assertIsNotNone(entry_of(path, world.server.scheduler.return_paths))

    def test_notices(self) -> None:
        """A failure is told to the sender, by mail without a return path."""
        table = (
            '[[return_path]]\ndomain = "example.com"\naddress = "b@rp.example.com"\n'
        )
        world = World(extra=table)
        world.start()
        world.host.recipients["gone@example.net"] = Behaviour(
            {Stage.RCPT: Reply(550, "1.1", "No such user")}
        )
        self.assertIn(b"250", world.submit("gone@example.net"))
        world.pass_time(30)
        [notice] = world.inbox.of("ann@example.com")
        self.assertEqual(notice.reverse_path, "")
