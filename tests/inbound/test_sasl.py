"""Tests for logging in: the mechanisms at their edges, and who may do what."""

import hmac
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.mail.interfaces import IChallengeResponse, IMessageDelivery
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override
from zope.interface.verify import verifyObject

from fwd_mta.admin.accounts import scram_keys
from fwd_mta.inbound.sasl import (
    NO_ADDRESS,
    SWITCHED_OFF,
    WRONG,
    LoginCredentials,
    LoginRefused,
    PlainCredentials,
    SenderRefused,
    SubmissionDelivery,
    TrustedDelivery,
    portal,
    reply_to,
)
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import LookUpFailed, MailError, SyntaxFault
from tests.inbound.bench import HASHED, SECRET, Bench, Wire, plain

SCRAM_FILE = f"""
[[account]]
login = "ann@example.com"
password = "{HASHED}"
scram = "{scram_keys(SECRET, b"0123456789abcdef", 4096)}"
[[account]]
login = "off@example.com"
password = "{HASHED}"
scram = "{scram_keys(SECRET, b"0123456789abcdef", 4096)}"
smtp = false
""".encode()

ANN = Mailbox("ann", "example.com")


def login(username: bytes, password: bytes = SECRET.encode()) -> PlainCredentials:
    """Credentials as the wire fills them."""
    credentials = PlainCredentials()
    credentials.setResponse(b"\0" + username + b"\0" + password)
    return credentials


class CredentialTests(SynchronousTestCase):
    """What clients send in AUTH."""

    def test_interfaces(self) -> None:
        """Both are Twisted's kind of challenge and response."""
        verifyObject(IChallengeResponse, PlainCredentials())
        verifyObject(IChallengeResponse, LoginCredentials())

    def test_plain(self) -> None:
        """Three parts; the authorization identity may be the login itself."""
        for authzid in (b"", b"ann@example.com", b"ANN@example.com"):
            credentials = PlainCredentials()
            credentials.setResponse(authzid + b"\0ann@example.com\0pass word")
            self.assertEqual(credentials.username, b"ann@example.com")
            self.assertEqual(credentials.password, b"pass word")
            self.assertFalse(credentials.moreChallenges())

    def test_plain_malformed(self) -> None:
        """Anything but three parts is a syntax fault."""
        for response in (b"", b"ann", b"\0ann", b"\0a\0b\0c", b"\0" * 9):
            self.assertRaises(SyntaxFault, PlainCredentials().setResponse, response)

    def test_login(self) -> None:
        """Login and password are asked for one by one."""
        credentials = LoginCredentials()
        self.assertEqual(credentials.getChallenge(), b"Username:")
        credentials.setResponse(b"ann@example.com")
        self.assertTrue(credentials.moreChallenges())
        self.assertEqual(credentials.getChallenge(), b"Password:")
        credentials.setResponse(b"x")
        self.assertFalse(credentials.moreChallenges())
        self.assertEqual(credentials.username, b"ann@example.com")
        self.assertEqual(credentials.password, b"x")

    def test_login_with_nul(self) -> None:
        """A NUL is in no login and no password."""
        self.assertRaises(SyntaxFault, LoginCredentials().setResponse, b"a\0b")


class PortalTests(SynchronousTestCase):
    """The cred portal over the accounts."""

    @override
    def setUp(self) -> None:
        """A portal over three accounts."""
        self.bench = Bench()
        self.portal = portal(self.bench.accounts)

    def enter(self, credentials: Any) -> Deferred[Any]:
        """Log in."""
        return self.portal.login(credentials, None, IMessageDelivery)

    def refusal(self, credentials: Any) -> object:
        """The reply to a login that fails."""
        failure = self.failureResultOf(self.enter(credentials), LoginRefused)
        self.assertIsInstance(failure.value, UnauthorizedLogin)
        return reply_to(failure.value)

    def test_right(self) -> None:
        """The avatar is an IMessageDelivery and knows its account."""
        _, avatar, log_out = self.successResultOf(self.enter(login(b"Ann@EXAMPLE.com")))
        verifyObject(IMessageDelivery, avatar)
        self.assertEqual(avatar.account.login, "ann@example.com")
        log_out()
        self.assertIsNone(avatar.account)

    def test_wrong(self) -> None:
        """Unknown login, wrong, empty or overlong password: the same words."""
        attempts = [
            login(b"ann@example.com", b"wrong"),
            login(b"nobody@example.com"),
            login(b"ann@example.com", b""),
            login(b"ann@example.com", b"x" * 5000),
            login(b"x" * 500 + b"@example.com"),
            login(b"\xff\xfe@example.com", b"\xff"),
            login(b""),
        ]
        for credentials in attempts:
            self.assertEqual(self.refusal(credentials), WRONG)

    def test_foreign_authzid(self) -> None:
        """Nobody acts for another, however right the password is (P5)."""
        credentials = PlainCredentials()
        credentials.setResponse(
            b"root@example.com\0ann@example.com\0" + SECRET.encode()
        )
        self.assertEqual(self.refusal(credentials), WRONG)

    def test_without_at(self) -> None:
        """A bare name is told to use the full address."""
        self.assertEqual(self.refusal(login(b"ann")), NO_ADDRESS)

    def test_switched_off(self) -> None:
        """The right password of an account that is off."""
        self.assertEqual(self.refusal(login(b"off@example.com")), SWITCHED_OFF)

    def test_cannot_say(self) -> None:
        """A source that is away is 454, and a bug 451, never 535 (P4)."""
        for error, code in ((LookUpFailed("away"), 454), (ZeroDivisionError(), 451)):

            async def broken(
                login: str, password: str, error: Exception = error
            ) -> None:
                raise error

            self.patch(self.bench.accounts, "verify", broken)
            failure = self.failureResultOf(self.enter(login(b"ann@example.com")))
            self.assertEqual(reply_to(failure.value).code, code)


