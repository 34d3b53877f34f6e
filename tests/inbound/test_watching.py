"""Tests for the accounts file that changes under a running server."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Lifecycle, Trouble
from fwd_mta.inbound.accounts import FileAccounts
from fwd_mta.inbound.watching import AccountsWatch
from fwd_mta.mail.account import Account
from fwd_mta.world.machine import InlineWorker, SeededEntropy
from tests.inbound.bench import ACCOUNTS, CHEAP


class WatchTests(SynchronousTestCase):
    """`AccountsWatch` takes what has changed."""

    @override
    def setUp(self) -> None:
        """A loaded file, and a watch over it."""
        self.clock = Clock()
        self.events: list[Event] = []
        self.content: bytes | OSError = ACCOUNTS
        self.accounts = FileAccounts(self.read, InlineWorker(), SeededEntropy(), CHEAP)
        self.successResultOf(Deferred.fromCoroutine(self.accounts.load()))
        self.watch = AccountsWatch(self.accounts, self.clock, self.events.append)
        self.watch.start()

    def read(self) -> bytes:
        """The file, or what reading it comes to."""
        if isinstance(self.content, OSError):
            raise self.content
        return self.content

    def find(self, login: str) -> Account | None:
        """The account of a login, as of now."""
        return self.successResultOf(Deferred.fromCoroutine(self.accounts.find(login)))

    def test_changed(self) -> None:
        """A new account is there within 15 seconds, and said once."""
        self.clock.advance(15)
        self.assertEqual(self.events, [])
        self.content = ACCOUNTS.replace(b"ann@", b"eva@")
        for _ in range(3):
            self.clock.advance(15)
        self.assertIsNotNone(self.find("eva@example.com"))
        self.assertIsNone(self.find("ann@example.com"))
        [event] = self.events
        self.assertIsInstance(event, Lifecycle)

    def test_bad(self) -> None:
        """A bad or missing file changes nothing, and is reported once."""
        for content in (b"[[account", OSError(2, "No such file")):
            self.events.clear()
            self.content = content
            for _ in range(3):
                self.clock.advance(15)
            [event] = self.events
            self.assertIsInstance(event, Trouble)
            self.assertIsNotNone(self.find("ann@example.com"))
        self.content = ACCOUNTS
        self.clock.advance(15)
        self.assertIsInstance(self.events[-1], Lifecycle)

    def test_stop(self) -> None:
        """Nothing is left behind."""
        self.successResultOf(Deferred.fromCoroutine(self.watch.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
