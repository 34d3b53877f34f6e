"""TLS on any transport, by our own memory-BIO layer on the clock passed in.

`tls_factory` is for ports where TLS comes first, `start_tls` for STARTTLS, both ways.
Neither takes the global reactor's clock, so real TLS runs under a virtual one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509Store
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import (
    BufferingTLSTransport,
    TLSMemoryBIOFactory,
    TLSMemoryBIOProtocol,
)
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.mail.session import TlsFacts
from fwd_mta.rules import dane
from fwd_mta.rules.dane import Tlsa

# TLS 1.2 keeps forward secrecy and authenticated ciphers only; 1.3 has nothing else.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"

# handshake and alert of TLS, and the hello of its ancestor (RFC 5246 6.2.1, E.2)
_RECORDS = frozenset({b"\x16", b"\x15", b"\x80"})


_FAULTS = {
    code: name.removeprefix("ERR_").replace("_", " ").lower()
    for name, code in vars(SSL.X509VerificationCodes).items()
    if name.startswith("ERR_")
}


def _context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def server_context(
    certificate: bytes, private_key: bytes, *also: tuple[bytes, bytes]
) -> SSL.Context:
    """Make a listener's context from PEM texts: chain (leaf first) and key.

    `also` are pairs with keys of another kind: RSA beside ECDSA, each for the clients
    that want it. Raises ValueError or SSL.Error when they do not parse or do not fit
    together.
    """
    context = _context(SSL.TLS_SERVER_METHOD)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_cipher_list(_CIPHERS)
    kinds: set[type] = set()
    issuers: list[x509.Certificate] = []
    for chain, key_text in ((certificate, private_key), *also):
        leaf, *rest = x509.load_pem_x509_certificates(chain)
        key: Any = load_pem_private_key(key_text, None)
        if type(key) in kinds:
            raise ValueError("two certificates have keys of the same kind")
        kinds.add(type(key))
        context.use_certificate(leaf)
        context.use_privatekey(key)
        context.check_privatekey()
        issuers += rest
    for issuer in dict.fromkeys(issuers):
        context.add_extra_chain_cert(issuer)
    context.set_session_id(b"fwd_mta")
    return context


def choose_by_name(context: SSL.Context, named: Mapping[str, SSL.Context]) -> None:
    """Have a context give way to another when the client asks for its name (SNI).

    Names are in lower case; a client that asks for another or none gets the context.
    """

    def chosen(connection: SSL.Connection) -> None:
        name = connection.get_servername() or b""
        other = named.get(name.decode("ascii", "replace").lower().rstrip("."))
        if other is not None:
            connection.set_context(other)

    if named:
        context.set_tlsext_servername_callback(chosen)


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """The one creator of all listeners; a reload changes new handshakes only."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make a connection with the context of now."""
        return SSL.Connection(self.context, None)


@implementer(IOpenSSLClientConnectionCreator)
class ClientTls:
    """TLS towards one host: sends its name (SNI), records what does not verify.

    The handshake never fails for a certificate: `fault` says afterwards what was wrong,
    and the policy of the hop decides (docs/design.md, security).
    """

    def __init__(self, name: str, context: SSL.Context) -> None:
        self.name = name
        self._context = context
        self._faults: list[str] = []

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make a connection that names the host it wants."""
        connection = SSL.Connection(self._context, None)
        connection.set_verify(SSL.VERIFY_PEER, self._record)
        if not _is_address(self.name):
            connection.set_tlsext_host_name(self.name.encode("ascii"))
        return connection

    def _record(
        self, _: SSL.Connection, __: X509, error: int, depth: int, ok: int
    ) -> bool:
        if not ok:
            self._faults.append(_FAULTS.get(error, f"verification error {error}"))
        return True

    def fault(self, transport: ITransport) -> str | None:
        """Why the peer is not proved to be the host, or None: chain and name are right.

        Ask after the handshake (RFC 6125 for the name).
        """
        if self._faults:
            return self._faults[0]
        connection = transport.getHandle()  # type: ignore[attr-defined]
        check = verify_ip_address if _is_address(self.name) else verify_hostname
        try:
            check(connection, self.name)
        except VerificationError:
            return f"the certificate is not for {self.name}"
        return None


class DaneTls(ClientTls):
    """TLS towards a host that its TLSA records prove, whoever signed (RFC 7672).

    `names` count for usage 2; the first is sent as SNI. `now` is the wall time.
    """

    def __init__(
        self,
        names: Sequence[str],
        context: SSL.Context,
        records: Sequence[Tlsa],
        now: float,
    ) -> None:
        super().__init__(names[0], context)
        self._names = names
        self._records = records
        self._now = now

    @override
    def fault(self, transport: ITransport) -> str | None:
        """Why the peer's chain is not what the records ask for, or None."""
        connection: SSL.Connection = transport.getHandle()  # type: ignore[attr-defined]
        chain = [
            one.to_cryptography().public_bytes(Encoding.DER)
            for one in connection.get_peer_cert_chain() or ()
        ]
        named = any(_is_for(connection, name) for name in self._names)
        return dane.proved(self._records, chain, self._now, is_named=named)


