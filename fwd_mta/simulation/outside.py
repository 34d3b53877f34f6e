"""Hosts, names and scanners of the simulated outside world, and what arrived there."""

import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dns.rdatatype import RdataType
from twisted.internet.interfaces import IReactorTime
from typing_extensions import override

from fwd_mta.interfaces import Answer, Resolver
from fwd_mta.mail.route import Exchanger
from fwd_mta.net.tls import ServerTls, server_context
from fwd_mta.outbound.resolver import Kept
from fwd_mta.simulation.history import Ear, History
from fwd_mta.simulation.plan import DOMAINS, HOUR, Habit, Names, Roads, Scan
from fwd_mta.world.hosts import HOSTS, Inbox, Received, RemoteHost
from fwd_mta.world.names import TableResolver
from fwd_mta.world.network import Dead, MemoryNetwork
from fwd_mta.world.scanners import ScannerHost

T = TypeVar("T")

HOME = DOMAINS  # the number of the sender's own host
SCANNER = "192.0.2.20:3310"
_ASTRAY = "mx.astray.example"
_TTL = HOUR / 2
_MARK = re.compile(rb"^X-Mark: (\S+)\r?$", re.MULTILINE)


def address(number: int) -> str:
    """Where a host is."""
    return f"203.0.113.{10 + number}"


def mark_of(content: bytes) -> str:
    """The mark of a message, or of the one a notice is about."""
    found = _MARK.search(content)
    return found[1].decode() if found else ""


def host_name(number: int) -> str:
    """What a host is called."""
    return f"mx{number}.example.net"


def _domain(number: int) -> str:
    return "example.com" if number == HOME else f"d{number}.example.net"


class Remembering(Resolver):
    """Names behind the cache of our resolver: what changed is seen after a while."""

    def __init__(self, names: Resolver, clock: IReactorTime) -> None:
        self._names = names
        self._kept = Kept(clock)

    async def _ask(
        self, name: str, kind: RdataType, ask: Callable[[], Awaitable[Answer[T]]]
    ) -> Answer[T]:
        key = name.lower().removesuffix("."), kind
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        answer = await ask()
        self._kept.put(key, answer, _TTL)
        return answer

    @override
    async def exchangers(self, domain: str) -> Answer[Exchanger]:
        """MX records."""
        ask = self._names.exchangers
        return await self._ask(domain, RdataType.MX, lambda: ask(domain))

    @override
    async def addresses(self, host: str) -> Answer[str]:
        """A records."""
        return await self._ask(host, RdataType.A, lambda: self._names.addresses(host))

    @override
    async def tlsa(self, host: str, port: int) -> Answer[bytes]:
        """TLSA records."""
        name = f"_{port}._tcp.{host}"
        ask = self._names.tlsa
        return await self._ask(name, RdataType.TLSA, lambda: ask(host, port))

    @override
    async def text(self, name: str) -> Answer[str]:
        """TXT records."""
        return await self._ask(name, RdataType.TXT, lambda: self._names.text(name))


class Outside:
    """Six hosts for six domains; each domain's second exchanger is another's first.

    `pair` is the hosts' certificate and key, where they have any; with `dane` it is
    proved by TLSA records.
    """

    def __init__(
        self,
        clock: IReactorTime,
        network: MemoryNetwork,
        history: History,
        pair: tuple[bytes, bytes] | None,
        *,
        dane: bool,
    ) -> None:
        self._network = network
        self._history = history
        self.failing: set[str] = set()
        self.inbox = Inbox(self._arrived)
        tls = _server_tls(pair) if pair else None
        self.hosts = [self._host(clock, number, tls) for number in range(HOME + 1)]
        self._exchangers = {_domain(one): _truth(one) for one in range(HOME + 1)}
        addresses = {host_name(one): [address(one)] for one in range(HOME + 1)}
        addresses[_ASTRAY] = ["10.9.9.9"]
        records = [_tlsa(pair[0])] if pair and dane else []
        tlsa = {f"_25._tcp.{host_name(one)}": records for one in range(HOME + 1)}
        self._names = TableResolver(
            self._exchangers,
            addresses,
            self.failing,
            tlsa=tlsa if dane else {},
            secure=dane,
        )
        self.scanner = ScannerHost("clamd")
        _ = network.listen(SCANNER, self.scanner)

    def resolver(self, clock: IReactorTime) -> Resolver:
        """DNS as a process sees it, through a cache that ends with it."""
        return Remembering(self._names, clock)

    def _host(
        self, clock: IReactorTime, number: int, tls: ServerTls | None
    ) -> RemoteHost:
        host = RemoteHost(host_name(number), clock, self.inbox, tls=tls)
        host.dialogue = Ear(self._history, f"mx{number}")
        _ = self._network.listen(f"{address(number)}:25", host)
        return host

    def _arrived(self, message: Received) -> None:
        what = f"took {mark_of(message.content)} from <{message.reverse_path}>"
        self._history.add(message.host.partition(".")[0], what)

    def change(self, fault: Habit | Names | Roads | Scan) -> None:
        """Let a fault begin, or end."""
        match fault:
            case Habit():
                self.hosts[fault.host].behaviour = HOSTS[fault.behaviour]
            case Names():
                self._say(fault.domain, fault.says)
            case Scan():
                self.scanner.conduct = fault.conduct
            case Roads():
                where = address(fault.host)
                if fault.cuts:
                    _ = self._network.cut(where)
                if isinstance(fault.way, Dead) or fault.way is not None:
                    self._network.bend(where, fault.way)
                else:
                    self._network.mend(where)

    def _say(self, number: int, says: str) -> None:
        """Change what DNS says of a domain."""
        name = _domain(number)
        (self.failing.add if says == "fails" else self.failing.discard)(name)
        lies = {
            "null": [(0, ".")],
            "bare": [],
            "astray": [(10, _ASTRAY)],
            "moved": [(10, host_name((number + 2) % DOMAINS))],
        }
        self._exchangers[name] = lies.get(says, _truth(number))
        if says == "nothing":
            del self._exchangers[name]


def _truth(number: int) -> list[tuple[int, str]]:
    first = [(10, host_name(number))]
    if number == HOME or number % 2 == 0:
        return first
    return [*first, (20, host_name((number + 1) % DOMAINS))]


def _server_tls(pair: tuple[bytes, bytes]) -> ServerTls:
    return ServerTls(server_context(*pair))


def _tlsa(certificate: bytes) -> bytes:
    """A record "3 1 1": the key itself."""
    key = x509.load_pem_x509_certificates(certificate)[0].public_key()
    octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b"\x03\x01\x01" + sha256(octets).digest()
