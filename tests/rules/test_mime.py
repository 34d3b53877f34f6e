"""Messages walked part by part, whatever they are made of."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.header import fields
from fwd_mta.rules.mime import HEAD_LIMIT, Facts, Walk, decoded

MIXED = b"Content-Type: multipart/mixed; boundary=out\r\n"
PIECES = [
    b"--out\r\n",
    b"--out--\r\n",
    b"--in\r\n",
    b"\r\n",
    b"text\r\n",
    b"--",
    b"\r",
    b"\n",
    b"aGk=\r\n",
    b"Content-Type: multipart/mixed; boundary=in\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n",
]


class Kept:
    """A leaf that keeps what it is fed."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.octets = b""
        self.closed = 0

    def feed(self, octets: bytes) -> None:
        """Keep it."""
        self.octets += octets

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def walk(head: bytes, body: bytes, size: int = 1000) -> tuple[Walk, list[Kept]]:
    """Walk a message that comes in pieces."""
    kept: list[Kept] = []

    def make(facts: Facts) -> Kept:
        kept.append(Kept(facts))
        return kept[-1]

    walked = Walk(fields(head), make)
    for at in range(0, len(body), size):
        walked.feed(body[at : at + size])
    walked.finish()
    return walked, kept


def facts(head: bytes) -> Facts:
    """What a head says."""
    return Facts.of(fields(head))


class WalkTests(SynchronousTestCase):
    """`Walk` finds the leaves."""

    def test_simple(self) -> None:
        """A message without MIME is one leaf of text."""
        _, [leaf] = walk(b"Subject: x\r\n", b"--a\r\nHi\r\n")
        self.assertEqual(leaf.octets, b"--a\r\nHi\r\n")
        self.assertEqual(leaf.facts.media_type, "text/plain")
        self.assertEqual(leaf.closed, 1)

    def test_parts(self) -> None:
        """Parts in parts, decoded; preamble and epilogue are nobody's."""
        body = (
            b"preamble\r\n--out\r\n\r\none\r\n"
            b"--out \t\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n"
            b"--in\r\nContent-Transfer-Encoding: base64\r\n\r\ndH\r\nd vCg==\r\n"
            b"--in\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\nth=\r\nree=21"
            b"\r\n--in--\r\nbetween\r\n--out\r\nContent-Type: message/rfc822\r\n\r\n"
            b"Subject: four\r\n\r\nfour\r\n--out--\r\nepilogue\r\n"
        )
        for size in (1, 2, 1000):
            walked, kept = walk(MIXED, body, size)
            self.assertEqual(
                [leaf.octets for leaf in kept],
                [b"one\r\n", b"two\n", b"three!\r\n", b"four\r\n"],
            )
            self.assertTrue(all(leaf.closed == 1 for leaf in kept))
            self.assertIsNone(walked.excess)

    def test_an_outer_boundary_ends_inner_parts(self) -> None:
        """A part that never ends is ended by what is around it."""
        body = (
            b"--out\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\n"
            b"one\r\n--out\r\n\r\ntwo\r\n--in\r\n"
        )
        _, kept = walk(MIXED, body)
        self.assertEqual(
            [leaf.octets for leaf in kept], [b"one\r\n", b"two\r\n--in\r\n"]
        )

    def test_a_head_without_end(self) -> None:
        """A part's header section is bounded."""
        walked, _ = walk(MIXED, b"--out\r\n" + b"X: y\r\n" * (HEAD_LIMIT // 6 + 1))
        self.assertIn("header", walked.excess or "")

    def test_broken_base64(self) -> None:
        """What cannot be decoded is read as far as it goes, and never raises."""
        head = b"Content-Transfer-Encoding: base64\r\n"
        for body in (b"aGk", b"aGk=aGk=", b"=", b"====", b"a", b"aG\xff!k", b"aGkA==="):
            _, [leaf] = walk(head, body + b"\r\n")
            self.assertLessEqual(len(leaf.octets), 4, body)

    def test_hostile_sizes(self) -> None:
        """What could take quadratic time takes a moment."""
        dashes = b"--out\r\n\r\n" + b"-" * 20 + b"\r\n"
        walk(MIXED, dashes + b"--" * 300_000, 60_000)
        walk(b"Content-Type: text/plain" + b';a="' * 50_000 + b"\r\n", b"")
        walk(b"Content-Type: a/b" + b";a*0*=''%41" * 20_000 + b"\r\n", b"")
        walk(b"Content-Disposition: x; filename=" + b"=?a?q?" * 9000 + b"\r\n", b"")

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.sampled_from(PIECES), max_size=40), st.integers(1, 9))
    def test_any_message(self, pieces: list[bytes], size: int) -> None:
        """Any order of delimiters, heads and text: no exception, the same leaves."""
        body = b"".join(pieces)
        _, small = walk(MIXED, body, size)
        _, whole = walk(MIXED, body, len(body) + 1)
        self.assertEqual([one.facts for one in small], [one.facts for one in whole])
        self.assertTrue(all(leaf.closed == 1 for leaf in whole))


class FactsTests(SynchronousTestCase):
    """`Facts.of` and `decoded`."""

    def test_names(self) -> None:
        """All the ways clients write a name."""
        table = (
            (b'attachment; filename="a b.txt"', "a b.txt"),
            (b"attachment; filename=a.txt", "a.txt"),
            (b'attachment; FileName="a\\"b.txt"', 'a"b.txt'),
            (b"attachment; filename*=UTF-8''gr%C3%BC%C3%9F.txt", "grüß.txt"),
            (b'attachment; filename*0="a b"; filename*1=.txt', "a b.txt"),
            (b"attachment; filename*1*=%41; filename*0*=utf-8'en'b", "bA"),
            (b'attachment; filename="=?utf-8?B?YS50eHQ=?="', "a.txt"),
            (b'attachment; filename="a;b.txt"', "a;b.txt"),
            (b'attachment; filename="open', "open"),
            (b"attachment", ""),
        )
        for value, name in table:
            found = facts(b"Content-Disposition: " + value + b"\r\n")
            self.assertEqual(found.name, name, value)

    def test_decoded(self) -> None:
        """Encoded words are read; what is none, or broken, stays."""
        table = (
            ("plain", "plain"),
            ("=?utf-8?q?=C3=A4?=", "ä"),
            ("=?x-none?q?=C3?=", "=?x-none?q?=C3?="),
            ("=?utf-8?b?!!!?=", None),
        )
        for text, expected in table:
            given_back = decoded(text)
            if expected is not None:
                self.assertEqual(given_back, expected)
