"""Tests of whole attempts, against hosts of every kind on a network in memory."""

import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.interfaces import Delivery
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import Action, Attempt, Category, DeliveryResult, Stage
from fwd_mta.mail.envelope import Body, Envelope, Notify, Recipient
from fwd_mta.mail.errors import Interrupted
from fwd_mta.mail.message import Body as FileBody
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.route import Destination, TlsLevel, TlsMode, Via
from fwd_mta.net.tls import ClientTlsContext, ServerTls, server_context, tls_factory
from fwd_mta.outbound.agent import Agent, AgentSettings
from fwd_mta.outbound.connection import Timeouts
from fwd_mta.outbound.pool import PoolSettings
from fwd_mta.rules.classification import RuleTable
from fwd_mta.rules.signing import BodyHash, SigningKey
from fwd_mta.world.certificates import Authority
from fwd_mta.world.hosts import HOSTS, PLAIN, Behaviour, Deed, Inbox, RemoteHost
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from fwd_mta.world.names import TableResolver
from fwd_mta.world.network import Dead, MemoryNetwork

RULES = RuleTable.parse(
    files("fwd_mta.rules").joinpath("classification.toml").read_text("utf-8")
)
AUTHORITY = Authority(time.time())  # OpenSSL judges by the real clock
SENDER = Mailbox("joe", "us.example")
MESSAGE = Message(b"From: <joe@us.example>\r\n", b"Hello\r\n.\r\nbye\r\n")
ONE, TWO = "192.0.2.10", "192.0.2.20"


def _recipients(*locals_: str) -> tuple[Recipient, ...]:
    return tuple(Recipient(Mailbox(each, "example.com")) for each in locals_)


class Scripted(Protocol):
    """Says something on connecting and to whatever comes; None closes."""

    def __init__(self, answers: Sequence[bytes | None]) -> None:
        self._answers = list(answers)

    @override
    def connectionMade(self) -> None:
        self._next()

    @override
    def dataReceived(self, data: bytes) -> None:
        self._next()

    def _next(self) -> None:
        transport: Any = self.transport
        answer = self._answers.pop(0) if self._answers else b"250 ok\r\n"
        if answer is None:
            transport.loseConnection()
        else:
            transport.write(answer)


class _OnDisk(FileBody):
    """A body that is read piece by piece."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    @property
    @override
    def size(self) -> int:
        return len(self._octets)

    @override
    async def read(self, offset: int, length: int) -> bytes:
        return self._octets[offset : offset + min(length, 3)]


class AgentCase(SynchronousTestCase):
    """An agent, and two exchangers of example.com at preference 10 and 20."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, SeededEntropy())
        self.mx: dict[str, Sequence[tuple[int, str]]] = {
            "example.com": [(10, "one.example"), (20, "two.example")]
        }
        self.names: dict[str, Sequence[str]] = {
            "one.example": [ONE],
            "two.example": [TWO],
        }
        self.failing: set[str] = set()
        self.inbox = Inbox()
        self.noted: list[Sequence[Recipient]] = []
        self.agent = self.make_agent()

    def make_agent(self, **settings: Any) -> Agent:
        """Make the agent with other settings."""
        settings.setdefault("timeouts", Timeouts(greeting=60, data_done=100))
        self.agent = Agent(
            self.network,
            TableResolver(self.mx, self.names, self.failing),
            self.clock,
            VirtualWall(self.clock),
            SeededEntropy(),
            RULES,
            ClientTlsContext(AUTHORITY.pem),
            AgentSettings("us.example", **settings),
        )
        return self.agent

    def host(
        self,
        address: str = ONE,
        behaviour: Behaviour | str = PLAIN,
        *,
        certificate: str = "",
        port: int = 25,
        implicit: bool = False,
        accounts: dict[str, str] | None = None,
        lmtp: bool = False,
    ) -> RemoteHost:
        """Put a host on the network."""
        if isinstance(behaviour, str):
            behaviour = HOSTS[behaviour]
        name = "one.example" if address == ONE else "two.example"
        tls = _tls(certificate) if certificate else None
        host = RemoteHost(
            name,
            self.clock,
            self.inbox,
            behaviour,
            None if implicit else tls,
            accounts=accounts,
            lmtp=lmtp,
        )
        factory: Any = host
        if implicit and tls is not None:
            factory = tls_factory(factory, tls, self.clock)
        where = f"[{address}]:{port}" if "::" in address else f"{address}:{port}"
        where = address if address.startswith("unix:") else where
        self.successResultOf(self.network.listen(where, factory))
        return host

    def script(self, address: str, *answers: bytes | None) -> None:
        """Put a host on the network that says just this, line for line."""
        factory = Factory.forProtocol(lambda: Scripted(answers))
        self.successResultOf(self.network.listen(f"{address}:25", factory))

    def begin(
        self,
        *recipients: Recipient,
        message: Message = MESSAGE,
        destination: Destination | None = None,
        before_dot: Callable[[Sequence[Recipient]], Awaitable[None]] | None = None,
        envelope: Envelope | None = None,
    ) -> Deferred[Attempt]:
        """Start an attempt."""
        envelope = envelope or Envelope(SENDER, recipients or _recipients("ann"))
        destination = destination or Destination(Via.MX, "example.com")
        delivery = Delivery(
            "1", envelope, destination, message, before_dot or self._note
        )
        return Deferred.fromCoroutine(self.agent.deliver(delivery))

    async def _note(self, recipients: Sequence[Recipient]) -> None:
        self.noted.append(recipients)

    def run_for(self, seconds: float) -> None:
        """Let time pass, with a turn of the reactor often enough."""
        self.clock.pump([0.0] * 60)
        self.clock.pump([seconds / 20] * 20)
        self.clock.pump([0.0] * 60)

    def attempt(self, *recipients: Recipient, **more: Any) -> Attempt:
        """One whole attempt that takes no time."""
        attempt = self.begin(*recipients, **more)
        self.run_for(1)
        return self.successResultOf(attempt)

    def result(self, *recipients: Recipient, **more: Any) -> DeliveryResult:
        """The one result of an attempt."""
        (result,) = self.attempt(*recipients, **more).results
        return result

    def said(self, result: DeliveryResult) -> tuple[Action, str]:
        """What a failed result asks of us, and its enhanced code."""
        assert result.diagnosis is not None, result
        return result.diagnosis.action, result.diagnosis.status


