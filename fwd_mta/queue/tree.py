"""The tools that the parts of the file store share: disk, worker, lane, scripts."""

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime

from fwd_mta.events import Emit, Trouble
from fwd_mta.interfaces import Disk, WallClock, Worker
from fwd_mta.mail.errors import StoreError
from fwd_mta.queue.commit import Lane, Outcome, store_error
from fwd_mta.queue.finished import FinishedOperations
from fwd_mta.queue.journal import Journal
from fwd_mta.queue.layout import Layout
from fwd_mta.queue.operations import Operations
from fwd_mta.queue.packs import PackOperations
from fwd_mta.queue.reading import Reader
from fwd_mta.rules.retention import RetentionPolicy

T = TypeVar("T")


class Tree:
    """One tree of files, and how it is worked on."""

    def __init__(
        self,
        disk: Disk,
        root: str,
        worker: Worker,
        wall: WallClock,
        retention: RetentionPolicy,
        emit: Emit,
        clock: IReactorTime,
        owner: str = "",
        journal_worker: Worker | None = None,
    ) -> None:
        self.disk = disk
        self.worker = worker
        self.wall = wall
        self.retention = retention
        self.emit = emit
        self.layout = Layout(root)
        self.full: Callable[[], None] = lambda: None
        self.bodies: dict[str, float] = {}
        self.journal = Journal(
            disk, self.layout, journal_worker or worker, wall, clock, owner
        )
        self.journal.short = self.short
        self.reader = Reader(disk, self.layout, self.journal.mails)
        self.operations = Operations(disk, self.layout, self.reader)
        self.finished = FinishedOperations(
            disk, self.layout, self.reader, self.operations
        )
        self.packs = PackOperations(
            disk, self.layout, self.reader, self.operations, self.finished
        )

    def lane(self, after: Callable[[], None] = lambda: None) -> Lane:
        """A lane for scripts of this tree."""
        return Lane(self.worker, self.disk, after, self.short)

    def short(self) -> None:
        """Something failed for want of space."""
        self.full()

    async def job(self, work: Callable[[], T]) -> T:
        """Run something that only reads; the disk's errors become StoreError."""
        try:
            return await self.worker.run(work)
        except OSError as error:
            raise store_error(error) from error

    def say(self, where: str, what: object, cure: str = "") -> None:
        """Report trouble."""
        self.emit(Trouble(where, str(what), cure))

    async def set_aside(self, path: str, reason: object, lane: Lane) -> None:
        """Move a file to corrupt, and say why; where that fails it stays."""
        try:
            place = await lane.run(path, lambda: self.operations.set_aside(path), value)
        except StoreError as error:
            self.say(path, f"{reason}; it cannot be moved aside: {error}")
            return
        self.say(path, reason, f"look at {place}")


def value(outcome: Outcome) -> object:
    """What a script gave; raises what it failed with."""
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
