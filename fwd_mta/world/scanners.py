"""clamd, rspamd and spamd in memory: they know EICAR and GTUBE, and can misbehave."""

import json
import re
from collections.abc import Mapping
from enum import Enum
from struct import unpack_from

from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override

# Written in halves, so that no scanner takes this file for the real thing
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + rb"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

_GARBAGE = b"\xff\x00HTTP/9.9 never\r\n\r\n\x00"


class Conduct(Enum):
    """How a scanner in memory behaves; all but the first are faults."""

    HONEST = "answers"
    SILENT = "reads and never answers"
    DEAF = "does not even read"
    DIES = "hangs up in the middle of a message"
    DIES_LATE = "hangs up in the middle of its answer"
    LIES = "answers nonsense"
    FLOODS = "answers without end"


class ScannerHost(Factory):
    """Listens as a scanner; `messages` are those it was shown, `heads` the requests.

    `speaks` is "clamd", "rspamd" or "spamd". `answer` replaces its own answer.
    """

    def __init__(self, speaks: str, conduct: Conduct = Conduct.HONEST) -> None:
        self.conduct = conduct
        self.answer: bytes | None = None
        self.messages: list[bytes] = []
        self.heads: list[str] = []
        self.open = 0
        self._kind = _KINDS[speaks]

    @override
    def buildProtocol(self, addr: IAddress | None) -> "_Session":
        """Serve one client."""
        return self._kind(self)


class _Session(Protocol):
    """Collects a request and answers it."""

    transport: ITCPTransport

    def __init__(self, host: ScannerHost) -> None:
        self.host = host
        self.heard = b""
        self.done = False

    @override
    def connectionMade(self) -> None:
        self.host.open += 1
        if self.host.conduct is Conduct.DEAF:
            self.transport.pauseProducing()  # type: ignore[attr-defined]

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.host.open -= 1

    @override
    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.host.conduct is Conduct.DIES:
            self.transport.abortConnection()
            return
        message = None if self.done else self.message()
        if message is None or self.host.conduct is Conduct.SILENT:
            return
        self.done = True
        self.host.messages.append(message)
        self.speak(self.host.answer or self.answer(message))

    def speak(self, answer: bytes) -> None:
        """Answer, as the conduct has it."""
        conduct = self.host.conduct
        if conduct is Conduct.LIES:
            self.transport.write(_GARBAGE)
        elif conduct is Conduct.FLOODS:
            self.transport.write(b"x" * 5_000_000)
        elif conduct is Conduct.DIES_LATE:
            self.transport.write(answer[: len(answer) // 2])
            self.transport.loseConnection()
        else:
            self.transport.write(answer)

    def message(self) -> bytes | None:
        """The whole message, once it is here."""
        raise NotImplementedError

    def answer(self, message: bytes) -> bytes:
        """What an honest one says."""
        raise NotImplementedError


class _Clamd(_Session):
    """INSTREAM."""

    @override
    def message(self) -> bytes | None:
        """Put the chunks together."""
        at, message = len(b"zINSTREAM\0"), b""
        while at + 4 <= len(self.heard):
            (length,) = unpack_from(">I", self.heard, at)
            at += 4 + length
            if not length:
                return message
            message += self.heard[at - length : at]
        return None

    @override
    def answer(self, message: bytes) -> bytes:
        """Say what was found."""
        found = EICAR in message
        return b"stream: Win.Test.EICAR_HDB-1 FOUND\0" if found else b"stream: OK\0"


class _Sized(_Session):
    """A request with a head that says how long the message is."""

    @override
    def message(self) -> bytes | None:
        """What stands behind the head."""
        head, mark, rest = self.heard.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if not mark or length is None or len(rest) < int(length[1]):
            return None
        self.host.heads.append(head.decode())
        return rest[: int(length[1])]


class _Rspamd(_Sized):
    """POST /checkv2."""

    @override
    def answer(self, message: bytes) -> bytes:
        """Say what it scores."""
        said = {"action": "no action", "score": -0.1, "symbols": {}}
        if GTUBE in message:
            symbols = {"GTUBE": {"name": "GTUBE", "score": 15.0}}
            said = {"action": "reject", "score": 15.0, "symbols": symbols}
        body = json.dumps(said).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class _Spamd(_Sized):
    """SYMBOLS."""

    @override
    def answer(self, message: bytes) -> bytes:
        """Say what it scores."""
        score, names = (
            (b"True ; 1000.0", b"GTUBE")
            if GTUBE in message
            else (
                b"False ; 0.3",
                b"NO_RELAYS",
            )
        )
        head = b"SPAMD/1.1 0 EX_OK\r\nContent-length: %d\r\nSpam: %s / 5.0\r\n\r\n"
        return head % (len(names), score) + names


_KINDS: Mapping[str, type[_Session]] = {
    "clamd": _Clamd,
    "rspamd": _Rspamd,
    "spamd": _Spamd,
}
