"""Tests of `fwd_mta.mail.header`: fields split and made, address lists read."""

import re
from email.header import decode_header, make_header
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import (
    AddressList,
    Field,
    addresses,
    assembled,
    encoded_words,
    fields,
    fold,
    join,
    make_field,
)
from tests.effort import grows_linearly
from tests.properties import given, settings, st

BOUNDED = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def read(value: str) -> AddressList:
    """Read a From field's value."""
    return addresses(Field("From", f"From: {value}\r\n".encode()))


def _by_lines(head: bytes) -> list[bytes] | None:
    """The raw fields of a head, or None if it is none."""
    found: list[bytes] = []
    if head and not head.endswith(b"\r\n"):
        return None
    for line in head.split(b"\r\n")[:-1]:
        if any(mark in line for mark in b"\r\n\0"):
            return None
        if found and line[:1] in {b" ", b"\t"}:
            found[-1] += line + b"\r\n"
        elif re.match(rb"[!-9;-~]+[ \t]*:", line):
            found.append(line + b"\r\n")
        else:
            return None
    return found


def decoded(field: Field) -> str:
    """A field's value as a mail reader shows it, by an independent decoder."""
    return str(make_header(decode_header(field.value)))


class FieldsTests(SynchronousTestCase):
    """Header sections."""

    def test_split_and_join(self) -> None:
        """Fields are split with their folds, and joined they are what they were."""
        head = (
            b"From: a@b\r\nSubject: one\r\n two\r\n\tthree\r\nX-Empty:\r\nOdd : x\r\n"
        )
        found = fields(head)
        self.assertEqual([f.name for f in found], ["From", "Subject", "X-Empty", "Odd"])
        self.assertEqual([f.value for f in found], ["a@b", "one two\tthree", "", "x"])
        self.assertEqual(join(found), head)
        self.assertEqual(fields(b""), ())

    def test_by_name(self) -> None:
        """Fields are found by name in any letters, each with its first line."""
        found = fields(b"To: a@b\r\nX: 1\r\n 2\r\nTO: c@d\r\n")
        self.assertEqual([one.value for one in found.named("to")], ["a@b", "c@d"])
        self.assertEqual([found.line(at) for at in found.places["to"]], [1, 4])
        self.assertEqual(found.named("cc"), [])

    def test_assembled(self) -> None:
        """What was put together is read as what it was put together from."""
        made = [Field("A", b"A: 1\r\n"), Field("B", b"B: 2\r\n 3\r\n")]
        head = assembled(made)
        self.assertEqual(fields(head), tuple(made))
        self.assertEqual(fields(bytes(bytearray(head))), tuple(made))

    @BOUNDED
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"A",
                    b"bc-D",
                    b":",
                    b" ",
                    b"\t",
                    b"\r\n",
                    b"\r",
                    b"\n",
                    b"\0",
                    b"\xe9",
                ]
            ),
            max_size=14,
        )
    )
    def test_line_by_line(self, pieces: list[bytes]) -> None:
        """The same is read, or refused, as when one goes through it line by line."""
        head = b"".join(pieces)
        try:
            found: object = [one.raw for one in fields(head)]
        except SyntaxFault:
            found = None
        self.assertEqual(found, _by_lines(head))

    def test_no_field(self) -> None:
        """A line that is no field is named by its number and shown."""
        for head, words in {
            b"From: a@b\r\nnonsense\x1b here\r\n": r"line 2 .*nonsense\\x1b here",
            b" folded: x\r\n": "line 1 ",
            b"A: b\r\n\r\nC: d\r\n": "line 2 ",
            b"From joe Mon Jan 1\r\n": "line 1 .*From joe",
            b": x\r\n": "line 1 ",
            b"N\xc3\xa4me: x\r\n": "line 1 ",
            b"A: b": "line 1 does not end",
            b"A: b\r\nC: d\ne: f\r\n": "line 2 holds",
            b"A: b\r\nC: d\re: f\r\n": "line 2 holds",
            b"A: b\0\r\n": "line 1 holds",
        }.items():
            with self.assertRaises(SyntaxFault) as caught:
                fields(head)
            self.assertRegex(str(caught.exception), words)
            self.assertTrue(str(caught.exception).isprintable())

    def test_excerpt_is_bounded(self) -> None:
        """A long wrong line does not make a long reply."""
        with self.assertRaises(SyntaxFault) as caught:
            fields(b"x" * 100_000 + b"\r\n")
        self.assertLess(len(str(caught.exception)), 200)

    def test_undecodable(self) -> None:
        """A value that is no UTF-8 can still be shown and stored."""
        self.assertEqual(Field("A", b"A: \xff\r\n").value, "\ufffd")


