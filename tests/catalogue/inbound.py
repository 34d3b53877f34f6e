"""What clients and attackers send, as data: a row is one session with a whole server.

A row says what is sent, segment by segment, and the codes of all replies that come
back, in order. `queued` is how many recipients may get mail of it; `closed` whether the
server has hung up; `says` what the last reply tells a person.
"""

from base64 import b64encode
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One session, from where its table begins."""

    sent: bytes | tuple[bytes, ...]
    heard: str
    says: str = ""
    queued: int = 0
    closed: bool = False

    @property
    def segments(self) -> tuple[bytes, ...]:
        """What is sent, each piece at once."""
        return (self.sent,) if isinstance(self.sent, bytes) else self.sent


def b64(octets: bytes) -> bytes:
    """Base64, as AUTH carries it."""
    return b64encode(octets)


LOGIN, PASSWORD = b"ann@example.com", b"correct horse"
PLAIN = b64(b"\0" + LOGIN + b"\0" + PASSWORD)
MAIL = b"MAIL FROM:<ann@example.com>\r\n"
RCPT = b"RCPT TO:<bob@example.net>\r\n"
DATA = b"DATA\r\n"
NOOP = b"NOOP\r\n"
FROM = b"From: ann@example.com\r\n"
BODY = b"\r\nHi\r\n.\r\n"
WHOLE = MAIL + RCPT + DATA
GOOD = FROM + BODY
EVIL = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<eve@example.net>\r\nDATA\r\nx\r\n.\r\n"


def mail(tail: bytes) -> bytes:
    """MAIL with something behind the address."""
    return b"MAIL FROM:<ann@example.com>" + tail + b"\r\n"


def rcpt(tail: bytes) -> bytes:
    """MAIL, and RCPT with something behind the address."""
    return MAIL + b"RCPT TO:<bob@example.net>" + tail + b"\r\n"


def to(path: bytes) -> bytes:
    """MAIL, and RCPT with that path."""
    return MAIL + b"RCPT TO:" + path + b"\r\n"


def chunk(octets: bytes, *, last: bool = True) -> bytes:
    """BDAT and its octets."""
    return b"BDAT %d%s\r\n%s" % (len(octets), b" LAST" if last else b"", octets)


# 587 before TLS: nothing that must not be said in clear, no word survives STARTTLS
IN_CLEAR = [
    Row(b"EHLO me\r\n", "250", "CHUNKING"),
    Row(b"HELO me\r\n", "250", "mail.example.com"),
    Row(MAIL, "503", "EHLO first"),
    Row(b"EHLO me\r\n" + MAIL, "250 530", "STARTTLS"),
    Row(b"HELO me\r\n" + MAIL, "250 530", "STARTTLS"),
    Row(b"EHLO me\r\nAUTH PLAIN " + PLAIN + b"\r\n", "250 538", "STARTTLS"),
    Row(b"EHLO me\r\nAUTH LOGIN\r\n", "250 538", "STARTTLS"),
    Row(b"EHLO me\r\nAUTH\r\n", "250 538", "STARTTLS"),
    Row(b"AUTH PLAIN " + PLAIN + b"\r\n", "538"),
    Row(b"EHLO me\r\nauth plain\r\n" + PLAIN + b"\r\n", "250 538 500"),
    Row(b"EHLO me\r\nSTARTTLS x\r\n", "250 501", "no argument"),
    Row(b"STARTTLS\r\nEHLO me\r\n", "554", "clear", closed=True),
    Row(b"STARTTLS\r\n\r\n", "554", closed=True),
    Row(b"STARTTLS\r\n\x16\x03\x01", "554", closed=True),
    Row(b"STARTTLS\r\nQ", "554", closed=True),
    Row(b"EHLO me\r\nSTARTTLS\r\nRSET\r\nSTARTTLS\r\n", "250 554", closed=True),
    Row((b"STARTTLS\r\n", b"EHLO me\r\n"), "220", closed=True),
    Row((b"STARTTLS\r\n", MAIL), "220", closed=True),
    Row(b"STARTTLS\n", ""),
    Row(b"STARTTLS \r\n\0", "554", closed=True),
    Row(b"EHLO me\r\nVRFY ann\r\n", "250 252"),
    Row(b"EHLO me\r\nEXPN staff\r\n", "250 502"),
    Row(b"EHLO me\r\n" + RCPT, "250 503", "MAIL first"),
    Row(b"EHLO me\r\nDATA\r\n", "250 503"),
    Row(b"EHLO me\r\n" + WHOLE + GOOD, "250 530 503 503 421", closed=True),
    Row(b"EHLO me\r\n" + chunk(b"QUIT\r\n"), "250 503", "MAIL first"),
    Row(b"\x16\x03\x01\x00\xa5\x01", "", closed=True),
    Row(b"\x80\x2e\x01\x00\x02\r\n", "500"),
    Row(b"QUIT\r\n", "221", closed=True),
    Row(b"QUIT\r\nEHLO me\r\n", "221", closed=True),
    Row(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "500", closed=True),
    Row(b"EHLO me\r\nMAIL FROM:<>\r\n", "250 530"),
    Row(MAIL * 30, "503 " * 20 + "421", "errors", closed=True),
    Row(b"EHLO me\r\n" + MAIL * 30, "250 " + "530 " * 20 + "421", closed=True),
    Row(b"EHLO a\r\n" * 120, "250 " * 100 + "421", closed=True),
    Row(b"EHLO me\r\n" + b"AUTH X\r\n" * 30, "250 " + "538 " * 20 + "421", closed=True),
]

# 465 after EHLO, nobody logged in
LOGGED_OUT = [
    Row(b"AUTH PLAIN " + PLAIN + b"\r\n", "235"),
    Row(b"auth plain " + PLAIN + b"\r\n", "235"),
    Row(b"AUTH PLAIN\r\n" + PLAIN + b"\r\n", "334 235"),
    Row(
        b"AUTH LOGIN\r\n" + b64(LOGIN) + b"\r\n" + b64(PASSWORD) + b"\r\n",
        "334 334 235",
    ),
    Row(b"AUTH LOGIN " + b64(LOGIN) + b"\r\n" + b64(PASSWORD) + b"\r\n", "334 235"),
    Row(b"AUTH PLAIN " + PLAIN + b"\r\n" * 2, "235 500"),
    Row(b"AUTH PLAIN " + PLAIN + b"\r\nAUTH PLAIN " + PLAIN + b"\r\n", "235 503"),
    Row(b"AUTH PLAIN " + PLAIN + b"\r\n" + MAIL + b"AUTH LOGIN\r\n", "235 250 503"),
    Row(b"AUTH PLAIN " + PLAIN + b"\r\nRSET\r\n" + MAIL, "235 250 250"),
    Row(b"AUTH PLAIN " + PLAIN + b"\r\nEHLO x\r\n" + MAIL, "235 250 250"),
    Row(b"AUTH PLAIN " + PLAIN + b"\r\nHELO x\r\n" + MAIL, "235 250 250"),
    Row(
        b"AUTH PLAIN " + b64(LOGIN + b"\0" + LOGIN + b"\0" + PASSWORD) + b"\r\n", "235"
    ),
    Row(
        b"AUTH PLAIN " + b64(b"ANN@EXAMPLE.COM\0" + LOGIN + b"\0" + PASSWORD) + b"\r\n",
        "235",
    ),
    Row(b"AUTH PLAIN " + b64(b"\0ANN@EXAMPLE.COM\0" + PASSWORD) + b"\r\n", "235"),
    Row(
        b"AUTH PLAIN " + b64(b"bob@example.com\0" + LOGIN + b"\0" + PASSWORD) + b"\r\n",
        "535",
    ),
    Row(
        b"AUTH PLAIN " + b64(b"\0" + LOGIN + b"\0" + PASSWORD.upper()) + b"\r\n", "535"
    ),
    Row(b"AUTH PLAIN " + b64(b"\0" + LOGIN + b"\0" + PASSWORD + b" ") + b"\r\n", "535"),
    Row(b"AUTH PLAIN " + b64(b"\0" + LOGIN + b" \0" + PASSWORD) + b"\r\n", "535"),
    Row(b"AUTH PLAIN " + b64(b"\0ann\0" + PASSWORD) + b"\r\n", "535", "full address"),
    Row(
        b"AUTH PLAIN " + b64(b"\0nobody@example.com\0x") + b"\r\n",
        "535",
        "wrong login or",
    ),
    Row(
        b"AUTH PLAIN " + b64(b"\0nobody@other.example\0x") + b"\r\n",
        "535",
        "wrong login or",
    ),
    Row(b"AUTH PLAIN " + b64(b"\0*@example.com\0x") + b"\r\n", "535", "wrong login or"),
    Row(b"AUTH PLAIN " + b64(b"\0@\0x") + b"\r\n", "535"),
    Row(b"AUTH PLAIN " + b64(b"\0\xff@example.com\0x") + b"\r\n", "535"),
    Row(b"AUTH PLAIN " + b64(b"\0" + LOGIN + b"\0\xff\xfe") + b"\r\n", "535"),
    Row(b"AUTH PLAIN " + b64(b"\0a' OR '1'='1@x.example\0x") + b"\r\n", "535"),
    Row(b"AUTH PLAIN " + b64(b"\0../../etc/passwd@x\0x") + b"\r\n", "535"),
    Row(b"AUTH PLAIN " + b64(b"\0%s%n{0}@x.example\0x") + b"\r\n", "535"),
    Row(b"AUTH PLAIN " + b64(b"\0" + b"a@" * 200 + b"\0x") + b"\r\n", "535"),
    Row(b"AUTH PLAIN " + b64(b"\0" + LOGIN + b"\0" + b"x" * 1025) + b"\r\n", "535"),
    Row(
        b"AUTH PLAIN "
        + b64(b"\0" + b"a" * 64 + b"@" + b"a." * 120 + b"x\0x")
        + b"\r\n",
        "535",
    ),
    Row(
        b"AUTH PLAIN " + b64(b"\0ann@" + b"\xc3\xa4" * 100 + b".x\0x") + b"\r\n", "535"
    ),
    Row(
        b"AUTH PLAIN " + b64(b"\0" + LOGIN + b"\0" + PASSWORD + b"\0") + b"\r\n", "501"
    ),
    Row(b"AUTH PLAIN " + b64(LOGIN + b"\0" + PASSWORD) + b"\r\n", "501"),
    Row(b"AUTH PLAIN " + PLAIN + b"=\r\n", "501"),
    Row(b"AUTH PLAIN *\r\n", "501", "aborted"),
    Row(b"AUTH LOGIN =\r\n" + b64(PASSWORD) + b"\r\n", "334 535"),
    Row(b"AUTH PLAIN\r\n*\r\n", "334 501", "aborted"),
    Row(b"AUTH LOGIN\r\n*\r\n" + MAIL, "334 501 530"),
    Row(b"AUTH LOGIN\r\n" + b64(LOGIN) + b"\r\n*\r\n", "334 334 501"),
    Row(b"AUTH PLAIN\r\nQUIT\r\n", "334 501"),
    Row(b"AUTH PLAIN\r\n" + MAIL, "334 501"),
    Row(b"AUTH PLAIN\r\n\r\n", "334 501"),
    Row(b"AUTH PLAIN\r\n=\r\n", "334 501"),
    Row(b"AUTH PLAIN\r\n====\r\n", "334 501"),
    Row(b"AUTH PLAIN " + PLAIN[:10] + b" " + PLAIN[10:] + b"\r\n", "501"),
    Row(b"AUTH PLAIN\r\n" + PLAIN[:12] + b"\t" + PLAIN[12:] + b"\r\n", "334 501"),
    Row(b"AUTH PLAIN\r\n" + PLAIN[:12] + b"\0" + PLAIN[12:] + b"\r\n", "334 501"),
    Row(b"AUTH PLAIN\r\n" + PLAIN[:12] + b"\n" + PLAIN[12:] + b"\r\n", "334 501"),
    Row(b"AUTH PLAIN\r\n\xff\xfe\r\n", "334 501"),
    Row(b"AUTH PLAIN\r\n" + b"A" * 12000 + b"\r\n", "334 501"),
    Row(b"AUTH PLAIN\r\n" + b"A" * 20000, "334 500", "too long", closed=True),
    Row(b"AUTH PLAIN " + b"A" * 20000, "500", "too long", closed=True),
    Row(b"AUTH CRAM-MD5\r\n", "504", "offered"),
    Row(b"AUTH NTLM\r\n", "504"),
    Row(b"AUTH GSSAPI\r\n", "504"),
    Row(b"AUTH OAUTHBEARER x\r\n", "504"),
    Row(b"AUTH __class__\r\n", "504"),
    Row(b"AUTH " + b"x" * 500 + b"\r\n", "504"),
    Row(b"AUTH \xff\r\n", "504"),
    Row(b"AUTH\r\n", "501", "mechanism"),
    Row(b"STARTTLS\r\n", "503", "encrypted already"),
    Row(MAIL, "530", "log in"),
    Row(b"MAIL FROM:<>\r\n", "530"),
    Row(b"MAIL FROM:<ann@example.com> AUTH=ann@example.com\r\n", "530"),
    Row(WHOLE + GOOD, "530 503 503 421", closed=True),
    Row(chunk(GOOD), "503"),
    Row(b"XCLIENT LOGIN=ann@example.com\r\n" + MAIL, "500 530"),
    Row(MAIL * 30, "530 " * 20 + "421", closed=True),
    Row(b"AUTH PLAIN " + b64(b"\0a@b.example\0x") + b"\r\n", "535", "wrong login or"),
]

# 465, ann is logged in: commands
COMMANDS = [
    # lines
    Row(b"NOOP\r\n", "250"),
    Row(b"noop\r\n", "250"),
    Row(b"NoOp x y z\r\n", "250"),
    Row(b"  NOOP\r\n", "250"),
    Row(b"NOOP   \r\n", "250"),
    Row(b"\r\n\r\n\r\n", "500 500 500"),
    Row(b"NOOP\0\r\n", "500"),
    Row(b"\0NOOP\r\n", "500"),
    Row(b"NOOP\r\0\n\r\n", "500"),
    Row(b"NOOP\n" + NOOP, "500"),
    Row(b"\n" + NOOP, "500"),
    Row(b"\xef\xbb\xbfNOOP\r\n", "500"),
    Row(b"\x1b[2J\r\n", "500"),
    Row(b"\xff\xf4\xff\xfd\x06\r\n", "500"),
    Row(b"NOOP\xc2\xa0\r\n", "500"),
    Row(b"do_QUIT\r\n", "500"),
    Row(b"UNKNOWN\r\n", "500"),
    Row(b"__init__\r\n", "500"),
    Row(b"COMMAND\r\n", "500"),
    Row(b"A" * 33 + b"\r\n", "500"),
    Row(b"A" * 5000, "500", "too long", closed=True),
    Row(b"NOOP " + b"x" * 2000 + b"\r\n", "250"),
    Row(b"NOOP " + b"x" * 2100 + b"\r\n" + NOOP, "500", "too long", closed=True),
    Row(b"FOO\r\n" * 30, "500 " * 20 + "421", closed=True),
    Row(NOOP * 130, "250 " * 99 + "421", "without a message", closed=True),
    Row(b"HELP\r\n", "214"),
    Row(b"HELP \x07me\r\n", "214"),
    Row(b"VRFY\r\n", "501"),
    Row(b"VRFY <ann@example.com>\r\n", "252"),
    Row(b"EHLO\r\n", "501", "your name"),
    Row(b"EHLO \r\n", "501"),
    Row(b"EHLO [127.0.0.1]\r\n", "250"),
    Row(b"EHLO [IPv6:::1]\r\n", "250"),
    Row(b"EHLO my laptop_1.local\r\n", "250"),
    Row(b"EHLO \xe4\xf6\xfc\r\n", "250"),
    Row(b"EHLO \x01\x02\r\n", "250"),
    Row(b"EHLO " + b"x" * 1500 + b"\r\n", "250"),
    Row(b"EHLO %n%s${jndi:ldap://x}\r\n", "250"),
    Row(b"QUIT now\r\n", "221", closed=True),
    Row(b"RSET\r\nRSET\r\n", "250 250"),
    Row(b"RSET x\r\n", "501"),
    # MAIL
    Row(MAIL, "250"),
    Row(MAIL + MAIL, "250 503", "RSET"),
    Row(b"mail from:<ann@example.com>\r\n", "250"),
    Row(b"MAIL From: <ann@example.com>\r\n", "250"),
    Row(b"MAIL FROM:<ANN@Example.COM>\r\n", "250"),
    Row(b"MAIL FROM:<ann+tag@example.com>\r\n", "250"),
    Row(b'MAIL FROM:<"ann"@example.com>\r\n', "250"),
    Row(b"MAIL FROM:<@relay.example:ann@example.com>\r\n", "250"),
    Row(b"MAIL FROM:<>\r\n", "250"),
    Row(b"MAIL FROM:<> SIZE=0\r\n", "250"),
    Row(b"MAIL FROM:<   >\r\n", "501"),
    Row(b"MAIL FROM:<<ann@example.com>>\r\n", "501"),
    Row(b"MAIL FROM:<ann@example.com>>\r\n", "501"),
    Row(b"MAIL FROM:<ann@example.com,eve@x.example>\r\n", "501"),
    Row(b"MAIL FROM:<ann@example.com:eve@x.example>\r\n", "501"),
    Row(b"MAIL FROM:<@:ann@example.com>\r\n", "501"),
    Row(b"MAIL FROM:<eve@x.example>\r\n", "553", "fwdmta account add"),
    Row(b"MAIL FROM:<bob@example.com>\r\n", "553", "may send as ann@example.com"),
    Row(b"MAIL FROM:<ann@sub.example.com>\r\n", "553"),
    Row(b"MAIL FROM:<ann@example.com@x.example>\r\n", "501"),
    Row(b'MAIL FROM:<"ann@example.com"@x.example>\r\n', "553"),
    Row(b'MAIL FROM:<"eve\\\r\n"@example.com>\r\n', "501 500"),
    Row(b"MAIL FROM:<ann@[1.2.3.4]>\r\n", "553"),
    Row(b"MAIL FROM:<ann@[IPv6:::g]>\r\n", "501"),
    Row("MAIL FROM:<ann@exämple.com>\r\n".encode(), "553", "SMTPUTF8"),
    Row("MAIL FROM:<ann@exämple.com> SMTPUTF8\r\n".encode(), "553", "not yours"),
    Row("MAIL FROM:<änn@example.com> SMTPUTF8\r\n".encode(), "553", "not yours"),
    Row(b"MAIL FROM:<\xff@example.com> SMTPUTF8\r\n", "501", "UTF-8"),
    Row("MAIL FROM:<a\u202ann@example.com> SMTPUTF8\r\n".encode(), "553"),
    Row("MAIL FROM:<ann@example.com\u200b> SMTPUTF8\r\n".encode(), "501"),
    Row(b"MAIL\r\n", "501", "FROM:<address>"),
    Row(b"MAIL FROM\r\n", "501"),
    Row(b"MAIL FROM: \r\n", "501"),
    Row(b"MAIL TO:<ann@example.com>\r\n", "501"),
    Row(b"MAILFROM:<ann@example.com>\r\n", "500"),
    Row(b"MAIL\tFROM:<ann@example.com>\r\n", "500"),
    Row(b"MAIL FROM:ann@example.com\r\n", "501", "angle brackets"),
    Row(b"MAIL FROM:<" + b"a" * 1500 + b"@example.com>\r\n", "501"),
    Row(b"MAIL FROM:<ann@" + b"a." * 600 + b"com>\r\n", "501"),
    Row(b'MAIL FROM:<"' + b"\\" * 1000 + b'"@example.com>\r\n', "501"),
    # after HELO nothing is offered
    *(
        Row(b"HELO x\r\n" + mail(word), "250 555", "not offered")
        for word in (
            b" SIZE=10",
            b" BODY=8BITMIME",
            b" SMTPUTF8",
            b" RET=FULL",
            b" ENVID=x",
            b" AUTH=<>",
            b" REQUIRETLS",
            b" HOLDFOR=60",
            b" HOLDUNTIL=2099-01-01T00:00:00Z",
        )
    ),
    Row(b"HELO x\r\n" + rcpt(b" NOTIFY=NEVER"), "250 250 555"),
    Row(b"HELO x\r\n" + rcpt(b" ORCPT=rfc822;a@b.example"), "250 250 555"),
    Row(b"HELO x\r\nEHLO x\r\n" + mail(b" SIZE=10"), "250 250 250"),
    Row(b"HELO x\r\n" + WHOLE + GOOD, "250 250 250 354 250", queued=1),
    Row(b"HELO x\r\n" + MAIL + RCPT + chunk(GOOD) + NOOP, "250 250 250 503 250", ""),
    # its parameters
    Row(mail(b" SIZE=1000"), "250"),
    Row(mail(b" size=1000"), "250"),
    Row(mail(b" SIZE="), "501"),
    Row(mail(b" SIZE"), "501", "number"),
    Row(mail(b" SIZE=-1"), "501"),
    Row(mail(b" SIZE=1e9"), "501"),
    Row(mail(b" SIZE=0x10"), "501"),
    Row(mail(b" SIZE= 10"), "501"),
    Row(mail(b" SIZE=\xd9\xa1"), "501"),
    Row(mail(b" SIZE=1 SIZE=1"), "501", "twice"),
    Row(mail(b" SIZE=1 size=2"), "501"),
    Row(mail(b" SIZE=50000000"), "250"),
    Row(mail(b" SIZE=50000001"), "552", "50000000"),
    Row(mail(b" SIZE=" + b"9" * 20), "552"),
    Row(mail(b" SIZE=" + b"9" * 21), "501"),
    Row(mail(b" BODY=7BIT"), "250"),
    Row(mail(b" BODY=8bitmime"), "250"),
    Row(mail(b" BODY=BINARYMIME"), "501"),
    Row(mail(b" BODY"), "501"),
    Row(mail(b" BODY=7BIT BODY=7BIT"), "501"),
    Row(mail(b" SMTPUTF8"), "250"),
    Row(mail(b" SMTPUTF8=1"), "501"),
    Row(mail(b" REQUIRETLS"), "250"),
    Row(mail(b" REQUIRETLS=x"), "501"),
    Row(mail(b" RET=FULL"), "250"),
    Row(mail(b" RET=hdrs"), "250"),
    Row(mail(b" RET=ALL"), "501"),
    Row(mail(b" RET"), "501"),
    Row(mail(b" RET=FULL RET=HDRS"), "501"),
    Row(mail(b" ENVID=abc"), "250"),
    Row(mail(b" ENVID=a+2Bb"), "250"),
    Row(mail(b" ENVID=a+0D+0Ab"), "501"),
    Row(mail(b" ENVID=a+b"), "501"),
    Row(mail(b" ENVID=a+2bb"), "501"),
    Row(mail(b" ENVID="), "501"),
    Row(mail(b" ENVID=" + b"x" * 101), "501", "100"),
    Row(mail(b" AUTH=<>"), "250"),
    Row(mail(b" AUTH=ann@example.com"), "250"),
    Row(mail(b" AUTH=a=b"), "501"),
    Row(mail(b" HOLDFOR=60"), "250"),
    Row(mail(b" HOLDFOR=-1"), "501"),
    Row(mail(b" HOLDFOR=999999999"), "501", "30 days"),
    Row(mail(b" HOLDFOR=60 HOLDUNTIL=2099-01-01T00:00:00Z"), "501"),
    Row(mail(b" HOLDUNTIL=2000-13-45T00:00:00Z"), "501"),
    Row(mail(b" HOLDUNTIL=tomorrow"), "501"),
    Row(mail(b" XYZ=1"), "555", "XYZ"),
    Row(mail(b" BY=10;R"), "555"),
    Row(mail(b" MT-PRIORITY=9"), "555"),
    Row(mail(b" TRANSID=<x>"), "555"),
    Row(mail(b" NOTIFY=NEVER"), "555"),
    Row(mail(b" ="), "501"),
    Row(mail(b" =1"), "501"),
    Row(mail(b" \x01"), "501"),
    Row(mail(b" " + b"x" * 1500), "555"),
    Row(mail(b" " + b"A=1 " * 300), "555"),
    Row(mail(b"SIZE=1"), "501"),
    Row(mail(b";SIZE=1"), "501"),
    # RCPT
    Row(RCPT, "503", "MAIL first"),
    Row(MAIL + RCPT, "250 250"),
    Row(MAIL + RCPT + RCPT, "250 250 250"),
    Row(to(b"<Bob@Example.NET>"), "250 250"),
    Row(to(b" <bob@example.net>"), "250 250"),
    Row(to(b"<@a.example,@b.example:bob@example.net>"), "250 250"),
    Row(to(b"<@a.example:@b.example:bob@example.net>"), "250 501"),
    Row(to(b"<bob@xn--mller-kva.example>"), "250 250"),
    Row(to("<bob@müller.example>".encode()), "250 553", "SMTPUTF8"),
    Row(mail(b" SMTPUTF8") + "RCPT TO:<bøb@müller.example>\r\n".encode(), "250 250"),
    Row(to(b"<bob@[192.0.2.1]>"), "250 250"),
    Row(to(b"<bob@[IPv6:2001:db8::1]>"), "250 250"),
    Row(to(b"<bob@[192.0.2.1>"), "250 501"),
    Row(to(b"<bob@[192.0.2.999]>"), "250 501"),
    Row(to(b"<bob@[]>"), "250 501"),
    Row(to(b"<bob@[x-tag:y]>"), "250 501"),
    Row(to(b"<bob@192.0.2.1>"), "250 501", "brackets"),
    Row(to(b"<bob@2130706433>"), "250 501"),
    Row(to(b"<postmaster>"), "250 550", "postmaster"),
    Row(to(b"<PostMaster@mail.example.com>"), "250 550"),
    Row(to(b"<postmaster@example.net>"), "250 250"),
    Row(to(b"<>"), "250 501"),
    Row(to(b"bob@example.net"), "250 501"),
    Row(to(b"<bob>"), "250 501", "no @domain"),
    Row(to(b"<bob@>"), "250 501"),
    Row(to(b"<@example.net>"), "250 501"),
    Row(to(b"<bob@@example.net>"), "250 501"),
    Row(to(b"<bob@example..net>"), "250 501"),
    Row(to(b"<bob@example.net.>"), "250 501"),
    Row(to(b"<bob@-example.net>"), "250 501"),
    Row(to(b"<bob@exa_mple.net>"), "250 501"),
    Row(to(b"<bob@example.net><eve@x.example>"), "250 501"),
    Row(to(b"<bob@example.net> <eve@x.example>"), "250 501"),
    Row(to(b"<bob@example.net>,<eve@x.example>"), "250 501"),
    Row(to(b"<bob\x00@example.net>"), "250 500"),
    Row(to(b"<bob\x7f@example.net>"), "250 501"),
    Row(to(b"<bob\t@example.net>"), "250 501"),
    Row(to(b'<"bob\tx"@example.net>'), "250 501"),
    Row(to(b'<"bob x"@example.net>'), "250 250"),
    Row(to(b'<""@example.net>'), "250 250"),
    Row(to(b'<"a\\"b"@example.net>'), "250 250"),
    Row(to(b'<"bob@example.net>'), "250 501"),
    Row(to(b"<bob%eve.example@example.net>"), "250 250"),
    Row(to(b"<eve.example!bob@example.net>"), "250 250"),
    Row(to(b"<|/bin/sh@example.net>"), "250 250"),
    Row(to(b"<-oQ/tmp@example.net>"), "250 250"),
    Row(to(b"<../../x@example.net>"), "250 501"),
    Row(to(b"<${jndi}@example.net>"), "250 250"),
    Row(to(b"<" + b"b" * 600 + b"@example.net>"), "250 501"),
    Row(rcpt(b" NOTIFY=SUCCESS,FAILURE,DELAY"), "250 250"),
    Row(rcpt(b" NOTIFY=never"), "250 250"),
    Row(rcpt(b" NOTIFY=SUCCESS,SUCCESS"), "250 250"),
    Row(rcpt(b" NOTIFY=NEVER,SUCCESS"), "250 501", "alone"),
    Row(rcpt(b" NOTIFY=SUCCESS,"), "250 501"),
    Row(rcpt(b" NOTIFY=,"), "250 501"),
    Row(rcpt(b" NOTIFY=SUCCESS FAILURE"), "250 555"),
    Row(rcpt(b" NOTIFY=ALWAYS"), "250 501"),
    Row(rcpt(b" NOTIFY"), "250 501"),
    Row(rcpt(b" NOTIFY=NEVER NOTIFY=NEVER"), "250 501"),
    Row(rcpt(b" ORCPT=rfc822;bob@example.net"), "250 250"),
    Row(rcpt(b" ORCPT=rfc822;"), "250 501"),
    Row(rcpt(b" ORCPT=bob@example.net"), "250 501"),
    Row(rcpt(b" ORCPT=;bob"), "250 501"),
    Row(rcpt(b" ORCPT=rfc822;a+0Ab"), "250 501"),
    Row(rcpt(b" ORCPT=rfc822;a+zzb"), "250 501"),
    Row(rcpt(b" ORCPT=rfc822;" + b"x" * 600), "250 501"),
    Row(rcpt(b" RET=FULL"), "250 555"),
    Row(rcpt(b" SIZE=1"), "250 555"),
    Row(rcpt(b" FOO"), "250 555", "FOO"),
    Row(MAIL + b"RCPT\r\n", "250 501"),
    Row(MAIL + b"RCPT FROM:<bob@example.net>\r\n", "250 501"),
    Row(MAIL + b"RCPT TO <bob@example.net>\r\n", "250 501"),
    # order
    Row(DATA, "503"),
    Row(MAIL + DATA, "250 503", "RCPT first"),
    Row(to(b"<bob>") + DATA, "250 501 554", "No valid recipients"),
    Row(to(b"<bob>") + DATA + GOOD, "250 501 554 421", closed=True),
    Row((to(b"<bob>") + DATA, GOOD), "250 501 554 421", closed=True),
    Row((to(b"<bob>") + DATA, b"QUIT\r\n"), "250 501 554 221", closed=True),
    Row((to(b"<bob>") + DATA, b"RSET\r\n"), "250 501 554 250"),
    Row(MAIL + RCPT + b"DATA now\r\n", "250 250 501"),
    Row(MAIL + RCPT + b"RSET\r\n" + RCPT, "250 250 250 503"),
    Row(MAIL + RCPT + b"RSET\r\n" + DATA, "250 250 250 503"),
    Row(MAIL + RCPT + b"EHLO x\r\n" + RCPT, "250 250 250 503"),
    Row(MAIL + RCPT + b"EHLO\r\n" + RCPT, "250 250 501 250"),
    Row(MAIL + RCPT + b"VRFY x\r\nNOOP\r\nHELP\r\n" + RCPT, "250 250 252 250 214 250"),
    Row(MAIL + b"STARTTLS\r\n" + RCPT, "250 503 250"),
    Row(MAIL + RCPT + b"AUTH PLAIN " + PLAIN + b"\r\n" + RCPT, "250 250 503 250"),
    Row(MAIL + RCPT + b"QUIT\r\n", "250 250 221", closed=True),
    Row(MAIL + RCPT + b"QUIT\r\n" + DATA + GOOD, "250 250 221", closed=True),
    Row(
        b"MAIL FROM:<eve@x.example>\r\n" + RCPT + DATA + GOOD,
        "553 503 503 421",
        closed=True,
    ),
    Row(WHOLE + GOOD, "250 250 354 250", "queued as", queued=1),
    Row(WHOLE + GOOD + WHOLE + GOOD, "250 250 354 250 250 250 354 250", queued=2),
    Row(WHOLE + GOOD + b"QUIT\r\n", "250 250 354 250 221", queued=1, closed=True),
    Row(WHOLE + GOOD + RCPT, "250 250 354 250 503", queued=1),
    Row(WHOLE + GOOD + DATA, "250 250 354 250 503", queued=1),
    Row(
        MAIL + RCPT + RCPT.replace(b"bob", b"BOB") + DATA + GOOD,
        "250 250 250 354 250",
        queued=2,
    ),
    Row(MAIL + RCPT * 5 + DATA + GOOD, "250 250 250 250 250 250 354 250", queued=1),
    Row(WHOLE + FROM + b"\r\nno dot", "250 250 354"),
    Row(WHOLE, "250 250 354"),
    # what a parameter says and the content is
    Row(
        mail(b" BODY=7BIT") + RCPT + DATA + FROM + b"\r\n\xe4\r\n.\r\n",
        "250 250 354 250",
        queued=1,
    ),
    Row(
        mail(b" SMTPUTF8")
        + RCPT
        + DATA
        + FROM
        + "To: b\u00f8b@x.example\r\n\r\nHi\r\n.\r\n".encode(),
        "250 250 354 250",
        queued=1,
    ),
    Row(
        mail(b" SMTPUTF8") + RCPT + DATA + FROM + b"Subject: \xe4\r\n\r\nHi\r\n.\r\n",
        "250 250 354 550",
        "not valid UTF-8",
    ),
    Row(mail(b" HOLDFOR=0") + RCPT + DATA + GOOD, "250 250 354 250", queued=1),
    # chunks
    Row(
        MAIL + RCPT + chunk(FROM + b"\r\nHi\r\n"), "250 250 250", "queued as", queued=1
    ),
    Row(
        MAIL + RCPT + chunk(FROM, last=False) + chunk(b"\r\nHi"),
        "250 250 250 250",
        queued=1,
    ),
    Row(MAIL + RCPT + chunk(FROM + b"\r\n.\r\n" + EVIL), "250 250 250", queued=1),
    Row(
        MAIL + RCPT + chunk(FROM, last=False) + b"BDAT 0 LAST\r\n",
        "250 250 250 250",
        queued=1,
    ),
    Row(MAIL + RCPT + chunk(FROM, last=False) + DATA, "250 250 250 503"),
    Row(MAIL + RCPT + chunk(FROM, last=False) + RCPT, "250 250 250 503"),
    Row(MAIL + RCPT + chunk(FROM, last=False) + MAIL, "250 250 250 503"),
    Row(
        MAIL + RCPT + chunk(FROM, last=False) + b"RSET\r\n" + chunk(b"x"),
        "250 250 250 250 503",
    ),
    Row(MAIL + chunk(b"QUIT\r\n") + NOOP, "250 503 250"),
    Row(chunk(EVIL) + NOOP, "503 250"),
    Row(MAIL + RCPT + b"BDAT\r\n" + NOOP, "250 250 501", closed=True),
    Row(MAIL + RCPT + b"BDAT x\r\n", "250 250 501", closed=True),
    Row(MAIL + RCPT + b"BDAT -5 LAST\r\n", "250 250 501", closed=True),
    Row(MAIL + RCPT + b"BDAT 5 FIRST\r\n", "250 250 501", closed=True),
    Row(MAIL + RCPT + b"BDAT 0 LAST\r\n" + NOOP, "250 250 550 250", "From"),
    Row(
        MAIL + RCPT + chunk(FROM + b"\r\na\0b") + NOOP,
        "250 250 550 250",
        "NUL in line 3",
    ),
    Row(MAIL + RCPT + chunk(FROM + b"\r\na\rb") + NOOP, "250 250 550 250", "Bare CR"),
    Row(MAIL + RCPT + chunk(FROM + b"\r\na\r") + NOOP, "250 250 550 250"),
    Row(
        MAIL + RCPT + chunk(FROM + b"\r\na\r", last=False) + chunk(b"\nb"),
        "250 250 250 250",
        queued=1,
    ),
    Row(
        MAIL + RCPT + chunk(b"a\0", last=False) + chunk(EVIL) + NOOP,
        "250 250 550 550 250",
    ),
    Row(MAIL + RCPT + b"BDAT 999999999999 LAST\r\nx", "250 250 552", closed=True),
    # work without end, and without a message
    Row(
        MAIL + RCPT + b"BDAT 0\r\n" * 1200,
        "250 250 " + "250 " * 1000 + "421",
        "without a message",
        closed=True,
    ),
    Row(
        MAIL + RCPT + b"BDAT 1\r\nx" * 1200,
        "250 250 " + "250 " * 1000 + "421",
        closed=True,
    ),
    Row(
        MAIL + RCPT + b"BDAT 1\r\n\0" * 120,
        "250 250 " + "550 " * 99 + "421",
        closed=True,
    ),
    Row(
        (WHOLE + BODY) * 120,
        "250 250 354 550 " * 99 + "250 250 354 421",
        "without a message",
        closed=True,
    ),
    Row(
        mail(b" SIZE=50000001") * 30,
        "552 " * 20 + "421",
        "Too many errors",
        closed=True,
    ),
]

NESTED = b"".join(
    b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (one, one)
    for one in range(300)
)
PARTS = (
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + b"--b\r\n\r\nx\r\n" * 2000
)

# 465, behind the 354: content that must be refused, and why
REFUSED = [
    (b"\r\nHi", "550", "no From field"),
    (b"Hi there", "550", "line 1 is no header field"),
    (b"", "550", "no From field"),
    (FROM + FROM + b"\r\n", "550", "2 From fields (header lines 1 and 2)"),
    (FROM + b"from: eve@x.example\r\n\r\n", "550", "2 From fields"),
    (FROM + b"From : eve@x.example\r\n\r\n", "550", "2 From fields"),
    (FROM + b"From\t:eve@x.example\r\n\r\n", "550", "2 From fields"),
    (b"From: eve@x.example\r\n\r\n", "550", "eve@x.example is not yours"),
    (b"From: ann@example.com, eve@x.example\r\n\r\n", "550", "eve@x.example is not"),
    (
        b"From: ann@example.com,\r\n\teve@x.example\r\n\r\n",
        "550",
        "eve@x.example is not",
    ),
    (b"From: ann@example.com (<eve@x.example>), eve@x.example\r\n\r\n", "550", "eve@x"),
    (b'From: "ann@example.com" <eve@x.example>\r\n\r\n', "550", "eve@x.example is not"),
    (b"From: ann@example.com <eve@x.example>\r\n\r\n", "550", "quotation marks"),
    (b"From: <eve@x.example> ann@example.com\r\n\r\n", "550", "after an address"),
    (b"From: <ann@example.com><eve@x.example>\r\n\r\n", "550", "Cannot read the From"),
    (b"From: <<ann@example.com>>\r\n\r\n", "550", "Cannot read the From"),
    (b"From: ann@example.com>\r\n\r\n", "550", "Unexpected >"),
    (b"From: <ann@example.com\r\n\r\n", "550", "no closing >"),
    (b'From: "ann <ann@example.com>\r\n\r\n', "550", "Cannot read the From"),
    (b"From: (ann <ann@example.com>\r\n\r\n", "550", "comment is not closed"),
    (b"From: " + b"(" * 2000 + b"\r\n\r\n", "550", "comment is not closed"),
    (b"From: ann)@example.com\r\n\r\n", "550", "Unexpected )"),
    (b"From: us: ann@example.com;\r\n\r\n", "550", "a group"),
    (b"From: us:;\r\n\r\n", "550", "a group"),
    (b"From: us:;, ann@example.com\r\n\r\n", "550", "a group"),
    (b"From:\r\n\r\n", "550", "holds no address"),
    (b"From: ,\r\n\r\n", "550", "holds no address"),
    (b"From: <>\r\n\r\n", "550", "No address"),
    (b"From: ann\r\n\r\n", "550", "No address"),
    (b"From: ann at example.com\r\n\r\n", "550", "No address"),
    (b"From: ann@ example com\r\n\r\n", "550", "White space inside"),
    (b"From: =?utf-8?q?ann=40example=2Ecom?=\r\n\r\n", "550", "No address"),
    (b"From: =?utf-8?q?a?= <eve@x.example>\r\n\r\n", "550", "eve@x.example is not"),
    (b"From: <=?utf-8?q?ann?=@example.com>\r\n\r\n", "550", "is not yours"),
    ("From: ann@exämple.com\r\n\r\n".encode(), "550", "not yours"),
    (b"From: ann@ex\xe4mple.com\r\n\r\n", "550", "From"),
    (b"From: ann@[127.0.0.1]\r\n\r\n", "550", "not yours"),
    (b"From: ann@example.com.\r\n\r\n", "550", "Empty label"),
    (b"From: ann@.example.com\r\n\r\n", "550", "Cannot read the From"),
    (b"From: a..n@example.com\r\n\r\n", "550", "Cannot read the From"),
    (b"From: @example.com\r\n\r\n", "550", "Cannot read the From"),
    (b"From: ann@@example.com\r\n\r\n", "550", "No address"),
    (b"From: ann@example.com\x00\r\n\r\n", "550", "NUL in line 1"),
    (b"From: ann@example.com\rBcc: eve@x.example\r\n\r\n", "550", "Bare CR in line 1"),
    (b"From: ann\x01@example.com\r\n\r\n", "550", "Control character"),
    (b"From: ann@example.com\x0b\r\n\r\n", "550", ""),
    (FROM + b"Sender: eve@x.example\r\n\r\n", "550", "Sender field (header line 2)"),
    (FROM + b"Sender:\r\n\r\n", "550", "holds no address"),
    (
        FROM + b"Sender: ann@example.com, ann@example.com\r\n\r\n",
        "550",
        "more than one",
    ),
    (FROM + b"Resent-From: eve@x.example\r\n\r\n", "550", "Resent-From"),
    (FROM + b"Resent-Sender: eve@x.example\r\n\r\n", "550", "Resent-Sender"),
    (FROM + b"resent-from : eve@x.example\r\n\r\n", "550", "Resent-From"),
    (FROM + b"Subject: a\r\nSubject: b\r\n\r\n", "550", "2 Subject fields"),
    (FROM + b"To: a@b.example\r\nTO: c@d.example\r\n\r\n", "550", "2 To fields"),
    (FROM + b"Date: a\r\nX: b\r\nDate: c\r\n\r\n", "550", "header lines 2 and 4"),
    (FROM + b"Message-ID: <a@b>\r\nMessage-Id: <c@d>\r\n\r\n", "550", "Message-ID"),
    (
        FROM + b"Reply-To: a@b.example\r\nReply-To: a@b.example\r\n\r\n",
        "550",
        "Reply-To",
    ),
    (FROM + b"garbage\r\n\r\n", "550", "line 2 is no header field: garbage"),
    (FROM + b": v\r\n\r\n", "550", "line 2"),
    (FROM + b"X Y: v\r\n\r\n", "550", "line 2"),
    (FROM + b"\xc3\xa4: v\r\n\r\n", "550", "line 2"),
    (FROM + b"X\x01: v\r\n\r\n", "550", "line 2"),
    (FROM + b"X\xa0: v\r\n\r\n", "550", "line 2"),
    (b" From: ann@example.com\r\n\r\n", "550", "line 1"),
    (b"From ann@example.com Mon Jan  1\r\n" + FROM + b"\r\n", "550", "line 1"),
    (b">From ann\r\n" + FROM + b"\r\n", "550", "line 1"),
    (FROM + b"Subject: \xe4\xf6\r\n\r\n", "550", ""),
    (FROM + b"Subject: a\0b\r\n\r\n", "550", "NUL in line 2"),
    (FROM + "To: b\u00f8b@x.example\r\n\r\n".encode(), "550", "needs SMTPUTF8"),
    (FROM + "Message-ID: <\u00f8@x>\r\n\r\n".encode(), "550", "8-bit"),
    (FROM + "Received: \u00f8\r\n\r\n".encode(), "550", "8-bit"),
    (b"From:: ann@example.com\r\n\r\n", "550", "Unexpected :"),
    (FROM + b"Content-Type: message/rfc822\r\n\r\n" * 300, "550", "nested deeper"),
    (FROM + NESTED, "550", "nested deeper"),
    (FROM + PARTS, "550", "more than 1000 MIME parts"),
    (FROM + b"DKIM-Signature: v=1\r\n\r\n" + b"x" * 2000, "550", "is signed"),
    (FROM + b"\r\nbody \0 NUL", "550", "NUL in line 3"),
    (FROM + b"\r\nbody \r CR", "550", "Bare CR in line 3"),
    (FROM + b"\r\nbody\r\r\nHi", "550", "Bare CR in line 3"),
    (b"Received: x\r\n" * 51 + FROM + b"\r\n", "554", "Too many hops (51"),
    (b"X: y\r\n" * 2001 + FROM + b"\r\n", "550", "2002 header fields"),
    (FROM + b"X: " + b"y" * 300_000 + b"\r\n\r\n", "552", "Header section"),
    (FROM + b"X: " + b"y" * 1500 + b"\r\n\r\n", "550", "998"),
]

# 465, behind the 354: what is taken; what the other side must see, and must not
TAKEN = [
    (FROM + b"\r\nHi", b"\r\n\r\nHi\r\n", b"\nBcc"),
    (FROM + b"\r\n", b"From: ann@example.com\r\n", b""),
    (FROM + b"Bcc: eve@x.example\r\n\r\nHi", b"\r\n\r\nHi", b"eve"),
    (FROM + b"bcc : eve@x.example,\r\n mallory@x.example\r\n\r\nHi", b"Hi", b"mallory"),
    (FROM + b"Resent-Bcc: eve@x.example\r\n\r\nHi", b"Hi", b"eve"),
    (FROM + b"Return-Path: <eve@x.example>\r\n\r\nHi", b"Hi", b"eve"),
    (b"from:ann@example.com\r\n\r\nHi", b"from:ann@example.com", b""),
    (b"From : ann@example.com\r\n\r\nHi", b"From : ann@example.com", b""),
    (b"From:\r\n ann@example.com\r\n\r\nHi", b"From:\r\n ann@example.com", b""),
    (b"From: Ann\r\n <ann@example.com>\r\n\r\nHi", b" <ann@example.com>", b""),
    (
        b"From: ann . @ example . com\r\n\r\nHi".replace(b" . @", b" @"),
        b"From: ann @",
        b"",
    ),
    (b"From: <@r.example:ann@example.com>\r\n\r\nHi", b"<@r.example:ann", b""),
    (b"From: (x) ann (y) @ (z) example.com\r\n\r\nHi", b"(x) ann (y)", b""),
    (b"From: (a (b (c))) ann@example.com\r\n\r\nHi", b"(a (b (c)))", b""),
    (b"From: ann@example.com (eve@x.example)\r\n\r\nHi", b"(eve@x.example)", b""),
    (b'From: "eve@x.example" <ann@example.com>\r\n\r\nHi', b'"eve@x.example"', b""),
    (b"From: ,ann@example.com,,\r\n\r\nHi", b"From: ,ann", b""),
    (b"From: =?utf-8?q?Ann?= <ann@example.com>\r\n\r\nHi", b"=?utf-8?q?Ann?=", b""),
    ("From: Änn <ann@example.com>\r\n\r\nHi".encode(), b"=?utf-8?", "Ä".encode()),
    (FROM + "Subject: grün\r\n\r\nHi".encode(), b"=?utf-8?", "ü".encode()),
    (FROM + "To: Grün <g@x.example>\r\n\r\nHi".encode(), b"=?utf-8?", "ü".encode()),
    (b"From: ann@example.com, ann+x@example.com\r\n\r\nHi", b"ann+x@example.com", b""),
    (FROM + b"Subject:\r\n\r\nHi", b"Subject:\r\n", b""),
    (FROM + b"To: undisclosed-recipients:;\r\n\r\nHi", b"recipients:;", b""),
    (FROM + b"To: <not an address\r\n\r\nHi", b"To: <not an", b""),
    (FROM + b"Date: yesterday\r\n\r\nHi", b"Date: yesterday", b""),
    (FROM + b"X:\r\n \r\n\r\nHi", b"X:\r\n \r\n", b""),
    (FROM + b"\r\n..leading\r\n..\r\n...", b"\r\n.leading\r\n.\r\n..\r\n", b"\r\n..l"),
    (FROM + b"\r\nSTARTTLS\r\nQUIT\r\nRSET", b"STARTTLS\r\nQUIT\r\nRSET", b""),
    (FROM + b"\r\none\ntwo", b"one\r\ntwo\r\n", b"one\ntwo"),
    (FROM.replace(b"\r\n", b"\n") + b"X: y\n\nHi", b"X: y\r\nMessage-ID:", b"X: y\n"),
    (FROM + b"\r\nx\n.\nMAIL FROM:<a@b.example>", b"x\r\n.\r\nMAIL", b"x\n"),
    (FROM + b"\r\nx\n.\r\nMAIL", b"x\r\n.\r\nMAIL", b"x\n"),
    (FROM + b"\r\nx\r\n.\nMAIL", b"x\r\n\r\nMAIL", b"\n\nM"),
    (FROM + b"\r\n\xff\xfe 8 bit", b"\xff\xfe 8 bit", b""),
    (FROM + b"\r\n\x1b[31m\x07\x08", b"\x1b[31m", b""),
    (FROM + b"Received: x\r\n" * 50 + b"\r\nHi", b"Received: x", b""),
    (FROM + b"\r\n" + b"y" * 998, b"y" * 998, b"y" * 999),
    (FROM + b"\r\n" + b"y" * 999, b"yyy=\r\n", b"y" * 999),
    (FROM + b"X: " + b"y " * 700 + b"\r\n\r\nHi", b"\r\n y", b"y " * 499),
    (FROM + b"Content-Length: 3\r\n\r\nHi there", b"Hi there", b""),
    (
        FROM + b"Authentication-Results: mail.example.com; dmarc=pass\r\n\r\nHi",
        b"Hi",
        b"",
    ),
    (FROM + b"Disposition-Notification-To: eve@x.example\r\n\r\nHi", b"Hi", b""),
]

# octets between a message and what would be a second one: never two recipients
SEPARATORS = [
    one + two + three
    for one in (b"\r\n", b"\n", b"\r", b"\r\n\0")
    for two in (b".", b"..", b". ")
    for three in (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n")
    if (one, two, three) != (b"\r\n", b".", b"\r\n")
]

# 25, a trusted network's device
DEVICES = [
    Row(b"HELO scanner\r\n" + WHOLE + GOOD, "250 250 250 354 250", queued=1),
    Row(WHOLE, "503 503 503", "MAIL first"),
    Row(
        b"EHLO x\r\n" + WHOLE + b"Subject: no From\r\n\r\nHi\r\n.\r\n",
        "250 250 250 354 250",
        queued=1,
    ),
    Row(
        b"EHLO x\r\n" + WHOLE + b"\r\nno header\r\n.\r\n",
        "250 250 250 354 250",
        queued=1,
    ),
    Row(
        b"EHLO x\r\n" + WHOLE + b"From: eve@x.example\r\n\r\nx\r\n.\r\n",
        "250 250 250 354 250",
        queued=1,
    ),
    Row(
        b"EHLO x\r\n" + WHOLE + b"From: a@b.example\r\nFrom: c@d.example\r\n" + BODY,
        "250 250 250 354 550",
    ),
    Row(b"EHLO x\r\n" + WHOLE + b"a\rb\r\n.\r\n", "250 250 250 354 550"),
    Row(b"EHLO x\r\nMAIL FROM:<eve@x.example>\r\n", "250 250"),
    Row(b"EHLO x\r\nMAIL FROM:<>\r\n" + RCPT, "250 250 250"),
    Row(b"EHLO x\r\nAUTH PLAIN " + PLAIN + b"\r\n", "250 502"),
    Row(b"EHLO x\r\nAUTH LOGIN\r\n", "250 502"),
    Row(b"EHLO x\r\nMAIL FROM:<a@b.example> AUTH=<>\r\n", "250 555"),
    Row(b"EHLO x\r\nMAIL FROM:<a@b.example> REQUIRETLS\r\n", "250 555"),
    Row(b"EHLO x\r\nMAIL FROM:<a@b.example> HOLDFOR=5\r\n", "250 555"),
    Row(b"EHLO x\r\n" + WHOLE + b"Received: x\r\n" * 51 + GOOD, "250 250 250 354 554"),
]

# 25, anybody else: no relay, by no trick
STRANGERS = [
    Row(b"EHLO x\r\n" + path + b"\r\n", "250 554", "may not send mail here")
    for path in (
        b"MAIL FROM:<ann@example.com>",
        b"MAIL FROM:<>",
        b"MAIL FROM:<postmaster@mail.example.com>",
        b"MAIL FROM:<x@[127.0.0.1]>",
        b"MAIL FROM:<x@localhost>",
        b"MAIL FROM:<@mail.example.com:x@y.example>",
        b"MAIL FROM:x",
    )
] + [
    Row(b"EHLO x\r\nAUTH PLAIN " + PLAIN + b"\r\n" + MAIL, "250 502 554"),
    Row(b"EHLO 10.0.0.9\r\n" + MAIL, "250 554"),
    Row(b"EHLO x\r\nXCLIENT ADDR=10.0.0.9\r\n" + MAIL, "250 500 554"),
    Row(b"EHLO x\r\nXFORWARD ADDR=10.0.0.9\r\n" + MAIL, "250 500 554"),
    Row(b"PROXY TCP4 10.0.0.9 198.51.100.1 1 25\r\nEHLO x\r\n" + MAIL, "500 250 554"),
    Row(b"EHLO x\r\n" + WHOLE + GOOD, "250 554 503 503 421", closed=True),
    Row(b"EHLO x\r\n" + MAIL + chunk(GOOD), "250 554 503"),
    Row(b"EHLO x\r\n" + MAIL * 30, "250 " + "554 " * 20 + "421", closed=True),
    Row(b"EHLO x\r\nVRFY root\r\nEXPN root\r\n", "250 252 502"),
]

# a server that takes little
SMALL = """
[submission]
message_size_limit = "4KB"
recipient_limit = 3
bare_newline = "reject"
long_lines = "reject"
hopcount_limit = 2
"""
LINES = b"0123456789abcdef\r\n"

# 465 of such a server, ann is logged in
TOO_MUCH = [
    Row(mail(b" SIZE=4001"), "552", "4000"),
    Row(mail(b" SIZE=4000"), "250"),
    Row(WHOLE + FROM + b"\r\n" + LINES * 300 + b".\r\n", "250 250 354 552", "4000"),
    Row(
        WHOLE + FROM + b"\r\n" + LINES * 300 + b".\r\n" + WHOLE + GOOD,
        "250 250 354 552 250 250 354 250",
        queued=1,
    ),
    Row(
        mail(b" SIZE=10") + RCPT + DATA + FROM + b"\r\n" + LINES * 250 + b".\r\n",
        "250 250 354 552",
    ),
    Row(
        WHOLE + FROM + b"\r\n" + LINES * 900,
        "250 250 354 552",
        "far over 4000 octets, closing",
        closed=True,
    ),
    Row(MAIL + RCPT + b"BDAT 9000 LAST\r\n", "250 250 552", "far over", closed=True),
    Row(MAIL + RCPT + chunk(LINES * 300), "250 250 552", "4000"),
    Row(
        MAIL + b"".join(RCPT.replace(b"bob", b"b%d" % n) for n in range(5)) + DATA,
        "250 250 250 250 452 452 354",
    ),
    Row(
        MAIL
        + b"".join(RCPT.replace(b"bob", b"b%d" % n) for n in range(5))
        + DATA
        + GOOD,
        "250 250 250 250 452 452 354 250",
        queued=3,
    ),
    Row(MAIL + RCPT * 40, "250 " * 31 + "421", "errors", closed=True),
    Row(
        MAIL + b"".join(RCPT.replace(b"bob", b"b%d" % n) for n in range(40)),
        "250 " * 4 + "452 " * 27 + "421",
        closed=True,
    ),
    Row(MAIL + b"RCPT TO:<x>\r\n" * 9, "250 501 501 501 421", "errors", closed=True),
    Row(WHOLE + FROM + b"\r\na\nb\r\n.\r\n", "250 250 354 550", "Bare LF in line 3"),
    Row(WHOLE + FROM + b"\r\na\n.\n" + EVIL, "250 250 354 550", "Bare LF in line 3"),
    Row(WHOLE + FROM + b"\r\na\n.\r\n" + EVIL, "250 250 354 550", "Bare LF"),
    Row(WHOLE + FROM + b"\r\n" + b"x" * 999 + b"\r\n.\r\n", "250 250 354 550", "998"),
    Row(
        WHOLE + FROM + b"\r\n" + b"x" * 998 + b"\r\n.\r\n", "250 250 354 250", queued=1
    ),
    Row(
        WHOLE + FROM + b"X: " + b"x" * 999 + b"\r\n" + BODY, "250 250 354 550", "line 2"
    ),
    Row(WHOLE + b"Received: x\r\n" * 3 + GOOD, "250 250 354 554", "hops"),
]
