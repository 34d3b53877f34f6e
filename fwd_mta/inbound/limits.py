"""How much one account may send, and how often one may guess: bounded, kept on disk.

`Quotas` counts what accounts sent, `Guesses` counts wrong passwords by client network
and by login. Both are asked with the wall clock's time, since they outlive a restart;
`LimitsFile` writes them whole, every ten seconds in which something changed, with
the holds of `brake`.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from fwd_mta.events import Emit, Trouble
from fwd_mta.inbound.brake import Brake
from fwd_mta.interfaces import Disk, WallClock, Worker
from fwd_mta.mail.account import Account
from fwd_mta.mail.reply import Reply
from fwd_mta.net.small_file import read_whole, replace_whole

REMEMBERED = 50_000  # accounts, networks, logins: the oldest make room
SPARED = 30 * 86400.0
SLOW_AFTER = 20  # wrong passwords of one login, from anywhere, in the window
SLOWEST = 10.0
WRITE_EVERY = 10.0
_BUCKETS = 48


@dataclass(frozen=True, slots=True)
class SendLimits:
    """What an account may send in a window; 0 is no limit."""

    messages: int = 0
    recipients: int = 0
    window: float = 86400.0

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return bool(self.messages or self.recipients)


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account has sent, and when some of it is forgotten."""

    messages: int = 0
    recipients: int = 0


class Quotas:
    """Counts messages and recipients of accounts in parts of a window."""

    def __init__(self) -> None:
        self.changed = False
        self._sent: OrderedDict[str, dict[float, Usage]] = OrderedDict()

    def used(self, login: str, limits: SendLimits, now: float) -> Usage:
        """What the account has sent in the window that ends now."""
        return _sum(self._parts(login, limits, now).values())

    def refusal(
        self, login: str, limits: SendLimits, asked: Usage, now: float
    ) -> Reply | None:
        """Why so much more cannot be sent now, and when it can; None: there is room."""
        parts = self._parts(login, limits, now)
        for what, limit in (
            ("messages", limits.messages),
            ("recipients", limits.recipients),
        ):
            used = sum(getattr(one, what) for one in parts.values())
            wanted = getattr(asked, what)
            if limit and wanted and used + wanted > limit:
                relief = _relief(parts, what, used + wanted - limit, limits, now)
                return _too_much(what, limit, limits.window, relief)
        return None

    def take(self, login: str, limits: SendLimits, sent: Usage, now: float) -> None:
        """Count what is being sent; a negative count gives it back."""
        parts = self._parts(login, limits, now)
        width = limits.window / _BUCKETS
        start = now // width * width
        parts[start] = _sum((parts.get(start, Usage()), sent))
        self._sent[login] = parts
        self._sent.move_to_end(login)
        _bound(self._sent)
        self.changed = True

    def _parts(self, login: str, limits: SendLimits, now: float) -> dict[float, Usage]:
        oldest = now - limits.window - limits.window / _BUCKETS
        parts = self._sent.get(login, {})
        return {at: used for at, used in parts.items() if oldest < at <= now}

    def dump(self) -> dict[str, Any]:
        """What goes to disk."""
        return {
            login: [[at, one.messages, one.recipients] for at, one in parts.items()]
            for login, parts in self._sent.items()
        }

    def load(self, kept: dict[str, Any]) -> None:
        """Take what `dump` gave."""
        for login, parts in list(kept.items())[-REMEMBERED:]:
            self._sent[str(login)] = {
                float(at): Usage(int(messages), int(recipients))
                for at, messages, recipients in parts[-2 * _BUCKETS :]
            }


