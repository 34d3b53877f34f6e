"""Tests of `fwd_mta.rules.stamping`: what is added, removed, and left alone."""

from email.utils import parsedate_to_datetime

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.account import Account
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.header import fields
from fwd_mta.mail.session import Service, Session, TlsFacts
from fwd_mta.rules.stamping import format_date, message_id_of, stamp

NOW = 1_700_000_000.9
DATE = "Tue, 14 Nov 2023 22:13:20 +0000"
TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384")
SUBMITTED = Session(
    Service.SUBMISSIONS,
    "192.0.2.7",
    5000,
    hello="laptop.home",
    extended=True,
    tls=TLS,
    account=Account("joe@example.com"),
)
RELAYED = Session(
    Service.RELAY, "2001:db8::7", 5000, hello="printer", extended=True, trusted=True
)
ENVELOPE = Envelope(Mailbox("joe", "bücher.example"), ())
FULL = (
    b"From: joe@example.com\r\nTo: a@b\r\nSubject:  odd   \r\n\tfold \r\n"
    b"DATE: x\r\nMessage-Id: <1@x>\r\n"
)


def stamped(
    head: bytes,
    session: Session = SUBMITTED,
    envelope: Envelope = ENVELOPE,
    *,
    trace_client: bool = False,
    message_id: str | None = None,
) -> bytes:
    """The header section as it leaves us."""
    return stamp(
        head,
        session=session,
        envelope=envelope,
        hostname="mail.example.com",
        entry_id="0123456789bcdfgh",
        now=NOW,
        trace_client=trace_client,
        message_id=message_id,
    )


def received(head: bytes) -> str:
    """The text of the first field, which must be Received."""
    first = fields(head)[0]
    return f"{first.name}: {first.value}"


class StampTests(SynchronousTestCase):
    """The header section on its way through."""

    def test_received(self) -> None:
        """Received says by, with, TLS, id and date: no client, recipient or login."""
        self.assertEqual(
            received(stamped(FULL)),
            "Received: by mail.example.com with ESMTPSA"
            f" (TLSv1.3, TLS_AES_256_GCM_SHA384) id 0123456789bcdfgh; {DATE}",
        )

    def test_rest_is_untouched(self) -> None:
        """All but the new Received is there byte for byte."""
        head = stamped(FULL)
        self.assertTrue(head.endswith(b"+0000\r\n" + FULL))
        self.assertEqual(len(fields(head)), len(fields(FULL)) + 1)

    def test_trace_client(self) -> None:
        """The client's name and address are written only where that is wanted."""
        head = stamped(FULL, trace_client=True)
        start = "Received: from laptop.home ([192.0.2.7]) by mail.example.com with"
        self.assertTrue(received(head).startswith(start), head)

    def test_hostile_hello(self) -> None:
        """A client's name that is no host name never gets into a header."""
        for hello in ("a b (c", "x;\r\nBcc: y", "é", "", "a" * 300):
            session = Session(Service.SUBMISSION, "192.0.2.7", 1, hello=hello)
            text = received(stamped(FULL, session, trace_client=True))
            self.assertTrue(text.startswith("Received: from [192.0.2.7] ([192.0.2.7])"))

    def test_protocol(self) -> None:
        """The word after with tells SMTP, ESMTP and SMTPUTF8 apart."""
        plain = Session(Service.RELAY, "unix:/x", 0, hello="printer", trusted=True)
        text = received(stamped(FULL, plain))
        self.assertIn("from printer (localhost) by mail.example.com with SMTP id", text)
        envelope = Envelope(None, (), smtputf8=True)
        self.assertIn(" with UTF8SMTPSA ", received(stamped(FULL, envelope=envelope)))

    def test_missing(self) -> None:
        """Missing Message-ID and Date are added, once."""
        head = stamped(b"From: a@b\r\n")
        self.assertTrue(
            head.endswith(
                b"From: a@b\r\nMessage-ID: <0123456789bcdfgh@mail.example.com>\r\n"
                b"Date: " + DATE.encode() + b"\r\n"
            )
        )
        self.assertIn(b"Message-ID: <x@y>\r\n", stamped(b"", message_id="<x@y>"))

    def test_removed(self) -> None:
        """Bcc, Resent-Bcc and Return-Path go, with their folds and in any case."""
        head = (
            b"Bcc: secret@x\r\n other@x\r\n" + FULL + b"bCC : secret@x\r\n"
            b"Return-Path: <secret@x>\r\nResent-BCC:\r\n secret@x\r\nX-Bcc: kept\r\n"
        )
        self.assertTrue(stamped(head).endswith(FULL + b"X-Bcc: kept\r\n"))
        self.assertNotIn(b"secret", stamped(head))

    def test_relay_from(self) -> None:
        """On a relay listener a missing From is the envelope's sender."""
        head = stamped(b"Subject: x\r\n", RELAYED)
        self.assertIn(b"\r\nFrom: joe@xn--bcher-kva.example\r\n", head)
        self.assertIn("from printer ([IPv6:2001:db8::7]) by", received(head))
        self.assertIn(b"From: a@b", stamped(b"From: a@b\r\n", RELAYED))
        self.assertEqual(stamped(b"From: a@b\r\n", RELAYED).count(b"From:"), 1)
        null = stamped(b"", RELAYED, Envelope(None, ()))
        self.assertIn(b"From: MAILER-DAEMON@mail.example.com\r\n", null)

    def test_no_from_for_accounts(self) -> None:
        """For an account no From is made up."""
        self.assertNotIn(b"From:", stamped(b"Subject: x\r\n"))


class PartsTests(SynchronousTestCase):
    """Message-ID and dates."""

    def test_message_id(self) -> None:
        """The Message-ID is found in any case and fold, and may be missing."""
        self.assertEqual(message_id_of(b"A: b\r\nmessage-id:\r\n <1@x>\r\n"), "<1@x>")
        self.assertEqual(message_id_of(b"A: b\r\n"), "")
        self.assertEqual(
            len(message_id_of(b"Message-ID: " + b"x" * 9999 + b"\r\n")), 998
        )

    def test_dates(self) -> None:
        """Dates are those of RFC 5322, in UTC, whatever the locale."""
        self.assertEqual(format_date(NOW), DATE)
        self.assertEqual(format_date(0), "Thu, 1 Jan 1970 00:00:00 +0000")
        for day in range(0, 4000, 37):
            moment = day * 86_400 + 12_345
            read = parsedate_to_datetime(format_date(moment))
            self.assertEqual(read.timestamp(), moment)
