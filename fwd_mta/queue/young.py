"""Young mail kept in memory, so that its first delivery reads no disk; bounded."""

from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.message import Message
from fwd_mta.mail.noun import noun

_ENTRY_COST = 1024
_RECIPIENT_COST = 512


@noun
class _Kept:
    entry: QueueEntry
    message: Message | None
    cost: int


class Young:
    """Entries, and contents where they are small; the oldest go when it is full.

    What is missing here is read from the disk: nothing depends on what is kept.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._kept: dict[str, _Kept] = {}
        self.octets = 0

    def put(self, entry: QueueEntry, message: Message | None = None) -> None:
        """Keep an entry's state, and its content if it is in memory."""
        if message is not None and not isinstance(message.body, bytes):
            message = None
        cost = _ENTRY_COST + _RECIPIENT_COST * len(entry.standings)
        cost += message.size if message else 0
        if entry.id in self._kept:
            self.drop(entry.id)
        self._kept[entry.id] = _Kept(entry, message, cost)
        self.octets += cost
        while self.octets > self._bound:
            self.drop(next(iter(self._kept)))

    def entry(self, entry_id: str) -> QueueEntry | None:
        """The state, if it is kept."""
        kept = self._kept.get(entry_id)
        return kept.entry if kept else None

    def message(self, entry_id: str) -> Message | None:
        """The content, if it is kept."""
        kept = self._kept.get(entry_id)
        return kept.message if kept else None

    def forget_state(self, entry_id: str) -> None:
        """The state kept is no longer the last one; the content stays."""
        kept = self._kept.get(entry_id)
        if kept is not None and kept.message is None:
            self.drop(entry_id)

    def drop(self, entry_id: str) -> None:
        """Keep nothing of it."""
        kept = self._kept.pop(entry_id, None)
        if kept is not None:
            self.octets -= kept.cost
