"""A whole server in memory: every room real, every seam a twin, time virtual."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.config import Configuration, parse, rule_table
from fwd_mta.events import Event
from fwd_mta.inbound.passwords import HashCost, argon2id_hash
from fwd_mta.interfaces import AccountRows
from fwd_mta.net.tls import ClientTlsContext, ServerTls, server_context
from fwd_mta.server import Seams, Server
from fwd_mta.world.certificates import Authority
from fwd_mta.world.databases import MemoryDatabases
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.hosts import Inbox, RemoteHost
from fwd_mta.world.machine import InlineWorker, SeededEntropy, VirtualWall
from fwd_mta.world.names import TableResolver
from fwd_mta.world.network import MemoryNetwork

T = TypeVar("T")

CA = Authority(time.time())  # OpenSSL judges dates by the real clock
PAIR = CA.issue("mail.example.com")
OUR_ADDRESS = "198.51.100.1"
THEIR_ADDRESS = "203.0.113.5"
PASSWORD = "correct horse"
_HASH = argon2id_hash(PASSWORD, cost=HashCost(1, 8, 1))

CONFIGURATION = f"""
hostname = "mail.example.com"
state_dir = "/state"
[[listener]]
service = "submissions"
address = "{OUR_ADDRESS}:465"
[[listener]]
service = "submission"
address = "{OUR_ADDRESS}:587"
[[listener]]
service = "relay"
address = "{OUR_ADDRESS}:25"
trusted_networks = ["10.0.0.0/8"]
[tls]
certificate = "/tls/certificate"
private_key = "/tls/key"
[accounts]
file = "/accounts"
"""

ACCOUNTS = f"""
[[account]]
login = "ann@example.com"
password = "{_HASH}"
""".encode()


class Wire(Protocol):
    """A client's end of a connection: says lines, hears replies."""

    def __init__(self) -> None:
        self.heard = b""
        self.closed = False

    @override
    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    @override
    def connectionLost(self, reason: object = None) -> None:
        self.closed = True

    def say(self, octets: bytes) -> None:
        """Send octets as they are."""
        assert self.transport is not None
        self.transport.write(octets)

    def take(self) -> bytes:
        """What was heard since the last time."""
        heard, self.heard = self.heard, b""
        return heard


@dataclass
class World:
    """One server and what is around it."""

    seed: int = 1
    extra: str = ""
    clock: Clock = field(default_factory=Clock)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        entropy = SeededEntropy(self.seed)
        self.entropy = entropy
        self.wall = VirtualWall(self.clock)
        self.disk = MemoryDisk()
        self.databases = MemoryDatabases()
        self.network = MemoryNetwork(self.clock, entropy)
        self.inbox = Inbox()
        tls = ServerTls(server_context(*PAIR))
        self.host = RemoteHost("mx.example.net", self.clock, self.inbox, tls=tls)
        self.resolver = TableResolver(
            {
                "example.net": [(10, "mx.example.net")],
                "example.com": [(10, "mx.example.net")],
            },
            {"mx.example.net": [THEIR_ADDRESS]},
        )
        _ = self.network.listen(f"{THEIR_ADDRESS}:25", self.host)
        self.account_rows: dict[str, AccountRows] = {}
        self.files = {
            "/accounts": ACCOUNTS,
            "/tls/certificate": PAIR[0],
            "/tls/key": PAIR[1],
        }
        self.server = self.make()

    def configuration(self) -> Configuration:
        """The settings of this world."""
        return parse(CONFIGURATION + self.extra, "/fwdmta.toml")

    def make(self) -> Server:
        """Compose a server; nothing runs yet."""
        seams = Seams(
            clock=self.clock,
            wall=self.wall,
            entropy=self.entropy,
            disk=self.disk,
            network=self.network,
            resolver=self.resolver,
            storage=InlineWorker(),
            hashing=InlineWorker(),
            emit=self.events.append,
            read_file=self.files.__getitem__,
            journal=InlineWorker(),
            databases=self.databases,
            account_rows=self.account_rows.__getitem__,
        )
        trust = ClientTlsContext(CA.pem)
        return Server(
            self.configuration(), seams, rule_table(), trust, self.configuration
        )

    def start(self) -> None:
        """Bind and start the server."""
        self.done(self.server.bind())
        self.done(self.server.start())

    def done(self, work: Awaitable[T]) -> T:
        """Run something awaitable to its end, letting virtual time pass."""

        async def run() -> T:
            return await work

        outcome: list[T | Failure] = []
        _ = Deferred.fromCoroutine(run()).addBoth(outcome.append)
        for _ in range(5000):
            if outcome:
                break
            self.clock.advance(0.01)
        result = outcome[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let virtual time pass in steps."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(step, end - self.clock.seconds()))

    def settle(self) -> None:
        """Let what is on its way arrive."""
        self.clock.pump([0.001] * 50)

    def until(self, true: Callable[[], bool], limit: float, step: float = 10.0) -> None:
        """Let time pass until something is so; fails when it never is."""
        end = self.clock.seconds() + limit
        while not true():
            assert self.clock.seconds() < end, "it did not happen in time"
            self.skip(step)

    def skip(self, at_most: float) -> None:
        """Jump to the next thing that is scheduled."""
        calls = self.clock.getDelayedCalls()
        soonest = min((call.getTime() for call in calls), default=None)
        now = self.clock.seconds()
        wait = at_most if soonest is None else min(max(soonest - now, 0.0), at_most)
        self.clock.advance(wait)

    def connect(self, port: int, wire: Wire | None = None) -> Wire:
        """Connect a client, in clear."""
        client = wire or Wire()
        factory = Factory.forProtocol(lambda: client)
        joined = self.network.connect(OUR_ADDRESS, port, factory, 30, source="10.0.0.9")
        self.done(joined)
        self.settle()
        return client

    def submit(self, *recipients: str, content: bytes = b"") -> bytes:
        """Submit a message by the relay listener; gives the last reply."""
        wire = self.connect(25)
        rcpt = b"".join(b"RCPT TO:<%s>\r\n" % one.encode() for one in recipients)
        wire.say(b"EHLO app\r\nMAIL FROM:<ann@example.com>\r\n" + rcpt + b"DATA\r\n")
        self.settle()
        head = b"From: ann@example.com\r\nSubject: hello\r\n\r\n"
        wire.take()
        wire.say((content or head + b"Hello\r\n") + b".\r\nQUIT\r\n")
        self.settle()
        return wire.take()