@dataclass(slots=True)
class Guesses:
    """Wrong passwords by client network and by login, and who has logged in lately."""

    changed: bool = False
    _wrong: OrderedDict[str, dict[bytes, float]] = field(default_factory=OrderedDict)
    _logins: OrderedDict[str, list[float]] = field(default_factory=OrderedDict)
    _known: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def wait(self, client: str, limit: int, window: float, now: float) -> float:
        """Seconds until a client may try again; 0: now.

        A network from which somebody has logged in is spared: an office may be there.
        """
        network = network_of(client)
        if self._is_known(network, now):
            return 0.0
        times = self._wrong.get(network, {}).values()
        lately = sorted(at for at in times if now - window < at <= now)
        if len(lately) < limit:
            return 0.0
        return lately[len(lately) - limit] + window - now

    def delay(self, client: str, login: str, window: float, now: float) -> float:
        """Seconds for which any answer about a login waits that many are guessing.

        It is a brake and no lock: the right password is let in. Where this login has
        been let in before, nobody waits.
        """
        times = self._logins.get(login.lower(), [])
        lately = sum(now - window < at <= now for at in times)
        if lately < SLOW_AFTER or self._is_known(_pair(client, login), now):
            return 0.0
        return min(SLOWEST, 1.0 + lately - SLOW_AFTER)

    def failed(self, client: str, login: str, digest: bytes, now: float) -> None:
        """A wrong password; the same one again counts once for its network."""
        network = network_of(client)
        wrong = self._wrong.setdefault(network, {})
        if digest in wrong:
            return
        wrong[digest] = now
        while len(wrong) > 100:
            del wrong[next(iter(wrong))]
        times = self._logins.setdefault(login.lower()[:320], [])
        times.append(now)
        del times[:-100]
        self._wrong.move_to_end(network)
        self._logins.move_to_end(login.lower()[:320])
        _bound(self._wrong)
        _bound(self._logins)
        self.changed = True

    def succeeded(self, client: str, login: str, now: float) -> None:
        """Somebody has logged in from there."""
        for name in (network_of(client), _pair(client, login)):
            self.changed = self.changed or now - self._known.get(name, 0) > 3600
            self._known[name] = now
            self._known.move_to_end(name)
        _bound(self._known)

    def _is_known(self, network: str, now: float) -> bool:
        return now - self._known.get(network, -SPARED) < SPARED

    def dump(self) -> dict[str, Any]:
        """What goes to disk: times, and nothing that was guessed."""
        return {
            "wrong": {name: list(one.values()) for name, one in self._wrong.items()},
            "logins": dict(self._logins),
            "known": dict(self._known),
        }

    def load(self, kept: dict[str, Any]) -> None:
        """Take what `dump` gave."""
        for network, times in kept["wrong"].items():
            named = enumerate(times[-100:])
            self._wrong[network] = {b"%d" % n: float(at) for n, at in named}
        for login, times in kept["logins"].items():
            self._logins[login] = [float(at) for at in times[-100:]]
        for network, at in kept["known"].items():
            self._known[network] = float(at)
        for table in (self._wrong, self._logins, self._known):
            _bound(table)


