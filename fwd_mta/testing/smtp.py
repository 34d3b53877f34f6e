"""smtplib's client over the network in memory: blocking calls let the clock run."""

import smtplib
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from typing_extensions import override

if TYPE_CHECKING:
    from fwd_mta.testing.server import MailServer

SMTPS = 465
_PATIENCE = 900.0  # seconds of the server's time


class MemorySmtp(smtplib.SMTP):
    """A client of one `MailServer`; the rest is the standard library's."""

    def __init__(
        self,
        server: "MailServer",
        host: str = "mail.example.com",
        port: int = 25,
        local_hostname: str | None = "client.example.com",
        timeout: float = 30.0,
        source_address: Any = None,
        **_: Any,
    ) -> None:
        self._server = server
        super().__init__(
            host or "mail.example.com",
            port or 25,
            local_hostname or "client.example.com",
            timeout,
        )

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        """Connect; smtplib calls this."""
        plain = _Plain(self._server, port)
        return _Encrypted(plain, self._server) if port == SMTPS else plain

    @override
    def starttls(self, *_: Any, **__: Any) -> tuple[int, bytes]:
        """Go on under TLS; the server's certificate is verified by its authority."""
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("starttls"):
            raise smtplib.SMTPNotSupportedError(
                "STARTTLS extension not supported by server."
            )
        code, words = self.docmd("STARTTLS")
        if code != 220:
            raise smtplib.SMTPResponseException(code, words)
        self.sock: Any = _Encrypted(self.sock, self._server)
        self.file = None
        self.helo_resp = self.ehlo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False
        return code, words


class _Wire(Protocol):
    """Our end of the connection; what came in waits to be read."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.is_gone = False

    @override
    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        self.is_gone = True


class _Plain:
    """What smtplib needs of a socket."""

    def __init__(self, server: "MailServer", port: int) -> None:
        self._clock = server.clock
        self._wire = _Wire()
        factory = Factory.forProtocol(lambda: self._wire)
        try:
            server.get(server.connect(factory, port))
        except Exception as error:
            raise ConnectionRefusedError(111, f"port {port}: {error}") from error

    @property
    def _transport(self) -> ITCPTransport:
        transport: Any = self._wire.transport
        return transport  # type: ignore[no-any-return]

    def sendall(self, octets: bytes) -> None:
        """Send."""
        if self._wire.is_gone:
            raise BrokenPipeError(32, "the server has closed the connection")
        self._transport.write(bytes(octets))

    def receive(self) -> bytes:
        """What comes next; nothing at the end. The server's time goes on meanwhile."""
        end = self._clock.seconds() + _PATIENCE
        while not self._wire.heard and not self._wire.is_gone:
            at = self._clock.next_at()
            if at is None or at > end:
                raise TimeoutError("the server does not answer")
            _ = self._clock.step()
        octets = bytes(self._wire.heard)
        self._wire.heard.clear()
        return octets

    def makefile(self, *_: Any) -> "_Lines":
        """What smtplib reads replies from."""
        return _Lines(self.receive)

    def close(self) -> None:
        """Close; what is on its way arrives when time passes."""
        self._transport.loseConnection()
        self._clock.advance(0)


class _Encrypted:
    """TLS over such a socket, by the standard library."""

    def __init__(self, below: _Plain, server: "MailServer") -> None:
        self._below = below
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cadata=server.authority.decode())
        name = server.configuration.hostname
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._until_done(self._tls.do_handshake)

    def _until_done(self, what: Callable[[], Any]) -> Any:
        """Do it, carrying octets both ways until it is done."""
        while True:
            try:
                return what()
            except ssl.SSLWantReadError:
                self._flush()
                octets = self._below.receive()
                if octets:
                    self._in.write(octets)
                else:
                    self._in.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        octets = self._out.read()
        if octets:
            self._below.sendall(octets)

    def sendall(self, octets: bytes) -> None:
        """Send."""
        self._until_done(lambda: self._tls.write(octets))

    def receive(self) -> bytes:
        """What comes next; nothing at the end."""
        try:
            octets: bytes = self._until_done(lambda: self._tls.read(65_536))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""
        return octets

    def makefile(self, *_: Any) -> "_Lines":
        """What smtplib reads replies from."""
        return _Lines(self.receive)

    def close(self) -> None:
        """Close."""
        self._below.close()


class _Lines:
    """A file of lines that come as they are sent."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._heard = b""

    def readline(self, limit: int = -1) -> bytes:
        """The next line, or what there is of it at the end."""
        while b"\n" not in self._heard:
            octets = self._receive()
            if not octets:
                break
            self._heard += octets
        end = self._heard.find(b"\n") + 1 or len(self._heard)
        end = end if limit < 0 else min(end, limit)
        line, self._heard = self._heard[:end], self._heard[end:]
        return line

    def close(self) -> None:
        """Nothing to release."""
