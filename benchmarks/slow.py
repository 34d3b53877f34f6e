#!/usr/bin/env python3
"""Slow and idle connections beside normal traffic: `python -m benchmarks.slow`.

Starts a server, measures the memory of each kind of stuck connection, then the time of
whole sessions (connect, TLS, AUTH, one message, QUIT) without and with all of them.
Prints a table; judges nothing.
"""

import argparse
import base64
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from benchmarks import serve
from fwd_mta.inbound.passwords import argon2id_hash

_LISTENERS = """
[[listener]]
service = "submission"
address = "127.0.0.1:{port}"
"""
_DISCARD = '"sink.example" = "discard"\n'
_LOGIN, _PASSWORD = "u@bench.example", "p"
_PLAIN = base64.b64encode(f"\0{_LOGIN}\0{_PASSWORD}".encode())
_ENVELOPE = b"MAIL FROM:<a@bench.example>\r\nRCPT TO:<b@sink.example>\r\n"
_HEAD = b"From: a@bench.example\r\nSubject: x\r\n\r\n"
_LINE = b"La de da de da " * 5 + b"\r\n"
_HELLO = bytes.fromhex("1603010200010001fc0303")


class Server:
    """A server of ours with a TLS port and a STARTTLS port."""

    def __init__(self, folder: str) -> None:
        self.tls, self.clear = _free_port(), _free_port()
        pair = f"{folder}/pair.pem"
        _certificate(pair)
        text = serve.configuration(
            "submissions",
            folder=folder,
            port=self.tls,
            sink=_free_port(),
            dead=_free_port(),
            certificate=pair,
        )
        text = text.replace("[tls]", _LISTENERS.format(port=self.clear) + "[tls]")
        serve.write(f"{folder}/fwdmta.toml", text + _DISCARD)
        account = serve.ACCOUNT.format(password=argon2id_hash(_PASSWORD))
        serve.write(f"{folder}/accounts.toml", account)
        twistd = os.path.join(os.path.dirname(sys.executable), "twistd")
        words = [sys.executable, twistd, "-n", "--pidfile=", "fwdmta", "--config"]
        with open(f"{folder}/log", "wb") as log:
            self._process = subprocess.Popen(
                [*words, f"{folder}/fwdmta.toml"], stdout=log, stderr=subprocess.STDOUT
            )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError):
                Client(self, self.clear).close()
                return
            time.sleep(0.2)
        raise RuntimeError("the server does not start")

    def memory(self) -> int:
        """KiB of memory that are its own."""
        with open(f"/proc/{self._process.pid}/smaps_rollup", encoding="ascii") as file:
            lines = [line.split() for line in file]
        return sum(int(one[1]) for one in lines if one[0].startswith("Private_"))

    def cpu(self) -> float:
        """Milliseconds of CPU it has used."""
        with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks * 1000 / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Client:
    """One connection: plain at first."""

    def __init__(self, server: Server, port: int, *, tls: bool = False) -> None:
        plain = socket.create_connection(("127.0.0.1", port), 60)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = server.context.wrap_socket(plain) if tls else plain
        self._file = self.socket.makefile("rb")
        if tls or port == server.clear:
            self.hear(b"220")

    def hear(self, code: bytes) -> None:
        """The next reply; RuntimeError for another than this."""
        while True:
            line = self._file.readline()
            if not line.startswith(code):
                raise RuntimeError(f"{line!r} instead of {code!r}")
            if line[3:4] == b" ":
                return

    def say(self, octets: bytes, *codes: bytes) -> None:
        """Send, and hear these."""
        self.socket.sendall(octets)
        for code in codes:
            self.hear(code)

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.socket.close()


def _logged_in(server: Server) -> Client:
    client = Client(server, server.tls, tls=True)
    client.say(b"EHLO x\r\nAUTH PLAIN " + _PLAIN + b"\r\n", b"250", b"235")
    return client


# The kinds: each makes one connection and leaves it where it is stuck


def _silent(server: Server) -> Client:
    return Client(server, server.tls)


def _half_hello(server: Server) -> Client:
    client = Client(server, server.tls)
    client.socket.sendall(_HELLO)
    return client


def _greeted(server: Server) -> Client:
    return Client(server, server.clear)


def _starttls(server: Server) -> Client:
    client = Client(server, server.clear)
    client.say(b"EHLO x\r\nSTARTTLS\r\n", b"250", b"220")
    return client


def _half_line(server: Server) -> Client:
    client = Client(server, server.clear)
    client.socket.sendall(b"EHLO " + b"x" * 1000)
    return client


def _tls_idle(server: Server) -> Client:
    client = Client(server, server.tls, tls=True)
    client.say(b"EHLO x\r\n", b"250")
    return client


def _in_auth(server: Server) -> Client:
    client = Client(server, server.tls, tls=True)
    client.say(b"EHLO x\r\nAUTH LOGIN\r\n", b"250", b"334")
    return client


def _authenticated(server: Server) -> Client:
    return _logged_in(server)


def _in_data(server: Server) -> Client:
    client = _logged_in(server)
    client.say(_ENVELOPE + b"DATA\r\n", b"250", b"250", b"354")
    client.socket.sendall(_HEAD + _LINE * 200)
    return client


