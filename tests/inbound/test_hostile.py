"""What hostile clients say, in tables: the classes of guarantees 12 to 20.

Each row is one session of its own; what matters is what it is answered and that
nothing is queued that should not be.
"""

from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.events import Trouble
from fwd_mta.mail.session import Service
from fwd_mta.net.tls import ServerTls
from tests.inbound.bench import Bench, Wire

MAIL, RCPT = "MAIL FROM:<ann@example.com>", "RCPT TO:<bob@example.net>"
OWN = b"From: ann@example.com\r\n"
SECOND = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<eve@example.net>\r\nDATA\r\n"


def b64(octets: bytes) -> str:
    """What AUTH carries."""
    return b64encode(octets).decode()


GOOD = b64(b"\0ann@example.com\0sesame")

# the argument of MAIL and what it is answered
MAILS = [
    ("", "501 5.1.7"),
    ("FROM", "501 5.1.7"),
    ("FROM:", "501 5.1.7"),
    ("FROM :<ann@example.com>", "501 5.1.7"),
    ("TO:<ann@example.com>", "501 5.1.7"),
    ("FROM:ann@example.com", "501 5.1.7"),
    ("FROM:<ann@example.com", "501 5.1.7"),
    ("FROM:ann@example.com>", "501 5.1.7"),
    ("FROM:<ann@@example.com>", "501 5.1.7"),
    ("FROM:<.ann@example.com>", "501 5.1.7"),
    ("FROM:<ann.@example.com>", "501 5.1.7"),
    ("FROM:<a..n@example.com>", "501 5.1.7"),
    ("FROM:<ann@example.com.>", "501 5.1.7"),
    ("FROM:<ann@-example.com>", "501 5.1.7"),
    ("FROM:<ann(c)@example.com>", "501 5.1.7"),
    ("FROM:< ann@example.com>", "501 5.1.7"),
    ("FROM:<ann @example.com>", "501 5.1.7"),
    ("FROM:<ann\x1b@example.com>", "501 5.1.7"),
    ("FROM:<ann\x7f@example.com>", "501 5.1.7"),
    ("FROM:<" + "a" * 600 + "@example.com>", "501 5.1.7"),
    ("FROM:<ann@" + "a" * 64 + ".com>", "501 5.1.7"),
    ("FROM:<ann@" + "a." * 130 + "com>", "501 5.1.7"),
    ("FROM:<postmaster>", "501 5.1.7"),
    ("FROM:<\u00e4@example.com>", "553 5.6.7"),
    ("FROM:<ann@[127.0.0.1]>", "553-5.7.1"),
    ("FROM:<ann%x@example.com>", "553-5.7.1"),
    ("FROM:<x+ann@example.com>", "553-5.7.1"),
    ("FROM:<ann@sub.example.com>", "553-5.7.1"),
    ("FROM:<ann@example.com.evil.example>", "553-5.7.1"),
    ("FROM:<ann@exa\u043cple.com> SMTPUTF8", "553-5.7.1"),
    ("FROM:<ann@example.com>x", "501 5.5.4"),
    ("FROM:<ann@example.com>SIZE=1", "501 5.5.4"),
    ("FROM:<ann@example.com> <x>", "501 5.5.4"),
    ("FROM:<ann@example.com> XFOO", "555 5.5.4"),
    ("FROM:<ann@example.com> MT-PRIORITY=3", "555 5.5.4"),
    ("FROM:<ann@example.com> BY=1;R", "555 5.5.4"),
    ("FROM:<ann@example.com> NOTIFY=NEVER", "555 5.5.4"),
    ("FROM:<ann@example.com> ORCPT=rfc822;a", "555 5.5.4"),
    ("FROM:<ann@example.com> SIZE=99999999999999999999", "552 5.3.4"),
]

