"""All that happened in a simulated life, in lines: decisions, the wire, the disk."""

from collections import deque
from collections.abc import Callable
from hashlib import sha256

from typing_extensions import override

_SHOWN = 400
_WIDE = 160


class History:
    """Lines with their time; `digest` is equal for equal histories, to the octet."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.lines: list[str] = []

    def add(self, who: str, what: str) -> None:
        """Note what somebody did."""
        self.lines.append(f"{self._seconds():.6f} {who} {what}")

    @property
    def digest(self) -> str:
        """SHA-256 of all lines."""
        octets = "\n".join(self.lines).encode("utf-8", "backslashreplace")
        return sha256(octets).hexdigest()

    def told(self, *without: str) -> list[str]:
        """The last lines, for people, without those of some."""
        wanted = [line for line in self.lines if line.split(" ", 2)[1] not in without]
        return wanted[-_SHOWN:]

    def decisions(self) -> list[str]:
        """What was decided and what became of it, without dialogues and disk calls."""
        return [line[:_WIDE] for line in self.told("disk") if _decides(line)]


def _decides(line: str) -> bool:
    what = line.split(" ", 2)[2]
    return "queued as" in what or not what.startswith(("S: ", "C: ", "(", "Lifecycle"))


class Ear(deque[str]):
    """A host's dialogue, or a disk's log, that goes into a history too."""

    def __init__(self, history: History, who: str, keep: int = 64) -> None:
        super().__init__(maxlen=keep)
        self._history = history
        self._who = who

    @override
    def append(self, line: str, /) -> None:
        """Note a line."""
        super().append(line)
        self._history.add(self._who, line)
