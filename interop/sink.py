"""A mail server that keeps what it is sent, octet by octet, and answers as told."""

import socket
import socketserver
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from typing_extensions import override

from interop.kit import wait_for

_EXTENSIONS = (
    "PIPELINING",
    "SIZE 52428800",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
)

_REPLIES = {
    "CONNECT": "220 sink.interop.example ESMTP",
    "HELO": "250 sink.interop.example",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 go on",
    "DOT": "250 2.0.0 Ok: kept",
    "RSET": "250 2.0.0 Ok",
    "NOOP": "250 2.0.0 Ok",
    "QUIT": "221 2.0.0 Bye",
}


@dataclass(frozen=True, slots=True)
class Caught:
    """One message as it came over the wire, its dots unstuffed."""

    mail: str
    recipients: tuple[str, ...]
    content: bytes

    def field(self, name: str) -> str:
        """The first header field of that name, or nothing."""
        head = self.content.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
        start = name.lower() + ":"
        lines = (line for line in head.split("\r\n") if line.lower().startswith(start))
        return next(lines, start)[len(start) :].strip()


class _Session(socketserver.StreamRequestHandler):
    """One connection; `server` is the listener that knows its sink."""

    server: "_Listener"

    @override
    def setup(self) -> None:
        """Set up as ever, with no delay for small packets."""
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begin()

    @override
    def handle(self) -> None:
        """Obey one command after the other until the client has had enough."""
        with suppress(OSError):
            if not self._answer("CONNECT").startswith("2"):
                return
            while line := self.rfile.readline(4096):
                verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
                if not self._obey(verb.upper(), rest):
                    return

    def _begin(self) -> None:
        self._mail = ""
        self._recipients: list[str] = []

    def _say(self, reply: str) -> None:
        self.wfile.write(reply.encode() + b"\r\n")

    def _answer(self, verb: str) -> str:
        reply = self.server.sink.reply_to(verb)
        self._say(reply)
        return reply

    def _obey(self, verb: str, rest: str) -> bool:
        sink = self.server.sink
        if verb == "STARTTLS" and sink.tls is not None:
            self._encrypt(sink.tls)
            return True
        if verb == "EHLO":
            self._begin()
            clear = sink.tls is not None and not isinstance(self.request, ssl.SSLSocket)
            offered = ("STARTTLS",) if clear else ()
            lines = ("sink.interop.example", *sink.extensions, *offered)
            shown = [f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]
            self._say("\r\n".join(shown))
            return True
        if verb not in _REPLIES:
            self._say("502 5.5.1 not here")
            return True
        reply = self._answer(verb)
        self._note(verb, rest, accepted=reply.startswith("2"))
        if verb == "DATA" and reply.startswith("354"):
            return self._take()
        return verb != "QUIT" and not reply.startswith("421")

    def _encrypt(self, context: ssl.SSLContext) -> None:
        self._say("220 2.0.0 go on")
        self.request = context.wrap_socket(self.request, server_side=True)
        self.rfile = self.request.makefile("rb")
        self.wfile = self.request.makefile("wb", buffering=0)
        self._begin()

    def _note(self, verb: str, rest: str, *, accepted: bool) -> None:
        if verb in {"MAIL", "RSET"}:
            self._begin()
        if verb == "MAIL" and accepted:
            self._mail = rest
        if verb == "RCPT" and accepted:
            self._recipients.append(rest)

    def _take(self) -> bool:
        """Read content up to CRLF.CRLF and answer it; only then is it caught."""
        content = bytearray()
        while (line := self.rfile.readline()) != b".\r\n" or not _at_line_start(
            content
        ):
            if not line:
                return False
            stuffed = line.startswith(b".") and _at_line_start(content)
            content += line[1:] if stuffed else line
        caught = Caught(self._mail, tuple(self._recipients), bytes(content))
        self._begin()
        reply = self.server.sink.catch(caught)
        self._say(reply)
        return not reply.startswith("421")


def _at_line_start(content: bytearray) -> bool:
    return not content or content.endswith(b"\r\n")


class _Listener(socketserver.ThreadingTCPServer):
    """The listening socket of a sink; remembers its connections, to cut them."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, sink: "Sink", address: str, port: int) -> None:
        self.sink = sink
        self._open: set[socket.socket] = set()
        super().__init__((address, port), _Session)

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, then serve it in a thread of its own."""
        self._open.add(request)
        super().process_request(request, client_address)

    @override
    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that is over."""
        self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        """Close every connection at once."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Sink:
    """Listens on one address and keeps what comes, until closed.

    `dot_delay` says how long a final dot waits for its answer, and `gate`, when
    cleared, lets none be answered; `dots` counts those that have come. With `tls` it
    offers STARTTLS.
    """

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.extensions: tuple[str, ...] = _EXTENSIONS
        self.tls: ssl.SSLContext | None = None
        self.dot_delay: Callable[[], float] = lambda: 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.dots = 0
        self._caught: list[Caught] = []
        self._script: dict[str, deque[str]] = {}
        self._lock = threading.Lock()
        self._listener = _Listener(self, address, port)
        self.address = address
        self.port: int = self._listener.server_address[1]

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(
            target=self._listener.serve_forever, args=(0.05,), daemon=True
        ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The same."""
        self.close()

    def close(self) -> None:
        """Stop listening and cut what is connected; once more does no harm."""
        self.gate.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._listener.cut()

    @property
    def caught(self) -> list[Caught]:
        """Everything kept so far, in the order of the answers."""
        with self._lock:
            return list(self._caught)

    def wait_for(self, count: int, what: str = "", seconds: float = 60) -> None:
        """Wait until it has kept so many messages."""
        what = what or f"the sink has {count} messages"
        wait_for(what, lambda: len(self.caught) >= count, seconds)

    def script(self, verb: str, *replies: str) -> None:
        """Answer the next commands of that verb so; DOT is the end of content."""
        with self._lock:
            self._script.setdefault(verb, deque()).extend(replies)

    def reply_to(self, verb: str) -> str:
        """The next scripted reply to a verb, or the usual one."""
        with self._lock:
            queue = self._script.get(verb)
            return queue.popleft() if queue else _REPLIES[verb]

    def catch(self, caught: Caught) -> str:
        """Keep a message unless the script refuses it; the reply to its dot."""
        with self._lock:
            self.dots += 1
        self.gate.wait()
        time.sleep(self.dot_delay())
        reply = self.reply_to("DOT")
        if reply.startswith("2"):
            with self._lock:
                self._caught.append(caught)
        return reply
