"""One measurement: a peer is started, loaded, watched and stopped.

Load comes from Postfix's `smtp-source` (from `load.py` with TLS, or where latency is
wanted), arrivals are counted by its `smtp-sink`.
"""

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import peers
from benchmarks.accounting import Account

HERE = os.path.dirname(os.path.abspath(__file__))
LOGIN = "u@bench.example:p"
_UNITS = {"k": 1024, "m": 1024 * 1024}


class Failed(Exception):
    """The cell has no figures, and why."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is sent, as in "s20,10k,d,tls": see `run.py`."""

    text: str
    sessions: int
    size: int
    many: bool
    flags: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> "Scenario":
        """Read it; ValueError if it is none."""
        sessions, size, kind, *flags = text.lower().split(",")
        unknown = set(flags) - {"tls", "tlsrsa", "timed", "hold"}
        if unknown or kind not in {"c", "d"} or not sessions.startswith("s"):
            raise ValueError(f"no scenario: {text}")
        octets = int(size.rstrip("km")) * _UNITS.get(size[-1], 1)
        return cls(text, int(sessions[1:]), octets, kind == "d", frozenset(flags))

    @property
    def key(self) -> str | None:
        """The kind of key for TLS, None for plain SMTP."""
        if "tlsrsa" in self.flags:
            return "rsa"
        return "ec" if "tls" in self.flags else None


@dataclass(slots=True)
class Effort:
    """How much is sent in a cell, and in how many seconds it must be done."""

    messages: int
    warm: int = 100
    idle: int = 0
    deferred: int = 0
    limit: float = 90.0


@dataclass(slots=True)
class Figures:
    """What a cell gave: rates, CPU ms a message, milliseconds, MiB."""

    values: dict[str, float] = field(default_factory=dict)
    error: str = ""


