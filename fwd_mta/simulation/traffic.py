"""Mail that a forecast sends: from a file of JSON lines, or made up for some days."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - the seed's chance

from fwd_mta.kinds import Wrong, duration
from fwd_mta.mail.address import parse_mailbox
from fwd_mta.mail.errors import SyntaxFault

HOUR = 3600.0
DAY = 86_400.0
_MOST = 100_000
_MESSAGES_A_DAY = 240
_OFFICE = (
    1,
    1,
    1,
    1,
    1,
    2,
    4,
    8,
    16,
    20,
    18,
    14,
    12,
    16,
    18,
    16,
    12,
    8,
    4,
    3,
    2,
    2,
    1,
    1,
)
# How many of a hundred recipients meet what (the tags of world.hosts.TAGS).
_FATES = (
    *("",) * 80,
    *("greylist",) * 10,
    *("later",) * 2,
    *("unknown",) * 3,
    *("full",) * 2,
    *("spam", "slow", "drop"),
)


class TrafficError(Exception):
    """A traffic file that cannot be used; `str()` names the line."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One message that somebody submits, `at` seconds after the start."""

    at: float
    sender: str
    recipients: tuple[str, ...]
    size: int = 2000


def made_up(days: float, chance: Random) -> list[Mail]:
    """An office's mail: 240 messages a day, most at work time, to twelve domains.

    Of a hundred recipients ten are greylisted, three unknown, two have full mailboxes.
    """
    hours = int(days * 24)
    mails = []
    for hour in range(hours):
        share = _OFFICE[hour % 24] / sum(_OFFICE) * _MESSAGES_A_DAY
        count = int(share) + (chance.random() < share % 1)
        mails += [_mail(chance, (hour + chance.random()) * HOUR) for _ in range(count)]
    return sorted(mails, key=lambda one: one.at)


def _mail(chance: Random, at: float) -> Mail:
    count = chance.choice((1, 1, 1, 2, 3))
    sender = f"user{chance.randrange(20)}@example.com"
    size = chance.choice((1000, 2000, 5000, 20_000))
    return Mail(at, sender, tuple(_recipient(chance) for _ in range(count)), size)


def _recipient(chance: Random) -> str:
    fate = chance.choice(_FATES)
    name = f"r{chance.randrange(10_000)}" + (f"+{fate}" if fate else "")
    return f"{name}@d{chance.randrange(12)}.example.net"


def read(lines: Sequence[str], name: str) -> list[Mail]:
    """Mail of a file: a JSON object a line, with at, from, to, and perhaps size.

    `at` is a number of seconds or a duration ("1h30m"); raises TrafficError.
    """
    mails = sorted(_read(lines, name), key=lambda one: one.at)
    if not mails:
        raise TrafficError(f"{name}: there is no message in it")
    return mails


def _read(lines: Sequence[str], name: str) -> Iterator[Mail]:
    for number, line in enumerate(lines[:_MOST], 1):
        if not line.strip():
            continue
        try:
            yield _one(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError, SyntaxFault) as error:
            what = 'want {"at": "1h", "from": "a@b", "to": ["c@d"], "size": 2000}'
            raise TrafficError(f"{name}, line {number}: {what}: {error}") from error


def _one(row: dict[str, object]) -> Mail:
    to = row["to"]
    recipients = [to] if isinstance(to, str) else to
    if not isinstance(recipients, list) or not recipients:
        raise ValueError("to is an address or a list of some")
    size = row.get("size", 2000)
    if not isinstance(size, int) or not 0 <= size <= 100_000_000:
        raise ValueError("size is a number of octets")
    return Mail(
        seconds(row["at"]),
        _address(row["from"]),
        tuple(_address(one) for one in recipients),
        size,
    )


def _address(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no address")
    return str(parse_mailbox(text, smtputf8=False))


def seconds(value: object) -> float:
    """Seconds of a number or of a duration; raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return float(duration().read(value))
    except Wrong as wrong:
        raise ValueError(f"{wrong}, as in {duration().allowed}") from wrong
