"""What every resolver does: ours over real sockets, and the table of the world."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from typing_extensions import override

from fwd_mta.interfaces import Resolver
from fwd_mta.mail.route import CannotSay, Exchanger, Found, NoSuchName
from fwd_mta.net.network import ReactorNetwork
from fwd_mta.outbound.resolver import DnsResolver
from fwd_mta.world.names import TableResolver
from tests.outbound.fake_dns import FakeDns, reactor

ZONE = {
    "example.com": [("MX", "20 MX2.example.com."), ("MX", "10 mx1.example.com.")],
    "mx1.example.com": [("AAAA", "2001:db8::1"), ("A", "192.0.2.1")],
    "mx2.example.com": [("A", "192.0.2.2")],
    "null.example": [("MX", "0 .")],
    "alias.example": [("CNAME", "mx1.example.com.")],
    "dangling.example": [("CNAME", "missing.example.")],
    "round.example": [("CNAME", "round.example.")],
    "text.example": [("TXT", '"v=one" " two"'), ("TXT", '"three"')],
    "_25._tcp.mx1.example.com": [("TLSA", "3 1 1 " + "ab" * 32)],
}


class Contract:
    """Keeps the suite from running without a resolver."""

    class Resolved(TestCase):
        """The promises of `interfaces.Resolver`."""

        def resolver(self) -> Resolver:
            """Give one that knows the zone above, and cannot say "servfail.example"."""
            raise NotImplementedError

        async def test_exchangers(self) -> None:
            """MX records come with preference and name, names in lower case."""
            answer = await self.resolver().exchangers("Example.com")
            assert isinstance(answer, Found)
            expected = {
                Exchanger(20, "mx2.example.com"),
                Exchanger(10, "mx1.example.com"),
            }
            self.assertEqual(set(answer.records), expected)

        async def test_null_exchanger(self) -> None:
            """A null MX is an answer with an empty name, not a missing one."""
            answer = await self.resolver().exchangers("null.example")
            assert isinstance(answer, Found)
            (only,) = answer.records
            self.assertIn(only.name, {"", "."})

        async def test_no_exchangers(self) -> None:
            """A name without MX exists: found, with nothing."""
            answer = await self.resolver().exchangers("mx1.example.com")
            self.assertEqual(answer, Found(()))

        async def test_no_such_name(self) -> None:
            """A name that does not exist is told apart from all else."""
            resolver = self.resolver()
            for answer in (
                await resolver.exchangers("missing.example"),
                await resolver.addresses("missing.example"),
                await resolver.text("missing.example"),
            ):
                self.assertEqual(answer, NoSuchName("missing.example"))

        async def test_cannot_say(self) -> None:
            """A server that fails is no answer, and never an exception."""
            resolver = self.resolver()
            for answer in (
                await resolver.exchangers("servfail.example"),
                await resolver.addresses("servfail.example"),
                await resolver.tlsa("servfail.example", 25),
            ):
                self.assertIsInstance(answer, CannotSay)

        async def test_addresses(self) -> None:
            """Both families come, A first."""
            resolver = self.resolver()
            both = await resolver.addresses("mx1.example.com")
            self.assertEqual(both, Found(("192.0.2.1", "2001:db8::1")))
            one = await resolver.addresses("mx2.example.com")
            self.assertEqual(one, Found(("192.0.2.2",)))

        async def test_no_addresses(self) -> None:
            """A name with other records only is found with no address."""
            self.assertEqual(await self.resolver().addresses("example.com"), Found(()))

        async def test_alias(self) -> None:
            """An alias is followed to what it stands for, which is named."""
            answer = await self.resolver().addresses("alias.example")
            found = Found(("192.0.2.1", "2001:db8::1"), name="mx1.example.com")
            self.assertEqual(answer, found)

        async def test_dangling_alias(self) -> None:
            """An alias of a name that does not exist does not exist."""
            answer = await self.resolver().addresses("dangling.example")
            self.assertIsInstance(answer, NoSuchName)

        async def test_round_alias(self) -> None:
            """An alias that leads to itself ends, without an answer."""
            answer = await self.resolver().addresses("round.example")
            self.assertIsInstance(answer, CannotSay)

        async def test_text(self) -> None:
            """The strings of one TXT record are joined."""
            answer = await self.resolver().text("text.example")
            assert isinstance(answer, Found)
            self.assertEqual(set(answer.records), {"v=one two", "three"})

        async def test_tlsa(self) -> None:
            """TLSA records come in wire form, from the name of port and host."""
            answer = await self.resolver().tlsa("mx1.example.com", 25)
            self.assertEqual(answer, Found((bytes([3, 1, 1]) + b"\xab" * 32,)))

        async def test_final_dot(self) -> None:
            """A final dot changes nothing."""
            answer = await self.resolver().addresses("mx2.example.com.")
            self.assertEqual(answer, Found(("192.0.2.2",)))


class TableResolverTests(Contract.Resolved):
    """The world's table."""

    @override
    def resolver(self) -> Resolver:
        return TableResolver(
            exchangers={
                "example.com": [(20, "mx2.example.com"), (10, "mx1.example.com")],
                "null.example": [(0, "")],
            },
            addresses={
                "mx1.example.com": ["2001:db8::1", "192.0.2.1"],
                "mx2.example.com": ["192.0.2.2"],
            },
            failing={"servfail.example", "_25._tcp.servfail.example"},
            aliases={
                "alias.example": "mx1.example.com",
                "dangling.example": "missing.example",
                "round.example": "round.example",
            },
            texts={"text.example": ["v=one two", "three"]},
            tlsa={"_25._tcp.mx1.example.com": [bytes([3, 1, 1]) + b"\xab" * 32]},
        )


class DnsResolverTests(Contract.Resolved):
    """Our resolver, against a server on loopback."""

    timeout = 20

    @override
    def setUp(self) -> None:
        self.server = FakeDns({**ZONE, "servfail.example": []})
        self.server.start()
        self.addCleanup(self._stop)

    def _stop(self) -> Deferred[list[None]]:
        return self.server.stop()

    @override
    def resolver(self) -> Resolver:
        servers = [("127.0.0.1", self.server.port)]
        return DnsResolver(ReactorNetwork(reactor), reactor, servers, lifetime=3)
