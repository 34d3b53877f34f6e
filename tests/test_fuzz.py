"""The fuzzing targets hold for their first seeds, and they do notice what is wrong."""

from twisted.trial.unittest import SynchronousTestCase

from fuzz import targets
from fuzz.model import body_of, final_replies, meant, pieces, split_data
from fuzz.targets import TARGETS
from fuzz.words import WORDS, seeds


class TargetTests(SynchronousTestCase):
    """A few seeds of each; `make fuzz` does the rest."""

    def test_seeds(self) -> None:
        """What the catalogue has is no finding."""
        self.assertEqual(sorted(WORDS), sorted(TARGETS))
        for name, check in TARGETS.items():
            begun = seeds(name)
            for octets in begun[:: max(1, len(begun) // 8)]:
                check(octets)

    def test_it_would_notice(self) -> None:
        """A reader that takes a bare LF dot for the end is found out."""
        self.patch(targets, "split_data", lambda stream: (stream, b""))
        self.assertRaises(AssertionError, TARGETS["data"], b"|\r\nHi\r\n.\r\nNOOP\r\n")


class ModelTests(SynchronousTestCase):
    """The second opinion on mail data."""

    def test_split(self) -> None:
        """Only CRLF.CRLF ends it; dots are unstuffed."""
        self.assertEqual(split_data(b"a\r\n..b\r\n.\r\nX"), (b"a\r\n.b\r\n", b"X"))
        self.assertEqual(split_data(b".\r\nX"), (b"", b"X"))
        for stream in (b"a\n.\n", b"a\r\n.\n", b"a\n.\r\nb", b"a\r\n. \r\n"):
            self.assertIsNone(split_data(stream), stream)

    def test_meant(self) -> None:
        """Bare LF is mended, bare CR and NUL are refused."""
        self.assertEqual(meant(b"a\nb\r\nc"), b"a\r\nb\r\nc\r\n")
        self.assertEqual(meant(b""), b"")
        for content in (b"a\rb", b"a\0", b"a\r\r\n", b"a\r"):
            self.assertIsNone(meant(content), content)

    def test_pieces(self) -> None:
        """Segments of these lengths, and nothing lost."""
        self.assertEqual(pieces(b"abcdef", b"\x00\x01"), [b"a", b"bc", b"d", b"ef"])

    def test_the_rest(self) -> None:
        """Bodies and replies."""
        self.assertEqual(body_of(b"\r\nHi"), b"Hi")
        self.assertEqual(body_of(b"a: b\r\n\r\nHi"), b"Hi")
        heard = b"250-a\r\n250 b\r\n500 c\r\n"
        self.assertEqual(final_replies(heard), [b"250 b", b"500 c"])
        self.assertRaises(AssertionError, final_replies, b"250 \x07\r\n")
