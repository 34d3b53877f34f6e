"""What happens in a simulated life, as data: a seed draws it, shrinking drops from it.

All times are seconds after the start of the simulation.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from random import Random  # noqa: TID251 - the seed's chance
from typing import TypeVar

from fwd_mta.world.disk import Crash
from fwd_mta.world.network import Dead, Link

T = TypeVar("T")

HOUR = 3600.0
DAY = 86_400.0
DOMAINS = 5


@dataclass(frozen=True, slots=True)
class Submission:
    """A message somebody submits at a time, and again until it is taken or refused.

    `recipients` are (address, NOTIFY or empty); `cut` is after what the client hangs
    up the first time: "MAIL", "DATA", "half" of the content, "DOT", or empty.
    """

    at: float
    number: int
    recipients: tuple[tuple[str, str], ...]
    size: int = 200
    pipelined: bool = True
    cut: str = ""
    bounce: bool = False
    full: bool = False


@dataclass(frozen=True, slots=True)
class Habit:
    """From then on a host has that behaviour of `world.hosts.HOSTS`."""

    at: float
    host: int
    behaviour: str


@dataclass(frozen=True, slots=True)
class Names:
    """From then on DNS cannot say a domain, or can again."""

    at: float
    domain: int
    fails: bool


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

    KEPT is `kill -9`; all others are a power cut, and nobody is told of it.
    """

    at: float
    call: int
    crash: Crash
    pause: float


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

    The verbs are those of `Commands.change`, and "reload".
    """

    at: float
    verb: str
    which: int


@dataclass(frozen=True, slots=True)
class BadDisk:
    """For some seconds the disk answers some calls with an errno."""

    at: float
    error: int
    verbs: tuple[str, ...]
    seconds: float


Fault = Habit | Names | Roads | Death | Stop | Jump | Operator | BadDisk


@dataclass(frozen=True, slots=True)
class Plan:
    """One simulated life; the seed also decides all chance in it."""

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
    encrypt: bool = False
    hurried: bool = False

    def lines(self) -> list[str]:
        """The plan for people: what differs from a quiet life, in order."""
        told: list[Submission | Fault] = [*self.submissions, *self.faults]
        head = (
            f"seed {self.seed}: lifetime {self.lifetime:.0f} s, back-off"
            f" {self.minimal:.0f} to {self.maximal:.0f} s, warning after"
            f" {self.warning:.0f} s, {self.concurrency} connections a host"
            f"{', threads' if self.threads else ''}{', TLS' if self.tls else ''}"
            f"{', never in clear' if self.encrypt else ''}"
        )
        return [head, *(f"  {one}" for one in sorted(told, key=lambda one: one.at))]


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


# Drawing


_TAGS = (
    *("",) * 12,
    *("greylist",) * 3,
    *("later",) * 2,
    *("full", "full5", "unknown", "unknown", "blocked", "many", "slow"),
    *("spam", "big", "drop", "lost", "silent"),
)
_HABITS = (
    *("plain",) * 8,
    *("bare", "no-pipelining", "small", "slow", "busy", "closed", "no-mail"),
    *("mute", "slams", "no-ehlo", "blocks", "defers", "endless", "250-to-data"),
    *("drops-data", "lost-after-dot", "silent-after-dot", "no-room", "no-8bitmime"),
)
_CUTS = (*("",) * 8, "MAIL", "DATA", "half", "DOT", "DOT")
_NOTIFY = (*("",) * 6, "NEVER", "SUCCESS,FAILURE", "SUCCESS", "FAILURE", "DELAY")
_CRASHES = (Crash.KEPT, Crash.KEPT, Crash.LOST, Crash.TORN, Crash.CHOSEN)
_VERBS = ("hold", "release", "retry", "cancel", "retry all", "release all", "reload")
_BAD = (
    ((), errno.EIO),
    ((), errno.ENOSPC),
    (("append",), errno.ENOSPC),
    (("sync",), errno.EIO),
    (("sync_directory",), errno.EIO),
    (("rename",), errno.EIO),
    (("open", "read_at"), errno.EIO),
    (("names",), errno.EIO),
)


def draw(seed: int) -> Plan:
    """The plan of a seed: 2 to 24 messages in a day and a half, and what goes wrong."""
    chance = Random(seed)  # noqa: S311 - repeatable on purpose
    tls = seed % 10 == 9
    submissions = tuple(
        _submission(chance, number) for number in range(chance.choice((2, 4, 8, 16)))
    )
    lifetime = chance.choice((2 * DAY, 5 * DAY, 5 * DAY))
    span = min(lifetime, chance.choice((2 * HOUR, 12 * HOUR, 2 * DAY, 5 * DAY)))
    count = chance.choice((0, 2, 4, 8, 16))
    faults = tuple(_fault(chance, span, tls=tls) for _ in range(count))
    return Plan(
        seed,
        submissions,
        tuple(sorted(faults, key=lambda one: one.at)),
        lifetime=lifetime,
        bounce_lifetime=chance.choice((0.0, 0.5 * DAY, DAY, DAY)),
        minimal=chance.choice((600.0, HOUR, 2 * HOUR)),
        maximal=chance.choice((6 * HOUR, 12 * HOUR, DAY)),
        warning=chance.choice((0.0, 4 * HOUR, 4 * HOUR, DAY)),
        concurrency=chance.choice((1, 2, 20)),
        threads=chance.random() < 0.5,
        tls=tls,
        encrypt=tls and chance.random() < 0.5,
        hurried=seed % 50 == 1,
    )


def _submission(chance: Random, number: int) -> Submission:
    quick = chance.random() < 0.6
    return Submission(
        at=round(chance.uniform(0, 60 if quick else 1.5 * DAY), 3),
        number=number,
        recipients=tuple(_recipient(chance) for _ in range(_count(chance))),
        size=chance.choice((0, 200, 200, 200, 2000, 2000, 9000, 300_000)),
        pipelined=chance.random() < 0.7,
        cut=chance.choice(_CUTS),
        bounce=chance.random() < 0.1,
        full=chance.random() < 0.2,
    )


def _count(chance: Random) -> int:
    return chance.choice((1, 1, 1, 2, 3, 5))


def _recipient(chance: Random) -> tuple[str, str]:
    tag = chance.choice(_TAGS)
    domain = chance.randrange(DOMAINS)
    name = f"r{chance.randrange(1000)}" + (f"+{tag}" if tag else "")
    return f"{name}@d{domain}.example.net", chance.choice(_NOTIFY)


def _fault(chance: Random, span: float, *, tls: bool) -> Fault:
    """One thing that goes wrong, or that somebody does."""
    weights = [weight for weight, _ in _KINDS]
    make = chance.choices([make for _, make in _KINDS], weights)[0]
    return make(chance, round(chance.uniform(0, span), 3), tls)


_Make = Callable[[Random, float, bool], Fault]
_KINDS: tuple[tuple[int, _Make], ...] = (
    (25, lambda c, at, _: Habit(at, c.randrange(DOMAINS + 1), c.choice(_HABITS))),
    (10, lambda c, at, _: Names(at, c.randrange(DOMAINS), c.random() < 0.5)),
    (
        15,
        lambda c, at, tls: Roads(
            at, c.randrange(DOMAINS + 1), _way(c, tls=tls), c.random() < 0.5
        ),
    ),
    (20, lambda c, at, _: Death(at, _call(c), c.choice(_CRASHES), _pause(c))),
    (5, lambda c, at, _: Stop(at, _pause(c))),
    (5, lambda c, at, _: Jump(at, c.choice((-1, 1)) * c.randrange(1, 10_000))),
    (13, lambda c, at, _: Operator(at, c.choice(_VERBS), c.randrange(24))),
    (7, lambda c, at, _: _bad_disk(c, at)),
)


def _bad_disk(chance: Random, at: float) -> BadDisk:
    verbs, error = chance.choice(_BAD)
    return BadDisk(at, error, verbs, chance.choice((5.0, 60.0, 600.0, 3 * HOUR)))


def _way(chance: Random, *, tls: bool) -> Link | Dead | None:
    ways: Sequence[Link | Dead | None] = [
        None,
        None,
        Dead.REFUSED,
        Dead.SILENT,
        Dead.NO_ROUTE,
        Link(latency=chance.choice((0.05, 2.0, 40.0))),
    ]
    if not tls:
        # How long a handshake is depends on chance that no seed decides.
        ways = [
            *ways,
            Link(split=True),
            Link(reset_up=chance.randrange(2000)),
            Link(reset_down=chance.randrange(600)),
        ]
    return chance.choice(ways)


def _call(chance: Random) -> int:
    return chance.choice((1, 2, 3, 5, 8, 13, chance.randrange(1, 60)))


def _pause(chance: Random) -> float:
    return chance.choice((0.0, 1.0, 60.0, HOUR, 6 * HOUR))
