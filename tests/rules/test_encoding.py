"""Tests of `fwd_mta.rules.encoding`: long lines mended, raw UTF-8 encoded."""

from base64 import b64encode
from email import message_from_bytes, policy
from email.message import EmailMessage

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import addresses, fields
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.encoding import (
    encode_header,
    fit,
    longest_line,
    quoted_printable,
)
from tests.effort import lines_of
from tests.properties import given, settings, st

BOUNDED = settings(max_examples=200, deadline=None, derandomize=True, database=None)

LONG = b"0123456789" * 120
TEXT = b"Hello\r\n.\r\n" + LONG + b" \r\n\xc3\xa4 = \t\r\n--b\r\n"
MULTIPART = (
    b"From: a@b\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; name="; boundary=x"; boundary="b"\r\n'
)


def fitted(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Fit a message that can be fitted; check what must be true of any such."""
    result = fit(head, body)
    assert not isinstance(result, Reply), result
    assert max(longest_line(part) for part in result) <= 998
    return result


def parsed(head: bytes, body: bytes) -> EmailMessage:
    """Read a message with an independent parser."""
    message = message_from_bytes(head + b"\r\n" + body, policy=policy.SMTP)
    assert isinstance(message, EmailMessage)
    return message


def content(part: object) -> bytes:
    """A leaf's octets, decoded."""
    assert isinstance(part, EmailMessage)
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    return octets


class LongestLineTests(SynchronousTestCase):
    """Counting."""

    @BOUNDED
    @given(st.lists(st.integers(0, 30)), st.integers(0, 20))
    def test_any(self, lengths: list[int], at_least: int) -> None:
        """The longest line is found, whatever the order."""
        data = b"\r\n".join(b"x" * length for length in lengths)
        wanted = max([at_least, *lengths])
        self.assertEqual(longest_line(data, at_least), wanted)
        self.assertEqual(longest_line(data + b"\r\n", at_least), wanted)

    def test_fast(self) -> None:
        """Short lines are skipped by a thousand octets at a time, not one by one."""
        data = (b"x" * 76 + b"\r\n") * 13_000
        self.assertLess(lines_of(lambda: longest_line(data, 998)), 13_000)
        self.assertEqual(longest_line(data, 998), 998)


class FitTests(SynchronousTestCase):
    """Long lines."""

    def refused(self, head: bytes, body: bytes, *words: str) -> None:
        """Check that a message is refused in these words."""
        reply = fit(head, body)
        assert isinstance(reply, Reply), reply
        self.assertEqual((reply.code, reply.status), (550, "5.6.0"))
        for word in words:
            self.assertIn(word, reply.text)
        self.assertTrue(reply.text.isascii() and reply.text.isprintable())

    def test_nothing_to_do(self) -> None:
        """What fits is not touched, 998 octets included, signed or not."""
        head, body = b"A: " + b"x" * 995 + b"\r\nDKIM-Signature: x\r\n", b"x" * 998
        self.assertEqual(fit(head, body), (head, body))
        odd = b"no header at all\r\n", b""
        self.assertEqual(fit(*odd), odd)

    def test_plain_text(self) -> None:
        """A text without MIME becomes quoted-printable and reads as before."""
        head, body = fitted(b"From: a@b\r\nSubject: x\r\n", TEXT)
        self.assertTrue(
            head.startswith(b"From: a@b\r\nSubject: x\r\nMIME-Version: 1.0")
        )
        read = parsed(head, body)
        self.assertEqual(read["Content-Transfer-Encoding"], "quoted-printable")
        self.assertEqual(read.get_content_charset(), "utf-8")
        self.assertEqual(content(read), TEXT)
        self.assertTrue(body.isascii())

    def test_unknown_charset(self) -> None:
        """8-bit text of no known charset is labelled so, and kept."""
        head, body = fitted(b"From: a@b\r\n", b"\xff" + LONG)
        self.assertIn(b"charset=unknown-8bit", head)
        self.assertFalse(body.endswith(b"\r\n"))

    def test_declared_text(self) -> None:
        """A declared text keeps its type; its old encoding is replaced."""
        mime = b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=iso-8859-1\r\n"
        head, body = fitted(mime + b"Content-Transfer-Encoding: 8bit\r\nX: y\r\n", TEXT)
        new = b"X: y\r\nContent-Transfer-Encoding: quoted-printable\r\n"
        self.assertEqual(head, mime + new)
        self.assertEqual(content(parsed(head, body)), TEXT)

    def test_other_types(self) -> None:
        """What is no text becomes base64, byte for byte."""
        head, body = fitted(b"Content-Type: application/json\r\n", TEXT)
        self.assertIn(b"Content-Transfer-Encoding: base64\r\n", head)
        self.assertEqual(content(parsed(head, body)), TEXT)

    def test_base64(self) -> None:
        """Long base64 is wrapped again; what it says stays."""
        head = b"Content-Type: image/png\r\nContent-Transfer-Encoding: BASE64\r\n"
        new, body = fitted(head, b64encode(TEXT) + b"\r\n")
        self.assertEqual(new, head)
        self.assertEqual(longest_line(body), 76)
        self.assertEqual(content(parsed(head, body)), TEXT)

    def test_quoted_printable(self) -> None:
        """Long lines in quoted-printable are broken softly; what they say stays."""
        head = (
            b"Content-Type: text/plain\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n"
        )
        new, body = fitted(head, LONG + b"=C3=A4=\r\nx=3D\r\n")
        self.assertEqual(new, head)
        self.assertEqual(content(parsed(head, body)), LONG + b"\xc3\xa4x=\r\n")

    def test_multipart(self) -> None:
        """Only the part that needs it is changed, at any depth."""
        short = b"--b\r\nContent-Type: text/plain\r\n\r\nshort\r\n"
        inner = (
            b"--b\r\nContent-Type: multipart/alternative; boundary=b.1\r\n\r\n"
            b"--b.1\r\n\r\n"
            + LONG
            + b"\r\n--b.1\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b.1--\r\n"
        )
        body = b"preamble\r\n" + short + inner + short + b"--b--\r\nepilogue\r\n"
        head, new = fitted(MULTIPART, body)
        self.assertEqual(head, MULTIPART)
        self.assertTrue(new.startswith(b"preamble\r\n" + short))
        self.assertTrue(new.endswith(short + b"--b--\r\nepilogue\r\n"))
        leaves = [part for part in parsed(head, new).walk() if not part.is_multipart()]
        self.assertEqual(len(leaves), 4)
        self.assertEqual(content(leaves[1]), LONG)
        self.assertEqual(content(leaves[2]), b"<p>")

    def test_no_closing_delimiter(self) -> None:
        """A multipart that its program forgot to close is mended all the same."""
        _, body = fitted(MULTIPART, b"--b\r\n\r\n" + LONG + b"\r\n")
        self.assertIn(b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n", body)

    def test_no_new_boundary(self) -> None:
        """No soft break makes a line that looks like a boundary."""
        body = b"--b\r\n\r\n" + b"x" * 72 + b"--b" * 400 + b"\r\n--b--\r\n"
        head, new = fitted(MULTIPART, body)
        self.assertEqual(len(list(parsed(head, new).iter_parts())), 1)
        self.assertLessEqual(longest_line(new), 76)

    def test_nested_message(self) -> None:
        """A forwarded message is mended inside, since it may not be encoded itself."""
        body = b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\n" + LONG
        head, new = fitted(MULTIPART, body + b"\r\n--b--\r\n")
        inner = (
            b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
            b"Subject: in\r\nMIME-Version: 1.0\r\n"
        )
        self.assertTrue(new.startswith(inner))
        leaf = list(parsed(head, new).walk())[-1]
        self.assertEqual(content(leaf), LONG)

    def test_header_is_folded(self) -> None:
        """Long header fields are folded at white space, others stay as they are."""
        head = (
            b"From: a@b\r\nTo: " + b"someone@x.example, " * 100 + b"a@b\r\nX:  y \r\n"
        )
        new, _ = fitted(head, b"")
        self.assertTrue(new.startswith(b"From: a@b\r\nTo: someone"))
        self.assertTrue(new.endswith(b"\r\nX:  y \r\n"))
        self.assertEqual(addresses(fields(new)[1]), addresses(fields(head)[1]))

    def test_header_that_cannot_fold(self) -> None:
        """A field without white space is named."""
        head = b"From: a@b\r\nX-Data: a\r\n " + LONG + b"\r\n"
        self.refused(head, b"", "Line 3 ", "X-Data field", "white space")

    def test_signed(self) -> None:
        """Signed and encrypted parts are never touched: line and cure are named."""
        for media_type in (
            b"multipart/signed; boundary=s",
            b"Multipart/Encrypted; boundary=s",
            b"application/pkcs7-mime; smime-type=enveloped-data",
            b"application/x-pkcs7-mime",
        ):
            head = b"Content-Type: " + media_type + b"\r\n"
            words = ("Line 5 ", "signed or encrypted", "before it signs")
            self.refused(head, b"a\r\n\r\n" + LONG + b"\r\n", *words)
            part = b"--b\r\n" + head + b"\r\n" + LONG + b"\r\n--b--\r\n"
            self.refused(MULTIPART, part, "Line 8 ", "signed or encrypted")

    def test_part_beside_a_signed_one(self) -> None:
        """Beside a long line that is mended, a signed part is not touched."""
        signed = (
            b"--b\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n"
            b"--s\r\n\r\n = \r\n"
            b"--s--\r\n"
        )
        body = signed + b"--b\r\n\r\n" + LONG + b"\r\n--b--\r\n"
        _, new = fitted(MULTIPART, body)
        self.assertTrue(new.startswith(signed))

    def test_client_signature(self) -> None:
        """A client's DKIM-Signature is not broken: the message is refused."""
        head = b"From: a@b\r\nDKIM-Signature: x\r\n"
        self.refused(head, b"\r\n" + LONG, "Line 5 ", "signed")
        self.refused(
            head + b"To: " + b"a@b, " * 300 + b"\r\n", b"", "Line 3 ", "signed"
        )

    def test_refused(self) -> None:
        """What cannot be mended is refused with the number of the line."""
        for head, body, words in (
            (
                MULTIPART,
                LONG + b"\r\n--b\r\n\r\nx\r\n--b--\r\n",
                ("Line 5 ", "outside"),
            ),
            (MULTIPART, b"--b\r\n\r\nx\r\n--b--\r\n" + LONG, ("Line 9 ", "outside")),
            (MULTIPART, b"--b\r\n" + LONG + b"\r\n--b--\r\n", ("Line 6 ",)),
            (
                MULTIPART,
                b"--b\r\nX: " + LONG + b"\r\n\r\n\r\n--b--",
                ("Line 6 ", "X field"),
            ),
            (
                MULTIPART,
                b"--b\r\nnone\r\n\r\n" + LONG + b"\r\n--b--",
                ("after line 5",),
            ),
            (b"Content-Type: multipart/mixed\r\n", LONG, ("Line 3 ", "outside")),
            (b"Content-Transfer-Encoding: x-uue\r\n", LONG, ("Line 3 ", "x-uue")),
            (b"Content-Type: message/partial\r\n", LONG, ("message/partial",)),
            (b"none\r\n", LONG, ("line 1 is no header field",)),
        ):
            self.refused(head, body, *words)

    def test_nested_too_deep(self) -> None:
        """A message of a thousand nested parts costs no stack and little time."""
        head, body = b"", LONG
        for depth in range(1000):
            boundary = b"b%d" % depth
            body = b"--" + boundary + b"\r\n" + head + b"\r\n" + body
            head = b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n"
        self.refused(head, body, "nested too deep")

    @BOUNDED
    @given(st.binary(max_size=300))
    def test_quoted_printable_of_anything(self, data: bytes) -> None:
        """Any octets come back out of quoted-printable, in lines of at most 76."""
        read = message_from_bytes(
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
            + quoted_printable(data)
        )
        self.assertEqual(read.get_payload(decode=True), data)
        self.assertLessEqual(longest_line(quoted_printable(data)), 76)
        self.assertTrue(quoted_printable(data).isascii())


class EncodeHeaderTests(SynchronousTestCase):
    """Raw UTF-8 in header sections."""

    def encoded(self, text: str) -> EmailMessage:
        """Encode, check that it is ASCII, and read it with an independent parser."""
        head = encode_header(text.encode())
        assert isinstance(head, bytes), head
        self.assertTrue(head.isascii())
        self.assertLessEqual(longest_line(head), 78)
        return parsed(head, b"")

    def refused(self, head: bytes, *words: str) -> None:
        """Check that it is refused in these words."""
        reply = encode_header(head)
        assert isinstance(reply, Reply), reply
        self.assertEqual((reply.code, reply.status), (550, "5.6.0"))
        for word in words:
            self.assertIn(word, reply.text)
        self.assertTrue(reply.text.isascii())

    def test_ascii(self) -> None:
        """An ASCII section is not touched."""
        head = b"Subject:  x \r\nnonsense"
        self.assertIs(encode_header(head), head)

    def test_unstructured(self) -> None:
        """A Subject is shown as it was written."""
        subject = "Päivää ja öitä, " * 20 + "loppu"
        read = self.encoded(f"From: a@b\r\nSubject: {subject}\r\nX-Other: y\r\n")
        self.assertEqual(read["Subject"], subject)
        self.assertEqual(read["X-Other"], "y")

    def test_names(self) -> None:
        """Display names, quoted or not, are encoded; addresses stay."""
        read = self.encoded(
            'From: "Doe, Jörg \\"J\\"" <j@x.example>\r\n'
            "To: Äiti <a@x.example>, b@x.example, Öljy (työ) Oy <c@x.example>\r\n"
            "Cc: Jäsenet: d@x.example;\r\n"
        )
        self.assertEqual(read["From"].addresses[0].display_name, 'Doe, Jörg "J"')
        self.assertEqual(read["From"].addresses[0].addr_spec, "j@x.example")
        specs = [address.addr_spec for address in read["To"].addresses]
        self.assertEqual(specs, ["a@x.example", "b@x.example", "c@x.example"])
        self.assertEqual(read["To"].addresses[0].display_name, "Äiti")
        self.assertEqual(read["Cc"].groups[0].display_name, "Jäsenet")

    def test_comments(self) -> None:
        """A comment behind an address is encoded in its parentheses."""
        head = encode_header("From: a@x.example (Jörg (x))\r\n".encode())
        self.assertEqual(head, b"From: a@x.example (=?utf-8?b?SsO2cmcgKHgp?=)\r\n")

    def test_untouched_fields(self) -> None:
        """Only the fields that need it are written anew."""
        head = "A:  b \r\n\tc\r\nSubject: ä\r\n".encode()
        written = encode_header(head)
        self.assertEqual(written, b"A:  b \r\n\tc\r\nSubject: =?utf-8?b?w6Q=?=\r\n")

    def test_client_signed(self) -> None:
        """A message that its client signed is left alone."""
        head = "DKIM-Signature: x\r\nSubject: ä\r\n".encode()
        self.assertEqual(encode_header(head), head)

    def test_refused(self) -> None:
        """8-bit octets that no one can read are refused; field and line are named."""
        for head, words in (
            (b"A: b\r\n c\r\nSubject: \xe4\r\n", ("Subject field", "line 3", "UTF-8")),
            ("Message-ID: <ä@x>\r\n".encode(), ("Message-ID field", "not allowed")),
            ("From: jörg@x.example\r\n".encode(), ("From field", "SMTPUTF8")),
            ("From: J <jörg@x.example>\r\n".encode(), ("From field", "SMTPUTF8")),
            ("From: J <j@bücher.example>\r\n".encode(), ("From field", "SMTPUTF8")),
            ('From: "jörg"@x.example\r\n'.encode(), ("From field", "SMTPUTF8")),
            ('To: "jörg\r\n'.encode(), ("To field", "Unexpected")),
            ("nönsense\r\n".encode(), ("line 1",)),
        ):
            self.refused(head, *words)

    @BOUNDED
    @given(st.text('aö ()<>@,.:;"\\=?', max_size=30))
    def test_any_name(self, name: str) -> None:
        """Encoding never changes the addresses of a field."""
        head = f"From: {name} <j@x.example>\r\n".encode()
        written = encode_header(head)
        try:
            before = addresses(fields(head)[0])
        except SyntaxFault:  # refused before anything is encoded
            return
        if isinstance(written, bytes):
            self.assertTrue(written.isascii())
            self.assertEqual(addresses(fields(written)[0]), before)