RCPTS = [
    ("", "501 5.1.3"),
    ("TO:", "501 5.1.3"),
    ("TO:<>", "501 5.1.3"),
    ("TO:bob@example.net", "501 5.1.3"),
    ("TO:<bob>", "501 5.1.3"),
    ("TO:<bob@>", "501 5.1.3"),
    ("TO:<@example.net>", "501 5.1.3"),
    ("FROM:<b@c.example>", "501 5.1.3"),
    ("TO:<b@c.example><d@e.example>", "501 5.5.4"),
    ("TO:<b@c.example>,<d@e.example>", "501 5.5.4"),
    ("TO:<b@c.example>x", "501 5.5.4"),
    ("TO:<b@[300.1.1.1]>", "501 5.1.3"),
    ("TO:<b@[foo]>", "501 5.1.3"),
    ("TO:<b@127.0.0.1>", "501 5.1.3"),
    ("TO:<b@0x7f.1>", "501 5.1.3"),
    ("TO:<b@.c.example>", "501 5.1.3"),
    ("TO:<b@c..example>", "501 5.1.3"),
    ("TO:</etc/passwd>", "501 5.1.3"),
    ("TO:<../x@example.net>", "501 5.1.3"),
    ("TO:<b\x01@example.net>", "501 5.1.3"),
    ('TO:<"b\x01"@example.net>', "501 5.1.3"),
    ("TO:<b@c.example> NOTIFY=", "501 5.5.4"),
    ("TO:<b@c.example> NOTIFY=NEVER,DELAY", "501 5.5.4"),
    ("TO:<b@c.example> ORCPT=rfc822;a+0D+0Ab", "501 5.5.4"),
    ("TO:<b@c.example> FOO", "555 5.5.4"),
    ("TO:<b@c.example> SIZE=3", "555 5.5.4"),
    ("TO:<b@c.example> HOLDFOR=3", "555 5.5.4"),
]

# octets sent as they are, and the first reply
LINES = [
    (b"NO\0OP\r\n", "500 5.5.2"),
    (b"N\xd6\xd6P\r\n", "500 5.5.2"),
    (b"NOOP\rQUIT\r\n", "500 5.5.2"),
    (b"NOOP\nQUIT\r\n", "500 5.5.2"),
    (b"NOOP\r\r\n", "500 5.5.2"),
    (b"NOOP\x0bQUIT\r\n", "500 5.5.2"),
    (b"NOOP\xe2\x80\xa8QUIT\r\n", "500 5.5.2"),
    (b"\r\n", "500 5.5.2"),
    (b" \r\n", "500 5.5.2"),
    (b"%s%n%x\r\n", "500 5.5.2"),
    (b"$(id)\r\n", "500 5.5.2"),
    (b"NOOP: x\r\n", "500 5.5.2"),
    (b"MAIL FROM:<a\0@b.example>\r\n", "500 5.5.2"),
    (b"MAIL FROM:<a\xe4@b.example>\r\n", "501 5.1.7"),
    (b"NOOP " + b"x" * 3000 + b"\r\n", "500 5.5.2"),
    (b"LHLO x\r\n", "500 5.5.2"),
    (b"SEND FROM:<a@b.example>\r\n", "500 5.5.2"),
    (b"SOML FROM:<a@b.example>\r\n", "500 5.5.2"),
    (b"XCLIENT ADDR=1.2.3.4\r\n", "500 5.5.2"),
    (b"XFORWARD ADDR=1.2.3.4\r\n", "500 5.5.2"),
    (b"DEBUG\r\n", "500 5.5.2"),
    (b"BURL imap://x LAST\r\n", "500 5.5.2"),
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "500 5.5.2"),
    (b"EXPN list\r\n", "502 5.5.1"),
    (b"ETRN x\r\n", "502 5.5.1"),
    (b"TURN\r\n", "502 5.5.1"),
    (b"EHLO\r\n", "501 5.5.4"),
    (b"HELO \r\n", "501 5.5.4"),
    (b"RSET x\r\n", "501 5.5.4"),
    (b"DATA x\r\n", "501 5.5.4"),
    (b"STARTTLS\r\n", "503 5.5.1"),
    (b"AUTH PLAIN\r\n", "503 5.5.1"),
    (b"RCPT TO:<b@c.example>\r\n", "503 5.5.1"),
    (b"DATA\r\n", "503 5.5.1"),
]

