"""What policy, peer and we do: DANE, MTA-STS and REQUIRETLS with real TLS.

Each row: what the domain demands, what its host shows, and what became of the message.
In no row does a message leave in clear, or to another host, where TLS was demanded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fwd_mta.interfaces import Delivery
from fwd_mta.mail.entry import Action, Attempt, DeliveryResult
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.errors import FetchError
from fwd_mta.mail.message import Message
from fwd_mta.mail.route import Destination, TlsLevel, Via
from fwd_mta.net.tls import ClientTlsContext, ServerTls, server_context
from fwd_mta.outbound.agent import Agent, AgentSettings
from fwd_mta.outbound.connection import Timeouts
from fwd_mta.world.certificates import Authority
from fwd_mta.world.hosts import Behaviour, RemoteHost
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from fwd_mta.world.names import TableResolver
from tests.outbound.test_agent import (
    AUTHORITY,
    MESSAGE,
    ONE,
    RULES,
    SENDER,
    TWO,
    AgentCase,
    _recipients,
)

START = 1_800_000_000.0  # where the virtual wall clock begins
DATED = Authority(START, "an authority that only DANE knows")
PAIRS = {
    "good": AUTHORITY.issue("one.example"),
    "other name": AUTHORITY.issue("elsewhere.example"),
    "unknown": DATED.issue("one.example"),
    "unknown, other name": DATED.issue("elsewhere.example"),
}
POLICY = "version: STSv1\nmode: {}\nmx: {}\nmax_age: 86400\n"


def tlsa(usage: int, pair: str, place: int = 0) -> bytes:
    """A record about the key of a host's certificate, or of its issuer."""
    certificate = x509.load_pem_x509_certificates(PAIRS[pair][0])[place]
    key = certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return bytes([usage, 1, 1]) + sha256(key).digest()


UNUSABLE = bytes([0, 1, 1]) + bytes(32)
WRONG = bytes([3, 1, 1]) + bytes(32)


@dataclass(frozen=True)
class Row:
    """One cell of the table; `shows` "" is a host without STARTTLS."""

    words: str
    wanted: str
    shows: str = "good"
    records: Sequence[bytes] = ()
    secure: bool = False
    policy: str | None = None
    failing: Sequence[str] = ()
    level: TlsLevel = TlsLevel.MAY
    head: bytes = b""
    require: bool = False
    extensions: tuple[str, ...] = field(default=("PIPELINING", "REQUIRETLS"))


ENFORCE = POLICY.format("enforce", "one.example")
TESTING = POLICY.format("testing", "one.example")
ELSEWHERE = POLICY.format("enforce", "mx.elsewhere.example")
TLSA_NAME = "_25._tcp.one.example"
LIFTED = b"TLS-Required: No\r\n"