class DeliveryTests(SynchronousTestCase):
    """What avatars allow."""

    def avatar(self, name: bytes) -> SubmissionDelivery:
        """The avatar of a login."""
        bench = Bench()
        entered = portal(bench.accounts).login(login(name), None, IMessageDelivery)
        delivery = self.successResultOf(entered)[1]
        assert isinstance(delivery, SubmissionDelivery)
        return delivery

    def test_own_address(self) -> None:
        """The own address, its +tags, and the null path."""
        avatar = self.avatar(b"ann@example.com")
        for origin in (ANN, Mailbox("Ann+x", "EXAMPLE.com"), None):
            self.assertEqual(
                self.successResultOf(avatar.validateFrom(None, origin)), origin
            )

    def test_foreign_address(self) -> None:
        """Another address is 553 and says which would do, and who can allow more."""
        avatar = self.avatar(b"ann@example.com")
        asked = avatar.validateFrom(None, Mailbox("eve", "example.com"))
        reply = reply_to(self.failureResultOf(asked, SenderRefused).value)
        self.assertEqual((reply.code, reply.status), (553, "5.7.1"))
        for words in ("eve@example.com", "ann@example.com", "fwdmta account add"):
            self.assertIn(words, reply.text)

    def test_domain_wide(self) -> None:
        """A domain-wide credential owns its domain, and that only."""
        avatar = self.avatar(b"any@wide.example")
        origin = Mailbox("other", "wide.example")
        self.assertEqual(
            self.successResultOf(avatar.validateFrom(None, origin)), origin
        )
        self.failureResultOf(avatar.validateFrom(None, ANN), SenderRefused)

    def test_trusted(self) -> None:
        """A trusted network sends as anybody."""
        delivery = TrustedDelivery()
        verifyObject(IMessageDelivery, delivery)
        recipient = Recipient(ANN)
        self.assertEqual(delivery.validateFrom(None, ANN), ANN)
        self.assertEqual(delivery.validateTo(recipient), recipient)
        self.assertEqual(delivery.receivedHeader(None, None, None), b"")

    def test_unknown_trouble(self) -> None:
        """What nobody foresaw is temporary."""
        self.assertEqual(reply_to(KeyError("x")), MailError.reply)
        self.assertEqual(reply_to(SyntaxFault("x")), MailError.reply)


class ExchangeTests(SynchronousTestCase):
    """AUTH over the wire, in every form that clients use."""

    table = (
        (["AUTH PLAIN " + plain("ann@example.com")], "235 2.7.0"),
        (["auth plain " + plain("ann@example.com")], "235 2.7.0"),
        (["AUTH PLAIN", plain("ann@example.com")], "235 2.7.0"),
        (["AUTH PLAIN " + plain("any@wide.example")], "235 2.7.0"),
        (["AUTH PLAIN " + plain("*@wide.example")], "235 2.7.0"),
        (["AUTH PLAIN " + plain("ann@example.com", "no")], "535 5.7.8"),
        (["AUTH PLAIN " + plain("off@example.com")], "525 5.7.13"),
        (["AUTH PLAIN " + plain("ann@example.com", authzid="a@b.c")], "535 5.7.8"),
        (["AUTH PLAIN", "*"], "501 5.7.0"),
        (["AUTH PLAIN", "="], "501 5.5.2"),
        (["AUTH PLAIN", ""], "501 5.5.2"),
        (["AUTH PLAIN ="], "501 5.5.2"),
        (["AUTH PLAIN !!!!"], "501 5.5.2"),
        (["AUTH PLAIN \u00e4"], "501 5.5.2"),
        (["AUTH PLAIN QUJD QUJD"], "501 5.5.2"),
        (["AUTH"], "501 5.5.4"),
        (["AUTH \u00e4"], "504 5.5.4"),
        (["AUTH SCRAM-SHA-1"], "504 5.5.4"),
        (["AUTH LOGIN", "="], "501 5.5.2"),
        (["AUTH LOGIN", "*"], "501 5.7.0"),
        (["AUTH LOGIN ="], "334 UGFzc3dvcmQ6"),
    )

    def test_table(self) -> None:
        """Each exchange ends in its reply, and the session goes on."""
        for lines, expected in self.table:
            wire = Bench().connect()
            wire.say("EHLO me")
            heard = [answer for line in lines for answer in wire.say(line)]
            self.assertEqual(heard[-1][: len(expected)], expected, lines)
            self.assertFalse(wire.closed, lines)

    def test_long_password(self) -> None:
        """A password as long as a token fits; it is wrong, no more."""
        wire = Bench().connect()
        wire.say("EHLO me")
        token = b64encode(b"\0ann@example.com\0" + b"t" * 8000).decode()
        [heard] = wire.say("AUTH PLAIN " + token)
        self.assertEqual(heard[:9], "535 5.7.8")


