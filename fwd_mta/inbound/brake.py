"""The brake: an account whose mail is refused again and again as bad sends no more.

A stolen password shows by what is sent with it. Counted are messages that our scanners
refuse as spam or malware, and those that the other side refuses as such. The hold
outlives a restart; `fwdmta account enable LOGIN` lifts it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fwd_mta.events import Emit, Event, Suspended
from fwd_mta.mail.entry import Category
from fwd_mta.mail.reply import Reply

REMEMBERED = 50_000  # accounts; the oldest make room
BAD = frozenset({Category.SPAM, Category.VIRUS})


@dataclass(frozen=True, slots=True)
class BrakeSettings:
    """After how many refused messages in how many seconds; 0 is never."""

    suspend_after: int = 20
    suspend_window: float = 3600.0


@dataclass(frozen=True, slots=True)
class Hold:
    """Since when an account is held, and why, for a person."""

    since: float
    reason: str

    @property
    def reply(self) -> Reply:
        """What MAIL is answered: a 4yz, since the hold passes when it is lifted."""
        since = f"{datetime.fromtimestamp(self.since, UTC):%Y-%m-%d %H:%M} UTC"
        text = (
            f"This account is held since {since}: {self.reason};"
            " change its password, then ask the operator to enable it"
        )
        return Reply(450, "7.1", text)


def _unheard(event: Event) -> None:
    """Where nobody listens."""


class Brake:
    """Counts refused messages by account, and knows who is held."""

    def __init__(self, emit: Emit = _unheard) -> None:
        self._emit = emit
        self.settings = BrakeSettings()
        self.changed = False
        self._refused: OrderedDict[str, list[float]] = OrderedDict()
        self._held: OrderedDict[str, Hold] = OrderedDict()

    @property
    def held(self) -> int:
        """How many accounts are held."""
        return len(self._held)

    def hold(self, login: str) -> Hold | None:
        """Why this account is held, or None."""
        return self._held.get(login) if self._held else None

    def heard(self, login: str, kind: str | None, now: float) -> None:
        """A message was refused for good; says so when it was one too many."""
        hold = self._refused_again(login, now) if kind in BAD else None
        if hold is not None:
            cure = f"its owner changes the password; then fwdmta account enable {login}"
            self._emit(Suspended(login, hold.reason, cure))

    def _refused_again(self, login: str, now: float) -> Hold | None:
        """Count it; the hold, when this one made it."""
        limit, window = self.settings.suspend_after, self.settings.suspend_window
        if not limit or login in self._held:
            return None
        times = self._refused.pop(login, [])
        times = [at for at in times if now - window < at <= now][1 - limit :]
        self._refused[login] = [*times, now] if limit > 1 else [now]
        self.changed = True
        _bound(self._refused)
        if len(self._refused[login]) < limit:
            return None
        return self._begin(login, limit, now)

    def _begin(self, login: str, limit: int, now: float) -> Hold:
        del self._refused[login]
        minutes = int(self.settings.suspend_window // 60)
        reason = f"{limit} of its messages were refused as bad in {minutes} minutes"
        self._held[login] = Hold(now, reason)
        _bound(self._held)
        return self._held[login]

    def lift(self, login: str) -> bool:
        """Let it send again, and count anew; whether it was held."""
        self._refused.pop(login, None)
        was_held = self._held.pop(login, None) is not None
        self.changed = self.changed or was_held
        return was_held

    def dump(self) -> dict[str, Any]:
        """What goes to disk."""
        held = {name: [one.since, one.reason] for name, one in self._held.items()}
        return {"refused": dict(self._refused), "held": held}

    def load(self, kept: dict[str, Any]) -> None:
        """Take what `dump` gave."""
        for login, times in kept.get("refused", {}).items():
            self._refused[str(login)] = [float(at) for at in times[-1000:]]
        for login, (since, reason) in kept.get("held", {}).items():
            self._held[str(login)] = Hold(float(since), str(reason))
        _bound(self._refused)
        _bound(self._held)


def _bound(table: "OrderedDict[str, Any]") -> None:
    while len(table) > REMEMBERED:
        table.popitem(last=False)