def _tls(certificate: str) -> ServerTls:
    return ServerTls(server_context(*AUTHORITY.issue(certificate)))


class SiteTests(AgentCase):
    """Which destinations are one site."""

    def site(self, domain: str, via: Via = Via.MX) -> str:
        """The site of a destination."""
        destination = Destination(via, domain)
        return self.successResultOf(
            Deferred.fromCoroutine(self.agent.site(destination))
        )

    def test_the_same_exchangers_are_one_site(self) -> None:
        """However they are ordered: what is busy is the hosts, not the domain."""
        self.mx["other.example"] = [(5, "two.example"), (5, "one.example")]
        self.assertEqual(self.site("example.com"), "one.example two.example:25")
        self.assertEqual(self.site("other.example"), self.site("example.com"))

    def test_without_exchangers_the_domain_is_the_site(self) -> None:
        """None, unknown, or not to be found out now."""
        self.failing.add("broken.example")
        self.assertEqual(self.site("one.example"), "one.example:25")
        self.assertEqual(self.site("broken.example"), "broken.example:25")

    def test_what_goes_to_no_host_has_no_site(self) -> None:
        """The transport table's own answers wait for nobody."""
        self.assertEqual(self.site("", Via.DISCARD), "")

    def test_a_shunned_source_is_used_only_where_there_is_no_other(self) -> None:
        """Mail goes on from another address of ours while one rests."""
        agent = self.make_agent(source_addresses=("192.0.2.1", "192.0.2.2"))
        chosen = {agent.source(ONE, frozenset({"192.0.2.1"})) for _ in range(20)}
        self.assertEqual(chosen, {"192.0.2.2"})
        both = frozenset({"192.0.2.1", "192.0.2.2"})
        self.assertIn(agent.source(ONE, both), both)


class DeliveryTests(AgentCase):
    """Mail that arrives."""

    def test_delivered(self) -> None:
        """A message arrives as it is; the result tells where, how, and the reply."""
        self.host()
        attempt = self.attempt()
        (result,) = attempt.results
        self.assertTrue(result.delivered)
        self.assertEqual(result.recipient, _recipients("ann")[0])
        self.assertIs(result.stage, Stage.DOT)
        self.assertEqual(result.host, f"one.example[{ONE}]:25")
        self.assertIsNone(result.tls)
        self.assertFalse(result.in_doubt)
        assert result.reply is not None
        self.assertEqual(result.reply.code, 250)
        (received,) = self.inbox.messages
        content = b"From: <joe@us.example>\r\n\r\nHello\r\n.\r\nbye\r\n"
        self.assertEqual(received.content, content)
        self.assertEqual(received.reverse_path, "joe@us.example")
        self.assertEqual(self.noted, [_recipients("ann")])
        (line,) = attempt.trail
        self.assertIn(f"one.example[{ONE}]:25 (in clear): dot: 250", line)
        self.assertIn("(1 recipient)", line)

    def test_large_message(self) -> None:
        """A large body streams under back-pressure and arrives whole."""
        self.host()
        body = b"".join(b".%d\r\n" % number for number in range(200_000))
        attempt = self.begin(message=Message(b"A: b\r\n", body))
        for _ in range(200):
            self.run_for(0.1)
        (result,) = self.successResultOf(attempt).results
        self.assertTrue(result.delivered, result)
        self.assertEqual(self.inbox.messages[0].content, b"A: b\r\n\r\n" + body)

    def test_mixed(self) -> None:
        """One refused recipient harms no other; results are in the order asked."""
        self.host()
        attempt = self.attempt(*_recipients("a", "b+unknown", "c+later", "d"))
        self.assertEqual(
            [result.recipient.mailbox.local for result in attempt.results],
            ["a", "b+unknown", "c+later", "d"],
        )
        one, unknown, later, four = attempt.results
        self.assertTrue(one.delivered and four.delivered)
        self.assertEqual(self.said(unknown), (Action.REJECT, "5.1.1"))
        self.assertEqual(self.said(later)[0], Action.DEFER)
        self.assertEqual(len(self.inbox.messages), 1)

    def test_same_recipient_twice(self) -> None:
        """A recipient named twice gets one copy and has two results."""
        self.host()
        attempt = self.attempt(*_recipients("a", "a"))
        self.assertEqual([each.delivered for each in attempt.results], [True, True])
        self.assertEqual(self.inbox.messages[0].recipients, ("a@example.com",))

    def test_many_recipients(self) -> None:
        """Above fifty recipients a second transaction follows on the connection."""
        host = self.host()
        attempt = self.attempt(*_recipients(*(f"r{number}" for number in range(120))))
        self.assertTrue(all(result.delivered for result in attempt.results))
        counts = [len(message.recipients) for message in self.inbox.messages]
        self.assertEqual(counts, [50, 50, 20])
        self.assertEqual(len(host.connected_at), 1)

    def test_told_limit(self) -> None:
        """A limit that the host announces is kept (RFC 9422)."""
        self.host(behaviour=Behaviour(extensions=("PIPELINING", "LIMITS RCPTMAX=2")))
        self.attempt(*_recipients("a", "b", "c"))
        counts = [len(message.recipients) for message in self.inbox.messages]
        self.assertEqual(counts, [2, 1])

    def test_too_many_recipients(self) -> None:
        """Those answered 452 4.5.3 go in a new transaction at once."""
        refusal = Reply(452, "5.3", "Too many recipients")
        acts = (None, None, refusal, refusal)
        self.host(behaviour=Behaviour({Stage.RCPT: acts}))
        attempt = self.attempt(*_recipients("a", "b", "c", "d"))
        self.assertTrue(all(result.delivered for result in attempt.results))
        counts = [len(message.recipients) for message in self.inbox.messages]
        self.assertEqual(counts, [2, 2])

    def test_relayed(self) -> None:
        """SUCCESS asked for, and a host without DSN: handed on, not delivered."""
        recipient = Recipient(Mailbox("a", "example.com"), (Notify.SUCCESS,))
        self.host(behaviour="bare")
        self.host(TWO)
        self.assertTrue(self.result(recipient).relayed)
        self.assertFalse(self.result(*_recipients("a")).relayed)
        self.mx["example.com"] = [(10, "two.example")]
        self.assertFalse(self.result(recipient).relayed)
        self.assertIn(b"NOTIFY=SUCCESS", self.inbox.messages[-1].rcpt[0])

    def test_discard_and_error(self) -> None:
        """The transport table may swallow mail, or refuse it with its own words."""
        discarded = self.result(destination=Destination(Via.DISCARD, "", 0))
        self.assertTrue(discarded.delivered)
        gone = Destination(Via.ERROR, "5.1.1 he is gone", 0)
        refused = self.result(destination=gone)
        self.assertEqual(refused.reply, Reply(550, "1.1", "he is gone"))
        self.assertEqual(self.said(refused), (Action.REJECT, "5.1.1"))
        later = Destination(Via.ERROR, "4.3.2 moving house", 0)
        self.assertIs(self.said(self.result(destination=later))[0], Action.DEFER)

    def test_lmtp(self) -> None:
        """A mail store on a UNIX socket answers for each recipient."""
        self.host("unix:/run/lmtp", "bare", lmtp=True)
        destination = Destination(
            Via.LMTP, "unix:/run/lmtp", 0, TlsLevel.NONE, trusted=True
        )
        asked = Recipient(Mailbox("a", "example.com"), (Notify.SUCCESS,))
        attempt = self.attempt(asked, *_recipients("b+spam"), destination=destination)
        one, two = attempt.results
        self.assertTrue(one.delivered)
        self.assertFalse(one.relayed, "a mail store is the end of the way")
        self.assertTrue(one.at_home)
        self.assertIs(two.stage, Stage.DOT)
        self.assertFalse(two.delivered)


