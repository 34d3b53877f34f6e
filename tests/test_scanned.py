"""Mail is scanned before it is queued: a whole server with three scanners."""

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.mail.entry import EntryFilter
from fwd_mta.settings import CannotServeError
from fwd_mta.world.scanners import EICAR, GTUBE, Conduct, ScannerHost
from tests.kit import World

TABLES = """
[scan]
clamd = "tcp:127.0.0.1:3310"
rspamd = "http://127.0.0.1:11333"
spamd = "unix:/run/spamd"
"""
PLACES = {
    "clamd": "127.0.0.1:3310",
    "rspamd": "127.0.0.1:11333",
    "spamd": "unix:/run/spamd",
}


class ScannedTests(SynchronousTestCase):
    """A server in memory, its scanners beside it."""

    @override
    def setUp(self) -> None:
        """Everything runs."""
        self.world = World(extra=TABLES)
        self.hosts = {name: ScannerHost(name) for name in PLACES}
        for name, place in PLACES.items():
            _ = self.world.network.listen(place, self.hosts[name])
        self.world.start()

    def test_clean(self) -> None:
        """Clean mail is taken, and the record tells what each scanner said."""
        self.assertIn(b"250 2.0.0 Ok: queued", submit(self.world, b"Hi"))
        wanted = EntryFilter(finished=True)
        [entry] = self.world.done(self.world.server.store.entries(wanted))
        words = [check.partition(" (")[0] for check in entry.origin.checks]
        self.assertEqual(
            words,
            [
                "builtin accept",
                "clamd accept",
                "rspamd accept -0.1",
                "spamd accept 0.3: NO_RELAYS",
            ],
        )
        steps = self.world.done(self.world.server.store.timeline(entry.id))
        self.assertIn("rspamd accept", steps[0].note)

    def test_bad(self) -> None:
        """Malware and spam have their replies."""
        said = submit(self.world, EICAR)
        self.assertIn(b"554 5.7.1 Malware found: Win.Test.EICAR_HDB-1", said)
        said = submit(self.world, GTUBE)
        self.assertIn(b"550 5.7.1 Message looks like spam: GTUBE", said)

    def test_without_a_scanner(self) -> None:
        """The test strings are known even where no scanner is configured."""
        self.world.extra = ""
        self.assertEqual(self.world.done(self.world.server.reload()), ())
        said = submit(self.world, EICAR)
        self.assertIn(b"554 5.7.1 Malware found: EICAR-Test-File", said)
        said = submit(self.world, GTUBE)
        self.assertIn(b"550 5.7.1 Message looks like spam: GTUBE", said)

    def test_each_down_and_up_again(self) -> None:
        """A scanner that dies in mid-scan: 451; when it runs again: accepted."""
        for host in self.hosts.values():
            host.conduct = Conduct.DIES
            self.assertIn(b"451 4.7.1 ", submit(self.world, b"Hi"))
            host.conduct = Conduct.HONEST
            self.assertIn(b"250 2.0.0 ", submit(self.world, b"Hi"))

    def test_reload(self) -> None:
        """A reload takes other scanners, and refuses those it cannot ask."""
        self.world.extra = ""
        self.assertEqual(self.world.done(self.world.server.reload()), ())
        for host in self.hosts.values():
            host.conduct = Conduct.DIES
        self.assertIn(b"250 2.0.0 ", submit(self.world, b"Hi"))
        self.world.extra = '[scan]\nclamd = "tcp:scanner.example:3310"'
        lines = self.world.done(self.world.server.reload())
        self.assertIn("scanner.example is a name", lines[0])

    def test_cannot_start(self) -> None:
        """A scanner by name is refused at the start."""
        with self.assertRaises(CannotServeError):
            World(extra='[scan]\nrspamd = "http://scanner.example:1"')


def submit(world: World, body: bytes) -> bytes:
    """Hand a message in from a trusted network; what was answered to the dot."""
    wire = world.connect(25)
    wire.say(
        b"EHLO x\r\nMAIL FROM:<ann@example.com>\r\n"
        b"RCPT TO:<bob@example.net>\r\nDATA\r\n"
    )
    world.settle()
    wire.take()
    wire.say(b"From: ann@example.com\r\n\r\n" + body + b"\r\n.\r\n")
    world.pass_time(2, 0.01)
    return wire.take()
