"""DKIM signatures, judged by dkimpy."""

from random import Random

import dkim  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.header import fields
from fwd_mta.rules.signing import (
    BodyHash,
    SigningKey,
    keys_for,
    record,
    signed,
    signing_key,
)
from tests.rules.dkim_twin import publish, verify

NOW = 1_800_000_000.0
RSA = generate_private_key(65537, 2048)
ED = Ed25519PrivateKey.generate()
KEYS = (
    SigningKey("example.com", "rsa1", RSA),
    SigningKey("example.com", "ed1", ED),
)
RECORDS = publish(KEYS)
HEAD = (
    b"Received: by mail.example.com; Tue, 1 Jan 2030 00:00:00 +0000\r\n"
    b"From: Ann <ann@example.com>\r\n"
    b"To: bob@example.net,\r\n\tcarl@example.net\r\n"
    b"Subject:   one   two  \r\n"
    b"Date: Tue, 1 Jan 2030 00:00:00 +0000\r\n"
    b"Message-ID: <m1@example.com>\r\n"
)


def body_hash(body: bytes, size: int = 1000) -> bytes:
    """The hash of a body that comes in pieces."""
    state = BodyHash()
    for at in range(0, len(body), size):
        state.update(body[at : at + size])
    return state.digest()


def sign(head: bytes, body: bytes) -> bytes:
    """The whole message as it leaves, signed by both keys."""
    return signed(head, body_hash(body), KEYS, NOW) + b"\r\n" + body


class SignedTests(SynchronousTestCase):
    """`signed` makes signatures that others verify."""

    def test_verified_by_dkimpy(self) -> None:
        """Both algorithms hold, on every shape of head and body."""
        bodies = (
            b"",
            b"\r\n",
            b"\r\n\r\n\r\n",
            b" \t\r\n",
            b"Hi\r\n",
            b"no end of line",
            b"blanks \t  inside and behind \t\r\n\r\n  \r\n",
            b"\r\nan empty line first\r\n\r\n\r\n",
            "Grüße\r\n".encode(),
        )
        heads = (
            HEAD,
            HEAD + b"Subject: twice\r\nX-Other: not signed\r\n",
            HEAD + b"References:\r\n <a@b>\r\n\t <c@d>\r\n",
            b"from:ann@example.com\r\n",
        )
        for head in heads:
            for body in bodies:
                whole = sign(head, body)
                self.assertEqual(verify(whole, RECORDS), [True, True], (head, body))

    def test_a_thousand_by_chance(self) -> None:
        """A thousand messages by chance: every piece size gives the same hash."""
        chance = Random(7)  # noqa: S311 - repeatable on purpose
        words = (b" ", b"\t", b"\r\n", b"a", b"b ", b"--x", b"=20", b"\xc3\xa4")
        for _ in range(1000):
            body = b"".join(chance.choices(words, k=chance.randrange(60))) + b"\r\n"
            head = HEAD + b"X: 1\r\nCc: " + b"a@b.example, \r\n " * 3 + b"c@d\r\n"
            whole = signed(head, body_hash(body, chance.randrange(1, 9)), KEYS, NOW)
            # ed25519 is quick, and the hash is the same for both
            message = whole + b"\r\n" + body
            self.assertEqual(verify(message, RECORDS, limit=1), [True], body)

    def test_changes_are_seen(self) -> None:
        """What is changed or added on the way breaks the signature."""
        whole = sign(HEAD, b"Hi\r\n")
        changes = (
            (b"Subject:   one", b"Subject:   two"),
            (b"Hi\r\n", b"Ho\r\n"),
            (b"To: bob", b"To: eve"),
            (b"Received:", b"From: eve@example.com\r\nReceived:"),
            (b"Received:", b"Cc: eve@example.com\r\nCc: x@y\r\nReceived:"),
        )
        for old, new in changes[:4]:
            self.assertNotIn(True, verify(whole.replace(old, new), RECORDS), new)
        self.assertIn(True, verify(whole.replace(*changes[4]), RECORDS))

    def test_relaxed_changes_are_not(self) -> None:
        """Blanks and folds that a next hop changes do no harm."""
        whole = sign(HEAD, b"Hi  there \r\n\r\n")
        whole = whole.replace(b"net,\r\n\tcarl", b"net, carl")
        whole = whole.replace(b"Hi  there \r\n\r\n", b"Hi there\r\n")
        self.assertEqual(verify(whole, RECORDS), [True, True])

    def test_a_signature_of_the_client_stays(self) -> None:
        """It is kept byte for byte, stays valid, and ours stands before it."""
        own = SigningKey("client.example", "c", ED)
        head = signed(HEAD, body_hash(b"Hi\r\n"), (own,), NOW - 5)
        whole = sign(head, b"Hi\r\n")
        self.assertIn(head, whole)
        records = RECORDS | publish((own,))
        self.assertEqual(verify(whole, records), [True, True, True])

    def test_form(self) -> None:
        """Lines are short, From is named twice, the tags are those of RFC 6376."""
        head = signed(HEAD * 3, body_hash(b""), KEYS, NOW)
        first = fields(head)[0]
        lines = first.raw.split(b"\r\n")
        self.assertLessEqual(max(map(len, lines)), 78)
        value = first.value.replace("\t", "")
        self.assertIn("t=1800000000;", value)
        self.assertIn("c=relaxed/relaxed;", value)
        self.assertNotIn("x=", value)
        names = value.split("h=")[1].split(";")[0].split(":")
        self.assertEqual(names.count("from"), 4)
        self.assertNotIn("received", names)

    def test_lifetime(self) -> None:
        """A signature that ends says when."""
        key = SigningKey("example.com", "ed1", ED, 3600)
        head = signed(HEAD, body_hash(b""), (key,), NOW)
        self.assertIn(b"t=1800000000; x=1800003600;", head)

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"\xff"]), max_size=30),
        st.integers(1, 7),
    )
    def test_any_pieces(self, words: list[bytes], size: int) -> None:
        """The pieces a body comes in make no difference, even through a CRLF."""
        body = b"".join(words)
        self.assertEqual(body_hash(body, size), body_hash(body))

    def test_many_empty_lines(self) -> None:
        """Empty lines are counted, not kept: they only count before more text."""
        empty = b"\r\n" * 5000
        self.assertEqual(body_hash(b"a\r\n" + empty), body_hash(b"a\r\n"))
        whole = sign(HEAD, b"a" + empty + b"b\r\n")
        self.assertEqual(verify(whole, RECORDS), [True, True])


