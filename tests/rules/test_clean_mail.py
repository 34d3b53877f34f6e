"""The built-in checks over what clients really send: nothing is found."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.corpus import messages, varied
from tests.rules.inspected import attached, inspect

COUNT = 500
PER_FILE, IN_ALL = 4096, 40_000


class CleanMailTests(SynchronousTestCase):
    """Mail of every client of the guide."""

    def test_nothing_is_found(self) -> None:
        """500 messages of 22 clients, all different: no rule, not even a note."""
        chance = Random(7)  # noqa: S311 - repeatable on purpose
        sent = list(varied(COUNT, chance))
        self.assertEqual(len(set(sent)), COUNT)
        for message in sent:
            self.assertEqual(inspect(message), (), message.decode("utf-8", "replace"))

    def test_in_pieces(self) -> None:
        """The same in small pieces."""
        chance = Random(8)  # noqa: S311 - repeatable on purpose
        for message in varied(60, chance):
            self.assertEqual(inspect(message, 7), ())

    def test_is_looked_at(self) -> None:
        """The same attachments under a bad name are found: the checks do run."""
        self.assertEqual(
            [one.rule for one in inspect(attached("setup.exe"))], ["executable-name"]
        )

    def test_small(self) -> None:
        """The stored messages are few octets, and one for each client that is run."""
        sizes = {name: len(octets) for name, octets in messages().items()}
        self.assertGreaterEqual(len(sizes), 22)
        self.assertLess(max(sizes.values()), PER_FILE)
        self.assertLess(sum(sizes.values()), IN_ALL)
