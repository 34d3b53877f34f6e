"""The start: from what a crash left to a tree in order (docs/crashes.md, "start").

Runs on a worker's thread before anything else does. Can be stopped anywhere and begun
again.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fwd_mta.events import Attempted, Event, Trouble
from fwd_mta.interfaces import Disk
from fwd_mta.mail.entry import QueueEntry, Step
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import Corrupt
from fwd_mta.queue.commit import Script, run_together
from fwd_mta.queue.layout import Layout, minute_start, parts
from fwd_mta.queue.operations import NOTICE, Operations
from fwd_mta.queue.reading import Look, Reader, State
from fwd_mta.queue.record import IN_DOUBT, NewerFormat
from fwd_mta.queue.replay import Replay, Replayed
from fwd_mta.rules.identity import is_entry_id
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.rules.settlement import in_doubt

TREE_FORMAT = 2  # 1 had no journal
_FORMAT = b"fwd_mta queue %d\n" % TREE_FORMAT
_VERSION = re.compile(rb"fwd_mta queue (\d{1,9})\n\Z")
_AT_ONCE = 64


@dataclass(slots=True)
class Recovered:
    """What a start found: fresh mail by id and due time, and the minutes to come."""

    release: Callable[[], None]
    fresh: list[tuple[str, float]] = field(default_factory=list)
    minutes: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    journal: Replayed = field(default_factory=Replayed)


def doubted(state: State, now: float) -> tuple[QueueEntry, Step, list[Event]]:
    """An entry with its recipients in doubt marked, the step, the events."""
    entry = in_doubt(state.entry, state.records.doubt, now)
    note = "the final dot went out, no reply was written down: a retry may duplicate"
    step = Step(now, IN_DOUBT, note)
    return entry, step, [_doubt_event(entry, now, one) for one in state.records.doubt]


def _doubt_event(entry: QueueEntry, now: float, recipient: Recipient) -> Event:
    due = (one.next_attempt_at for one in entry.open if one.recipient == recipient)
    return Attempted(
        id=entry.id,
        recipient=str(recipient.mailbox),
        host="",
        tls="",
        state="open",
        reply="",
        category="",
        rule=IN_DOUBT,
        next_at=next(due, now),
        in_doubt=True,
    )


def is_in_place(entry: QueueEntry, home: str, layout: Layout) -> bool:
    """Whether an entry in incoming belongs there."""
    return bool(entry.owed) or home == layout.incoming


class Recovery:
    """One start."""

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        reader: Reader,
        operations: Operations,
        policy: RetentionPolicy,
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._reader = reader
        self._operations = operations
        self._policy = policy
        self._owed: set[str] = set()

    def run(self, owner: str, now: float) -> Recovered:
        """Do it all; raises OSError or StoreError when the queue cannot be used."""
        self._make_directories()
        found = Recovered(self._disk.lock(self._layout.lock, owner))
        try:
            self._check_format(found)
            found.journal = Replay(
                self._disk, self._layout, self._reader, self._policy
            ).run(owner)
            found.events += found.journal.events
            self._recover(found, now)
        except BaseException:
            found.release()
            raise
        return found

    def _make_directories(self) -> None:
        """Have all directories, durably, also those that a killed start made."""
        self._make_root(self._layout.root)
        for path in self._layout.directories[1:]:
            self._disk.make_directory(path)
        for path in (self._layout.root, self._layout.queue):
            self._disk.sync_directory(path)

    def _make_root(self, path: str) -> None:
        parent = parts(path)[0] or "/"
        if not self._disk.exists(path):
            self._make_root(parent)
            self._disk.make_directory(path)
        try:
            self._disk.sync_directory(parent)
        except PermissionError:
            return  # it was there before us, so it is durable

    def _check_format(self, found: Recovered) -> None:
        """Refuse a tree that a newer version wrote; mark a new one."""
        path = self._layout.format
        try:
            file = self._disk.open(path)
        except FileNotFoundError:
            self._run(self._write_format(path))
            return
        text = file.read_at(0, 64)
        file.close()
        version = _VERSION.match(text)
        if version is None:
            found.events.append(Trouble(path, "is damaged", "it is written anew"))
            self._run(self._write_format(path))
        elif int(version[1]) < TREE_FORMAT:
            self._run(self._write_format(path))
        elif int(version[1]) > TREE_FORMAT:
            raise NewerFormat(
                f"{path}: the queue has format {int(version[1])}, this fwd_mta reads"
                f" up to {TREE_FORMAT}: run the version that wrote it, or a newer one"
            )

    def _run(self, script: Script[None]) -> None:
        outcome = run_together(self._disk, [script])[0]
        if outcome.error is not None:
            raise outcome.error

    def _write_format(self, path: str) -> Script[None]:
        source = f"{self._layout.tmp}/format"
        if self._disk.exists(source):
            self._disk.remove(source)
        file = self._disk.create(source)
        file.append(_FORMAT)
        yield (file,)
        file.close()
        self._disk.rename(source, path)
        yield (self._layout.queue,)

    def _recover(self, found: Recovered, now: float) -> None:
        misplaced: list[State] = []
        for name in self._disk.names(self._layout.incoming):
            look = self._reader.look(f"{self._layout.incoming}/{name}")
            if look.state is None:
                self._cannot_use(look, found)
                continue
            self._sort(look.state, found, misplaced, now)
        self._empty_tmp(found, now)
        self._file_anew(misplaced, found, now)
        found.minutes = self._reader.minutes()
        for name in self._disk.names(self._layout.deferred):
            if minute_start(name) is None:
                path = f"{self._layout.deferred}/{name}"
                found.events.append(Trouble(path, "is no directory of ours", "move it"))

    def _sort(
        self, state: State, found: Recovered, misplaced: list[State], now: float
    ) -> None:
        entry = state.entry
        self._owed.update(notice.id for notice in entry.owed)
        if state.torn:
            self._operations.spoil(entry.id, state.good_length)
        home = self._layout.home(entry, now, self._policy)
        if state.torn or state.records.doubt:
            misplaced.append(state)
        elif is_in_place(entry, home, self._layout):
            found.fresh.append((entry.id, _due(entry, now)))
        else:
            misplaced.append(state)

    def _cannot_use(self, look: Look, found: Recovered) -> None:
        """Set aside what is no message; leave what cannot be read, or not yet."""
        if isinstance(look.error, NewerFormat):
            raise NewerFormat(f"{look.path}: {look.error}")
        directory, name = parts(look.path)
        fresh = directory == self._layout.incoming
        if isinstance(look.error, Corrupt) or (fresh and not is_entry_id(name)):
            outcome = run_together(self._disk, [self._operations.set_aside(look.path)])
            place = outcome[0].value or look.path
            found.events.append(Trouble(look.path, f"{look.error}", f"look at {place}"))
            return
        if fresh:
            found.fresh.append((name, 0.0))
        found.events.append(
            Trouble(look.path, f"cannot be read: {look.error}", "it is tried again")
        )

    def _empty_tmp(self, found: Recovered, now: float) -> None:
        """Finish the renames of paid notices, remove all else."""
        paid: list[str] = []
        for name in self._disk.names(self._layout.tmp):
            path = f"{self._layout.tmp}/{name}"
            notice = name.removesuffix(NOTICE)
            if notice == name or notice in self._owed:
                self._disk.remove(path)
                continue
            look = self._reader.look(path)
            if look.state is None:
                self._cannot_use(look, found)
                continue
            self._disk.rename(path, f"{self._layout.incoming}/{notice}")
            paid.append(notice)
            found.fresh.append((notice, _due(look.state.entry, now)))
        if paid:
            self._disk.sync_directory(self._layout.incoming)
            self._disk.sync_directory(self._layout.tmp)

    def _file_anew(self, misplaced: list[State], found: Recovered, now: float) -> None:
        for start in range(0, len(misplaced), _AT_ONCE):
            some = misplaced[start : start + _AT_ONCE]
            entries = list(self._refiled(some, found, now))
            outcomes = run_together(self._disk, [script for _, script in entries])
            for (entry, _), outcome in zip(entries, outcomes, strict=True):
                if outcome.error is not None:
                    what = f"cannot be put in order: {outcome.error}"
                    found.events.append(Trouble(entry.id, what, "it is tried again"))
                    found.fresh.append((entry.id, now))
                elif is_in_place(entry, self._home(entry, now), self._layout):
                    found.fresh.append((entry.id, _due(entry, now)))

    def _home(self, entry: QueueEntry, now: float) -> str:
        return self._layout.home(entry, now, self._policy)

    def _refiled(
        self, states: list[State], found: Recovered, now: float
    ) -> Iterator[tuple[QueueEntry, Script[Any]]]:
        """Each state with the script that puts it in order."""
        for state in states:
            entry = state.entry
            if not state.records.doubt:
                home = self._home(entry, now)
                yield entry, self._operations.file(entry.id, state.path, home)
                continue
            entry, step, events = doubted(state, now)
            found.events += events
            yield (
                entry,
                self._operations.record(
                    entry.id,
                    state.path,
                    [(entry, step)],
                    owing=bool(entry.owed),
                    home=self._home(entry, now),
                ),
            )


def _due(entry: QueueEntry, now: float) -> float:
    """When to look at an entry: at once while it owes."""
    return now if entry.owed else (entry.due or now)
