"""The server as `fwdmta try` reaches it: names, lines, TLS; blocking, as a command may.

`FarSide` and `Line` are the seam; `Network` is the real one.
"""

import socket
import ssl
import sys
from collections.abc import Sequence
from getpass import getpass
from typing import NamedTuple, Protocol

from fwd_mta.admin.command import UsageError

_CONNECT_SECONDS = 10.0
_REPLY_SECONDS = 30.0


class Secured(NamedTuple):
    """What a TLS handshake came to; `ends` is when the certificate does."""

    version: str
    cipher: str
    ends: float


class Line(Protocol):
    """One connection."""

    def read(self) -> bytes:
        """Some octets; none when the other side has closed it."""

    def write(self, octets: bytes) -> None:
        """Send octets."""

    def secure(self, host: str) -> Secured:
        """Speak TLS from here on; raises ssl.SSLError."""

    def close(self) -> None:
        """Close it."""


class FarSide(Protocol):
    """Where servers are; all of it raises OSError."""

    def trust(self, ca: str | None) -> None:
        """Trust the authorities of this file instead of the system's."""

    def addresses(self, host: str) -> Sequence[str]:
        """The addresses of a name."""

    def connect(self, address: str, port: int) -> Line:
        """Connect, within 10 seconds."""

    def password(self, login: str) -> str:
        """Ask the person at the terminal."""


class _Socket:
    """A line through a socket."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = plain
        self._context = context

    def read(self) -> bytes:
        return self._socket.recv(4096)

    def write(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def secure(self, host: str) -> Secured:
        sock = self._context.wrap_socket(self._socket, server_hostname=host)
        self._socket = sock
        ends = str((sock.getpeercert() or {})["notAfter"])
        cipher = sock.cipher() or ("?",)
        return Secured(
            sock.version() or "?", cipher[0], float(ssl.cert_time_to_seconds(ends))
        )

    def close(self) -> None:
        self._socket.close()


class Network:
    """The network that this machine is in."""

    def __init__(self) -> None:
        self._context = ssl.create_default_context()

    def trust(self, ca: str | None) -> None:
        """Trust the authorities of this file instead of the system's."""
        self._context = ssl.create_default_context(cafile=ca)

    def addresses(self, host: str) -> Sequence[str]:
        """The addresses of a name, in the system's order."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError("that is no name of a machine") from error
        return list(dict.fromkeys(str(one[4][0]) for one in found))

    def connect(self, address: str, port: int) -> Line:
        """Connect, within 10 seconds."""
        plain = socket.create_connection((address, port), _CONNECT_SECONDS)
        plain.settimeout(_REPLY_SECONDS)
        return _Socket(plain, self._context)

    def password(self, login: str) -> str:
        """Ask the person at the terminal, once."""
        if not sys.stdin.isatty():
            raise UsageError(
                "there is no terminal to ask for a password at; use --password-stdin"
            )
        return getpass(f"Password of {login}: ")