class LimitsFile:
    """Keeps quotas and guesses in a file, replaced whole.

    A file that cannot be read is reported and begun anew: it counts, it holds no mail.
    """

    def __init__(
        self,
        path: str,
        disk: Disk,
        worker: Worker,
        clock: IReactorTime,
        wall: WallClock,
        emit: Emit,
    ) -> None:
        self.quotas = Quotas()
        self.guesses = Guesses()
        self.brake = Brake(emit)
        self.wall = wall
        self.secret = b""
        self._path = path
        self._disk = disk
        self._worker = worker
        self._emit = emit
        self._loop = LoopingCall(self._write_later)
        self._loop.clock = clock
        self.every = WRITE_EVERY
        self._ended: Deferred[LoopingCall] | None = None

    async def start(self, make_secret: Callable[[int], bytes]) -> None:
        """Read what was kept, and keep it from now on.

        `secret` is the same from start to start, for made-up SCRAM salts.
        """
        try:
            content = await self._worker.run(lambda: read_whole(self._disk, self._path))
            if content:
                self._take(json.loads(content))
        except Exception as error:  # noqa: BLE001 - counts only; mail must go on
            what = f"{self._path} cannot be used: {type(error).__name__}"
            self._emit(Trouble("limits", what, "limits are counted from now on"))
        if len(self.secret) != 32:
            self.secret = make_secret(32)
            self.quotas.changed = True
        self._ended = self._loop.start(self.every, now=True)

    async def stop(self) -> None:
        """Write a last time."""
        ended, self._ended = self._ended, None
        if ended is not None:
            if self._loop.running:
                self._loop.stop()
            await ended
            await self._write()

    def _take(self, kept: dict[str, Any]) -> None:
        secret = bytes.fromhex(kept["secret"])
        self.quotas.load(kept["quotas"])
        self.guesses.load(kept["guesses"])
        self.brake.load(kept.get("brake", {}))
        self.secret = secret

    def _write_later(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._write())

    async def _write(self) -> None:
        counts = (self.quotas, self.guesses, self.brake)
        if not any(one.changed for one in counts):
            return
        for one in counts:
            one.changed = False
        kept = {
            "secret": self.secret.hex(),
            "quotas": self.quotas.dump(),
            "guesses": self.guesses.dump(),
            "brake": self.brake.dump(),
        }
        try:
            await self._worker.run(
                lambda: replace_whole(self._disk, self._path, json.dumps(kept).encode())
            )
        except Exception as error:  # noqa: BLE001 - the next write must come
            self.quotas.changed = True
            what = f"{self._path} cannot be written: {type(error).__name__}: {error}"
            self._emit(Trouble("limits", what, "it is tried again in ten seconds"))


def lift_in_file(disk: Disk, path: str, login: str) -> bool:
    """Lift a hold where no server runs; whether there was one."""
    content = read_whole(disk, path)
    kept = json.loads(content) if content else {}
    held = kept.get("brake", {}).get("held", {})
    if login not in held:
        return False
    del held[login]
    replace_whole(disk, path, json.dumps(kept).encode())
    return True


def network_of(client: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address) >> 64 << 64, 64)))
    return client


def _pair(client: str, login: str) -> str:
    return f"{network_of(client)} {login.lower()[:320]}"


def limits_of(account: Account, default: SendLimits) -> SendLimits:
    """The limits of an account: its own, or those for all."""
    messages, recipients = account.messages_per_account, account.recipients_per_account
    if messages is None and recipients is None:
        return default
    return SendLimits(
        default.messages if messages is None else messages,
        default.recipients if recipients is None else recipients,
        default.window,
    )


def waiting_time(seconds: float) -> str:
    """A waiting time for a person."""
    minutes = max(1, int(seconds + 59) // 60)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def _too_much(what: str, limit: int, window: float, relief: float) -> Reply:
    when = f"{datetime.fromtimestamp(relief, UTC):%Y-%m-%d %H:%M} UTC"
    text = (
        f"This account may send {limit} {what} in {_span(window)};"
        f" there is room again at {when}"
    )
    return Reply(450, "7.1", text)


def _span(seconds: float) -> str:
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{int(seconds // length)} {name}"
    return f"{int(seconds)} seconds"


def _relief(
    parts: dict[float, Usage], what: str, over: int, limits: SendLimits, now: float
) -> float:
    """When enough is forgotten; each part is kept until all of it is old."""
    for at in sorted(parts):
        over -= getattr(parts[at], what)
        if over <= 0:
            return at + limits.window + limits.window / _BUCKETS
    return now + limits.window


def _sum(parts: Iterable[Usage]) -> Usage:
    counted = list(parts)
    return Usage(
        sum(one.messages for one in counted), sum(one.recipients for one in counted)
    )


def _bound(table: OrderedDict[str, Any]) -> None:
    while len(table) > REMEMBERED:
        table.popitem(last=False)
