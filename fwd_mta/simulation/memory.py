"""A server in memory with a world that takes all its mail: time goes as it is told.

Doorway: `MemoryServer`. The rooms of the server are the real ones; any domain exists,
with a host of its own, unless it is said that it does not.
"""

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.config import (
    AccountSources,
    Configuration,
    Metrics,
    Outgoing,
    Scan,
    parse,
    rule_table,
)
from fwd_mta.events import Emit, Event
from fwd_mta.inbound.passwords import HashCost, argon2id_hash
from fwd_mta.interfaces import Answer, Resolver
from fwd_mta.mail.route import CannotSay, Exchanger, Found, NoSuchName
from fwd_mta.net.clocks import SystemClock
from fwd_mta.net.tls import ClientTlsContext, ServerTls, server_context
from fwd_mta.server import Seams, Server
from fwd_mta.world.certificates import Authority
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.hosts import Inbox, RemoteHost
from fwd_mta.world.machine import (
    InlineWorker,
    SeededEntropy,
    VirtualClock,
    VirtualWall,
)
from fwd_mta.world.network import MemoryNetwork

T = TypeVar("T")

ADDRESS = "198.51.100.1"
CLIENT = "10.0.0.9"
_LONGEST = 3600.0  # seconds that something awaited may take
_PLAIN = """\
hostname = "mail.example.com"
state_dir = "/state"
"""
_LISTENERS = """\
[[listener]]
service = "relay"
address = "198.51.100.1:25"
trusted_networks = ["10.0.0.0/8"]
[[listener]]
service = "submission"
address = "198.51.100.1:587"
[[listener]]
service = "submissions"
address = "198.51.100.1:465"
[tls]
certificate = "/certificate"
private_key = "/key"
[accounts]
file = "/accounts"
"""


@cache
def _authority() -> Authority:
    return Authority(SystemClock().now())  # OpenSSL judges by the real clock


@cache
def _pair(name: str) -> tuple[bytes, bytes]:
    return _authority().issue(name)


@cache
def _hash(password: str) -> str:
    return argon2id_hash(password, cost=HashCost(1, 8, 1))


class Everywhere(Resolver):
    """Any domain has one exchanger, of its own, at an address of its own."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.failing: set[str] = set()
        self.numbers: dict[str, int] = {}

    def address(self, domain: str) -> str:
        """Where the host of a domain is."""
        number = self.numbers.setdefault(domain, len(self.numbers) + 1)
        return f"20.{number >> 16}.{number >> 8 & 255}.{number & 255}"

    def _answer(self, domain: str, record: T) -> Answer[T]:
        name = domain.lower()
        if name in self.failing:
            return CannotSay(name, "the server answered SERVFAIL")
        return NoSuchName(name) if name in self.missing else Found((record,))

    @override
    async def exchangers(self, domain: str) -> Answer[Exchanger]:
        """MX records."""
        return self._answer(domain, Exchanger(10, f"mx.{domain.lower()}"))

    @override
    async def addresses(self, host: str) -> Answer[str]:
        """A records."""
        domain = host.lower().removeprefix("mx.")
        return self._answer(domain, self.address(domain))

    @override
    async def tlsa(self, host: str, port: int) -> Answer[bytes]:
        """TLSA records: none."""
        return NoSuchName(host)

    @override
    async def text(self, name: str) -> Answer[str]:
        """TXT records: none."""
        return NoSuchName(name)


class Hosts:
    """The hosts of all domains; each is made when it is first asked for."""

    def __init__(self, server: "MemoryServer") -> None:
        self._server = server
        self._hosts: dict[str, RemoteHost] = {}

    def __getitem__(self, domain: str) -> RemoteHost:
        """The host that takes a domain's mail: its `behaviour` may be changed."""
        name = domain.lower()
        if name not in self._hosts:
            server = self._server
            tls = None
            if server.with_tls:
                tls = ServerTls(server_context(*_pair(f"mx.{name}")))
            host = RemoteHost(f"mx.{name}", server.clock, server.inbox, tls=tls)
            self._hosts[name] = host
            where = f"{server.names.address(name)}:25"
            _ = server.network.listen(where, host)
        return self._hosts[name]


