"""Remote hosts by a table, spoken to in raw SMTP over the network in memory."""

from collections.abc import Mapping

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.mail.entry import Stage
from fwd_mta.mail.reply import Reply
from fwd_mta.net.tls import ClientTlsContext, ServerTls, server_context, start_tls
from fwd_mta.world.certificates import Authority
from fwd_mta.world.hosts import HOSTS, TAGS, Behaviour, Deed, Inbox, RemoteHost
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.network import Link, MemoryNetwork

AUTHORITY = Authority(1_800_000_000.0)


class Caller(Protocol):
    """Says raw lines and keeps the answers."""

    transport: ITCPTransport

    def __init__(self) -> None:
        self.heard = b""
        self.lost = False

    @override
    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        self.lost = True


class HostCase(SynchronousTestCase):
    """A host, and someone who calls it."""

    link = Link()

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, SeededEntropy(), self.link)
        self.inbox = Inbox()

    def call(
        self,
        behaviour: Behaviour | None = None,
        tls: ServerTls | None = None,
        accounts: Mapping[str, str] | None = None,
        *,
        lmtp: bool = False,
    ) -> Caller:
        """Open the host at 203.0.113.5:25 and connect to it."""
        self.host = RemoteHost(
            "mx.far.example",
            self.clock,
            self.inbox,
            behaviour or Behaviour(),
            tls,
            accounts=accounts,
            lmtp=lmtp,
        )
        self.successResultOf(self.network.listen("203.0.113.5:25", self.host))
        return self.connect()

    def connect(self) -> Caller:
        """Connect once more."""
        caller = Caller()
        factory = Factory.forProtocol(lambda: caller)
        connecting = self.network.connect("203.0.113.5", 25, factory, 30)
        self.clock.advance(0.1)
        self.assertIs(self.successResultOf(connecting), caller)
        return caller

    def say(self, caller: Caller, words: bytes, wait: float = 0.5) -> list[bytes]:
        """Send words, and give the lines that come back."""
        before = len(caller.heard)
        caller.transport.write(words)
        for _ in range(10):
            self.clock.advance(wait / 10)
        return caller.heard[before:].splitlines()

    def begin(self, caller: Caller, *recipients: str) -> list[bytes]:
        """Say EHLO, MAIL and RCPT; gives the answers to RCPT."""
        self.say(caller, b"EHLO us.example\r\nMAIL FROM:<a@us.example>\r\n")
        rcpt = b"".join(b"RCPT TO:<%s>\r\n" % one.encode() for one in recipients)
        return self.say(caller, rcpt)


