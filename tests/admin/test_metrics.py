"""The page of figures, of a whole server in memory."""

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.metrics import COUNT_EVERY
from fwd_mta.events import Trouble
from fwd_mta.mail.errors import StoreError
from fwd_mta.settings import CannotServeError
from tests.kit import Wire, World

EXTRA = '[metrics]\naddress = "127.0.0.1:9464"\n'


class MetricsPageTests(SynchronousTestCase):
    """`MetricsPage` and `Gauges`, where the server offers them."""

    @override
    def setUp(self) -> None:
        """A server with figures."""
        self.world = World(extra=EXTRA)
        self.world.start()

    def ask(self, path: str, method: str = "GET") -> str:
        """What an HTTP client hears."""
        wires: list[object] = []
        joined = self.world.network.connect(
            "127.0.0.1", 9464, Factory.forProtocol(Wire), 30
        )
        _ = joined.addCallback(wires.append)
        self.world.settle()
        (wire,) = wires
        assert isinstance(wire, Wire)
        wire.say(f"{method} {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        self.world.settle()
        return wire.take().decode()

    def test_tells_what_happened(self) -> None:
        """A message that is delivered can be seen in the figures."""
        self.world.submit("bob@example.net")
        self.world.pass_time(5)
        page = self.ask("/metrics")
        self.assertIn(" 200 OK", page.partition("\r\n")[0])
        self.assertIn("text/plain; version=0.0.4", page)
        for line in (
            "fwdmta_accepted_messages_total 1.0",
            'fwdmta_attempted_recipients_total{category="",state="delivered"} 1.0',
            'fwdmta_finished_messages_total{status="sent"} 1.0',
            "fwdmta_active_messages 0.0",
            'fwdmta_sessions{service="relay"} 0.0',
        ):
            self.assertIn(line, page)

    def test_tells_what_waits(self) -> None:
        """The queue is counted every minute, with the age of its oldest message."""
        self.patch(self.world.resolver, "_failing", ("example.net",))
        self.assertIn("fwdmta_oldest_message_seconds 0.0", self.ask("/metrics"))
        self.world.submit("bob@example.net")
        self.world.pass_time(COUNT_EVERY)
        page = self.ask("/metrics")
        self.assertIn('fwdmta_queue_messages{place="deferred"} 1.0', page)
        self.assertIn('fwdmta_queue_messages{place="held"} 0.0', page)
        age = float(page.rpartition("oldest_message_seconds ")[2].split()[0])
        self.assertTrue(55 < age < 65, age)

    def test_counts_a_client(self) -> None:
        """A session is counted while it lasts."""
        self.world.connect(25)
        self.assertIn('sessions{service="relay"} 1.0', self.ask("/metrics"))

    def test_survives_a_disk_that_cannot_be_counted(self) -> None:
        """A figure that cannot be had is not a number, and the reason is told."""

        async def broken() -> None:
            raise StoreError("the disk says: Input/output error")

        self.patch(self.world.server.store, "census", broken)
        self.world.pass_time(COUNT_EVERY)
        self.assertIn('queue_messages{place="held"} NaN', self.ask("/metrics"))
        troubles = [one for one in self.world.events if isinstance(one, Trouble)]
        self.assertIn("Input/output error", troubles[-1].what)

    def test_health(self) -> None:
        """It says whether it lives and whether it serves; nothing else is there."""
        self.assertIn("\r\n\r\nok\n", self.ask("/healthz"))
        self.assertIn("\r\n\r\nready\n", self.ask("/readyz"))
        self.assertIn(" 404 ", self.ask("/"))
        self.assertIn(" 404 ", self.ask("/metrics/../../etc/passwd"))
        self.assertIn(" 405 ", self.ask("/metrics", "POST"))

    def test_not_ready(self) -> None:
        """Before it has read its queue, a server is alive and not ready."""
        world = self.world
        world.done(world.server.stop())
        self.world = World(extra=EXTRA)
        self.world.done(self.world.server.bind())
        page = self.ask("/readyz")
        self.assertIn(" 503 ", page.partition("\r\n")[0])
        self.assertIn("starting", page)

    def test_stops(self) -> None:
        """With the server its page goes too, and no timer is left."""
        self.world.done(self.world.server.stop())
        refused = self.world.network.connect(
            "127.0.0.1", 9464, Factory.forProtocol(Wire), 30
        )
        self.world.settle()
        self.failureResultOf(refused)

    def test_a_taken_port(self) -> None:
        """A port that is taken is named by its setting."""
        again = self.world.make()
        again.configuration = self.world.configuration()
        with self.assertRaises(CannotServeError) as caught:
            self.world.done(again._bind_metrics())
        self.assertIn("metrics.address 127.0.0.1:9464", str(caught.exception))


class OffTests(SynchronousTestCase):
    """Without `[metrics] address`."""

    def test_nothing_is_counted(self) -> None:
        """A server that nobody asks for figures keeps none."""
        world = World()
        self.assertIsNone(world.server.metrics)
