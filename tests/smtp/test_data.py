"""Tests for mail data, in and out."""

import re
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.smtp.data import ChunkReader, DataReader, DotEncoder
from tests.properties import given, settings, st

LIMIT = 1000
END = b"\r\n.\r\n"

# what has ended messages in other servers and must not end one here
SEPARATORS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\r\n.\n",
    b"\r\n. \r\n",
    b"\r\n.\t\r\n",
    b"\r\n..\r\n",
]


def read(
    pieces: list[bytes], bare_newline: str = "normalize", limit: int = LIMIT
) -> tuple[bytes, bool, DataReader, bytes]:
    """Feed the pieces; give content, whether it ended, the reader, what is left."""
    reader = DataReader(limit, bare_newline)
    buffer = bytearray()
    content = b""
    for number, piece in enumerate(pieces):
        buffer += piece
        chunk, ended = reader.feed(buffer)
        content += chunk
        if ended:
            rest = bytes(buffer) + b"".join(pieces[number + 1 :])
            return content, True, reader, rest
    return content, False, reader, bytes(buffer)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces, cut at the places."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def by_lines(data: bytes) -> tuple[bytes, bytes]:
    """The content and the rest, by the plainest reading of RFC 5321 4.5.2."""
    lines = data.split(b"\r\n")
    end = lines.index(b".")
    kept = [line[1:] if line.startswith(b".") else line for line in lines[:end]]
    content = b"".join(line + b"\r\n" for line in kept)
    content = re.sub(rb"(?<!\r)\n", b"\r\n", content)
    return content, b"\r\n".join(lines[end + 1 :])


