"""What the sender is told."""

from collections.abc import Iterable
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from quopri import decodestring

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import (
    Action,
    Category,
    DeliveryResult,
    Notice,
    NoticeKind,
    QueueEntry,
    Stage,
    Standing,
    StandingState,
)
from fwd_mta.mail.envelope import Body, Envelope, Notify, Recipient, Ret
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.dsn import compose, wants
from tests.builders import DELIVERED, REFUSED, T0, diagnosis, entry, recipient

HEAD = b"From: ann@example.com\r\nSubject: Hello\r\nMessage-ID: <m1@example.com>\r\n"
NOW = T0 + 60


def with_standings(
    known: QueueEntry,
    result: DeliveryResult | None = REFUSED,
    state: StandingState = StandingState.FAILED,
    next_attempt_at: float = T0,
) -> QueueEntry:
    """The entry, each of its recipients tried once with that result."""
    standings = tuple(
        Standing(
            one,
            next_attempt_at,
            state,
            attempts=1,
            last=replace(result, recipient=one) if result else None,
        )
        for one in known.envelope.recipients
    )
    return replace(known, standings=standings)


class Written:
    """A notice as the sender's mail program reads it."""

    def __init__(
        self,
        about: QueueEntry,
        kind: NoticeKind = NoticeKind.FAILED,
        head: bytes = HEAD,
        body: bytes | None = None,
        *,
        boundary: str = "boundary",
        until: float | None = None,
        help_url: str = "",
        contact: str = "",
    ) -> None:
        notice = Notice("N1", kind, about.envelope.recipients)
        self.envelope, self.head, self.body = compose(
            about,
            notice,
            head,
            body,
            hostname="mail.example.com",
            now=NOW,
            boundary=boundary,
            message_id="n1@mail.example.com",
            help_url=help_url,
            contact=contact,
            until=until,
        )
        self.octets = self.head + b"\r\n" + self.body
        read = message_from_bytes(self.octets, policy=policy.default)
        assert isinstance(read, EmailMessage)
        self.message = read
        parts = list(read.iter_parts())
        assert all(isinstance(part, EmailMessage) for part in parts)
        self.parts: list[EmailMessage] = [
            part for part in parts if isinstance(part, EmailMessage)
        ]

    @property
    def text(self) -> str:
        """The part for people."""
        return str(self.parts[0].get_content())

    @property
    def flowing(self) -> str:
        """The part for people without its line breaks."""
        return " ".join(self.text.split())

    @property
    def groups(self) -> list[dict[str, str]]:
        """The field groups of the part for programs, unfolded."""
        payload = self.parts[1].get_payload()
        assert isinstance(payload, list)
        return [
            {
                name: " ".join(str(value).split())
                for name, value in group.items()
                if name != "Content-Type"
            }
            for group in payload
            if not isinstance(group, str)
        ]


def lines(data: bytes) -> Iterable[bytes]:
    """Its lines, which all end in CRLF."""
    assert data.endswith(b"\r\n")
    return data[:-2].split(b"\r\n")