class MemoryServer:
    """One server, what it runs on and what is around it.

    `configuration` is its text, or one that was read: its queue, limits, retention and
    submission count, what names files, sockets and routes does not. `accounts` are
    logins with passwords; hosts offer STARTTLS `with_tls`. Nothing moves but when
    `advance` or `get` let time pass.
    """

    def __init__(
        self,
        configuration: str | Configuration = "",
        accounts: Mapping[str, str] | None = None,
        seed: int = 1,
        emit: Emit | None = None,
        *,
        with_tls: bool = True,
    ) -> None:
        self.with_tls = with_tls
        entropy = SeededEntropy(seed)
        self.events: list[Event] = []
        self.clock = VirtualClock()
        self.wall = VirtualWall(self.clock)
        self.disk = MemoryDisk()
        self.network = MemoryNetwork(self.clock, entropy, source=ADDRESS)
        self.inbox = Inbox()
        self.names = Everywhere()
        self.hosts = Hosts(self)
        self.authority = _authority().pem
        self.trust = ClientTlsContext(self.authority)
        self.configuration = _adapted(configuration)
        certificate, key = _pair(self.configuration.hostname)
        self.files = {
            "/certificate": certificate,
            "/key": key,
            "/accounts": _accounts(accounts or {}),
        }
        worker = InlineWorker()
        self.server = Server(
            self.configuration,
            Seams(
                clock=self.clock,
                wall=self.wall,
                entropy=entropy,
                disk=self.disk,
                network=self.network,
                resolver=_Listening(self),
                storage=worker,
                hashing=worker,
                emit=emit or self.events.append,
                read_file=self.files.__getitem__,
                journal=worker,
            ),
            rule_table(),
            self.trust,
            lambda: self.configuration,
        )

    def start(self) -> None:
        """Listen and serve."""
        self.get(self.server.bind())
        self.get(self.server.start())

    def stop(self) -> None:
        """Stop, as SIGTERM does."""
        self.get(self.server.stop())

    def advance(self, seconds: float) -> None:
        """Let time pass; all that is due in it happens, in order."""
        self.clock.advance(seconds)

    def get(self, work: Awaitable[T]) -> T:
        """Wait for something, letting time pass; gives it, or raises."""

        async def wait() -> T:
            return await work

        outcome: list[Any] = []
        _ = Deferred.fromCoroutine(wait()).addBoth(outcome.append)
        end = self.clock.seconds() + _LONGEST
        while not outcome and self.clock.seconds() < end and self.clock.step():
            continue
        if not outcome:
            raise TimeoutError("it did not come in an hour of the server's time")
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        result: T = outcome[0]
        return result

    def connect(self, factory: IProtocolFactory, port: int = 25) -> Deferred[IProtocol]:
        """Connect a client's protocol; port 25 trusts it, 587 and 465 ask for a login.

        It moves when time passes.
        """
        return self.network.connect(ADDRESS, port, factory, 30.0, source=CLIENT)


class _Listening(Everywhere):
    """Names whose hosts listen as soon as they are found."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__()
        self._server = server
        self.missing, self.failing = server.names.missing, server.names.failing
        self.numbers = server.names.numbers

    @override
    async def addresses(self, host: str) -> Answer[str]:
        """A records, of a host that is there now."""
        _ = self._server.hosts[host.lower().removeprefix("mx.")]
        return await super().addresses(host)


def _adapted(configuration: str | Configuration) -> Configuration:
    """The configuration with listeners, files and routes of the world in memory."""
    base = parse(_PLAIN + _LISTENERS, "fwdmta.toml")
    if isinstance(configuration, str):
        if not configuration:
            return base
        configuration = parse(_PLAIN + configuration, "fwdmta.toml")
    delivery = configuration.delivery
    outgoing = Outgoing(
        tls_security_level=delivery.tls_security_level,
        destination_concurrency_limit=delivery.destination_concurrency_limit,
        timeouts=delivery.timeouts,
    )
    return replace(
        configuration,
        state_dir=base.state_dir,
        listeners=base.listeners,
        tls=base.tls,
        accounts=AccountSources(file=base.accounts.file),
        delivery=outgoing,
        scan=Scan(rules=configuration.scan.rules),
        dkim=(),
        metrics=Metrics(),
        later=(),
    )


def _accounts(accounts: Mapping[str, str]) -> bytes:
    return "".join(
        f'[[account]]\nlogin = "{login}"\npassword = "{_hash(password)}"\n'
        for login, password in accounts.items()
    ).encode()
