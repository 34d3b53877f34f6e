"""What every delivery is made with: seams, settings, keys, the pool of connections."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet import error
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from typing_extensions import override

from fwd_mta.interfaces import Entropy, Network, PolicyHost, Resolver, WallClock
from fwd_mta.mail.entry import Stage
from fwd_mta.mail.errors import FetchError
from fwd_mta.mail.route import Host
from fwd_mta.net.tls import ClientTlsContext
from fwd_mta.outbound.connection import Connection, Timeouts, Trouble
from fwd_mta.outbound.opening import NotOpened
from fwd_mta.outbound.policies import Policies
from fwd_mta.outbound.pool import Line, Pool, PoolSettings
from fwd_mta.outbound.witness import Count
from fwd_mta.rules.classification import RuleTable
from fwd_mta.rules.signing import SigningKey

UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How this server goes out (SPEC [delivery]).

    `own_names` and `own_addresses` are what loops back to us; `inet_protocols` is
    "all", "ipv4" or "ipv6".
    """

    hostname: str
    own_names: frozenset[str] = frozenset()
    own_addresses: frozenset[str] = frozenset()
    inet_protocols: str = "all"
    allow_private_destinations: bool = False
    source_addresses: tuple[str, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    pool: PoolSettings = field(default_factory=PoolSettings)


class NoPolicyHost(PolicyHost):
    """For an agent that fetches no policies."""

    @override
    async def fetch(self, domain: str) -> str:
        """Nothing is fetched."""
        raise FetchError(f"no policy of {domain} is fetched")


class Means:
    """What a delivery needs of this server."""

    def __init__(
        self,
        network: Network,
        resolver: Resolver,
        clock: IReactorTime,
        wall: WallClock,
        entropy: Entropy,
        table: RuleTable,
        trust: ClientTlsContext,
        settings: AgentSettings,
        keys: Sequence[SigningKey] = (),
        policy_host: PolicyHost | None = None,
    ) -> None:
        self.network = network
        self.resolver = resolver
        self.clock = clock
        self.wall = wall
        self.entropy = entropy
        self.table = table
        self.trust = trust
        self.settings = settings
        self.keys = keys
        self.policies = Policies(resolver, policy_host or NoPolicyHost(), wall)
        self.pool = Pool(clock, settings.pool)
        self.count: Count | None = None  # of TLS sessions, for reports
        named = {settings.hostname, *settings.own_names}
        self.ourselves = frozenset(name.lower() for name in named)

    async def connect(self, host: Host, line: Line) -> Connection:
        """Connect a socket to the host; raises NotOpened."""
        timeouts = self.settings.timeouts
        connection = Connection(self.settings.hostname, timeouts, self.clock)
        factory = Factory.forProtocol(lambda: connection)
        try:
            await self.network.connect(
                host.address, host.port, factory, timeouts.connect, line.source
            )
        except (error.ConnectError, error.InvalidAddressError, OSError) as fault:
            trouble = Trouble(_connect_kind(fault), _words(fault))
            raise NotOpened(Stage.CONNECT, None, trouble) from fault
        return connection

    def source(self, address: str, shunned: frozenset[str] = frozenset()) -> str | None:
        """One of our addresses of the host's family, by chance; None: any.

        One that rests is used only where there is no other.
        """
        family = [
            each
            for each in self.settings.source_addresses
            if (":" in each) == (":" in address) and not address.startswith(UNIX)
        ]
        if not family:
            return None
        family = [each for each in family if each not in shunned] or family
        return family[int(self.entropy.random() * len(family))]


def _connect_kind(fault: Exception) -> str:
    if isinstance(fault, error.TimeoutError):
        return "timeout"
    if isinstance(fault, error.ConnectionRefusedError):
        return "connection-refused"
    return "no-route"


def _words(fault: Exception) -> str:
    return str(fault).rstrip(".") or type(fault).__name__
