"""Tests for what an account may send, and for guessing."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Trouble
from fwd_mta.inbound import limits
from fwd_mta.inbound.limits import (
    Guesses,
    LimitsFile,
    Quotas,
    SendLimits,
    Usage,
    limits_of,
    network_of,
)
from fwd_mta.inbound.protocol import SubmissionSettings
from fwd_mta.mail.account import Account
from fwd_mta.mail.session import Service
from fwd_mta.rules.submission import SubmissionPolicy
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.machine import InlineWorker, VirtualWall
from tests.inbound.bench import HOSTNAME, SECRET, Bench, Wire, plain
from tests.kit import World

ANN = "ann@example.com"
DAY = 86400.0
NOW = 1_800_000_000.0
HERE = "192.0.2.7"


class QuotaTests(SynchronousTestCase):
    """`Quotas` counts in a window that moves."""

    def test_messages(self) -> None:
        """The one over the limit is refused with the time of relief, which holds."""
        quotas, two = Quotas(), SendLimits(2, 0, DAY)
        for at in (NOW, NOW + 7200):
            self.assertIsNone(quotas.refusal(ANN, two, Usage(1, 1), at))
            quotas.take(ANN, two, Usage(1, 1), at)
        refusal = quotas.refusal(ANN, two, Usage(1, 1), NOW + 7300)
        assert refusal is not None
        self.assertEqual((refusal.code, refusal.status), (450, "4.7.1"))
        self.assertIn("2 messages in 1 days", refusal.text)
        self.assertIn("room again at 2027-01-16 08:", refusal.text)
        self.assertIsNone(quotas.refusal("bob@x.example", two, Usage(1, 1), NOW + 7300))
        self.assertIsNone(quotas.refusal(ANN, two, Usage(1, 1), NOW + DAY + 1800))
        self.assertEqual(quotas.used(ANN, two, NOW + DAY + 1800), Usage(1, 1))

    def test_recipients(self) -> None:
        """Recipients have a limit of their own; a message over all of it never fits."""
        quotas, ten = Quotas(), SendLimits(0, 10, DAY)
        quotas.take(ANN, ten, Usage(1, 8), NOW)
        self.assertIsNone(quotas.refusal(ANN, ten, Usage(0, 2), NOW))
        self.assertIsNotNone(quotas.refusal(ANN, ten, Usage(0, 3), NOW))
        self.assertIsNotNone(quotas.refusal("x@y.example", ten, Usage(0, 11), NOW))

    def test_given_back(self) -> None:
        """What was refused after all does not count."""
        quotas, one = Quotas(), SendLimits(1, 0, DAY)
        quotas.take(ANN, one, Usage(1, 3), NOW)
        quotas.take(ANN, one, Usage(-1, -3), NOW)
        self.assertIsNone(quotas.refusal(ANN, one, Usage(1, 1), NOW))

    def test_bounded(self) -> None:
        """The table has an end."""
        self.patch(limits, "REMEMBERED", 3)
        quotas = Quotas()
        for number in range(10):
            quotas.take(f"{number}@x.example", SendLimits(1), Usage(1, 1), NOW)
        self.assertEqual(len(quotas.dump()), 3)

    def test_of_the_account(self) -> None:
        """An account's own limit goes before the one for all; 0 lifts it."""
        general = SendLimits(300, 400, DAY)
        self.assertIs(limits_of(Account(ANN), general), general)
        own = limits_of(Account(ANN, messages_per_account=0), general)
        self.assertEqual(own, SendLimits(0, 400, DAY))


