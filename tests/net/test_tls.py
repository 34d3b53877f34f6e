"""Real TLS over the network in memory, under a virtual clock."""

import contextlib
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IHandshakeListener, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.net.tls import (
    ClientTls,
    ClientTlsContext,
    ServerTls,
    certificate_names,
    choose_by_name,
    server_context,
    start_tls,
    tls_factory,
    tls_facts,
)
from fwd_mta.world.certificates import Authority
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.network import MemoryNetwork

WHERE = "203.0.113.5"
DAY = 86_400.0
Pair = tuple[bytes, bytes]

# OpenSSL judges dates by the machine's clock, not by a virtual one.
CA = Authority(time.time())
PAIR = CA.issue("mail.example.com", "mx.example.com")


@implementer(IHandshakeListener)
class Talker(Protocol):
    """Keeps what it hears, and what became of its TLS."""

    def __init__(self) -> None:
        self.heard = b""
        self.up = False
        self.lost: Failure | None = None

    @override
    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def handshakeCompleted(self) -> None:
        """TLS stands."""
        self.up = True

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = reason


class Starter(Talker):
    """A server that begins TLS when it hears the word."""

    def __init__(self, creator: ServerTls, clock: Clock) -> None:
        super().__init__()
        self._creator = creator
        self._clock = clock

    @override
    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if data == b"STARTTLS\r\n":
            assert self.transport is not None
            self.transport.write(b"220\r\n")
            start_tls(self, self.transport, self._creator, self._clock, client=False)


class Making(Factory):
    """Makes servers, and keeps them for the test."""

    def __init__(self, made: list[Any], make: Callable[[], Talker]) -> None:
        self._made = made
        self._make = make

    @override
    def buildProtocol(self, addr: object) -> Talker:
        self._made.append(self._make())
        return self._made[-1]  # type: ignore[no-any-return]


def rsa_pair() -> Pair:
    """A certificate with an RSA key, signed by itself."""
    key = generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.com")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2099, 1, 1, tzinfo=UTC))
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return signed.public_bytes(Encoding.PEM), private


def creator(pair: Pair = PAIR) -> ServerTls:
    """A server's creator from a pair."""
    return ServerTls(server_context(*pair))