# what a client says after EHLO and not logged in, and the last reply
LOGINS = [
    ([""], "500 5.5.2"),
    (["AUTH"], "501 5.5.4"),
    (["AUTH FOO"], "504 5.5.4"),
    (["AUTH CRAM-MD5"], "504 5.5.4"),
    (["AUTH EXTERNAL ="], "504 5.5.4"),
    (["AUTH ANONYMOUS"], "504 5.5.4"),
    (["AUTH XOAUTH2 x"], "504 5.5.4"),
    (["AUTH PLAIN\t" + GOOD], "504 5.5.4"),
    (["AUTH=PLAIN " + GOOD], "500 5.5.2"),
    (["AUTH PLAIN", "*"], "501 5.7.0"),
    (["AUTH PLAIN *"], "501 5.7.0"),
    (["AUTH PLAIN", ""], "501 5.5.2"),
    (["AUTH PLAIN ="], "501 5.5.2"),
    (["AUTH PLAIN " + GOOD[:-1]], "501 5.5.2"),
    (["AUTH PLAIN " + GOOD + "="], "501 5.5.2"),
    (["AUTH PLAIN " + GOOD + " x"], "501 5.5.2"),
    (["AUTH PLAIN !!!!"], "501 5.5.2"),
    (["AUTH PLAIN " + b64(b"\0")], "501 5.5.2"),
    (["AUTH PLAIN " + b64(b"ann@example.com\0sesame")], "501 5.5.2"),
    (["AUTH PLAIN " + b64(b"\0ann@example.com\0sesame\0")], "501 5.5.2"),
    (["AUTH PLAIN " + b64(b"\0ann@example.com\0ses\0ame")], "501 5.5.2"),
    (["AUTH PLAIN " + b64(b"eve@x.example\0ann@example.com\0sesame")], "535 5.7.8"),
    (["AUTH PLAIN " + b64(b"\0ann@example.com\0")], "535 5.7.8"),
    (["AUTH PLAIN " + b64(b"\0\0sesame")], "535 5.7.8"),
    (["AUTH PLAIN " + b64(b"\0\0")], "535 5.7.8"),
    (["AUTH PLAIN " + b64(b"\0ann@example.com\0ses\xff")], "535 5.7.8"),
    (["AUTH PLAIN " + b64(b"\0ann@example.com\r\n\0sesame")], "535 5.7.8"),
    (["AUTH PLAIN " + b64(b"\0ann@example.com\0" + b"x" * 5000)], "535 5.7.8"),
    (["AUTH PLAIN " + b64(b"\0" + b"a" * 5000 + b"@b.example\0x")], "535 5.7.8"),
    (["AUTH PLAIN " + "A" * 13000], "500 5.5.6"),
    (["AUTH LOGIN", "*"], "501 5.7.0"),
    (["AUTH LOGIN", b64(b"ann@example.com"), "*"], "501 5.7.0"),
    (["AUTH LOGIN", "", ""], "535 5.7.8"),
    (["AUTH LOGIN", "!"], "501 5.5.2"),
    (["AUTH LOGIN", b64(b"ann\0@example.com")], "501 5.5.2"),
    (["AUTH LOGIN", b64(b"ann@example.com"), b64(b"sesame\0")], "501 5.5.2"),
    (["AUTH LOGIN", "MAIL FROM:<ann@example.com>"], "501 5.5.2"),
    (["AUTH LOGIN", "A" * 13000], "500 5.5.6"),
    ([MAIL], "530 5.7.0"),
    ([RCPT], "503 5.5.1"),
    (["AUTH PLAIN !", MAIL], "530 5.7.0"),
]