class GuessTests(SynchronousTestCase):
    """`Guesses` slows those who guess, and nobody else."""

    def guess(self, guesses: Guesses, count: int, client: str = HERE) -> None:
        """So many different passwords for one login, all at once."""
        for number in range(count):
            guesses.failed(client, ANN, b"%d" % number, NOW)

    def test_wait(self) -> None:
        """Ten wrong ones, and the client waits until the first is an hour old."""
        guesses = Guesses()
        self.guess(guesses, 9)
        self.assertEqual(guesses.wait(HERE, 10, 3600, NOW), 0)
        guesses.failed(HERE, ANN, b"last", NOW + 60)
        self.assertEqual(guesses.wait(HERE, 10, 3600, NOW + 60), 3540)
        self.assertEqual(guesses.wait("192.0.2.8", 10, 3600, NOW + 60), 0)
        self.assertEqual(guesses.wait(HERE, 10, 3600, NOW + 3600), 0)

    def test_the_same_again(self) -> None:
        """A program with an old password tries the same one for ever: one guess."""
        guesses = Guesses()
        for _ in range(50):
            guesses.failed(HERE, ANN, b"old", NOW)
        self.assertEqual(guesses.wait(HERE, 10, 3600, NOW), 0)
        self.assertEqual(guesses.delay(HERE, ANN, 3600, NOW), 0)

    def test_spared(self) -> None:
        """Where a login has succeeded in the last 30 days nobody waits."""
        guesses = Guesses()
        guesses.succeeded(HERE, "bob@example.com", NOW - 29 * DAY)
        self.guess(guesses, 50)
        self.assertEqual(guesses.wait(HERE, 10, 3600, NOW), 0)
        self.assertGreater(guesses.wait(HERE, 10, 2 * DAY, NOW + 1.5 * DAY), 0)

    def test_brake(self) -> None:
        """A login that many guess at is slow, but not where its owner has been."""
        guesses = Guesses()
        for number in range(25):
            guesses.failed(f"192.0.2.{number}", ANN, b"%d" % number, NOW)
        self.assertEqual(guesses.delay("198.51.100.1", ANN.upper(), 3600, NOW), 6)
        self.assertEqual(guesses.delay("198.51.100.1", "b@c.example", 3600, NOW), 0)
        self.guess(guesses, 100)
        self.assertEqual(guesses.delay("198.51.100.1", ANN, 3600, NOW), 10)
        guesses.succeeded("198.51.100.1", ANN, NOW)
        self.assertEqual(guesses.delay("198.51.100.1", ANN, 3600, NOW), 0)
        guesses.succeeded("198.51.100.2", "eve@example.com", NOW)
        self.assertEqual(guesses.delay("198.51.100.2", ANN, 3600, NOW), 10)

    def test_network(self) -> None:
        """An IPv6 client has 64 bits to itself, an IPv4 one its address."""
        self.assertEqual(network_of("2001:db8::1"), network_of("2001:db8::ffff:2"))
        self.assertNotEqual(network_of("2001:db8::1"), network_of("2001:db8:0:1::1"))
        self.assertEqual(network_of(HERE), HERE)
        self.assertEqual(network_of("local"), "local")

    def test_bounded(self) -> None:
        """Neither many clients nor many guesses fill the memory."""
        self.patch(limits, "REMEMBERED", 3)
        guesses = Guesses()
        for number in range(10):
            self.guess(guesses, 200, f"192.0.2.{number}")
            guesses.succeeded(f"192.0.2.{number}", ANN, NOW)
        kept = guesses.dump()
        self.assertEqual([len(kept[name]) for name in ("wrong", "known")], [3, 3])
        self.assertTrue(all(len(times) <= 100 for times in kept["wrong"].values()))
        self.assertTrue(all(len(times) <= 100 for times in kept["logins"].values()))


