"""Remote hosts by a table: what the outside world answers, and to whom.

`HOSTS` are the habits of whole hosts, `TAGS` those of recipients: mail for
`anyone+full@…` meets a full mailbox. `RemoteHost` obeys them on any network, in memory
or on real sockets, and keeps what it takes in an `Inbox`, octet for octet.
"""

import re
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.mail.entry import Stage
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import TlsFacts
from fwd_mta.net.tls import ServerTls, start_tls, tls_facts
from fwd_mta.smtp import replies

_LINE_LIMIT = 4096
_DIALOGUE_LIMIT = 20_000
_ENDLESS_PAUSE = 1.0
_ENDLESS = 1000  # lines; nobody reads as many
_FLOOD = b"250" + b"x" * 200_000
_GARBAGE = b"\xff\xfe\x00HTTP/1.1 400 Bad Request\r\n\r\n"
_PATH = re.compile(
    rb'(?:FROM|TO):[ \t]*<((?:[^<>"\\]|"(?:[^"\\]|\\.)*")*)>', re.IGNORECASE
)


class Deed(Enum):
    """What a host does instead of answering."""

    CLOSE = "closes the connection"
    RESET = "resets the connection"
    SILENCE = "never answers"
    ENDLESS = "begins a reply and never ends it"
    FLOOD = "sends a line that never ends"
    GARBAGE = "sends octets that are no reply"
    HALF_CLOSE = "ends its side and never answers"


Act = Reply | Deed
Acts = Mapping[Stage, Act | tuple[Act | None, ...]]