class WantsTests(SynchronousTestCase):
    """Whether a notice may be sent at all."""

    def test_unasked(self) -> None:
        """Without NOTIFY, failure and delay are told, success is not."""
        told = {kind for kind in NoticeKind if wants(entry(), kind, recipient())}
        self.assertEqual(told, {NoticeKind.FAILED, NoticeKind.DELAYED})

    def test_notify(self) -> None:
        """NOTIFY decides; NEVER forbids all (RFC 3461 4.1)."""
        for notify, kinds in (
            ((Notify.NEVER,), set()),
            ((Notify.FAILURE,), {NoticeKind.FAILED}),
            ((Notify.DELAY,), {NoticeKind.DELAYED}),
            ((Notify.SUCCESS,), {NoticeKind.DELIVERED, NoticeKind.RELAYED}),
        ):
            asked = recipient()._replace(notify=notify)
            told = {kind for kind in NoticeKind if wants(entry(), kind, asked)}
            self.assertEqual(told, kinds)

    def test_null_reverse_path(self) -> None:
        """Nobody is told about mail without a sender (RFC 5321 4.5.5)."""
        known = entry(sender=None)
        self.assertFalse(wants(known, NoticeKind.FAILED, recipient()))

    def test_notice_about_a_notice(self) -> None:
        """A notice that fails ends there."""
        known = replace(entry(), cause="P1")
        self.assertFalse(wants(known, NoticeKind.FAILED, recipient()))

    def test_mailer_daemon(self) -> None:
        """A mailer-daemon, ours or another's, is told nothing."""
        for sender in ("MAILER-DAEMON@mail.example.com", "Mailer-Daemon@example.net"):
            known = entry(sender=sender)
            self.assertFalse(wants(known, NoticeKind.FAILED, recipient()))

    def test_nobody_to_tell(self) -> None:
        """Composing for a null reverse-path is a mistake that is not sent."""
        known = with_standings(entry(sender=None))
        self.assertRaises(ValueError, Written, known)


class EnvelopeTests(SynchronousTestCase):
    """The outside of a notice."""

    @override
    def setUp(self) -> None:
        """A failure of one recipient."""
        self.written = Written(with_standings(entry()))

    def test_envelope(self) -> None:
        """Null reverse-path, to the sender, and never a notice about it."""
        self.assertEqual(
            self.written.envelope,
            Envelope(
                None,
                (Recipient(Mailbox("ann", "example.com"), notify=(Notify.NEVER,)),),
            ),
        )

    def test_fields(self) -> None:
        """The header says from whom, to whom, about what, and that no person wrote."""
        expected = {
            "From": "Mail Delivery System <MAILER-DAEMON@mail.example.com>",
            "To": "ann@example.com",
            "Subject": "Undeliverable: your message to bob@example.net",
            "Message-ID": "<n1@mail.example.com>",
            "In-Reply-To": "<m1@example.com>",
            "References": "<m1@example.com>",
            "Auto-Submitted": "auto-replied",
            "MIME-Version": "1.0",
            "Date": "Fri, 15 Jan 2027 08:01:00 +0000",
        }
        message = self.written.message
        found = {name: str(message[name]).strip("<>") for name in expected}
        self.assertEqual(
            found, {name: value.strip("<>") for name, value in expected.items()}
        )

    def test_structure(self) -> None:
        """multipart/report of three parts (RFC 6522)."""
        message = self.written.message
        self.assertEqual(message.get_content_type(), "multipart/report")
        self.assertEqual(message.get_param("report-type"), "delivery-status")
        self.assertEqual(
            [part.get_content_type() for part in self.written.parts],
            ["text/plain", "message/delivery-status", "text/rfc822-headers"],
        )
        self.assertEqual(message.defects, [])

    def test_subjects(self) -> None:
        """The subject says what happened, and to how many."""
        two = entry("bob@example.net", "eve@example.org")
        for kind, known, words in (
            (
                NoticeKind.DELAYED,
                entry(),
                "Delayed, still trying: your message to bob@",
            ),
            (NoticeKind.DELIVERED, entry(), "Delivered: your message to bob@"),
            (NoticeKind.RELAYED, entry(), "Passed on: your message to bob@"),
            (NoticeKind.FAILED, two, "Undeliverable: your message to 2 recipients"),
        ):
            written = Written(with_standings(known), kind)
            self.assertIn(words, str(written.message["Subject"]))

    def test_message_id_that_is_none(self) -> None:
        """A Message-ID that could break our header is left out."""
        for text in ("", "<a b>", "<a>\r\nBcc: eve@example.org", "no brackets", "<é>"):
            written = Written(with_standings(replace(entry(), message_id=text)))
            self.assertNotIn("In-Reply-To", written.message)
            self.assertNotIn("Bcc", written.message)