ROWS = (
    Row("nobody asks for anything", "verified"),
    Row("a certificate that proves nothing", "encrypted", "unknown"),
    Row("no TLS at all", "clear", ""),
    # The levels of an operator
    Row("encrypt, unknown certificate", "encrypted", "unknown", level=TlsLevel.ENCRYPT),
    Row("encrypt, no TLS", "retried", "", level=TlsLevel.ENCRYPT),
    Row("secure, good", "verified", level=TlsLevel.SECURE),
    Row("secure, unknown certificate", "retried", "unknown", level=TlsLevel.SECURE),
    Row("secure, other name", "retried", "other name", level=TlsLevel.SECURE),
    Row("secure, no TLS", "retried", "", level=TlsLevel.SECURE),
    Row("none, though offered", "clear", level=TlsLevel.NONE),
    # DANE
    Row(
        "usage 3, name and dates do not count",
        "verified",
        "unknown, other name",
        [tlsa(3, "unknown, other name")],
        secure=True,
    ),
    Row("usage 3, another key", "retried", "good", [WRONG], secure=True),
    Row("usage 3, no TLS", "retried", "", [tlsa(3, "good")], secure=True),
    Row("usage 2", "verified", "unknown", [tlsa(2, "unknown", 1)], secure=True),
    Row(
        "usage 2, other name",
        "retried",
        "unknown, other name",
        [tlsa(2, "unknown, other name", 1)],
        secure=True,
    ),
    Row("all unusable", "encrypted", "unknown", [UNUSABLE], secure=True),
    Row("all unusable, no TLS", "retried", "", [UNUSABLE], secure=True),
    Row("one unusable, one wrong", "retried", "good", [UNUSABLE, WRONG], secure=True),
    Row("answers that are not secure", "verified", "good", [WRONG]),
    Row("TLSA look-up fails", "retried", "good", secure=True, failing=[TLSA_NAME]),
    Row("TLSA fails, addresses insecure", "verified", "good", failing=[TLSA_NAME]),
    Row("secure, no records", "verified", "good", secure=True),
    Row("DANE where TLS is off", "clear", "", [WRONG], True, level=TlsLevel.NONE),
    # MTA-STS
    Row("enforce, good", "verified", policy=ENFORCE),
    Row("enforce, unknown certificate", "retried", "unknown", policy=ENFORCE),
    Row("enforce, other name", "retried", "other name", policy=ENFORCE),
    Row("enforce, no TLS", "retried", "", policy=ENFORCE),
    Row("enforce, exchanger not named", "retried", policy=ELSEWHERE),
    Row("testing, unknown certificate", "encrypted", "unknown", policy=TESTING),
    Row("testing, no TLS", "clear", "", policy=TESTING),
    Row("mode none", "clear", "", policy=POLICY.format("none", "one.example")),
    Row("no policy to be had", "clear", "", policy="nonsense"),
    # Both
    Row("a failing DANE, a good policy", "retried", "good", [WRONG], True, ENFORCE),
    Row(
        "DANE proves what PKIX cannot",
        "verified",
        "unknown",
        [tlsa(3, "unknown")],
        True,
        ENFORCE,
    ),
    Row(
        "DANE proves, the policy does not name it",
        "retried",
        "good",
        [tlsa(3, "good")],
        True,
        ELSEWHERE,
    ),
    # TLS-Required: No lifts DANE and MTA-STS only
    Row("lifted DANE", "verified", "good", [WRONG], True, head=LIFTED),
    Row("lifted MTA-STS", "clear", "", policy=ENFORCE, head=LIFTED),
    Row("an operator's level stays", "retried", "", level=TlsLevel.SECURE, head=LIFTED),
    # REQUIRETLS
    Row("REQUIRETLS, good", "verified", require=True),
    Row("REQUIRETLS, unknown certificate", "retried", "unknown", require=True),
    Row("REQUIRETLS, no TLS", "failed", "", require=True),
    Row("REQUIRETLS, not promised", "failed", extensions=("PIPELINING",), require=True),
    Row(
        "REQUIRETLS, proved by DANE",
        "verified",
        "unknown",
        [tlsa(3, "unknown")],
        True,
        require=True,
    ),
    Row(
        "REQUIRETLS beats the header",
        "retried",
        "good",
        [WRONG],
        True,
        require=True,
        head=LIFTED,
    ),
    Row("REQUIRETLS, stripped of TLS", "retried", "", [WRONG], True, require=True),
    Row("REQUIRETLS, stripped too", "retried", "", policy=ENFORCE, require=True),
    Row("REQUIRETLS where TLS is off", "verified", level=TlsLevel.NONE, require=True),
)


class _PolicyHost:
    def __init__(self, text: str | None) -> None:
        self.text = text

    async def fetch(self, domain: str) -> str:
        """Give the policy, or fail."""
        if self.text is None:
            raise FetchError("none")
        return self.text


class SecurityCase(AgentCase):
    """The world of one row."""

    def world(self, row: Row) -> RemoteHost:
        """One exchanger, its names, and an agent of that world."""
        self.setUp()
        self.mx["example.com"] = [(10, "one.example")]
        texts = {"_mta-sts.example.com": ["v=STSv1; id=1"]} if row.policy else {}
        self.resolver = TableResolver(
            self.mx,
            self.names,
            row.failing,
            texts=texts,
            tlsa={TLSA_NAME: row.records} if row.records else {},
            secure=row.secure,
        )
        self.policy_host = _PolicyHost(row.policy)
        self.agent = Agent(
            self.network,
            self.resolver,
            self.clock,
            VirtualWall(self.clock, START),
            SeededEntropy(),
            RULES,
            ClientTlsContext(AUTHORITY.pem),
            AgentSettings("us.example", timeouts=Timeouts(greeting=60)),
            policy_host=self.policy_host,
        )
        tls = ServerTls(server_context(*PAIRS[row.shows])) if row.shows else None
        behaviour = Behaviour(extensions=row.extensions)
        host = RemoteHost("one.example", self.clock, self.inbox, behaviour, tls)
        self.successResultOf(self.network.listen(f"{ONE}:25", host))
        return host

    def send(self, row: Row) -> DeliveryResult:
        """One message of that kind."""
        message = Message(row.head + MESSAGE.head, b"Hello\r\n")
        envelope = Envelope(SENDER, _recipients("ann"), require_tls=row.require)
        destination = Destination(Via.MX, "example.com", tls=row.level)
        return self.result(message=message, envelope=envelope, destination=destination)

    def word(self, result: DeliveryResult) -> str:
        """What became of it."""
        if result.diagnosis is not None:
            final = result.diagnosis.action is Action.REJECT
            return "failed" if final else "retried"
        if result.tls is None:
            return "clear"
        return "encrypted" if "not verified" in result.tls else "verified"