EXTENSIONS = (
    "PIPELINING",
    "SIZE 52428800",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "DSN",
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a host, or one recipient, does that is not plain delivery.

    A tuple of acts is used up one by one, None being the plain answer, and then it is
    plain for ever. `lag` seconds pass before each reply; `greylist` is how long after
    its first sight a recipient is put off. `extensions` count for hosts only.
    """

    acts: Acts = field(default_factory=dict)
    lag: float = 0.0
    greylist: float = 0.0
    extensions: tuple[str, ...] = EXTENSIONS


PLAIN = Behaviour()


def _without(name: str) -> tuple[str, ...]:
    return tuple(one for one in EXTENSIONS if one.split()[0] != name)


# {host}, {client} and {recipient} are filled in.
_FULL = "<{recipient}>: the mailbox is full"
_UNKNOWN = "<{recipient}>: no such user here"
_BLOCKED = (
    "Service unavailable; client [{client}] blocked using list.example block list"
)
_RATE = "Rate limit exceeded, slow down"
_URIBL = "Blocked: the message names a site on the URIBL"
_ENDING = "{host} closes the connection, too many sessions"

TAGS: Mapping[str, Behaviour] = {
    "greylist": Behaviour(greylist=300.0),
    "full": Behaviour({Stage.RCPT: Reply(452, "2.2", _FULL)}),
    "full5": Behaviour({Stage.RCPT: Reply(552, "2.2", _FULL)}),
    "unknown": Behaviour({Stage.RCPT: Reply(550, "1.1", _UNKNOWN)}),
    "blocked": Behaviour({Stage.RCPT: Reply(554, "7.1", _BLOCKED)}),
    "later": Behaviour({Stage.RCPT: Reply(451, "3.0", "Try again later")}),
    "many": Behaviour({Stage.RCPT: Reply(452, "5.3", "Too many recipients")}),
    "slow": Behaviour(lag=5.0),
    "spam": Behaviour({Stage.DOT: Reply(550, "7.1", "Message looks like spam")}),
    "big": Behaviour({Stage.DOT: Reply(552, "3.4", "Message is too big")}),
    "drop": Behaviour({Stage.DATA: Deed.CLOSE}),
    "lost": Behaviour({Stage.DOT: Deed.CLOSE}),
    "silent": Behaviour({Stage.DOT: Deed.SILENCE}),
    "many5": Behaviour({Stage.RCPT: Reply(552, "5.3", "Too many recipients")}),
    "rate": Behaviour({Stage.RCPT: Reply(450, "7.1", _RATE)}),
    "policy": Behaviour({Stage.RCPT: Reply(550, "7.1", "Refused by local policy")}),
    "inactive": Behaviour({Stage.RCPT: Reply(550, "2.1", "Account is inactive")}),
    "uribl": Behaviour({Stage.DOT: Reply(554, "7.1", _URIBL)}),
    "dmarc": Behaviour({Stage.DOT: Reply(550, "7.26", "Rejected by DMARC policy")}),
    "reset": Behaviour({Stage.DOT: Deed.RESET}),
}

HOSTS: Mapping[str, Behaviour] = {
    "plain": PLAIN,
    "bare": Behaviour(extensions=()),
    "no-pipelining": Behaviour(extensions=_without("PIPELINING")),
    "no-8bitmime": Behaviour(extensions=_without("8BITMIME")),
    "no-smtputf8": Behaviour(extensions=_without("SMTPUTF8")),
    "small": Behaviour(extensions=(*_without("SIZE"), "SIZE 1000")),
    "slow": Behaviour(lag=30.0),
    "busy": Behaviour({Stage.GREETING: Reply(421, "3.2", _ENDING)}),
    "closed": Behaviour({Stage.GREETING: Reply(554, "7.1", "No mail from you")}),
    "no-mail": Behaviour({Stage.GREETING: Reply(521, "3.2", "Takes no mail")}),
    "mute": Behaviour({Stage.GREETING: Deed.SILENCE}),
    "slams": Behaviour({Stage.GREETING: Deed.CLOSE}),
    "no-ehlo": Behaviour({Stage.HELLO: Reply(550, "7.1", "Who are you?")}),
    "bad-starttls": Behaviour({Stage.STARTTLS: Reply(454, "7.0", "No TLS now")}),
    "blocks": Behaviour({Stage.MAIL: Reply(550, "7.1", _BLOCKED)}),
    "defers": Behaviour({Stage.MAIL: Reply(451, "3.0", "Try again later")}),
    "endless": Behaviour({Stage.MAIL: Deed.ENDLESS}),
    "250-to-data": Behaviour({Stage.DATA: Reply(250, "0.0", "Ok")}),
    "drops-data": Behaviour({Stage.DATA: Deed.CLOSE}),
    "lost-after-dot": Behaviour({Stage.DOT: Deed.CLOSE}),
    "silent-after-dot": Behaviour({Stage.DOT: Deed.SILENCE}),
    "starttls-5xx": Behaviour({Stage.STARTTLS: Reply(554, "7.0", "Never TLS")}),
    "rate": Behaviour({Stage.MAIL: Reply(450, "7.1", _RATE)}),
    "421-at-rcpt": Behaviour({Stage.RCPT: Reply(421, "3.2", _ENDING)}),
    "long": Behaviour({Stage.MAIL: Reply(250, "0.0", "\n".join(["and"] * 300))}),
    "flood": Behaviour({Stage.MAIL: Deed.FLOOD}),
    "garbage": Behaviour({Stage.GREETING: Deed.GARBAGE}),
    "garbage-after-dot": Behaviour({Stage.DOT: Deed.GARBAGE}),
    "half-closes": Behaviour({Stage.DATA: Deed.HALF_CLOSE}),
    "resets": Behaviour({Stage.RCPT: Deed.RESET}),
    "resets-after-dot": Behaviour({Stage.DOT: Deed.RESET}),
    "late": Behaviour(lag=110.0),
    "no-room": Behaviour({Stage.DOT: Reply(452, "3.1", "Insufficient storage")}),
}

_PLAIN_REPLIES: Mapping[Stage, Reply] = {
    Stage.GREETING: Reply(220, None, "{host} ESMTP"),
    Stage.STARTTLS: Reply(220, "0.0", "Begin TLS"),
    Stage.AUTH: Reply(235, "7.0", "Welcome"),
    Stage.MAIL: Reply(250, "1.0", "Sender ok"),
    Stage.RCPT: Reply(250, "1.5", "Recipient ok"),
    Stage.DATA: Reply(354, None, "End with a dot"),
    Stage.DOT: Reply(250, "0.0", "Ok: taken by {host}"),
}
_NOISE: Mapping[Deed, bytes] = {Deed.FLOOD: _FLOOD, Deed.GARBAGE: _GARBAGE}
_OUT_OF_ORDER = Reply(503, "5.1", "Out of order")
_NOBODY = Reply(554, "5.1", "No valid recipients")
_PUT_OFF = Reply(450, "2.0", "<{recipient}>: greylisted, please try again later")


def _nothing() -> None:
    """Go on."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as a remote host took it; `content` is exact, dots unstuffed.

    `mail` and `rcpt` are the arguments of the commands as they came; `at` is the time
    of the host's clock.
    """

    at: float
    host: str
    client: str
    hello: str
    tls: TlsFacts | None
    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes
    mail: bytes = b""
    rcpt: tuple[bytes, ...] = ()


class Inbox:
    """Where hosts leave what they took; several may share one."""

    def __init__(self, on_message: Callable[[Received], None] | None = None) -> None:
        self.messages: list[Received] = []
        self._on_message = on_message

    def take(self, message: Received) -> None:
        """Keep a message, and tell who wanted to know."""
        self.messages.append(message)
        if self._on_message is not None:
            self._on_message(message)

    def of(self, recipient: str) -> list[Received]:
        """The messages that went to a recipient."""
        return [one for one in self.messages if recipient in one.recipients]


class RemoteHost(Factory):
    """A mail exchanger of the outside world, or with `lmtp` a mail store (RFC 2033).

    `behaviour` may be changed at any time; `recipients` holds what single addresses do,
    `tags` what tagged ones do. With `accounts` (login to password) it offers AUTH
    PLAIN. `dialogue` holds what was said, `connected_at` the times of all connections.
    """

    noisy = False

    def __init__(
        self,
        name: str,
        clock: IReactorTime,
        inbox: Inbox | None = None,
        behaviour: Behaviour = PLAIN,
        tls: ServerTls | None = None,
        *,
        tags: Mapping[str, Behaviour] = TAGS,
        accounts: Mapping[str, str] | None = None,
        lmtp: bool = False,
    ) -> None:
        self.name = name
        self.clock = clock
        self.inbox = inbox or Inbox()
        self.behaviour = behaviour
        self.tls = tls
        self.recipients: dict[str, Behaviour] = {}
        self.tags = tags
        self.accounts = accounts or {}
        self.lmtp = lmtp
        self.dialogue: deque[str] = deque(maxlen=_DIALOGUE_LIMIT)
        self.connected_at: list[float] = []
        self._used: dict[tuple[str, Stage], int] = {}
        self._first_seen: dict[tuple[str, str], float] = {}

    @override
    def buildProtocol(self, addr: IAddress | None) -> "_Session":
        """Begin a session."""
        self.connected_at.append(self.clock.seconds())
        return _Session(self, getattr(addr, "host", "local"))

    @property
    def commands(self) -> list[str]:
        """The lines that clients sent, without those of content."""
        return [line[3:] for line in self.dialogue if line.startswith("C: ")]

    def of(self, recipient: str) -> Behaviour:
        """What a recipient does: its own entry, else that of its tag."""
        named = self.recipients.get(recipient)
        if named is not None:
            return named
        tag = recipient.rpartition("@")[0].strip('"').partition("+")[2]
        return self.tags.get(tag.lower(), PLAIN)

    def act(self, who: str, behaviour: Behaviour, stage: Stage) -> Act | None:
        """What is done at a stage, None for the plain answer; uses up tuples."""
        acts = behaviour.acts.get(stage)
        if acts is None or isinstance(acts, Reply | Deed):
            return acts
        used = self._used.get((who, stage), 0)
        self._used[who, stage] = used + 1
        return acts[used] if used < len(acts) else None

    def puts_off(self, sender: str, recipient: str) -> bool:
        """Whether the recipient is greylisted for the sender at this time."""
        now = self.clock.seconds()
        first = self._first_seen.setdefault((sender, recipient), now)
        return now < first + self.of(recipient).greylist


@dataclass(slots=True)
class _Transaction:
    """A mail transaction that has begun: its paths, and the arguments they came in."""

    sender: str
    mail: bytes
    recipients: list[str] = field(default_factory=list)
    rcpt: list[bytes] = field(default_factory=list)


class _Session(Protocol):
    """One SMTP session; a reply that waits holds back all that follows."""

    def __init__(self, host: RemoteHost, client: str) -> None:
        self._host = host
        self._client = client
        self._in = bytearray()
        self._busy = False
        self._ended = False
        self._in_content = False
        self._searched = 0
        self._refusing = False
        self._encrypted = False
        self._hello = ""
        self._later: IDelayedCall | None = None
        self._open: _Transaction | None = None
        self._verbs: Mapping[str, Callable[[bytes], None]] = {
            "EHLO": self._say_hello,
            "HELO": self._say_hello,
            "LHLO": self._say_hello,
            "STARTTLS": self._start_tls,
            "AUTH": self._authenticate,
            "MAIL": self._begin,
            "RCPT": self._add,
            "DATA": self._data,
            "RSET": self._reset,
            "NOOP": lambda _: self._say(Reply(250, "0.0", "Ok")),
            "VRFY": lambda _: self._say(Reply(252, "0.0", "Try it")),
            "QUIT": self._quit,
        }

    # The wire

    @override
    def connectionMade(self) -> None:
        self._act(Stage.GREETING)

    @override
    def dataReceived(self, data: bytes) -> None:
        self._in += data
        self._pump()

    @override
    def connectionLost(self, reason: Failure | None = None) -> None:
        self._ended = True
        if self._later is not None and self._later.active():
            self._later.cancel()

    def _pump(self) -> None:
        while not (self._busy or self._ended):
            taken = self._take_content() if self._in_content else self._take_line()
            if not taken:
                return

    def _take_line(self) -> bool:
        end = self._in.find(b"\n")
        if end < 0:
            if len(self._in) > _LINE_LIMIT:
                self._say(Reply(500, "5.2", "Line too long"), self._close)
            return False
        line = bytes(self._in[:end]).removesuffix(b"\r")
        del self._in[: end + 1]
        self._host.dialogue.append("C: " + line.decode("utf-8", "backslashreplace"))
        verb, _, argument = line.partition(b" ")
        self._obey(verb.upper().decode("ascii", "replace"), argument.strip())
        return True

    def _obey(self, verb: str, argument: bytes) -> None:
        deed = self._verbs.get(verb)
        if deed is None:
            self._say(Reply(500, "5.2", "Unknown command"))
        elif self._refusing and verb != "QUIT":
            # RFC 5321 3.1: after a 554 greeting, nothing but QUIT
            self._say(_OUT_OF_ORDER)
        else:
            deed(argument)

    def _take_content(self) -> bool:
        """Only CRLF.CRLF ends content; the CRLF before its first line was put there."""
        end = self._in.find(b"\r\n.\r\n", max(0, self._searched - 4))
        self._searched = 0 if end >= 0 else len(self._in)
        if end < 0:
            return False
        raw = bytes(self._in[: end + 2])
        del self._in[: end + 5]
        self._in_content = False
        self._finish(raw.replace(b"\r\n.", b"\r\n")[2:])
        return True

    # Answers

    def _act(self, stage: Stage, then: Callable[[], None] = _nothing) -> None:
        """Do what the host or a recipient does at the stage; `then` if it is plain."""
        concerned = self._open.recipients if self._open else []
        self._perform(stage, *self._decided(stage, concerned), then=then)

    def _decided(self, stage: Stage, concerned: list[str]) -> tuple[Act | None, float]:
        host = self._host
        act = host.act("", host.behaviour, stage)
        lag = host.behaviour.lag
        for recipient in concerned:
            behaviour = host.of(recipient)
            act = act or host.act(recipient, behaviour, stage)
            lag = max(lag, behaviour.lag)
        return act, lag

    def _perform(
        self,
        stage: Stage,
        act: Act | None,
        lag: float,
        about: str = "",
        then: Callable[[], None] = _nothing,
    ) -> None:
        if isinstance(act, Deed):
            self._misbehave(act)
            return
        reply = act or _PLAIN_REPLIES[stage]
        self._refusing = stage is Stage.GREETING and reply.is_permanent
        self._say(reply, _nothing if act else then, lag, about)

    def _misbehave(self, deed: Deed) -> None:
        self._busy = True
        self._host.dialogue.append(f"S: ({deed.value})")
        if deed is Deed.CLOSE:
            self._close()
        elif deed is Deed.RESET:
            self._transport.abortConnection()
        elif deed is Deed.HALF_CLOSE:
            self._transport.loseWriteConnection()
        elif deed is Deed.ENDLESS:
            self._go_on(_ENDLESS)
        elif deed in _NOISE:
            self._transport.write(_NOISE[deed])

    def _go_on(self, left: int) -> None:
        self._transport.write(b"250-and there is more\r\n")
        if left:
            self._later = self._host.clock.callLater(
                _ENDLESS_PAUSE, self._go_on, left - 1
            )

    def _say(
        self,
        reply: Reply,
        then: Callable[[], None] = _nothing,
        lag: float = 0.0,
        about: str = "",
    ) -> None:
        reply = Reply(reply.code, reply.detail, self._filled(reply.text, about))
        if not lag:
            self._speak(reply, then)
            return
        self._busy = True
        self._later = self._host.clock.callLater(lag, self._speak_late, reply, then)

    def _speak_late(self, reply: Reply, then: Callable[[], None]) -> None:
        self._busy = False
        self._speak(reply, then)
        self._pump()

    def _speak(self, reply: Reply, then: Callable[[], None]) -> None:
        self._host.dialogue.append(f"S: {reply}")
        self._transport.write(replies.write(reply))
        if reply.code == 421:
            self._close()
        else:
            then()

    def _filled(self, text: str, about: str) -> str:
        known = {"host": self._host.name, "client": self._client, "recipient": about}
        for word, value in known.items():
            text = text.replace("{" + word + "}", value)
        return text

    def _close(self) -> None:
        self._ended = True
        self._transport.loseConnection()

    @property
    def _transport(self) -> ITCPTransport:
        return cast("ITCPTransport", self.transport)

    # Verbs

    def _say_hello(self, argument: bytes) -> None:
        act, lag = self._decided(Stage.HELLO, [])
        self._open = None
        self._hello = argument.decode("ascii", "replace")
        lines = "\n".join([self._host.name, *self._offers()])
        self._perform(Stage.HELLO, act or Reply(250, None, lines), lag)

    def _offers(self) -> list[str]:
        offers = list(self._host.behaviour.extensions)
        if self._host.tls is not None and not self._encrypted:
            offers.append("STARTTLS")
        if self._host.accounts:
            offers.append("AUTH PLAIN")
        return offers

    def _start_tls(self, _: bytes) -> None:
        if self._host.tls is None or self._encrypted:
            self._say(_OUT_OF_ORDER)
        else:
            self._act(Stage.STARTTLS, self._encrypt)

    def _encrypt(self) -> None:
        """What came behind STARTTLS in clear is dropped (RFC 3207 4.2)."""
        tls = self._host.tls
        if tls is None:
            return
        self._in.clear()
        self._open = None
        self._hello = ""
        self._encrypted = True
        start_tls(self, self.transport, tls, self._host.clock, client=False)

    def _authenticate(self, argument: bytes) -> None:
        mechanism, _, response = argument.partition(b" ")
        login, password = _credentials(response)
        right = login in self._host.accounts and self._host.accounts[login] == password
        if mechanism.upper() == b"PLAIN" and right:
            self._act(Stage.AUTH)
        else:
            self._say(Reply(535, "7.8", "Wrong login or password"))

    def _begin(self, argument: bytes) -> None:
        found = _PATH.match(argument)
        if found is None or self._open is not None or not self._hello:
            self._say(_OUT_OF_ORDER)
            return
        opened = _Transaction(found[1].decode("utf-8", "replace"), argument)

        def begin() -> None:
            self._open = opened

        self._act(Stage.MAIL, begin)

    def _add(self, argument: bytes) -> None:
        found, opened = _PATH.match(argument), self._open
        if found is None or opened is None:
            self._say(_OUT_OF_ORDER)
            return
        recipient = found[1].decode("utf-8", "replace")

        def add() -> None:
            opened.recipients.append(recipient)
            opened.rcpt.append(argument)

        act, lag = self._decided(Stage.RCPT, [recipient])
        if act is None and self._host.puts_off(opened.sender, recipient):
            act = _PUT_OFF
        self._perform(Stage.RCPT, act, lag, recipient, add)

    def _data(self, _: bytes) -> None:
        if self._open is None:
            self._say(_OUT_OF_ORDER)
        elif not self._open.recipients:
            self._say(_NOBODY)
        else:
            self._act(Stage.DATA, self._begin_content)

    def _begin_content(self) -> None:
        self._in_content = True
        self._in[:0] = b"\r\n"

    def _finish(self, content: bytes) -> None:
        """Take it, unless a reply says no; who only falls silent has taken it."""
        done, self._open = self._open, None
        if done is None:
            return
        if self._host.lmtp:
            self._finish_each(done, content)
            return
        act, lag = self._decided(Stage.DOT, done.recipients)
        if not isinstance(act, Reply):
            self._take(done, done.recipients, content)
        self._perform(Stage.DOT, act, lag, done.recipients[0])

    def _finish_each(self, done: _Transaction, content: bytes) -> None:
        """Answer for each recipient (RFC 2033 4.2)."""
        acts = [self._decided(Stage.DOT, [one])[0] for one in done.recipients]
        told = list(zip(done.recipients, acts, strict=True))
        taken = [one for one, act in told if not isinstance(act, Reply)]
        if taken:
            self._take(done, taken, content)
        for recipient, act in told:
            if not self._busy:
                self._perform(Stage.DOT, act, 0.0, recipient)

    def _take(self, done: _Transaction, taken: list[str], content: bytes) -> None:
        message = Received(
            at=self._host.clock.seconds(),
            host=self._host.name,
            client=self._client,
            hello=self._hello,
            tls=tls_facts(self.transport),
            reverse_path=done.sender,
            recipients=tuple(taken),
            content=content,
            mail=done.mail,
            rcpt=tuple(done.rcpt),
        )
        self._host.inbox.take(message)

    def _reset(self, _: bytes) -> None:
        self._open = None
        self._say(Reply(250, "0.0", "Ok"))

    def _quit(self, _: bytes) -> None:
        self._say(Reply(221, "0.0", "Bye"), self._close)


def _credentials(response: bytes) -> tuple[str, str]:
    """Login and password of RFC 4616; empty ones when it is none."""
    try:
        words = b64decode(response, validate=True).decode().split("\0")
    except ValueError:
        return "", ""
    return (words[1], words[2]) if len(words) == 3 else ("", "")