def _is_for(connection: SSL.Connection, name: str) -> bool:
    try:
        verify_hostname(connection, name)
    except (VerificationError, CertificateError):
        return False
    return True


class ClientTlsContext:
    """What all outbound TLS shares, made once: trust roots, versions, ciphers."""

    def __init__(self, trust: bytes | None = None) -> None:
        self._context = _context(SSL.TLS_CLIENT_METHOD)
        self._context.set_default_verify_paths()
        if trust is not None:
            self._trust(self._context.get_cert_store(), trust)

    @staticmethod
    def _trust(store: X509Store | None, pem: bytes) -> None:
        for certificate in x509.load_pem_x509_certificates(pem):
            if store is not None:
                store.add_cert(X509.from_cryptography(certificate))

    def towards(self, name: str) -> ClientTls:
        """A creator for one connection to a host of that name (or address)."""
        return ClientTls(name, self._context)

    def proved_by(
        self, records: Sequence[Tlsa], names: Sequence[str], now: float
    ) -> DaneTls:
        """A creator for one connection to a host that has TLSA records."""
        return DaneTls(names, self._context, records, now)


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()


class _TlsFirst(BufferingTLSTransport):
    """TLS from the first octet; who begins in clear is told, not just cut off."""

    _has_begun = False

    @override
    def dataReceived(self, data: bytes) -> None:
        """Octets from the client: the first is that of a TLS record, or a mistake."""
        if not self._has_begun:
            self._has_begun = True
            mistaken = getattr(self.wrappedProtocol, "spoken_in_clear", None)
            if data[:1] not in _RECORDS and mistaken is not None:
                mistaken()
                return
        super().dataReceived(data)


def tls_factory(
    wrapped: IProtocolFactory, creator: ServerTls, clock: IReactorTime
) -> TLSMemoryBIOFactory:
    """Wrap a listener's factory: TLS comes with the connection (RFC 8314).

    A wrapped protocol that has `spoken_in_clear` is asked to answer clear text.
    """
    factory = TLSMemoryBIOFactory(creator, False, wrapped, clock)
    factory.protocol = _TlsFirst
    return factory


def start_tls(
    protocol: IProtocol,
    transport: Any,
    creator: ServerTls | ClientTls,
    clock: IReactorTime,
    *,
    client: bool,
) -> TLSMemoryBIOProtocol:
    """Put TLS between a live transport and its protocol (RFC 3207).

    Gives the new transport, already set as `protocol.transport`. What the protocol had
    registered as producer moves with it. The caller has emptied its input buffer.
    """
    producer = getattr(transport, "producer", None)
    streaming = bool(getattr(transport, "streamingProducer", True))
    if producer is not None:
        transport.unregisterProducer()
    factory = TLSMemoryBIOFactory(creator, client, Factory(), clock)
    layer = factory.protocol(factory, protocol, False)
    transport.protocol = layer
    protocol.transport = layer  # type: ignore[attr-defined]
    layer.makeConnection(transport)
    if producer is not None:
        layer.registerProducer(producer, streaming)
    return layer


def tls_facts(transport: Any) -> TlsFacts | None:
    """Version and cipher of a transport's TLS layer, None when it has none."""
    get_handle = getattr(transport, "getHandle", None)
    handle = get_handle() if get_handle else None
    if not isinstance(handle, SSL.Connection):
        return None
    version = handle.get_protocol_version_name()
    return TlsFacts(version, handle.get_cipher_name() or "unknown")


def channel_binding(transport: Any) -> bytes | None:
    """The tls-exporter value of a transport's TLS 1.3 layer (RFC 9266), or None.

    Older versions do not have it: theirs is not bound to the handshake.
    """
    get_handle = getattr(transport, "getHandle", None)
    handle = get_handle() if get_handle else None
    if not isinstance(handle, SSL.Connection):
        return None
    if handle.get_protocol_version_name() != "TLSv1.3":
        return None
    value: bytes = handle.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
    return value


def certificate_names(certificate: bytes) -> Sequence[str]:
    """The DNS names a PEM chain's leaf is for."""
    leaf = x509.load_pem_x509_certificates(certificate)[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return names.value.get_values_for_type(x509.DNSName)