class NamesTests(AgentCase):
    """Where DNS sends us, or does not."""

    def test_implicit_exchanger(self) -> None:
        """Without MX the domain's own address takes the mail."""
        self.mx["example.com"] = []
        self.names["example.com"] = [ONE]
        self.host()
        result = self.result()
        self.assertTrue(result.delivered)
        self.assertEqual(result.host, f"example.com[{ONE}]:25")

    def test_null_exchanger(self) -> None:
        """A null MX fails at once (RFC 7505)."""
        self.mx["example.com"] = [(0, ".")]
        result = self.result()
        self.assertEqual(self.said(result), (Action.REJECT, "5.1.10"))
        self.assertIs(result.stage, Stage.DNS)

    def test_no_such_domain(self) -> None:
        """A domain that does not exist fails at once."""
        del self.mx["example.com"]
        self.assertEqual(self.said(self.result()), (Action.REJECT, "5.1.2"))

    def test_dns_failure(self) -> None:
        """A look-up that failed is tried again, never a bounce."""
        self.failing.add("example.com")
        self.assertEqual(self.said(self.result()), (Action.DEFER, "4.4.3"))

    def test_exchangers_unknown(self) -> None:
        """Exchangers that do not exist fail; one that cannot be looked up waits."""
        self.names.clear()
        self.assertEqual(self.said(self.result()), (Action.REJECT, "5.4.4"))
        self.failing.add("two.example")
        self.assertEqual(self.said(self.result()), (Action.DEFER, "4.4.3"))

    def test_unknown_and_refusing(self) -> None:
        """While one exchanger may yet come back, nothing bounces."""
        del self.names["one.example"]
        self.network.bend(TWO, Dead.REFUSED)
        self.assertEqual(self.said(self.result())[0], Action.DEFER)

    def test_loop(self) -> None:
        """Mail that would come back to us fails."""
        self.mx["example.com"] = [(10, "us.example"), (20, "two.example")]
        self.assertEqual(self.said(self.result()), (Action.REJECT, "5.4.6"))

    def test_private_addresses(self) -> None:
        """A stranger's DNS does not lead us inside; the next exchanger is asked."""
        self.names["one.example"] = ["127.0.0.1", "10.0.0.1", "::1"]
        inside = self.host("127.0.0.1")
        self.host(TWO)
        attempt = self.attempt()
        self.assertTrue(attempt.results[0].delivered)
        self.assertEqual(attempt.results[0].host, f"two.example[{TWO}]:25")
        self.assertIn("may be used (127.0.0.1, 10.0.0.1, ::1)", attempt.trail[0])
        self.names["two.example"] = ["192.168.1.1"]
        self.assertEqual(self.said(self.result()), (Action.REJECT, "5.4.4"))
        self.assertEqual(inside.connected_at, [])

    def test_own_address(self) -> None:
        """Our own address under another name is refused too."""
        self.make_agent(own_addresses=frozenset({ONE, TWO}))
        self.host()
        self.assertEqual(self.said(self.result()), (Action.REJECT, "5.4.4"))

    def test_private_literal(self) -> None:
        """A client's address literal does not lead inside either."""
        self.host("127.0.0.1")
        literal = Destination(Via.HOST, "127.0.0.1")
        self.assertEqual(
            self.said(self.result(destination=literal)), (Action.REJECT, "5.4.4")
        )

    def test_private_where_wanted(self) -> None:
        """An operator's own entries may be private, and a setting allows all."""
        self.host("127.0.0.1", port=2525)
        entry = Destination(Via.HOST, "127.0.0.1", 2525, trusted=True)
        self.assertTrue(self.result(destination=entry).delivered)
        self.make_agent(allow_private_destinations=True)
        literal = Destination(Via.HOST, "127.0.0.1", 2525)
        self.assertTrue(self.result(destination=literal).delivered)

    def test_operators_mistake(self) -> None:
        """A relayhost that does not exist is our own fault: tried again (P4)."""
        for via in (Via.HOST, Via.MX):
            entry = Destination(via, "nowhere.example", trusted=True)
            result = self.result(destination=entry)
            self.assertIs(self.said(result)[0], Action.DEFER)

    def test_families(self) -> None:
        """Only the wanted family is tried."""
        self.names["one.example"] = [ONE, "2001:db8::10"]
        self.host("2001:db8::10")
        self.make_agent(inet_protocols="ipv6")
        result = self.result()
        self.assertEqual(result.host, "one.example[2001:db8::10]:25")
        self.make_agent(inet_protocols="ipv4")
        self.network.bend(TWO, Dead.REFUSED)
        self.assertFalse(self.result().delivered)

    def test_source_address(self) -> None:
        """Connections come from the source address of their family."""
        self.make_agent(source_addresses=("2001:db8::99", "192.0.2.99"))
        self.host()
        self.result()
        self.assertEqual(self.inbox.messages[0].client, "192.0.2.99")