class TransportSecurityTests(SecurityCase):
    """The table, and what goes over several messages."""

    def test_the_table(self) -> None:
        """Every row; what was not delivered was not seen by the host at all."""
        for row in ROWS:
            host = self.world(row)
            result = self.send(row)
            self.assertEqual(self.word(result), row.wanted, (row.words, result))
            if row.wanted in {"retried", "failed"}:
                self.assertEqual(self.inbox.messages, [], row.words)
                said = " ".join(host.commands)
                self.assertNotIn("MAIL", said, row.words)
                assert result.diagnosis is not None
                wanted = "5.7.30" if row.wanted == "failed" else "4.7."
                self.assertTrue(result.diagnosis.status.startswith(wanted), row.words)
            else:
                (received,) = self.inbox.messages
                self.assertIs(received.tls is None, row.wanted == "clear", row.words)

    def test_each_tells_why(self) -> None:
        """Level, version, cipher, and what asked for it stand in the result."""
        self.world(Row("", "", policy=ENFORCE))
        told = self.send(Row("", "")).tls
        self.assertRegex(told or "", r"TLSv1\.3, TLS_.*, verified \(MTA-STS\)")

    def test_a_connection_serves_only_what_it_proved(self) -> None:
        """A kept connection without proof is not used for mail that demands it."""
        row = Row("", "", "unknown")
        host = self.world(row)
        self.assertEqual(self.word(self.send(row)), "encrypted")
        strict = Row("", "", "unknown", level=TlsLevel.SECURE)
        self.assertEqual(self.word(self.send(strict)), "retried")
        self.assertEqual(len(host.connected_at), 2)
        self.assertEqual(self.word(self.send(row)), "encrypted")
        self.assertEqual(len(self.inbox.messages), 2)

    def test_mail_in_clear_and_mail_that_must_not(self) -> None:
        """Lifted, then not: each message by its own policy on the same day."""
        row = Row("", "", "", policy=ENFORCE)
        self.world(row)
        lifted = Row("", "", "", head=LIFTED)
        words = [self.word(self.send(each)) for each in (lifted, row, lifted, row)]
        self.assertEqual(words, ["clear", "retried", "clear", "retried"])

    def test_no_straight_way_behind_a_message_that_lifts(self) -> None:
        """What went without its domain's policy opens no way for what must obey it."""
        lifted = Row("", "", "unknown", [WRONG], True, ENFORCE, head=LIFTED)
        self.world(lifted)
        self.assertEqual(self.word(self.send(lifted)), "encrypted")
        delivery = Delivery(
            "2",
            Envelope(SENDER, _recipients("ann")),
            Destination(Via.MX, "example.com"),
            MESSAGE,
            self._note,
        )
        done: list[Attempt] = []
        began = self.agent.at_once(delivery, done.append)
        self.run_for(1)
        self.assertFalse(began, done)
        self.assertEqual(len(self.inbox.messages), 1)

    def test_the_next_exchanger_may_prove_it(self) -> None:
        """A host that fails is passed by; the one that the policy names takes it."""
        policy = POLICY.format("enforce", "two.example")
        self.world(Row("", "", policy=policy))
        self.mx["example.com"] = [(10, "one.example"), (20, "two.example")]
        tls = ServerTls(server_context(*AUTHORITY.issue("two.example")))
        host = RemoteHost("two.example", self.clock, self.inbox, tls=tls)
        self.successResultOf(self.network.listen(f"{TWO}:25", host))
        result = self.send(Row("", ""))
        self.assertEqual(self.word(result), "verified")
        self.assertIn("two.example", result.host or "")

    def test_records_at_the_end_of_an_alias(self) -> None:
        """Asked at the canonical name first, then at the exchanger's own."""
        self.world(Row("", "", "unknown", [WRONG], secure=True))
        aliased = {"one.example": "real.example"}
        self.names["real.example"] = [ONE]
        for place, wanted in (
            ("_25._tcp.real.example", "retried"),
            ("_25._tcp.one.example", "retried"),
            ("_25._tcp.other.example", "encrypted"),
        ):
            self.agent.resolver = TableResolver(
                self.mx,
                self.names,
                aliases=aliased,
                tlsa={place: [WRONG], "_25._tcp.real.example": []}
                if "real" not in place
                else {place: [WRONG]},
                secure=True,
            )
            self.assertEqual(self.word(self.send(Row("", ""))), wanted, place)

    def test_a_policy_outlives_the_attack(self) -> None:
        """With its record and host cut off, a kept policy is obeyed to the end."""
        row = Row("", "", policy=ENFORCE)
        self.world(row)
        self.assertEqual(self.word(self.send(row)), "verified")
        self.agent.policies._resolver = TableResolver(failing=["_mta-sts.example.com"])
        self.policy_host.text = None
        self.agent.resolver = TableResolver(
            {"example.com": [(1, "evil.example")]}, {"evil.example": [ONE]}
        )
        self.assertEqual(self.word(self.send(row)), "retried")
        self.assertEqual(len(self.inbox.messages), 1)
