"""Who is connected, from where and as whom: addresses, networks, counts, farewells."""

from collections import Counter
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.inbound.gate import CLOSE_LIMIT
from fwd_mta.inbound.limits import network_of
from fwd_mta.mail.reply import Reply
from fwd_mta.smtp import replies

Networks = tuple[IPv4Network | IPv6Network, ...]


class Clients:
    """Counts sessions by client network and by login; listeners may share one."""

    def __init__(self) -> None:
        self.connected: Counter[str] = Counter()
        self.logged_in: Counter[str] = Counter()

    def joined(self, client: str) -> None:
        """A session has begun."""
        self.connected[network_of(client)] += 1

    def left(self, client: str) -> None:
        """A session has ended."""
        _count_down(self.connected, network_of(client))

    def admit(self, login: str, limit: int) -> bool:
        """Count one more session of a login, unless it has as many as it may."""
        if self.logged_in[login] >= limit:
            return False
        self.logged_in[login] += 1
        return True

    def logged_out(self, login: str) -> None:
        """A session of a login has ended."""
        _count_down(self.logged_in, login)


class Farewell(Protocol):
    """A connection that only hears why it is not wanted."""

    def __init__(self, reply: Reply, clock: IReactorTime) -> None:
        self._reply = reply
        self._clock = clock

    @override
    def connectionMade(self) -> None:
        self.transport: Any
        self.transport.write(replies.write(self._reply))
        self.transport.loseConnection()
        self._cut = self._clock.callLater(CLOSE_LIMIT, self.transport.abortConnection)

    @override
    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if self._cut.active():
            self._cut.cancel()


def client_of(address: IAddress | None) -> tuple[str, int]:
    """A peer's address and port; an IPv4-mapped one is written as IPv4."""
    host, port = getattr(address, "host", None), getattr(address, "port", 0)
    if host is None:
        return "local", 0
    try:
        parsed = ip_address(host.partition("%")[0])
    except ValueError:
        return str(host), port
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed), port


def is_in(client: str, networks: Networks) -> bool:
    """Whether a client's address is in one of the networks."""
    try:
        address = ip_address(client)
    except ValueError:
        return False
    return any(address in network for network in networks)


def _count_down(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]
