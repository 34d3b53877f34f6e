"""DNS for mail: dnspython's resolver over our own sockets, behind a cache of ours.

Every outcome is a value: what a server says is not there, and what no server could say
now, are different answers, for the one ends in a notice and the other in a retry.
"""

import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns._asyncbackend import Backend, DatagramSocket, StreamSocket
from dns.rdatatype import RdataType
from twisted.internet import error
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IReactorTime, ITCPTransport
from twisted.internet.protocol import (
    DatagramProtocol,
    Factory,
    Protocol,
    connectionDone,
)
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.interfaces import Answer, Network, Resolver
from fwd_mta.mail.route import CannotSay, Exchanger, Found, NoSuchName

T = TypeVar("T")

_PAYLOAD = 1232  # fits every path without fragments
_MOST_RECORDS = 100
_LONGEST_KEPT = 3600.0
_LONGEST_DENIAL = 300.0  # a domain just being set up must not wait for long
_SHORTEST_KEPT = 5.0
_CACHE_SIZE = 10_000
_MOST_WAITING = 64  # pieces of input; an answer comes in one or two
_PATIENCE = 3.0


class DnsResolver(Resolver):
    """Asks name servers ("address", port); None means those of the system.

    `trust_ad`: the server validates and lies on this host, so that its AD flag proves
    an answer (DANE needs it). `timeout` is for one question to one server, `lifetime`
    for a look-up with all its tries; seconds.
    """

    def __init__(
        self,
        network: Network,
        clock: IReactorTime,
        nameservers: Sequence[tuple[str, int]] | None = None,
        *,
        trust_ad: bool = False,
        timeout: float = 3.0,
        lifetime: float = 12.0,
    ) -> None:
        self._backend = _Backend(network, clock)
        self._trust_ad = trust_ad
        self._asker = _asker(nameservers)
        self._asker.timeout = timeout
        self._asker.lifetime = lifetime
        self._asker.use_edns(0, dns.flags.DO if trust_ad else 0, _PAYLOAD)
        self._asker.flags = dns.flags.RD | dns.flags.AD
        self._kept = Kept(clock)
        self._waiting: dict[tuple[str, RdataType], list[Deferred[Answer[Any]]]] = {}

    @property
    def nameservers(self) -> tuple[str, ...]:
        """Whom it asks, for people."""
        return tuple(str(each) for each in self._asker.nameservers)

    @override
    async def exchangers(self, domain: str) -> Answer[Exchanger]:
        """MX records."""
        return await self._look_up(domain, RdataType.MX)

    @override
    async def addresses(self, host: str) -> Answer[str]:
        """A and AAAA records, asked for at the same time."""
        v4, v6 = await gatherResults(
            [
                Deferred.fromCoroutine(self._look_up(host, RdataType.A)),
                Deferred.fromCoroutine(self._look_up(host, RdataType.AAAA)),
            ]
        )
        return _both(host, v4, v6)

    @override
    async def tlsa(self, host: str, port: int) -> Answer[bytes]:
        """TLSA records."""
        return await self._look_up(f"_{port}._tcp.{host}", RdataType.TLSA)

    @override
    async def text(self, name: str) -> Answer[str]:
        """TXT records."""
        return await self._look_up(name, RdataType.TXT)

    async def _look_up(self, name: str, kind: RdataType) -> Answer[Any]:
        """Answer from the cache, or with whoever asks the same just now, or ask."""
        key = (name.lower().removesuffix("."), kind)
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        if key in self._waiting:
            shared: Deferred[Answer[Any]] = Deferred()
            self._waiting[key].append(shared)
            return await shared
        self._waiting[key] = []
        answer, ttl = await self._ask(*key)
        self._kept.put(key, answer, ttl)
        for each in self._waiting.pop(key):
            each.callback(answer)
        return answer

    async def _ask(self, name: str, kind: RdataType) -> tuple[Answer[Any], float]:
        try:
            absolute = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError):
            # No zone can hold such a name, so no server needs to be asked.
            return NoSuchName(name), 0
        try:
            answer = await self._asker.resolve(
                absolute, kind, raise_on_no_answer=False, backend=self._backend
            )
        except dns.resolver.NXDOMAIN as missing:
            return NoSuchName(name), _negative_ttl(missing, absolute)
        except Exception as trouble:  # noqa: BLE001 - whatever it is, it is no answer
            return CannotSay(name, _reason(trouble)), 0
        return self._found(answer, kind), answer.chaining_result.minimum_ttl

    def _found(self, answer: dns.resolver.Answer, kind: RdataType) -> Found[Any]:
        records = [_READ[kind](each) for each in answer.rrset or ()]
        if kind is RdataType.MX:
            # Before the rest is cut off: the best may stand last.
            records.sort(key=lambda each: each.preference)
        authentic = bool(answer.response.flags & dns.flags.AD)
        end = answer.canonical_name.to_text(omit_final_dot=True).lower()
        asked = answer.qname.to_text(omit_final_dot=True).lower()
        return Found(
            tuple(records[:_MOST_RECORDS]),
            self._trust_ad and authentic,
            None if end == asked else end,
        )


