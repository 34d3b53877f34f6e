"""Hosts and names of the simulated outside world, and what arrived there."""

import re

from twisted.internet.interfaces import IReactorTime

from fwd_mta.net.tls import ServerTls
from fwd_mta.simulation.history import Ear, History
from fwd_mta.simulation.plan import DOMAINS, Habit, Names, Roads
from fwd_mta.world.hosts import HOSTS, Inbox, Received, RemoteHost
from fwd_mta.world.names import TableResolver
from fwd_mta.world.network import Dead, MemoryNetwork

HOME = DOMAINS  # the number of the sender's own host
_MARK = re.compile(rb"^X-Mark: (\S+)\r?$", re.MULTILINE)


def address(number: int) -> str:
    """Where a host is."""
    return f"203.0.113.{10 + number}"


def mark_of(content: bytes) -> str:
    """The mark of a message, or of the one a notice is about."""
    found = _MARK.search(content)
    return found[1].decode() if found else ""


class Outside:
    """Six hosts for six domains; each domain's second exchanger is another's first."""

    def __init__(
        self,
        clock: IReactorTime,
        network: MemoryNetwork,
        history: History,
        tls: ServerTls | None,
    ) -> None:
        self._network = network
        self._history = history
        self.failing: set[str] = set()
        self.inbox = Inbox(self._arrived)
        self.hosts = [self._host(clock, number, tls) for number in range(DOMAINS + 1)]
        exchangers = {
            f"d{number}.example.net": [
                (10, f"mx{number}.example.net"),
                *[(20, f"mx{(number + 1) % DOMAINS}.example.net")] * (number % 2),
            ]
            for number in range(DOMAINS)
        }
        exchangers["example.com"] = [(10, f"mx{HOME}.example.net")]
        self.resolver = TableResolver(
            exchangers,
            {f"mx{number}.example.net": [address(number)] for number in range(6)},
            self.failing,
        )

    def _host(
        self, clock: IReactorTime, number: int, tls: ServerTls | None
    ) -> RemoteHost:
        host = RemoteHost(f"mx{number}.example.net", clock, self.inbox, tls=tls)
        host.dialogue = Ear(self._history, f"mx{number}")
        _ = self._network.listen(f"{address(number)}:25", host)
        return host

    def _arrived(self, message: Received) -> None:
        what = f"took {mark_of(message.content)} from <{message.reverse_path}>"
        self._history.add(message.host.partition(".")[0], what)

    def change(self, fault: Habit | Names | Roads) -> None:
        """Let a fault begin, or end."""
        match fault:
            case Habit():
                self.hosts[fault.host].behaviour = HOSTS[fault.behaviour]
            case Names():
                name = f"d{fault.domain}.example.net"
                (self.failing.add if fault.fails else self.failing.discard)(name)
            case Roads():
                where = address(fault.host)
                if fault.cuts:
                    _ = self._network.cut(where)
                if isinstance(fault.way, Dead) or fault.way is not None:
                    self._network.bend(where, fault.way)
                else:
                    self._network.mend(where)