class DeliveryTests(HostCase):
    """Ordinary mail is taken, exactly."""

    def test_exact(self) -> None:
        """What was sent is in the inbox octet for octet, with its envelope."""
        caller = self.call()
        self.assertEqual(caller.heard, b"220 mx.far.example ESMTP\r\n")
        self.begin(caller, "b@far.example", "c@far.example")
        self.assertEqual(self.say(caller, b"DATA\r\n"), [b"354 End with a dot"])
        content = b"..\r\nSubject: x\r\n\r\n...\r\n\xff\rbare\nlf\r\n..a\r\n"
        answer = self.say(caller, content + b".\r\nQUIT\r\n")
        self.assertEqual(answer[0], b"250 2.0.0 Ok: taken by mx.far.example")
        self.assertTrue(caller.lost)
        (message,) = self.inbox.messages
        expected = b".\r\nSubject: x\r\n\r\n..\r\n\xff\rbare\nlf\r\n.a\r\n"
        self.assertEqual(message.content, expected)
        self.assertEqual(message.reverse_path, "a@us.example")
        self.assertEqual(message.recipients, ("b@far.example", "c@far.example"))
        self.assertEqual(message.hello, "us.example")
        self.assertEqual(self.inbox.of("c@far.example"), [message])
        self.assertEqual(self.inbox.of("d@far.example"), [])

    def test_two_in_one_breath(self) -> None:
        """Two pipelined messages are answered in order."""
        caller = self.call()
        one = (
            b"MAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<b@x.example> NOTIFY=NEVER\r\n"
            b"DATA\r\n.\r\n"
        )
        answers = self.say(caller, b"EHLO us\r\n" + one + one + b"QUIT\r\n")
        codes = [line[:3] for line in answers if line[3:4] == b" "]
        ready = [b"250", b"250", b"354", b"250"]
        self.assertEqual(codes, [b"250", *ready, *ready, b"221"])
        first = self.inbox.messages[0]
        self.assertEqual(first.content, b"")
        self.assertEqual(first.reverse_path, "")
        self.assertEqual(first.mail, b"FROM:<> BODY=8BITMIME")
        self.assertEqual(first.rcpt, (b"TO:<b@x.example> NOTIFY=NEVER",))

    def test_smuggling(self) -> None:
        """Only CRLF.CRLF ends a message: other dots are content."""
        caller = self.call()
        self.begin(caller, "b@far.example")
        self.say(caller, b"DATA\r\n")
        bait = b"x\n.\nMAIL FROM:<e@evil.example>\r\n.\nRCPT\n.\r\n"
        self.assertEqual(self.say(caller, bait), [])
        self.assertEqual(len(self.say(caller, b"\r\n.\r\n")), 1)
        self.assertEqual(len(self.inbox.messages), 1)

    def test_order(self) -> None:
        """Commands out of order, unknown or too long are refused, then it goes on."""
        caller = self.call()
        for words, code in (
            (b"MAIL FROM:<a@b>\r\n", b"503"),
            (b"EHLO us\r\nRCPT TO:<a@b>\r\n", b"503"),
            (b"DATA\r\n", b"503"),
            (b"FROB\r\n", b"500"),
            (b"STARTTLS\r\n", b"503"),
            (b"NOOP\r\n", b"250"),
            (b"VRFY a\r\n", b"252"),
            (b"MAIL FROM:<a@b>\r\n", b"250"),
            (b"MAIL FROM:<a@b>\r\n", b"503"),
            (b"DATA\r\n", b"554"),
            (b"RSET\r\n", b"250"),
            (b"MAIL FROM:<a@b>\r\n", b"250"),
            (b"x" * 5000, b"500"),
        ):
            self.assertEqual(self.say(caller, words)[-1][:3], code, words[:20])
        self.assertTrue(caller.lost)

    def test_dialogue(self) -> None:
        """What was said is on record, content excepted."""
        caller = self.call()
        self.begin(caller, "b@far.example")
        self.say(caller, b"DATA\r\nsecret\r\n.\r\nQUIT\r\n")
        self.assertEqual(
            self.host.commands,
            [
                "EHLO us.example",
                "MAIL FROM:<a@us.example>",
                "RCPT TO:<b@far.example>",
                "DATA",
                "QUIT",
            ],
        )
        self.assertIn("S: 354 End with a dot", self.host.dialogue)
        self.assertEqual(len(self.host.connected_at), 1)


class SplitDeliveryTests(DeliveryTests):
    """The same when every segment arrives in small pieces."""

    link = Link(split=True)


