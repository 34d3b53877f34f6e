"""What a seed draws: who submits what, and all that goes wrong around it."""

import errno
from collections.abc import Callable, Sequence
from random import Random  # noqa: TID251 - the seed's chance

from fwd_mta.simulation.plan import (
    DAY,
    DOMAINS,
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
    Submission,
)
from fwd_mta.world.disk import Crash
from fwd_mta.world.network import Dead, Link
from fwd_mta.world.scanners import Conduct

_TAGS = (
    *("",) * 18,
    *("greylist",) * 4,
    *("later",) * 3,
    *("full", "full5", "unknown", "unknown", "blocked", "many", "slow"),
    *("spam", "big", "drop", "lost", "silent", "many5", "rate", "policy"),
    *("inactive", "uribl", "dmarc", "reset"),
)
_HABITS = (
    *("plain",) * 12,
    *("bare", "no-pipelining", "small", "slow", "busy", "closed", "no-mail"),
    *("mute", "slams", "no-ehlo", "blocks", "defers", "endless", "250-to-data"),
    *("drops-data", "lost-after-dot", "silent-after-dot", "no-room", "no-8bitmime"),
    *("rate", "421-at-rcpt", "long", "flood", "garbage", "garbage-after-dot"),
    *("half-closes", "resets", "resets-after-dot", "late"),
)
_TLS_HABITS = (*_HABITS, *("bad-starttls", "starttls-5xx") * 3)
_CUTS = (*("",) * 8, "MAIL", "DATA", "half", "DOT", "DOT", "END")
_NOTIFY = (*("",) * 6, "NEVER", "SUCCESS,FAILURE", "SUCCESS", "FAILURE", "DELAY")
_SAYS = (*("truth",) * 4, *("fails",) * 3, "nothing", "null", "bare", "astray", "moved")
_CRASHES = (Crash.KEPT, Crash.KEPT, Crash.LOST, Crash.TORN, Crash.CHOSEN)
_DEADLY = (*("",) * 4, "append", "sync", "rename", "sync_directory", "remove")
_VERBS = (
    *("hold", "release", "retry", "cancel", "retry all", "release all", "reload"),
    *("redact", "keep", "let-go"),
)
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
    """The plan of a seed: 2 to 16 messages in a day and a half, and what goes wrong."""
    chance = Random(seed)  # noqa: S311 - repeatable on purpose
    tls = seed % 10 == 9
    submissions = tuple(
        _submission(chance, number, tls=tls)
        for number in range(chance.choice((2, 4, 8, 16)))
    )
    lifetime = chance.choice((2 * DAY, 5 * DAY, 5 * DAY))
    span = min(lifetime, chance.choice((2 * HOUR, 12 * HOUR, 2 * DAY, 5 * DAY)))
    count = chance.choice((0, 2, 4, 8, 16))
    scanned = chance.random() < 0.2
    faults = [_fault(chance, span, tls=tls) for _ in range(count)]
    if scanned:
        faults += [_scan(chance, span) for _ in range(count // 4)]
    faults += _at_the_end(seed, lifetime)
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
        level=chance.choice(("may", "encrypt", "secure", "dane")) if tls else "may",
        scans=chance.choice(("defer", "accept")) if scanned else "",
        messages=chance.choice((0, 0, 2)) if tls else 0,
        hurried=seed % 100 == 1,
    )


def _at_the_end(seed: int, lifetime: float) -> list[Fault]:
    """In every fifth life, a death while mail expires and notices are made."""
    chance = Random(-1 - seed)  # noqa: S311 - repeatable on purpose
    if seed % 5 or lifetime > chance.choice((2 * DAY, 5 * DAY)):
        return []
    at = round(lifetime - 30 + chance.random() * 60, 3)
    verb = chance.choice(("rename", "rename", "append", "sync", "create"))
    call = chance.randrange(1, 7)
    return [Death(at, call, chance.choice(_CRASHES), _pause(chance), verb)]


def _submission(chance: Random, number: int, *, tls: bool) -> Submission:
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
        chunked=chance.random() < 0.2,
        starttls=tls and chance.random() < 0.5,
        hold=chance.choice((0, 0, 0, 6 * HOUR, DAY)) if tls else 0,
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
    (25, lambda c, at, tls: _habit(c, at, tls=tls)),
    (12, lambda c, at, _: Names(at, c.randrange(DOMAINS + 1), c.choice(_SAYS))),
    (
        15,
        lambda c, at, tls: Roads(
            at, c.randrange(DOMAINS + 1), _way(c, tls=tls), c.random() < 0.5
        ),
    ),
    (22, lambda c, at, _: _death(c, at)),
    (5, lambda c, at, _: Stop(at, _pause(c))),
    (5, lambda c, at, _: Jump(at, c.choice((-1, 1)) * _leap(c))),
    (14, lambda c, at, _: Operator(at, c.choice(_VERBS), c.randrange(24))),
    (2, lambda c, at, _: Reload(at, c.choice((DAY, 2 * DAY)), c.choice((300, HOUR)))),
    (7, lambda c, at, _: _bad_disk(c, at)),
)


def _death(chance: Random, at: float) -> Death:
    verb = chance.choice(_DEADLY)
    call = chance.randrange(1, 9) if verb else _call(chance)
    return Death(at, call, chance.choice(_CRASHES), _pause(chance), verb)


def _habit(chance: Random, at: float, *, tls: bool) -> Habit:
    habits = _TLS_HABITS if tls else _HABITS
    return Habit(at, chance.randrange(DOMAINS + 1), chance.choice(habits))


def _scan(chance: Random, span: float) -> Scan:
    at = round(chance.uniform(0, span), 3)
    return Scan(at, chance.choice((Conduct.HONEST, *Conduct)))


def _leap(chance: Random) -> float:
    return float(chance.choice((chance.randrange(1, 10_000), 10_000, 3 * DAY)))


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
    return chance.choice((0, 1, 2, 3, 5, 8, 13, chance.randrange(1, 60)))


def _pause(chance: Random) -> float:
    return chance.choice((0.0, 1.0, 60.0, HOUR, 6 * HOUR))