class DataReaderTests(SynchronousTestCase):
    """`DataReader` finds the end and nothing but the end."""

    def test_plain(self) -> None:
        """A message ends at the dot; what is behind it stays."""
        content, ended, reader, rest = read([b"a\r\nb\r\n.\r\nQUIT\r\n"])
        self.assertEqual((content, ended, rest), (b"a\r\nb\r\n", True, b"QUIT\r\n"))
        self.assertIsNone(reader.fault)
        self.assertEqual(reader.size, 6)

    def test_empty(self) -> None:
        """A dot at once is an empty message, in one piece or in three."""
        for pieces in ([b".\r\n"], [b".", b"\r", b"\n"]):
            content, ended, _, rest = read(pieces)
            self.assertEqual((content, ended, rest), (b"", True, b""))

    def test_empty_line_then_dot(self) -> None:
        """A message of one empty line."""
        content, ended, _, _ = read([b"\r\n.\r\n"])
        self.assertEqual((content, ended), (b"\r\n", True))

    def test_unstuffed(self) -> None:
        """A dot at the start of a line is taken off, at the first line too."""
        content, ended, _, _ = read([b"..\r\n..a\r\n.b\r\n.\r\n"])
        self.assertEqual((content, ended), (b".\r\n.a\r\nb\r\n", True))

    def test_separators_at_every_split(self) -> None:
        """Nothing but CRLF.CRLF ends a message, wherever it is cut."""
        for separator in SEPARATORS:
            for bare_newline in ("normalize", "reject"):
                data = b"one" + separator + b"MAIL FROM:<x@y>" + END + b"Q"
                for place in range(len(data)):
                    with self.subTest(separator=separator, place=place):
                        pieces = [data[:place], data[place:]]
                        _, ended, _, rest = read(pieces, bare_newline)
                        self.assertEqual((ended, rest), (True, b"Q"))

    def test_octet_by_octet(self) -> None:
        """The slowest client gives the same content."""
        data = b"..x\r\n\r\n..\r\ny\r\n.\r\n"
        content, ended, _, _ = read([data[i : i + 1] for i in range(len(data))])
        self.assertEqual((content, ended), (b".x\r\n\r\n.\r\ny\r\n", True))

    def test_bare_cr_and_nul(self) -> None:
        """A bare CR or a NUL is 550 5.6.0 and names its line; the rest is dropped."""
        for bad, word in ((b"a\rb", "CR"), (b"a\0b", "NUL"), (b"a\r\r\n", "CR")):
            content, ended, reader, _ = read([b"1\r\n", bad, b"\r\nmore\r\n.\r\n"])
            assert reader.fault is not None
            self.assertTrue(ended)
            self.assertEqual((reader.fault.code, reader.fault.status), (550, "5.6.0"))
            self.assertIn(f"{word} in line 2", reader.fault.text)
            self.assertNotIn(b"more", content)

    def test_bare_lf_normalized(self) -> None:
        """A bare LF becomes CRLF; a dot behind it is content, not an end."""
        content, ended, reader, _ = read([b"a\nb\n.\nc\r\n.\r\n"])
        self.assertEqual((content, ended), (b"a\r\nb\r\n.\r\nc\r\n", True))
        self.assertIsNone(reader.fault)
        self.assertEqual(reader.size, len(content))

    def test_bare_lf_rejected(self) -> None:
        """Or it is refused, where the operator wants that."""
        _, ended, reader, _ = read([b"a\nb\r\n.\r\n"], "reject")
        assert reader.fault is not None
        self.assertTrue(ended)
        self.assertEqual(reader.fault.status, "5.6.0")
        self.assertIn("Bare LF in line 1", reader.fault.text)

    def test_first_fault_stays(self) -> None:
        """The first fault is the one that is answered."""
        _, _, reader, _ = read([b"a\0\r\n", b"b\rc\r\n.\r\n"])
        assert reader.fault is not None
        self.assertIn("NUL", reader.fault.text)

    def test_size(self) -> None:
        """At the limit is fine, over it is 552 5.3.4; stuffed dots do not count."""
        full = b".." + b"x" * (LIMIT - 3)
        _, _, reader, _ = read([full, END])
        self.assertIsNone(reader.fault)
        self.assertEqual(reader.size, LIMIT)
        content, ended, reader, _ = read([full, b"y", b"z" * 100, END])
        assert reader.fault is not None
        self.assertTrue(ended)
        self.assertEqual((reader.fault.code, reader.fault.status), (552, "5.3.4"))
        self.assertNotIn(b"z", content)
        self.assertFalse(reader.overrun)

    def test_overrun(self) -> None:
        """A client that goes on for ever is noticed at twice the limit."""
        _, _, reader, rest = read([b"x" * 600] * 4)
        self.assertTrue(reader.overrun)
        self.assertEqual(rest, b"")

    def test_holds_four_octets_at_most(self) -> None:
        """What waits in the buffer is bounded, however the data is cut."""
        reader = DataReader(LIMIT, "normalize")
        buffer = bytearray()
        for piece in (b"a\r\n", b".\r", b"x", b"\r", b"\n", b"." * 50, b"\r\n.\r"):
            buffer += piece
            reader.feed(buffer)
            self.assertLessEqual(len(buffer), 4)

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(
        st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\n"]), max_size=40),
        st.lists(st.integers(0, 60), max_size=8),
    )
    def test_any_split_gives_the_same(
        self, words: list[bytes], places: list[int]
    ) -> None:
        """However it is cut, the content is what a plain reading gives."""
        data = b"".join(words) + END + b"REST\r\n.\r\n"
        content, ended, reader, rest = read(cut(data, places))
        expected, behind = by_lines(data)
        self.assertEqual((content, ended, rest), (expected, True, behind))
        self.assertIsNone(reader.fault)


