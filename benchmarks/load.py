#!/usr/bin/env python3
"""An SMTP source with TLS, AUTH PLAIN and latencies, which smtp-source lacks.

Blocking sockets, one thread a session, in `--procs` processes. Prints the rate, its own
CPU a message, and the median and 99th percentile from the final dot to its 250.
"""

import argparse
import base64
import itertools
import json
import os
import resource
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable

_LINE = b"La de da de da " * 5 + b"\r\n"
_HEAD = b"Subject: x\r\nFrom: <a@bench.example>\r\nTo: <b@bench.example>\r\n\r\n"


def options() -> argparse.Namespace:
    """What the command line wants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--n", type=int, default=1000, help="messages")
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--many", action="store_true", help="many messages a session")
    parser.add_argument("--tls", action="store_true", help="TLS from the start")
    parser.add_argument("--auth", help="LOGIN:PASSWORD")
    parser.add_argument("--to", default="b@bench.example")
    parser.add_argument("--procs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=60)
    return parser.parse_args()


class Client:
    """One session."""

    def __init__(self, wanted: argparse.Namespace, context: ssl.SSLContext) -> None:
        self._to = wanted.to.encode()
        self._read = b""
        plain = socket.create_connection(("127.0.0.1", wanted.port), wanted.limit)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain) if wanted.tls else plain
        self._hear(b"220")
        self._say(b"EHLO load.example", b"250")
        if wanted.auth:
            login, _, password = wanted.auth.partition(":")
            words = f"\0{login}\0{password}".encode()
            self._say(b"AUTH PLAIN " + base64.b64encode(words), b"235")

    def _hear(self, code: bytes) -> None:
        while True:
            line, end, rest = self._read.partition(b"\n")
            if end:
                self._read = rest
                if line[3:4] == b"-":
                    continue
                if line.startswith(code):
                    return
                raise RuntimeError(f"got {line!r}")
            octets = self._socket.recv(65536)
            if not octets:
                raise EOFError("closed")
            self._read += octets

    def _say(self, line: bytes, code: bytes) -> None:
        self._socket.sendall(line + b"\r\n")
        self._hear(code)

    def send(self, content: bytes) -> float:
        """Send one message; the seconds from its end to the 250."""
        self._say(b"MAIL FROM:<a@bench.example>", b"250")
        self._say(b"RCPT TO:<" + self._to + b">", b"250")
        self._say(b"DATA", b"354")
        begun = time.monotonic()
        self._socket.sendall(content)
        self._hear(b"250")
        return time.monotonic() - begun

    def leave(self) -> None:
        """Say QUIT."""
        try:
            self._say(b"QUIT", b"221")
        except (OSError, EOFError):
            return
        finally:
            self._socket.close()


class Source:
    """All sessions of one process."""

    def __init__(self, wanted: argparse.Namespace, messages: int) -> None:
        self._wanted = wanted
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._left = messages
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        lines = _LINE * (wanted.size // len(_LINE) + 1)
        self._content = (_HEAD + lines)[: wanted.size - 2] + b"\r\n.\r\n"
        self.waits: list[float] = []
        self.errors: list[str] = []

    def run(self, sessions: int) -> str:
        """Send all; the result as JSON."""
        threads = [threading.Thread(target=self._session) for _ in range(sessions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime
        return json.dumps({"waits": self.waits, "cpu": cpu, "errors": self.errors[:2]})

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _session(self) -> None:
        client = None
        try:
            while self._take():
                if client is None:
                    client = Client(self._wanted, self._context)
                # each message its own, or a server may take it for a copy
                name = b"%d.%d@load.example" % (os.getpid(), next(self._numbers))
                content = b"Message-ID: <" + name + b">\r\n" + self._content
                self.waits.append(client.send(content))
                if not self._wanted.many:
                    client.leave()
                    client = None
            if client:
                client.leave()
        except (OSError, EOFError, RuntimeError) as failed:
            self.errors.append(repr(failed))


def forked(work: Callable[[], str]) -> int:
    """Do the work in a child; a descriptor to read its result from."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as result:
            result.write(work())
        os._exit(0)
    os.close(writing)
    return reading


def main() -> None:
    """Send, and print one line."""
    wanted = options()
    procs = min(wanted.procs, wanted.sessions)
    begun, children = time.monotonic(), []
    for child in range(procs):
        share, sessions = (
            total // procs + (child < total % procs)
            for total in (wanted.n, wanted.sessions)
        )
        children.append(forked(lambda: Source(wanted, share).run(sessions)))  # noqa: B023 - at once
    results = []
    for child in children:
        with os.fdopen(child) as result:
            results.append(json.loads(result.read() or '{"errors":["it died"]}'))
    seconds = time.monotonic() - begun
    waits = sorted(each for one in results for each in one.get("waits", ()))
    errors = [each for one in results for each in one["errors"]]
    cpu = sum(one.get("cpu", 0) for one in results) * 1000 / max(1, len(waits))
    p50, p99 = (
        waits[int(len(waits) * part)] * 1000 if waits else 0 for part in (0.5, 0.99)
    )
    print(
        f"n={len(waits)} rate={len(waits) / seconds:.0f}/s own={cpu:.3f}ms"
        f" p50={p50:.1f}ms p99={p99:.1f}ms errors={errors[:2]}"
    )
    sys.exit(bool(errors) or len(waits) != wanted.n)


if __name__ == "__main__":
    main()
