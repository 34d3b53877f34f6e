"""Submission over real TLS, on the network in memory under a virtual clock."""

import hmac
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.events import Refused
from fwd_mta.inbound.protocol import FwdESMTP
from fwd_mta.mail.session import Service
from fwd_mta.net.proxy import ProxyFactory
from fwd_mta.net.tls import (
    ClientTlsContext,
    ServerTls,
    channel_binding,
    server_context,
    start_tls,
    tls_factory,
)
from fwd_mta.world.certificates import Authority
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.network import MemoryNetwork
from tests.inbound.bench import SECRET, Bench, plain
from tests.inbound.test_sasl import SCRAM_FILE

CA = Authority(1_800_000_000.0)
PAIR = CA.issue("mail.example.com")
WHERE = "203.0.113.5"
LOGIN = b"AUTH PLAIN " + plain("ann@example.com").encode() + b"\r\n"


@implementer(IHandshakeListener)
class Client(Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.text = ""
        self.encrypted = self.lost = False

    @override
    def dataReceived(self, data: bytes) -> None:
        self.text += data.decode("ascii", "replace")

    def handshakeCompleted(self) -> None:
        """TLS stands."""
        self.encrypted = True

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = True


class TlsTests(SynchronousTestCase):
    """Both ways into TLS."""

    def serve(self, service: Service, *, proxied: bool = False) -> None:
        """Listen, as the service does."""
        self.bench = Bench(service)
        self.clock = self.bench.clock
        context = server_context(*PAIR)
        creator = ServerTls(context)
        factory = self.bench.factory
        factory.tls = creator
        self.network = MemoryNetwork(self.clock, SeededEntropy())
        wrapped = tls_factory(factory, creator, self.clock)
        used: IProtocolFactory = factory
        if service is Service.SUBMISSIONS:
            used = wrapped
        if proxied:
            used = ProxyFactory(used, lambda _: True, self.clock, lambda *_: None)
        listening = self.network.listen(f"{WHERE}:465", used)
        self.successResultOf(listening)

    def connect(self) -> Client:
        """Connect in clear."""
        joined = self.network.connect(WHERE, 465, Factory.forProtocol(Client), 30)
        self.pump()
        client = self.successResultOf(joined)
        assert isinstance(client, Client)
        return client

    def encrypt(self, client: Client) -> None:
        """Begin TLS from the client's side."""
        tls = ClientTlsContext(CA.pem).towards("mail.example.com")
        start_tls(client, client.transport, tls, self.clock, client=True)
        self.pump()

    def say(self, client: Client, octets: bytes) -> str:
        """Send octets; give what was answered."""
        client.text = ""
        assert client.transport is not None
        client.transport.write(octets)
        self.pump()
        return client.text

    def pump(self) -> None:
        """Let everything that is on its way arrive."""
        self.clock.pump([0.001] * 60)

    def refusals(self) -> list[str]:
        """What the log says about clients that were turned away."""
        return [one.reply for one in self.bench.events if isinstance(one, Refused)]

    def test_implicit(self) -> None:
        """465: handshake, greeting, login, mail; the session knows its TLS."""
        self.serve(Service.SUBMISSIONS)
        client = self.connect()
        self.encrypt(client)
        self.assertTrue(client.encrypted)
        self.assertTrue(client.text.startswith("220 mail.example.com"))
        self.assertNotIn("STARTTLS", self.say(client, b"EHLO me\r\n"))
        self.assertIn("235", self.say(client, LOGIN))
        mail = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
        self.assertIn("354", self.say(client, mail))
        message = b"From: ann@example.com\r\n\r\nHi\r\n.\r\nQUIT\r\n"
        self.assertIn("221 2.0.0 Bye", self.say(client, message))
        self.assertTrue(client.lost)
        [(entry, stored)] = self.bench.writer.added
        self.assertEqual(entry.origin.protocol, "ESMTPSA")
        self.assertIn(b"TLSv1.3", stored.head)

    def test_behind_a_balancer(self) -> None:
        """The PROXY header comes before TLS, on 465 and before STARTTLS on 587."""
        for service in (Service.SUBMISSIONS, Service.SUBMISSION):
            self.serve(service, proxied=True)
            client = self.connect()
            header = b"PROXY TCP4 192.0.2.77 198.51.100.1 40000 465\r\n"
            self.say(client, header)
            if service is Service.SUBMISSION:
                self.assertIn("220 2.0.0", self.say(client, b"EHLO x\r\nSTARTTLS\r\n"))
            self.encrypt(client)
            self.assertTrue(client.encrypted)
            self.assertIn("250", self.say(client, b"EHLO me\r\n"))
            [session] = self.bench.factory.sessions
            self.assertEqual(session.session.client, "192.0.2.77")
            self.assertIsNotNone(session.session.tls)
            self.say(client, b"QUIT\r\n")
            self.assertEqual(self.bench.factory.sessions, set())

    def test_scram_plus(self) -> None:
        """On TLS 1.3 SCRAM is bound to the channel, both ends of which see the same."""
        self.serve(Service.SUBMISSIONS)
        self.bench.accounts_file = SCRAM_FILE
        self.successResultOf(Deferred.fromCoroutine(self.bench.accounts.load()))
        client = self.connect()
        self.encrypt(client)
        self.assertIn("SCRAM-SHA-256-PLUS", self.say(client, b"EHLO me\r\n"))
        first = b64encode(b"p=tls-exporter,,n=ann@example.com,r=x")
        said = self.say(client, b"AUTH SCRAM-SHA-256-PLUS " + first + b"\r\n")
        challenge = b64decode(said[4:]).decode()
        nonce, salt, _ = challenge.split(",")
        binding = channel_binding(client.transport) or b""
        final = f"c={b64encode(b'p=tls-exporter,,' + binding).decode()},{nonce}"
        salted = pbkdf2_hmac("sha256", SECRET.encode(), b64decode(salt[2:]), 4096)
        key = hmac.digest(salted, b"Client Key", "sha256")
        words = f"n=ann@example.com,r=x,{challenge},{final}".encode()
        signature = hmac.digest(sha256(key).digest(), words, "sha256")
        proof = b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))
        last = b64encode(final.encode() + b",p=" + proof)
        self.assertTrue(self.say(client, last + b"\r\n").startswith("334 "))
        self.assertTrue(self.say(client, b"\r\n").startswith("235 "))

    def test_starttls_forgets(self) -> None:
        """D1: after STARTTLS nothing said in clear is known; EHLO comes again."""
        self.serve(Service.SUBMISSION)
        client = self.connect()
        self.assertIn("STARTTLS", self.say(client, b"EHLO me\r\n"))
        self.assertIn("220 2.0.0", self.say(client, b"STARTTLS\r\n"))
        self.encrypt(client)
        self.assertTrue(client.encrypted)
        said = self.say(client, b"MAIL FROM:<ann@example.com>\r\n")
        self.assertIn("503 5.5.1 Say EHLO first", said)
        offer = self.say(client, b"EHLO me\r\n")
        self.assertIn("AUTH PLAIN LOGIN", offer)
        self.assertNotIn("STARTTLS", offer)
        self.assertIn("503 5.5.1", self.say(client, b"STARTTLS\r\n"))
        self.assertIn("235 2.7.0", self.say(client, LOGIN))
        self.assertIn("250", self.say(client, b"MAIL FROM:<ann@example.com>\r\n"))

    def test_injected_plaintext(self) -> None:
        """D1: clear text in the segment of STARTTLS is never obeyed inside TLS."""
        self.serve(Service.SUBMISSION)
        client = self.connect()
        self.say(client, b"EHLO me\r\n")
        said = self.say(client, b"STARTTLS\r\nEHLO mallory\r\n")
        self.assertIn("554 5.7.0", said)
        self.assertTrue(client.lost)

    def test_starttls_without_handshake(self) -> None:
        """Who says STARTTLS and then nothing is cut off after half a minute."""
        self.serve(Service.SUBMISSION)
        client = self.connect()
        self.say(client, b"EHLO me\r\nSTARTTLS\r\n")
        self.clock.advance(30)
        self.pump()
        self.assertTrue(client.lost)
        self.assertIn("no TLS handshake in time after STARTTLS", self.refusals()[-1])

    def test_waiting_in_clear_on_465(self) -> None:
        """Who waits for a greeting in clear on 465 is told what to choose."""
        self.serve(Service.SUBMISSIONS)
        client = self.connect()
        self.assertEqual(client.text, "")
        self.clock.advance(30)
        self.pump()
        self.assertIn("421 4.7.0 This port speaks TLS", client.text)
        self.assertTrue(client.lost)
        self.assertEqual(len(self.refusals()), 1)

    def test_speaking_in_clear_on_465(self) -> None:
        """Who speaks in clear on 465 is told so, and named in the log, once."""
        for spoken in (b"EHLO me\r\n", b"\x00", b"GET / HTTP/1.1\r\n"):
            self.serve(Service.SUBMISSIONS)
            client = self.connect()
            said = self.say(client, spoken)
            self.assertIn("421 4.7.0 This port speaks TLS", said)
            self.assertTrue(client.lost)
            [text] = self.refusals()
            self.assertIn("clear text on a port that speaks TLS", text)
            self.clock.advance(60)
            self.assertEqual(len(self.refusals()), 1)

    def test_mistakes_have_names(self) -> None:
        """What went wrong with TLS can be counted by kind."""
        self.serve(Service.SUBMISSIONS)
        self.say(self.connect(), b"EHLO me\r\n")
        self.connect()
        self.clock.advance(30)
        events = [one for one in self.bench.events if isinstance(one, Refused)]
        self.assertEqual(
            [one.where for one in events], ["TLS clear-text", "TLS no-handshake"]
        )

    def test_old_tls(self) -> None:
        """TLS older than 1.2 is refused (guarantee 16), and said so."""
        self.serve(Service.SUBMISSIONS)
        client = self.connect()
        creator = ClientTlsContext(CA.pem)
        creator._context.set_min_proto_version(SSL.TLS1_1_VERSION)
        creator._context.set_max_proto_version(SSL.TLS1_1_VERSION)
        creator._context.set_cipher_list(b"ALL:@SECLEVEL=0")
        tls = creator.towards("mail.example.com")
        start_tls(client, client.transport, tls, self.clock, client=True)
        self.pump()
        self.assertTrue(client.lost)
        self.assertFalse(client.encrypted)
        self.assertIn("too old", self.refusals()[-1])

    def test_never_reading_peer(self) -> None:
        """D8 over TLS: what waits for a client that never reads is bounded."""
        self.serve(Service.SUBMISSIONS)
        client = self.connect()
        self.encrypt(client)
        client.transport.pauseProducing()  # type: ignore[union-attr]
        for _ in range(200):
            client.transport.write(b"EHLO me\r\n" * 100)  # type: ignore[union-attr]
            self.clock.advance(0.01)
        [session] = self.bench.factory.sessions
        assert isinstance(session, FwdESMTP)
        self.assertLess(session.pending, 400_000)
        self.clock.advance(300)
        self.clock.advance(10)
        self.clock.pump([0.01] * 10)
        self.assertEqual(self.bench.factory.sessions, set())

    def test_turned_away(self) -> None:
        """One connection too many on 465 hears its 421 through TLS."""
        self.serve(Service.SUBMISSIONS)
        self.bench.factory.draining = True
        client = self.connect()
        self.encrypt(client)
        self.assertIn("421 4.3.2", client.text)
        self.assertTrue(client.lost)

    def test_port_scan(self) -> None:
        """Who connects and leaves without a word is no event."""
        self.serve(Service.SUBMISSIONS)
        client = self.connect()
        assert client.transport is not None
        client.transport.loseConnection()
        self.pump()
        self.assertEqual(self.bench.factory.sessions, set())
        self.assertEqual(self.bench.events, [])
