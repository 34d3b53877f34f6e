"""Tests of `fwd_mta.mail.address`: reading and writing mailboxes and paths."""

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.address import Mailbox, excerpt, parse_mailbox, parse_path
from fwd_mta.mail.errors import SyntaxFault
from tests.effort import lines_of
from tests.properties import given, settings, st

BOUNDED = settings(max_examples=200, deadline=None, derandomize=True, database=None)

LOCALS = st.text(
    st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("äé\u4e2dß"),
    max_size=60,
)
LABELS = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?", fullmatch=True)
DOMAINS = st.one_of(
    st.lists(LABELS, min_size=1, max_size=4)
    .map(".".join)
    .map(lambda d: d + ".example"),
    st.ip_addresses(v=4).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=6)
    .filter(lambda address: "%" not in str(address))
    .map(lambda address: f"[IPv6:{address}]"),
    st.sampled_from(["bücher.example", "straße.de", "xn--bcher-kva.example"]),
)


class ReadTests(SynchronousTestCase):
    """Paths as clients write them."""

    def test_plain(self) -> None:
        """A plain address in angle brackets is read as it stands."""
        self.assertEqual(parse_path("<Joe@Example.COM>"), Mailbox("Joe", "Example.COM"))

    def test_null(self) -> None:
        """The null path is None."""
        self.assertIsNone(parse_path("<>"))

    def test_postmaster(self) -> None:
        """Postmaster needs no domain, in any case of letters."""
        for text in ("<Postmaster>", "<postMASTER>"):
            self.assertEqual(parse_path(text), Mailbox("Postmaster", ""))
        self.assertEqual(str(Mailbox("Postmaster", "")), "Postmaster")

    def test_source_route(self) -> None:
        """A source route is dropped (RFC 5321 4.1.2)."""
        for text in ("<@a.example:u@d.example>", "<@a.example,@b.example:u@d.example>"):
            self.assertEqual(parse_path(text), Mailbox("u", "d.example"))

    def test_quoted(self) -> None:
        """Quotes and escapes are not part of what the local part means."""
        read = parse_path('<"a \\"b\\\\> @c"@d.example>')
        self.assertEqual(read, Mailbox('a "b\\> @c', "d.example"))
        self.assertEqual(parse_path('<"joe"@d.example>'), Mailbox("joe", "d.example"))
        self.assertEqual(str(Mailbox('a "b', "d.example")), '"a \\"b"@d.example')

    def test_literals(self) -> None:
        """Address literals of both families are read; the name in them is checked."""
        for domain in ("[192.0.2.1]", "[IPv6:2001:db8::1]", "[ipv6:::ffff:192.0.2.1]"):
            read = parse_path(f"<u@{domain}>")
            self.assertEqual(read, Mailbox("u", domain))
            self.assertTrue(Mailbox("u", domain).is_literal)

    def test_unusual_but_valid(self) -> None:
        """Odd addresses that real people have are taken."""
        for text in (
            "a+tag@d.example",
            "o'neil=x@d.example",
            "_@d.example",
            "a@localhost",
            "1@2.example",
            '""@d.example',
            f"{'l' * 200}@d.example",
        ):
            self.assertEqual(str(parse_path(f"<{text}>")), text)

    def test_refused(self) -> None:
        """What is outside the grammar is refused, and each fault says what it is."""
        for text, word in {
            "a@b": "angle brackets",
            "<a@b": "angle brackets",
            "<": "angle brackets",
            "<a>": "no @domain",
            "<a@>": "Empty label",
            "<@b>": "no local part",
            "<.a@b>": "no local part",
            "<a.@b>": "Unexpected '.'",
            "<a..b@c>": "Unexpected '.'",
            "<a b@c>": "Unexpected ' '",
            '<"a"b@c>': "Unexpected 'b'",
            '<"a@b>': "quotation mark",
            "<a@b..c>": "Empty label",
            "<a@.b>": "Empty label",
            "<a@b.>": "Empty label",
            "<a@-b>": "Hyphen",
            "<a@b->": "Hyphen",
            "<a@b!c>": "Character",
            "<a@b_c>": "Character",
            '<a@"b c">': "Character",
            "<a@b@c>": "Character",
            f"<a@{'b' * 64}>": "63 octets",
            f"<a@{'b.' * 130}c>": "255 octets",
            f"<{'a' * 511}@b>": "512 octets",
            "<a@1.2.3.4>": "in brackets",
            "<a@[1.2.3]>": "literal",
            "<a@[1.2.3.4>": "literal",
            "<a@[>": "literal",
            "<a@[IPv6:1.2.3.4]>": "literal",
            "<a@[IPv6:fe80::1%eth0]>": "literal",
            "<a@[x-tag:1]>": "literal",
        }.items():
            fault = self.assertRaises(SyntaxFault, parse_path, text)
            self.assertIn(word, str(fault), text)

    def test_control_characters(self) -> None:
        """CR, LF, NUL and other controls never get into an address, quoted or not."""
        for bad in "\r\n\0\t\x1b\x7f\x85\u2028\ud800\ufffd":
            for text in (
                f'<"a{bad}b"@c>',
                f"<a{bad}@c>",
                f"<a@c{bad}>",
                f"<a@[{bad}]>",
            ):
                with self.assertRaises(SyntaxFault) as caught:
                    parse_path(text, smtputf8=True)
                said = str(caught.exception)
                self.assertTrue(said.isascii() and said.isprintable(), repr(said))

    def test_smtputf8(self) -> None:
        """Non-ASCII local parts and domains are read with SMTPUTF8 only."""
        for text in ("<jörg@example.com>", "<j@bücher.example>", '<"ö"@x.example>'):
            fault = self.assertRaises(SyntaxFault, parse_path, text)
            self.assertIn("SMTPUTF8", str(fault))
            read = parse_path(text, smtputf8=True)
            self.assertFalse(read is None or read.is_ascii)

    def test_u_labels(self) -> None:
        """A U-label that hides a dot, a slash or an emoji is refused."""
        for domain in ("a\uff0eb.example", "a\u2100b.example", "\U0001f4a9.example"):
            self.assertRaises(SyntaxFault, parse_mailbox, f"a@{domain}")

    def test_linear(self) -> None:
        """Long nonsense is refused before it is looked at piece by piece."""
        for text in (
            "<" + "a." * 100_000 + "@b>",
            "<" + "@a," * 70_000 + ">",
            '<"' + "\\" * 200_001 + "@b>",
            "<a@" + "b." * 100_000 + ">",
        ):
            refused = partial(self.assertRaises, SyntaxFault, parse_path, text)
            self.assertLess(lines_of(refused), 500)