class HostsTests(AgentCase):
    """Hosts that are down, closed, full or odd; the next exchanger behind them."""

    def test_down(self) -> None:
        """Refused, silent, unreachable: the next exchanger takes it."""
        for dead in Dead:
            self.setUp()
            self.network.bend(ONE, dead)
            self.host(TWO)
            attempt = self.begin()
            self.run_for(40)
            found = self.successResultOf(attempt)
            self.assertTrue(found.results[0].delivered, dead)
            self.assertIn(f"one.example[{ONE}]:25: connect:", found.trail[0])

    def test_all_down(self) -> None:
        """All exchangers down: tried again later, and the reason is told."""
        for dead, status in (
            (Dead.REFUSED, "4.4.1"),
            (Dead.SILENT, "4.4.1"),
            (Dead.NO_ROUTE, "4.4.1"),
        ):
            self.setUp()
            self.network.bend(ONE, dead)
            self.network.bend(TWO, dead)
            attempt = self.begin()
            self.run_for(90)
            (result,) = self.successResultOf(attempt).results
            self.assertEqual(self.said(result), (Action.DEFER, status), dead)
            self.assertIs(result.stage, Stage.CONNECT)
            self.assertEqual(result.host, f"two.example[{TWO}]:25")

    def test_greeting_refused(self) -> None:
        """A 554 greeting sends us to the next exchanger."""
        self.host(behaviour="closed")
        self.host(TWO)
        attempt = self.attempt()
        self.assertTrue(attempt.results[0].delivered)
        self.assertIn("greeting: 554 5.7.1 No mail from you", attempt.trail[0])

    def test_greeting_refused_by_all(self) -> None:
        """554 from all exchangers is tried again; 521 from all is final."""
        self.host(behaviour="closed")
        two = self.host(TWO, "closed")
        self.assertIs(self.said(self.result())[0], Action.DEFER)
        two.behaviour = HOSTS["no-mail"]
        self.assertIs(self.said(self.result())[0], Action.DEFER)
        self.setUp()
        self.host(behaviour="no-mail")
        self.host(TWO, "no-mail")
        self.assertIs(self.said(self.result())[0], Action.REJECT)

    def test_hello_refused(self) -> None:
        """EHLO and HELO refused: next exchanger."""
        self.host(behaviour="no-ehlo")
        self.host(TWO)
        self.assertTrue(self.result().delivered)

    def test_busy(self) -> None:
        """421 in the greeting: next exchanger."""
        self.host(behaviour="busy")
        self.host(TWO)
        self.assertTrue(self.result().delivered)

    def test_mute(self) -> None:
        """A host that never greets costs its time-out, no more."""
        self.host(behaviour="mute")
        self.host(TWO)
        attempt = self.begin()
        self.run_for(59)
        self.assertNoResult(attempt)
        self.run_for(3)
        self.assertTrue(self.successResultOf(attempt).results[0].delivered)

    def test_endless_reply(self) -> None:
        """A reply that never ends is cut off by its one deadline."""
        self.host(behaviour="endless")
        self.host(TWO)
        attempt = self.begin()
        for _ in range(16):
            self.run_for(20)
        self.assertTrue(self.successResultOf(attempt).results[0].delivered)

    def test_closing_in_the_middle(self) -> None:
        """421 to RCPT: the next exchanger takes it."""
        acts = {Stage.RCPT: Reply(421, "3.2", "going down")}
        self.host(behaviour=Behaviour(acts))
        self.host(TWO)
        self.assertTrue(self.result().delivered)

    def test_lost_in_content(self) -> None:
        """A loss before the dot sends us on, and nothing is in doubt."""
        self.host(behaviour="drops-data")
        self.host(TWO)
        result = self.result()
        self.assertTrue(result.delivered)
        self.assertFalse(result.in_doubt)

    def test_lost_after_the_dot(self) -> None:
        """After the dot no other exchanger is tried: it may be delivered (P2)."""
        for habit, wait in (("lost-after-dot", 1), ("silent-after-dot", 110)):
            self.setUp()
            self.host(behaviour=habit)
            two = self.host(TWO)
            attempt = self.begin()
            self.run_for(wait)
            found = self.successResultOf(attempt)
            (result,) = found.results
            self.assertTrue(result.in_doubt)
            self.assertIs(self.said(result)[0], Action.DEFER)
            self.assertIn("in doubt", found.trail[0])
            self.assertEqual(two.connected_at, [])

    def test_data_answered_250(self) -> None:
        """A host that says 250 to DATA has delivered nothing (D7)."""
        self.host(behaviour="250-to-data")
        two = self.host(TWO)
        result = self.result()
        self.assertFalse(result.delivered)
        self.assertIs(self.said(result)[0], Action.DEFER)
        self.assertEqual(two.connected_at, [])

    def test_temporary_refusal_is_the_answer(self) -> None:
        """A host that puts the message off has answered for its domain."""
        self.host(behaviour="defers")
        two = self.host(TWO)
        self.assertIs(self.said(self.result())[0], Action.DEFER)
        self.assertEqual(two.connected_at, [])

    def test_five_addresses(self) -> None:
        """At most five addresses a try, shared by the exchangers."""
        self.names["one.example"] = [f"198.51.100.{last}" for last in range(1, 9)]
        self.names["two.example"] = [f"203.0.113.{last}" for last in range(1, 9)]
        attempt = self.attempt()
        tried = [line.partition("[")[2].partition("]")[0] for line in attempt.trail]
        self.assertEqual(
            tried,
            [
                *("198.51.100.1", "198.51.100.2", "198.51.100.3"),
                *("203.0.113.1", "203.0.113.2"),
            ],
        )

    def test_out_of_turn(self) -> None:
        """A host that answers ahead of the questions is dropped."""
        answers = b"220 hi\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n250 taken\r\n"
        self.script(ONE, answers)
        self.host(TWO)
        attempt = self.attempt()
        self.assertEqual(attempt.results[0].host, f"two.example[{TWO}]:25")
        self.assertIn("out of turn", attempt.trail[0])

    def test_out_of_turn_behind_ehlo(self) -> None:
        """An answer too many behind the EHLO answer ends in the next exchanger."""
        self.script(ONE, b"220 hi\r\n", b"250 one.example\r\n250 sender ok\r\n")
        two = self.host(TWO)
        self.assertTrue(self.result().delivered)
        self.assertEqual(len(two.connected_at), 1)

    def test_wordy(self) -> None:
        """A reply of many thousand words is kept short, and so is the trail."""
        words = b"550-" + b"word " * 180 + b"\r\n"
        self.script(ONE, b"220 hi\r\n", b"250 hi\r\n", words * 50 + b"550 end\r\n")
        attempt = self.attempt(*_recipients("a", "b"))
        for result in attempt.results:
            assert result.reply is not None
            self.assertLess(len(result.reply.text), 5000)
        self.assertTrue(all(len(line) <= 1000 for line in attempt.trail))

    def test_many_answers(self) -> None:
        """Fifty different answers do not make fifty lines of trail."""
        self.host()
        names = [f"r{number}+unknown" for number in range(50)]
        attempt = self.attempt(*_recipients(*names))
        self.assertEqual(len(attempt.results), 50)
        self.assertLess(len(attempt.trail), 10)
        self.assertIn("45 other answers", attempt.trail[-1])

    def test_not_smtp(self) -> None:
        """Something else on the port is no mail host."""
        self.script(ONE, b"SSH-2.0-OpenSSH\r\n")
        result = self.result()
        self.assertIs(self.said(result)[0], Action.DEFER)

    def test_every_failure_has_its_reason(self) -> None:
        """Whatever a host does, there is a result with a reason (P3)."""
        for habit, behaviour in HOSTS.items():
            self.setUp()
            self.mx["example.com"] = [(10, "one.example")]
            self.host(behaviour=behaviour)
            attempt = self.begin()
            for _ in range(40):
                self.run_for(60)
            (result,) = self.successResultOf(attempt).results
            if not result.delivered:
                assert result.diagnosis is not None
                self.assertTrue(result.diagnosis.message, habit)
                self.assertTrue(result.diagnosis.rule, habit)
                self.assertIn("one.example", result.host or "", habit)


