"""Writes that leave at once, where the socket takes them.

Twisted's own `write` asks the poller to tell when the socket is writable, sends then,
and tells the poller again that it need not look any more. Nearly always the socket
is writable: `write_at_once` tries that first, and only what is left goes Twisted's way.
"""

from typing import Any

from twisted.internet.tcp import Connection, Server


def write_at_once(transport: Any) -> None:
    """Make a plain stream transport send what it is given before anything waits.

    It looks at Twisted's private buffers; where they are not, nothing is changed.
    """
    if isinstance(transport, Connection) and hasattr(transport, "_tempDataBuffer"):
        transport.write = _Write(transport)  # type: ignore[method-assign]


def accepted_at_once(*arguments: Any) -> Server:
    """Make the transport of an accepted connection, as `tcp.Port.transport` does."""
    transport = Server(*arguments)
    write_at_once(transport)
    return transport


class _Write:
    """The `write` of one transport."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __call__(self, octets: bytes) -> None:
        """Send what goes now; errors come to light the usual way, later."""
        transport = self._transport
        waits = transport.dataBuffer or transport._tempDataBuffer  # noqa: SLF001
        usual = type(transport).write
        if waits or transport.disconnecting or not transport.connected or not octets:
            usual(transport, octets)
            return
        try:
            sent = transport.socket.send(octets)
        except OSError:
            sent = 0
        if sent < len(octets):
            usual(transport, octets[sent:])
