"""Tests of `fwd_mta.rules.submission`: what is refused, and in which words."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.account import Account
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import Service, Session
from fwd_mta.rules.submission import ONCE, SubmissionPolicy, refusal, sender_refusal

JOE = Account("joe@example.com", send_as=("joe@example.com", "*@joe.example"))
SUBMITTED = Session(Service.SUBMISSIONS, "192.0.2.1", 5000, account=JOE)
RELAYED = Session(Service.RELAY, "10.0.0.1", 5000, trusted=True)
ENVELOPE = Envelope(
    Mailbox("joe", "example.com"), (Recipient(Mailbox("a", "b.example")),)
)
FROM = "From: Joe <joe@example.com>\r\n"


def judge(
    head: str, session: Session = SUBMITTED, policy: SubmissionPolicy | None = None
) -> Reply | None:
    """The refusal of a message with that header section."""
    message = Message(head.encode(), b"Hello\r\n")
    return refusal(session, ENVELOPE, message, policy or SubmissionPolicy())


class SubmissionTests(SynchronousTestCase):
    """The checks."""

    def refused(self, reply: Reply | None, code: int, status: str, *words: str) -> None:
        """Check codes, some words, and that any client can show the text."""
        assert reply is not None
        self.assertEqual((reply.code, reply.status), (code, status), reply)
        for word in words:
            self.assertIn(word, reply.text)
        plain = reply.text.replace("\n", "")
        self.assertTrue(plain.isascii() and plain.isprintable(), plain)
        self.assertLess(len(reply.text), 1000)

    def test_fine(self) -> None:
        """What is right, or merely odd, is taken."""
        for head in (
            FROM,
            "from : joe@example.com\r\n",
            "From: JOE+list@EXAMPLE.com\r\nSender: any@joe.example\r\n",
            "From: joe@example.com, any@joe.example\r\n",
            FROM + "To: undisclosed-recipients:;\r\nCc: not an address\r\n",
            FROM + "Reply-To: someone@else.example\r\nSubject:\r\n",
            FROM + "Date: Tue, 1 Jan 1980 00:00:00 +0000\r\n",
            FROM + "Date: some day\r\nReceived: x\r\nReceived: y\r\n",
            FROM + "Resent-From: joe@example.com\r\n" * 2,
        ):
            self.assertIsNone(judge(head), head)

    def test_no_from(self) -> None:
        """A message without From is refused."""
        self.refused(judge("Subject: x\r\n"), 550, "5.6.0", "no From")

    def test_more_than_one(self) -> None:
        """A field that may stand once is refused twice, with its name and lines."""
        for name in ONCE[1:]:
            first, second = f"{name}: joe@example.com\r\n", f"{name.upper()} : x\r\n"
            head = f"{FROM}{first}X-Y: z\r\n w\r\n{second}"
            words = (f"2 {name} fields", "lines 2 and 5")
            self.refused(judge(head), 550, "5.6.0", *words)
        self.refused(judge(FROM * 3), 550, "5.6.0", "3 From fields", "lines 1 and 2")

    def test_no_field(self) -> None:
        """A header line that is no field is refused, with its number."""
        self.refused(judge(FROM + "oops\x07\r\n"), 550, "5.6.0", "line 2", "oops")

    def test_unparsable(self) -> None:
        """A From or Sender that cannot be read is refused, with the reason."""
        for field in ("From", "Sender", "Resent-From", "Resent-Sender"):
            head = (FROM if field != "From" else "") + f"{field}: Doe, Joe <joe@x>\r\n"
            self.refused(judge(head), 550, "5.6.0", f"the {field} field", "Doe")
        self.refused(judge("From:\r\n"), 550, "5.6.0", "no address")
        two = FROM + "Sender: joe@example.com, a@joe.example\r\n"
        self.refused(judge(two), 550, "5.6.0", "more than one")

    def test_not_owned(self) -> None:
        """A foreign author is refused; the reply names address, login and cure."""
        for field in ("From", "Sender", "Resent-From", "Resent-Sender"):
            head = (
                FROM if field != "From" else ""
            ) + f"{field}: <boss@example.com>\r\n"
            self.refused(
                judge(head),
                550,
                "5.7.1",
                "boss@example.com",
                f"{field} field",
                "logged in as joe@example.com",
                "joe@example.com, *@joe.example",
                "fwdmta account add joe@example.com --send-as boss@example.com",
            )

    def test_tricks(self) -> None:
        """Known ways to show a foreign author behind an own one are refused."""
        for head in (
            "From: joe@example.com, boss@example.com\r\n",
            "From: boss@example.com <joe@example.com>\r\n",
            "From: <joe@example.com> <boss@example.com>\r\n",
            "From: <joe@example.com>, ceo: boss@example.com;\r\n",
            "From: joe@example.com\r\n\t, boss@example.com\r\n",
            FROM + "from\t: boss@example.com\r\n",
            FROM + "FROM: joe@example.com\r\n",
            "From\0: boss@example.com\r\n" + FROM,
            FROM + "X: y\nFrom: boss@example.com\r\n",
            FROM + "X: y\rFrom: boss@example.com\r\n",
            FROM + "Sender: joe@example.com\r\nSender: boss@example.com\r\n",
            FROM + "Resent-From: joe@example.com\r\nResent-From: boss@example.com\r\n",
        ):
            reply = judge(head)
            self.assertTrue(reply is not None and reply.code == 550, head)

    def test_group(self) -> None:
        """A group in From is refused by its own words."""
        reply = judge("From: Team: joe@example.com;\r\n")
        self.refused(reply, 550, "5.7.1", "group", "joe@example.com")

    def test_hops(self) -> None:
        """A message that goes round in circles is stopped."""
        policy = SubmissionPolicy(hopcount_limit=3)
        received = "Received: by x; y\r\n"
        self.assertIsNone(judge(received * 3 + FROM, policy=policy))
        reply = judge(received * 4 + FROM, policy=policy)
        self.refused(reply, 554, "5.4.6", "4", "limit 3")

    def test_sizes(self) -> None:
        """Message, header section and number of fields have their limits."""
        big = SubmissionPolicy(message_size_limit=20)
        self.refused(judge(FROM, policy=big), 552, "5.3.4", "20")
        head = SubmissionPolicy(header_size_limit=20)
        self.refused(judge(FROM, policy=head), 552, "5.3.4", "limit 20")
        count = SubmissionPolicy(header_count_limit=2)
        self.refused(judge(FROM + "A: b\r\nC: d\r\n", policy=count), 550, "5.6.0", "3")

    def test_long_header_line(self) -> None:
        """Under long_lines = "reject" a long header line is named; else it passes."""
        head = FROM + "X: " + "y " * 600 + "\r\n"
        self.assertIsNone(judge(head))
        reply = judge(head, policy=SubmissionPolicy(long_lines="reject"))
        self.refused(reply, 550, "5.6.0", "line 2")

    def test_relay(self) -> None:
        """On a relay listener nobody owns addresses, and From may be missing."""
        for head in (
            "",
            "Subject: x\r\n",
            "From: boss@example.com\r\n",
            "From: T: a@b;\r\n",
        ):
            self.assertIsNone(judge(head, RELAYED))
        self.refused(judge("From: boss\r\n", RELAYED), 550, "5.6.0")
        self.refused(judge(FROM * 2, RELAYED), 550, "5.6.0")

    def test_stranger(self) -> None:
        """Without an account, or from a network not trusted, nothing is taken."""
        stranger = Session(Service.SUBMISSION, "192.0.2.1", 1)
        self.refused(judge(FROM, stranger), 530, "5.7.0")
        untrusted = Session(Service.RELAY, "192.0.2.1", 1)
        self.refused(judge(FROM, untrusted), 530, "5.7.0")

    def test_help(self) -> None:
        """The operator's help page stands under a refusal."""
        policy = SubmissionPolicy(help_url="https://mail.example.com/help")
        reply = judge("", policy=policy)
        self.refused(reply, 550, "5.6.0", "\nHelp: https://mail.example.com/help")

    def test_many_patterns(self) -> None:
        """An account with many addresses does not make a long reply."""
        account = Account(
            "a@x.example", send_as=tuple(f"a{n}@x.example" for n in range(99))
        )
        reply = sender_refusal(account, Mailbox("b", "x.example"))
        self.refused(reply, 553, "5.7.1", "a4@x.example and 94 more")


class SenderTests(SynchronousTestCase):
    """MAIL FROM."""

    def test_owned(self) -> None:
        """Own addresses and the null path are fine."""
        for path in (None, Mailbox("JOE", "example.com"), Mailbox("x", "joe.example")):
            self.assertIsNone(sender_refusal(JOE, path))

    def test_refused(self) -> None:
        """A foreign one is refused with login, what is allowed, and the command."""
        reply = sender_refusal(JOE, Mailbox("jörg", "bücher.example"))
        assert reply is not None
        self.assertEqual((reply.code, reply.status), (553, "5.7.1"))
        self.assertTrue(reply.text.isascii())
        for word in ("xn--bcher-kva.example", "*@joe.example", "fwdmta account add"):
            self.assertIn(word, reply.text)

    def test_shell(self) -> None:
        """The command can be pasted into a shell, whatever the address."""
        account = Account("*@example.com")
        reply = sender_refusal(account, Mailbox("a';rm -rf", "x.example"))
        assert reply is not None
        self.assertIn("add '*@example.com' --send-as '", reply.text)
        self.assertIn("a'\\'';rm -rf", reply.text)