class FileTests(SynchronousTestCase):
    """`LimitsFile` outlives a restart."""

    @override
    def setUp(self) -> None:
        """A disk."""
        self.disk = MemoryDisk()
        self.clock = Clock()
        self.events: list[Event] = []

    def started(self) -> LimitsFile:
        """A new start on the same disk."""
        file = LimitsFile(
            "/state/limits.json",
            self.disk,
            InlineWorker(),
            self.clock,
            VirtualWall(self.clock),
            self.events.append,
        )
        begun = Deferred.fromCoroutine(file.start(lambda count: b"s" * count))
        self.successResultOf(begun)
        return file

    def test_kept(self) -> None:
        """Within ten seconds all of it is on the disk, and read again."""
        file = self.started()
        file.quotas.take(ANN, SendLimits(5), Usage(3, 4), NOW)
        for number in range(25):
            file.guesses.failed(HERE, ANN, b"%d" % number, NOW)
        file.guesses.succeeded("192.0.2.9", ANN, NOW)
        self.clock.advance(10)
        again = self.started()
        self.assertEqual(again.quotas.used(ANN, SendLimits(5), NOW), Usage(3, 4))
        self.assertEqual(again.guesses.dump(), file.guesses.dump())
        self.assertEqual(again.secret, file.secret)
        self.assertGreater(again.guesses.wait(HERE, 10, 3600, NOW), 0)
        self.assertEqual(self.events, [])

    def test_stopped(self) -> None:
        """A stop writes what has changed last."""
        file = self.started()
        file.quotas.take(ANN, SendLimits(5), Usage(3, 4), NOW)
        self.successResultOf(Deferred.fromCoroutine(file.stop()))
        again = self.started()
        self.assertEqual(again.quotas.used(ANN, SendLimits(5), NOW), Usage(3, 4))

    def test_broken(self) -> None:
        """A file that is nonsense is reported, and counting begins anew."""
        for content in (b"{", b"[]", b'{"secret": 3}', b"\xff"):
            self.events.clear()
            if self.disk.exists("/state/limits.json"):
                self.disk.remove("/state/limits.json")
            self.disk.make_directory("/state")
            self.disk.create("/state/limits.json").append(content)
            self.assertEqual(len(self.started().secret), 32)
            self.assertIsInstance(self.events[0], Trouble)


class WireTests(SynchronousTestCase):
    """What a client sees of it."""

    def bench(self, sending: SendLimits, tries: int = 10) -> Bench:
        """A server with limits."""
        settings = SubmissionSettings(
            Service.SUBMISSIONS,
            HOSTNAME,
            SubmissionPolicy(),
            sending=sending,
            auth_failures_per_client=tries,
        )
        return Bench(settings=settings)

    def send(self, wire: Wire, count: int = 1, sender: str = ANN) -> str:
        """Send a message; gives the first refusal, or the last reply."""
        rcpts = [f"RCPT TO:<b{number}@example.net>" for number in range(count)]
        for line in (f"MAIL FROM:<{ANN}>", *rcpts, "DATA"):
            [reply, *_] = wire.say(line)
            if reply[0] in "45":
                wire.say("RSET")
                return reply
        wire.send(f"From: {sender}\r\n\r\nHi\r\n.\r\n".encode())
        return wire.heard()[0]

    def test_messages(self) -> None:
        """MAIL says when there is room again; what was refused did not count."""
        wire = self.bench(SendLimits(2)).logged_in()
        self.assertEqual(self.send(wire, sender="eve@x.example")[:3], "550")
        for _ in range(2):
            self.assertEqual(self.send(wire)[:3], "250")
        refused = self.send(wire)
        self.assertEqual(refused[:9], "450 4.7.1")
        self.assertIn("room again at", refused)

    def test_recipients(self) -> None:
        """RCPT is refused from the first one that does not fit."""
        bench = self.bench(SendLimits(0, 5))
        wire = bench.logged_in()
        self.assertEqual(self.send(wire, 3)[:3], "250")
        self.assertEqual(self.send(wire, 3)[:9], "450 4.7.1")
        self.assertEqual(self.send(wire, 2)[:3], "250")
        self.assertEqual(len(bench.writer.added), 2)

    def test_many_at_once(self) -> None:
        """Sessions side by side have no more than one has."""
        bench = self.bench(SendLimits(1))
        wires = [bench.logged_in() for _ in range(3)]
        for wire in wires:
            wire.say(f"MAIL FROM:<{ANN}>", "RCPT TO:<b@example.net>", "DATA")
        for wire in wires:
            wire.send(f"From: {ANN}\r\n\r\nHi\r\n.\r\n".encode())
        replies = sorted(wire.heard()[0][:3] for wire in wires)
        self.assertEqual(replies, ["250", "450", "450"])

    def guess(self, bench: Bench, number: int, login: str = ANN) -> str:
        """One try, on a connection of its own."""
        wire = bench.connect()
        wire.say("EHLO me")
        return (wire.say("AUTH PLAIN " + plain(login, f"no{number}")) or [""])[0]

    def test_guessing(self) -> None:
        """After three wrong ones AUTH is 454 with the time, then it is open again."""
        bench = self.bench(SendLimits(), tries=3)
        self.assertEqual({self.guess(bench, n)[:3] for n in range(3)}, {"535"})
        reply = self.guess(bench, 3)
        self.assertEqual(reply[:9], "454 4.7.0")
        self.assertIn("wait 60 minutes", reply)
        wire = bench.connect()
        wire.say("EHLO me")
        self.assertEqual(wire.say("AUTH PLAIN " + plain(ANN))[0][:3], "454")
        self.assertEqual(wire.say("AUTH LOGIN")[0][:3], "454")
        bench.clock.advance(3600)
        wire = bench.connect()
        wire.say("EHLO me")
        self.assertEqual(wire.say("AUTH PLAIN " + plain(ANN))[0][:3], "235")

    def test_same_wrong_password(self) -> None:
        """A forgotten program never locks out its office."""
        bench = self.bench(SendLimits(), tries=3)
        for _ in range(10):
            self.assertEqual(self.guess(bench, 0)[:3], "535")

    def test_known_client(self) -> None:
        """Where somebody has logged in, wrong passwords are only that."""
        bench = self.bench(SendLimits(), tries=3)
        bench.logged_in()
        for number in range(10):
            self.assertEqual(self.guess(bench, number)[:3], "535")

    def test_brake(self) -> None:
        """Where many guess at a login, right and wrong wait alike; right is in."""
        bench = self.bench(SendLimits(), tries=1000)
        for number in range(20):
            self.assertEqual(self.guess(bench, number)[:3], "535")
        for password, code in (("no", "535"), (SECRET, "235")):
            wire = bench.connect()
            wire.say("EHLO me")
            self.assertEqual(wire.say("AUTH PLAIN " + plain(ANN, password)), [])
            bench.clock.advance(10)
            self.assertEqual(wire.heard()[0][:3], code)

    def test_lost_while_braked(self) -> None:
        """A client that does not wait for it leaves nothing behind."""
        bench = self.bench(SendLimits(), tries=1000)
        for number in range(20):
            self.guess(bench, number)
        wire = bench.connect()
        wire.say("EHLO me")
        wire.say("AUTH PLAIN " + plain(ANN))
        wire.drop()
        bench.clock.advance(10)
        self.assertEqual(bench.factory.clients.logged_in[ANN], 0)

    def test_old_session(self) -> None:
        """After a day the session ends, but not inside a transaction."""
        bench = self.bench(SendLimits())
        wire = bench.logged_in()
        last = ""
        for _ in range(24 * 13):
            bench.clock.advance(280)
            last = self.send(wire)
            if wire.closed:
                break
        self.assertEqual(last[:9], "421 4.3.2")
        self.assertGreater(bench.clock.seconds(), DAY)


