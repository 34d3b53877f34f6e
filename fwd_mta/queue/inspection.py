"""Every byte under the state directory: whether it is accounted for, and in time.

Doorway: `inspect(tree, after) -> Inspected`, a page of the walk. A message whose
content should be gone, a redacted one with more than its placeholder, a damaged or
misplaced file, and whatever is not ours: each is a finding. Nothing is changed here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import msgspec

from fwd_mta.interfaces import Finding, FindingKind, Inspected
from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.errors import StoreError
from fwd_mta.queue.index import NAME, Index
from fwd_mta.queue.layout import (
    HOUR,
    PACK,
    Layout,
    hour_end,
    minute_start,
    pack_of,
    parts,
    segment_number,
)
from fwd_mta.queue.listing import Names, Placed
from fwd_mta.queue.reading import Content, Reader, State
from fwd_mta.queue.record import HEADER_SIZE, Header
from fwd_mta.queue.segment import scan
from fwd_mta.queue.tree import Tree
from fwd_mta.rules.identity import is_entry_id, made_at
from fwd_mta.rules.retention import (
    RetentionStep,
    due_step,
    is_placeholder,
    next_step,
)
from fwd_mta.rules.soundness import flaws

_GRACE = 2 * HOUR  # an hour is swept when it has ended
_DAY = 86_400.0
_PAGE_FILES = 400
_PAGE_OCTETS = 64 << 20
_SLICE = 16
_PLACEHOLDER_LIMIT = 4096
_STATE_LIMIT = 256 << 20
_INDEX = frozenset({NAME, f"{NAME}-wal", f"{NAME}-shm"})
_FILES = frozenset({"fwdmta.lock", "format", "terms"}) | _INDEX  # others: directories
_OURS = _INDEX | frozenset(
    # the last is the file system's, where the state has a volume of its own
    {"fwdmta.lock", "control.sock", "queue", "retained", "state", "lost+found"}
)
_OURS_IN_QUEUE = frozenset(
    {
        "incoming",
        "deferred",
        "hold",
        "corrupt",
        "tmp",
        "journal",
        "spare",
        "format",
        "terms",
    }
)


@dataclass(frozen=True, slots=True)
class _Seen:
    path: str
    octets: int = 0
    findings: tuple[Finding, ...] = ()
    is_file: bool = True


async def inspect(tree: Tree, names: Names, after: str = "") -> Inspected:
    """Look at the next files behind the path `after`; `names` serves all pages."""
    walk = _Inspection(tree, names).walk(after)
    files, octets, looks = 0, 0, 0
    findings: list[Finding] = []
    last = None
    while some := await tree.job(lambda: list(islice(walk, _SLICE))):
        files += sum(one.is_file for one in some)
        looks += len(some)
        octets += sum(one.octets for one in some)
        findings += [finding for one in some for finding in one.findings]
        last = some[-1].path
        if looks >= _PAGE_FILES or octets >= _PAGE_OCTETS:
            return Inspected(files, octets, tuple(findings), last)
    return Inspected(files, octets, tuple(findings), None)


class _Inspection:
    """One page of the walk, on a worker's thread."""

    def __init__(self, tree: Tree, names: Names) -> None:
        self._disk = tree.disk
        self._names = names
        self._layout: Layout = tree.layout
        self._reader: Reader = tree.reader
        self._bodies = dict(tree.bodies)
        self._policy = tree.retention
        self._now = tree.wall.now()

    def walk(self, after: str) -> Iterator[_Seen]:
        """Everything, by directory and name, behind a path."""
        place, name_before = parts(after)
        for directory, look in sorted(self._places(), key=lambda one: one[0]):
            if directory < place:
                continue
            before = name_before if directory == place else ""
            for name, _ in self._names.walk(before, directory, self._in(directory)):
                yield look(f"{directory}/{name}")

    def _in(self, directory: str) -> Callable[[], Iterator[Placed]]:
        return lambda: ((name, directory) for name in self._disk.scan(directory))

    def _places(self) -> Iterator[tuple[str, Callable[[str], _Seen]]]:
        layout = self._layout
        yield layout.root, self._among(lambda name: name in _OURS)
        yield layout.queue, self._among(lambda name: name in _OURS_IN_QUEUE)
        yield layout.deferred, self._among(lambda name: minute_start(name) is not None)
        yield (
            layout.retained,
            self._among(lambda name: name == "hold" or hour_end(name) is not None),
        )
        yield f"{layout.root}/state", self._remembered
        yield layout.corrupt, self._set_aside
        yield layout.tmp, self._unfinished
        yield layout.journal, self._segment
        for directory in (layout.incoming, layout.hold, layout.kept):
            yield directory, self._message
        for directory in (*self._reader.minutes(), *self._reader.hours()):
            yield directory, self._message

    def _among(self, is_ours: Callable[[str], bool]) -> Callable[[str], _Seen]:
        """Look at names of directories: only strangers are a finding."""

        def look(path: str) -> _Seen:
            name = parts(path)[1]
            if is_ours(name):
                return _Seen(path, is_file=name in _FILES)
            what = "is not of ours; if it holds mail, nobody redacts it"
            return self._found(path, FindingKind.UNKNOWN, what, "look, and remove it")

        return look

    def _found(
        self, path: str, kind: FindingKind, what: str, cure: str = "", size: int = 0
    ) -> _Seen:
        relative = path.removeprefix(f"{self._layout.root}/")
        return _Seen(path, size, (Finding(relative, kind, what, cure),))

    def _set_aside(self, path: str) -> _Seen:
        """A damaged file: evidence, until its content is due."""
        name = parts(path)[1].partition(".")[0]
        old = not is_entry_id(name) or made_at(name) + self._policy.content < self._now
        if not old:
            return _Seen(path)
        what = "is damaged mail past its time, or none of ours"
        return self._found(path, FindingKind.CONTENT, what, "look, and remove it")

    def _unfinished(self, path: str) -> _Seen:
        """A file on its way; one that is old stayed behind."""
        name = parts(path)[1].partition(".")[0]
        began = (
            made_at(name) if is_entry_id(name) else self._bodies.get(path, self._now)
        )
        if began + _DAY > self._now:
            return _Seen(path)
        what = "was left over by something that failed"
        return self._found(path, FindingKind.LEFTOVER, what, "a restart removes it")

    def _remembered(self, path: str) -> _Seen:
        """A small file of figures: JSON, and nothing that could hold a message."""
        try:
            file = self._disk.open(path)
        except FileNotFoundError:
            return _Seen(path)
        octets = file.read_at(0, _STATE_LIMIT + 1)
        file.close()
        cure = "look; a server that starts without it begins anew"
        if not path.endswith(".json"):
            what = "is none of the small files of ours"
            return self._found(path, FindingKind.UNKNOWN, what, cure, len(octets))
        try:
            msgspec.json.decode(octets)
        except msgspec.DecodeError as error:
            what = f"is not JSON: {error}"
            return self._found(path, FindingKind.DAMAGE, what, cure, len(octets))
        return _Seen(path, len(octets))

    def _segment(self, path: str) -> _Seen:
        """A segment is put away a few minutes after it was begun."""
        number = segment_number(parts(path)[1])
        if number is None:
            return self._found(path, FindingKind.UNKNOWN, "is no segment of ours")
        try:
            file = self._disk.open(path)
        except FileNotFoundError:
            return _Seen(path)
        octets = file.read_at(0, file.size())
        file.close()
        for one in scan(octets, number).damaged:
            what = f"{one.length} octets at {one.offset} are damaged"
            cure = "a restart copies them to queue/corrupt and reads the rest"
            return self._found(path, FindingKind.DAMAGE, what, cure, len(octets))
        if number / 1000 + _DAY > self._now:
            return _Seen(path, len(octets))
        what = "is a segment that was not put away"
        return self._found(path, FindingKind.LEFTOVER, what, "see the log for why")

    # Messages

    def _pack(self, path: str) -> _Seen:
        try:
            names = self._reader.members(path)
        except FileNotFoundError:
            return _Seen(path)
        except (OSError, StoreError) as error:
            cure = "fwdmta fsck --repair sets it aside"
            return self._found(path, FindingKind.DAMAGE, str(error), cure)
        seen = [self._judged(f"{path}/{name}") for name in names]
        relative = path.removeprefix(f"{self._layout.root}/")
        findings = tuple(
            replace(finding, path=relative) for one in seen for finding in one.findings
        )
        return _Seen(path, sum(one.octets for one in seen), findings)

    def _message(self, path: str) -> _Seen:
        if path.endswith(PACK):
            first = self._pack(path)
            return self._pack(path) if first.findings else first
        if not is_entry_id(parts(path)[1]):
            return self._found(path, FindingKind.UNKNOWN, "is no message of ours")
        first = self._judged(path)
        # What a server was at work on looks right, or is gone, a moment later.
        return self._judged(path) if first.findings else first

    def _judged(self, path: str) -> _Seen:
        try:
            state = self._reader.state(path)
            content = self._reader.content(path, _PLACEHOLDER_LIMIT)
        except FileNotFoundError:
            return _Seen(path)
        except (OSError, StoreError) as error:
            cure = "fwdmta fsck --repair sets it aside"
            return self._found(path, FindingKind.DAMAGE, str(error), cure)
        size = state.header.records + state.records.length
        findings = tuple(self._faults(path, state, content))
        return _Seen(path, size, findings)

    def _faults(self, path: str, state: State, content: Content) -> Iterator[Finding]:
        relative = path.removeprefix(f"{self._layout.root}/")
        for kind, what, cure in (
            *_shape(state),
            *_flaws(state.entry),
            *self._place(parts(pack_of(path) or path)[0], state.entry),
            *self._time(state.entry, content),
        ):
            yield Finding(relative, kind, what, cure)

    def _place(
        self, directory: str, entry: QueueEntry
    ) -> Iterator[tuple[FindingKind, str, str]]:
        home = self._layout.home(entry, self._now, self._policy)
        where, wanted = _region(directory, self._layout), _region(home, self._layout)
        cure = "fwdmta fsck --repair files it anew"
        if where != wanted and not (where == "incoming" and wanted == "deferred"):
            if not (where == "deferred" and wanted == "incoming"):
                yield FindingKind.PLACE, f"lies in {where}, belongs in {wanted}", cure
            return
        step = next_step(entry, self._policy)
        looked_at = hour_end(parts(directory)[1])
        if step is None or looked_at is None:
            return
        if looked_at > max(step[1], self._now) + _GRACE:
            what = f"is looked at too late: its time to {step[0]} comes sooner"
            yield FindingKind.PLACE, what, cure

    def _time(
        self, entry: QueueEntry, content: Content
    ) -> Iterator[tuple[FindingKind, str, str]]:
        step = due_step(entry, self._policy, self._now - _GRACE)
        cure = "is the server running? it sweeps every 30 seconds"
        if entry.redacted_at is None:
            if step is not None:
                yield FindingKind.CONTENT, "holds content past its time", cure
            return
        if step is RetentionStep.PURGE:
            yield FindingKind.RECORD, "holds a record past its time", cure
        if content.body is None or not is_placeholder(content.head, content.body):
            what = "is recorded as redacted, and holds more than a placeholder"
            yield FindingKind.CONTENT, what, f"fwdmta retention redact {entry.id}"


