"""Tests of how replies are written and read."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.reply import Reply
from fwd_mta.smtp.replies import ReplyReader, write
from tests.properties import given, st


class WriteTests(SynchronousTestCase):
    """What a client of ours gets to read."""

    def test_one_line(self) -> None:
        """A short reply is one line: code, enhanced code, text."""
        written = write(Reply(250, "0.0", "Ok: queued as 1"))
        self.assertEqual(written, b"250 2.0.0 Ok: queued as 1\r\n")

    def test_status_on_each_line(self) -> None:
        """Every line of a long reply carries the enhanced code (RFC 2034 4)."""
        written = write(Reply(553, "7.1", "no\nask for more"))
        self.assertEqual(written, b"553-5.7.1 no\r\n553 5.7.1 ask for more\r\n")

    def test_no_status_with_intermediate(self) -> None:
        """A 3yz reply has no enhanced code (RFC 2034 3)."""
        self.assertEqual(write(Reply(354, "0.0", "Go")), b"354 Go\r\n")

    def test_empty_text(self) -> None:
        """A reply without text has no blank at its end."""
        self.assertEqual(write(Reply(250, None, "")), b"250\r\n")
        self.assertEqual(write(Reply(250, "0.0", "")), b"250 2.0.0\r\n")

    def test_no_control_characters(self) -> None:
        """What a client sent cannot become a line, or a control, of our reply."""
        written = write(Reply(501, "5.4", "bad \r250 Ok\x00\x1b[2Jé\ttab"))
        self.assertEqual(written, b"501 5.5.4 bad ?250 Ok??[2J? tab\r\n")

    def test_long_text_is_folded(self) -> None:
        """No line is longer than 512 octets, and no word is lost in folding."""
        words = [f"word{number}" for number in range(300)]
        written = write(Reply(550, "7.1", " ".join(words)))
        lines = written.split(b"\r\n")[:-1]
        self.assertTrue(all(len(line) + 2 <= 512 for line in lines))
        text = b" ".join(line[len(b"550-5.7.1 ") :] for line in lines)
        self.assertEqual(text.decode().split(), words)

    def test_word_without_blank_is_cut(self) -> None:
        """A word longer than a line is cut rather than sent too long."""
        written = write(Reply(550, None, "x" * 2000))
        self.assertEqual(written.count(b"x"), 2000)
        self.assertTrue(all(len(line) <= 510 for line in written.split(b"\r\n")))

    def test_bounded(self) -> None:
        """However long the text, a reply has at most 100 lines."""
        written = write(Reply(550, "7.1", "line\n" * 5000))
        self.assertEqual(written.count(b"\r\n"), 100)
        self.assertTrue(written.endswith(b"(more text was cut off here)\r\n"))

    @given(
        st.integers(200, 559).filter(lambda code: code // 100 != 3),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    )
    def test_round_trip(self, code: int, text: str) -> None:
        """What we write, we read."""
        reply = Reply(code, "7.1" if code // 100 != 3 else None, text)
        (read,) = ReplyReader().feed(write(reply))
        self.assertEqual(read.code, code)
        self.assertEqual(read.text.replace("\n", ""), text)


class ReaderTests(SynchronousTestCase):
    """What a peer may say, and how much of it."""

    def test_one_line(self) -> None:
        """Code, enhanced code and text come apart."""
        replies = ReplyReader().feed(b"550 5.1.1 no such user\r\n")
        self.assertEqual(replies, [Reply(550, "1.1", "no such user")])

    def test_many_lines(self) -> None:
        """Lines of one reply are joined; each loses its enhanced code."""
        octets = b"550-5.7.1 we do not\r\n550-5.7.1 like you\r\n550 5.7.1 at all\r\n"
        replies = ReplyReader().feed(octets)
        self.assertEqual(replies, [Reply(550, "7.1", "we do not\nlike you\nat all")])

    def test_any_pieces(self) -> None:
        """Replies come out whole however the octets arrive."""
        reader = ReplyReader()
        octets = b"250-a\r\n250 b\r\n354 go\r\n"
        replies = [
            one for at in range(len(octets)) for one in reader.feed(octets[at : at + 1])
        ]
        self.assertEqual(replies, [Reply(250, None, "a\nb"), Reply(354, None, "go")])
        self.assertEqual(reader.pending, b"")

    def test_pending(self) -> None:
        """What has begun and not ended can be seen."""
        reader = ReplyReader()
        self.assertEqual(reader.feed(b"250-a\r\n25"), [])
        self.assertEqual(reader.pending, b"250-a\r\n25")

    def test_lone_line_feed(self) -> None:
        """A lone LF ends a line too: such hosts exist."""
        self.assertEqual(ReplyReader().feed(b"220 hi\n"), [Reply(220, None, "hi")])

    def test_bare_code(self) -> None:
        """A code alone is a reply (RFC 5321 4.2)."""
        self.assertEqual(ReplyReader().feed(b"250\r\n"), [Reply(250, None, "")])

    def test_class_comes_from_code(self) -> None:
        """Where code and enhanced code disagree, the code has the class."""
        (reply,) = ReplyReader().feed(b"451 5.7.1 later\r\n")
        self.assertEqual(reply, Reply(451, "7.1", "later"))
        self.assertEqual(reply.status, "4.7.1")

    def test_other_enhanced_code_stays(self) -> None:
        """A second, different enhanced code stays readable in the text."""
        (reply,) = ReplyReader().feed(b"550-5.1.1 no\r\n550 5.7.26 nor this\r\n")
        self.assertEqual(reply, Reply(550, "1.1", "no\n5.7.26 nor this"))

    def test_not_every_number_is_one(self) -> None:
        """An address at the start of the text is no enhanced code."""
        (reply,) = ReplyReader().feed(b"554 5.7.1.9 is listed\r\n")
        self.assertEqual(reply, Reply(554, None, "5.7.1.9 is listed"))

    def test_controls_are_taken_out(self) -> None:
        """Nothing a terminal would obey comes through; UTF-8 words do."""
        (reply,) = ReplyReader().feed(b"550 caf\xc3\xa9\x1b[2J\x00\xff\rx\r\n")
        self.assertEqual(reply.text, "café?[2J???x")

    def test_nonsense(self) -> None:
        """Words that are no reply raise, then and ever after."""
        for octets in (b"hello\r\n", b"99 x\r\n", b"150 x\r\n", b"250x\r\n", b"\r\n"):
            reader = ReplyReader()
            self.assertRaises(SyntaxFault, reader.feed, octets)
            self.assertRaises(SyntaxFault, reader.feed, b"250 fine\r\n")

    def test_different_codes(self) -> None:
        """The lines of one reply have one code (RFC 5321 4.2.1)."""
        self.assertRaises(SyntaxFault, ReplyReader().feed, b"250-a\r\n550 b\r\n")

    def test_whole_replies_before_nonsense(self) -> None:
        """A good reply is still given when nonsense follows; the next call raises."""
        reader = ReplyReader()
        self.assertEqual(
            reader.feed(b"250 ok\r\nrubbish\r\n"), [Reply(250, None, "ok")]
        )
        self.assertRaises(SyntaxFault, reader.feed, b"")

    def test_long_line(self) -> None:
        """A line of 8 KiB passes; a longer one raises before its end has come."""
        whole = b"250 " + b"x" * (8192 - 6) + b"\r\n"
        self.assertEqual(len(ReplyReader().feed(whole)), 1)
        reader = ReplyReader()
        self.assertEqual(reader.feed(b"250 " + b"x" * 8000), [])
        self.assertRaises(SyntaxFault, reader.feed, b"x" * 1000)

    def test_many_lines_are_bounded(self) -> None:
        """256 lines pass, one more raises."""
        self.assertEqual(len(ReplyReader().feed(b"250-x\r\n" * 255 + b"250 x\r\n")), 1)
        self.assertRaises(SyntaxFault, ReplyReader().feed, b"250-x\r\n" * 256)

    def test_size_is_bounded(self) -> None:
        """A reply of more than 64 KiB raises, however it is cut into lines."""
        line = b"250-" + b"x" * 1018 + b"\r\n"
        reader = ReplyReader()
        self.assertEqual(reader.feed(line * 64), [])
        self.assertRaises(SyntaxFault, reader.feed, b"250-")