class WriteTests(SynchronousTestCase):
    """Mailboxes compared and written."""

    def test_key(self) -> None:
        """Two ways to write one mailbox have one key."""
        for one, other in (
            ("Joe@Example.com", "joe@example.COM"),
            ("joe@BÜCHER.example", "JOE@xn--bcher-kva.example"),
            ("a@[IPv6:2001:DB8:0::1]", "a@[ipv6:2001:db8::1]"),
        ):
            self.assertEqual(parse_mailbox(one).key, parse_mailbox(other).key)
        self.assertNotEqual(
            Mailbox("a", "straße.de").key, Mailbox("a", "strasse.de").key
        )

    def test_wire_domain(self) -> None:
        """U-labels become A-labels for a hop without SMTPUTF8."""
        mailbox = Mailbox("joe", "bücher.example")
        self.assertEqual(mailbox.wire_domain, "xn--bcher-kva.example")
        self.assertEqual(str(mailbox.as_ascii), "joe@xn--bcher-kva.example")
        self.assertFalse(mailbox.is_ascii)
        self.assertTrue(mailbox.as_ascii.is_ascii)
        self.assertFalse(Mailbox("jörg", "bücher.example").as_ascii.is_ascii)

    def test_key_of_anything(self) -> None:
        """Asking for the key of a domain that no parser saw does not fail."""
        for domain in ("", "[", "[ipv6:x]", "*", "\u3002", "ä" * 300):
            self.assertEqual(Mailbox("A", domain).key[0], "a")

    @BOUNDED
    @given(LOCALS, DOMAINS)
    def test_round_trip(self, local: str, domain: str) -> None:
        """What is written is read back as the same mailbox."""
        mailbox = Mailbox(local, domain)
        self.assertEqual(parse_mailbox(str(mailbox)), mailbox)
        self.assertEqual(parse_path(f"<{mailbox}>", smtputf8=True), mailbox)

    @BOUNDED
    @given(st.text(max_size=80))
    def test_any_text(self, text: str) -> None:
        """Any text is read or refused in printable ASCII; what is read is stable."""
        try:
            read = parse_mailbox(text)
        except SyntaxFault as fault:
            self.assertTrue(str(fault).isascii() and str(fault).isprintable())
        else:
            self.assertEqual(parse_mailbox(str(read)), read)

    def test_excerpt(self) -> None:
        """An excerpt is bounded and shows control characters as escapes."""
        self.assertEqual(excerpt("a\r\nb"), "a\\r\\nb")
        self.assertEqual(len(excerpt("x" * 1000)), 60)
        self.assertLessEqual(len(excerpt("\U0001f4a9" * 1000)), 60)
