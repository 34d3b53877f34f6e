"""One simulated life: a server, what is around it, and all that goes wrong by plan.

Doorway: `run(plan) -> Report`. The server's rooms are the real ones; a death ends its
process, and another one starts on the same disk.
"""

import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any, TypeVar, cast

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher
from twisted.python.failure import Failure

from fwd_mta.config import Configuration, parse, rule_table
from fwd_mta.events import Accepted, Event
from fwd_mta.inbound.passwords import HashCost, argon2id_hash
from fwd_mta.net.clocks import SystemClock
from fwd_mta.net.tls import ClientTlsContext
from fwd_mta.rules.classification import RuleTable
from fwd_mta.server import Seams, Server
from fwd_mta.simulation.clients import PASSWORD, SENDER, Client
from fwd_mta.simulation.history import Ear, History
from fwd_mta.simulation.invariants import Invariants, Violated
from fwd_mta.simulation.life import Life, LifeClock, LifeDisk, LifeWorker, slow_down
from fwd_mta.simulation.outside import HOME, SCANNER, Outside, host_name
from fwd_mta.simulation.plan import (
    DAY,
    HOUR,
    BadDisk,
    Death,
    Fault,
    Habit,
    Jump,
    Names,
    Operator,
    Plan,
    Reload,
    Roads,
    Scan,
    Stop,
)
from fwd_mta.world.certificates import Authority
from fwd_mta.world.disk import Crash, Died, MemoryDisk
from fwd_mta.world.machine import SeededEntropy, VirtualClock, VirtualWall
from fwd_mta.world.network import MemoryNetwork

T = TypeVar("T")

OUR_ADDRESS = "198.51.100.1"
_HOST = "mail.example.com"
_START_AGAIN = 60.0
_LONGEST_STOP = 300.0
_STEPS = 600_000
_LOOK_EVERY = 6 * HOUR

_CONFIGURATION = """\
hostname = "mail.example.com"
state_dir = "/state"
[[listener]]
service = "relay"
address = "198.51.100.1:25"
trusted_networks = ["10.0.0.0/8"]
[accounts]
file = "/accounts"
[limits]
connections_per_client = 1000
messages_per_account = {messages}
[queue]
maximal_queue_lifetime = "{lifetime}s"
bounce_queue_lifetime = "{bounce}s"
minimal_backoff_time = "{minimal}s"
maximal_backoff_time = "{maximal}s"
delay_warning_time = "{warning}s"
[retention]
content = "{content}s"
record = "{record}s"
[delivery]
destination_concurrency_limit = {concurrency}
tls_security_level = "{level}"
[scan]
on_error = "{scans}"
"""
_WITH_TLS = """\
[tls]
certificate = "/certificate"
private_key = "/key"
[[listener]]
service = "submissions"
address = "198.51.100.1:465"
[[listener]]
service = "submission"
address = "198.51.100.1:587"
"""


@dataclass(frozen=True, slots=True)
class _Materials:
    """What costs time to make: certificates, the password's hash, the rules."""

    files: dict[str, bytes]
    trust: ClientTlsContext
    pair: tuple[bytes, bytes]
    rules: RuleTable


@cache
def _materials() -> _Materials:
    authority = Authority(SystemClock().now())  # OpenSSL judges by the real clock
    certificate, key = authority.issue(_HOST)
    hosts = [host_name(number) for number in range(HOME + 1)]
    hashed = argon2id_hash(PASSWORD, cost=HashCost(1, 8, 1))
    account = f'[[account]]\nlogin = "{SENDER}"\npassword = "{hashed}"\n'
    return _Materials(
        {"/certificate": certificate, "/key": key, "/accounts": account.encode()},
        ClientTlsContext(authority.pem),
        authority.issue(*hosts),
        rule_table(),
    )


@cache
def _frozen() -> int:
    """Take what is there for good out of the collections between lives, once."""
    _ = _materials()
    _ = gc.collect()
    gc.freeze()
    return gc.get_freeze_count()


@dataclass(frozen=True, slots=True)
class Report:
    """How a life went: the invariant that was broken and how, or None; its history."""

    plan: Plan
    broken: str | None
    words: str
    history: History
    steps: int

    @property
    def digest(self) -> str:
        """Equal for equal histories."""
        return self.history.digest


def run(plan: Plan) -> Report:
    """Live a plan to its end."""
    simulation = Simulation(plan)
    broken, words = None, ""
    try:
        simulation.run()
    except Violated as violated:
        broken, words = violated.invariant, str(violated)
    return Report(plan, broken, words, simulation.history, simulation.steps)