class TextTests(SynchronousTestCase):
    """The part for people."""

    def test_failure(self) -> None:
        """It says what happened, in whose words, and what to do."""
        result = replace(
            REFUSED,
            reply=Reply(550, "1.1", "User unknown"),
            diagnosis=replace(
                diagnosis(Action.REJECT, Category.RECIPIENT), message="No such mailbox."
            ),
            host="mx.example.net[192.0.2.1]:25",
        )
        written = Written(
            with_standings(entry(), result),
            help_url="https://mail.example.com/help",
            contact="postmaster@example.com",
        )
        for words in (
            "Your message of Fri, 15 Jan 2027 08:00:00 +0000 could not be delivered",
            "It will not be tried again.",
            "<bob@example.net>",
            "No such mailbox.",
            "The other side, mx.example.net[192.0.2.1]:25, said:",
            "550 5.1.1 User unknown",
            "What you can do: Check the address",
            "Help: https://mail.example.com/help",
            "Contact: postmaster@example.com",
            "0123456789bcdfgh",
        ):
            self.assertIn(words, written.flowing)

    def test_delay(self) -> None:
        """It says until when it is tried, when next, and that nothing is to be done."""
        known = with_standings(
            entry(), state=StandingState.OPEN, next_attempt_at=NOW + 600
        )
        written = Written(known, NoticeKind.DELAYED, until=T0 + 432000)
        for words in (
            "You need not send it again",
            "keeps trying until Wed, 20 Jan 2027 08:00:00 +0000.",
            "Next try: Fri, 15 Jan 2027 08:11:00 +0000",
        ):
            self.assertIn(words, written.flowing)
        self.assertNotIn("What you can do", written.text)

    def test_expiry(self) -> None:
        """It says that the time is over, and the last words heard."""
        known = with_standings(entry(), state=StandingState.EXPIRED)
        written = Written(known)
        self.assertIn("The time allowed for it is over (tries: 1).", written.flowing)
        self.assertIn("550 5.1.1 No", written.flowing)

    def test_success(self) -> None:
        """Delivered and passed on are told apart."""
        known = with_standings(entry(), DELIVERED, StandingState.DELIVERED)
        self.assertIn("was delivered", Written(known, NoticeKind.DELIVERED).flowing)
        passed_on = Written(known, NoticeKind.RELAYED).flowing
        self.assertIn("does not report back", passed_on)

    def test_every_category_has_an_advice(self) -> None:
        """A failure of any category ends in something to do."""
        for category in Category:
            result = replace(REFUSED, diagnosis=diagnosis(Action.REJECT, category))
            written = Written(with_standings(entry(), result))
            self.assertIn("What you can do: ", written.flowing)

    def test_line_length(self) -> None:
        """Our own lines are at most 78 long, whatever the words."""
        result = replace(REFUSED, reply=Reply(550, "1.1", "words of theirs " * 40))
        written = Written(with_standings(entry(*["bob@example.net"] * 3), result))
        longest = max(len(line) for line in written.text.split("\n"))
        self.assertLessEqual(longest, 78)