async def outlived(tree: Tree, index: Index | None) -> tuple[Finding, ...]:
    """What the index still knows of messages whose record must be gone."""
    if index is None:
        return ()
    policy = tree.retention
    longest = max([policy.record, *(one.record for one in policy.terms.values())])
    number = await index.older_than(tree.wall.now() - longest - _DAY)
    if not number:
        return ()
    what = f"knows {number} messages whose record went"
    return (Finding(NAME, FindingKind.RECORD, what, "fwdmta fsck --reindex"),)


def _shape(state: State) -> Iterator[tuple[FindingKind, str, str]]:
    """Each octet of a file is of its header line, body, head or records."""
    if not _is_tight(state.header):
        what = "has octets outside of its body, header section and records"
        yield FindingKind.CONTENT, what, "look at it"
    if state.torn:
        what = "has a last record that was not written to its end"
        yield FindingKind.DAMAGE, what, "a restart mends it"


def _is_tight(header: Header) -> bool:
    body, head = header.body, header.head
    return (
        body.offset == HEADER_SIZE
        and head.offset == body.offset + body.length
        and header.records == head.offset + head.length
    )


def _flaws(entry: QueueEntry) -> Iterator[tuple[FindingKind, str, str]]:
    """What no sound record says; the simulation asks the same of every life."""
    cure = "this is a defect of ours: see its timeline, and report it"
    return ((FindingKind.RECORD, words, cure) for words in flaws(entry))


def _region(directory: str, layout: Layout) -> str:
    """Which temperature of mail a directory is for."""
    if directory == layout.kept:
        return "retained/hold"
    above, name = parts(directory)
    if above in {layout.deferred, layout.retained}:
        return parts(above)[1]
    return name