class AskedTests(SynchronousTestCase):
    """`fwdmta limits`, as the server answers it."""

    def test_answer(self) -> None:
        """Use and limits of an account; an unknown one is named as such."""
        world = World(extra="[limits]\nmessages_per_account = 5\n")
        world.start()
        ask = {"verb": "limits", "login": ANN}
        found = world.done(world.server.commands.obey(ask))
        self.assertEqual(found["messages"], {"used": 0, "limit": 5})
        self.assertEqual(found["recipients"], {"used": 0, "limit": 0})
        found = world.done(world.server.commands.obey(ask | {"login": "x@y.example"}))
        self.assertIn("no such account", found["error"])
        world.done(world.server.stop())
        self.assertTrue(world.disk.exists("/state/state/limits.json"))


class AgeTests(SynchronousTestCase):
    """A session does not live for ever, with a transaction or without."""

    def test_a_day(self) -> None:
        """After a day it ends between transactions; an open one has two hours more."""
        bench = Bench()
        wire = bench.logged_in()
        idle = bench.logged_in()
        wire.say("MAIL FROM:<ann@example.com>")
        for hours, said in ((24, "250 2.1.5 Ok"), (26, "421 4.3.2 This session")):
            while bench.clock.seconds() < hours * 3600:
                bench.clock.advance(250)
                for one in (wire, idle):
                    one.protocol.setTimeout(300)
            [reply] = wire.say("RCPT TO:<bob@example.net>")
            self.assertTrue(reply.startswith(said), reply)
            self.assertTrue(idle.closed or idle.say("NOOP")[0].startswith("421 4.3.2"))
