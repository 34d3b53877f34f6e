"""Journeys with several source addresses, and rests that outlive a restart."""

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import SiteRests
from fwd_mta.inbound import limits, watching
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Stage, Status
from fwd_mta.mail.reply import Reply
from fwd_mta.world.hosts import Behaviour, RemoteHost
from tests.kit import THEIR_ADDRESS, World

HOUR = 3600.0
ONE, TWO = "198.51.100.1", "198.51.100.2"
SOURCES = f'\n[delivery]\nsource_addresses = ["{ONE}", "{TWO}"]\n'
BLOCKED = Behaviour(
    {
        Stage.MAIL: Reply(
            550, "7.1", "Client host [{client}] blocked using bl.example.org"
        )
    }
)


class Choosy(Factory):
    """A host that does not trust some of its clients; `seen` are all of them."""

    def __init__(self, world: World) -> None:
        name = "mx.example.net"
        self.seen: list[str] = []
        self.blocked: frozenset[str] = frozenset()
        self._kind = RemoteHost(name, world.clock, world.inbox)
        self._wary = RemoteHost(name, world.clock, world.inbox, BLOCKED)

    @override
    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Whoever is blocked meets another host."""
        client = str(getattr(addr, "host", ""))
        self.seen.append(client)
        host = self._wary if client in self.blocked else self._kind
        return host.buildProtocol(addr)


class SourcesCase(SynchronousTestCase):
    """A server, and a host that knows our addresses."""

    def begin(self, *blocked: str, extra: str = SOURCES) -> None:
        """Start the server; the host trusts all but these of our addresses."""
        self.patch(watching, "LOOK_EVERY", 24 * HOUR)
        self.patch(limits, "WRITE_EVERY", 24 * HOUR)
        self.world = world = World()
        world.extra = extra
        world.server = world.make()
        self.host = Choosy(world)
        self.host.blocked = frozenset(blocked)
        world.network.vanish([THEIR_ADDRESS], silently=False)
        _ = world.network.listen(f"{THEIR_ADDRESS}:25", self.host)
        world.start()

    def submit(self) -> None:
        """A message to bob."""
        answer = self.world.submit("bob@example.net")
        self.assertIn(b"250 2.0.0", answer)

    def entries(self) -> list[QueueEntry]:
        """All messages, oldest first."""
        found = self.world.server.store.entries(EntryFilter(finished=True))
        return self.world.done(found)

    def restart(self) -> None:
        """Stop the server, and start it anew on the same disk."""
        self.world.done(self.world.server.stop())
        self.world.server = self.world.make()
        self.world.start()


class SourcesTests(SourcesCase):
    """Several addresses of ours."""

    def test_another_address_goes_at_once(self) -> None:
        """A message blocked by one address is delivered by another within seconds."""
        for _ in range(8):
            self.begin(ONE)
            self.submit()
            self.world.pass_time(10)
            (entry,) = self.entries()
            self.assertEqual(entry.status, Status.SENT)
            self.assertIn(self.host.seen, [[TWO], [ONE, TWO]])

    def test_many_messages(self) -> None:
        """The blocked address is asked once in its hour, the other carries the mail."""
        self.begin(ONE)
        for _ in range(20):
            self.submit()
            self.world.pass_time(2)
        self.assertEqual({one.status for one in self.entries()}, {Status.SENT})
        self.assertLessEqual(self.host.seen.count(ONE), 1)
        self.world.pass_time(HOUR + 1)
        for _ in range(20):
            self.submit()
            self.world.pass_time(6)
        self.assertLessEqual(self.host.seen.count(ONE), 2)
        self.assertEqual({one.status for one in self.entries()}, {Status.SENT})

    def test_all_are_blocked(self) -> None:
        """Each is tried once, then the site rests: no hot loop."""
        self.begin(ONE, TWO)
        self.submit()
        self.world.pass_time(600)
        (entry,) = self.entries()
        self.assertEqual(entry.status, Status.DEFERRED)
        self.assertEqual(sorted(self.host.seen), [ONE, TWO])
        rests = [one for one in self.world.events if isinstance(one, SiteRests)]
        self.assertEqual(sorted(one.source for one in rests), [ONE, TWO])
        wait = entry.standings[0].next_attempt_at - self.world.wall.now()
        self.assertGreater(wait, 2500)

    def test_an_address_of_the_other_family_does_not_help(self) -> None:
        """Where only the blocked address can be used, the hour is waited."""
        both = f'\n[delivery]\nsource_addresses = ["{ONE}", "2001:db8::7"]\n'
        self.begin(ONE, extra=both)
        self.submit()
        self.world.pass_time(600)
        (entry,) = self.entries()
        self.assertEqual(entry.status, Status.DEFERRED)
        self.assertLessEqual(len(self.host.seen), 2)
        wait = entry.standings[0].next_attempt_at - self.world.wall.now()
        self.assertGreater(wait, 2500)


class RestartTests(SourcesCase):
    """What is known of a site is known after a restart."""

    def test_a_block_holds(self) -> None:
        """No new message asks a site that does not trust us before its hour is over."""
        self.begin(ONE, extra="\n[delivery]\nsource_addresses = []\n")
        self.host.blocked = frozenset({"192.0.2.1"})
        self.submit()
        self.world.pass_time(10)
        self.assertEqual(len(self.host.seen), 1)
        self.restart()
        self.submit()
        self.world.pass_time(600)
        self.assertEqual(len(self.host.seen), 1)
        new = self.entries()[-1]
        assert new.standings[0].last is not None
        self.assertIn("blocked using", str(new.standings[0].last.reply))
        self.host.blocked = frozenset()
        self.world.pass_time(2 * HOUR, step=10)
        self.assertEqual({one.status for one in self.entries()}, {Status.SENT})
        self.restart()
        self.submit()
        self.world.pass_time(5)
        self.assertEqual(self.entries()[-1].status, Status.SENT)

    def test_a_dead_site_is_still_dead(self) -> None:
        """It is probed by one message when its rest is over, not by all at once."""
        self.begin(extra="")
        self.world.network.vanish([THEIR_ADDRESS], silently=False)
        for _ in range(6):
            self.submit()
            self.world.pass_time(1)
        self.assertEqual(self.world.server.scheduler.sites.resting, 1)
        self.restart()
        self.assertEqual(self.world.server.scheduler.sites.resting, 1)

    def test_a_file_that_cannot_be_read(self) -> None:
        """Is reported, and mail goes on."""
        self.begin(extra="")
        self.world.done(self.world.server.stop())
        path = "/state/state/rests.json"
        if self.world.disk.exists(path):
            self.world.disk.remove(path)
        file = self.world.disk.create(path)
        file.append(b"nonsense")
        self.world.server = self.world.make()
        self.world.start()
        self.submit()
        self.world.pass_time(5)
        self.assertEqual(self.entries()[-1].status, Status.SENT)