class TagTests(HostCase):
    """Recipients by their tags."""

    def test_refusals(self) -> None:
        """Each tag of the table that answers RCPT is answered its way."""
        caller = self.call()
        table = {
            "full": b"452 4.2.2 <b+full@x.example>: the mailbox is full",
            "full5": b"552 5.2.2 <b+full5@x.example>: the mailbox is full",
            "unknown": b"550 5.1.1 <b+unknown@x.example>: no such user here",
            "blocked": b"554 5.7.1 Service unavailable; client [192.0.2.1] blocked "
            b"using list.example block list",
            "later": b"451 4.3.0 Try again later",
            "many": b"452 4.5.3 Too many recipients",
            "many5": b"552 5.5.3 Too many recipients",
            "rate": b"450 4.7.1 Rate limit exceeded, slow down",
            "policy": b"550 5.7.1 Refused by local policy",
            "inactive": b"550 5.2.1 Account is inactive",
        }
        answers = self.begin(caller, *(f"b+{tag}@x.example" for tag in table))
        self.assertEqual(answers, list(table.values()))
        self.assertEqual(self.say(caller, b"DATA\r\n")[0][:3], b"554")
        at_rcpt = {tag for tag, one in TAGS.items() if Stage.RCPT in one.acts}
        self.assertEqual(at_rcpt, set(table))

    def test_greylist(self) -> None:
        """A new sender and recipient are put off, and taken after the time is over."""
        caller = self.call()
        (answer,) = self.begin(caller, "b+greylist@x.example")
        self.assertEqual(answer[:9], b"450 4.2.0")
        self.clock.advance(298)
        again = b"RCPT TO:<b+greylist@x.example>\r\n"
        self.assertEqual(self.say(caller, again)[0][:3], b"450")
        self.clock.advance(2)
        self.assertEqual(self.say(caller, again)[0][:3], b"250")
        self.say(caller, b"RSET\r\nMAIL FROM:<other@us.example>\r\n")
        self.assertEqual(self.say(caller, again)[0][:3], b"450")

    def test_slow(self) -> None:
        """A slow recipient answers late, and what follows waits its turn."""
        caller = self.call()
        both = ("b+slow@x.example", "c@x.example")
        self.assertEqual(self.begin(caller, *both), [])
        self.clock.advance(4)
        self.assertEqual(self.say(caller, b"", 1), [b"250 2.1.5 Recipient ok"] * 2)

    def test_at_the_dot(self) -> None:
        """Refused at the dot is not taken; lost or silent at the dot is taken."""
        for tag, heard, taken in (
            ("spam", [b"550 5.7.1 Message looks like spam"], 0),
            ("big", [b"552 5.3.4 Message is too big"], 0),
            ("lost", [], 1),
            ("silent", [], 1),
        ):
            self.setUp()
            caller = self.call()
            self.begin(caller, f"b+{tag}@x.example")
            self.say(caller, b"DATA\r\n")
            self.assertEqual(self.say(caller, b"x\r\n.\r\n"), heard, tag)
            self.assertEqual(len(self.inbox.messages), taken, tag)
            self.assertEqual(caller.lost, tag == "lost", tag)

    def test_drop(self) -> None:
        """The connection goes away at DATA."""
        caller = self.call()
        self.begin(caller, "b+drop@x.example")
        self.assertEqual(self.say(caller, b"DATA\r\n"), [])
        self.assertTrue(caller.lost)

    def test_named(self) -> None:
        """A single address may have a behaviour of its own; an unknown tag has none."""
        caller = self.call()
        self.host.recipients["b@x.example"] = TAGS["unknown"]
        answers = self.begin(caller, "b@x.example", "c+holiday@x.example")
        self.assertEqual([one[:3] for one in answers], [b"550", b"250"])


