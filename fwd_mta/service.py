"""What twistd starts: options, the real seams, signals, and the server's life.

`makeService` is the doorway. The server itself is composed in `server.py`.
"""

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.python import usage
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta import config
from fwd_mta.config import ConfigError, Configuration
from fwd_mta.events import Trouble
from fwd_mta.net.chance import SystemEntropy
from fwd_mta.net.clocks import SystemClock, make_monotonic
from fwd_mta.net.databases import SystemDatabases
from fwd_mta.net.disk import SystemDisk, lock_text
from fwd_mta.net.log import EventLog
from fwd_mta.net.network import ReactorNetwork
from fwd_mta.net.notify import READY, RELOADING, STOPPING, sd_notify
from fwd_mta.net.polling import poll_directly
from fwd_mta.net.sql import SqlRows
from fwd_mta.net.tls import ClientTlsContext
from fwd_mta.net.worker import ThreadWorker
from fwd_mta.outbound.resolver import DnsResolver
from fwd_mta.server import Seams, Server
from fwd_mta.settings import CannotServeError
from fwd_mta.world.demo import Demo

T = TypeVar("T")

STORAGE_THREADS = 2
HASHING_THREADS = 2
_COLLECT = 20_000, 20, 50


class Options(usage.Options):
    """Flags and the path of the configuration; the file is read in postOptions."""

    optParameters = [  # noqa: RUF012 - Twisted's shape
        ["config", "c", None, "The configuration file"],
        ["state-dir", None, None, "With --demo: where to keep the queue"],
    ]
    optFlags = [  # noqa: RUF012
        ["check", None, "Check the configuration, say what is wrong, and exit"],
        ["demo", None, "Serve on loopback without any file, with a sink as the world"],
    ]

    @override
    def postOptions(self) -> None:
        """Read the configuration; a bad one is a usage error, a line for each fault."""
        if self["demo"]:
            return
        try:
            self.path = config.locate(self["config"])
            self.configuration = config.load(self.path)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from error
        if self["check"]:
            self._check()

    def _check(self) -> None:
        faults = config.check(self.configuration)
        for line in (*faults, *self.configuration.later):
            print(line, file=sys.stderr)  # noqa: T201 - this is a command's answer
        if not faults:
            print(f"{self.path}: good")  # noqa: T201
        sys.exit(1 if faults else 0)


def read_file(path: str) -> bytes:
    """Read a file that a setting names; OSError names it too."""
    with open(path, "rb") as file:  # noqa: PTH123 - settings name files
        return file.read()


def makeService(options: Options) -> "MailService":
    """Make what twistd runs."""
    from twisted.internet import reactor  # noqa: PLC0415, TID251 - installed by twistd

    make_monotonic(reactor)  # type: ignore[arg-type]
    if options["demo"]:
        return _demo_service(reactor, options["state-dir"])
    return MailService(
        reactor, options.configuration, lambda: config.load(options.path)
    )


def _demo_service(reactor: Any, state_dir: str | None) -> "MailService":
    """The same server on files that the demo writes, with its far side beside it."""
    folder = state_dir or tempfile.mkdtemp(prefix="fwdmta-demo-")
    demo = Demo(
        folder,
        ReactorNetwork(reactor),
        SystemDisk(),
        reactor,
        SystemClock(),
        SystemEntropy(),
    )
    written = config.parse(_now(demo.prepare()), f"{folder}/fwdmta.toml")
    return MailService(reactor, written, lambda: written, demo)