class StatusTests(SynchronousTestCase):
    """The part for programs (RFC 3464)."""

    def test_failure(self) -> None:
        """All fields of a failure, ENVID and ORCPT decoded."""
        asked = recipient()._replace(orcpt="rfc822;bob+2Btag@example.org")
        known = entry(asked)
        known = replace(known, envelope=replace(known.envelope, envid="QQ+2B314"))
        result = replace(
            REFUSED,
            host="mx.example.net[192.0.2.1]:25",
            reply=Reply(550, "1.1", "User unknown\nhere"),
            diagnosis=replace(diagnosis(Action.REJECT), status="5.1.1"),
        )
        written = Written(with_standings(known, result))
        self.assertEqual(
            written.groups,
            [
                {
                    "Original-Envelope-Id": "QQ+314",
                    "Reporting-MTA": "dns; mail.example.com",
                    "Arrival-Date": "Fri, 15 Jan 2027 08:00:00 +0000",
                },
                {
                    "Original-Recipient": "rfc822; bob+tag@example.org",
                    "Final-Recipient": "rfc822; bob@example.net",
                    "Action": "failed",
                    "Status": "5.1.1",
                    "Remote-MTA": "dns; mx.example.net",
                    "Diagnostic-Code": "smtp; 550 5.1.1 User unknown here",
                    "Last-Attempt-Date": "Fri, 15 Jan 2027 08:01:00 +0000",
                    "Final-Log-ID": "0123456789bcdfgh",
                },
            ],
        )

    def test_delay(self) -> None:
        """A delay has a 4.x.x status, even after a 5yz, and says until when."""
        result = replace(
            REFUSED,
            reply=Reply(552, "2.2", "Full"),
            diagnosis=replace(diagnosis(), status="5.2.2"),
        )
        known = with_standings(entry(), result, StandingState.OPEN)
        group = Written(known, NoticeKind.DELAYED, until=T0 + 432000).groups[1]
        self.assertEqual(group["Action"], "delayed")
        self.assertEqual(group["Status"], "4.2.2")
        self.assertEqual(group["Will-Retry-Until"], "Wed, 20 Jan 2027 08:00:00 +0000")

    def test_failure_has_no_retry_time(self) -> None:
        """Will-Retry-Until stands in delays only (RFC 3464 2.3.9)."""
        written = Written(with_standings(entry()), until=T0 + 432000)
        self.assertNotIn("Will-Retry-Until", written.groups[1])

    def test_expiry(self) -> None:
        """Expired mail is 4.4.7 with the last words heard (RFC 3463 X.4.7)."""
        group = Written(with_standings(entry(), state=StandingState.EXPIRED)).groups[1]
        self.assertEqual(group["Action"], "failed")
        self.assertEqual(group["Status"], "4.4.7")
        self.assertEqual(group["Diagnostic-Code"], "smtp; 550 5.1.1 No")

    def test_success(self) -> None:
        """Delivered and relayed are 2.x.x."""
        known = with_standings(entry(), DELIVERED, StandingState.DELIVERED)
        for kind in (NoticeKind.DELIVERED, NoticeKind.RELAYED):
            group = Written(known, kind).groups[1]
            self.assertEqual(group["Action"], kind.value)
            self.assertEqual(group["Status"], "2.0.0")

    def test_no_reply(self) -> None:
        """Without a reply there is no smtp code, but our own words."""
        words = replace(diagnosis(), message="No answer.", status="4.4.1")
        result = DeliveryResult(recipient(), Stage.CONNECT, None, words)
        group = Written(with_standings(entry(), result)).groups[1]
        self.assertEqual(group["Diagnostic-Code"], "x-fwd-mta; No answer.")
        self.assertNotIn("Remote-MTA", group)

    def test_never_tried(self) -> None:
        """A recipient without a result is reported all the same."""
        group = Written(with_standings(entry(), None)).groups[1]
        self.assertEqual(group["Status"], "5.0.0")
        self.assertNotIn("Diagnostic-Code", group)

    def test_several_recipients(self) -> None:
        """Recipients that fail together share a notice, a group each."""
        known = with_standings(entry("bob@example.net", "eve@example.org"))
        written = Written(known)
        self.assertEqual(
            [group["Final-Recipient"] for group in written.groups[1:]],
            ["rfc822; bob@example.net", "rfc822; eve@example.org"],
        )
        self.assertIn("these recipients", written.flowing)

    def test_host_without_a_name(self) -> None:
        """A host known by its address only is an address literal."""
        result = replace(REFUSED, host="[2001:db8::1]:25")
        group = Written(with_standings(entry(), result)).groups[1]
        self.assertEqual(group["Remote-MTA"], "dns; [2001:db8::1]")