def _deep_in_data(server: Server) -> Client:
    client = _in_data(server)
    client.socket.sendall(_LINE * 2600)
    return client


def _in_header(server: Server) -> Client:
    client = _logged_in(server)
    client.say(_ENVELOPE + b"DATA\r\n", b"250", b"250", b"354")
    client.socket.sendall(b"X: " + b"y" * 70 + b"\r\n")
    client.socket.sendall((b"X: " + b"y" * 70 + b"\r\n") * 2600)
    return client


def _in_chunk(server: Server) -> Client:
    client = _logged_in(server)
    client.say(_ENVELOPE, b"250", b"250")
    client.socket.sendall(b"BDAT 1000000\r\n" + _HEAD + _LINE * 200)
    return client


def _never_reads(server: Server) -> Client:
    client = _logged_in(server)
    client.socket.sendall(b"HELP\r\n" * 80)
    return client


# those that are cut after 30 seconds come last
KINDS: dict[str, Callable[[Server], Client]] = {
    "587, greeted": _greeted,
    "587, half a line": _half_line,
    "465, EHLO": _tls_idle,
    "465, in AUTH": _in_auth,
    "465, logged in": _authenticated,
    "465, in DATA, 16 KB sent": _in_data,
    "465, in DATA, 220 KB sent": _deep_in_data,
    "465, in a header of 200 KB": _in_header,
    "465, in BDAT, 16 KB sent": _in_chunk,
    "465, reads no replies": _never_reads,
    "connected to 465, silent": _silent,
    "465, half a TLS hello": _half_hello,
    "587, STARTTLS and silent": _starttls,
}
_DRIPS = frozenset({"587, half a line", "465, in DATA, 16 KB sent"})


# The normal traffic


def _message(server: Server) -> None:
    client = _logged_in(server)
    client.say(_ENVELOPE + b"DATA\r\n", b"250", b"250", b"354")
    client.say(_HEAD + _LINE * 100 + b".\r\n", b"250")
    client.say(b"QUIT\r\n", b"221")
    client.close()


def _traffic(server: Server, rate: float, seconds: float) -> list[float]:
    """Begin sessions at a steady rate; how long each took, in milliseconds."""
    waits: list[float] = []
    threads = []

    def one() -> None:
        began = time.monotonic()
        _message(server)
        waits.append((time.monotonic() - began) * 1000)

    begun = time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        thread = threading.Thread(target=one)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    return sorted(waits)


@contextmanager
def _dripping(clients: list[Client]) -> Iterator[None]:
    """Each of them sends an octet now and then."""
    over = threading.Event()

    def drip() -> None:
        while not over.wait(2.0):
            for client in clients:
                with suppress(OSError):
                    client.socket.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _show(what: str, server: Server, rate: float, seconds: float) -> None:
    before = server.cpu()
    waits = _traffic(server, rate, seconds)
    cpu = (server.cpu() - before) / max(1, len(waits))
    p50, p95 = (waits[int(len(waits) * part)] for part in (0.5, 0.95))
    counts = f"{len(waits)}/{int(rate * seconds)} sessions"
    print(f"{what:30} {counts}, p50 {p50:.1f} ms, p95 {p95:.1f} ms, CPU {cpu:.1f} ms")


def _stuck(server: Server, count: int) -> tuple[list[Client], list[Client]]:
    """Open them kind by kind, and tell what each weighs; all, and those that drip."""
    clients: list[Client] = []
    drips: list[Client] = []
    first = server.memory()
    for number, (name, make) in enumerate(KINDS.items()):
        share = count // len(KINDS) + (number < count % len(KINDS))
        before = server.memory()
        opened = [make(server) for _ in range(share)]
        time.sleep(0.5)
        each = (server.memory() - before) / share
        print(f"{name:30} {share:4} connections, {each:6.1f} KiB each", flush=True)
        clients += opened
        drips += opened if name in _DRIPS else []
    each = (server.memory() - first) / count
    print(f"{'all':30} {count:4} connections, {each:6.1f} KiB each")
    return clients, drips


def main() -> None:
    """Run it and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--rate", type=float, default=10.0, help="sessions a second")
    parser.add_argument("--seconds", type=float, default=15.0)
    wanted = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="slow-")
    os.chmod(folder, 0o755)
    server = Server(folder)
    try:
        _traffic(server, wanted.rate, 3.0)
        _show("alone", server, wanted.rate, wanted.seconds)
        clients, drips = _stuck(server, wanted.connections)
        with _dripping(drips):
            _show("beside them", server, wanted.rate, wanted.seconds)
        for client in clients:
            with suppress(OSError):
                client.close()
        _show("after them", server, wanted.rate, wanted.seconds)
    finally:
        server.stop()
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _certificate(path: str) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
    words += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=bench.example"]
    words += ["-keyout", f"{path}.key", "-out", f"{path}.crt"]
    subprocess.run(words, check=True, capture_output=True)
    with open(path, "wb") as pair:
        for part in (f"{path}.key", f"{path}.crt"):
            with open(part, "rb") as file:
                pair.write(file.read())


if __name__ == "__main__":
    main()