class KeyTests(SynchronousTestCase):
    """`signing_key` and `keys_for`."""

    def test_reads_both_kinds(self) -> None:
        """PEM of RSA and Ed25519 keys, the domain as an A-label."""
        for private, algorithm in ((RSA, "rsa-sha256"), (ED, "ed25519-sha256")):
            pem = private.private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
            key = signing_key("Bücher.example", "s", pem)
            self.assertEqual(key.algorithm, algorithm)
            self.assertEqual(key.domain, "xn--bcher-kva.example")

    def test_says_what_is_wrong(self) -> None:
        """Every wrong file is named for what it is."""
        pkcs8 = PrivateFormat.PKCS8
        short = generate_private_key(65537, 1024).private_bytes(  # noqa: S505 - its subject
            Encoding.PEM, pkcs8, NoEncryption()
        )
        locked = ED.private_bytes(Encoding.PEM, pkcs8, BestAvailableEncryption(b"x"))
        curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, pkcs8, NoEncryption()
        )
        public = ED.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        self.assertEqual(signing_key("a.example", "s", short).algorithm, "rsa-sha256")
        table = (
            (locked, "password"),
            (curve, "RSA and Ed25519"),
            (public, "no private key"),
            (b"", "no private key"),
            (b"\xff\xfe", "no private key"),
        )
        for pem, words in table:
            with self.assertRaises(ValueError) as caught:
                signing_key("a.example", "s", pem)
            self.assertIn(words, str(caught.exception))

    def test_record(self) -> None:
        """The record we print is the one that dkimpy verifies by."""
        records = {
            f"{key.selector}._domainkey.{key.domain}".encode(): record(key).encode()
            for key in KEYS
        }
        self.assertEqual(verify(sign(HEAD, b"Hi\r\n"), records), [True, True])

    def test_keys_of_the_author(self) -> None:
        """Keys of the From domain sign, upper and lower case alike; no others do."""
        table = (
            (b"From: ann@Example.COM\r\n", 2),
            (b"From: a@other.example, ann@example.com\r\nSender: a@b\r\n", 2),
            (b"From: ann@sub.example.com\r\nSender: ann@example.com\r\n", 0),
            (b"From: broken\r\n", 0),
            (b"no field", 0),
        )
        for head, count in table:
            self.assertEqual(len(keys_for(head, KEYS)), count, head)


class TwinTests(SynchronousTestCase):
    """The judge itself."""

    def test_dkimpy_agrees_with_itself(self) -> None:
        """What dkimpy signs passes here, so a pass is no accident of ours."""
        pem = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        message = b"From: ann@example.com\r\n\r\nHi\r\n"
        own = dkim.sign(message, b"rsa1", b"example.com", pem)
        self.assertEqual(verify(own + message, RECORDS), [True])
        self.assertEqual(verify(own + message + b"!\r\n", RECORDS), [False])
