"""What milters do to a header section."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.scan import Edit, EditKind
from fwd_mta.rules.edits import check_body, edited

HEAD = b"A: 1\r\nB: 2\r\na: 3\r\n"
ADD, INSERT, CHANGE = EditKind.ADD, EditKind.INSERT, EditKind.CHANGE


class EditedTests(SynchronousTestCase):
    """`edited` and `check_body`."""

    def test_edits(self) -> None:
        """Each kind of change, and what is beside the mark."""
        table = (
            (Edit(ADD, b"C", b" 4"), HEAD + b"C: 4\r\n"),
            (Edit(INSERT, b"C", b" 4", 0), b"C: 4\r\n" + HEAD),
            (Edit(INSERT, b"C", b" 4", 1), b"A: 1\r\nC: 4\r\nB: 2\r\na: 3\r\n"),
            (Edit(INSERT, b"C", b" 4", 99), HEAD + b"C: 4\r\n"),
            (Edit(CHANGE, b"A", b" x", 2), b"A: 1\r\nB: 2\r\nA: x\r\n"),
            (Edit(CHANGE, b"a", b"", 1), b"B: 2\r\na: 3\r\n"),
            (Edit(CHANGE, b"A", b" ", 3), HEAD),
            (Edit(CHANGE, b"C", b" 4", 1), HEAD + b"C: 4\r\n"),
        )
        for edit, expected in table:
            self.assertEqual(edited(HEAD, [edit]), expected, edit)

    def test_folded(self) -> None:
        """Lines of a value become folds, whatever ends them; none begins a field."""
        for end in (b"\n", b"\r\n", b"\r"):
            value = end.join((b" one", b"\ttwo", b"Bcc: x", b"", b"three "))
            head = edited(b"", [Edit(ADD, b"C", value)])
            self.assertEqual(head, b"C: one\r\n\ttwo\r\n\tBcc: x\r\n\tthree\r\n")

    def test_long(self) -> None:
        """A long line is folded where it can be."""
        head = edited(b"", [Edit(ADD, b"C", b" word" * 500)])
        self.assertLessEqual(max(map(len, head.split(b"\r\n"))), 998)

    def test_refused(self) -> None:
        """What must not leave is a fault, not a field."""
        for name, value in (
            (b"", b"x"),
            (b"A:", b"x"),
            (b"A B", b"x"),
            (b"A\r\nB", b"x"),
            (b"A", b"\0"),
            (b"A", b"x" * 100_000),
            (b"A", b"\xff"),
        ):
            with self.assertRaises(SyntaxFault):
                edited(HEAD, [Edit(ADD, name, value)])

    def test_bodies(self) -> None:
        """A body with bare line ends, NUL or long lines is none."""
        check_body(b"fine\r\n\r\n")
        for body in (b"a\nb", b"a\rb", b"\0", b"x" * 999 + b"\r\n"):
            with self.assertRaises(SyntaxFault):
                check_body(body)
