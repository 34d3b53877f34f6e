"""What happens in a simulated life, as data: a seed draws it, shrinking drops from it.

All times are seconds after the start of the simulation.
"""

from dataclasses import dataclass, fields, is_dataclass
from enum import Enum

from fwd_mta.world.disk import Crash
from fwd_mta.world.network import Dead, Link
from fwd_mta.world.scanners import Conduct

HOUR = 3600.0
DAY = 86_400.0
DOMAINS = 5


@dataclass(frozen=True, slots=True)
class Submission:
    """A message somebody submits at a time, and again until it is taken or refused.

    `recipients` are (address, NOTIFY or empty); `cut` is after what the client hangs
    up the first time: "MAIL", "DATA", "half" of the content, "DOT"; "END": it only ends
    its own side behind the dot. `hold` asks for a later release (RFC 4865), `chunked`
    sends by BDAT, `starttls` by port 587 (under TLS only).
    """

    at: float
    number: int
    recipients: tuple[tuple[str, str], ...]
    size: int = 200
    pipelined: bool = True
    cut: str = ""
    bounce: bool = False
    full: bool = False
    chunked: bool = False
    starttls: bool = False
    hold: float = 0


@dataclass(frozen=True, slots=True)
class Habit:
    """From then on a host has that behaviour of `world.hosts.HOSTS`."""

    at: float
    host: int
    behaviour: str


@dataclass(frozen=True, slots=True)
class Names:
    """From then on that is what DNS says of a domain; DOMAINS is the sender's own.

    "fails" (SERVFAIL), "nothing" (no such name), "null" (takes no mail), "bare" (no
    exchanger), "astray" (an exchanger at a private address), "moved", or "truth".
    """

    at: float
    domain: int
    says: str


@dataclass(frozen=True, slots=True)
class Roads:
    """From then on new connections to a host go that way; None mends it."""

    at: float
    host: int
    way: Link | Dead | None
    cuts: bool = False


@dataclass(frozen=True, slots=True)
class Death:
    """The process dies in the n-th disk call from then, and is started again later.

    With a verb, in the n-th call of that kind; the 0th is at once, without a call. KEPT
    is `kill -9`; all others are a power cut, and nobody is told of it.
    """

    at: float
    call: int
    crash: Crash
    pause: float
    verb: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """The service is stopped in order, and started again later."""

    at: float
    pause: float


@dataclass(frozen=True, slots=True)
class Jump:
    """Somebody sets the clock."""

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody asks something of the n-th message in the queue (or of all, or reload).

    The verbs are those of `Commands.change`, "redact" and "reload".
    """

    at: float
    verb: str
    which: int


@dataclass(frozen=True, slots=True)
class Reload:
    """New settings: a lifetime, if shorter, and a first back-off."""

    at: float
    lifetime: float
    minimal: float


@dataclass(frozen=True, slots=True)
class Scan:
    """From then on the scanner behaves so."""

    at: float
    conduct: Conduct


@dataclass(frozen=True, slots=True)
class BadDisk:
    """For some seconds the disk answers some calls with an errno."""

    at: float
    error: int
    verbs: tuple[str, ...]
    seconds: float


Fault = Habit | Names | Roads | Death | Stop | Jump | Operator | Reload | Scan | BadDisk


@dataclass(frozen=True, slots=True)
class Plan:
    """One simulated life; the seed also decides all chance in it.

    `level` is tls_security_level, or "dane"; `scans` is what an error of the scanner
    means, empty without one; `messages` is how many an account may send a day.
    `hurried`: what looks around does it as often as in production.
    """

    seed: int
    submissions: tuple[Submission, ...] = ()
    faults: tuple[Fault, ...] = ()
    lifetime: float = 5 * DAY
    bounce_lifetime: float = DAY
    minimal: float = HOUR
    maximal: float = 12 * HOUR
    warning: float = 4 * HOUR
    concurrency: int = 20
    threads: bool = False
    tls: bool = False
    level: str = "may"
    scans: str = ""
    messages: int = 0
    hurried: bool = False

    def lines(self) -> list[str]:
        """The plan for people: what differs from a quiet life, in order."""
        told: list[Submission | Fault] = [*self.submissions, *self.faults]
        head = (
            f"seed {self.seed}: lifetime {self.lifetime:.0f} s, back-off"
            f" {self.minimal:.0f} to {self.maximal:.0f} s, warning after"
            f" {self.warning:.0f} s, {self.concurrency} connections a host"
            f"{', threads' if self.threads else ''}{', TLS' if self.tls else ''}"
            f"{f', TLS is {self.level}' if self.tls else ''}"
            f"{f', scanned, else {self.scans}' if self.scans else ''}"
            f"{f', {self.messages} messages a day' if self.messages else ''}"
        )
        return [head, *(f"  {source(one)}" for one in sorted(told, key=_at))]


def _at(one: Submission | Fault) -> float:
    return one.at


def source(thing: object) -> str:
    """A plan, or a part of one, as the Python that makes it; defaults are left out."""
    if isinstance(thing, Enum):
        return f"{type(thing).__name__}.{thing.name}"
    if isinstance(thing, tuple):
        return f"({''.join(f'{source(one)}, ' for one in thing)})"
    if not is_dataclass(thing):
        return repr(thing)
    told = [
        f"{one.name}={source(getattr(thing, one.name))}"
        for one in fields(thing)
        if getattr(thing, one.name) != one.default
    ]
    return f"{type(thing).__name__}({', '.join(told)})"
