"""Tests for SCRAM, against scramp's client where it is installed (the `dev` extra)."""

import hmac
from base64 import b64encode
from hashlib import pbkdf2_hmac, sha256
from typing import Any
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.admin.accounts import scram_keys
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.smtp import scram
from fwd_mta.smtp.scram import ScramExchange, ScramKeys, made_up_keys

try:
    from scramp import ScramClient
except ImportError:
    ScramClient = None

KEYS = ScramKeys.parse(scram_keys("pencil", b"0123456789abcdef", 4096))
OTHER = ScramKeys.parse(scram_keys("crayon", b"0123456789abcdef", 4096))
CHANNEL = b"x" * 32
NONCE = "serversnonce"


def finished(
    exchange: ScramExchange, header: str, password: str, channel: bytes
) -> Any:
    """What a client of our own gets, written by hand from RFC 5802 3."""
    bare = "n=ann@example.com,r=clients"
    exchange.first((header + bare).encode())
    challenge = exchange.challenge([KEYS]).decode()
    nonce = challenge.split(",", maxsplit=1)[0]
    bound = b64encode(header.encode() + channel).decode()
    final = f"c={bound},{nonce}"
    said = f"{bare},{challenge},{final}".encode()
    salted = pbkdf2_hmac("sha256", password.encode(), b"0123456789abcdef", 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(sha256(key).digest(), said, "sha256")
    proof = b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))
    return exchange.final(final.encode() + b",p=" + proof)


@skipIf(ScramClient is None, "needs scramp: pip install -e .[dev]")
class ScrampTests(SynchronousTestCase):
    """The client of another author logs in, with and without channel binding."""

    def run_client(self, client: Any, exchange: ScramExchange) -> Any:
        """One exchange; gives our last word."""
        exchange.first(client.get_client_first().encode())
        client.set_server_first(exchange.challenge([OTHER, KEYS]).decode())
        final = exchange.final(client.get_client_final().encode())
        if final is not None:
            client.set_server_final(final.decode())
        return final

    def test_plain(self) -> None:
        """A right password is proved both ways, a wrong one is not."""
        for password, right in (("pencil", True), ("crayon", True), ("pen", False)):
            client = ScramClient(["SCRAM-SHA-256"], "ann@example.com", password)
            exchange = ScramExchange(NONCE, None)
            self.assertEqual(self.run_client(client, exchange) is not None, right)
            self.assertEqual(exchange.login, "ann@example.com")

    def test_escaped(self) -> None:
        """A comma and an equals sign in a login survive."""
        client = ScramClient(["SCRAM-SHA-256"], "a,b=c@example.com", "pencil")
        exchange = ScramExchange(NONCE, None)
        self.assertIsNotNone(self.run_client(client, exchange))
        self.assertEqual(exchange.login, "a,b=c@example.com")

    def test_bound(self) -> None:
        """The bound form agrees with scramp's, but for the name of the channel."""
        self.patch(scram, "BINDING", "tls-unique")
        for channel, right in ((CHANNEL, True), (b"y" * 32, False)):
            client = ScramClient(
                ["SCRAM-SHA-256-PLUS"],
                "ann@example.com",
                "pencil",
                channel_binding=("tls-unique", channel),
            )
            exchange = ScramExchange(NONCE, CHANNEL, offers_plus=True)
            self.assertEqual(self.run_client(client, exchange) is not None, right)


class ExchangeTests(SynchronousTestCase):
    """What a client may say, and what it may not."""

    def test_binding(self) -> None:
        """-PLUS stands for the very channel that it goes through."""
        header = "p=tls-exporter,,"
        for channel, right in ((CHANNEL, True), (b"y" * 32, False), (b"", False)):
            exchange = ScramExchange(NONCE, CHANNEL, offers_plus=True)
            final = finished(exchange, header, "pencil", channel)
            self.assertEqual(final is not None, right)

    def test_downgrade(self) -> None:
        """A client that was shown no -PLUS although we offer it is not let in."""
        for offers, right in ((False, True), (True, False)):
            exchange = ScramExchange(NONCE, None, offers_plus=offers)
            final = finished(exchange, "y,,", "pencil", b"")
            self.assertEqual(final is not None, right)

    def test_authzid(self) -> None:
        """Only the login's own is taken."""
        for authzid, right in (("ANN@example.com", True), ("eve@example.com", False)):
            exchange = ScramExchange(NONCE, None)
            final = finished(exchange, f"n,a={authzid},", "pencil", b"")
            self.assertEqual(final is not None, right)

    def test_bad_first(self) -> None:
        """What is no client-first-message, or does not fit the mechanism."""
        bad = [b"", b"n", b"n,,", b"n,,n=ann", b"n,,r=x,n=ann", b"n,,n=,r=x"]
        bad += [b"n,,n=a,r=", b"x,,n=a,r=x", b"n,,n=a=b,r=x", b"n,,m=x,n=a,r=x"]
        bad += [b"p=tls-exporter,,n=a,r=x", b"n,,n=\xff,r=x", b"n,,n=a\0b,r=x"]
        bad += [b"n,b=x,n=a,r=x", b"n,,n=a,r=x,", b"n,,n=a,r=x\n", b"n" * 9000]
        for message in bad:
            exchange = ScramExchange(NONCE, None)
            self.assertRaises(SyntaxFault, exchange.first, message)
        for message in (b"n,,n=a,r=x", b"y,,n=a,r=x", b"p=tls-unique,,n=a,r=x"):
            exchange = ScramExchange(NONCE, CHANNEL)
            self.assertRaises(SyntaxFault, exchange.first, message)

    def test_bad_final(self) -> None:
        """What is no client-final-message; a foreign nonce or short proof is wrong."""
        for message in (b"", b"c=biws", b"c=!,r=x,p=eA==", b"c=biws,r=x,p=e", b"\xff"):
            exchange = ScramExchange(NONCE, None)
            exchange.first(b"n,,n=a,r=x")
            exchange.challenge([KEYS])
            self.assertRaises(SyntaxFault, exchange.final, message)
        for message in (
            b"c=biws,r=x,p=eA==",
            b"c=biws,r=xserversnonce,p=eA==",
            b"c=biws,r=xserversnonce,p=" + b64encode(bytes(32)),
            b"c=biws,r=xserversnonce,p=" + b64encode(bytes(64)),
        ):
            exchange = ScramExchange(NONCE, None)
            exchange.first(b"n,,n=a,r=x")
            exchange.challenge([KEYS])
            self.assertIsNone(exchange.final(message))

    def test_made_up(self) -> None:
        """An unknown login has a salt of the usual shape, always the same."""
        once = made_up_keys("a@b.example", b"secret", 4096)
        self.assertEqual(once, made_up_keys("a@b.example", b"secret", 4096))
        self.assertNotEqual(once.salt, made_up_keys("b@b.example", b"s", 4096).salt)
        self.assertEqual(len(once.salt), len(KEYS.salt))

    def test_stored(self) -> None:
        """Keys are read as RFC 5803 writes them, and not shown."""
        self.assertNotIn("stored_key", repr(KEYS))
        good = scram_keys("pencil", b"0123456789abcdef", 4096)
        for bad in ("", good[:-4], good.replace("$", ":"), good.replace("4096", "0")):
            self.assertRaises(SyntaxFault, ScramKeys.parse, bad)
