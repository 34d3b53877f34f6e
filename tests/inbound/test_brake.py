"""Tests for the brake on accounts that send bad mail."""

import json

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Suspended
from fwd_mta.inbound.brake import REMEMBERED, Brake, BrakeSettings
from fwd_mta.inbound.builtin import BuiltIn
from fwd_mta.inbound.limits import lift_in_file
from fwd_mta.mail.entry import Category, Stage
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.inspection import GTUBE, RULES
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.hosts import Behaviour
from tests.builders import entry
from tests.inbound.bench import Bench, Wire
from tests.kit import World

ANN = "ann@example.com"
NOW = 1_800_000_000.0
SPAM = Category.SPAM


class BrakeTests(SynchronousTestCase):
    """`Brake` counts within a window."""

    @override
    def setUp(self) -> None:
        self.events: list[Event] = []
        self.brake = Brake(self.events.append)
        self.brake.settings = BrakeSettings(3, 600.0)

    def heard(self, *times: float, kind: Category | None = SPAM) -> None:
        """Refuse Ann's mail at these times."""
        for at in times:
            self.brake.heard(ANN, kind, NOW + at)

    def test_held(self) -> None:
        """The third within ten minutes holds the account, and the operator hears."""
        self.heard(0, 300)
        self.assertIsNone(self.brake.hold(ANN))
        self.heard(599)
        hold = self.brake.hold(ANN)
        assert hold is not None
        self.assertEqual((hold.reply.code, hold.reply.status), (450, "4.7.1"))
        self.assertIn("3 of its messages were refused as bad", hold.reply.text)
        [event] = self.events
        assert isinstance(event, Suspended)
        self.assertEqual(event.account, ANN)
        self.assertIn(f"fwdmta account enable {ANN}", event.cure)
        self.assertEqual(self.brake.held, 1)

    def test_said_once(self) -> None:
        """What is still under way when the hold begins makes no second alarm."""
        self.heard(0, 1, 2, 3, 4, 5, 6)
        self.assertEqual(len(self.events), 1)

    def test_window(self) -> None:
        """Three in more than ten minutes are as nothing."""
        self.heard(0, 300, 601, 901, 1202)
        self.assertIsNone(self.brake.hold(ANN))

    def test_other_refusals(self) -> None:
        """An unknown recipient or a forbidden attachment is no bad mail."""
        self.heard(0, 1, 2, kind=Category.RECIPIENT)
        self.heard(0, 1, 2, kind=Category.POLICY)
        self.heard(0, 1, 2, kind=None)
        self.assertIsNone(self.brake.hold(ANN))

    def test_others(self) -> None:
        """One account's mail holds no other."""
        self.heard(0, 1, 2)
        self.assertIsNone(self.brake.hold("bob@example.com"))

    def test_off(self) -> None:
        """With 0 nobody is held; with 1 the first counts."""
        self.brake.settings = BrakeSettings(0, 600.0)
        self.heard(0, 1, 2, 3)
        self.assertIsNone(self.brake.hold(ANN))
        self.brake.settings = BrakeSettings(1, 600.0)
        self.heard(4)
        self.assertIsNotNone(self.brake.hold(ANN))

    def test_lifted(self) -> None:
        """Once lifted it is counted anew."""
        self.heard(0, 1, 2)
        self.assertTrue(self.brake.lift(ANN))
        self.assertIsNone(self.brake.hold(ANN))
        self.heard(3, 4)
        self.assertIsNone(self.brake.hold(ANN))
        self.assertFalse(self.brake.lift(ANN))

    def test_kept(self) -> None:
        """Counts and holds outlive a restart."""
        self.heard(0, 1)
        again = Brake()
        again.settings = BrakeSettings(3, 600.0)
        again.load(json.loads(json.dumps(self.brake.dump())))
        again.heard(ANN, SPAM, NOW + 2)
        self.assertIsNotNone(again.hold(ANN))
        third = Brake()
        third.load(json.loads(json.dumps(again.dump())))
        self.assertEqual(third.hold(ANN), again.hold(ANN))

    def test_bounded(self) -> None:
        """The tables do not grow without end."""
        for number in range(REMEMBERED + 10):
            self.brake.heard(f"{number}@example.com", SPAM, NOW)
        self.assertEqual(len(self.brake.dump()["refused"]), REMEMBERED)

    def test_lifted_in_the_file(self) -> None:
        """Where no server runs the file is changed, and nothing else in it."""
        disk, path = MemoryDisk(), "/state/limits.json"
        disk.make_directory("/state")
        self.heard(0, 1, 2)
        kept = {"secret": "00", "brake": self.brake.dump()}
        file = disk.create(path)
        file.append(json.dumps(kept).encode())
        file.close()
        self.assertTrue(lift_in_file(disk, path, ANN))
        self.assertFalse(lift_in_file(disk, path, ANN))
        file = disk.open(path)
        self.assertEqual(json.loads(file.read_at(0, 999))["secret"], "00")
        self.assertFalse(lift_in_file(disk, "/state/none", ANN))


class HeldSessionTests(SynchronousTestCase):
    """A session whose account sends spam."""

    def test_refused_here(self) -> None:
        """Two spams hold it at its next MAIL; once lifted it goes on."""
        bench = Bench()
        bench.checks.scanners = (BuiltIn(bench.worker, RULES),)
        bench.brake.settings = BrakeSettings(2, 600.0)
        wire = bench.logged_in(ANN)
        for _ in range(2):
            self.assertIn("550 5.7.1", self.sent(wire, GTUBE))
        [said] = wire.say(f"MAIL FROM:<{ANN}>")
        self.assertTrue(said.startswith("450 4.7.1 This account is held since"), said)
        bench.brake.lift(ANN)
        self.assertIn("250 2.0.0 Ok: queued", self.sent(wire, b"Hello"))

    def sent(self, wire: Wire, words: bytes) -> str:
        """What is answered to the final dot."""
        wire.say(f"MAIL FROM:<{ANN}>", "RCPT TO:<bob@example.net>", "DATA")
        wire.send(b"From: ann@example.com\r\n\r\n" + words + b"\r\n.\r\n")
        return wire.heard()[-1]


class HeldServerTests(SynchronousTestCase):
    """A whole server: what the other side says counts too, and the operator lifts."""

    def test_refused_there(self) -> None:
        """Spam in the other side's words holds the account that sent it."""
        world = World(extra="[limits]\nsuspend_after = 1\n")
        world.start()
        world.host.behaviour = Behaviour(
            {Stage.DOT: Reply(550, "7.1", "Message looks like spam")}
        )
        written = entry("bob@example.net", queued_at=world.wall.now())
        world.done(world.server.store.add(written, Message(b"A: b\r\n", b"")))
        world.pass_time(30)
        ask = {"verb": "limits", "login": ANN}
        found = world.done(world.server.commands.obey(ask))
        self.assertIn("were refused as bad", found["held"])
        asked = {"verb": "enable", "login": ANN}
        self.assertTrue(world.done(world.server.commands.obey(asked))["lifted"])
        found = world.done(world.server.commands.obey(ask))
        self.assertIsNone(found["held"])