class HabitTests(HostCase):
    """Whole hosts by their habits."""

    def test_greetings(self) -> None:
        """A host may be busy, closed, without mail, mute, or slam the door."""
        for name, greeting, lost in (
            ("busy", b"421 4.3.2 mx.far.example closes", True),
            ("closed", b"554 5.7.1 No mail from you", False),
            ("no-mail", b"521 5.3.2 Takes no mail", False),
            ("mute", b"", False),
            ("slams", b"", True),
        ):
            self.setUp()
            caller = self.call(HOSTS[name])
            self.assertEqual(caller.heard[: len(greeting)], greeting, name)
            self.assertEqual(bool(caller.heard), bool(greeting), name)
            self.assertEqual(caller.lost, lost, name)

    def test_after_refusal(self) -> None:
        """After a 554 greeting only QUIT is obeyed."""
        caller = self.call(HOSTS["closed"])
        self.assertEqual(self.say(caller, b"EHLO us\r\n")[0][:3], b"503")
        self.assertEqual(self.say(caller, b"QUIT\r\n")[0][:3], b"221")

    def test_extensions(self) -> None:
        """A host offers what its habits say, no more."""
        offers = {
            "plain": b"PIPELINING 8BITMIME SMTPUTF8 ENHANCEDSTATUSCODES DSN",
            "bare": b"",
            "no-pipelining": b"8BITMIME SMTPUTF8 ENHANCEDSTATUSCODES DSN",
            "no-8bitmime": b"PIPELINING SMTPUTF8 ENHANCEDSTATUSCODES DSN",
            "no-smtputf8": b"PIPELINING 8BITMIME ENHANCEDSTATUSCODES DSN",
        }
        for name, expected in offers.items():
            self.setUp()
            lines = self.say(self.call(HOSTS[name]), b"EHLO us\r\n")[1:]
            words = [line[4:] for line in lines if not line[4:].startswith(b"SIZE")]
            self.assertEqual(b" ".join(words), expected, name)
        self.setUp()
        lines = self.say(self.call(HOSTS["small"]), b"EHLO us\r\n")
        self.assertEqual(lines[-1], b"250 SIZE 1000")

    def test_refusals(self) -> None:
        """A habit at a stage is what everybody hears there."""
        for name, words, expected in (
            ("no-ehlo", b"EHLO us\r\n", b"550 5.7.1"),
            ("blocks", b"EHLO us\r\nMAIL FROM:<a@b>\r\n", b"550 5.7.1"),
            ("defers", b"EHLO us\r\nMAIL FROM:<a@b>\r\n", b"451 4.3.0"),
            ("rate", b"EHLO us\r\nMAIL FROM:<a@b>\r\n", b"450 4.7.1"),
        ):
            self.setUp()
            answer = self.say(self.call(HOSTS[name]), words)
            self.assertEqual(answer[-1][:9], expected, name)

    def test_250_to_data(self) -> None:
        """A host that says 250 to DATA takes what follows as commands, and no mail."""
        caller = self.call(HOSTS["250-to-data"])
        self.begin(caller, "b@x.example")
        self.assertEqual(self.say(caller, b"DATA\r\n"), [b"250 2.0.0 Ok"])
        self.assertEqual(self.say(caller, b"x\r\n")[0][:3], b"500")
        self.assertEqual(self.inbox.messages, [])

    def test_endless(self) -> None:
        """An endless reply goes on until the caller has enough."""
        caller = self.call(HOSTS["endless"])
        self.begin(caller)
        self.assertTrue(all(line[:4] == b"250-" for line in self.say(caller, b"")))
        self.assertGreater(len(self.say(caller, b"", 100)), 5)
        caller.transport.abortConnection()
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_end_of_the_endless(self) -> None:
        """Where nobody hangs up, it ends after a thousand lines: lives are to end."""
        self.begin(self.call(HOSTS["endless"]))
        self.clock.pump([1.0] * 1100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noise(self) -> None:
        """A host may send octets that are no reply, or a line without an end."""
        caller = self.call(HOSTS["garbage"])
        self.assertNotEqual(caller.heard, b"")
        self.assertFalse(caller.heard.startswith(b"2"))
        self.setUp()
        caller = self.call(HOSTS["flood"])
        self.begin(caller)
        self.clock.pump([0.001] * 50)
        self.assertGreater(len(caller.heard), 100_000)

    def test_half_close(self) -> None:
        """A host may end its side and leave the other open."""
        caller = self.call(HOSTS["half-closes"])
        self.begin(caller, "b@x.example")
        self.assertEqual(self.say(caller, b"DATA\r\n"), [])
        self.assertTrue(caller.lost)

    def test_script(self) -> None:
        """A tuple is used up act by act; then the host is plain."""
        busy = Reply(451, "3.0", "Busy")
        caller = self.call(Behaviour({Stage.MAIL: (busy, None, busy)}))
        self.say(caller, b"EHLO us\r\n")
        codes = [self.say(caller, b"MAIL FROM:<a@b>\r\nRSET\r\n")[0] for _ in range(5)]
        expected = [b"451", b"250", b"451", b"250", b"250"]
        self.assertEqual([code[:3] for code in codes], expected)

    def test_mended(self) -> None:
        """A host's behaviour may change while sessions run."""
        caller = self.call(HOSTS["defers"])
        self.assertEqual(self.begin(caller, "b@x.example")[0][:3], b"503")
        self.host.behaviour = HOSTS["plain"]
        self.assertEqual(self.begin(caller, "b@x.example")[0][:3], b"250")

    def test_reset(self) -> None:
        """A host may reset the connection instead of answering."""
        caller = self.call(Behaviour({Stage.RCPT: Deed.RESET}))
        self.begin(caller, "b@x.example")
        self.assertTrue(caller.lost)

    def test_hang_up_while_waiting(self) -> None:
        """A caller who leaves before a late answer leaves no timer behind."""
        caller = self.call(HOSTS["slow"])
        caller.transport.abortConnection()
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_auth(self) -> None:
        """A host with accounts takes the right password only."""
        caller = self.call(accounts={"joe": "secret"})
        self.assertEqual(self.say(caller, b"EHLO us\r\n")[-1], b"250 AUTH PLAIN")
        for words, code in (
            (b"AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n", b"235"),
            (b"AUTH PLAIN AGpvZQBTRUNSRVQ=\r\n", b"535"),
            (b"AUTH PLAIN !!\r\n", b"535"),
            (b"AUTH LOGIN\r\n", b"535"),
        ):
            self.assertEqual(self.say(caller, words)[0][:3], code, words)


class LmtpTests(HostCase):
    """A mail store answers for each recipient after the dot (RFC 2033 4.2)."""

    def test_each(self) -> None:
        """One is taken, the other refused, in the order of RCPT."""
        caller = self.call(lmtp=True)
        self.say(caller, b"LHLO us\r\nMAIL FROM:<a@b>\r\n")
        self.say(caller, b"RCPT TO:<b+spam@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n")
        answers = self.say(caller, b"x\r\n.\r\n")
        self.assertEqual([one[:3] for one in answers], [b"550", b"250"])
        self.assertEqual(self.inbox.messages[0].recipients, ("c@x",))


class TlsTests(HostCase):
    """STARTTLS with real TLS, under the virtual clock."""

    def test_starttls(self) -> None:
        """After STARTTLS the session begins anew, encrypted, and mail says so."""
        chain, key = AUTHORITY.issue("mx.far.example")
        caller = self.call(tls=ServerTls(server_context(chain, key)))
        offers = self.say(caller, b"EHLO us\r\n")
        self.assertEqual(offers[-1], b"250 STARTTLS")
        self.assertEqual(self.say(caller, b"STARTTLS\r\n"), [b"220 2.0.0 Begin TLS"])
        creator = ClientTlsContext(AUTHORITY.pem).towards("mx.far.example")
        start_tls(caller, caller.transport, creator, self.clock, client=True)
        self.assertEqual(self.say(caller, b"MAIL FROM:<a@b>\r\n")[0][:3], b"503")
        self.begin(caller, "b@x.example")
        self.say(caller, b"DATA\r\nhello\r\n.\r\n")
        (message,) = self.inbox.messages
        self.assertEqual(message.content, b"hello\r\n")
        assert message.tls is not None
        self.assertEqual(message.tls.version, "TLSv1.3")

    def test_refused(self) -> None:
        """A host may refuse STARTTLS; the session stays in clear."""
        chain, key = AUTHORITY.issue("mx.far.example")
        tls = ServerTls(server_context(chain, key))
        caller = self.call(HOSTS["bad-starttls"], tls)
        self.say(caller, b"EHLO us\r\n")
        self.assertEqual(self.say(caller, b"STARTTLS\r\n")[0][:3], b"454")
        self.assertEqual(self.say(caller, b"NOOP\r\n")[0][:3], b"250")