# header sections behind which nothing may be queued
HEADS = [
    b"",
    b"To: x@y.example\r\n",
    OWN + OWN,
    b"FROM: ann@example.com\r\nfrom: eve@x.example\r\n",
    b"From : eve@x.example\r\n" + OWN,
    b"From: eve@x.example\r\n",
    b"From: ann@example.com, eve@x.example\r\n",
    b"From: ann@example.com,\r\n eve@x.example\r\n",
    b'From: "ann@example.com" <eve@x.example>\r\n',
    b"From: eve@x.example (ann@example.com)\r\n",
    b"From: =?utf-8?q?ann=40example.com?= <eve@x.example>\r\n",
    b"From: g: ann@example.com;\r\n",
    b"From: g:;\r\n",
    b"From:\r\n",
    b"From: <>\r\n",
    b"From: ann\r\n",
    b"From: ann@example.com garbage\r\n",
    b'From: "ann <ann@example.com>\r\n',
    b"From: ann <ann@example.com\r\n",
    b"From: <ann@example.com> <eve@x.example>\r\n",
    b"From: ann@example.com; eve@x.example\r\n",
    "From: ann@example\u3002com\r\n".encode(),
    "From: ann@ex\u0430mple.com\r\n".encode(),
    OWN + b"Sender: eve@x.example\r\n",
    OWN + b"Sender: ann@example.com, ann@example.com\r\n",
    OWN + b"Sender: ann@example.com\r\nSender: ann@example.com\r\n",
    OWN + b"Resent-From: eve@x.example\r\n",
    OWN + b"Resent-Sender: eve@x.example\r\n",
    b"From: eve@x.example\r\nResent-From: ann@example.com\r\n",
    OWN + b"Subject: a\r\nSubject: b\r\n",
    OWN + b"Date: a\r\nDate: b\r\n",
    OWN + b"Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\n",
    OWN + b"To: a@b.example\r\nTo: c@d.example\r\n",
    OWN + b"Cc: a@b.example\r\nCc: c@d.example\r\n",
    OWN + b"Reply-To: a@b.example\r\nReply-To: c@d.example\r\n",
    OWN + b"no field\r\n",
    b" folded\r\n" + OWN,
    b"From ann@example.com Mon\r\n" + OWN,
    OWN + b"X\x01Y: v\r\n",
    OWN + b"X\xe4: v\r\n",
    OWN + b"X Y: v\r\n",
    OWN + b": v\r\n",
    OWN + b"Subject: \xe4\r\n",
    OWN + b"Subject: a\0b\r\n",
    OWN + b"Subject: a\rBcc: eve@x.example\r\n",
    OWN + "To: \u00e4@b.example\r\n".encode(),
    b"Received: x\r\n" * 60 + OWN,
    OWN + b"X: y\r\n" * 3000,
    OWN + b"X: " + b"y " * 150_000 + b"\r\n",
    OWN + b"X: " + b"y" * 2000 + b"\r\n",
]

# between two messages: none of these may make two of one
SEPARATORS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\n\r.\n\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\n\n.\n\n",
    b"\r\n. \r\n",
    b"\r\n.\t\r\n",
    b"\r\n..\r\n",
    b"\r\n.\x0b\r\n",
    b"\r\n.\x1a\r\n",
    b"\r\n\x0c.\r\n",
    b"\x85.\x85",
    b"\r\n\xef\xbc\x8e\r\n",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
]

# behind STARTTLS, in the same segment
INJECTED = [
    b"EHLO y\r\n",
    b"\r\n",
    b"\0",
    b"x",
    b"MAIL FROM:<a@b.example>\r\n",
    b"\x16",
]

_CLOSING = ("500 5.5.2 Line too long", "500 5.5.6", "501 5.5.4 Say BDAT")