class MailService(Service):
    """The server's life under twistd: bind as root, serve as nobody, drain, end."""

    name = "fwdmta"

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        load: Callable[[], Configuration],
        demo: Demo | None = None,
    ) -> None:
        self._demo = demo
        self._reactor = reactor
        self._configuration = configuration
        self._load = load
        self._storage = ThreadWorker(reactor, "storage", STORAGE_THREADS)
        self._journal = ThreadWorker(reactor, "journal", 1)
        self._hashing = ThreadWorker(reactor, "hashing", HASHING_THREADS)
        self._indexing = ThreadWorker(reactor, "index", 1)
        self.emit = EventLog()
        self.server: Server | None = None
        self._ending = False

    @override
    def privilegedStartService(self) -> None:
        """Read the key and open the ports, while twistd may still be root."""
        super().privilegedStartService()
        try:
            self.server = self._compose()
            _now(self.server.bind())
        except CannotServeError as error:
            self._refuse(error)

    @override
    def startService(self) -> None:
        """Begin to serve as soon as the reactor runs."""
        super().startService()
        poll_directly(self._reactor)
        self.emit.gather(self._reactor, SystemClock())
        self._storage.start()
        self._journal.start()
        self._hashing.start()
        self._indexing.start()
        self._reactor.callWhenRunning(self._begin)

    def _compose(self) -> Server:
        reactor, dns = self._reactor, self._configuration.dns
        network = ReactorNetwork(reactor)
        seams = Seams(
            clock=reactor,
            wall=SystemClock(),
            entropy=SystemEntropy(),
            disk=SystemDisk(),
            network=network,
            resolver=DnsResolver(
                network, reactor, dns.nameservers or None, trust_ad=dns.trust_ad
            ),
            storage=self._storage,
            hashing=self._hashing,
            emit=self.emit,
            read_file=read_file,
            owner=lock_text(),
            journal=self._journal,
            account_rows=lambda url: SqlRows(reactor, url),
            databases=SystemDatabases(),
            indexing=self._indexing,
        )
        return Server(
            self._configuration,
            seams,
            config.rule_table(),
            ClientTlsContext(),
            self._load,
        )

    def _refuse(self, error: CannotServeError) -> NoReturn:
        """Say why it cannot begin, a line each, and end with exit status 1."""
        for line in error.lines:
            self.emit(Trouble("start", line))
            print(f"fwdmta: {line}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1)

    def _begin(self) -> None:
        """Take the signals over and start; twistd's own handlers end unclean."""
        for number, act in ((signal.SIGTERM, self._end), (signal.SIGHUP, self._reload)):
            signal.signal(number, self._on_signal(act))
        signal.signal(signal.SIGINT, self._on_signal(self._end))
        assert self.server is not None  # noqa: S101 - privilegedStartService made it
        starting = Deferred.fromCoroutine(self.server.start())
        _ = starting.addCallbacks(self._began, self._failed)

    def _on_signal(self, act: Callable[[], None]) -> Callable[[int, object], None]:
        return lambda _number, _frame: self._reactor.callFromThread(act)

    def _began(self, nothing: None) -> None:
        # What lives now lives on: the collector need not walk it. Messages make many
        # objects and few cycles, so it may come less often than its default.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT)
        if self._demo is not None and self.server is not None:
            self._demo.announce(self.server.port_numbers())
        sd_notify(os.environ, READY)
        period = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        if period:
            watchdog = LoopingCall(sd_notify, os.environ, "WATCHDOG=1")
            watchdog.clock = self._reactor
            _ = watchdog.start(period)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        lines = error.lines if isinstance(error, CannotServeError) else (str(error),)
        for line in lines:
            self.emit(Trouble("start", line))
            print(f"fwdmta: {line}", file=sys.stderr)  # noqa: T201
        self._end_with_status(1)

    def _end_with_status(self, status: int) -> None:
        """End the process with a status, which twistd itself cannot do."""
        self._reactor.addSystemEventTrigger("after", "shutdown", _exit, status)
        self._end()

    def _end(self) -> None:
        """Begin to stop; a second signal changes nothing."""
        if not self._ending:
            self._ending = True
            self._reactor.stop()

    def _reload(self) -> None:
        if self.server is None or self._ending:
            return
        sd_notify(os.environ, RELOADING)
        reloading = Deferred.fromCoroutine(_reloaded(self.server))
        _ = reloading.addErrback(lambda failure: self.emit(_defect(failure)))
        _ = reloading.addCallback(lambda _: sd_notify(os.environ, READY))

    @override
    def stopService(self) -> Deferred[None]:
        """Drain, then end the threads."""
        self._ending = True
        super().stopService()
        sd_notify(os.environ, STOPPING)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self.server is not None:
            await self.server.stop()
        if self._demo is not None:
            await self._demo.stop()
        self._storage.stop()
        self._journal.stop()
        self._hashing.stop()
        self.emit.flush()
        self._indexing.stop()


async def _reloaded(server: Server) -> None:
    await server.reload()


def _defect(failure: Failure) -> Trouble:
    return Trouble("reload", repr(failure.value), "this is a defect of ours")


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _now(work: Coroutine[Deferred[Any], Any, T]) -> T:
    """Run a coroutine that never waits, before the reactor runs."""
    outcome: list[T | Failure] = []
    _ = Deferred.fromCoroutine(work).addBoth(outcome.append)
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result
