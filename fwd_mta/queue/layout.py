"""Where a message lies: the places of docs/crashes.md as paths. No disk is touched.

A place is a path; the directories named for a time say when to look at what lies in
them.
"""

from datetime import UTC, datetime

from fwd_mta.mail.entry import QueueEntry
from fwd_mta.rules.retention import RetentionPolicy, next_step

MINUTE = 60.0
HOUR = 3600.0
_LAST_TIME = 253_402_300_000.0  # the year 9999, after which dates have no text
_MINUTE_FORM = "%Y%m%dT%H%M"
_HOUR_FORM = "%Y%m%dT%H"


class Layout:
    """The paths under one state directory."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.lock = f"{root}/fwdmta.lock"
        self.queue = f"{root}/queue"
        self.format = f"{root}/queue/format"
        self.incoming = f"{root}/queue/incoming"
        self.deferred = f"{root}/queue/deferred"
        self.hold = f"{root}/queue/hold"
        self.corrupt = f"{root}/queue/corrupt"
        self.tmp = f"{root}/queue/tmp"
        self.retained = f"{root}/retained"
        self.kept = f"{root}/retained/hold"
        self.terms = f"{root}/queue/terms"
        self.spare = f"{root}/queue/spare"
        self.journal = f"{root}/queue/journal"
        self._young = f"{self.journal}/"

    @property
    def directories(self) -> tuple[str, ...]:
        """All that must be there, parents first."""
        return (
            self.root,
            self.queue,
            self.incoming,
            self.deferred,
            self.hold,
            self.corrupt,
            self.tmp,
            self.journal,
            self.retained,
            self.kept,
        )

    def minute(self, due: float) -> str:
        """The directory of mail to be looked at in the minute of that time."""
        return f"{self.deferred}/{_name(due, _MINUTE_FORM)}"

    def segment(self, number: int) -> str:
        """The path of a segment of the journal."""
        return f"{self.journal}/{number:016d}{SEGMENT}"

    def is_young(self, path: str) -> bool:
        """Whether a path leads to a message in the journal."""
        return path.startswith(self._young)

    def hour(self, at: float, now: float) -> str:
        """The directory of finished mail to be looked at after that time.

        An hour is swept when it has ended; what is due already goes to the one that
        ended last, so that the next sweep finds it.
        """
        looked_at = now - HOUR if at <= now else at
        return f"{self.retained}/{_name(looked_at, _HOUR_FORM)}"

    def home(self, entry: QueueEntry, now: float, policy: RetentionPolicy) -> str:
        """The directory in which an entry of this state belongs."""
        if entry.owed:
            return self.incoming
        step = next_step(entry, policy)
        if step is not None:
            return self.hour(step[1], now)
        if entry.held is not None:
            return self.kept if entry.is_final else self.hold
        return self.incoming if is_fresh(entry, now) else self.minute(entry.due or now)


def is_fresh(entry: QueueEntry, now: float) -> bool:
    """Whether an open entry was never tried, and is to be tried within a minute."""
    soon = (entry.due or now) <= now + MINUTE
    return soon and not any(one.attempts for one in entry.standings)


SEGMENT = ".log"
PACK = ".pack"


def segment_number(name: str) -> int | None:
    """The number of a segment of that name; None when it is no such name."""
    number = name.removesuffix(SEGMENT)
    return int(number) if name.endswith(SEGMENT) and number.isdecimal() else None


def pack_name(first: str, last: str, segment: int) -> str:
    """The name of a pack: the ids it begins and ends with, then where it came from."""
    return f"{first}_{last}_{segment}{PACK}"


def may_hold(name: str, entry_id: str) -> bool:
    """Whether a pack of that name can hold a message."""
    words = name.split("_")
    return name.endswith(PACK) and len(words) == 3 and words[0] <= entry_id <= words[1]


def pack_of(path: str) -> str | None:
    """The pack that a path of a message leads into, if it does."""
    directory = parts(path)[0]
    return directory if directory.endswith(PACK) else None


def _name(at: float, form: str) -> str:
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_TIME), UTC).strftime(form)


def minute_start(name: str) -> float | None:
    """When a minute of that name begins; None when it is no such name."""
    return _start(name, _MINUTE_FORM)


def hour_end(name: str) -> float | None:
    """When an hour of that name has ended; None when it is no such name."""
    start = _start(name, _HOUR_FORM)
    return None if start is None else start + HOUR


def _start(name: str, form: str) -> float | None:
    # Not strptime: a tree has thousands of such names, and it is ten times slower.
    try:
        at = datetime(
            int(name[:4]),
            int(name[4:6]),
            int(name[6:8]),
            int(name[9:11]),
            int(name[11:] or 0),
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        return None
    return at if _name(at, form) == name else None


def parts(path: str) -> tuple[str, str]:
    """A path's directory and name."""
    directory, _, name = path.rpartition("/")
    return directory, name
