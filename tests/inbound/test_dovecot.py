"""Tests for Dovecot's auth socket: right, wrong, down, slow, and hostile answers."""

from base64 import b64decode
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.inbound.dialogue import Place
from fwd_mta.inbound.dovecot import TIMEOUT, DovecotAccounts
from fwd_mta.mail.account import Account
from fwd_mta.mail.errors import LookUpFailed
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.network import MemoryNetwork
from tests.inbound.bench import SECRET

HELLO = (
    b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n"
    b"SPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n"
)
SOCKET = "unix:/run/dovecot/auth-client"


class Dovecot(Protocol):
    """An auth server whose words are the test's."""

    def __init__(self, hello: bytes, answer: Callable[[bytes], bytes]) -> None:
        self.hello = hello
        self.answer = answer
        self.heard = b""

    @override
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.hello)

    @override
    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        *lines, self.heard = self.heard.split(b"\n")
        assert self.transport is not None
        for line in lines:
            if line.startswith(b"AUTH\t"):
                self.transport.write(self.answer(line))


class DovecotTests(SynchronousTestCase):
    """`DovecotAccounts` asks, and believes no nonsense."""

    @override
    def setUp(self) -> None:
        """A Dovecot that knows one password."""
        self.clock = Clock()
        self.entropy = SeededEntropy()
        self.network = MemoryNetwork(self.clock, self.entropy)
        self.hello = HELLO
        self.line = b""
        self.answer: Callable[[bytes], bytes] = self.judge
        self.port = self.listen()
        self.accounts = DovecotAccounts(
            self.network, Place.parse(SOCKET), self.clock, self.entropy
        )

    def listen(self) -> Deferred[IListeningPort]:
        """Dovecot listens."""
        factory = Factory.forProtocol(lambda: Dovecot(self.hello, self.tell))
        return self.network.listen(SOCKET, factory)

    def tell(self, line: bytes) -> bytes:
        """Answer as the test wants."""
        self.line = line
        return self.answer(line)

    def says(self, answer: bytes) -> None:
        """Have it answer this, whatever it is asked."""
        self.answer = lambda line: answer

    def judge(self, line: bytes) -> bytes:
        """Right or wrong."""
        words = line.split(b"\t")
        assert words[5].startswith(b"resp="), words
        right = b64decode(words[5][5:]) == f"\0ann@example.com\0{SECRET}".encode()
        if right:
            return b"OK\t1\tuser=ann@example.com\tsend_as=*@example.com\n"
        return b"FAIL\t1\tuser=ann@example.com\n"

    def ask(self, login: str = "ann@example.com", password: str = SECRET) -> object:
        """What comes of a login: an account, None, or the words of what broke."""
        asked = Deferred.fromCoroutine(self.accounts.verify(login, password))
        outcome: list[object] = []
        _ = asked.addBoth(outcome.append)
        for _ in range(200):
            if outcome:
                break
            self.clock.advance(TIMEOUT / 50)
        [result] = outcome
        if result is None or isinstance(result, Account):
            return result
        result.trap(LookUpFailed)  # type: ignore[attr-defined]
        return str(result.value)  # type: ignore[attr-defined]

    def test_right_and_wrong(self) -> None:
        """A right password opens the account, with what Dovecot's fields say."""
        account = Account("ann@example.com", send_as=("*@example.com",))
        self.assertEqual(self.ask(), account)
        self.assertIsNone(self.ask(password="wrong"))
        self.assertIsNone(self.ask("bob@example.com"))

    def test_the_request(self) -> None:
        """It says what for, that TLS is there, and no login in clear: RFC 4616."""
        self.ask()
        self.assertTrue(
            self.line.startswith(b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp=")
        )

    def test_find(self) -> None:
        """Who was let in is known, in any case; nobody else is."""
        self.ask()
        for login, known in (("ANN@example.com", True), ("bob@example.com", False)):
            asked = Deferred.fromCoroutine(self.accounts.find(login))
            self.assertIs(self.successResultOf(asked) is not None, known)

    def test_no_words_can_be_injected(self) -> None:
        """Tabs and line ends in a login or a password are octets like any other."""
        evil = "ann@example.com\tuser=root@example.com\nAUTH\t2\tPLAIN"
        self.assertIsNone(self.ask(evil, "x\n\t"))
        self.assertEqual(self.line.count(b"\t"), 5)
        self.assertIn(evil.encode(), b64decode(self.line.split(b"resp=")[1]))

    def test_switched_off_there(self) -> None:
        """Dovecot's nologin and our own smtp=no switch sending off."""
        for field in (b"nologin", b"smtp=no"):
            self.says(b"OK\t1\tuser=ann@example.com\t" + field + b"\n")
            self.assertEqual(self.ask(), Account("ann@example.com", smtp=False))

    def test_what_it_calls_the_login_counts(self) -> None:
        """The account is the one that Dovecot looked up, escapes undone."""
        self.says(b"OK\t1\tuser=eva\x01t@example.com\n")
        self.assertIn("account eva\t@example.com", str(self.ask()))
        self.says(b"OK\t1\tuser=eva@example.com\n")
        self.assertEqual(self.ask(), Account("eva@example.com"))

    def test_a_login_without_a_domain_is_nobodys(self) -> None:
        """If it drops domains, any domain would do: that is our trouble to tell."""
        self.says(b"OK\t1\tuser=ann\n")
        self.assertIn("auth_username_format", str(self.ask()))

    def test_cannot_say(self) -> None:
        """A passdb of Dovecot's that is down is no wrong password."""
        for answer in (b"FAIL\t1\ttemp\n", b"FAIL\t1\tuser=a\tcode=temp_fail\n"):
            self.says(answer)
            self.assertIn("cannot say now", str(self.ask()))

    def test_hostile_answers(self) -> None:
        """Nonsense is "cannot say", bounded in size and in time."""
        for answer in (
            b"OK\t2\tuser=ann@example.com\n",
            b"OK\n",
            b"CONT\t1\t\n",
            b"\xff\n",
            b"x" * 100_000,
            b"NOTE\n" * 1000,
            b"",
            b"OK\t1\tuser=ann@example.com\tsend_as=nobody\n",
        ):
            self.says(answer)
            self.assertIsInstance(self.ask(), str, answer)

    def test_hostile_greetings(self) -> None:
        """Another version, no PLAIN, no end, or silence: "cannot say"."""
        for hello in (
            HELLO.replace(b"VERSION\t1", b"VERSION\t2"),
            HELLO.replace(b"PLAIN", b"NTLM"),
            b"MECH\tPLAIN\n" * 1000,
            b"220 mail ESMTP\r\n",
            b"",
        ):
            self.hello = hello
            self.assertIsInstance(self.ask(), str, hello)

    def test_down_and_back(self) -> None:
        """Nobody listens: "cannot say"; when it is back all is well."""
        port = self.successResultOf(self.port)
        _ = port.stopListening()
        self.assertIn(SOCKET, str(self.ask()))
        _ = self.listen()
        self.assertIsInstance(self.ask(), Account)

    def test_no_scram(self) -> None:
        """SCRAM needs keys that Dovecot does not give."""
        self.assertFalse(self.accounts.offers_scram())
        asked = Deferred.fromCoroutine(self.accounts.scram_keys("ann@example.com"))
        self.failureResultOf(asked, LookUpFailed)
