"""Mail leaves signed: from the configuration to what the other side receives."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.rules.signing import SigningKey
from fwd_mta.settings import CannotServeError
from tests.kit import World
from tests.rules.dkim_twin import publish, verify

RSA = generate_private_key(65537, 2048)
ED = Ed25519PrivateKey.generate()
TABLES = """
[[dkim]]
domain = "example.com"
selector = "fwd1"
private_key = "/dkim/rsa"
[[dkim]]
domain = "example.com"
selector = "fwd2"
private_key = "/dkim/ed"
lifetime = "30d"
"""
RECORDS = publish(
    (SigningKey("example.com", "fwd1", RSA), SigningKey("example.com", "fwd2", ED))
)


class SignedWorld(World):
    """A world whose server has both kinds of keys."""

    def make_keys(self) -> None:
        """Put the keys where the configuration looks."""
        for name, private in (("rsa", RSA), ("ed", ED)):
            self.files[f"/dkim/{name}"] = private.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )


class SignedTests(SynchronousTestCase):
    """A whole server, its keys in `[[dkim]]`."""

    def world(self) -> SignedWorld:
        """A running server with two keys."""
        world = SignedWorld()
        world.extra = TABLES
        world.make_keys()
        world.server = world.make()
        world.start()
        return world

    def test_received_with_two_valid_signatures(self) -> None:
        """What the recipient's host gets is signed by both keys, and holds."""
        world = self.world()
        submit(world, "Hi \t there\r\n\r\n")
        submit(world, "x" * 1200 + "\r\n")
        world.pass_time(5)
        received = [one.content for one in world.inbox.messages]
        self.assertEqual(len(received), 2)
        for content in received:
            self.assertEqual(verify(content, RECORDS), [True, True], content)

    def test_other_domains_are_not_signed(self) -> None:
        """Mail of a domain without a key leaves as it was."""
        world = self.world()
        submit(world, "Hi\r\n", author="ann@example.org")
        world.pass_time(5)
        self.assertNotIn(b"DKIM-Signature", world.inbox.messages[0].content)

    def test_broken_key(self) -> None:
        """A key that does not parse stops the start, named with its domain."""
        world = SignedWorld()
        world.extra = TABLES
        world.make_keys()
        world.files["/dkim/ed"] = b"nonsense"
        with self.assertRaises(CannotServeError) as caught:
            world.make()
        self.assertIn("dkim of example.com: /dkim/ed", str(caught.exception))

    def test_reload(self) -> None:
        """A reload takes new keys, and keeps the old ones when a file is broken."""
        world = self.world()
        world.files["/dkim/ed"] = b"nonsense"
        lines = world.done(world.server.reload())
        self.assertIn("/dkim/ed", lines[0])
        self.assertEqual(len(world.server.intake.keys), 2)
        world.extra = ""
        self.assertEqual(world.done(world.server.reload()), ())
        self.assertEqual(world.server.intake.keys, ())


def submit(world: World, body: str, author: str = "ann@example.com") -> None:
    """Hand a message in from a trusted network."""
    wire = world.connect(25)
    wire.say(
        b"EHLO x\r\nMAIL FROM:<ann@example.com>\r\n"
        b"RCPT TO:<bob@example.net>\r\nDATA\r\n"
    )
    world.settle()
    text = f"From: {author}\r\nSubject: test\r\n\r\n{body}.\r\n"
    wire.say(text.encode())
    world.settle()
    assert b"250 2.0.0 Ok: queued" in wire.heard, wire.heard