class ReturnedTests(SynchronousTestCase):
    """The part that shows what it is about."""

    def full(self, *, require_tls: bool = False) -> QueueEntry:
        """A failed message with RET=FULL."""
        known = with_standings(entry())
        envelope = replace(known.envelope, ret=Ret.FULL)
        return replace(known, envelope=replace(envelope, require_tls=require_tls))

    def test_headers(self) -> None:
        """Without RET=FULL only the header section is returned."""
        written = Written(with_standings(entry()), body=b"secret\r\n")
        self.assertNotIn(b"secret", written.body)
        self.assertIn(b"\r\n\r\n" + HEAD + b"\r\n--boundary--\r\n", written.body)

    def test_full(self) -> None:
        """RET=FULL returns the whole message, byte for byte."""
        written = Written(self.full(), body=b"Hi\r\n")
        self.assertEqual(written.parts[2].get_content_type(), "message/rfc822")
        self.assertIn(HEAD + b"\r\nHi\r\n\r\n--boundary--", written.body)
        self.assertIsNone(written.envelope.body)

    def test_full_only_for_failures(self) -> None:
        """RET says nothing about delays and successes (RFC 3461 4.3)."""
        written = Written(self.full(), NoticeKind.DELAYED, body=b"secret\r\n")
        self.assertNotIn(b"secret", written.body)

    def test_too_large(self) -> None:
        """A message whose body is not handed over comes as its header."""
        written = Written(self.full(), body=None)
        self.assertEqual(written.parts[2].get_content_type(), "text/rfc822-headers")

    def test_require_tls(self) -> None:
        """A REQUIRETLS message never comes back whole (RFC 8689 5)."""
        written = Written(self.full(require_tls=True), body=b"secret\r\n")
        self.assertNotIn(b"secret", written.body)
        self.assertFalse(written.envelope.require_tls)

    def test_eight_bit(self) -> None:
        """An 8-bit message makes the notice 8-bit, envelope included."""
        body = "Grüße\r\n".encode()
        written = Written(self.full(), body=body)
        self.assertIn(body, written.body)
        self.assertIs(written.envelope.body, Body.EIGHT_BIT)
        self.assertEqual(written.message["Content-Transfer-Encoding"], "8bit")
        self.assertEqual(written.parts[2]["Content-Transfer-Encoding"], "8bit")

    def test_eight_bit_header(self) -> None:
        """An 8-bit header section is encoded, and the notice stays 7-bit."""
        head = "Subject: Grüße\r\n".encode()
        written = Written(with_standings(entry()), head=head)
        self.assertTrue(written.octets.isascii())
        self.assertEqual(str(written.parts[2].get_content()), "Subject: Grüße\r\n")

    def test_utf8_message(self) -> None:
        """A whole message with a UTF-8 header is message/global (RFC 6532 3.7)."""
        written = Written(
            self.full(), head="Subject: Grüße\r\n".encode(), body=b"Hi\r\n"
        )
        self.assertIn(b"Content-Type: message/global\r\n", written.body)

    def test_huge_header(self) -> None:
        """Of a huge header section the beginning is returned, whole lines only."""
        head = b"".join(
            b"X-%06d: %s\r\n" % (number, b"x" * 80) for number in range(5000)
        )
        written = Written(with_standings(entry()), head=head)
        self.assertLess(len(written.body), 70_000)
        self.assertTrue(written.body.endswith(b"x\r\n\r\n--boundary--\r\n"))

    def test_no_content(self) -> None:
        """A message whose content is lost still gets its notice."""
        written = Written(with_standings(entry()), head=b"")
        self.assertEqual(len(written.parts), 3)

    def test_boundary_in_the_message(self) -> None:
        """A message that holds our boundary cannot cut the notice in pieces."""
        body = b"--boundary\r\nContent-Type: text/html\r\n\r\n--boundaryx\r\n"
        written = Written(self.full(), body=body)
        self.assertEqual(len(written.parts), 3)
        self.assertEqual(written.message.get_boundary(), "boundaryxx")


