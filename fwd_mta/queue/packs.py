"""Packs: the finished mail of a segment in one file, as scripts; docs/crashes.md, pack.

A pack is messages' files one after the other, then an index.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fwd_mta.interfaces import Disk
from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.queue.commit import Script
from fwd_mta.queue.finished import FinishedOperations
from fwd_mta.queue.journal import Mail
from fwd_mta.queue.layout import Layout, parts
from fwd_mta.queue.operations import Operations
from fwd_mta.queue.reading import Reader, State
from fwd_mta.queue.segment import pack_tail
from fwd_mta.rules.retention import (
    RetentionPolicy,
    RetentionStep,
    due_step,
    next_step,
)

Steps = list[tuple[str, RetentionStep]]
PackIndex = list[tuple[str, int, int]]


@dataclass(frozen=True, slots=True)
class _Member:
    """A message on its way into a pack, and when something in it falls due."""

    id: str
    octets: bytes
    due: float


class PackOperations:
    """The scripts that write packs."""

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        reader: Reader,
        operations: Operations,
        finished: FinishedOperations,
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._reader = reader
        self._operations = operations
        self._finished = finished
        self.damaged: list[tuple[str, str]] = []  # what was set aside, and why

    def write(self, source: str, mails: Sequence[Mail]) -> Script[PackIndex]:
        """Write finished mail of one segment to a new pack in tmp, synced there."""
        _, index = yield from self._write(source, self._from_segment(mails))
        try:
            yield (self._layout.tmp,)
        except OSError:
            self._operations.forget(source)
            raise
        return index

    def _from_segment(self, mails: Sequence[Mail]) -> Iterator[_Member]:
        file = self._disk.open(self._layout.segment(mails[0].segment))
        try:
            for mail in mails:
                octets = file.read_at(mail.offset, mail.length) + mail.lines
                yield _Member(mail.id, octets, mail.due or 0.0)
        finally:
            file.close()

    def _write(
        self, source: str, members: Iterable[_Member]
    ) -> Script[tuple[float, PackIndex]]:
        """Write a pack, synced; gives when the first thing in it falls due."""
        file = self._operations.fresh(source)
        index: PackIndex = []
        at, due = 0, float("inf")
        try:
            for member in members:
                file.append(member.octets)
                index.append((member.id, at, len(member.octets)))
                at, due = at + len(member.octets), min(due, member.due)
            file.append(pack_tail(index))
            yield (file,)
        except (OSError, StoreError):
            self._operations.forget(source)
            raise
        finally:
            file.close()
        return due, index

    def sweep(
        self,
        path: str,
        now: float,
        policy: RetentionPolicy,
        wanted: frozenset[str] = frozenset(),
        *,
        verify: bool = False,
    ) -> Script[Steps]:
        """Do what is due in a pack, redact what is wanted, file it where it belongs.

        A message that proves damaged is set aside alone; `verify` reads all of them.
        """
        try:
            ids = self._reader.members(path)
        except FileNotFoundError:
            return []  # it was listed before it moved on
        judged: list[tuple[State, RetentionStep | None]] = []
        for entry_id in ids:
            member = f"{path}/{entry_id}"
            try:
                judged.append(self._judged(member, now, policy, wanted, verify=verify))
            except Corrupt as damage:
                yield from self._aside(member, damage)
        steps = [(state.entry.id, step) for state, step in judged if step is not None]
        kept = [one for one in judged if one[1] is not RetentionStep.PURGE]
        due = min((self._due(one[0], now, policy) for one in kept), default=now)
        if not kept:
            self._disk.remove(path)
            yield (parts(path)[0],)
            return steps
        index: PackIndex = []
        if steps or len(judged) < len(ids):
            due, index = yield from self._anew(path, kept, now, policy)
        filed = yield from self._operations.file_at(path, self._layout.hour(due, now))
        if steps or filed.path != path:
            self._finished.placed(filed.path, index or self._index_of(filed.path))
        return steps

    def _judged(
        self,
        member: str,
        now: float,
        policy: RetentionPolicy,
        wanted: frozenset[str],
        *,
        verify: bool,
    ) -> tuple[State, RetentionStep | None]:
        """A message and what is due with it; Corrupt if it is damaged."""
        state = self._reader.state(member)
        step = due_step(state.entry, policy, now)
        if state.entry.id in wanted and state.entry.redacted_at is None:
            step = RetentionStep.REDACT
        if verify or step is RetentionStep.REDACT:
            self._reader.content(member, 0)
        return state, step

    @staticmethod
    def _due(state: State, now: float, policy: RetentionPolicy) -> float:
        step = next_step(state.entry, policy)
        return step[1] if step else now

    def _aside(self, member: str, damage: Corrupt) -> Script[None]:
        """Copy a damaged message to corrupt, durably, before its pack goes on."""
        entry_id = parts(member)[1]
        source = f"{self._layout.tmp}/{entry_id}.damaged"
        yield from self._operations.write(source, self._reader.octets(member))
        target = f"{self._layout.corrupt}/{entry_id}"
        filed = yield from self._operations.move(source, target)
        if filed.trouble is not None:
            raise filed.trouble
        self.damaged.append((member, str(damage)))

    def _index_of(self, path: str) -> PackIndex:
        try:
            ids = self._reader.members(path)
            return [(one, *self._reader.part(f"{path}/{one}")) for one in ids]
        except (OSError, StoreError):
            return []  # it moved on

    def unpack(
        self, path: str, entry_id: str, now: float, policy: RetentionPolicy
    ) -> Script[None]:
        """Make a file of one message, then have the pack without it."""
        directory = parts(path)[0]
        source = f"{self._layout.tmp}/{entry_id}.unpacked"
        try:
            octets = self._reader.octets(f"{path}/{entry_id}")
        except FileNotFoundError:
            return  # it moved on meanwhile
        yield from self._operations.write(source, octets)
        yield from self._operations.move(source, f"{directory}/{entry_id}")
        ids = [one for one in self._reader.members(path) if one != entry_id]
        if not ids:
            self._disk.remove(path)
            yield (directory,)
            return
        kept = [(self._reader.state(f"{path}/{one}"), None) for one in ids]
        yield from self._anew(path, kept, now, policy)

    def _anew(
        self,
        path: str,
        kept: Sequence[tuple[State, RetentionStep | None]],
        now: float,
        policy: RetentionPolicy,
    ) -> Script[tuple[float, PackIndex]]:
        """Write a pack anew and rename it over the old one."""
        directory, name = parts(path)
        source = f"{self._layout.tmp}/{name}.swept"
        made = yield from self._write(source, self._from_pack(kept, now, policy))
        try:
            self._disk.rename(source, path)
        except OSError:
            self._operations.forget(source)
            raise
        yield (directory,)
        return made

    def _from_pack(
        self,
        kept: Sequence[tuple[State, RetentionStep | None]],
        now: float,
        policy: RetentionPolicy,
    ) -> Iterator[_Member]:
        for state, step in kept:
            entry = state.entry
            if step is RetentionStep.REDACT:
                entry, octets = self._finished.redacted(state, now)
            else:
                octets = self._reader.octets(state.path)
            due = next_step(entry, policy)
            yield _Member(entry.id, octets, due[1] if due else now)
