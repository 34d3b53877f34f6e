"""In which language a sender is told: the account's, its domain's, the usual one."""

from email import message_from_bytes, policy

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import QueueEntry
from tests.builders import entry
from tests.kit import ACCOUNTS, World

TABLES = '\n[notices]\nlanguage = "de"\n[notices.domains]\n"example.com" = "fi"\n'


class LanguageTests(SynchronousTestCase):
    """A whole server."""

    def world(self, extra: str = TABLES, accounts: bytes = ACCOUNTS) -> World:
        """A running server with these settings."""
        world = World()
        world.extra = extra
        world.files["/accounts"] = accounts
        world.server = world.make()
        world.start()
        return world

    def test_by_the_senders_domain(self) -> None:
        """A failure is told in the language of the domain."""
        world = self.world()
        world.submit("bob+unknown@example.net")
        world.pass_time(5)
        (notice,) = world.inbox.messages
        read = message_from_bytes(notice.content, policy=policy.default)
        self.assertEqual(
            read["Subject"],
            "Ei toimitettu: viestisi vastaanottajalle bob+unknown@example.net",
        )

    def chosen(self, world: World, known: QueueEntry) -> str:
        """The language for a message's sender."""
        return world.done(world.server._language_of(known))

    def test_by_the_account(self) -> None:
        """The account's own goes first; then its domain's; then the usual."""
        spoken = self.world(accounts=ACCOUNTS + b'language = "en"\n')
        self.assertEqual(self.chosen(spoken, entry()), "en")
        silent = self.world()
        self.assertEqual(self.chosen(silent, entry()), "fi")
        self.assertEqual(self.chosen(silent, entry(sender="a@example.org")), "de")
        self.assertEqual(self.chosen(silent, entry(sender=None)), "de")

    def test_without_settings(self) -> None:
        """English."""
        self.assertEqual(self.chosen(self.world(""), entry()), "en")