def _asker(
    nameservers: Sequence[tuple[str, int]] | None,
) -> dns.asyncresolver.Resolver:
    if nameservers is None:
        try:
            return dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration:
            nameservers = [("127.0.0.1", 53)]  # what the C library does then
    asker = dns.asyncresolver.Resolver(configure=False)
    asker.nameservers = [
        dns.nameserver.Do53Nameserver(address, port) for address, port in nameservers
    ]
    return asker


def _exchanger(record: Any) -> Exchanger:
    name = record.exchange.to_text(omit_final_dot=True).lower()
    return Exchanger(int(record.preference), name)


def _text(record: Any) -> str:
    return b"".join(record.strings).decode("utf-8", "replace")


_READ: dict[RdataType, Callable[[Any], Any]] = {
    RdataType.MX: _exchanger,
    RdataType.A: lambda record: str(record.address),
    RdataType.AAAA: lambda record: str(record.address),
    RdataType.TLSA: lambda record: bytes(record.to_wire()),
    RdataType.TXT: _text,
}


def _both(host: str, v4: Answer[str], v6: Answer[str]) -> Answer[str]:
    """Join two answers: addresses win, then doubt, then absence."""
    found = [each for each in (v4, v6) if isinstance(each, Found)]
    records = tuple(address for each in found for address in each.records)
    if records:
        return Found(records, all(each.secure for each in found), found[0].name)
    for each in (v4, v6):
        if isinstance(each, CannotSay):
            return each
    if not found:
        return NoSuchName(host)
    return Found((), all(each.secure for each in found))


def _negative_ttl(missing: dns.resolver.NXDOMAIN, name: dns.name.Name) -> float:
    try:
        return float(missing.response(name).resolve_chaining().minimum_ttl)
    except (KeyError, dns.exception.DNSException):
        return 0


def _reason(trouble: Exception) -> str:
    if isinstance(trouble, dns.resolver.LifetimeTimeout):
        return "no name server answered in time"
    if isinstance(trouble, dns.resolver.NoNameservers):
        said = {str(each[3]) for each in trouble.kwargs.get("errors", ())}
        return "; ".join(sorted(said)) or "no name server can be asked"
    return str(trouble) or type(trouble).__name__