class HostileTests(SynchronousTestCase):
    """What a lying server, client or recipient puts into a notice."""

    def test_remote_text(self) -> None:
        """No control character, no octet beyond ASCII and no extra field gets in."""
        text = (
            "No\r\nX-Evil: 1\r\n\r\n--boundary\r\n\x00\x1b]0;title\x07\x9b31m"
            "\u202egro\u2028.é"
        )
        result = replace(
            REFUSED,
            reply=Reply(550, "1.1", text),
            host="mx\r\nX-Evil: 2[192.0.2.1]:25",
            diagnosis=replace(diagnosis(Action.REJECT), message="see\r\nX-Evil: 3\x1b"),
        )
        written = Written(with_standings(entry(), result))
        self.assertTrue(written.octets.isascii())
        controls = set(written.octets) & (set(range(32)) | {127})
        self.assertEqual(controls, {10, 13})
        self.assertEqual(written.octets.count(b"\r"), written.octets.count(b"\n"))
        self.assertEqual(len(written.parts), 3)
        self.assertNotIn("X-Evil", written.groups[1])
        self.assertFalse(
            any(line.startswith(b"X-Evil") for line in lines(written.octets))
        )

    def test_endless_text(self) -> None:
        """A reply of 64 KiB without a space is cut, and no line is over 998."""
        result = replace(REFUSED, reply=Reply(550, "1.1", "x" * 65536))
        written = Written(with_standings(entry(), result))
        self.assertLess(len(written.octets), 5000)
        self.assertLessEqual(max(map(len, lines(written.octets))), 998)

    def test_parameters(self) -> None:
        """ENVID and ORCPT that decode to controls add no field."""
        asked = recipient()._replace(orcpt="rfc822;a+0D+0AX-Evil:+201@example.net")
        known = entry(asked)
        envid = "1+0D+0AX-Evil:+201"
        known = replace(known, envelope=replace(known.envelope, envid=envid))
        groups = Written(with_standings(known)).groups
        self.assertEqual(groups[0]["Original-Envelope-Id"], "1 X-Evil: 1")
        self.assertEqual(
            groups[1]["Original-Recipient"], "rfc822; a X-Evil: 1@example.net"
        )
        self.assertFalse(any("X-Evil" in group for group in groups))

    def test_thousand_recipients(self) -> None:
        """A thousand recipients share one notice, a group each."""
        many = (f"r{number}@example.net" for number in range(1000))
        written = Written(with_standings(entry(*many)))
        self.assertEqual(len(written.groups), 1001)


