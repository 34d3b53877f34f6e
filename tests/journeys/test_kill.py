"""Must-show: kill -9 while mail comes in and goes out loses nothing that got a 250."""

import json
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from typing_extensions import override

from fwd_mta.admin.control import BATCH
from fwd_mta.net.network import ReactorNetwork
from fwd_mta.world.hosts import RemoteHost

KILLS = 3
ROOT = Path(__file__).parents[2]
LISTENING = re.compile(r"listening for relay on port (\d+)")

CONFIGURATION = """
hostname = "mail.example.com"
state_dir = "{folder}/state"
[[listener]]
service = "relay"
address = "127.0.0.1:0"
trusted_networks = ["127.0.0.0/8"]
[accounts]
file = "{folder}/accounts.toml"
[queue]
minimal_backoff_time = "1s"
maximal_backoff_time = "2s"
minimum_free_space = "1MB"
[limits]
connections_per_client = 1000
[delivery.transport]
"*" = "[127.0.0.1]:{port}"
"""


class Daemon(ProcessProtocol):
    """A server in a process of its own; `port` fires when it listens."""

    def __init__(self) -> None:
        self.port: Deferred[int] = Deferred()
        self.ended: Deferred[int] = Deferred()
        self.output = ""

    @override
    def outReceived(self, data: bytes) -> None:
        self.output += data.decode("utf-8", "replace")
        found = LISTENING.search(self.output)
        if found and not self.port.called:
            self.port.callback(int(found[1]))

    @override
    def errReceived(self, data: bytes) -> None:
        self.outReceived(data)

    @override
    def processEnded(self, reason: Failure) -> None:
        if not self.port.called:
            self.port.errback(RuntimeError(self.output[-2000:]))
        how = reason.value
        self.ended.callback(how.signal if isinstance(how, ProcessTerminated) else 0)


class Sender(Protocol):
    """Submits message after message on one connection until it is cut."""

    def __init__(self, name: str, accepted: set[str]) -> None:
        self._name = name
        self._accepted = accepted
        self._number = 0
        self._heard = b""
        self.gone: Deferred[None] = Deferred()

    @override
    def connectionMade(self) -> None:
        self._write(b"EHLO app\r\n")
        self._submit()

    def _write(self, octets: bytes) -> None:
        assert self.transport is not None
        self.transport.write(octets)

    def _submit(self) -> None:
        self._number += 1
        self._mark = f"{self._name}-{self._number}"
        self._write(
            b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n"
        )

    @override
    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        while b"\r\n" in self._heard:
            line, _, self._heard = self._heard.partition(b"\r\n")
            self._obey(line)

    def _obey(self, line: bytes) -> None:
        if line.startswith(b"354"):
            mark = self._mark.encode()
            self._write(
                b"From: ann@example.com\r\nMessage-ID: <%s@t>\r\n\r\n%s\r\n.\r\n"
                % (mark, b"x" * 500)
            )
        elif b"queued as" in line:
            self._accepted.add(self._mark)
            self._submit()

    @override
    def connectionLost(self, reason: object = None) -> None:
        self.gone.callback(None)


class Operator(LineReceiver):
    """Asks the server's control socket one thing at a time."""

    delimiter = b"\n"
    MAX_LENGTH = 1_000_000

    def ask(self, **request: object) -> Deferred[dict[str, Any]]:
        """Send a request; fires with the answer."""
        self.answer: Deferred[dict[str, Any]] = Deferred()
        self.sendLine(json.dumps(request).encode())
        return self.answer

    @override
    def lineReceived(self, line: bytes) -> None:
        self.answer.callback(json.loads(line))


class KillTests(TestCase):
    """A real process, real files, real sockets."""

    timeout = 90  # the whole of it; nothing here waits for a clock

    async def start(self) -> tuple[Daemon, int]:
        """Start the server; gives it and its port."""
        daemon = Daemon()
        command = [
            sys.executable,
            "-c",
            "from twisted.scripts.twistd import run; run()",
            "-n",
            "--pidfile=",
            "fwdmta",
            "--config",
            f"{self.folder}/fwdmta.toml",
        ]
        process = reactor.spawnProcess(
            daemon, sys.executable, command, env=None, path=str(ROOT)
        )
        self.process = process
        return daemon, await daemon.port

    @override
    def setUp(self) -> None:
        # Not mktemp(): the name of a UNIX socket must stay below 108 octets.
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.network = ReactorNetwork(reactor)  # type: ignore[arg-type]
        self.host = RemoteHost("mx.example.net", reactor)

    async def configure(self) -> None:
        """Open the far side and write the files."""
        port = await self.network.listen("127.0.0.1:0", self.host)
        self.addCleanup(port.stopListening)
        text = CONFIGURATION.format(folder=self.folder, port=port.getHost().port)  # type: ignore[attr-defined]
        self.write("fwdmta.toml", text)
        self.write("accounts.toml", "")

    def write(self, name: str, text: str) -> None:
        """Write one of the server's files."""
        Path(f"{self.folder}/{name}").write_text(text, encoding="utf-8")

    def send(self, port: int, name: str, accepted: set[str]) -> Deferred[None]:
        """Let one sender loose; fires when its connection is gone."""
        sender = Sender(name, accepted)
        factory = Factory.forProtocol(lambda: sender)
        connecting = self.network.connect("127.0.0.1", port, factory, 10)
        return connecting.addCallback(lambda _: sender.gone)

    async def test_nothing_accepted_is_lost(self) -> None:
        """Killed under load three times: every 250 is a message at the far side."""
        await self.configure()
        accepted: set[str] = set()
        for kill in range(KILLS):
            daemon, port = await self.start()
            before = len(accepted)
            gone = [self.send(port, f"k{kill}s{n}", accepted) for n in range(5)]
            while len(accepted) < before + 40:
                await deferLater(reactor, 0.01)
            self.process.signalProcess("KILL")
            self.assertEqual(await daemon.ended, signal.SIGKILL)
            for one in gone:
                await one
        daemon, _ = await self.start()
        await self.retry_all()
        while accepted - set(self.arrived()):
            await deferLater(reactor, 0.05)
        self.process.signalProcess("TERM")
        self.assertEqual(await daemon.ended, 0, daemon.output[-2000:])
        doubles = len(self.arrived()) - len(set(self.arrived()))
        self.assertTrue(len(accepted) >= 40 * KILLS)
        # At least once: what was in flight when we died may come twice, no more.
        self.assertTrue(doubles <= 25 * KILLS, doubles)

    async def retry_all(self) -> None:
        """What was in flight waits ten minutes in doubt (P2), unless told not to."""
        operator = Operator()
        await self.network.connect(
            f"unix:{self.folder}/state/control.sock",
            0,
            Factory.forProtocol(lambda: operator),
            10,
        )
        after: str | None = ""
        while after is not None:
            listed = await operator.ask(verb="list", after=after)
            ids = [item["id"] for item in listed["items"]]
            for at in range(0, len(ids), BATCH):
                some = ids[at : at + BATCH]
                await operator.ask(verb="change", change="retry", ids=some)
            after = listed["next"]
        assert operator.transport is not None
        operator.transport.loseConnection()

    def arrived(self) -> list[str]:
        """The marks of all messages at the far side."""
        content = (one.content for one in self.host.inbox.messages)
        found = (re.search(rb"Message-ID: <([^@]+)@t>", one) for one in content)
        return [one[1].decode() for one in found if one]
