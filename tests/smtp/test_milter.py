"""The grammar of the milter protocol."""

from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.smtp import milter
from fwd_mta.smtp.milter import Step


class MilterTests(SynchronousTestCase):
    """What we write, and what we read."""

    def test_offer(self) -> None:
        """We offer version 6, four kinds of changes, and every step."""
        self.assertEqual(
            milter.offer(), pack(">I", 13) + b"O" + pack(">III", 6, 0x33, 0x1DF7FF)
        )

    def test_terms(self) -> None:
        """Terms within the offer are taken, others refused."""
        terms = milter.read_terms(pack(">III", 6, 0x11, 0x100080))
        self.assertEqual(terms.steps, Step.LEADING_SPACE | Step.SILENT_HEADER)
        for bad in (b"", pack(">III", 1, 0, 0), pack(">III", 7, 0, 0)):
            with self.assertRaises(SyntaxFault):
                milter.read_terms(bad)
        with self.assertRaises(SyntaxFault):
            milter.read_terms(pack(">III", 6, 0x04, 0))

    def test_macros(self) -> None:
        """Macros that are empty are not sent, and none at all make no packet."""
        self.assertEqual(milter.macros(b"M", {"i": "", "j": ""}), b"")
        self.assertEqual(
            milter.macros(b"M", {"i": "1", "j": "", "{x}": "2\0"}),
            pack(">I", 12) + b"DMi\x001\0{x}\x002\0",
        )

    def test_connection(self) -> None:
        """Families and addresses, as libmilter reads them."""
        table = (
            ("192.0.2.7", b"[192.0.2.7]\x004" + pack(">H", 25) + b"192.0.2.7\0"),
            ("::1", b"[IPv6:::1]\x006" + pack(">H", 25) + b"::1\0"),
            ("", b"localhost\0L" + pack(">H", 0) + b"local\0"),
        )
        for client, expected in table:
            self.assertEqual(milter.connection(client, 25), expected)

    def test_replies(self) -> None:
        """A milter's own words, with or without an enhanced code, in several lines."""
        table = (
            (b"550 5.7.1 Go away\0", "550 5.7.1 Go away"),
            (b"451 later", "451 4.7.1 later"),
            (b"550-5.7.9 one\r\n550 5.7.9 two", "550 5.7.9 one two"),
            (b"421 4.3.2 Closing", "451 4.3.2 Closing"),
            (b"550 4.7.1 odd", "550 5.7.1 4.7.1 odd"),
        )
        for data, expected in table:
            self.assertEqual(str(milter.read_reply(data)), expected)
        for bad in (b"", b"250 ok", b"abc", b"55", b"550 a\r\n451 b", b"\xff\xfe"):
            with self.assertRaises(SyntaxFault):
                milter.read_reply(bad)

    @given(st.binary(max_size=60))
    def test_any_octets(self, octets: bytes) -> None:
        """Whatever a milter sends is read or is a SyntaxFault."""
        for read in (
            milter.read_reply,
            milter.read_pair,
            milter.read_indexed,
            milter.read_terms,
        ):
            try:
                read(octets)
            except SyntaxFault as fault:
                self.assertTrue(str(fault))

    def test_lengths(self) -> None:
        """A packet is never empty and never endless."""
        self.assertEqual(milter.read_length(pack(">I", 5)), 5)
        for length in (0, 2**31, 2**32 - 1):
            with self.assertRaises(SyntaxFault):
                milter.read_length(pack(">I", length))
