"""Mail exchangers that prove who they are, or do not: one Postfix with many faces.

Each peer is an address of loopback, all on one port. What they take goes to one sink;
Postfix writes into its trace field which of them it was, and whether there was TLS.
"""

import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typing_extensions import override

from interop.certificates import Authority
from interop.kit import Workbench, free_port
from interop.postfix import Postfix
from interop.sink import Sink

ZONES = ("signed.example", "plain.example")
_NET = f"127.77.{os.getpid() % 250}"
POLICY_HOST = f"{_NET}.200"


@dataclass(frozen=True, slots=True)
class Peer:
    """One behaviour: lines for its smtpd, and what its certificate is."""

    name: str
    lines: tuple[str, ...] = ()
    named: bool = True
    known: bool = True
    life: timedelta = field(default=timedelta(days=2))


PEERS = (
    Peer("right"),
    Peer("other-name", named=False),
    Peer("expired", life=timedelta(days=-1)),
    Peer("self-signed", known=False),
    Peer("no-starttls", ("smtpd_tls_security_level = none",)),
    Peer("stripped", ("smtpd_discard_ehlo_keywords = starttls",)),
    Peer("refused", ("smtpd_tls_chain_files = /nonexistent",)),
    Peer("broken", ("smtpd_tls_protocols = TLSv1",)),
)
PROMISES = "promises"  # a host that has all, REQUIRETLS too; no Postfix does

_SERVICE = "{address}:{port} inet n - n - - smtpd\n"
_OPTION = "  -o {{ {line} }}\n"
_ALL = """\
relayhost = [127.0.0.1]:{sink}
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_tls_received_header = yes
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
smtpd_discard_ehlo_keywords = silent-discard
"""


def address(peer: str) -> str:
    """Where a peer listens."""
    names = [one.name for one in PEERS] + [PROMISES]
    return f"{_NET}.{11 + names.index(peer)}"


class Peers:
    """All of them, running, in front of one sink."""

    def __init__(self, bench: Workbench) -> None:
        self._folder = bench.folder / "certificates"
        self._folder.mkdir()
        self.port = _common_port()
        stranger = Authority(bench.folder / "stranger")
        for peer in PEERS:
            self._issue(peer, bench.authority if peer.known else stranger)
        self._issue(Peer(PROMISES), bench.authority)
        self.authority_key = _key_digest(bench.authority.certificate)
        self.sink = bench.keep(Sink())
        self.promises = bench.keep(self._promising())
        services = "".join(self._service(peer) for peer in PEERS)
        more = _ALL.format(sink=self.sink.port)
        self.postfix = bench.keep(
            Postfix(bench.folder / "postfix", more, services=services)
        )

    def _issue(self, peer: Peer, authority: Authority) -> None:
        place = peer.name if peer.named else "elsewhere"
        names = [x509.DNSName(f"*.{place}.{zone}") for zone in ZONES]
        authority.issue(
            self._folder / f"{peer.name}.pem",
            self._folder / f"{peer.name}.key",
            names,
            peer.life,
        )

    def _promising(self) -> Sink:
        sink = Sink(address(PROMISES), self.port)
        sink.extensions = (*sink.extensions, "REQUIRETLS")
        sink.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        sink.tls.load_cert_chain(*self._pair(PROMISES))
        return sink

    def _pair(self, name: str) -> tuple[Path, Path]:
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def _service(self, peer: Peer) -> str:
        chain, key = self._pair(peer.name)
        lines = (
            f"syslog_name = peer/{peer.name}",
            f"myhostname = {peer.name}.peer.example",
            f"smtpd_tls_chain_files = {key}, {chain}",
            *peer.lines,
        )
        service = _SERVICE.format(address=address(peer.name), port=self.port)
        return service + "".join(_OPTION.format(line=line) for line in lines)

    def key_digest(self, name: str) -> str:
        """The SHA-256 of a peer's public key, as TLSA records have it."""
        return _key_digest(self._folder / f"{name}.pem")

    def connections(self, name: str) -> int:
        """How often somebody has connected to a peer."""
        return sum(
            f"peer/{name}/smtpd[" in line and ": connect from" in line
            for line in self.postfix.maillog().splitlines()
        )


def _key_digest(pem: Path) -> str:
    leaf = x509.load_pem_x509_certificates(pem.read_bytes())[0]
    key = leaf.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return sha256(key).hexdigest()


def _common_port() -> int:
    """A port that is free at every peer's address."""
    while True:
        port = free_port(address(PROMISES))
        with suppress(OSError):
            for peer in PEERS:
                socket.create_server((address(peer.name), port)).close()
            return port


class PolicyHost:
    """Serves MTA-STS policies by HTTPS, each at its domain's own host name.

    `policies` may be changed; what has none is 404. `asked` counts by domain.
    """

    def __init__(
        self,
        authority: Authority,
        folder: Path,
        at: str,
        policies: Mapping[str, str],
        domains: Sequence[str],
    ) -> None:
        folder.mkdir()
        self.policies = dict(policies)
        self.asked: dict[str, int] = {}
        chain, key = folder / "chain.pem", folder / "key.pem"
        names = [x509.DNSName(f"mta-sts.{domain}") for domain in domains]
        authority.issue(chain, key, names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        self._server = _Web((at, 443), self)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    def __enter__(self) -> Self:
        """Serve."""
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.close()

    def close(self) -> None:
        """Stop serving; once more does no harm."""
        self._server.shutdown()
        self._server.server_close()

    def policy_of(self, host: str) -> str | None:
        """The policy of the domain that a host name is for."""
        domain = host.removeprefix("mta-sts.")
        self.asked[domain] = self.asked.get(domain, 0) + 1
        return self.policies.get(domain)


class _Web(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, at: tuple[str, int], host: PolicyHost) -> None:
        self.policy_host = host
        super().__init__(at, _Request)

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us ends the handshake; that is its right."""


class _Request(BaseHTTPRequestHandler):
    server: _Web

    def do_GET(self) -> None:
        """Give the policy of the host that was asked for."""
        text = self.server.policy_host.policy_of(self.headers.get("Host", ""))
        if text is None or self.path != "/.well-known/mta-sts.txt":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
