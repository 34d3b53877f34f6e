"""8-bit messages for 7-bit hosts: same content, other form, signed parts untouched."""

from email import message_from_bytes
from email.message import Message as Parsed

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.rules.seven_bit import in_seven_bits

FROM = b"From: ann@example.com\r\nSubject: hello\r\n"
UTF8 = "Hyvää yötä, Åke\r\n".encode()
MIXED = (
    FROM + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
)


def recoded(head: bytes, body: bytes) -> Parsed:
    """The message as its reader gets it; all of it ASCII in good lines."""
    found = in_seven_bits(head, body)
    assert found is not None
    whole = b"\r\n".join(found)
    assert whole.isascii()
    assert max(map(len, whole.split(b"\r\n"))) <= 998
    return message_from_bytes(whole)


def text(part: Parsed) -> bytes:
    """The content of a part, decoded."""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


class SevenBitTests(SynchronousTestCase):
    """What comes out reads as what went in."""

    def test_plain(self) -> None:
        """A bare message becomes MIME, and says its character set."""
        parsed = recoded(FROM, UTF8)
        self.assertEqual(text(parsed), UTF8)
        self.assertEqual(parsed.get_content_charset(), "utf-8")
        self.assertEqual(parsed["MIME-Version"], "1.0")

    def test_latin1(self) -> None:
        """What is no UTF-8 is called unknown-8bit (RFC 1428), and kept as it is."""
        parsed = recoded(FROM, b"P\xe4iv\xe4\xe4\r\n")
        self.assertEqual(text(parsed), b"P\xe4iv\xe4\xe4\r\n")
        self.assertEqual(parsed.get_content_charset(), "unknown-8bit")

    def test_declared(self) -> None:
        """A part that says what it is keeps its type; only its encoding changes."""
        head = FROM + (
            b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=iso-8859-1\r\n"
            b"Content-Transfer-Encoding: 8bit\r\n"
        )
        parsed = recoded(head, b"<p>P\xe4iv\xe4\xe4 means `good day` over there\r\n")
        self.assertEqual(parsed.get_content_type(), "text/html")
        self.assertEqual(parsed["Content-Transfer-Encoding"], "quoted-printable")
        self.assertEqual(
            parsed.get_all("Content-Type"), ["text/html; charset=iso-8859-1"]
        )

    def test_much_of_it(self) -> None:
        """Text in another script goes as base64, which is shorter."""
        body = "Добрый день, дорогие друзья\r\n".encode() * 20
        parsed = recoded(FROM, body)
        self.assertEqual(parsed["Content-Transfer-Encoding"], "base64")
        self.assertEqual(text(parsed), body)

    def test_parts(self) -> None:
        """Only the parts that need it change; the others stay byte for byte."""
        plain = b"Content-Type: text/plain\r\n\r\n  as it  was \t\r\n"
        body = (
            b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + UTF8 + b"\r\n"
            b"--b\r\n" + plain + b"\r\n--b\r\nContent-Type: image/png\r\n"
            b"Content-Transfer-Encoding: binary\r\n\r\n\x89PNG\xff\xfe\r\n--b--\r\n"
        )
        found = in_seven_bits(MIXED, body)
        assert found is not None
        self.assertIn(b"--b\r\n" + plain, found[1])
        _, first, _, image = message_from_bytes(b"\r\n".join(found)).walk()
        self.assertEqual(text(first), UTF8)
        self.assertEqual(text(image), b"\x89PNG\xff\xfe")
        self.assertIn(b"Content-Transfer-Encoding: 7bit", found[0])
        self.assertNotIn(b"8bit", found[0])

    def test_a_message_in_it(self) -> None:
        """A forwarded message is recoded inside, not encoded as a whole (RFC 2046)."""
        inner = b"Subject: in\r\n\r\n" + UTF8
        body = b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--b--\r\n"
        *_, message = recoded(MIXED, body).walk()
        self.assertEqual(text(message).rstrip(), UTF8.rstrip())

    def test_untouchable(self) -> None:
        """Signed or encrypted parts, a client's signature, 8-bit fields: no form."""
        signed = FROM + b"Content-Type: multipart/signed; boundary=b\r\n"
        part = b"--b\r\n\r\n" + UTF8 + b"--b--\r\n"
        nested = part.replace(
            b"\r\n\r\n", b"\r\nContent-Type: multipart/signed\r\n\r\n"
        )
        for head, body in (
            (signed, part),
            (MIXED, nested),
            (FROM + b"DKIM-Signature: v=1; d=example.com; s=x; b=\r\n", UTF8),
            (FROM + b"Content-Type: application/pkcs7-mime\r\n", UTF8),
            (FROM + b"Content-Transfer-Encoding: x-uu\r\n", UTF8),
            (b"From: \xc3\xa4@example.com\r\n", UTF8),
            (MIXED, b"--b\r\nSubject: \xe4\r\n\r\nhello\r\n--b--\r\n"),
            (MIXED, UTF8 + b"--b\r\n\r\nhello\r\n--b--\r\n"),
        ):
            self.assertIsNone(in_seven_bits(head, body), (head, body))

    def test_an_own_signature_goes(self) -> None:
        """It is for the old body; whoever has the key makes a new one."""
        head = b"DKIM-Signature: v=1; d=Example.com; s=fwd1; b=\r\n" + FROM
        found = in_seven_bits(head, UTF8, {("example.com", "fwd1")})
        assert found is not None
        self.assertNotIn(b"DKIM", found[0])

    def test_nests_too_deep(self) -> None:
        """No nesting costs more than its share of the stack."""
        body = UTF8
        for _ in range(40):
            body = b"Content-Type: message/rfc822\r\n\r\n" + body
        head, _, body = body.partition(b"\r\n\r\n")
        self.assertIsNone(in_seven_bits(head + b"\r\n", body))