class HostileTests(SynchronousTestCase):
    """Row by row."""

    def session(self, *, login: bool = True) -> tuple[Bench, Wire]:
        """A new server and a client."""
        bench = Bench()
        wire = bench.logged_in() if login else bench.connect()
        if not login:
            wire.say("EHLO me")
        return bench, wire

    def sound(self, bench: Bench) -> None:
        """Nothing was queued and nothing of ours broke."""
        self.assertEqual(bench.writer.added, [])
        self.assertEqual([e for e in bench.events if isinstance(e, Trouble)], [])

    def test_mail(self) -> None:
        """MAIL, malformed in every way."""
        for argument, expected in MAILS:
            bench, wire = self.session()
            self.assertEqual(wire.say(f"MAIL {argument}")[0][:9], expected, argument)
            self.sound(bench)

    def test_rcpt(self) -> None:
        """RCPT, malformed in every way."""
        for argument, expected in RCPTS:
            bench, wire = self.session()
            wire.say(MAIL)
            self.assertEqual(wire.say(f"RCPT {argument}")[0][:9], expected, argument)
            self.sound(bench)

    def test_lines(self) -> None:
        """Lines that are no command, or none at this point."""
        for octets, expected in LINES:
            bench, wire = self.session()
            wire.send(octets)
            replies = wire.heard()
            self.assertEqual(replies[0][:9], expected, octets)
            self.assertEqual(len(replies), 1, octets)
            self.assertEqual(wire.closed, replies[0].startswith(_CLOSING), octets)
            self.sound(bench)

    def test_logins(self) -> None:
        """AUTH, malformed in every way; nobody is in afterwards."""
        for lines, expected in LOGINS:
            bench, wire = self.session(login=False)
            said = [wire.say(line) for line in lines]
            self.assertEqual(said[-1][0][:9], expected, lines)
            if not wire.closed:
                self.assertEqual(wire.say(MAIL)[0][:3], "530", lines)
            self.sound(bench)

    def test_headers(self) -> None:
        """Headers that would show a sender who did not send, or two of what is one."""
        for head in HEADS:
            bench, wire = self.session()
            wire.say(MAIL, RCPT, "DATA")
            wire.send(head + b"\r\nHi\r\n.\r\n")
            [first, *_] = wire.heard()
            self.assertIn(first[:3], {"550", "552", "554"}, head[:80])
            self.sound(bench)

    def test_separators(self) -> None:
        """One message in is at most one out, in one segment or octet by octet."""
        for separator in SEPARATORS:
            for step in (1, 10_000):
                bench, wire = self.session()
                wire.say(MAIL, RCPT, "DATA")
                evil = SECOND + OWN + b"\r\nevil\r\n.\r\n"
                octets = OWN + b"\r\nHi" + separator + evil
                for at in range(0, len(octets), step):
                    wire.send(octets[at : at + step])
                self.assertEqual(len(wire.heard()), 1, separator)
                recipients = [len(one.standings) for one, _ in bench.writer.added]
                self.assertLessEqual(sum(recipients), 1, separator)
                for _, message in bench.writer.added:
                    content = message.head + bench.writer.spools[-1].written
                    self.assertEqual(content.count(b"\n"), content.count(b"\r\n"))

    def test_starttls(self) -> None:
        """Whatever comes behind STARTTLS in clear ends the session."""
        for injected in INJECTED:
            for before in (b"", b"EHLO x\r\n"):
                bench = Bench(Service.SUBMISSION)
                bench.factory.tls = object.__new__(ServerTls)
                wire = bench.connect()
                wire.heard()
                wire.send(before + b"STARTTLS\r\n" + injected)
                self.assertEqual(wire.heard()[-1][:9], "554 5.7.0", injected)
                self.assertTrue(wire.closed)
                self.sound(bench)

    def test_the_web(self) -> None:
        """A browser that was made to speak to us is not listened to."""
        for verb in ("GET", "POST", "PUT", "CONNECT"):
            bench, wire = self.session()
            said = wire.say(f"{verb} / HTTP/1.1", "Host: x", "", MAIL)
            self.assertEqual([line[:3] for line in said], ["500"])
            self.assertTrue(wire.closed)
            self.sound(bench)

    def test_floods(self) -> None:
        """What is repeated without end comes to one."""
        for line, most in (("FOO", 21), ("NOOP", 101), ("AUTH", 21), (RCPT, 1001)):
            bench, wire = self.session(login=False)
            said = [reply for _ in range(1100) for reply in wire.say(line)]
            self.assertLessEqual(len(said), most + 1, line)
            self.assertEqual(said[-1][:9], "421 4.7.0", line)
            self.assertTrue(wire.closed)
            self.sound(bench)
