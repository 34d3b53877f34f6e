"""Events to the log: one line each, "word key=value ...", escaped and bounded."""

import re
from collections import Counter
from dataclasses import fields
from typing import get_args

from twisted.logger import Logger, LogLevel

from fwd_mta.events import Event, Trouble

_PLAIN = re.compile(r"[!#-<>-\[\]-~]+\Z")
_LONGEST = 512
_FIELDS = {
    kind: tuple(field.name for field in fields(kind)) for kind in get_args(Event)
}


def line(event: Event) -> str:
    """Write an event as a line; nothing from the wire stands in it unescaped."""
    kind = type(event)
    words = [kind.__name__.lower()]
    for name in _FIELDS[kind]:
        value = getattr(event, name)
        if value not in ("", 0.0):
            words.append(f"{name}={_value(value)}")
    return " ".join(words)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int):
        return str(value)
    text = str(value)[:_LONGEST]
    if _PLAIN.match(text):
        return text
    return '"' + ascii(text)[1:-1].replace('"', '\\"') + '"'


class EventLog:
    """Where events go: the log of twistd, and counters by kind of event."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._log = Logger(namespace="fwd_mta")

    def __call__(self, event: Event) -> None:
        """Log and count one event; never raises."""
        self.counts[type(event).__name__] += 1
        level = LogLevel.error if isinstance(event, Trouble) else LogLevel.info
        self._log.emit(level, "{line}", line=line(event), event=event)
