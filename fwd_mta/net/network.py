"""The real network: every socket of ours is opened here."""

import errno
import os
import socket
import stat
from collections.abc import MutableMapping
from ipaddress import IPv6Address, ip_address
from typing import Protocol, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.error import CannotListenError, InvalidAddressError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorSocket,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.python.systemd import ListenFDs
from typing_extensions import override

from fwd_mta.interfaces import Network
from fwd_mta.net.writing import accepted_at_once, write_at_once

BACKLOG = 1024
UNIX = "unix:"
SYSTEMD = "systemd:"
_SOCKET_MODE = 0o600
_LARGEST_DATAGRAM = 64 * 1024


class Reactor(
    IReactorTCP,
    IReactorUDP,
    IReactorUNIX,
    IReactorSocket,
    IReactorTime,
):
    """All that a reactor must be able to do for us."""


class _HasSocket(Protocol):
    socket: socket.socket
    transport: object


def numeric(address: str) -> str:
    """Give the address in its plain form, an IPv4-mapped one as IPv4.

    Raises InvalidAddressError for a name: nothing here asks a resolver.
    """
    try:
        parsed = ip_address(address)
    except ValueError as fault:
        raise InvalidAddressError(address, "not a numeric address") from fault
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def split_address(address: str) -> tuple[str, int]:
    """Split "192.0.2.1:25" or "[2001:db8::1]:25" into host and port.

    Raises InvalidAddressError for anything else.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise InvalidAddressError(address, 'write "host:port" with a port up to 65535')
    if (":" in host) != bracketed:
        raise InvalidAddressError(address, 'write an IPv6 address as "[::1]:port"')
    host = host[1:-1] if bracketed else host
    numeric(host)
    return host, int(port)


class ReactorNetwork(Network):
    """Sockets on a reactor.

    `environment` is where systemd names its sockets; None: the process's own, which
    Twisted has read already.
    """

    def __init__(
        self,
        reactor: Reactor,
        environment: MutableMapping[str, str] | None = None,
    ) -> None:
        self._reactor = reactor
        self._by_twisted = environment is None
        passed = ListenFDs.fromEnvironment({} if environment is None else environment)
        self._passed = passed.inheritedNamedDescriptors()

    @override
    def connect(
        self,
        address: str,
        port: int,
        factory: IProtocolFactory,
        timeout: float,
        source: str | None = None,
    ) -> Deferred[IProtocol]:
        """Connect a stream; fails with a twisted.internet.error, never hangs."""
        try:
            endpoint = self._client(address, port, timeout, source)
        except InvalidAddressError:
            return fail()
        connected: Deferred[IProtocol] = endpoint.connect(factory)
        if address.startswith(UNIX):
            return connected
        return connected.addCallback(_without_delay)

    def _client(
        self, address: str, port: int, timeout: float, source: str | None
    ) -> IStreamClientEndpoint:
        if address.startswith(UNIX):
            path = address.removeprefix(UNIX)
            return UNIXClientEndpoint(self._reactor, path, timeout)
        host = numeric(address)
        bind = (numeric(source), 0) if source else None
        kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        return kind(self._reactor, host, port, timeout, bind)

    @override
    def listen(
        self, address: str, factory: IProtocolFactory
    ) -> Deferred[IListeningPort]:
        """Listen on "host:port", "[v6]:port", "unix:/path" or "systemd:NAME".

        Fails with CannotListenError or InvalidAddressError.
        """
        try:
            endpoint = self._server(address)
        except (InvalidAddressError, CannotListenError):
            return fail()
        listening: Deferred[IListeningPort] = endpoint.listen(factory)
        return listening.addCallback(_inherit_no_delay)

    def _server(self, address: str) -> IStreamServerEndpoint:
        if address.startswith(SYSTEMD):
            return self._adopted(address.removeprefix(SYSTEMD))
        if address.startswith(UNIX):
            path = address.removeprefix(UNIX)
            _remove_stale(path)
            return UNIXServerEndpoint(self._reactor, path, BACKLOG, _SOCKET_MODE)
        host, port = split_address(address)
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        return kind(self._reactor, port, BACKLOG, host)

    def _adopted(self, name: str) -> IStreamServerEndpoint:
        descriptor = self._passed.pop(name, None)
        if descriptor is None and self._by_twisted:
            descriptor = _taken_by_twisted(self._reactor, name)
        if descriptor is None:
            names = ", ".join(sorted(self._passed)) or "none"
            fault = OSError(
                errno.ENOENT,
                f"systemd passed no such socket (unused: {names}); write "
                f'"FileDescriptorName={name}" into its .socket unit',
            )
            raise CannotListenError(SYSTEMD + name, None, fault)
        with socket.socket(fileno=os.dup(descriptor)) as passed:
            family = passed.family
        return AdoptedStreamServerEndpoint(self._reactor, descriptor, family)

    @override
    def datagram(
        self, address: str, port: int, protocol: DatagramProtocol
    ) -> IListeningPort:
        """Open a UDP socket connected to the address."""
        host = numeric(address)
        interface = "::" if ":" in host else ""
        opened = self._reactor.listenUDP(0, protocol, interface, _LARGEST_DATAGRAM)
        assert protocol.transport is not None  # noqa: S101 - listenUDP has set it
        protocol.transport.connect(host, port)
        return opened


def _taken_by_twisted(reactor: Reactor, name: str) -> int | None:
    """The descriptor that systemd passed under a name, asked of Twisted's own parser.

    Twisted takes LISTEN_PID and LISTEN_FDS out of the environment when its endpoints
    are imported, so nobody else can read them. The family is not known yet: any does.
    """
    quoted = quoteStringArgument(name)
    try:
        endpoint = serverFromString(reactor, f"systemd:domain=INET:name={quoted}")
    except KeyError:
        return None
    return int(endpoint.fileno)


def _without_delay(protocol: IProtocol) -> IProtocol:
    """Set TCP_NODELAY: a command must not wait for the last reply's ACK."""
    transport = getattr(protocol, "transport", None)
    set_no_delay = getattr(transport, "setTcpNoDelay", None)
    if set_no_delay is not None:
        set_no_delay(True)
    write_at_once(transport)
    return protocol


def _inherit_no_delay(port: IListeningPort) -> IListeningPort:
    """Set TCP_NODELAY on the listening socket: Linux hands it on at accept."""
    listening = cast("_HasSocket", port)
    if listening.socket.family != socket.AF_UNIX:
        listening.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.transport = accepted_at_once
    return port


def _remove_stale(path: str) -> None:
    """Remove the name of a UNIX socket that nobody listens on any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)  # noqa: TID251 - a socket's name is this seam's