class AddressesTests(SynchronousTestCase):
    """Address lists."""

    def test_forms(self) -> None:
        """All the ways to write an address in a From field are read."""
        joe = Mailbox("joe", "x.example")
        for value in (
            "joe@x.example",
            "<joe@x.example>",
            "Joe Doe <joe@x.example>",
            'Joe "J." Doe <joe@x.example>',
            "Joe Q. Doe <joe@x.example>",
            '"Doe, Joe <boss@y.example>" <joe@x.example>',
            "=?utf-8?q?J=C3=B6?= <joe@x.example>",
            "Jö <joe@x.example>",
            "joe@x.example (Joe (the) Doe \\) @ home)",
            "(c) joe (c) @ (c) x . example",
            "<@a.example,@b.example:joe@x.example>",
            '"joe"@x.example',
            "joe@x.example,",
            ", joe@x.example,,",
        ):
            self.assertEqual(read(value), AddressList((joe,)), value)

    def test_several(self) -> None:
        """Several mailboxes are given in order."""
        listed = read('a@x.example, "B, C" <b@y.example> , c . d@[192.0.2.1]')
        wanted = ("a@x.example", "b@y.example", "c.d@[192.0.2.1]")
        self.assertEqual(tuple(map(str, listed.mailboxes)), wanted)

    def test_obsolete_quoted(self) -> None:
        """A local part half in quotes is read (RFC 5322 4.4)."""
        mailbox = Mailbox("a.b c.d", "x.example")
        self.assertEqual(read('a."b c".d@x.example').mailboxes, (mailbox,))

    def test_groups(self) -> None:
        """A group is noticed, its members are given."""
        listed = read("Friends: a@x.example, B <b@x.example>;, c@x.example")
        self.assertTrue(listed.has_group)
        self.assertEqual(len(listed.mailboxes), 3)
        self.assertEqual(
            read("Undisclosed recipients:;"), AddressList((), has_group=True)
        )

    def test_refused(self) -> None:
        """What two programs may read differently is refused, with a reason."""
        for value in (
            "joe",
            "Joe Doe",
            "Doe, Joe <joe@x.example>",
            "<>",
            "Joe <>",
            "joe@boss.example <joe@x.example>",
            "Joe [home] <joe@x.example>",
            "joe@x.example <boss@x.example",
            "<joe@x.example> trailing",
            "<joe@x.example> <boss@x.example>",
            "<joe@x.example><boss@x.example>",
            "<<joe@x.example>>",
            "joe@x.example>",
            "joe joe@x.example",
            "joe@x.example y.example",
            "joe@boss.example@x.example",
            "<joe@x.example, boss@x.example>",
            '"Joe <joe@x.example>',
            "(Joe <joe@x.example>",
            "Joe) <joe@x.example>",
            "Joe \\ <joe@x.example>",
            "a: b: joe@x.example;",
            "joe@x.example;",
            ": joe@x.example;",
            "joe@x_y.example",
            '"a\tb"@x.example',
            "joe@\ufffd.example",
            "=?utf-8?q?boss@x.example?= <joe@x.example>",
        ):
            fault = self.assertRaises(SyntaxFault, read, value)
            said = str(fault)
            self.assertTrue(said.isascii() and said.isprintable(), said)

    @BOUNDED
    @given(st.text(' ab@.<>,;:"\\()[]=?ä', max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text is read or refused; what is read can be written and read again."""
        try:
            listed = read(text)
        except SyntaxFault as fault:
            self.assertTrue(str(fault).isprintable())
        else:
            again = read(", ".join(f"<{mailbox}>" for mailbox in listed.mailboxes))
            self.assertEqual(again.mailboxes, listed.mailboxes)

    def test_linear(self) -> None:
        """Long nonsense takes linear work."""
        for start, piece in (
            ("", "("),
            ('"', "\\a"),
            ("", "<"),
            ("", "a "),
            ("", "@a:"),
        ):
            value = start + piece * 20_000
            self.assertRaises(SyntaxFault, read, value)
            self.assertTrue(grows_linearly(partial(self.refuse, start, piece)), piece)
        self.assertEqual(len(read("a@b.example," * 5000).mailboxes), 5000)
        self.assertTrue(grows_linearly(lambda size: read("a@b.example," * size)))

    def refuse(self, start: str, piece: str, times: int) -> None:
        """Read nonsense of a size."""
        self.assertRaises(SyntaxFault, read, start + piece * times)


class MakeTests(SynchronousTestCase):
    """Fields of our own."""

    def test_short(self) -> None:
        """A short ASCII field is one line."""
        made = make_field("Subject", "Hello")
        self.assertEqual(made, Field("Subject", b"Subject: Hello\r\n"))

    def test_injection(self) -> None:
        """No value can begin a line of its own."""
        made = make_field("Subject", "a\r\nBcc: b@c\0\x1b")
        self.assertEqual(made.raw, b"Subject: a Bcc: b@c\r\n")

    def test_folds(self) -> None:
        """A long value is folded at 78, and reads as before."""
        value = " ".join(f"word{number}" for number in range(100))
        made = make_field("X-Long", value)
        self.assertEqual(made.value, value)
        self.assertLessEqual(max(map(len, made.raw.split(b"\r\n"))), 78)
        self.assertEqual(fields(made.raw), (made,))

    def test_smtputf8(self) -> None:
        """With SMTPUTF8 the value stays as it is."""
        self.assertEqual(
            make_field("To", "jö@x", smtputf8=True).raw, "To: jö@x\r\n".encode()
        )

    @BOUNDED
    @given(st.lists(st.text("abö€\U0001f600=?_", min_size=1), min_size=1))
    def test_encoded_words(self, words: list[str]) -> None:
        """Non-ASCII text is ASCII on the wire and is shown as it was."""
        text = " ".join(words)
        if text.isascii() or "=?" in text:
            return
        made = make_field("Subject", text)
        self.assertTrue(made.raw.isascii())
        self.assertEqual(decoded(made), text)

    def test_neighbours(self) -> None:
        """White space beside words that were encoded already is kept."""
        before = "a =?utf-8?q?b?= ö c ä =?utf-8?q?d?= e"
        words = encoded_words(before)
        self.assertEqual(str(make_header(decode_header(words))), "a b ö c ä d e")

    def test_fold(self) -> None:
        """Folding changes only long lines and never makes a blank one."""
        short = b"A: b\r\n c\r\n"
        self.assertEqual(fold(short), short)
        for raw in (
            b"A: " + b"x" * 100 + b"\r\n",
            b"A: " + b" " * 200 + b"x" + b" " * 200 + b"\r\n",
            b"A : " + b"x " * 200 + b"\r\n",
            b"A: x\r\n " + b"y\t" * 200 + b"\r\n",
            b"A" * 60 + b" : " + b"x" * 60 + b"\r\n",
        ):
            folded = fold(raw)
            self.assertEqual(folded.replace(b"\r\n", b""), raw.replace(b"\r\n", b""))
            self.assertTrue(all(line.strip() for line in folded[:-2].split(b"\r\n")))
            self.assertEqual(fields(folded)[0].name, fields(raw)[0].name)

    def test_fold_is_linear(self) -> None:
        """Folding hostile fields takes linear work."""
        for unit in (b"x ", b" ", b" x" * 9 + b" " * 99):
            self.assertTrue(grows_linearly(partial(self.folded, unit)), unit)

    def folded(self, unit: bytes, times: int) -> bytes:
        """Fold a hostile field of a size."""
        return fold(b"A: " + unit * times + b"\r\n")
