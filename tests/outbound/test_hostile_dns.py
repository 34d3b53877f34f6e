"""Odd and hostile DNS answers, class by class: what each comes to by SPEC section 3.

The agent asks by its own resolver, over datagrams and streams in memory, a server that
lies, fails, or says what no zone should hold. What DNS does not answer is retried, what
it answers is believed, and no answer leads inside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
from twisted.internet.protocol import Factory
from typing_extensions import override

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import Attempt
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.route import Destination
from fwd_mta.net.tls import ClientTlsContext
from fwd_mta.outbound.agent import Agent, AgentSettings
from fwd_mta.outbound.connection import Timeouts
from fwd_mta.outbound.resolver import DnsResolver
from fwd_mta.rules.routing import RoutingTable, route
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from fwd_mta.world.network import Dead
from tests.outbound.fake_dns import FakeDns, Zone, _Stream
from tests.outbound.odd_hosts import Odd
from tests.outbound.test_agent import AUTHORITY, ONE, RULES, TWO, AgentCase
from tests.outbound.test_hostile import outcome

SERVER = "198.51.100.53"
SIX, SIX_TOO = "2001:db8::10", "2001:db8::20"
MX = [("MX", "10 one.example."), ("MX", "20 two.example.")]
Faults = Mapping[tuple[str, str], str]


class OddDns(FakeDns):
    """As `FakeDns`; `faults` hold what is wrong with single (name, type) pairs."""

    def __init__(self, zone: Zone, faults: Faults, ttl: int = 300) -> None:
        super().__init__(zone, ttl)
        self.faults = dict(faults)

    @override
    def answer(self, wire: bytes, how: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        fault = self.faults.get((name, kind))
        if fault is None:
            return self._right(query, wire, how)
        self.asked.append((name, kind, how))
        return self._faulty(query, fault, how, super().answer(wire, how) or b"")

    def _right(self, query: dns.message.Message, wire: bytes, how: str) -> bytes | None:
        try:
            return super().answer(wire, how)
        except dns.exception.TooBig:
            reply = dns.message.make_response(query)
            reply.flags |= dns.flags.TC
            return reply.to_wire()

    def _faulty(  # noqa: PLR0911 - a table of what goes wrong
        self, query: dns.message.Message, fault: str, how: str, right: bytes
    ) -> bytes | None:
        reply = dns.message.make_response(query)
        match fault:
            case "silence":
                return None
            case "garbage":
                return b"\xff" * 40
            case "empty":
                return b""
            case "wrong id":
                return bytes([right[0] ^ 1, right[1]]) + right[2:]
            case "cut short":
                return right[: len(right) // 2]
            case "truncated" if how == "udp":
                reply.flags |= dns.flags.TC
            case "truncated, silent by TCP" if how == "udp":
                reply.flags |= dns.flags.TC
            case "truncated, silent by TCP":
                return None
            case "another question":
                reply.question = [dns.rrset.from_text("evil.example.", 0, "IN", "A")]
            case "another name":
                reply.answer.append(
                    dns.rrset.from_text("evil.example.", 60, "IN", "MX", "1 evil.ex.")
                )
            case "truncated":
                return right
            case _:
                reply.set_rcode(dns.rcode.from_text(fault))
        return reply.to_wire()


@dataclass(frozen=True)
class Row:
    """One answer of DNS, and what becomes of a message to example.com."""

    words: str
    wanted: str
    zone: Mapping[str, Sequence[tuple[str, str]]]
    faults: Faults = field(default_factory=dict)
    to: str = "example.com"
    connections: int | None = None


def zone(
    *records: tuple[str, str],
    one: Sequence[tuple[str, str]] = (("A", ONE),),
    two: Sequence[tuple[str, str]] | None = (("A", TWO),),
    **more: Sequence[tuple[str, str]],
) -> dict[str, Sequence[tuple[str, str]]]:
    """A zone of example.com and its two exchangers."""
    made: dict[str, Sequence[tuple[str, str]]] = {
        "example.com": records,
        "one.example": one,
    }
    if two is not None:
        made["two.example"] = two
    return made | more


def only(*records: tuple[str, str]) -> dict[str, Sequence[tuple[str, str]]]:
    """One exchanger, with these addresses."""
    return zone(MX[0], one=records, two=None)


def failing(kind: str, fault: str, name: str = "example.com") -> Faults:
    """One question that goes wrong."""
    return {(name, kind): fault}


def both(fault: str, name: str = "one.example") -> Faults:
    """Both questions for addresses go wrong."""
    return {(name, "A"): fault, (name, "AAAA"): fault}


RETRIED, GONE = "retried 4.4.3", "failed 5.4.4"
INSIDE = (
    "127.0.0.1",
    "127.3.2.1",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.99",  # our own
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "fe80::1",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2002:0a00:1::",
)

ROWS = (
    # Whose exchangers they are
    Row("two exchangers", "delivered", zone(*MX)),
    Row("none: the domain itself", "delivered", zone(("A", ONE))),
    Row("none, IPv6 alone", "delivered", zone(("AAAA", SIX))),
    Row("none, and no address", GONE, zone(("TXT", "x"))),
    Row("no such domain", "failed 5.1.2", {}),
    Row("null MX", "failed 5.1.10", zone(("MX", "0 ."), ("A", ONE))),
    Row("null MX of another preference", "failed 5.1.10", zone(("MX", "10 ."))),
    Row("null MX among others", "delivered", zone(("MX", "0 ."), MX[0])),
    Row("an MX that does not exist", GONE, zone(MX[1], two=None)),
    Row("the first does not exist", "delivered", zone(("MX", "1 no.example."), MX[0])),
    Row("an MX without address", GONE, only(("TXT", "x"))),
    Row(
        "an MX that is an alias",
        "delivered",
        only(("CNAME", "two.example.")) | {"two.example": [("A", TWO)]},
    ),
    Row("an alias to nowhere", GONE, only(("CNAME", "no.example."))),
    Row("an alias of itself", RETRIED, only(("CNAME", "one.example."))),
    Row(
        "an alias in a circle",
        RETRIED,
        only(("CNAME", "b.example.")) | {"b.example": [("CNAME", "one.example.")]},
    ),
    Row(
        "the domain is an alias",
        "delivered",
        {
            "example.com": [("CNAME", "other.example.")],
            "other.example": MX,
            "one.example": [("A", ONE)],
            "two.example": [("A", TWO)],
        },
    ),
    Row(
        "the domain is an alias in a circle",
        RETRIED,
        {
            "example.com": [("CNAME", "b.example.")],
            "b.example": [("CNAME", "example.com.")],
        },
    ),
    Row(
        "the domain is an alias to nowhere",
        "failed 5.1.2",
        {
            "example.com": [("CNAME", "no.example.")],
        },
    ),
    Row("an address as MX", GONE, zone(("MX", f"10 {ONE}."))),
    Row("an address as MX, and a name", "delivered", zone(("MX", f"1 {ONE}."), MX[0])),
    Row("localhost as MX", GONE, zone(("MX", "10 localhost."))),
    Row(
        "localhost, which has an address",
        GONE,
        zone(("MX", "10 localhost."), localhost=[("A", "127.0.0.1")]),
        connections=0,
    ),
    Row("ourselves as the best MX", "failed 5.4.6", zone(("MX", "5 us.example."), *MX)),
    Row("ourselves in the middle", "delivered", zone(MX[0], ("MX", "15 us.example."))),
    Row(
        "ourselves in the middle, the better one is down",
        "retried 4.4.1",
        zone(
            ("MX", "5 down.example."),
            ("MX", "15 us.example."),
            MX[1],
            **{"down.example": [("A", "192.0.2.77")]},
        ),
    ),
    Row(
        "an underscore in an MX",
        "delivered",
        {
            "example.com": [("MX", "10 _mx_1.example.")],
            "_mx_1.example": [("A", ONE)],
        },
    ),
    Row(
        "upper case",
        "delivered",
        {
            "example.com": [("MX", "10 ONE.Example.")],
            "one.example": [("A", ONE)],
        },
        to="EXAMPLE.COM",
    ),
    Row(
        "a domain in its own letters",
        "delivered",
        {
            "xn--bcher-kva.example": [("MX", "10 one.example.")],
            "one.example": [("A", ONE)],
        },
        to="bücher.example",
    ),
    Row("a name that no zone can hold", "failed 5.1.2", {}, to="x" * 64 + ".example"),
    Row(
        "a thousand exchangers",
        "delivered",
        zone(
            *(("MX", f"{n} mx{n}.example.") for n in range(2, 1000)),
            ("MX", "1 one.example."),
        ),
    ),
    Row(
        "a thousand addresses",
        "delivered",
        only(*(("A", f"192.0.2.{n}") for n in range(100, 110)), ("A", ONE))
        | {"one.example": [("A", ONE), *(("A", f"198.18.{n}.1") for n in range(200))]},
    ),
    Row("a TTL of 0", "delivered", zone(*MX), connections=1),
    # Look-ups that fail
    *(
        Row(f"MX: {fault}", RETRIED, zone(*MX), failing("MX", fault), connections=0)
        for fault in (
            "SERVFAIL",
            "REFUSED",
            "NOTIMP",
            "FORMERR",
            "silence",
            "garbage",
            "empty",
            "wrong id",
            "cut short",
            "another question",
            "truncated, silent by TCP",
        )
    ),
    Row(
        "MX: truncated, then whole by TCP",
        "delivered",
        zone(*MX),
        failing("MX", "truncated"),
    ),
    Row(
        "MX: an answer about another name",
        GONE,
        zone(("TXT", "x")),
        failing("MX", "another name"),
        connections=0,
    ),
    *(
        Row(
            f"addresses of the only MX: {fault}",
            RETRIED,
            zone(MX[0]),
            both(fault),
            connections=0,
        )
        for fault in ("SERVFAIL", "REFUSED", "silence", "wrong id", "cut short")
    ),
    Row(
        "A fails, AAAA is there",
        "delivered",
        only(("A", ONE), ("AAAA", SIX)),
        failing("A", "SERVFAIL", "one.example"),
    ),
    Row(
        "AAAA fails, A is there",
        "delivered",
        only(("A", ONE)),
        failing("AAAA", "SERVFAIL", "one.example"),
    ),
    Row(
        "A is none, AAAA fails",
        RETRIED,
        only(("TXT", "x")),
        failing("AAAA", "SERVFAIL", "one.example"),
    ),
    Row(
        "A does not exist, AAAA fails",
        RETRIED,
        zone(MX[0]) | {"one.example": ()},
        {("one.example", "A"): "NXDOMAIN", ("one.example", "AAAA"): "SERVFAIL"},
    ),
    Row(
        "one MX does not exist, the other cannot be looked up",
        RETRIED,
        zone(("MX", "1 no.example."), MX[0]),
        both("SERVFAIL"),
    ),
    Row(
        "one MX cannot be looked up, the other is there",
        "delivered",
        zone(*MX),
        both("SERVFAIL"),
    ),
    Row(
        "one MX is inside, the other cannot be looked up",
        RETRIED,
        zone(*MX, one=[("A", "10.0.0.1")]),
        both("SERVFAIL", "two.example"),
    ),
    Row(
        "one MX is inside, the other is there",
        "delivered",
        zone(*MX, one=[("A", "10.0.0.1")]),
        connections=1,
    ),
    Row(
        "one address is inside, the other is there",
        "delivered",
        only(("A", "10.0.0.1"), ("A", ONE)),
        connections=1,
    ),
    # Nobody gets us inside
    *(
        Row(
            f"an MX at {address}",
            GONE,
            only(("AAAA" if ":" in address else "A", address)),
            connections=0,
        )
        for address in INSIDE
    ),
    *(
        Row(
            f"the domain itself at {address}",
            GONE,
            zone(("AAAA" if ":" in address else "A", address)),
            connections=0,
        )
        for address in ("127.0.0.1", "0.0.0.0", "10.0.0.1", "::1")
    ),
)


class HostileDnsTests(AgentCase):
    """Each row with an agent, a resolver and a server of its own."""

    def world(self, row: Row) -> None:
        """Everything listens everywhere: only we keep ourselves from inside."""
        self.setUp()
        virtual = SimpleNamespace(time=VirtualWall(self.clock).now)
        for module in (
            dns.resolver,
            dns.asyncresolver,
            dns.query,
            dns.asyncquery,
        ):
            self.patch(module, "time", virtual)
        self.dns = OddDns(row.zone, row.faults, 0 if "TTL" in row.words else 300)
        self.network.answer_datagrams(
            f"{SERVER}:53", lambda wire: self.dns.answer(wire, "udp")
        )
        streams: Any = Factory.forProtocol(lambda: _Stream(self.dns))
        self.successResultOf(self.network.listen(f"{SERVER}:53", streams))
        self.hosts = Odd(self.clock)
        for where in ("0.0.0.0:25", "[::]:25"):
            self.successResultOf(self.network.listen(where, self.hosts))
        self.network.bend("192.0.2.77", Dead.REFUSED)
        self.agent = Agent(
            self.network,
            DnsResolver(self.network, self.clock, [(SERVER, 53)]),
            self.clock,
            VirtualWall(self.clock),
            SeededEntropy(),
            RULES,
            ClientTlsContext(AUTHORITY.pem),
            AgentSettings(
                "us.example",
                own_addresses=frozenset({"192.0.2.99"}),
                timeouts=Timeouts(connect=5),
            ),
        )

    def destination(self, row: Row) -> Destination:
        """Where the routing table sends it."""
        return route(Mailbox("ann", row.to), RoutingTable())

    def try_once(self, row: Row) -> str:
        """What becomes of a message, with the status where it does not arrive."""
        recipient = Recipient(Mailbox("ann", row.to))
        attempt = self.begin(recipient, destination=self.destination(row))
        for _ in range(30):
            if attempt.called:
                break
            self.run_for(20)
        self.assertTrue(attempt.called, row.words)
        done: Attempt = self.successResultOf(attempt)
        (result,) = done.results
        word = outcome(result)
        return word if result.diagnosis is None else f"{word} {result.diagnosis.status}"

    def test_the_table(self) -> None:
        """Every row; what is retried arrives, once, when DNS is in order."""
        for row in ROWS:
            self.world(row)
            self.assertEqual(self.try_once(row), row.wanted, row.words)
            if row.connections is not None:
                self.assertEqual(self.hosts.connections, row.connections, row.words)
            if row.wanted == RETRIED:
                self.heal(row)

    def heal(self, row: Row) -> None:
        """DNS says what it should."""
        self.dns.faults.clear()
        self.dns.zone |= {
            "example.com": [("MX", "10 one.example.")],
            "one.example": [("A", ONE)],
        }
        self.clock.pump([60.0] * 10)
        self.assertEqual(self.try_once(row), "delivered", row.words)
        self.assertEqual(len(self.hosts.taken), 1, row.words)

    def test_literals(self) -> None:
        """An address in brackets: a public one is used, an inside one is not."""
        for literal, wanted in (
            (f"[{ONE}]", "delivered"),
            (f"[IPv6:{SIX}]", "delivered"),
            ("[127.0.0.1]", GONE),
            ("[10.1.2.3]", GONE),
            ("[IPv6:::1]", GONE),
            ("[192.0.2.99]", GONE),
        ):
            row = Row(literal, wanted, {}, to=literal)
            self.world(row)
            self.assertEqual(self.try_once(row), wanted, literal)
            self.assertEqual(self.dns.asked, [], literal)

    def test_bounded_questions(self) -> None:
        """However many exchangers, a try asks and connects so often and no more."""
        names = [f"mx{number}.example" for number in range(500)]
        records = [("MX", f"{n} {name}.") for n, name in enumerate(names)]
        down = {name: [("A", "192.0.2.77")] for name in names}
        row = Row("many", "", {"example.com": records, **down})
        self.world(row)
        self.assertEqual(self.try_once(row), "retried 4.4.1")
        self.assertLessEqual(len(self.dns.asked), 45)
        self.world(Row("none", "", {"example.com": records}))
        self.assertEqual(self.try_once(row), GONE)
        self.assertLessEqual(len(self.dns.asked), 45)
