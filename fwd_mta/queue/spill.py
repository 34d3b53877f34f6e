"""A message of the journal becomes a file of its own (docs/crashes.md, spill)."""

from fwd_mta.mail.errors import StoreError
from fwd_mta.queue.journal import Mail
from fwd_mta.queue.layout import parts
from fwd_mta.queue.leases import Leases
from fwd_mta.queue.operations import Filed
from fwd_mta.queue.segment import moved_item
from fwd_mta.queue.tree import value


class Spill:
    """Spills on the lane of files, with the commit in the journal."""

    def __init__(self, leases: Leases) -> None:
        self._tree = leases.tree
        self._all = leases
        self._journal = leases.tree.journal
        self._tried = 0

    async def run(self, mail: Mail, lines: bytes, home: str) -> Filed:
        """Write content, all records and new ones to a file; gives where it lies.

        Raises StoreError: then it is as young as before, and has its old state.
        """
        mail.moving = []
        try:
            self._tried += 1
            source = f"{self._tree.layout.tmp}/{mail.id}.{self._tried}"
            filed = await self._spill(mail, lines, source, home)
            lease = self._all.get(mail.id)
            if lease is not None:
                lease.path = filed.path
            if filed.trouble:  # committed, and not durably in its place
                self._journal.leave(mail, source)
            else:
                self._journal.forget(mail)
        finally:
            waiting, mail.moving = mail.moving, None
            for one in waiting:
                one.callback(None)
        return filed

    async def set_aside(self, path: str, reason: object) -> None:
        """Move a damaged message to corrupt, also out of the journal, and say why."""
        tree = self._tree
        young = tree.layout.is_young(path)
        mail = await self._journal.settled(parts(path)[1]) if young else None
        if mail is None:
            await tree.set_aside(path, reason, self._all.lane)
            return
        try:
            filed = await self.run(mail, b"", tree.layout.corrupt)
        except StoreError as error:
            tree.say(path, f"{reason}; it cannot be moved aside: {error}")
            return
        tree.say(path, reason, f"look at {filed.path}")

    async def _spill(self, mail: Mail, lines: bytes, source: str, home: str) -> Filed:
        target = f"{home}/{mail.id}"
        operations, path = self._tree.operations, self._journal.path(mail)
        lane = self._all.lane
        await lane.run(mail.id, lambda: operations.copy(path, lines, source), value)
        await self._journal.moved(moved_item(mail.id, source, target))
        filed = await lane.run(mail.id, lambda: operations.move(source, target), value)
        assert isinstance(filed, Filed)  # noqa: S101 - what `move` gives
        return filed
