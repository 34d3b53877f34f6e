"""A milter in memory: wants what it is told to want, answers what it is told."""

from collections.abc import Mapping, Sequence
from struct import pack, unpack

from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from typing_extensions import override

Packet = tuple[bytes, bytes]


class MilterHost(Factory):
    """Listens as a milter; `heard` are the packets it was sent.

    `answers` are packets for a command's letter, by default to go on; None: none ever.
    `steps` and `changes` are its part of the bargain.
    """

    def __init__(
        self,
        answers: Mapping[bytes, Sequence[Packet] | None] | None = None,
        steps: int = 0,
        changes: int = 0x33,
        version: int = 6,
    ) -> None:
        self.answers = dict(answers or {})
        self.terms = (version, changes, steps)
        self.heard: list[Packet] = []

    @override
    def buildProtocol(self, addr: IAddress | None) -> "_Session":
        """Serve one client."""
        return _Session(self)

    def letters(self) -> str:
        """The letters of all commands, in order."""
        return b"".join(letter for letter, _ in self.heard).decode()

    def data(self, letter: bytes) -> list[bytes]:
        """What came with all commands of a letter."""
        return [data for one, data in self.heard if one == letter]


class _Session(Protocol):
    """Takes packets and answers them."""

    transport: ITCPTransport

    def __init__(self, host: MilterHost) -> None:
        self._host = host
        self._octets = b""

    @override
    def dataReceived(self, data: bytes) -> None:
        self._octets += data
        while len(self._octets) >= 4:
            (length,) = unpack(">I", self._octets[:4])
            if len(self._octets) < 4 + length:
                return
            taken = self._octets[4 : 4 + length]
            self._octets = self._octets[4 + length :]
            self._take(taken[:1], taken[1:])

    def _take(self, letter: bytes, data: bytes) -> None:
        host = self._host
        host.heard.append((letter, data))
        usual: Sequence[Packet] = [(b"c", b"")]
        if letter in {b"D", b"Q", b"A"}:
            usual = []
        elif letter == b"O":
            usual = [(b"O", pack(">III", *host.terms))]
        for one, words in host.answers.get(letter, usual) or ():
            self.transport.write(pack(">I", len(words) + 1) + one + words)
