"""Who has which message, and where the others wait. All of this is the reactor's."""

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from fwd_mta.interfaces import Change
from fwd_mta.mail.entry import QueueEntry, Step
from fwd_mta.mail.message import Message
from fwd_mta.queue.agenda import Agenda
from fwd_mta.queue.index import Index
from fwd_mta.queue.layout import MINUTE, parts
from fwd_mta.queue.tree import Tree
from fwd_mta.queue.young import Young

_FILE_AGAIN = 60.0

History = list[tuple[QueueEntry, Step]]


@dataclass(slots=True)
class Lease:
    """An entry that somebody has: the scheduler, or the store for a moment."""

    path: str
    entry: QueueEntry | None = None
    claimed: bool = False
    changes: list[tuple[Change, Step]] = field(default_factory=list)
    ended: list[Deferred[None]] = field(default_factory=list)


class Leases:
    """What is near, what is leased, and what is told to whom waits for mail."""

    def __init__(self, tree: Tree, memory_bound: int) -> None:
        self.tree = tree
        self.agenda = Agenda()
        self.young = Young(memory_bound)
        self.lane = tree.lane(self.tell)
        tree.journal.after = self.tell
        self.index: Index | None = None
        self.follow_up: Callable[[Lease, QueueEntry], None] | None = None
        self._leases: dict[str, Lease] = {}
        self._watchers: list[Callable[[], None]] = []
        self._news = False

    def knows(self, entry_id: str) -> bool:
        """Whether it is near or leased."""
        return entry_id in self._leases or entry_id in self.agenda

    def get(self, entry_id: str) -> Lease | None:
        """The lease of an entry, if somebody has it."""
        return self._leases.get(entry_id)

    def path(self, entry_id: str) -> str:
        """Where it lies, if that is known without looking; else empty."""
        lease = self.get(entry_id)
        return lease.path if lease else self.agenda.path(entry_id)

    def home(self, entry: QueueEntry) -> str:
        """The directory an entry belongs in; a full minute gives to later ones."""
        now = self.tree.wall.now()
        home = self.tree.layout.home(entry, now, self.tree.retention)
        return self._not_full(home, entry.due or now)

    def minute(self, until: float) -> str:
        """The directory of mail to be looked at then, or in a later minute if full."""
        return self._not_full(self.tree.layout.minute(until), until)

    def _not_full(self, home: str, due: float) -> str:
        while self.agenda.is_full and self.agenda.is_open(home):
            due = max(due, self.tree.wall.now()) + MINUTE
            home = self.tree.layout.minute(due)
        return home

    def enter(self, entry: QueueEntry, path: str, message: Message | None) -> None:
        """A new message is in the queue."""
        self.put(entry, path)
        self.note(entry, path, new=True)
        if entry.id in self.agenda:
            self.young.put(entry, message)

    def enter_young(self, entry: QueueEntry, path: str, message: Message) -> None:
        """A new message is in the journal, to be delivered at once."""
        self._near(entry.id, entry.due or self.tree.wall.now(), path)
        self.note(entry, path, new=True)
        self.young.put(entry, message)

    def note(self, entry: QueueEntry, path: str, *, new: bool = False) -> None:
        """Have the index know what an entry is now, and where."""
        if self.index is not None:
            self.index.put(entry, path, new=new)

    def put(self, entry: QueueEntry, path: str, until: float = 0.0) -> None:
        """Nobody has the entry: see to it that it is found when it is due, or later."""
        directory = parts(path)[0]
        if entry.owed:
            self._near(entry.id, self.tree.wall.now(), path)
        elif self._is_misfiled(entry, directory):
            # The disk refused to move it: nobody else would look at it again.
            self.young.drop(entry.id)
            self._near(entry.id, self.tree.wall.now() + _FILE_AGAIN, path)
        elif entry.is_final or directory == self.tree.layout.hold:
            self.young.drop(entry.id)
        elif self._is_near(directory):
            self._near(entry.id, max(until, entry.due or self.tree.wall.now()), path)
        else:
            self.young.drop(entry.id)
            self.agenda.expect(directory)
            self._news = True

    def _is_near(self, directory: str) -> bool:
        layout = self.tree.layout
        return (
            directory == layout.incoming
            or layout.is_young(directory)
            or self.agenda.is_open(directory)
        )

    def _is_misfiled(self, entry: QueueEntry, directory: str) -> bool:
        layout = self.tree.layout
        if layout.is_young(directory):
            return False
        if directory == layout.tmp:
            return True
        if entry.is_final:
            return not directory.startswith(layout.retained)
        return entry.held is not None and directory != layout.hold

    def _near(self, entry_id: str, due: float, path: str) -> None:
        self.agenda.add(entry_id, due, path)
        self._news = True

    def watch(self, changed: Callable[[], None]) -> None:
        """Call back when something may be due earlier."""
        self._watchers.append(changed)

    def tell(self) -> None:
        """Say that something is near, once for all that came since the last time."""
        if self._news:
            self._news = False
            for changed in self._watchers:
                changed()

    def lease(self, entry_id: str, path: str = "") -> Lease:
        """The lease of an entry, a new one for what nobody has."""
        lease = self._leases.get(entry_id)
        if lease is None:
            lease = Lease(self.agenda.forget(entry_id) or path)
            self._leases[entry_id] = lease
        return lease

    def free(self, entry: QueueEntry, path: str, until: float = 0.0) -> None:
        """End a lease; changes that came too late for its record follow.

        It is looked at when it is due, but not before `until`.
        """
        lease = self.lease(entry.id)
        lease.path = path
        if lease.changes and self.follow_up is not None:
            self.follow_up(lease, entry)
            return
        del self._leases[entry.id]
        self.put(entry, path, until)
        self.note(entry, path)
        for one in lease.ended:
            one.callback(None)

    def drop(self, entry_id: str) -> None:
        """End a lease; nothing is known of the entry from then on."""
        lease = self._leases.pop(entry_id, None)
        for one in lease.ended if lease else ():
            one.callback(None)

    def abandon(self, entry_id: str) -> None:
        """The entry is not in the queue any more."""
        self.agenda.forget(entry_id)
        self.young.drop(entry_id)
        self.drop(entry_id)
        if self.index is not None:
            self.index.gone((entry_id,))
