#!/usr/bin/env python3
"""The way from the socket to the 250 and to the last record, in one process.

The real server on the real disk, without sockets and without a far side: sessions are
fed octets, deliveries succeed at once. Prints Python calls a message, by file, and CPU;
`--top N` shows the functions that are called most, `--profile FILE` keeps a cProfile.
"""

import argparse
import cProfile
import gc
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType, SimpleNamespace
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure
from typing_extensions import override

from benchmarks import serve
from fwd_mta import config
from fwd_mta.inbound.protocol import FwdESMTP
from fwd_mta.interfaces import Delivery, Worker
from fwd_mta.mail.entry import Attempt, DeliveryResult, Stage
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.route import Destination
from fwd_mta.net.chance import SystemEntropy
from fwd_mta.net.clocks import SystemClock
from fwd_mta.net.disk import SystemDisk
from fwd_mta.net.drive import drive
from fwd_mta.net.log import EventLog
from fwd_mta.net.tls import ClientTlsContext
from fwd_mta.server import Seams, Server
from fwd_mta.world.machine import InlineWorker, VirtualClock
from fwd_mta.world.names import TableResolver

T = TypeVar("T")

_LINE = (
    b"La de da de da de da de da de da de da de da de da de da de da de da de da.\r\n"
)
_HEAD = (
    b"Received: from localhost (localhost [127.0.0.1])\r\n"
    b"\tby bench.example (smtp-source) with ESMTP; Tue, 24 Nov 2026 18:00:00 +0000\r\n"
    b"From: <a@bench.example>\r\nTo: <b@bench.example>\r\n"
    b"Date: Tue, 24 Nov 2026 18:00:00 +0000\r\n"
    b"Message-Id: <0f3a.%d@bench.example>\r\nSubject: x\r\n\r\n"
)
_TAKEN = Reply(250, "0.0", "Ok: queued")


class GatheringWorker(Worker):
    """Runs what was asked for when it is told to, as a thread would meanwhile."""

    def __init__(self) -> None:
        self._jobs: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Keep the job."""
        done: Deferred[T] = Deferred()
        self._jobs.append((job, done))
        return done

    def work(self) -> bool:
        """Run all that was asked for; whether there was anything."""
        jobs, self._jobs = self._jobs, []
        for job, done in jobs:
            _ = maybeDeferred(job).chainDeferred(done)
        return bool(jobs)


class InstantAgent:
    """Delivers at once."""

    settings = SimpleNamespace()
    policies: Any = None

    async def deliver(self, delivery: Delivery) -> Attempt:
        """Note the final dot, and succeed."""
        recipients = delivery.envelope.recipients
        noted = delivery.before_dot(recipients)
        if noted is not None:
            await noted
        results = tuple(
            DeliveryResult(one, Stage.DOT, _TAKEN, host="127.0.0.1[127.0.0.1]:25")
            for one in recipients
        )
        return Attempt(time.time(), time.time(), results)

    def at_once(self, delivery: Delivery, done: Callable[[Attempt], None]) -> bool:
        """Begin, and be done as soon as the dot is noted."""
        drive(self.deliver(delivery), done, Failure.raiseException)
        return True

    async def site(self, destination: Destination) -> str:
        """One site for all."""
        return "sink"


class Line:
    """The transport of a session that is always writable."""

    disconnecting = False
    written = 0

    def write(self, octets: bytes) -> None:
        """Count a reply."""
        self.written += octets.count(b"\n")

    def getPeer(self) -> IPv4Address:
        """A client on this machine."""
        return IPv4Address("TCP", "127.0.0.1", 40000)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Never asks it to pause."""


