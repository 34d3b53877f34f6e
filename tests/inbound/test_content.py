"""Tests for content on its way: head and body parted, bounded, and looked at."""

from itertools import pairwise

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.inbound.content import BACKLOG_LIMIT, Content
from fwd_mta.mail.message import Message
from tests.inbound.bench import ScriptedSpool
from tests.properties import given, settings, st

HEAD = b"From: a@b.example\r\nSubject: x\r\n"


class ContentTests(SynchronousTestCase):
    """`Content` takes chunks and gives a message."""

    @override
    def setUp(self) -> None:
        """A content with a small head limit."""
        self.spools: list[ScriptedSpool] = []
        self.calls: list[str] = []
        self.content = self.fresh()

    def fresh(self, head_limit: int = 100) -> Content:
        """A content over scripted spools."""

        def make() -> ScriptedSpool:
            self.spools.append(ScriptedSpool())
            return self.spools[-1]

        return Content(
            make,
            head_limit,
            lambda: self.calls.append("pause"),
            lambda: self.calls.append("resume"),
        )

    def message(self, *chunks: bytes) -> Message:
        """The message that the chunks make."""
        for chunk in chunks:
            self.content.write(chunk)
        return self.successResultOf(Deferred.fromCoroutine(self.content.done()))

    def test_parted(self) -> None:
        """The empty line parts head and body, and belongs to neither."""
        message = self.message(HEAD + b"\r\nBody\r\n\r\nmore\r\n")
        self.assertEqual(message, Message(HEAD, b"Body\r\n\r\nmore\r\n"))

    def test_no_body(self) -> None:
        """Without an empty line all of it is head."""
        self.assertEqual(self.message(HEAD), Message(HEAD, b""))

    def test_no_head(self) -> None:
        """An empty line at once: no head at all."""
        self.assertEqual(self.message(b"\r\nBody\r\n"), Message(b"", b"Body\r\n"))

    def test_nothing(self) -> None:
        """No content is an empty message."""
        self.assertEqual(self.message(), Message(b"", b""))

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.lists(st.integers(0, 60), max_size=6))
    def test_any_split(self, places: list[int]) -> None:
        """However it is cut, head and body are the same."""
        data = HEAD + b"\r\nBody\r\n\r\n\r\nx\r\n"
        edges = sorted({0, len(data), *(min(p, len(data)) for p in places)})
        content = self.fresh()
        for start, end in pairwise(edges):
            content.write(data[start:end])
        message = self.successResultOf(Deferred.fromCoroutine(content.done()))
        self.assertEqual(message, Message(HEAD, b"Body\r\n\r\n\r\nx\r\n"))

    def test_head_is_bounded(self) -> None:
        """An endless head is 552 and kept nowhere, found out in one chunk or many."""
        for chunks in ([b"x" * 101], [b"x: y\r\n"] * 30, [b"x" * 120 + b"\r\n\r\nb"]):
            self.content = self.fresh()
            for chunk in chunks:
                self.content.write(chunk)
            self.content.write(b"\r\n\r\nbody")
            assert self.content.fault is not None
            self.assertEqual(self.content.fault.code, 552)
            self.assertTrue(self.spools[-1].discarded)
            self.assertEqual(self.spools[-1].written, b"")

    def test_back_pressure(self) -> None:
        """The client is paused while the disk is behind, once, and goes on."""
        self.content.write(HEAD + b"\r\n")
        self.spools[0].is_slow = True
        for _ in range(3):
            self.content.write(b"x" * BACKLOG_LIMIT)
        self.assertEqual(self.calls, ["pause"])
        self.spools[0].catch_up()
        self.assertEqual(self.calls, ["pause", "resume"])

    def test_eight_bit(self) -> None:
        """Whether the body needs 8BITMIME is known without looking again."""
        self.message(HEAD, b"\r\nascii\r\n")
        self.assertFalse(self.content.eight_bit)
        self.content = self.fresh()
        self.message(HEAD, b"\r\nascii\r\n", "ä\r\n".encode(), b"ascii\r\n")
        self.assertTrue(self.content.eight_bit)

    def test_long_line(self) -> None:
        """The first line over 998 octets is known by number, however it is cut."""
        short = b"x" * 998 + b"\r\n"
        self.message(HEAD, b"\r\n", short, short)
        self.assertIsNone(self.content.long_line)
        data = HEAD + b"\r\n" + short + b"y" * 999 + b"\r\n" + short
        for size in (7, 500, 999, 5000):
            self.content = self.fresh()
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            self.message(*pieces)
            self.assertEqual(self.content.long_line, 5, size)

    def test_respooled(self) -> None:
        """Another body takes the place of the first, which is forgotten."""
        self.message(HEAD, b"\r\nold\r\n")
        new = self.content.respooled(b"new\r\n" * 20_000)
        body = self.successResultOf(Deferred.fromCoroutine(new))
        self.assertEqual(body, b"new\r\n" * 20_000)
        self.assertTrue(self.spools[0].discarded)
        self.assertFalse(self.spools[1].discarded)
        self.content.discard()
        self.assertTrue(self.spools[1].discarded)
