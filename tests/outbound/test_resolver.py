"""Tests of our resolver against servers that lie, are silent, or are not there."""

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from typing_extensions import override

from fwd_mta.mail.route import CannotSay, Exchanger, Found, NoSuchName
from fwd_mta.net.network import ReactorNetwork
from fwd_mta.outbound.resolver import DnsResolver
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.network import MemoryNetwork
from tests.outbound.fake_dns import FakeDns, reactor


class ServerTests(TestCase):
    """One server on loopback and what it does to us."""

    timeout = 20

    @override
    def setUp(self) -> None:
        many = [("MX", f"{number} mx{number}.big.example.") for number in range(100)]
        self.server = FakeDns(
            {
                "example.com": [("A", "192.0.2.1")],
                "big.example": many,
                "servfail6.example": [],
                "silent.example": [],
            }
        )
        self.server.start()
        self.addCleanup(self._stop)

    def _stop(self) -> Deferred[list[None]]:
        return self.server.stop()

    def _resolver(
        self, *, trust_ad: bool = False, extra: int = 0, patience: float = 8.0
    ) -> DnsResolver:
        servers = [("127.0.0.1", port) for port in (extra, self.server.port) if port]
        return DnsResolver(
            ReactorNetwork(reactor),
            reactor,
            servers,
            trust_ad=trust_ad,
            timeout=patience,
            lifetime=2.5 * patience,
        )

    async def test_truncated_goes_on_over_tcp(self) -> None:
        """An answer too large for UDP is asked for again over TCP."""
        answer = await self._resolver().exchangers("big.example")
        assert isinstance(answer, Found)
        self.assertEqual(len(answer.records), 100)
        self.assertIn(Exchanger(7, "mx7.big.example"), answer.records)
        self.assertEqual([how for _, _, how in self.server.asked], ["udp", "tcp"])

    async def test_silence(self) -> None:
        """A server that does not answer is no answer, in bounded time."""
        before = reactor.seconds()
        answer = await self._resolver(patience=0.2).exchangers("silent.example")
        assert isinstance(answer, CannotSay)
        self.assertIn("in time", answer.reason)
        self.assertLess(reactor.seconds() - before, 5)

    async def test_garbage(self) -> None:
        """Octets that are no answer are waited past, then it cannot be said."""
        answer = await self._resolver(patience=0.2).exchangers("garbage.example")
        self.assertIsInstance(answer, CannotSay)

    async def test_forged(self) -> None:
        """An answer with another id than the question's is not believed."""
        answer = await self._resolver(patience=0.2).addresses("forged.example")
        self.assertIsInstance(answer, CannotSay)

    async def test_refused(self) -> None:
        """A server that refuses us is no NXDOMAIN; its word is in the reason."""
        answer = await self._resolver().exchangers("refused.example")
        assert isinstance(answer, CannotSay)
        self.assertIn("REFUSED", answer.reason)

    async def test_next_server(self) -> None:
        """Where nobody listens, the next server is asked."""
        closed: Any = reactor.listenUDP(0, DatagramProtocol(), "127.0.0.1", 8192)
        port = closed.getHost().port
        await closed.stopListening()
        answer = await self._resolver(extra=port, patience=0.5).addresses("example.com")
        self.assertEqual(answer, Found(("192.0.2.1",)))

    async def test_impossible_names(self) -> None:
        """A name that no zone can hold does not exist, and nobody is asked."""
        for name in ("a..example", "x" * 64 + ".example", ".".join(["x" * 60] * 5)):
            answer = await self._resolver().exchangers(name)
            self.assertIsInstance(answer, NoSuchName, name)
        self.assertEqual(self.server.asked, [])

    async def test_cache(self) -> None:
        """What was said is remembered, also that a name does not exist."""
        resolver = self._resolver()
        for _ in range(3):
            await resolver.exchangers("Example.com")
            await resolver.exchangers("missing.example")
        self.assertEqual(len(self.server.asked), 2)

    async def test_failures_are_not_remembered(self) -> None:
        """After a failure the next question is asked anew."""
        resolver = self._resolver()
        await resolver.exchangers("refused.example")
        await resolver.exchangers("refused.example")
        self.assertEqual(len(self.server.asked), 2)

    async def test_equal_questions_are_asked_once(self) -> None:
        """Many messages to one domain cost one look-up."""
        resolver = self._resolver()
        answers = await gatherResults(
            [
                Deferred.fromCoroutine(resolver.addresses("example.com"))
                for _ in range(50)
            ]
        )
        self.assertEqual(set(answers), {Found(("192.0.2.1",))})
        self.assertEqual(len(self.server.asked), 2)  # A and AAAA

    async def test_secure(self) -> None:
        """The AD flag counts only where the operator trusts the server."""
        self.server.authentic = True
        trusting = await self._resolver(trust_ad=True).addresses("example.com")
        self.assertEqual(trusting, Found(("192.0.2.1",), secure=True))
        other = await self._resolver().addresses("example.com")
        self.assertEqual(other, Found(("192.0.2.1",), secure=False))


class MemoryTests(SynchronousTestCase):
    """On the network in memory, under a virtual clock."""

    def test_time_to_live(self) -> None:
        """An answer is asked for again once its time to live is over."""
        clock = Clock()
        network = MemoryNetwork(clock, SeededEntropy())
        server = FakeDns({"example.com": [("MX", "10 mx.example.com.")]}, ttl=60)
        network.answer_datagrams(
            "192.0.2.53:53", lambda wire: server.answer(wire, "udp")
        )
        resolver = DnsResolver(network, clock, [("192.0.2.53", 53)])
        counts = []
        for seconds in (1, 58, 2):
            answer = Deferred.fromCoroutine(resolver.exchangers("example.com"))
            clock.pump([0.1] * 3)
            self.assertEqual(
                self.successResultOf(answer), Found((Exchanger(10, "mx.example.com"),))
            )
            counts.append(len(server.asked))
            clock.advance(seconds)
        answer = Deferred.fromCoroutine(resolver.exchangers("example.com"))
        clock.pump([0.1] * 3)
        self.successResultOf(answer)
        self.assertEqual([*counts, len(server.asked)], [1, 1, 1, 2])

    def test_no_server_at_all(self) -> None:
        """Without any server nothing can be said, and nothing is raised."""
        clock = Clock()
        network = MemoryNetwork(clock, SeededEntropy())
        resolver = DnsResolver(network, clock, [])
        answer = Deferred.fromCoroutine(resolver.addresses("example.com"))
        self.assertIsInstance(self.successResultOf(answer), CannotSay)

    def test_system_servers(self) -> None:
        """Without a list of servers those of the system are taken."""
        clock = Clock()
        resolver = DnsResolver(MemoryNetwork(clock, SeededEntropy()), clock)
        self.assertTrue(resolver.nameservers)