class Path:
    """The server, its sessions, and the reactor's part."""

    def __init__(self, folder: str, sessions: int, size: int) -> None:
        self.journal, self.clock = GatheringWorker(), VirtualClock()
        self.log = EventLog()
        self.log.gather(self.clock, SystemClock())
        self._body = (_LINE * (size // len(_LINE) + 1))[: size - 2] + b"\r\n.\r\n"
        self.server = self._compose(folder)
        factory = self.server.factories[0]
        self.sessions: list[tuple[FwdESMTP, Line]] = []
        address = IPv4Address("TCP", "127.0.0.1", 40000)
        _ = Deferred.fromCoroutine(self._begin())
        for _ in range(sessions):
            session, line = factory.buildProtocol(address), Line()
            assert isinstance(session, FwdESMTP)
            session.makeConnection(line)
            session.dataReceived(b"EHLO load.example\r\n")
            self.sessions.append((session, line))
        self._sent = 0

    def _compose(self, folder: str) -> Server:
        text = serve.configuration("relay", folder=folder, port=25, sink=26, dead=27)
        configuration = config.parse(text, f"{folder}/fwdmta.toml")
        agent = InstantAgent()

        class Composed(Server):
            """The server with its far side near."""

            @override
            def _make_agent(self, rules: Any, trust: Any) -> Any:
                return agent

        seams = Seams(
            clock=self.clock,
            wall=SystemClock(),
            entropy=SystemEntropy(),
            disk=SystemDisk(),
            network=None,  # type: ignore[arg-type]
            resolver=TableResolver({}, {}),
            storage=InlineWorker(),
            hashing=InlineWorker(),
            emit=self.log,
            read_file=lambda _: b"",
            journal=self.journal,
        )
        return Composed(configuration, seams, config.rule_table(), ClientTlsContext())

    async def _begin(self) -> None:
        await self.server.store.start(time.time())
        self.server.scheduler.start()

    def turns(self, count: int) -> None:
        """Do it so many times."""
        for _ in range(count):
            self.turn()

    def turn(self) -> None:
        """Send a message in each session, and let all of it be done."""
        before = sum(line.written for _, line in self.sessions)
        for command in (
            b"MAIL FROM:<a@bench.example>\r\n",
            b"RCPT TO:<b@bench.example>\r\n",
            b"DATA\r\n",
            b"",
        ):
            for session, _ in self.sessions:
                if command:
                    session.dataReceived(command)
                    continue
                self._sent += 1
                session.dataReceived(_HEAD % self._sent + self._body)
        self.clock.advance(0.001)
        while self.journal.work():
            self.clock.advance(0.001)
        heard = sum(line.written for _, line in self.sessions) - before
        if heard != 4 * len(self.sessions):
            raise SystemExit(f"{heard} replies instead of {4 * len(self.sessions)}")


def counted(work: Callable[[], None]) -> Counter[tuple[str, str]]:
    """The Python calls of some work, by file and function."""
    calls: Counter[Any] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            calls[frame.f_code] += 1

    sys.setprofile(note)
    work()
    sys.setprofile(None)
    named: Counter[tuple[str, str]] = Counter()
    for code, count in calls.items():
        named[_short(code.co_filename), code.co_qualname] += count
    return named


def _short(path: str) -> str:
    for mark in ("fwd_mta/", "site-packages/"):
        if mark in path:
            return path.rpartition(mark)[2]
    return os.path.basename(path)


def shown(calls: Counter[tuple[str, str]], messages: int, top: int) -> str:
    """Calls a message: all, by file, and the functions called most."""
    by_file: Counter[str] = Counter()
    for (path, _), count in calls.items():
        by_file[path] += count
    lines = [f"{calls.total() / messages:.1f} Python calls a message"]
    lines += [f"  {n / messages:6.1f} {path}" for path, n in by_file.most_common(40)]
    lines += [
        f"  {n / messages:6.1f} {path} {name}"
        for (path, name), n in calls.most_common(top)
    ]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """What the command line wants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--size", type=int, default=10240)
    parser.add_argument("--top", type=int, default=0)
    parser.add_argument("--profile")
    return parser.parse_args()


def timed(work: Callable[[], None], rounds: int) -> Sequence[float]:
    """CPU seconds of each round."""
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return sorted(taken)


def main() -> None:
    """Measure, and print."""
    wanted = arguments()
    folder = tempfile.mkdtemp(prefix="fwdmta-path-", dir=os.environ.get("TMPDIR"))
    log = open(f"{folder}/log", "w", encoding="utf-8")  # noqa: SIM115 - until its end
    globalLogBeginner.beginLoggingTo(
        [textFileLogObserver(log)], redirectStandardIO=False
    )
    try:
        path = Path(folder, wanted.sessions, wanted.size)
        for _ in range(10):
            path.turn()
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        calls = counted(lambda: path.turns(5))
        print(shown(calls, 5 * wanted.sessions, wanted.top))
        if wanted.profile:
            profile = cProfile.Profile()
            profile.runcall(path.turns, wanted.turns)
            profile.dump_stats(wanted.profile)
        taken = timed(path.turn, wanted.turns)
        median, least = (
            one / wanted.sessions for one in (taken[len(taken) // 2], taken[0])
        )
        print(f"{median * 1e6:.0f} us CPU a message, least {least * 1e6:.0f}")
    finally:
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