class ScramTests(SynchronousTestCase):
    """AUTH SCRAM-SHA-256 on the wire."""

    @override
    def setUp(self) -> None:
        """A server all of whose accounts have keys."""
        self.bench = Bench(accounts_file=SCRAM_FILE)

    def start(self, login: str) -> tuple[Wire, str, str]:
        """EHLO and the first message; gives what the server answered."""
        wire = self.bench.connect()
        self.assertIn("250-AUTH PLAIN LOGIN SCRAM-SHA-256", wire.say("EHLO me"))
        bare = f"n={login},r=client"
        first = b64encode(f"n,,{bare}".encode()).decode()
        [reply] = wire.say(f"AUTH SCRAM-SHA-256 {first}")
        self.assertTrue(reply.startswith("334 "), reply)
        return wire, bare, b64decode(reply[4:]).decode()

    def log_in(self, login: str, password: str = SECRET) -> tuple[Wire, str]:
        """Go as far as the server's answer to the proof."""
        wire, bare, challenge = self.start(login)
        nonce, salt, _ = challenge.split(",")
        final = f"c=biws,{nonce}"
        salted = pbkdf2_hmac("sha256", password.encode(), b64decode(salt[2:]), 4096)
        key = hmac.digest(salted, b"Client Key", "sha256")
        said = f"{bare},{challenge},{final}".encode()
        signature = hmac.digest(sha256(key).digest(), said, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        word = f"{final},p={b64encode(proof).decode()}".encode()
        [reply] = wire.say(b64encode(word).decode())
        return wire, reply

    def test_right(self) -> None:
        """The server proves itself too, and then lets the client in."""
        wire, reply = self.log_in("ann@example.com")
        self.assertTrue(b64decode(reply[4:]).startswith(b"v="))
        self.assertEqual(wire.say("")[0][:9], "235 2.7.0")
        self.assertEqual(wire.say("MAIL FROM:<ann@example.com>")[0][:3], "250")

    def test_last_word_is_not_empty(self) -> None:
        """What is said behind the proof is no part of SCRAM."""
        wire, _ = self.log_in("ann@example.com")
        self.assertEqual(wire.say("eA==")[0][:9], "501 5.5.2")
        self.assertEqual(wire.say("MAIL FROM:<ann@example.com>")[0][:9], "530 5.7.0")

    def test_wrong(self) -> None:
        """Wrong password and unknown login look alike, down to a salt that stays."""
        _, wrong = self.log_in("ann@example.com", "wrong")
        _, unknown = self.log_in("eve@example.com", "wrong")
        self.assertEqual(wrong, unknown)
        self.assertEqual(wrong[:9], "535 5.7.8")
        salts = [self.start("eve@example.com")[2].split(",")[1] for _ in range(2)]
        self.assertEqual(salts[0], salts[1])
        self.assertEqual(
            len(salts[0]), len(self.start("ann@example.com")[2].split(",")[1])
        )

    def test_switched_off(self) -> None:
        """The proof is right, and it is 525 all the same."""
        wire, _ = self.log_in("off@example.com")
        self.assertEqual(wire.say("")[0][:10], "525 5.7.13")

    def test_without_at(self) -> None:
        """A login without a domain is told what is missing."""
        _, reply = self.log_in("ann")
        self.assertIn("full address", reply)

    def test_not_offered(self) -> None:
        """One account without keys, and SCRAM is neither offered nor obeyed."""
        wire = Bench().connect()
        self.assertFalse([line for line in wire.say("EHLO me") if "SCRAM" in line])
        self.assertEqual(wire.say("AUTH SCRAM-SHA-256")[0][:9], "504 5.5.4")

    def test_malformed(self) -> None:
        """Anything else is 501, and nobody is logged in."""
        wire = self.bench.connect()
        wire.say("EHLO me")
        for word in ("=", "eA==", b64encode(b"p=tls-exporter,,n=a,r=x").decode(), "!"):
            self.assertEqual(wire.say(f"AUTH SCRAM-SHA-256 {word}")[0][:9], "501 5.5.2")
        self.assertEqual(wire.say("AUTH SCRAM-SHA-256-PLUS")[0][:9], "504 5.5.4")
        self.assertEqual(wire.say("AUTH SCRAM-SHA-256"), ["334 "])
        self.assertEqual(wire.say("*")[0][:9], "501 5.7.0")