class LackingTests(AgentCase):
    """What one host lacks another may have."""

    def test_next_exchanger_first(self) -> None:
        """SIZE, 8BITMIME, SMTPUTF8: the next exchanger that has it takes it."""
        long = Message(b"A: b\r\n", b"x\r\n" * 500)
        eight = Message(b"A: b\r\n", b"\xff\r\n")
        utf8 = _recipients("bücher")
        for habit, message, recipients in (
            ("small", long, _recipients("a")),
            ("no-8bitmime", eight, _recipients("a")),
            ("no-smtputf8", MESSAGE, utf8),
        ):
            self.setUp()
            self.host(behaviour=habit)
            self.host(TWO)
            result = self.result(*recipients, message=message)
            self.assertTrue(result.delivered, habit)
            self.assertEqual(result.host, f"two.example[{TWO}]:25")

    def test_nobody_has_it(self) -> None:
        """Only when no exchanger has it, it fails."""
        long = Message(b"A: b\r\n", b"x\r\n" * 500)
        self.host(behaviour="small")
        self.host(TWO, "small")
        self.assertEqual(self.said(self.result(message=long)), (Action.REJECT, "5.3.4"))
        self.assertEqual(self.inbox.messages, [])

    def test_another_may_have_it(self) -> None:
        """While an exchanger is down that may have it, nothing fails."""
        long = Message(b"A: b\r\n", b"x\r\n" * 500)
        for down in (ONE, TWO):
            self.setUp()
            self.network.bend(down, Dead.REFUSED)
            self.host(TWO if down == ONE else ONE, "small")
            result = self.result(message=long)
            self.assertIs(self.said(result)[0], Action.DEFER, down)

    def test_in_seven_bits(self) -> None:
        """Where no host takes 8-bit content the message is re-encoded on its way."""
        self.host(behaviour="no-8bitmime")
        self.host(TWO, "no-8bitmime")
        head = b"From: <joe@us.example>\r\n"
        for body in (b"P\xc3\xa4iv\xc3\xa4 to you all\r\n", _OnDisk(b"\xc3\xa4\r\n")):
            message = Message(head, body)
            envelope = Envelope(SENDER, _recipients("ann"), Body.EIGHT_BIT)
            self.assertTrue(self.result(message=message, envelope=envelope).delivered)
        first, second = self.inbox.messages
        self.assertIn(b"P=C3=A4iv=C3=A4 to you all", first.content)
        self.assertTrue(first.content.isascii() and second.content.isascii())
        self.assertNotIn(b"BODY", first.mail)

    def test_its_signature_is_renewed(self) -> None:
        """Our DKIM signature fits what really leaves."""
        key = SigningKey("us.example", "s1", Ed25519PrivateKey.generate())
        old = b"DKIM-Signature: v=1; d=us.example; s=s1; bh=old; b=old\r\n"
        self.agent.keys = (key,)
        self.host(behaviour="no-8bitmime")
        self.host(TWO, "no-8bitmime")
        message = Message(old + b"From: <joe@us.example>\r\n", b"P\xc3\xa4iv\r\n")
        self.assertTrue(self.result(message=message).delivered)
        (received,) = self.inbox.messages
        self.assertNotIn(b"bh=old", received.content)
        digest = BodyHash()
        digest.update(received.content.partition(b"\r\n\r\n")[2])
        self.assertIn(b"bh=" + b64encode(digest.digest()), received.content)

    def test_what_was_held_is_signed_when_it_leaves(self) -> None:
        """Intake left it unsigned (RFC 4865); a signature of ours stays as it is."""
        self.agent.keys = (
            SigningKey("us.example", "s1", Ed25519PrivateKey.generate()),
        )
        self.host()
        envelope = Envelope(SENDER, _recipients("ann"), hold_until=1.0)
        old = b"DKIM-Signature: v=1; d=us.example; s=s1; bh=old; b=old\r\n"
        for head in (b"", b"", old):
            message = Message(head + b"From: <joe@us.example>\r\n", b"Hi\r\n")
            self.assertTrue(self.result(message=message, envelope=envelope).delivered)
        first, second, third = self.inbox.messages
        digest = BodyHash()
        digest.update(b"Hi\r\n")
        wanted = b"bh=" + b64encode(digest.digest())
        for fresh in (first, second):
            self.assertIn(wanted, fresh.content)
        self.assertEqual(third.content.count(b"DKIM-Signature"), 1)

    def test_what_is_signed_is_not_touched(self) -> None:
        """Then it fails, and says so: 5.6.3."""
        self.host(behaviour="no-8bitmime")
        self.host(TWO, "no-8bitmime")
        head = b"A: b\r\nContent-Type: multipart/signed; boundary=b\r\n"
        result = self.result(message=Message(head, b"--b\r\n\r\n\xff\r\n--b--\r\n"))
        self.assertEqual(self.said(result), (Action.REJECT, "5.6.3"))
        self.assertEqual(self.inbox.messages, [])

    def test_who_refused_is_not_asked_again(self) -> None:
        """The second round is for those who need it."""
        self.host(behaviour="no-8bitmime")
        self.host(TWO, "no-8bitmime")
        eight = Message(b"A: b\r\n", b"\xff\r\n")
        good, bad = self.attempt(*_recipients("a", "b+unknown"), message=eight).results
        self.assertTrue(good.delivered)
        self.assertEqual(self.said(bad), (Action.REJECT, "5.1.1"))

    def require(self, extensions: tuple[str, ...], certificate: str) -> DeliveryResult:
        """The result of a REQUIRETLS message at two such hosts."""
        behaviour = Behaviour(extensions=extensions)
        self.host(behaviour=behaviour, certificate=certificate and "one.example")
        self.host(TWO, behaviour, certificate=certificate and "two.example")
        envelope = Envelope(SENDER, _recipients("ann"), require_tls=True)
        return self.result(envelope=envelope)

    def test_requiretls(self) -> None:
        """It goes to who promises it over a verified certificate, and says so."""
        result = self.require(("PIPELINING", "REQUIRETLS"), "its own")
        self.assertTrue(result.delivered)
        self.assertIn(b"REQUIRETLS", self.inbox.messages[0].mail)

    def test_requiretls_not_promised(self) -> None:
        """Neither without the promise nor without TLS: 5.7.30 (RFC 8689 4.2.1)."""
        for extensions, certificate in (
            (("PIPELINING",), "own"),
            (("REQUIRETLS",), ""),
        ):
            self.setUp()
            result = self.require(extensions, certificate)
            self.assertEqual(self.said(result), (Action.REJECT, "5.7.30"))
            self.assertEqual(self.inbox.messages, [])

    def test_requiretls_and_the_wrong_name(self) -> None:
        """A certificate that proves nothing may be mended: retried, never in clear."""
        self.host(
            behaviour=Behaviour(extensions=("REQUIRETLS",)), certificate="x.example"
        )
        self.network.bend(TWO, Dead.REFUSED)
        envelope = Envelope(SENDER, _recipients("ann"), require_tls=True)
        self.assertIs(self.said(self.result(envelope=envelope))[0], Action.DEFER)
        self.assertEqual(self.inbox.messages, [])

    def test_only_who_needs_it(self) -> None:
        """One address that needs SMTPUTF8 harms no other."""
        self.host(behaviour="no-smtputf8")
        self.host(TWO, "no-smtputf8")
        plain, other = self.attempt(*_recipients("a", "bücher")).results
        self.assertTrue(plain.delivered)
        self.assertEqual(self.said(other), (Action.REJECT, "5.6.7"))