class Sink:
    """Postfix's smtp-sink; knows how many messages came, and when the last did."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self.last = 0.0
        self._process = subprocess.Popen(
            ["smtp-sink", "-u", "nobody", "-c", f"127.0.0.1:{port}", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        threading.Thread(target=self._read, args=(descriptor,), daemon=True).start()

    def _read(self, descriptor: int) -> None:
        while octets := os.read(descriptor, 1 << 20):
            counts = re.findall(rb"mesg=(\d+)", octets)
            if counts and int(counts[-1]) != self.count:
                self.count, self.last = int(counts[-1]), time.monotonic()
            time.sleep(0.01)

    def wait(self, count: int, until: float) -> None:
        """Wait until so many came, or for the time to pass."""
        while self.count < count and time.monotonic() < until:
            time.sleep(0.005)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


class Peer:
    """One server under test, from its start in a new folder to its end."""

    def __init__(self, label: str, recipe: peers.Recipe, base: str) -> None:
        self.label = label
        self._recipe = recipe
        self._base = base
        self.port = 0

    def start(self, sink: int, key: str | None) -> None:
        """Bring it up, all its processes accounted for; raises Failed."""
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="peer-", dir=self._base)
        os.chmod(self.folder, 0o755)
        place = peers.Place(
            self.folder, self.port, sink, free_port(), certificate(self._base, key)
        )
        self.account = Account()
        self._log = open(f"{self.folder}/output", "wb")  # noqa: SIM115 - until its end
        self._process = subprocess.Popen(
            self._recipe(place),
            preexec_fn=self.account.enter,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self.folder,
            start_new_session=True,
        )
        self.account.watch(self._process.pid)
        if not _answers(self.port, encrypted=key is not None):
            self.stop()
            raise Failed(f"{self.label} did not come up")

    def stop(self) -> None:
        """End all its processes and remove what it wrote."""
        self.account.end(self._process)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(peer: Peer, scenario: Scenario, effort: Effort) -> Figures:
    """Run one cell; what went wrong is told, not raised."""
    figures = Figures()
    try:
        with ExitStack() as stack:
            port = free_port()
            sink = None if "hold" in scenario.flags else Sink(port)
            if sink is not None:
                stack.callback(sink.stop)
            peer.start(port, scenario.key)
            stack.callback(peer.stop)
            _Cell(peer, scenario, effort, sink, figures).run()
    except (Failed, OSError, subprocess.SubprocessError) as failed:
        figures.error = str(failed)[:200]
    return figures


@dataclass(slots=True)
class _Cell:
    peer: Peer
    scenario: Scenario
    effort: Effort
    sink: Sink | None
    figures: Figures

    def run(self) -> None:
        if self.effort.deferred:
            self._defer()
        if self.effort.warm and self.sink is not None:
            self._warm(self.sink)
        self._load()
        if self.effort.idle:
            self.figures.values["idle"] = self._idle()

    def _defer(self) -> None:
        """Fill the queue with mail that nobody takes, and wait until it is quiet."""
        effort = self.effort
        self._send(20, effort.deferred, 1024, many=True, to="q@defer.example")
        last, quiet = -1.0, 0
        for _ in range(240):
            time.sleep(0.5)
            now = self.peer.account.cpu()
            quiet = quiet + 1 if now - last < 0.02 else 0
            last = now
            if quiet >= 3:
                return

    def _warm(self, sink: Sink) -> None:
        effort = self.effort
        sessions = min(4, self.scenario.sessions)
        self._send(sessions, effort.warm, 1024, many=True, to="w@bench.example")
        sink.wait(effort.warm, time.monotonic() + effort.limit)
        time.sleep(0.3)

    def _load(self) -> None:
        scenario, values, count = (
            self.scenario,
            self.figures.values,
            self.effort.messages,
        )
        before = self.sink.count if self.sink else 0
        cpu, begun = self.peer.account.cpu(), time.monotonic()
        said = self._send(
            scenario.sessions, count, scenario.size, scenario.many, "b@bench.example"
        )
        values["accept"] = count / (time.monotonic() - begun)
        for name, number in re.findall(r"(p50|p99)=([\d.]+)ms", said):
            values[name] = float(number)
        if self.sink is not None:
            self.sink.wait(before + count, begun + self.effort.limit)
            arrived = self.sink.count - before
            if arrived < count:
                raise Failed(f"only {arrived} of {count} were relayed")
            values["relay"] = arrived / (self.sink.last - begun)
            time.sleep(0.4)  # it writes down what became of the last ones
        values["cpu"] = (self.peer.account.cpu() - cpu) * 1000 / count

    def _send(self, sessions: int, count: int, size: int, many: bool, to: str) -> str:
        command = self._source(sessions, count, size, many, to)
        limit = self.effort.limit * (4 if to.endswith("@defer.example") else 1)
        done = subprocess.run(
            command, capture_output=True, timeout=limit, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"{command[0]}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _source(
        self, sessions: int, count: int, size: int, many: bool, to: str
    ) -> list[str]:
        numbers = [str(each) for each in (sessions, count, size)]
        if self.scenario.key is None and "timed" not in self.scenario.flags:
            command = ["smtp-source", "-s", numbers[0], "-m", numbers[1]]
            command += ["-l", numbers[2], "-f", "a@bench.example", "-t", to]
            return [*command, *["-d"] * many, f"127.0.0.1:{self.peer.port}"]
        command = [sys.executable, f"{HERE}/load.py", "--port", str(self.peer.port)]
        command += ["--sessions", numbers[0], "--n", numbers[1], "--size", numbers[2]]
        command += ["--to", to, *["--many"] * many]
        return [*command, *(["--tls", "--auth", LOGIN] if self.scenario.key else [])]

    def _idle(self) -> float:
        """The peer's memory with idle sessions, MiB."""
        encrypted = self.scenario.key is not None
        sessions = [
            _open(self.peer.port, encrypted=encrypted) for _ in range(self.effort.idle)
        ]
        for session in sessions:
            session.recv(512)
            session.sendall(b"EHLO idle.example\r\n")
            session.recv(2048)
        time.sleep(0.3)
        memory = self.peer.account.memory()
        for session in sessions:
            session.close()
        return memory


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certificate(base: str, kind: str | None) -> str | None:
    """One PEM file with key and certificate of that kind, made once."""
    if kind is None:
        return None
    path = f"{base}/{kind}.pem"
    if not os.path.exists(path):
        curve = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        key = ["rsa:2048"] if kind == "rsa" else curve
        command = ["openssl", "req", "-x509", "-nodes", "-days", "30"]
        command += ["-subj", "/CN=bench.example", "-keyout", f"{path}.key"]
        command += ["-out", f"{path}.crt", "-newkey", *key]
        subprocess.run(command, check=True, capture_output=True)
        with open(path, "wb") as pem:
            for part in ("key", "crt"):
                with open(f"{path}.{part}", "rb") as file:
                    pem.write(file.read())
    return path


def _open(port: int, *, encrypted: bool) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), 10)
    if not encrypted:
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def _answers(port: int, *, encrypted: bool) -> bool:
    """Whether a server greets there within a minute: the machine may be busy."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with _open(port, encrypted=encrypted) as session:
                greeting = session.recv(512)
                session.sendall(b"QUIT\r\n")
                session.recv(512)
        except OSError:
            greeting = b""
        if greeting.startswith(b"220"):
            return True
        time.sleep(0.05)
    return False