class ChunkReaderTests(SynchronousTestCase):
    """`ChunkReader` counts octets, and holds them to the rules of DATA."""

    def _read(self, pieces: list[bytes]) -> tuple[bytes, ChunkReader]:
        reader = ChunkReader(LIMIT)
        content = b"".join([reader.feed(piece) for piece in pieces])
        return content + reader.end(), reader

    @given(st.lists(st.sampled_from([b"a", b"\r\n", b"\n", b".", b"\r\n.\r\n"])))
    @settings(max_examples=200)
    def test_at_every_split(self, words: list[bytes]) -> None:
        """However it is cut, the content is the same; a dot means nothing."""
        whole = b"".join(words)
        meant = re.sub(rb"(?<!\r)\n", b"\r\n", whole)
        if meant and not meant.endswith(b"\n"):
            meant += b"\r\n"
        for place in range(len(whole) + 1):
            content, reader = self._read(cut(whole, [place]))
            self.assertIsNone(reader.fault)
            self.assertEqual(content, meant)

    def test_bare_cr_at_every_split(self) -> None:
        """A CR without LF is refused, also as the very last octet."""
        for whole in (b"a\rb\r\n", b"a\r\r\n", b"a\r"):
            for place in range(len(whole) + 1):
                content, reader = self._read(cut(whole, [place]))
                self.assertEqual(str(reader.fault), "550 5.6.0 Bare CR in line 1")
                self.assertNotIn(b"\n", content)

    def test_limit(self) -> None:
        """Octets over the limit are refused, twice as many are not waited for."""
        reader = ChunkReader(10)
        self.assertEqual(reader.feed(b"x" * 10), b"x" * 10)
        self.assertEqual(reader.feed(b"x"), b"")
        assert reader.fault is not None
        self.assertEqual(reader.fault.code, 552)
        self.assertFalse(reader.overrun)
        reader.feed(b"x" * 10)
        self.assertTrue(reader.overrun)


class DotEncoderTests(SynchronousTestCase):
    """`DotEncoder` stuffs dots and lets no bare CR or LF out."""

    def encode(self, pieces: list[bytes]) -> bytes:
        """What is sent for the pieces."""
        encoder = DotEncoder()
        return b"".join(map(encoder.feed, pieces)) + encoder.end()

    def test_plain(self) -> None:
        """Content that ends in CRLF is followed by the dot."""
        self.assertEqual(self.encode([b"a\r\n"]), b"a\r\n.\r\n")

    def test_open_end(self) -> None:
        """A missing last CRLF is added, and a last bare CR completed."""
        self.assertEqual(self.encode([b"a"]), b"a\r\n.\r\n")
        self.assertEqual(self.encode([b"a\r"]), b"a\r\n.\r\n")

    def test_empty(self) -> None:
        """No content is a dot and nothing else."""
        self.assertEqual(self.encode([]), b".\r\n")
        self.assertEqual(self.encode([b"", b""]), b".\r\n")

    def test_stuffed_at_every_edge(self) -> None:
        """A dot at the start of a chunk is stuffed if a line starts there (D3)."""
        data = b".\r\n..\r\nx.\r\n.y\r\n"
        for place in range(len(data) + 1):
            sent = self.encode([data[:place], data[place:]])
            self.assertEqual(sent, b"..\r\n...\r\nx.\r\n..y\r\n.\r\n", place)

    def test_bare_line_ends(self) -> None:
        """Bare CR and LF become CRLF, so that no dot behind one ends a message."""
        self.assertEqual(self.encode([b"a\n.\nb"]), b"a\r\n..\r\nb\r\n.\r\n")
        self.assertEqual(self.encode([b"a\r", b".\rb"]), b"a\r\n..\r\nb\r\n.\r\n")

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(
        st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a"]), max_size=40),
        st.lists(st.integers(0, 60), max_size=8),
        st.lists(st.integers(0, 90), max_size=8),
    )
    def test_round_trip(
        self, words: list[bytes], places: list[int], again: list[int]
    ) -> None:
        """What is written in any pieces is read back the same, from any pieces."""
        data = b"".join(words)
        sent = self.encode(cut(data, places))
        self.assertEqual((b"\r\n" + sent).find(END), len(sent) - 3)
        content, ended, reader, rest = read(cut(sent, again))
        clean = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
        if clean and not clean.endswith(b"\r\n"):
            clean += b"\r\n"
        self.assertEqual((content, ended, rest), (clean, True, b""))
        self.assertIsNone(reader.fault)