@dataclass
class Simulation:
    """One life under one virtual clock, from the first submission to the last purge."""

    plan: Plan
    extra: str = ""
    steps: int = 0
    deaths: list[tuple[float, Crash]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    lost_time: float = 0.0
    events: list[tuple[float, Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        plan = self.plan
        self.clock = VirtualClock()
        self.wall = VirtualWall(self.clock)
        self.history = History(self.clock.seconds)
        self.chance = SeededEntropy(plan.seed)
        self.disk = MemoryDisk()
        self.disk.log = Ear(self.history, "disk")
        self.network = MemoryNetwork(self.clock, self.chance, source=OUR_ADDRESS)
        pair = _materials().pair if plan.tls else None
        dane = plan.level == "dane"
        self.outside = Outside(self.clock, self.network, self.history, pair, dane=dane)
        trust = _materials().trust if plan.tls else None
        self.clients = [
            Client(one, self.network, OUR_ADDRESS, self.clock, self.history, trust)
            for one in plan.submissions
        ]
        self.invariants = Invariants(self)
        self.life = Life()
        self.worker = LifeWorker(self.life, self.clock, None)
        self.server: Server | None = None
        self._lives = 0
        self._doom: Death | None = None
        self._is_bad = 0
        self._well_since = -DAY
        self._lived = plan
        self._faults_end = max((one.at for one in plan.faults), default=0.0)

    # The whole

    def run(self) -> None:
        """Live; raises Violated."""
        heard = cast("ILogObserver", self._logged)
        globalLogPublisher.addObserver(heard)
        logger, defer.log = defer.log, Logger(observer=heard)
        _ = _frozen()
        gc.disable()
        try:
            self._schedule()
            self._go_on(self._is_over, self.plan.lifetime + 30 * DAY)
            self.invariants.at_the_end()
            self._until(self.invariants.content_is_due())
            self.invariants.redacted()
            self._until(self.invariants.record_is_due())
            self.invariants.purged()
        finally:
            globalLogPublisher.removeObserver(heard)
            self.life.die()
            self.server = None
            _ = gc.collect()
            gc.enable()
            defer.log = logger

    def _schedule(self) -> None:
        self._boot()
        for client in self.clients:
            self.clock.callLater(client.submission.at, client.begin)
        for fault in self.plan.faults:
            self.clock.callLater(fault.at, self._let, fault)
        self.clock.callLater(_LOOK_EVERY, self._look)
        self.clock.callLater(self._faults_end + 12 * HOUR, self._quiet)

    def _go_on(self, is_over: Callable[[], bool], limit: float) -> None:
        """Step until it is over; asks once an hour."""
        while not is_over():
            if self.clock.seconds() > limit:
                self.invariants.never_ends()
            self._until(self.clock.seconds() + HOUR)

    def _until(self, end: float) -> None:
        while (at := self.clock.next_at()) is not None and at <= end:
            self._step()
        self.clock.rightNow = max(self.clock.rightNow, end)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > _STEPS:
            raise Violated("bounded work", "the simulation does not come to an end")
        try:
            _ = self.clock.step()
        except Died:
            self.life.die()
        except Violated:
            raise
        except Exception as error:
            told = Failure().getTraceback()
            raise Violated("no defect", f"a timer raised {error!r}\n{told}") from error
        if self.server is not None and not self.life.alive:
            self._bury()
        self.invariants.after_step()

    def _is_over(self) -> bool:
        """Whether nothing is to come: all is told, tried, and no fault is left."""
        server = self.server
        return (
            server is not None
            and self.clock.seconds() > self._faults_end + 13 * HOUR
            and all(client.is_done for client in self.clients)
            and not server.scheduler.active
            and server.store.next_due() is None
            and not self._is_bad
        )

    def _quiet(self) -> None:
        """After the last fault: no death waits any more, nobody holds anything."""
        self._doom = None
        self.disk.fail_at(1 << 60)
        if self.server is None:
            self.clock.callLater(HOUR, self._quiet)
            return
        self._operate("release", list(self.ids))
        self._operate("let-go", list(self.ids))

    def _logged(self, event: LogEvent) -> None:
        """Hear of defects that only the log knows; not of what the dead left behind.

        A coroutine of a dead process is closed when it is collected, at any time.
        """
        failure = event.get("log_failure")
        if not isinstance(failure, Failure) or not self.life.alive:
            return
        closed = "coroutine already executing" in str(failure.value)
        if not closed and not failure.check(Died, Violated, GeneratorExit):
            self.invariants.defect(failure.getTraceback())

    # Processes

    def configuration(self) -> Configuration:
        """The settings of this life."""
        return self._configuration

    @cached_property
    def _configuration(self) -> Configuration:
        return self._parsed(self.plan)

    def set_schedule(self, plan: Plan) -> None:
        """Write another plan's schedule into the configuration; a reload reads it."""
        self.__dict__["_configuration"] = self._parsed(plan)
        self._lived = plan
        self.lost_time += abs(self.plan.lifetime - plan.lifetime)

    @property
    def _span(self) -> float:
        """How long mail may be in the queue, by a clock that somebody sets."""
        leaps = (one.seconds for one in self.plan.faults if isinstance(one, Jump))
        holds = (one.hold for one in self.plan.submissions)
        return self.plan.lifetime + sum(map(abs, leaps)) + max(holds, default=0)

    def _parsed(self, plan: Plan) -> Configuration:
        text = _CONFIGURATION.format(
            lifetime=int(plan.lifetime),
            bounce=int(plan.bounce_lifetime),
            minimal=int(plan.minimal),
            maximal=int(plan.maximal),
            warning=int(plan.warning),
            content=int(self._span + 2 * DAY),
            record=int(self._span + 4 * DAY),
            concurrency=plan.concurrency,
            level=plan.level.replace("dane", "may"),
            scans=plan.scans or "defer",
            messages=plan.messages,
        )
        if plan.scans:
            text += f'clamd = "tcp:{SCANNER}"\n'
        if plan.tls:
            text += _WITH_TLS
        return parse(text + self.extra, "/fwdmta.toml")

    def _boot(self) -> None:
        """Start a process on the disk as it is."""
        self._lives += 1
        self.history.add("init", f"starts process {self._lives}")
        self.life = life = Life()
        clock = LifeClock(life, self.clock)
        entropy = SeededEntropy(self.plan.seed * 1000 + self._lives)
        self.worker = LifeWorker(life, clock, entropy if self.plan.threads else None)
        materials = _materials()
        seams = Seams(
            clock=clock,
            wall=self.wall,
            entropy=entropy,
            disk=LifeDisk(life, self.disk),
            network=self.network,
            resolver=self.outside.resolver(clock),
            storage=self.worker,
            hashing=LifeWorker(life, clock, None),
            emit=life.emit(self._happened),
            read_file=materials.files.__getitem__,
            journal=LifeWorker(life, clock, entropy if self.plan.threads else None),
        )
        self.server = Server(
            self.configuration(),
            seams,
            materials.rules,
            materials.trust,
            self.configuration,
        )
        if not self.plan.hurried:
            slow_down(self.server)
        starting = Deferred.fromCoroutine(self._start(self.server))
        _ = starting.addErrback(partial(self._not_started, life))

    @staticmethod
    async def _start(server: Server) -> None:
        await server.bind()
        await server.start()

    def _not_started(self, life: Life, failure: Failure) -> None:
        if not life.alive or life is not self.life:
            return
        if not self._is_bad:
            told = f"the server does not start: {failure.getTraceback()}"
            self.invariants.defect(told)
        self.history.add("init", f"it did not start: {failure.value}")
        life.die()
        self._bury(_START_AGAIN)

    def _happened(self, event: Event) -> None:
        self.history.add("server", repr(event))
        self.events.append((self.clock.seconds(), event))
        if isinstance(event, Accepted):
            self.ids.append(event.id)
        self.invariants.on_event(event)

    def _bury(self, pause: float = 0.0, crash: Crash = Crash.KEPT) -> None:
        """The process has ended: what it held is gone, another one comes."""
        doom, self._doom = self._doom, None
        if doom is not None:
            pause, crash = doom.pause, doom.crash
            self.lost_time += pause
        self.history.add("init", f"process {self._lives} is dead ({crash.value})")
        self.deaths.append((self.clock.seconds(), crash))
        if crash is not Crash.KEPT:
            self.invariants.power_cut()
        self.server = None
        self.network.vanish({OUR_ADDRESS}, silently=crash is not Crash.KEPT)
        self.disk.crash(crash, self.chance)
        self.clock.callLater(pause, self._boot)

    def _stop(self, pause: float) -> None:
        server, life = self.server, self.life
        if server is None or not life.alive:
            return
        self.history.add("init", "stops the service")
        late = self.clock.callLater(_LONGEST_STOP, self._stops_never, life)

        def stopped(failure: Failure | None) -> None:
            if late.active():
                late.cancel()
            if failure is not None:
                self.invariants.defect(f"stop failed: {failure.getTraceback()}")
            if life.alive and life is self.life:
                life.die()
                self.lost_time += pause
                self._bury(pause)

        stopping = Deferred.fromCoroutine(server.stop())
        _ = stopping.addCallbacks(lambda _: stopped(None), stopped)

    def _stops_never(self, life: Life) -> None:
        if life.alive and life is self.life:
            raise Violated("stopping ends", f"it takes over {_LONGEST_STOP:.0f} s")

    # Faults

    def _let(self, fault: Fault) -> None:
        self.history.add("fault", str(fault))
        match fault:
            case Habit() | Names() | Roads() | Scan():
                self.outside.change(fault)
            case Death():
                self._doom = fault
                if fault.call:
                    self.disk.fail_at(fault.call, fault.verb)
                else:
                    self.life.die()
            case Stop():
                self._stop(fault.pause)
            case Jump():
                self.wall.jump(fault.seconds)
                self.lost_time += abs(fault.seconds)
            case BadDisk():
                self._is_bad += 1
                self.lost_time += fault.seconds
                self.disk.refuse(fault.error, *fault.verbs)
                self.clock.callLater(fault.seconds, self._disk_relents)
            case Operator():
                self._ask(fault)
            case Reload():
                self._set(fault)

    def _set(self, fault: Reload) -> None:
        shorter = min(fault.lifetime, self._lived.lifetime)
        maximal = max(fault.minimal, self.plan.maximal)
        settings = replace(
            self.plan, lifetime=shorter, minimal=fault.minimal, maximal=maximal
        )
        self.set_schedule(settings)
        self._obey({"verb": "reload"})

    @property
    def disk_is_well(self) -> bool:
        """Whether all that a bad disk held up has had the time to be mended."""
        return not self._is_bad and self.clock.seconds() > self._well_since + 300

    def _disk_relents(self) -> None:
        self._is_bad -= 1
        if not self._is_bad:
            self.history.add("fault", "the disk works again")
            self.disk.relent()
            self._well_since = self.clock.seconds()

    def _ask(self, fault: Operator) -> None:
        if fault.verb == "reload":
            self._obey({"verb": "reload"})
        elif self.ids:
            verb, _, everything = fault.verb.partition(" ")
            one = self.ids[fault.which % len(self.ids)]
            self._operate(verb, self.ids if everything else [one])

    def _operate(self, verb: str, ids: list[str]) -> None:
        if verb in {"hold", "cancel"}:
            self.touched.update(ids)
        if verb == "redact":
            self._obey({"verb": verb, "ids": ids})
        else:
            self._obey({"verb": "change", "change": verb, "ids": ids[:200]})

    def _obey(self, request: dict[str, Any]) -> None:
        server = self.server
        if server is None:
            return
        asked = Deferred.fromCoroutine(server.commands.obey(request))
        _ = asked.addCallbacks(
            lambda answer: self.history.add("operator", f"{request} {answer}"),
            lambda failure: self.invariants.defect(failure.getTraceback()),
        )

    # Looking on

    def _look(self) -> None:
        self.invariants.now_and_then()
        self.clock.callLater(_LOOK_EVERY, self._look)

    def aside(self, work: Awaitable[T]) -> T:
        """Ask the store something that leaves no trace, whatever the disk does now."""

        async def ask() -> T:
            return await work

        outcome: list[Any] = []
        with self._unseen():
            _ = Deferred.fromCoroutine(ask()).addBoth(outcome.append)
        if not outcome:
            raise Violated("answers", "the store does not answer a question")
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        answer: T = outcome[0]
        return answer

    def _unseen(self) -> "_Unseen":
        return _Unseen(self.disk, self.worker)


class _Unseen:
    """While it lasts the disk works, notes nothing, and no thread is waited for."""

    def __init__(self, disk: MemoryDisk, worker: LifeWorker) -> None:
        self._disk = disk
        self._worker = worker
        self._kept: Any = None

    def __enter__(self) -> None:
        self._kept = self._disk.aside()
        self._worker.hurries = True

    def __exit__(self, *_: object) -> None:
        self._disk.back(self._kept)
        self._worker.hurries = False