class TlsTests(SynchronousTestCase):
    """Handshakes, names and reloads."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, SeededEntropy())
        self.servers: list[Any] = []

    def serve(self, factory: IProtocolFactory) -> None:
        """Listen at the one address."""
        self.successResultOf(self.network.listen(f"{WHERE}:25", factory))

    def client(self) -> Talker:
        """Connect to the one address, in clear."""
        factory = Factory.forProtocol(Talker)
        joined = self.network.connect(WHERE, 25, factory, 30)
        self.run_clock()
        talker = self.successResultOf(joined)
        assert isinstance(talker, Talker)
        return talker

    def run_clock(self) -> None:
        """Let everything that is on its way arrive."""
        self.clock.pump([0.001] * 60)

    def implicit(self, tls: ServerTls) -> None:
        """Serve with TLS from the first byte."""
        self.serve(tls_factory(Making(self.servers, Talker), tls, self.clock))

    def begin(self, talker: Talker, side: ClientTls) -> None:
        """Begin TLS on the client's side and wait for it."""
        start_tls(talker, talker.transport, side, self.clock, client=True)
        self.run_clock()

    def test_implicit_tls_talks_under_a_virtual_clock(self) -> None:
        """Bytes arrive both ways, and both ends know version and cipher."""
        self.implicit(creator())
        talker = self.client()
        side = ClientTlsContext(CA.pem).towards("mail.example.com")
        self.begin(talker, side)
        assert talker.transport is not None
        talker.transport.write(b"hello")
        self.servers[0].transport.write(b"x" * 200_000)
        self.run_clock()
        self.assertTrue(talker.up)
        self.assertEqual(self.servers[0].heard, b"hello")
        self.assertEqual(len(talker.heard), 200_000)
        facts = tls_facts(talker.transport)
        assert facts is not None
        self.assertEqual(facts.version, "TLSv1.3")
        self.assertEqual(tls_facts(self.servers[0].transport), facts)
        self.assertIsNone(side.fault(talker.transport))

    def test_starttls_in_the_middle_of_a_connection(self) -> None:
        """STARTTLS by our own layer: clear words before, TLS after."""
        tls = creator()
        self.serve(Making(self.servers, lambda: Starter(tls, self.clock)))
        talker = self.client()
        assert talker.transport is not None
        self.assertIsNone(tls_facts(talker.transport))
        talker.transport.write(b"STARTTLS\r\n")
        self.run_clock()
        self.assertEqual(talker.heard, b"220\r\n")
        self.begin(talker, ClientTlsContext(CA.pem).towards("mx.example.com"))
        talker.transport.write(b"EHLO again\r\n")
        self.run_clock()
        self.assertTrue(talker.up)
        self.assertEqual(self.servers[0].heard, b"STARTTLS\r\nEHLO again\r\n")

    def fault_towards(self, name: str, pair: Pair, trust: bytes | None) -> str | None:
        """What a client that wants this name says of such a server."""
        self.implicit(creator(pair))
        talker = self.client()
        side = ClientTlsContext(trust).towards(name)
        self.begin(talker, side)
        self.assertTrue(talker.up, "opportunistic TLS never fails for a certificate")
        assert talker.transport is not None
        return side.fault(talker.transport)

    def test_a_wrong_name_is_a_fault(self) -> None:
        """A certificate for another host proves nothing (RFC 6125)."""
        fault = self.fault_towards("other.example.com", PAIR, CA.pem)
        self.assertEqual(fault, "the certificate is not for other.example.com")

    def test_an_unknown_issuer_is_a_fault(self) -> None:
        """A chain that ends at nobody we trust is a fault, in words."""
        fault = self.fault_towards("mail.example.com", PAIR, None)
        self.assertEqual(fault, "self signed cert in chain")

    def test_an_expired_certificate_is_a_fault(self) -> None:
        """Dates count."""
        authority = Authority(time.time() - 60 * DAY)
        aged = authority.issue("mail.example.com")
        fault = self.fault_towards("mail.example.com", aged, authority.pem)
        self.assertIn("expired", str(fault))

    def test_a_reload_serves_new_handshakes_only(self) -> None:
        """The next client sees the new certificate; the old session lives on."""
        tls = creator()
        self.implicit(tls)
        old = self.client()
        self.begin(old, ClientTlsContext(CA.pem).towards("mail.example.com"))
        fresh = CA.issue("new.example.com")
        tls.context = server_context(*fresh)
        new = self.client()
        side = ClientTlsContext(CA.pem).towards("new.example.com")
        self.begin(new, side)
        assert new.transport is not None
        assert old.transport is not None
        self.assertIsNone(side.fault(new.transport))
        old.transport.write(b"still here")
        self.run_clock()
        self.assertEqual(self.servers[0].heard, b"still here")

    def test_the_name_that_is_asked_for(self) -> None:
        """A client that names a host of ours sees its certificate; others the first."""
        tls = creator()
        other = server_context(*CA.issue("smtp.example.org"))
        choose_by_name(tls.context, {"smtp.example.org": other})
        self.implicit(tls)
        for name, shown in (
            ("smtp.example.org", True),
            ("SMTP.example.org", True),
            ("mail.example.com", True),
            ("www.example.org", False),
        ):
            talker = self.client()
            side = ClientTlsContext(CA.pem).towards(name)
            self.begin(talker, side)
            assert talker.transport is not None
            self.assertEqual(side.fault(talker.transport) is None, shown, name)

    def test_two_kinds_of_keys(self) -> None:
        """RSA and ECDSA side by side: each client gets what it can check."""
        self.implicit(ServerTls(server_context(*PAIR, rsa_pair())))
        for ciphers, kind in (
            (b"ECDHE-ECDSA-AES128-GCM-SHA256", EllipticCurvePublicKey),
            (b"ECDHE-RSA-AES128-GCM-SHA256", RSAPublicKey),
        ):
            talker = self.client()
            context = ClientTlsContext(CA.pem)
            context._context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context._context.set_cipher_list(ciphers)
            self.begin(talker, context.towards("mail.example.com"))
            handle = talker.transport.getHandle()  # type: ignore[union-attr]
            shown = handle.get_peer_certificate().to_cryptography()
            self.assertIsInstance(shown.public_key(), kind)

    def test_two_of_a_kind(self) -> None:
        """A second certificate with a key of the same kind would hide the first."""
        with self.assertRaises(ValueError):
            server_context(*PAIR, CA.issue("mail.example.com"))

    def test_old_protocol_versions_are_refused(self) -> None:
        """TLS 1.1 gets no handshake (guarantee 16)."""
        self.implicit(creator())
        talker = self.client()
        context = ClientTlsContext(CA.pem)
        inner = context._context
        inner.set_max_proto_version(SSL.TLS1_1_VERSION)
        inner.set_min_proto_version(SSL.TLS1_VERSION)
        inner.set_cipher_list(b"ALL:@SECLEVEL=0")
        self.begin(talker, context.towards("mail.example.com"))
        self.assertFalse(talker.up)
        self.assertIsNotNone(talker.lost)

    def test_a_key_that_does_not_fit_is_refused_at_load(self) -> None:
        """A certificate with another's key never becomes a context."""
        other = CA.issue("mail.example.com")
        with self.assertRaises(SSL.Error):
            server_context(PAIR[0], other[1])

    def test_the_names_of_a_certificate(self) -> None:
        """`fwdmta check` shows what a certificate is for."""
        names = certificate_names(PAIR[0])
        self.assertEqual(list(names), ["mail.example.com", "mx.example.com"])


class TicketTests(SynchronousTestCase):
    """A client that comes again need not pay for a whole handshake."""

    def handshake(
        self, context: SSL.Context, client: ssl.SSLContext, session: Any = None
    ) -> ssl.SSLObject:
        """Let a client of the standard library shake hands and hear one reply."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        talker = client.wrap_bio(
            to_client, to_server, server_hostname="mail.example.com", session=session
        )
        server = SSL.Connection(context)
        server.set_accept_state()
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                talker.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                if to_server.pending:
                    server.bio_write(to_server.read())
                server.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                to_client.write(server.bio_read(65536))
        server.sendall(b"220 hello\r\n")
        to_client.write(server.bio_read(65536))
        self.assertEqual(talker.read(100), b"220 hello\r\n")
        return talker

    def test_tickets(self) -> None:
        """The ticket of one session opens the next one, of TLS 1.2 and 1.3."""
        context = server_context(*PAIR)
        client = ssl.create_default_context(cadata=CA.pem.decode())
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client.maximum_version = version
            first = self.handshake(context, client)
            self.assertFalse(first.session_reused)
            self.assertTrue(
                self.handshake(context, client, first.session).session_reused
            )
