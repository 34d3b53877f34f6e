"""A listener in memory for the tests of inbound: store, accounts and clock in hand."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.events import Event
from fwd_mta.inbound.accounts import FileAccounts
from fwd_mta.inbound.brake import Brake
from fwd_mta.inbound.checks import Checks
from fwd_mta.inbound.intake import Intake
from fwd_mta.inbound.passwords import HashCost, argon2id_hash
from fwd_mta.inbound.protocol import (
    FwdESMTP,
    SubmissionFactory,
    SubmissionSettings,
)
from fwd_mta.inbound.sasl import portal, scram_challengers
from fwd_mta.interfaces import Scanner
from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.message import Body, Message
from fwd_mta.mail.session import Service
from fwd_mta.rules.submission import SubmissionPolicy
from fwd_mta.world.machine import InlineWorker, SeededEntropy, VirtualWall

CHEAP = HashCost(1, 8, 1)
SECRET = "sesame"
HASHED = argon2id_hash(SECRET, b"0123456789abcdef", CHEAP)
HOSTNAME = "mail.example.com"

ACCOUNTS = f"""
[[account]]
login = "ann@example.com"
password = "{HASHED}"

[[account]]
login = "off@example.com"
password = "{HASHED}"
smtp = false

[[account]]
login = "*@wide.example"
password = "{HASHED}"
notify = ["success", "failure"]
""".encode()


class ScriptedSpool:
    """A spool whose disk is as slow, or as broken, as the test wants."""

    def __init__(self) -> None:
        self.written = b""
        self.discarded = False
        self.is_slow = False
        self.error: Exception | None = None
        self.waiting: list[Deferred[None]] = []

    def write(self, data: bytes) -> None:
        """Take more octets."""
        self.written += data

    @property
    def backlog(self) -> int:
        """All of it, when the disk is slow."""
        return len(self.written) if self.is_slow else 0

    def drained(self) -> Deferred[None]:
        """Fires when the test lets the disk catch up."""
        waited: Deferred[None] = Deferred()
        self.waiting.append(waited)
        return waited

    def catch_up(self) -> None:
        """The disk has written everything."""
        self.is_slow = False
        waiting, self.waiting = self.waiting, []
        for waited in waiting:
            waited.callback(None)

    async def done(self) -> bytes | Body:
        """The body, or the disk's error."""
        if self.error is not None:
            raise self.error
        return self.written

    def discard(self) -> None:
        """Forget it."""
        self.discarded = True


class ScriptedWriter:
    """The store's writing face; `add` waits or fails as the test wants."""

    def __init__(self) -> None:
        self.added: list[tuple[QueueEntry, Message]] = []
        self.room = True
        self.slow_disk = False
        self.error: Exception | None = None
        self.wait: Deferred[None] | None = None
        self.spools: list[ScriptedSpool] = []

    def has_room(self, octets: int) -> bool:
        """Whether the test says there is room."""
        return self.room

    def spool(self) -> ScriptedSpool:
        """Begin a body."""
        spool = ScriptedSpool()
        spool.is_slow = self.slow_disk
        self.spools.append(spool)
        return spool

    async def add(self, entry: QueueEntry, message: Message) -> None:
        """Keep it, when the test lets it."""
        if self.wait is not None:
            await self.wait
        if self.error is not None:
            raise self.error
        self.added.append((entry, message))


@dataclass
class Bench:
    """One listener and what is around it."""

    service: Service = Service.SUBMISSIONS
    policy: SubmissionPolicy = field(default_factory=SubmissionPolicy)
    settings: SubmissionSettings | None = None
    scanners: Sequence[Scanner] = ()
    accounts_file: bytes = ACCOUNTS

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.wall = VirtualWall(self.clock)
        self.events: list[Event] = []
        self.writer = ScriptedWriter()
        entropy = SeededEntropy()
        self.worker = InlineWorker()
        self.accounts = FileAccounts(
            lambda: self.accounts_file, self.worker, entropy, CHEAP
        )
        self.loading = Deferred.fromCoroutine(self.accounts.load())
        self.brake = Brake(self.events.append)
        self.checks = Checks(self.scanners, self.clock, self.events.append)
        self.intake = Intake(
            self.writer,
            self.checks,
            self.policy,
            HOSTNAME,
            self.wall,
            self.worker,
            entropy,
            self.events.append,
            brake=self.brake,
        )
        settings = self.settings or SubmissionSettings(
            self.service, HOSTNAME, self.policy
        )
        self.factory = SubmissionFactory(
            replace(settings, service=self.service),
            portal(self.accounts),
            self.intake,
            None,
            self.clock,
            self.events.append,
            scram=partial(scram_challengers, self.accounts, entropy),
            brake=self.brake,
        )

    def connect(self, client: str = "192.0.2.7") -> "Wire":
        """A client connects; where TLS comes first, it is taken as done."""
        address = IPv4Address("TCP", client, 40000)
        protocol = self.factory.buildProtocol(address)
        transport = Transport(peerAddress=address)
        protocol.makeConnection(transport)
        if isinstance(protocol, FwdESMTP) and self.service is Service.SUBMISSIONS:
            protocol.handshakeCompleted()
        return Wire(protocol, transport)  # type: ignore[arg-type]

    def logged_in(self, login: str = "ann@example.com") -> "Wire":
        """A client that has said EHLO and has logged in."""
        wire = self.connect()
        wire.say("EHLO me")
        wire.say("AUTH PLAIN " + plain(login))
        wire.heard()
        return wire


class Transport(StringTransport):
    """Remembers each write, and whether the session cut the line."""

    def __init__(self, peerAddress: IPv4Address) -> None:  # noqa: N803 - Twisted's name
        super().__init__(peerAddress=peerAddress)
        self.writes: list[bytes] = []
        self.aborted = False

    @override
    def write(self, data: bytes) -> None:
        """Remember it."""
        self.writes.append(data)
        super().write(data)

    @override
    def abortConnection(self) -> None:
        """Remember it."""
        self.aborted = True
        self.loseConnection()


@dataclass
class Wire:
    """The client's end of a connection."""

    protocol: FwdESMTP
    transport: Transport

    def send(self, octets: bytes) -> None:
        """Send octets in one segment."""
        self.protocol.dataReceived(octets)

    def say(self, *lines: str) -> list[str]:
        """Send lines in one segment; give the reply lines that came."""
        self.heard()
        self.send("".join(line + "\r\n" for line in lines).encode())
        return self.heard()

    def heard(self) -> list[str]:
        """The reply lines since the last time."""
        text: str = self.transport.value().decode("ascii")
        self.transport.clear()
        return text.split("\r\n")[:-1]

    @property
    def closed(self) -> bool:
        """Whether the server has hung up."""
        return self.transport.disconnecting

    def drop(self) -> None:
        """The connection is lost."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


def plain(login: str, password: str = SECRET, authzid: str = "") -> str:
    """An AUTH PLAIN response."""
    return b64encode(f"{authzid}\0{login}\0{password}".encode()).decode()
