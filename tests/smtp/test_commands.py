"""Tests for the grammar of commands."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Body, Envelope, Notify, Recipient, Ret
from fwd_mta.mail.reply import Reply
from fwd_mta.smtp.commands import (
    Chunk,
    Command,
    CommandFault,
    MailParameters,
    mail_command,
    parse,
    parse_bdat,
    parse_mail,
    parse_rcpt,
    rcpt_command,
)
from fwd_mta.smtp.extensions import Offered

ALL = frozenset(
    {"SIZE", "8BITMIME", "SMTPUTF8", "DSN", "AUTH", "REQUIRETLS", "FUTURERELEASE"}
)
ANN = Mailbox("ann", "example.com")
BOB = Mailbox("bob", "example.net")


class ParseTests(SynchronousTestCase):
    """`parse` finds the verb and what follows it."""

    def test_verb_in_any_case(self) -> None:
        """Verbs may be written in lower case, as smtplib does."""
        self.assertEqual(
            parse(b"mail FROM:<a@b.example>"), Command("MAIL", b"FROM:<a@b.example>")
        )

    def test_alone(self) -> None:
        """A verb may stand alone, with blanks around it."""
        self.assertEqual(parse(b" QUIT  "), Command("QUIT", b""))

    def test_refused(self) -> None:
        """What is no command line is 500 5.5.2, whatever octets it holds."""
        lines = [
            b"",
            b"   ",
            b"\xff\xfe",
            b"MA\xc3\x84L FROM:<>",
            b"NOOP\nRSET",
            b"NOOP\rRSET",
            b"NOOP\0",
            b"x" * 40,
            b"Subject: hello",
            b".",
        ]
        for line in lines:
            fault = self.assertRaises(CommandFault, parse, line)
            self.assertEqual((fault.reply.code, fault.reply.status), (500, "5.5.2"))


class ParseMailTests(SynchronousTestCase):
    """`parse_mail` reads a MAIL command."""

    def reply(self, argument: bytes, offered: frozenset[str] = ALL) -> str:
        """Code and enhanced code of the refusal."""
        fault = self.assertRaises(CommandFault, parse_mail, argument, offered=offered)
        return f"{fault.reply.code} {fault.reply.status}"

    def test_plain(self) -> None:
        """The least a client can say."""
        self.assertEqual(
            parse_mail(b"FROM:<ann@example.com>", offered=ALL), MailParameters(ANN)
        )

    def test_null(self) -> None:
        """The null path is fine (RFC 5321 4.5.5)."""
        self.assertEqual(parse_mail(b"FROM:<>", offered=ALL), MailParameters(None))

    def test_blank_after_colon(self) -> None:
        """One blank too many, as old clients write it, is accepted."""
        said = parse_mail(b"from: <ann@example.com> size=3", offered=ALL)
        self.assertEqual(said, MailParameters(ANN, size=3))

    def test_all_parameters(self) -> None:
        """Every parameter that is offered is understood, in any case."""
        said = parse_mail(
            b"FROM:<ann@example.com> SIZE=100 body=8bitmime SMTPUTF8 RET=hdrs"
            b" ENVID=QQ+2B1 AUTH=ann+40example.com",
            offered=ALL,
        )
        self.assertEqual(
            said,
            MailParameters(
                ANN,
                size=100,
                body=Body.EIGHT_BIT,
                smtputf8=True,
                ret=Ret.HEADERS,
                envid="QQ+2B1",
                auth="ann+40example.com",
            ),
        )

    def test_release_time(self) -> None:
        """HOLDFOR counts from now, HOLDUNTIL has a zone; 30 days are the most."""
        for words, release in (
            (b"HOLDFOR=0", 1000.0),
            (b"HOLDFOR=2592000", 2593000.0),
            (b"holduntil=1970-01-01t01:00:00.5+01:00", 0.5),
            (b"HOLDUNTIL=1970-01-31T00:16:40Z", 2593000.0),
            (b"", None),
        ):
            said = parse_mail(b"FROM:<ann@example.com> " + words, offered=ALL)
            self.assertEqual(said.release_time(1000.0), release, words)
        for words in (b"HOLDFOR=2592001", b"HOLDUNTIL=1970-01-31T00:16:41Z"):
            said = parse_mail(b"FROM:<ann@example.com> " + words, offered=ALL)
            fault = self.assertRaises(CommandFault, said.release_time, 1000.0)
            self.assertEqual(str(fault.reply)[:9], "501 5.5.4")

    def test_chunks(self) -> None:
        """BDAT has a length, and LAST or nothing."""
        self.assertEqual(parse_bdat(b"0"), Chunk(0, last=False))
        self.assertEqual(parse_bdat(b"12  last"), Chunk(12, last=True))
        bad = [b"", b"LAST", b"-1", b"+1", b"0x10", b"1 LAST LAST", b"1LAST", b"1 END"]
        bad += [b"1.0", b"1" * 21, "\u0661".encode(), b"1\t", b"1 2", b"1,5"]
        for argument in bad:
            fault = self.assertRaises(CommandFault, parse_bdat, argument)
            self.assertEqual(str(fault.reply)[:9], "501 5.5.4", argument)

    def test_quoted_bracket(self) -> None:
        """A bracket and a blank inside a quoted local part do not end the path."""
        said = parse_mail(b'FROM:<"a> b"@example.com> SIZE=1', offered=ALL)
        self.assertEqual(said.reverse_path, Mailbox("a> b", "example.com"))
        self.assertEqual(said.size, 1)

    def test_bad_paths(self) -> None:
        """A path outside the grammar is 501 5.1.7."""
        paths = [
            b"",
            b"FROM",
            b"FROM:",
            b"TO:<ann@example.com>",
            b"FROM:ann@example.com",
            b"FROM:<ann@example.com",
            b"FROM:<ann>",
            b"FROM:<postmaster>",
            b"FROM:<a@b..example>",
            b'FROM:<"a\x01"@example.com>',
            b"FROM:<a\xff@example.com>",
            b"FROM:<<ann@example.com>>",
        ]
        for path in paths:
            self.assertEqual(self.reply(path), "501 5.1.7", path)

    def test_no_blank_after_path(self) -> None:
        """Parameters need a blank before them."""
        self.assertEqual(self.reply(b"FROM:<ann@example.com>SIZE=1"), "501 5.5.4")

    def test_utf8_needs_the_parameter(self) -> None:
        """A non-ASCII address without SMTPUTF8 is 553 5.6.7 (RFC 6531 3.5)."""
        path = "FROM:<jösé@example.com>".encode()
        self.assertEqual(self.reply(path), "553 5.6.7")
        said = parse_mail(path + b" SMTPUTF8", offered=ALL)
        self.assertEqual(said.reverse_path, Mailbox("jösé", "example.com"))

    def test_not_offered(self) -> None:
        """A parameter unknown or not offered is 555 5.5.4."""
        self.assertEqual(self.reply(b"FROM:<> FOO=BAR"), "555 5.5.4")
        self.assertEqual(self.reply(b"FROM:<> NOTIFY=NEVER"), "555 5.5.4")
        self.assertEqual(self.reply(b"FROM:<> AUTH=<>", frozenset()), "555 5.5.4")

    def test_bad_values(self) -> None:
        """A value outside its grammar, or given twice, is 501 5.5.4."""
        words = [
            "SIZE",
            "SIZE=",
            "SIZE=-1",
            "SIZE=1e3",
            "SIZE=" + "9" * 21,
            "SIZE=1 SIZE=1",
            "BODY=BINARYMIME",
            "BODY",
            "SMTPUTF8=yes",
            "RET=BOTH",
            "ENVID=a=b",
            "ENVID=a+2b",
            "ENVID=a+0D+0Ab",
            "ENVID=" + "x" * 101,
            "ENVID",
            "AUTH=a+b",
            "=x",
            "SIZE=1=2",
            "SIZE==1",
            "SIZE=\u0661",
            "BODY=",
            "BODY=8BITMIME,7BIT",
            "RET=",
            "RET=FULL RET=HDRS",
            "ENVID=a+00",
            "ENVID=\u00e4",
            "REQUIRETLS=1",
            "REQUIRETLS REQUIRETLS",
            "HOLDFOR",
            "HOLDFOR=",
            "HOLDFOR=-1",
            "HOLDFOR=1.5",
            "HOLDFOR=" + "9" * 10,
            "HOLDFOR=1 HOLDFOR=1",
            "HOLDFOR=1 HOLDUNTIL=2027-01-01T00:00:00Z",
            "HOLDUNTIL=",
            "HOLDUNTIL=2027-01-01",
            "HOLDUNTIL=2027-01-01T00:00:00",
            "HOLDUNTIL=2027-02-30T00:00:00Z",
            "HOLDUNTIL=2027-01-01T25:00:00Z",
            "HOLDUNTIL=2027-01-01T00:00:00+99:00",
            "HOLDUNTIL=1798761600",
            "-=1",
            "SI_ZE=1",
            "\x7f=1",
        ]
        for word in words:
            self.assertEqual(self.reply(b"FROM:<> " + word.encode()), "501 5.5.4", word)

    def test_many_quotes(self) -> None:
        """A line made to be slow to read is refused like any other (it would hang)."""
        line = b"FROM:<" + b'"' * 2000 + b"\\" * 2000 + b"@" * 2000
        self.assertEqual(self.reply(line), "501 5.1.7")


class ParseRcptTests(SynchronousTestCase):
    """`parse_rcpt` reads a RCPT command."""

    def reply(self, argument: bytes) -> str:
        """Code and enhanced code of the refusal."""
        fault = self.assertRaises(CommandFault, parse_rcpt, argument, smtputf8=False)
        return f"{fault.reply.code} {fault.reply.status}"

    def test_plain(self) -> None:
        """An address is all it takes."""
        self.assertEqual(
            parse_rcpt(b"to:<bob@example.net>", smtputf8=False), Recipient(BOB)
        )

    def test_postmaster(self) -> None:
        """`<Postmaster>` needs no domain (RFC 5321 4.1.1.3)."""
        said = parse_rcpt(b"TO:<postmaster>", smtputf8=False)
        self.assertEqual(said.mailbox, Mailbox("Postmaster", ""))

    def test_notify(self) -> None:
        """NOTIFY is kept sorted and without doubles."""
        said = parse_rcpt(
            b"TO:<bob@example.net> NOTIFY=success,failure,Success"
            b" ORCPT=rfc822;bob+40example.net",
            smtputf8=False,
        )
        self.assertEqual(said.notify, (Notify.FAILURE, Notify.SUCCESS))
        self.assertEqual(said.orcpt, "rfc822;bob+40example.net")

    def test_never(self) -> None:
        """NOTIFY=NEVER stands alone."""
        said = parse_rcpt(b"TO:<bob@example.net> NOTIFY=NEVER", smtputf8=False)
        self.assertEqual(said.notify, (Notify.NEVER,))

    def test_utf8_orcpt(self) -> None:
        """ORCPT may hold UTF-8 where SMTPUTF8 is spoken (RFC 6533)."""
        argument = "TO:<bob@example.net> ORCPT=utf-8;jösé@example.net".encode()
        said = parse_rcpt(argument, smtputf8=True)
        self.assertEqual(said.orcpt, "utf-8;jösé@example.net")
        self.assertEqual(self.reply(argument), "501 5.5.4")

    def test_bad_paths(self) -> None:
        """A recipient outside the grammar, unqualified or null is 501 5.1.3."""
        for path in (b"", b"TO:<>", b"TO:<bob>", b"TO:bob@example.net", b"FROM:<>"):
            self.assertEqual(self.reply(path), "501 5.1.3", path)

    def test_bad_values(self) -> None:
        """NOTIFY and ORCPT outside their grammar are 501 5.5.4."""
        words = [
            "NOTIFY",
            "NOTIFY=",
            "NOTIFY=SOMETIMES",
            "NOTIFY=NEVER,FAILURE",
            "NOTIFY=SUCCESS,",
            "ORCPT=bob@example.net",
            "ORCPT=rfc822;",
            "ORCPT=rfc822;a+0D+0ABcc:x",
            "ORCPT=rfc822;a+zz",
            "ORCPT=;bob",
            "ORCPT=rfc822;" + "x" * 500,
        ]
        for word in words:
            argument = b"TO:<bob@example.net> " + word.encode()
            self.assertEqual(self.reply(argument), "501 5.5.4", word)

    def test_not_offered(self) -> None:
        """An unknown parameter is 555 5.5.4."""
        self.assertEqual(self.reply(b"TO:<bob@example.net> SIZE=1"), "555 5.5.4")


class WriteTests(SynchronousTestCase):
    """`mail_command` and `rcpt_command` write what the peer offers, and no more."""

    envelope = Envelope(
        ANN, (Recipient(BOB),), Body.EIGHT_BIT, ret=Ret.FULL, envid="QQ1"
    )

    def offered(self, *lines: str) -> Offered:
        """A peer's EHLO answer."""
        return Offered.parse(Reply(250, None, "\n".join(["mx", *lines])))

    def test_nothing_offered(self) -> None:
        """To a peer without extensions only the path is said."""
        written = mail_command(self.envelope, Offered.none(), 10)
        self.assertEqual(written, b"MAIL FROM:<ann@example.com>\r\n")

    def test_everything_offered(self) -> None:
        """Every parameter travels where its extension is offered."""
        peer = self.offered("SIZE 1000", "8BITMIME", "DSN", "SMTPUTF8")
        self.assertEqual(
            mail_command(self.envelope, peer, 10),
            b"MAIL FROM:<ann@example.com> SIZE=10 BODY=8BITMIME RET=FULL ENVID=QQ1\r\n",
        )

    def test_null_path(self) -> None:
        """A notice has the null path."""
        envelope = Envelope(None, (Recipient(BOB),))
        self.assertEqual(mail_command(envelope, Offered.none(), 1), b"MAIL FROM:<>\r\n")

    def test_utf8(self) -> None:
        """UTF-8 is sent only where SMTPUTF8 is offered; domains have another form."""
        envelope = Envelope(Mailbox("ann", "bücher.example"), (), smtputf8=True)
        self.assertEqual(
            mail_command(envelope, self.offered("SMTPUTF8"), 1),
            "MAIL FROM:<ann@bücher.example> SMTPUTF8\r\n".encode(),
        )
        self.assertEqual(
            mail_command(envelope, Offered.none(), 1),
            b"MAIL FROM:<ann@xn--bcher-kva.example>\r\n",
        )

    def test_utf8_local_part(self) -> None:
        """A local part that needs SMTPUTF8 is never sent without it."""
        envelope = Envelope(Mailbox("jösé", "example.com"), (), smtputf8=True)
        fault = self.assertRaises(
            CommandFault, mail_command, envelope, Offered.none(), 1
        )
        self.assertEqual(fault.reply.status, "5.6.7")

    def test_rcpt(self) -> None:
        """DSN parameters travel as the client gave them, where offered."""
        recipient = Recipient(
            BOB, (Notify.DELAY, Notify.FAILURE), "rfc822;bob+40example.net"
        )
        self.assertEqual(
            rcpt_command(recipient, dsn=True, utf8=False),
            b"RCPT TO:<bob@example.net> NOTIFY=DELAY,FAILURE"
            b" ORCPT=rfc822;bob+40example.net\r\n",
        )
        self.assertEqual(
            rcpt_command(recipient, dsn=False, utf8=False),
            b"RCPT TO:<bob@example.net>\r\n",
        )

    def test_orcpt_without_utf8(self) -> None:
        """An ORCPT in UTF-8 is escaped for a hop without SMTPUTF8 (RFC 6533 3)."""
        recipient = Recipient(BOB, None, "utf-8;jösé@example.net")
        self.assertEqual(
            rcpt_command(recipient, dsn=True, utf8=False),
            b"RCPT TO:<bob@example.net> ORCPT=utf-8;j\\x{F6}s\\x{E9}@example.net\r\n",
        )

    def test_quoted_local_part(self) -> None:
        """What needs quotes is written with quotes, and read back the same."""
        mailbox = Mailbox('a "b" c', "example.net")
        line = rcpt_command(Recipient(mailbox), dsn=False, utf8=False)
        again = parse_rcpt(parse(line.rstrip()).argument, smtputf8=False)
        self.assertEqual(again.mailbox, mailbox)
