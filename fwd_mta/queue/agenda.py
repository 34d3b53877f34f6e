"""What to look at next: the due times of young mail and of opened minutes, in memory.

Only what is near is known by id; of all other waiting mail the agenda knows the names
of the minutes. So its size follows what is due, not what waits (P7).
"""

from heapq import heappop, heappush, nsmallest

from fwd_mta.queue.layout import MINUTE, minute_start, parts

LOOKAHEAD = 4096


class Agenda:
    """The ids that are near, the minutes that are not read yet."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._near: dict[str, tuple[float, str]] = {}
        self._minutes: list[tuple[float, str]] = []
        self._expected: set[str] = set()
        self._opened: dict[str, None] = {}  # in order: no history hangs on hashes
        self._reading: tuple[float, str] | None = None

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._near

    def __len__(self) -> int:
        return len(self._near)

    def add(self, entry_id: str, due: float, path: str) -> None:
        """An entry is to be looked at then, and lies there."""
        self._near[entry_id] = due, path
        heappush(self._heap, (due, entry_id))

    def forget(self, entry_id: str) -> str | None:
        """Drop an entry; gives where it lay, if it was known."""
        found = self._near.pop(entry_id, None)
        return found[1] if found else None

    def path(self, entry_id: str) -> str:
        """Where an entry lies; empty if it is not near."""
        return self._near.get(entry_id, (0.0, ""))[1]

    def some(self, after: str, count: int) -> list[tuple[str, str]]:
        """The next ids behind one, and where they lie."""
        ids = nsmallest(count, (one for one in self._near if one > after))
        return [(one, self._near[one][1]) for one in ids]

    def expect(self, directory: str, at: float | None = None) -> None:
        """Mail lies in a minute that is to be read when its time comes, or `at`."""
        start = minute_start(parts(directory)[1])
        if start is not None and directory not in self._expected:
            self._expected.add(directory)
            heappush(self._minutes, (start if at is None else at, directory))

    def is_open(self, directory: str) -> bool:
        """Whether the minute is being read or was: what enters must be added by id."""
        return directory in self._opened

    @property
    def is_full(self) -> bool:
        """Whether enough is near; more is left on the disk."""
        return len(self._near) >= LOOKAHEAD

    # Taking

    def take(self, now: float, count: int) -> list[tuple[str, str]]:
        """Ids and paths of what is due, earliest first; they are near no more."""
        taken: list[tuple[str, str]] = []
        while len(taken) < count and self._top() is not None:
            due, entry_id = self._heap[0]
            if due > now:
                break
            heappop(self._heap)
            taken.append((entry_id, self._near.pop(entry_id)[1]))
        return taken

    def _top(self) -> float | None:
        while self._heap:
            due, entry_id = self._heap[0]
            if self._near.get(entry_id, (None, ""))[0] == due:
                return due
            heappop(self._heap)
        return None

    def next_due(self) -> float | None:
        """The earliest time at which there is something to look at."""
        times = [self._top()]
        if not self.is_full:
            times.append(self._reading[0] if self._reading else None)
            times.append(self._minutes[0][0] if self._minutes else None)
        return min((time for time in times if time is not None), default=None)

    def minute_to_read(self, now: float) -> str | None:
        """The minute whose names are wanted before anything else is taken.

        That is one that has begun, unless something near is due that is no later.
        """
        first = self._reading or (self._minutes[0] if self._minutes else None)
        if first is None or first[0] > now or self.is_full:
            return None
        top = self._top()
        if top is not None and top <= now and top < first[0] + MINUTE:
            return None
        if self._reading is None:
            self._reading = heappop(self._minutes)
            self._expected.discard(self._reading[1])
            self._opened[self._reading[1]] = None
        return self._reading[1]

    def was_read(self) -> None:
        """The minute being read has no more names."""
        self._reading = None

    def read_minutes(self) -> list[str]:
        """Minutes that were read to the end: they may be empty by now."""
        reading = self._reading[1] if self._reading else None
        return [one for one in self._opened if one != reading]

    def close(self, directory: str) -> None:
        """A minute that was read is gone."""
        self._opened.pop(directory, None)
