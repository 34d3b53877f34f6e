"""Frames of a segment, and the index of a pack."""

from zlib import crc32

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.errors import Corrupt
from fwd_mta.queue.segment import (
    TRAILER_SIZE,
    Damage,
    Item,
    Kind,
    NewerSegment,
    frame,
    header_in,
    header_item,
    moved_in,
    moved_item,
    pack_index,
    pack_index_size,
    pack_tail,
    scan,
)

HEADER = header_item("process 1\nboot a\n", 7, 123)
ONE = Item(Kind.MESSAGE, "0000000000000001", b"one\r\n")
TWO = Item(Kind.LINES, "0000000000000001", b"two\n")


def written(*items: Item, safe: int = 0) -> bytes:
    """A segment numbered 9."""
    return b"".join(frame(one, 9, number, safe) for number, one in enumerate(items))


class SegmentTests(SynchronousTestCase):
    """What is written is read; what does not hold is passed over."""

    def test_round(self) -> None:
        """Frames come back in order, with the place of their octets."""
        octets = written(HEADER, ONE, TWO)
        found = scan(octets, 9)
        self.assertEqual(
            [one.octets for one in found.frames][1:], [b"one\r\n", b"two\n"]
        )
        first = found.frames[1]
        self.assertEqual(octets[first.offset :][:5], b"one\r\n")
        header = header_in(found)
        assert header is not None
        self.assertEqual((header.previous, header.valid), (7, 123))
        self.assertEqual(found.damaged, [])

    def test_torn_anywhere(self) -> None:
        """Cut at any octet, what is whole is read and nothing is called damage."""
        octets = written(HEADER, ONE, TWO)
        ends = [len(written(HEADER)), len(written(HEADER, ONE)), len(octets)]
        for cut in range(len(octets)):
            found = scan(octets[:cut], 9)
            self.assertEqual(len(found.frames), sum(end <= cut for end in ends))
            self.assertEqual(found.damaged, [])

    def test_damage_below_what_was_synced(self) -> None:
        """A frame that rotted is damage when a later one knew it to be synced."""
        good = written(HEADER, ONE)
        octets = bytearray(good + written(TWO, safe=len(good)))
        at = octets.index(b"one\r\n")
        octets[at] ^= 1
        found = scan(bytes(octets), 9)
        begin = len(written(HEADER))
        self.assertEqual(found.damaged, [Damage(begin, len(good) - begin)])
        self.assertEqual(found.frames[-1].octets, b"two\n")

    def test_past_what_is_valid(self) -> None:
        """What an abandoned segment holds past its valid length is not read."""
        octets = written(HEADER, ONE, TWO)
        valid = len(written(HEADER, ONE))
        self.assertEqual(len(scan(octets, 9, valid).frames), 2)

    def test_frames_of_another_segment(self) -> None:
        """Octets of an earlier file in the same blocks are not taken for new."""
        self.assertEqual(scan(written(HEADER, ONE), 10).frames, [])

    def test_a_newer_version(self) -> None:
        """A frame of a newer version is an error, not damage."""
        newer = bytearray(written(HEADER))
        newer[4] = 2
        with self.assertRaises(NewerSegment):
            scan(_summed(bytes(newer)), 9)

    def test_moved(self) -> None:
        """Where something went is read again."""
        found = scan(written(moved_item("9", "/srv/tmp/a", "/retained/b")), 9)
        self.assertEqual(moved_in(found.frames[0]).target, "/retained/b")

    def test_an_index(self) -> None:
        """The index of a pack is read from its end."""
        tail = pack_tail([("0000000000000001", 0, 10)])
        length, crc = pack_index_size(tail[-TRAILER_SIZE:])
        index = tail[:-TRAILER_SIZE]
        self.assertEqual(len(index), length)
        self.assertEqual(pack_index(index, crc), (("0000000000000001", 0, 10),))
        with self.assertRaises(Corrupt):
            pack_index(index[:-1] + b" ", crc)
        for bad in (b"", b"fwd_mta pack x y z", b"fwd_mta message 1 2 3"):
            with self.assertRaises(Corrupt):
                pack_index_size(bad)


def _summed(octets: bytes) -> bytes:
    """A frame with its checksum put right."""
    size = len(frame(Item(Kind.STOPPED, "", b""), 9, 0, 0))
    crc = crc32(octets[size:], crc32(octets[: size - 4]))
    return octets[: size - 4] + crc.to_bytes(4, "big") + octets[size:]