class InternationalTests(SynchronousTestCase):
    """Addresses beyond ASCII (RFC 6533)."""

    def test_recipient(self) -> None:
        """A non-ASCII recipient is readable for people and escaped for programs."""
        written = Written(with_standings(entry("jörg+x@example.net")))
        self.assertIn("<jörg+x@example.net>", written.text)
        self.assertEqual(
            written.groups[1]["Final-Recipient"],
            r"utf-8; j\x{F6}rg\x{2B}x@example.net",
        )
        self.assertTrue(written.octets.isascii())
        self.assertFalse(written.envelope.smtputf8)
        self.assertIn("to jörg+x@example.net", str(written.message["Subject"]))

    def test_recipient_domain(self) -> None:
        """A domain in its own letters is written with A-labels for programs."""
        group = Written(with_standings(entry("bob@bücher.example"))).groups[1]
        self.assertEqual(group["Final-Recipient"], "rfc822; bob@xn--bcher-kva.example")

    def test_original_recipient(self) -> None:
        """An ORCPT of type utf-8 comes back as it was given."""
        asked = recipient()._replace(orcpt=r"utf-8;j\x{F6}rg@example.org")
        group = Written(with_standings(entry(asked))).groups[1]
        self.assertEqual(group["Original-Recipient"], r"utf-8; j\x{F6}rg@example.org")

    def test_sender(self) -> None:
        """A sender with a non-ASCII local part is reached by SMTPUTF8."""
        written = Written(with_standings(entry(sender="jörg@example.com")))
        self.assertIn("To: <jörg@example.com>\r\n".encode(), written.head)
        self.assertTrue(written.envelope.smtputf8)

    def test_sender_domain(self) -> None:
        """A sender with a non-ASCII domain alone needs no SMTPUTF8."""
        written = Written(with_standings(entry(sender="ann@bücher.example")))
        self.assertIn(b"To: <ann@xn--bcher-kva.example>\r\n", written.head)
        self.assertFalse(written.envelope.smtputf8)

    def test_turned_letters(self) -> None:
        """An address cannot turn or hide the text around it."""
        written = Written(with_standings(entry("a\u202eb\u200b@example.net")))
        self.assertNotIn("\u202e", written.text)
        self.assertNotIn("\u200b", written.text)

    def test_global_parts(self) -> None:
        """A client with SMTPUTF8 gets addresses and header in their own letters."""
        known = entry("jörg@example.net", "bob@example.net")
        envelope = replace(known.envelope, smtputf8=True)
        known = with_standings(replace(known, envelope=envelope))
        head = "From: ann@example.com\r\nSubject: Grüße\r\n".encode()
        written = Written(known, head=head)
        kinds = [part.get_content_type() for part in written.parts]
        self.assertEqual(
            kinds,
            ["text/plain", "message/global-delivery-status", "message/global-headers"],
        )
        status = _octets(written.parts[1]).decode()
        self.assertIn("Final-Recipient: utf-8; jörg@example.net\r\n", status)
        self.assertIn("Final-Recipient: rfc822; bob@example.net\r\n", status)
        self.assertIn(head, _octets(written.parts[2]))
        self.assertTrue(written.octets.isascii(), "it can go to any host")

    def test_global_parts_to_a_sender_who_needs_them(self) -> None:
        """The way to a non-ASCII sender has SMTPUTF8, and so 8-bit (RFC 6533 4)."""
        known = entry("jörg@example.net", sender="ännä@example.com")
        envelope = replace(known.envelope, smtputf8=True)
        written = Written(with_standings(replace(known, envelope=envelope)))
        self.assertIn("utf-8; jörg@example.net".encode(), written.body)
        self.assertIs(written.envelope.body, Body.EIGHT_BIT)
        self.assertTrue(written.envelope.smtputf8)

    def test_the_parameter_alone(self) -> None:
        """A client that always says SMTPUTF8 gets what everybody gets."""
        known = entry()
        envelope = replace(known.envelope, smtputf8=True)
        written = Written(with_standings(replace(known, envelope=envelope)))
        kinds = [part.get_content_type() for part in written.parts]
        self.assertIn("message/delivery-status", kinds)
        self.assertIn("text/rfc822-headers", kinds)

    def test_hostile_letters(self) -> None:
        """No address breaks a line of the part for programs."""
        known = entry("jö\u2028rg\u202e@example.net")
        envelope = replace(known.envelope, smtputf8=True)
        written = Written(with_standings(replace(known, envelope=envelope)))
        status = _octets(written.parts[1]).decode()
        self.assertIn("Final-Recipient: utf-8; jö rg @example.net\r\n", status)


def _octets(part: EmailMessage) -> bytes:
    """A part's content, decoded; Python reads what it calls message/* differently."""
    if not part.is_multipart():
        content = part.get_payload(decode=True)
        return content if isinstance(content, bytes) else b""
    inner = part.get_payload(0)
    assert isinstance(inner, EmailMessage)
    octets = str(inner).replace("\r\n", "\n").replace("\n", "\r\n").encode()
    coded = part["Content-Transfer-Encoding"] == "quoted-printable"
    return decodestring(octets) if coded else octets
