"""The PROXY protocol, versions 1 and 2: who the client is that a load balancer brings.

Only peers of listed networks are asked for the header, and from them it is required;
it comes before everything else, TLS included. Doorway: `ProxyFactory`.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.address import IPv6Address as IPv6Endpoint
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import directlyProvides, providedBy

Networks = tuple[IPv4Network | IPv6Network, ...]
Endpoint = IPv4Address | IPv6Endpoint

HEADER_LIMIT = 10.0  # seconds

_V1_LONGEST = 107
_V2_MARK = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = 16
_V2_LONGEST = 4096
_V1 = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?|"
    rb"TCP([46]) ([0-9a-fA-F.:]+) [0-9a-fA-F.:]+ ([0-9]{1,5}) [0-9]{1,5})"
)
_V2_LENGTHS = {0x11: 12, 0x21: 36}  # TCP over IPv4, over IPv6


class NoHeader(Exception):
    """What came is no PROXY header."""


def parse_header(octets: bytes) -> tuple[int, Endpoint | None] | None:
    """Give the length of the header and the client; None when more is needed.

    The client is None where the balancer speaks for itself, as in a health check.
    Raises NoHeader.
    """
    mark = octets[: len(_V2_MARK)]
    if mark == _V2_MARK:
        return _version_2(octets)
    if _V2_MARK.startswith(mark):
        return None
    return _version_1(octets)


def _version_1(octets: bytes) -> tuple[int, Endpoint | None] | None:
    end = octets.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if not b"PROXY ".startswith(octets[:6]) or len(octets) >= _V1_LONGEST:
            raise NoHeader
        return None
    found = _V1.fullmatch(octets[:end])
    if found is None:
        raise NoHeader
    if found[1] is None:
        return end + 2, None
    return end + 2, _endpoint(found[2].decode(), int(found[3]), int(found[1]))


def _version_2(octets: bytes) -> tuple[int, Endpoint | None] | None:
    if len(octets) < _V2_FIXED:
        return None
    command, family = octets[12], octets[13]
    length = int.from_bytes(octets[14:16], "big")
    if command not in {0x20, 0x21} or length > _V2_LONGEST:
        raise NoHeader
    whole = _V2_FIXED + length
    if len(octets) < whole:
        return None
    wanted = _V2_LENGTHS.get(family)
    if command == 0x20 or wanted is None:
        return whole, None
    if length < wanted:
        raise NoHeader
    size = 4 if family == 0x11 else 16
    address = ip_address(octets[_V2_FIXED : _V2_FIXED + size])
    port = int.from_bytes(octets[_V2_FIXED + 2 * size :][:2], "big")
    return whole, _endpoint(str(address), port, address.version)


def _endpoint(text: str, port: int, version: int) -> Endpoint:
    try:
        address = ip_address(text)
    except ValueError:
        raise NoHeader from None
    if address.version != version or port > 65535:
        raise NoHeader
    made = IPv6Endpoint if isinstance(address, IPv6Address) else IPv4Address
    return made("TCP", str(address), port)


class ProxyFactory(Factory):
    """Wraps a listener's factory, outside of its TLS.

    `is_asked` says whether a peer must begin with the header; `refused` is told of one
    whose header was wrong or did not come.
    """

    noisy = False

    def __init__(
        self,
        wrapped: IProtocolFactory,
        is_asked: Callable[[IAddress], bool],
        clock: IReactorTime,
        refused: Callable[[IAddress, str], None],
    ) -> None:
        self.wrapped = wrapped
        self.is_asked = is_asked
        self.clock = clock
        self.refused = refused

    @override
    def buildProtocol(self, addr: IAddress) -> Any:  # type: ignore[override]
        """A reader of the header, or at once what is behind it."""
        if not self.is_asked(addr):
            return self.wrapped.buildProtocol(addr)
        return _HeaderReader(self, addr)


class _Proxied:
    """The transport as the client's protocol sees it: the same, with another peer."""

    def __init__(self, transport: Any, peer: IAddress) -> None:
        self._transport = transport
        self._peer = peer
        self.protocol: Any = None
        directlyProvides(self, providedBy(transport))

    def getPeer(self) -> IAddress:
        """Who is behind the balancer."""
        return self._peer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _HeaderReader(Protocol):
    """Reads the header, then passes everything on."""

    transport: Any

    def __init__(self, factory: ProxyFactory, peer: IAddress) -> None:
        self._factory: ProxyFactory = factory
        self._peer = peer
        self._input = b""
        self._proxied: _Proxied | None = None
        self._timer: IDelayedCall | None = None

    @override
    def connectionMade(self) -> None:
        self._timer = self._factory.clock.callLater(HEADER_LIMIT, self._late)

    @override
    def dataReceived(self, data: bytes) -> None:
        if self._proxied is not None:
            self._proxied.protocol.dataReceived(data)
            return
        if self._timer is None:
            return
        self._input += data
        try:
            found = parse_header(self._input)
        except NoHeader:
            self._refuse("no PROXY header from a network that must send one")
            return
        if found is not None:
            self._begin(*found)

    @override
    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._stop_timer()
        if self._proxied is not None:
            self._proxied.protocol.connectionLost(reason)

    def _begin(self, length: int, client: Endpoint | None) -> None:
        self._stop_timer()
        rest, self._input = self._input[length:], b""
        peer = client or self._peer
        protocol = self._factory.wrapped.buildProtocol(peer)
        if protocol is None:
            self.transport.abortConnection()
            return
        proxied = _Proxied(self.transport, peer)
        proxied.protocol = protocol
        self._proxied = proxied
        protocol.makeConnection(proxied)  # type: ignore[arg-type]
        if rest:
            proxied.protocol.dataReceived(rest)

    def _late(self) -> None:
        self._timer = None
        self._refuse("no PROXY header in time")

    def _refuse(self, why: str) -> None:
        self._stop_timer()
        self._factory.refused(self._peer, why)
        self.transport.abortConnection()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
