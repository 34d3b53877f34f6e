"""A host that answers by the book, but for what a test has it do at some stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol
from typing_extensions import override

from fwd_mta.net.tls import ServerTls, start_tls

BY_THE_BOOK: Mapping[str, bytes] = {
    "GREETING": b"220 mx ESMTP\r\n",
    "EHLO": b"250-mx\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250 8BITMIME\r\n",
    "HELO": b"250 mx\r\n",
    "STARTTLS": b"220 2.0.0 go ahead\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go ahead\r\n",
    "DOT": b"250 2.0.0 queued\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
}


@dataclass(frozen=True)
class Do:
    """Something else than an answer: say some octets, and then...

    `then` is "close", "reset", "half" (close our side only), "drip" (an octet a minute,
    for ever), "split" (an octet at a time, at once) or "tls" (shake hands).
    """

    then: str
    say: bytes = b""


Deed = bytes | Do | None  # None: silence


@dataclass
class Odd(Factory):
    """What a host does at each stage; a list is used up, then it is by the book."""

    clock: IReactorTime
    deeds: Mapping[str, Deed | Sequence[Deed]] = field(default_factory=dict)
    tls: ServerTls | None = None

    noisy = False

    def __post_init__(self) -> None:
        self.left = {
            stage: list(deed) if isinstance(deed, list) else deed
            for stage, deed in self.deeds.items()
        }
        self.heard: list[bytes] = []
        self.taken: list[bytes] = []
        self.connections = 0

    @override
    def buildProtocol(self, addr: object) -> "_OddSession":
        self.connections += 1
        return _OddSession(self)

    def deed(self, stage: str) -> Deed:
        """What it does now."""
        if stage not in self.left:
            return BY_THE_BOOK.get(stage, b"500 5.5.2 what?\r\n")
        deed: Any = self.left[stage]
        if not isinstance(deed, list):
            return deed  # type: ignore[no-any-return]
        return deed.pop(0) if deed else BY_THE_BOOK[stage]


class _OddSession(Protocol):
    transport: Any

    def __init__(self, host: Odd) -> None:
        self._host = host
        self._in = b""
        self._content = False
        self._ended = False
        self._waiting: list[Deed] = []
        self._splitting = 0

    @override
    def connectionMade(self) -> None:
        self._do(self._host.deed("GREETING"))

    @override
    def dataReceived(self, data: bytes) -> None:
        self._in += data
        while self._step():
            pass

    def _step(self) -> bool:
        if self._ended:
            return False
        end = b"\r\n.\r\n" if self._content else b"\r\n"
        taken, found, rest = self._in.partition(end)
        if not found:
            return False
        self._in = rest
        if self._content:
            self._content = False
            deed = self._host.deed("DOT")
            consents = isinstance(deed, bytes) and deed.startswith(b"2")
            if consents and b"Hello" in taken:
                self._host.taken.append(taken)
            self._do(deed)
            return True
        self._host.heard.append(taken)
        verb = taken.split(b" ")[0].split(b":")[0].decode("ascii", "replace").upper()
        deed = self._host.deed(verb)
        if verb == "DATA" and isinstance(deed, bytes) and deed.startswith(b"354"):
            self._content = True
            self._in = b"\r\n" + self._in
        self._do(deed)
        if verb == "STARTTLS" and deed == BY_THE_BOOK["STARTTLS"]:
            tls = self._host.tls
            assert tls is not None
            start_tls(self, self.transport, tls, self._host.clock, client=False)
        if verb == "QUIT":
            self.transport.loseConnection()
        return True

    def _do(self, deed: Deed) -> None:
        if deed is None:
            return
        if self._splitting:
            self._waiting.append(deed)
            return
        if isinstance(deed, bytes):
            self.transport.write(deed)
            return
        if deed.then == "split":
            self._splitting = len(deed.say)
            for place in range(len(deed.say)):
                octet = deed.say[place : place + 1]
                self._host.clock.callLater(0.01 * (place + 1), self._one, octet)
            return
        self.transport.write(deed.say)
        self._ended = deed.then in {"close", "reset", "half"}
        if deed.then == "close":
            self.transport.loseConnection()
        elif deed.then == "reset":
            self.transport.abortConnection()
        elif deed.then == "half":
            self.transport.loseWriteConnection()
        elif deed.then == "drip":
            self._drip()

    def _one(self, octet: bytes) -> None:
        self.transport.write(octet)
        self._splitting -= 1
        waiting, self._waiting = self._waiting, []
        for deed in waiting:
            self._do(deed)

    def _drip(self) -> None:
        if not self.transport.disconnecting and self.transport.connected:
            self.transport.write(b"2")
            self._host.clock.callLater(60.0, self._drip)