class Kept:
    """The cache: as long as the records may be kept, the least used goes first."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._answers: OrderedDict[tuple[str, RdataType], tuple[float, Answer[Any]]] = (
            OrderedDict()
        )

    def get(self, key: tuple[str, RdataType]) -> Answer[Any] | None:
        """The answer, while it may be kept."""
        until, answer = self._answers.get(key, (0.0, None))
        if answer is None or until <= self._clock.seconds():
            return None
        self._answers.move_to_end(key)
        return answer

    def put(self, key: tuple[str, RdataType], answer: Answer[Any], ttl: float) -> None:
        """Keep an answer, unless nobody could say."""
        self._answers.pop(key, None)
        if isinstance(answer, CannotSay) or ttl <= 0:
            return
        says_no = isinstance(answer, NoSuchName) or not answer.records
        longest = _LONGEST_DENIAL if says_no else _LONGEST_KEPT
        kept = min(max(float(ttl), _SHORTEST_KEPT), longest)
        self._answers[key] = (self._clock.seconds() + kept, answer)
        if len(self._answers) > _CACHE_SIZE:
            self._answers.popitem(last=False)


class _Backend(Backend):
    """Sockets and sleep for dnspython, out of our own seams."""

    def __init__(self, network: Network, clock: IReactorTime) -> None:
        self._network = network
        self._clock = clock

    @override
    def name(self) -> str:
        return "fwd_mta"

    @override
    def datagram_connection_required(self) -> bool:
        return True

    @override
    async def sleep(self, interval: float) -> None:
        await deferLater(self._clock, interval)

    @override
    async def make_socket(
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: Any = None,
        destination: Any = None,
        timeout: float | None = None,
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> DatagramSocket | StreamSocket:
        address, port = destination[:2]
        inbox = _Inbox(self._clock)
        if socktype == socket.SOCK_DGRAM:
            asking = _Asking(inbox)
            return _Datagrams(af, self._network.datagram(address, port, asking), asking)
        stream = _Streaming(inbox)
        factory = Factory.forProtocol(lambda: stream)
        wait = _PATIENCE if timeout is None else timeout
        try:
            await self._network.connect(address, port, factory, wait)
        except error.TimeoutError:
            raise dns.exception.Timeout(timeout=wait) from None
        except error.ConnectError as fault:
            raise OSError(str(fault)) from fault
        return _Stream(af, stream)


class _Inbox:
    """What has come in and is not yet read, bounded; one reader at a time."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._arrived: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._fault: OSError | None = None
        self._reader: Deferred[None] | None = None

    def put(self, octets: bytes) -> None:
        self._arrived.append(octets)
        self._wake()

    def put_back(self, octets: bytes) -> None:
        if octets:
            self._arrived.appendleft(octets)

    def fail(self, fault: OSError) -> None:
        self._fault = fault
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    async def get(self, wait: float | None) -> bytes:
        """Give the next piece, or nothing at the end; raises Timeout or OSError."""
        wait = _PATIENCE if wait is None else wait
        timer = self._clock.callLater(wait, self._wake)
        if not self._arrived and self._fault is None:
            self._reader = Deferred()
            await self._reader
        if timer.active():
            timer.cancel()
        if self._arrived:
            return self._arrived.popleft()
        if self._fault is not None:
            raise self._fault
        raise dns.exception.Timeout(timeout=wait)


class _Asking(DatagramProtocol):
    """The protocol of a datagram socket."""

    def __init__(self, inbox: _Inbox) -> None:
        self.inbox = inbox

    @override
    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.inbox.put(datagram)

    @override
    def connectionRefused(self) -> None:
        self.inbox.fail(OSError("connection refused"))


class _Datagrams(DatagramSocket):
    """A datagram socket as dnspython wants it; it hears its one server only."""

    def __init__(self, af: int, port: IListeningPort, asking: _Asking) -> None:
        super().__init__(af, socket.SOCK_DGRAM)
        self._port = port
        self._asking = asking
        self._destination: Any = None

    @override
    async def sendto(self, what: bytes, destination: Any, timeout: Any) -> int:
        self._destination = destination
        transport: Any = self._asking.transport
        transport.write(what)
        return len(what)

    @override
    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, Any]:
        return await self._asking.inbox.get(timeout), self._destination

    @override
    async def close(self) -> None:
        await maybeDeferred(self._port.stopListening)


class _Streaming(Protocol):
    """The protocol of a stream socket."""

    transport: ITCPTransport

    def __init__(self, inbox: _Inbox) -> None:
        self.inbox = inbox
        self.lost: Deferred[None] = Deferred()

    @override
    def dataReceived(self, data: bytes) -> None:
        self.inbox.put(data)

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.inbox.fail(OSError("connection closed"))
        self.lost.callback(None)


class _Stream(StreamSocket):
    """A stream socket as dnspython wants it."""

    def __init__(self, af: int, streaming: _Streaming) -> None:
        super().__init__(af, socket.SOCK_STREAM)
        self._streaming = streaming

    @override
    async def sendall(self, what: bytes, timeout: float | None) -> None:
        self._streaming.transport.write(what)

    @override
    async def recv(self, size: int, timeout: float | None) -> bytes:
        inbox = self._streaming.inbox
        octets = await inbox.get(timeout)
        inbox.put_back(octets[size:])
        return octets[:size]

    @override
    async def close(self) -> None:
        self._streaming.transport.abortConnection()
        await self._streaming.lost
