"""Events to the log: one line each, "word key=value ...", escaped and bounded.

Lines of one turn of the reactor leave in one write, where twistd writes its plain text
to a file or to standard output; any other observer (syslog, JSON, one of the
operator's) gets each event at once, as Twisted gives it.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from threading import get_ident
from typing import Any, get_args

from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FileLogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatTime,
    globalLogPublisher,
)

from fwd_mta.events import Event, Suspended, Trouble
from fwd_mta.interfaces import WallClock

_PLAIN = re.compile(r"[!#-<>-\[\]-~]{1,512}\Z").match
_LONGEST = 512
_NAMESPACE = "fwd_mta"
_TROUBLES = frozenset({Suspended, Trouble})
_GATHERED = 256 * 1024  # characters that wait for the end of a turn
_FIELDS: dict[type, tuple[str, tuple[str, ...], Callable[[Any], Any]]] = {
    kind: (kind.__name__.lower(), names, attrgetter(*names))
    for kind in get_args(Event)
    for names in [tuple(field.name for field in fields(kind))]
}


def line(event: Event) -> str:
    """Write an event as a line; nothing from the wire stands in it unescaped."""
    word, names, get = _FIELDS[type(event)]
    words = [word]
    values = get(event) if len(names) > 1 else (get(event),)
    for name, value in zip(names, values, strict=True):
        if type(value) is str and _PLAIN(value):
            words.append(f"{name}={value}")
        elif value:
            words.append(f"{name}={_value(value)}")
    return " ".join(words)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int):
        return str(value)
    text = str(value)[:_LONGEST]
    if _PLAIN(text):
        return text
    return '"' + ascii(text)[1:-1].replace('"', '\\"') + '"'


class EventLog:
    """Where events go: the log of twistd, and counters by kind of event."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._log = Logger(namespace=_NAMESPACE)
        self._lines: _Lines | None = None
        self._thread = 0

    def __call__(self, event: Event) -> None:
        """Log and count one event; never raises."""
        self.counts[type(event).__name__] += 1
        is_trouble = type(event) in _TROUBLES
        if self._lines is not None and not is_trouble and get_ident() == self._thread:
            self._lines.add(line(event))
            return
        level = LogLevel.error if is_trouble else LogLevel.info
        self._log.emit(level, "{line}", line=line(event), event=event)

    def gather(self, clock: IReactorTime, wall: WallClock) -> None:
        """Write lines together from now on, if that changes nothing else."""
        observers = _plain_observers(wall)
        if observers and self._lines is None:
            self._lines = _Lines(clock, wall, observers)
            self._thread = get_ident()

    def flush(self) -> None:
        """Write what waits for the end of the turn: there may be no other."""
        if self._lines is not None:
            self._lines.flush()


class _Lines:
    """Lines that wait for the end of this turn; other entries keep their order."""

    def __init__(
        self, clock: IReactorTime, wall: WallClock, observers: list[FileLogObserver]
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._second = -1
        self._stamp = ""
        self._waiting: list[str] = []
        self._length = 0
        self._writers = [_Writer(self.flush, one) for one in observers]

    def add(self, text: str) -> None:
        """Take a line; it is written within this turn."""
        now = self._wall.now()
        if int(now) != self._second:
            self._second, self._stamp = int(now), _stamp(now, "info")
        if not self._waiting:
            self._clock.callLater(0, self.flush)
        self._waiting.append(f"{self._stamp}{text}\n")
        self._length += len(text)
        if self._length > _GATHERED:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        text = "".join(self._waiting)
        self._waiting, self._length = [], 0
        for writer in self._writers:
            writer.write(text)


class _Writer:
    """One of twistd's observers, whose other entries first let ours go."""

    def __init__(self, flush: Callable[[], None], observer: FileLogObserver) -> None:
        self._flush = flush
        self._observer = observer
        self._usual = observer.formatEvent
        observer.formatEvent = self._format

    def write(self, text: str) -> None:
        """Write lines as they are; a disk that is full ends no session."""
        try:
            self._observer({"fwd_mta_lines": text})
        except Exception:  # noqa: BLE001 - as Twisted does with what an observer raises
            return

    def _format(self, event: LogEvent) -> str | None:
        text: str | None = event.get("fwd_mta_lines")
        if text is not None:
            return text
        self._flush()
        return self._usual(event)


def _stamp(now: float, level: str) -> str:
    """What twistd's plain text puts before each entry."""
    return f"{formatTime(now)} [{_NAMESPACE}#{level}] "


def _plain_observers(wall: WallClock) -> list[FileLogObserver]:
    """Twistd's observers if all of them write plain text as we would, else none."""
    found = list(getattr(globalLogPublisher, "_observers", ()))
    now = wall.now()
    probe: LogEvent = {
        "log_time": now,
        "log_namespace": _NAMESPACE,
        "log_level": LogLevel.info,
        "log_format": "{line}",
        "line": "a b=c",
    }
    wanted = f"{_stamp(now, 'info')}a b=c\n"
    for one in found:
        if not isinstance(one, FileLogObserver) or one.formatEvent(probe) != wanted:
            return []
    return found