class TlsTests(AgentCase):
    """STARTTLS with real handshakes."""

    def _to(self, level: TlsLevel) -> Destination:
        return Destination(Via.MX, "example.com", tls=level)

    def test_verified(self) -> None:
        """TLS is used where offered; the result names it and what it proved."""
        host = self.host(certificate="one.example")
        for level in (TlsLevel.MAY, TlsLevel.ENCRYPT, TlsLevel.SECURE):
            result = self.result(destination=self._to(level))
            self.assertTrue(result.delivered, level)
            assert result.tls is not None
            self.assertRegex(result.tls, r"^TLSv1\.[23], .*, verified$")
        self.assertIsNotNone(self.inbox.messages[0].tls)
        hellos = [line for line in host.commands if line.startswith("EHLO")]
        self.assertEqual(len(hellos), 6, "EHLO is said again inside TLS")

    def test_large_message(self) -> None:
        """A large body streams through TLS and arrives whole."""
        self.host(certificate="one.example")
        body = b"".join(b".%d\r\n" % number for number in range(100_000))
        attempt = self.begin(
            message=Message(b"A: b\r\n", body), destination=self._to(TlsLevel.SECURE)
        )
        for _ in range(100):
            self.run_for(0.1)
        (result,) = self.successResultOf(attempt).results
        self.assertTrue(result.delivered, result)
        self.assertEqual(self.inbox.messages[0].content, b"A: b\r\n\r\n" + body)

    def test_other_name(self) -> None:
        """A certificate for another name is fine for "encrypt", not for "secure"."""
        self.host(certificate="elsewhere.example")
        result = self.result(destination=self._to(TlsLevel.ENCRYPT))
        assert result.tls is not None
        self.assertTrue(result.tls.endswith("not verified"))
        self.network.bend(TWO, Dead.REFUSED)
        attempt = self.attempt(destination=self._to(TlsLevel.SECURE))
        self.assertFalse(attempt.results[0].delivered)
        self.assertIn("not for one.example", attempt.trail[0])
        self.assertEqual(len(self.inbox.messages), 1)

    def test_not_offered(self) -> None:
        """Without STARTTLS "may" goes in clear, "encrypt" goes nowhere."""
        self.host()
        self.host(TWO)
        self.assertTrue(self.result(destination=self._to(TlsLevel.MAY)).delivered)
        result = self.result(destination=self._to(TlsLevel.ENCRYPT))
        assert result.diagnosis is not None
        self.assertIs(result.diagnosis.category, Category.TLS)
        self.assertIs(result.diagnosis.action, Action.DEFER)
        self.assertEqual(len(self.inbox.messages), 1)

    def test_none(self) -> None:
        """Level "none" does not even try."""
        host = self.host(certificate="one.example")
        result = self.result(destination=self._to(TlsLevel.NONE))
        self.assertTrue(result.delivered)
        self.assertNotIn("STARTTLS", host.commands)

    def test_refused(self) -> None:
        """STARTTLS offered and then refused: in clear under "may" only."""
        host = self.host(behaviour="bad-starttls", certificate="one.example")
        result = self.result(destination=self._to(TlsLevel.MAY))
        self.assertTrue(result.delivered)
        self.assertIsNone(result.tls)
        self.assertEqual(len(host.connected_at), 1)
        self.network.bend(TWO, Dead.REFUSED)
        result = self.result(destination=self._to(TlsLevel.ENCRYPT))
        self.assertFalse(result.delivered)

    def test_refused_for_good(self) -> None:
        """5yz to STARTTLS: the next exchanger first; none left: "may" goes in clear."""
        refusal = Behaviour({Stage.STARTTLS: Reply(554, "7.3", "No TLS")})
        host = self.host(behaviour=refusal, certificate="one.example")
        two = self.host(TWO)
        result = self.result(destination=self._to(TlsLevel.MAY))
        self.assertEqual(result.host, f"two.example[{TWO}]:25")
        two.behaviour = HOSTS["closed"]
        self.run_for(10)
        result = self.result(destination=self._to(TlsLevel.MAY))
        self.assertTrue(result.delivered)
        self.assertEqual(result.host, f"one.example[{ONE}]:25")
        self.assertIsNone(result.tls)
        seen = len(host.connected_at)
        self.run_for(10)
        result = self.result(destination=self._to(TlsLevel.ENCRYPT))
        self.assertIs(self.said(result)[0], Action.DEFER)
        self.assertEqual(len(host.connected_at), seen + 1)

    def test_failed_handshake(self) -> None:
        """A broken handshake: once more in clear, in the same attempt, "may" only."""
        hello = b"250-one.example\r\n250 STARTTLS\r\n"
        self.script(ONE, b"220 hi\r\n", hello, b"220 go\r\n", b"rubbish\r\n")
        attempt = self.attempt(destination=self._to(TlsLevel.ENCRYPT))
        self.assertIs(self.said(attempt.results[0])[0], Action.DEFER)
        self.assertEqual([line for line in attempt.trail if "starttls" in line][1:], [])

        self.setUp()
        connections: list[int] = []

        def build() -> Protocol:
            connections.append(1)
            answers: list[bytes | None] = [b"220 hi\r\n", hello]
            if len(connections) == 1:
                return Scripted([*answers, b"220 go\r\n", b"rubbish\r\n"])
            return Scripted([*answers, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"])

        factory = Factory.forProtocol(build)
        self.successResultOf(self.network.listen(f"{ONE}:25", factory))
        attempt = self.attempt(destination=self._to(TlsLevel.MAY))
        (result,) = attempt.results
        self.assertTrue(result.delivered, attempt)
        self.assertIsNone(result.tls)
        self.assertEqual(len(connections), 2)
        self.assertIn("starttls", attempt.trail[0])

    def test_injected_behind_starttls(self) -> None:
        """Replies injected behind the 220 deliver nothing (D2)."""
        hello = b"250-one.example\r\n250 STARTTLS\r\n"
        injected = b"220 go\r\n" + b"250 ok\r\n" * 5
        self.script(ONE, b"220 hi\r\n", hello, injected)
        self.network.bend(TWO, Dead.REFUSED)
        result = self.result(destination=self._to(TlsLevel.ENCRYPT))
        self.assertFalse(result.delivered)

    def test_relayhost(self) -> None:
        """A relayhost with implicit TLS gets the login, its certificate verified."""
        accounts = {"us": "secret"}
        self.host(certificate="one.example", port=465, implicit=True, accounts=accounts)
        relay = Destination(
            Via.HOST,
            "one.example",
            465,
            TlsLevel.ENCRYPT,
            TlsMode.IMPLICIT,
            trusted=True,
            login="us",
            password="secret",
        )
        result = self.result(destination=relay)
        self.assertTrue(result.delivered, result)

    def test_relayhost_impostor(self) -> None:
        """A relayhost whose name is not proved gets no password; mail waits."""
        accounts = {"us": "secret"}
        host = self.host(certificate="elsewhere.example", port=587, accounts=accounts)
        relay = Destination(
            Via.HOST,
            "one.example",
            587,
            trusted=True,
            login="us",
            password="secret",
        )
        result = self.result(destination=relay)
        self.assertIs(self.said(result)[0], Action.DEFER)
        self.assertFalse([line for line in host.commands if line.startswith("AUTH")])

    def test_relayhost_refuses_login(self) -> None:
        """A wrong password is our own fault: mail waits (P4)."""
        self.host(certificate="one.example", port=587, accounts={"us": "other"})
        relay = Destination(
            Via.HOST,
            "one.example",
            587,
            trusted=True,
            login="us",
            password="secret",
        )
        result = self.result(destination=relay)
        self.assertIs(result.stage, Stage.AUTH)
        self.assertIs(self.said(result)[0], Action.DEFER)

    def test_implicit_tls_never_in_clear(self) -> None:
        """Where TLS comes first there is no second try in clear."""
        self.script(ONE, b"220 hi\r\n")
        relay = Destination(
            Via.HOST, ONE, 25, TlsLevel.MAY, TlsMode.IMPLICIT, trusted=True
        )
        attempt = self.attempt(destination=relay)
        self.assertFalse(attempt.results[0].delivered)
        self.assertEqual(len(attempt.trail), 1)


class KeptTests(AgentCase):
    """Connections that serve more than one message."""

    def test_reuse(self) -> None:
        """The next message within seconds goes over the same connection."""
        host = self.host()
        self.result()
        self.result(*_recipients("b"))
        self.assertEqual(len(host.connected_at), 1)
        self.run_for(6)
        self.result()
        self.assertEqual(len(host.connected_at), 2)
        self.assertIn("QUIT", host.commands)

    def test_grown_old(self) -> None:
        """A kept connection that turns out dead is replaced in the same attempt."""
        acts = (None, Reply(421, "4.2", "idle for too long"))
        host = self.host(behaviour=Behaviour({Stage.MAIL: acts}))
        self.result()
        attempt = self.attempt(*_recipients("b"))
        self.assertTrue(attempt.results[0].delivered)
        self.assertEqual(len(host.connected_at), 2)

    def test_limit(self) -> None:
        """No more connections to a host than allowed; the rest waits and follows."""
        self.make_agent(pool=PoolSettings(per_host=2))
        host = self.host(behaviour=Behaviour(lag=1))
        attempts = [self.begin(*_recipients(f"r{number}")) for number in range(6)]
        self.run_for(3)
        self.assertEqual(len(host.connected_at), 2)
        for _ in range(10):
            self.run_for(5)
        for attempt in attempts:
            self.assertTrue(self.successResultOf(attempt).results[0].delivered)
        self.assertEqual(len(host.connected_at), 2)

    def test_stop(self) -> None:
        """Stopping closes kept connections and refuses new attempts."""
        host = self.host()
        self.result()
        stopped = Deferred.fromCoroutine(self.agent.stop())
        self.run_for(2)
        self.successResultOf(stopped)
        self.assertEqual(host.commands[-1], "QUIT")
        attempt = self.attempt()
        self.assertEqual(attempt.results, ())
        self.assertIn("interrupted", attempt.trail[-1])


class OwnFaultTests(AgentCase):
    """What is not the peer's doing."""

    def test_interrupted(self) -> None:
        """When no dot may go out, the recipients were not tried."""
        self.host()

        async def no_more(recipients: Sequence[Recipient]) -> None:
            raise Interrupted("the server is stopping")

        attempt = self.attempt(before_dot=no_more)
        self.assertEqual(attempt.results, ())
        self.assertEqual(self.inbox.messages, [])
        self.run_for(1)
        self.assertEqual(self.network.connections, [])

    def test_interrupted_after_a_refusal(self) -> None:
        """An exchanger's lack is no verdict when the next was not asked to the end."""
        self.host(behaviour="no-8bitmime")
        self.host(TWO)

        async def no_more(recipients: Sequence[Recipient]) -> None:
            raise Interrupted("the server is stopping")

        eight = Message(b"A: b\r\n", b"\xff\r\n")
        attempt = self.attempt(message=eight, before_dot=no_more)
        self.assertEqual(attempt.results, ())

    def test_defect(self) -> None:
        """A defect of ours ends one attempt, bounces nothing, and is logged."""

        async def broken(recipients: Sequence[Recipient]) -> None:
            raise ZeroDivisionError

        self.host(behaviour=Behaviour(extensions=("LIMITS RCPTMAX=1",)))
        told: list[Sequence[Recipient]] = []

        async def second_fails(recipients: Sequence[Recipient]) -> None:
            told.append(recipients)
            if len(told) == 2:
                await broken(recipients)

        attempt = self.attempt(*_recipients("a", "b"), before_dot=second_fails)
        one, two = attempt.results
        self.assertTrue(one.delivered)
        self.assertIs(self.said(two)[0], Action.DEFER)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.run_for(1)
        self.assertEqual(self.network.connections, [])

    def test_no_timer_is_left(self) -> None:
        """After an attempt and its idle time nothing is scheduled any more."""
        self.host(behaviour="lost-after-dot")
        self.result()
        self.mx["example.com"] = [(10, "two.example")]
        self.host(TWO)
        self.result()
        self.run_for(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.network.connections, [])

    def test_deed_at_the_dot(self) -> None:
        """A reset at the dot is in doubt, as a close is."""
        self.host(behaviour=Behaviour({Stage.DOT: Deed.RESET}))
        self.assertTrue(self.result().in_doubt)
