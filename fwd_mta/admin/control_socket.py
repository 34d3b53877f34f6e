"""The socket that carries requests to the running server: a JSON object a line.

Doorway: `ControlFactory(commands, emit)`, to listen with at `state_dir/control.sock`.
"""

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.protocols.basic import LineReceiver
from typing_extensions import override

from fwd_mta.admin.control import Commands
from fwd_mta.events import Emit, Trouble

Json = dict[str, Any]

REQUEST_LIMIT = 65_536
CONNECTION_LIMIT = 32


class ControlProtocol(LineReceiver):
    """One connection of the command: a request a line, answered before the next."""

    delimiter = b"\n"
    MAX_LENGTH = REQUEST_LIMIT

    def __init__(self, factory: "ControlFactory") -> None:
        self._factory = factory
        self._asked: Deferred[None] | None = None

    @override
    def connectionMade(self) -> None:
        """Count ourselves in; too many at once are told so."""
        if not self._factory.joined(self):
            self._answer({"error": "too many commands at once; try again"})
            self._close()

    @override
    def connectionLost(self, reason: object = None) -> None:
        """Count ourselves out; what was asked for is still done."""
        self._factory.left(self)

    @override
    def lineReceived(self, line: bytes) -> None:
        """Take a request, and no other until it is answered."""
        self.pauseProducing()
        asked = Deferred.fromCoroutine(self._obey(line))
        self._asked = asked.addErrback(self._factory.broken).addCallback(self._answered)

    @override
    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a request of endless length."""
        self._answer({"error": f"a request is at most {REQUEST_LIMIT} octets"})
        self._close()

    async def _obey(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "the request is not JSON"}
        if not isinstance(request, dict):
            return {"error": "the request is no JSON object"}
        return await self._factory.commands.obey(request)

    def _answered(self, answer: Json) -> None:
        self._answer(answer)
        self.resumeProducing()

    def _answer(self, answer: Json) -> None:
        if self.transport is not None:
            self.sendLine(json.dumps(answer).encode())

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class ControlFactory(ServerFactory):
    """Makes the connections of the control socket, a bounded number at a time.

    Who may connect is the socket file's mode: 0600, in a directory of ours.
    """

    noisy = False

    def __init__(self, commands: Commands, emit: Emit) -> None:
        self.commands = commands
        self._emit = emit
        self._connections: set[ControlProtocol] = set()

    @override
    def buildProtocol(self, addr: IAddress | None) -> ControlProtocol:
        """Make one connection."""
        return ControlProtocol(self)

    def joined(self, connection: ControlProtocol) -> bool:
        """Note a connection, if there is room for it."""
        if len(self._connections) >= CONNECTION_LIMIT:
            return False
        self._connections.add(connection)
        return True

    def left(self, connection: ControlProtocol) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Close all connections, at shutdown."""
        for connection in list(self._connections):
            if connection.transport is not None:
                connection.transport.loseConnection()

    def broken(self, failure: Any) -> Json:
        """Turn a bug into an answer and an event; the connection lives on."""
        text = f"{failure.type.__name__}: {failure.getErrorMessage()}"
        self._emit(Trouble("control", f"a command failed: {text}", "report this bug"))
        return {"error": f"the server could not do it: {text}"}
