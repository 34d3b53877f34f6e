"""Tests for the same message submitted twice."""

from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Accepted, Repeated
from fwd_mta.inbound import duplicates
from fwd_mta.inbound.content import Content
from fwd_mta.inbound.duplicates import Duplicates, confirmed_by
from fwd_mta.mail.envelope import Envelope, Ret
from fwd_mta.mail.session import Service, Session
from tests.inbound.bench import Bench
from tests.inbound.test_intake import ENVELOPE, HEAD, SESSION
from tests.kit import World

WITH_ID = HEAD + b"Message-ID: <1@example.com>\r\n\r\nHi\r\n"
RELAYED = Session(Service.RELAY, "192.0.2.7", 40000, trusted=True)


class DuplicatesTests(SynchronousTestCase):
    """`Duplicates` knows what was taken a moment ago, and only that."""

    @override
    def setUp(self) -> None:
        """An intake that remembers ten minutes."""
        self.bench = Bench()
        self.good = True
        self.bench.intake.duplicates = Duplicates(600, self.confirm)

    async def confirm(self, name: str) -> bool:
        """What the store would say of the first."""
        return self.good

    def accept(
        self,
        content: bytes = WITH_ID,
        envelope: Envelope = ENVELOPE,
        session: Session = SESSION,
    ) -> str:
        """The reply to a message."""
        arriving = Content(self.bench.intake.spool, 100_000)
        arriving.write(content)
        accepted = self.bench.intake.accept(session, envelope, arriving)
        return str(self.successResultOf(Deferred.fromCoroutine(accepted)))

    def test_repeated(self) -> None:
        """The second gets the words of the first and is not queued; it is logged."""
        first = self.accept()
        self.assertEqual(self.accept(), first)
        self.assertEqual(len(self.bench.writer.added), 1)
        self.assertTrue(self.bench.writer.spools[1].discarded)
        kinds = [type(event) for event in self.bench.events]
        self.assertEqual(kinds, [Accepted, Repeated])

    def test_not_the_same(self) -> None:
        """Another octet, parameter, account or no Message-ID: another message."""
        assert SESSION.account is not None
        bob = replace(SESSION.account, login="bob@example.com", send_as=("*@*",))
        self.accept()
        self.accept(WITH_ID + b"\r\n")
        self.accept(WITH_ID.replace(b"1@", b"2@"))
        self.accept(envelope=replace(ENVELOPE, ret=Ret.FULL))
        owner = replace(bob, send_as=("ann@example.com",))
        self.accept(session=replace(SESSION, account=owner))
        self.assertEqual(len(self.bench.writer.added), 5)
        for _ in range(2):
            self.accept(HEAD + b"\r\nMessage-ID: <1@example.com>\r\n")
        self.assertEqual(len(self.bench.writer.added), 7)

    def test_relay(self) -> None:
        """A device on a relay listener may say the same thing every minute."""
        for _ in range(2):
            self.accept(session=RELAYED)
        self.assertEqual(len(self.bench.writer.added), 2)

    def test_window(self) -> None:
        """After the window it is a new message; with a window of 0 it always is."""
        self.accept()
        self.bench.clock.advance(600)
        self.accept()
        self.assertEqual(len(self.bench.writer.added), 2)
        self.bench.intake.duplicates.window = 0
        self.accept()
        self.assertEqual(len(self.bench.writer.added), 3)

    def test_first_is_gone(self) -> None:
        """One that was cancelled or has failed is sent again."""
        self.accept()
        self.good = False
        self.accept()
        self.assertEqual(len(self.bench.writer.added), 2)

    def test_first_was_not_durable(self) -> None:
        """A 451 is remembered by nobody."""
        self.bench.writer.error = OSError("broken disk")
        self.assertTrue(self.accept().startswith("451"))
        self.bench.writer.error = None
        self.assertTrue(self.accept().startswith("250"))
        self.assertEqual(len(self.bench.writer.added), 1)

    def test_bounded(self) -> None:
        """The table has an end; the oldest are forgotten first."""
        self.patch(duplicates, "REMEMBERED", 2)
        for number in (b"1@", b"2@", b"3@", b"1@", b"3@"):
            self.accept(WITH_ID.replace(b"1@", number))
        self.assertEqual(len(self.bench.writer.added), 4)


class ConfirmTests(SynchronousTestCase):
    """`confirmed_by` asks the real store."""

    def test_all(self) -> None:
        """A waiting message is good for a second 250; a cancelled one is not."""
        world = World()
        world.start()
        world.submit("bob+later@example.net")
        [accepted] = [one for one in world.events if isinstance(one, Accepted)]
        confirm = confirmed_by(world.server.store)
        self.assertTrue(world.done(confirm(accepted.id)))
        self.assertFalse(world.done(confirm("unknown")))
        cancel = {"verb": "change", "change": "cancel", "ids": [accepted.id]}
        world.done(world.server.commands.obey(cancel))
        self.assertFalse(world.done(confirm(accepted.id)))
