"""What a configuration would do with some mail: `fwdmta simulate`.

Doorway: `Forecast(configuration, mails, faults).run(progress)`, an `Outcome`. The
server is the real one, in memory; its time runs as fast as it can, until all is over.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fwd_mta.config import Configuration
from fwd_mta.events import Accepted, Attempted, Event, Notified, Trouble
from fwd_mta.mail.route import TlsLevel
from fwd_mta.simulation.clients import PASSWORD, Client
from fwd_mta.simulation.history import History
from fwd_mta.simulation.life import slow_down
from fwd_mta.simulation.memory import ADDRESS, MemoryServer
from fwd_mta.simulation.plan import Submission
from fwd_mta.simulation.traffic import DAY, HOUR, Mail, seconds
from fwd_mta.world.hosts import HOSTS, TAGS, Behaviour
from fwd_mta.world.network import Dead

_FINAL = {"delivered": "delivered", "relayed": "delivered"}
_SPARE = DAY
_TICK = HOUR / 4
_START, _LENGTH = 6 * HOUR, 12 * HOUR  # of a fault that does not say
_BROKEN = {
    "down": Dead.REFUSED,
    "network": Dead.NO_ROUTE,
    "silent": Dead.SILENT,
}
_HABITS: Mapping[str, Behaviour] = {
    "blocklist": HOSTS["blocks"],
    "busy": HOSTS["busy"],
    "full": Behaviour(TAGS["full"].acts),
    "greylist": HOSTS["defers"],
    "slow": HOSTS["slow"],
}
FAULTS = (*_BROKEN, *_HABITS, "dns")


class FaultError(Exception):
    """A fault that is not known; `str()` says which are."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A trouble of some hours, of one domain or of all."""

    name: str
    domain: str = ""
    start: float = _START
    length: float = _LENGTH

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read NAME[=DOMAIN][@START[+LENGTH]], as in "down=example.org@2h+1d"."""
        what, _, when = text.partition("@")
        name, _, domain = what.partition("=")
        start, _, length = when.partition("+")
        if name not in FAULTS:
            raise FaultError(f"{text}: the faults are {', '.join(FAULTS)}")
        try:
            return cls(
                name,
                domain.lower(),
                seconds(start) if start else _START,
                seconds(length) if length else _LENGTH,
            )
        except ValueError as error:
            raise FaultError(f"{text}: {error}") from error


@dataclass
class Hour:
    """What happened in one hour."""

    submitted: int = 0
    delivered: int = 0
    failed: int = 0
    waiting: int = 0
    connections: int = 0


@dataclass
class Outcome:
    """What became of it all; times in seconds."""

    hours: list[Hour] = field(default_factory=list)
    messages: int = 0
    refused: int = 0
    recipients: int = 0
    waits: list[float] = field(default_factory=list)
    attempts: int = 0
    tries: list[int] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    left: int = 0
    worst_gap: float = 0.0

    @property
    def peak(self) -> int:
        """The most connections there were at a time."""
        return max((one.connections for one in self.hours), default=0)

    @property
    def never(self) -> int:
        """Recipients whose mail was given up without a refusal."""
        return self.ended["expired"]


class Forecast:
    """One configuration, its mail and its troubles."""

    def __init__(
        self,
        configuration: Configuration,
        mails: Sequence[Mail],
        faults: Sequence[Fault] = (),
    ) -> None:
        senders = {one.sender for one in mails}
        self._mails = mails
        level = configuration.delivery.tls_security_level
        self._memory = MemoryServer(
            configuration,
            dict.fromkeys(senders, PASSWORD),
            emit=self._happened,
            with_tls=level in {TlsLevel.ENCRYPT, TlsLevel.SECURE},  # it costs time
        )
        self._outcome = Outcome()
        self._accepted: dict[str, float] = {}
        self._tried: dict[tuple[str, str], tuple[float, int]] = {}
        self._open = 0
        self._history = History(self._memory.clock.seconds)
        self._clients = [self._client(one, n) for n, one in enumerate(mails)]
        self._domains = sorted(
            {to.rpartition("@")[2].lower() for one in mails for to in one.recipients}
        )
        for fault in faults:
            for domain in [fault.domain] if fault.domain else self._domains:
                later = self._memory.clock.callLater
                later(fault.start, self._break, fault, domain)
                later(fault.start + fault.length, self._mend, fault, domain)

    def _client(self, mail: Mail, number: int) -> Client:
        """Who submits it: with a login if logins are limited, else trusted."""
        memory = self._memory
        limits = memory.configuration.limits
        logs_in = bool(limits.messages_per_account or limits.recipients_per_account)
        submission = Submission(
            mail.at,
            number,
            tuple((one, "") for one in mail.recipients),
            size=mail.size,
        )
        trust = memory.trust if logs_in else None
        return Client(
            submission,
            memory.network,
            ADDRESS,
            memory.clock,
            self._history,
            trust,
            mail.sender,
        )

    # Troubles

    def _break(self, fault: Fault, domain: str) -> None:
        memory = self._memory
        if fault.name == "dns":
            memory.names.failing.add(domain)
        elif fault.name in _BROKEN:
            where = memory.names.address(domain)
            memory.network.bend(where, _BROKEN[fault.name])
            _ = memory.network.cut(where)
        else:
            memory.hosts[domain].behaviour = _HABITS[fault.name]

    def _mend(self, fault: Fault, domain: str) -> None:
        memory = self._memory
        memory.names.failing.discard(domain)
        memory.network.mend(memory.names.address(domain))
        memory.hosts[domain].behaviour = HOSTS["plain"]

    # Life

    def run(self, progress: Callable[[float], None] = lambda _: None) -> Outcome:
        """Live until all is over; `progress` hears how much of it is done, 0 to 1."""
        memory, last = self._memory, self._mails[-1].at
        slow_down(memory.server)
        memory.start()
        for client in self._clients:
            memory.clock.callLater(client.submission.at, client.begin)
        limit = last + _lifetime(memory.configuration) + _SPARE
        while memory.clock.seconds() < limit and not self._is_over(last):
            memory.advance(_TICK)
            self._look()
            self._history.lines.clear()
            progress(min(1.0, memory.clock.seconds() / limit))
        progress(1.0)
        self._outcome.left = self._open
        self._outcome.refused = sum(
            not any(promise.id for promise in client.promises)
            for client in self._clients
        )
        memory.stop()
        return self._outcome

    def _is_over(self, last: float) -> bool:
        clock = self._memory.clock
        done = all(client.is_done for client in self._clients)
        return clock.seconds() > last and done and not self._open

    def _hour(self) -> Hour:
        hours, number = self._outcome.hours, int(self._memory.clock.seconds() // HOUR)
        while len(hours) <= number:
            hours.append(Hour(waiting=self._open))
        return hours[number]

    def _look(self) -> None:
        hour = self._hour()
        hour.waiting = max(hour.waiting, self._open)

    # Events

    def _happened(self, event: Event) -> None:
        match event:
            case Accepted():
                self._on_accepted(event)
            case Attempted():
                self._on_attempted(event)
            case Notified():
                self._outcome.notices[event.kind] += 1
            case Trouble():
                self._outcome.troubles[f"{event.where}: {event.what}"] += 1
            case _:
                pass

    def _on_accepted(self, event: Accepted) -> None:
        self._accepted.setdefault(event.id, self._memory.clock.seconds())
        self._outcome.messages += 1
        self._outcome.recipients += event.recipients
        self._open += event.recipients
        self._hour().submitted += 1

    def _on_attempted(self, event: Attempted) -> None:
        if "-" in event.id:
            return  # a notice
        now, hour, outcome = self._memory.clock.seconds(), self._hour(), self._outcome
        began = self._accepted.setdefault(event.id, now)
        last, tries = self._tried.get((event.id, event.recipient), (began, 0))
        self._tried[event.id, event.recipient] = now, tries + 1
        outcome.attempts += 1
        outcome.worst_gap = max(outcome.worst_gap, now - last)
        sockets: list[Any] = self._memory.network.connections
        away = sum(one.getPeer().host.startswith("20.") for one in sockets)
        hour.connections = max(hour.connections, away)
        if event.state == "deferred":
            return
        self._open -= 1
        end = _FINAL.get(event.state, event.state)
        outcome.ended[end] += 1
        outcome.tries.append(tries + 1)
        if end == "delivered":
            hour.delivered += 1
            outcome.waits.append(now - began)
        else:
            hour.failed += 1


def _lifetime(configuration: Configuration) -> float:
    queue = configuration.queue
    return max(queue.maximal_queue_lifetime, queue.bounce_queue_lifetime)
