"""The verbs about finished mail and about every byte on the disk.

Doorway: `Retention(...).verbs`, for `control.Commands`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict

from fwd_mta.admin.asking import CommandError, Json, Verb, text_of, unknown
from fwd_mta.admin.control import BATCH
from fwd_mta.interfaces import QueueKeeper, WallClock
from fwd_mta.mail.entry import EntryFilter, QueueEntry
from fwd_mta.rules.identity import is_entry_id
from fwd_mta.rules.retention import RetentionPolicy, next_step

_PAGE = 1000

Mend = Callable[[str], Awaitable[str]]
Reindex = Callable[[], Awaitable[bool]]


class Retention:
    """What is kept, until when; `mend` is there only where no server runs."""

    def __init__(
        self,
        keeper: QueueKeeper,
        wall: WallClock,
        policy: Callable[[], RetentionPolicy],
        mend: Mend | None = None,
        reindex: Reindex | None = None,
    ) -> None:
        self._keeper = keeper
        self._wall = wall
        self._policy = policy
        self._mend = mend
        self._reindex = reindex

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """The verbs by name."""
        return {
            "retained": self.retained,
            "redact": self.redact,
            "inspect": self.inspect,
            "mend": self.mend,
            "reindex": self.reindex,
        }

    async def retained(self, request: Json) -> Json:
        """What is kept of finished mail, a page; `after` goes by id."""
        after = text_of(request, "after", "")
        wanted = EntryFilter(finished=True, after=after, limit=_PAGE)
        found = await self._keeper.entries(wanted)
        policy, now = self._policy(), self._wall.now()
        return {
            "terms": {"content": policy.content, "record": policy.record},
            "others": {key: asdict(one) for key, one in policy.terms.items()},
            "items": [_kept(one, policy, now) for one in found if one.is_final],
            "next": max(one.id for one in found) if len(found) >= _PAGE else None,
        }

    async def redact(self, request: Json) -> Json:
        """Redact some finished messages now, and say what became of each."""
        ids = request.get("ids")
        if not isinstance(ids, Sequence) or len(ids) > BATCH:
            raise CommandError(f"redact is about a list of up to {BATCH} ids")
        return {"items": [await self._redacted(str(one)) for one in ids]}

    async def _redacted(self, entry_id: str) -> Json:
        wanted = EntryFilter(ids=(entry_id,), finished=True)
        found = await self._keeper.entries(wanted) if is_entry_id(entry_id) else []
        why = _refusal(found[0]) if found else str(unknown(entry_id))
        if not why and not await self._keeper.redact(entry_id):
            why = f"{entry_id} changed meanwhile; try again"
        return {"id": entry_id, "done": not why, "why": why}

    async def inspect(self, request: Json) -> Json:
        """Read the next files under state_dir; `after` is a path."""
        seen = await self._keeper.inspect(text_of(request, "after", ""))
        return {
            "files": seen.files,
            "octets": seen.octets,
            "items": [asdict(one) for one in seen.findings],
            "next": seen.next,
        }

    async def mend(self, request: Json) -> Json:
        """File a message where it belongs, or set a damaged one aside."""
        if self._mend is None:
            raise CommandError("a server runs; stop it before anything is repaired")
        return {"done": await self._mend(text_of(request, "path"))}

    async def reindex(self, request: Json) -> Json:
        """Make the index anew; `whole`: it is so already, else in a while."""
        if self._reindex is None:
            raise CommandError("there is no index: queue.index is false")
        return {"whole": await self._reindex()}


def _refusal(entry: QueueEntry) -> str:
    """Why a message cannot be redacted; nothing when it can."""
    if not entry.is_final or entry.owed:
        return f"{entry.id} is not finished; cancel it first"
    if entry.held is not None:
        return f"{entry.id} is kept ({entry.held}); release it first"
    return ""


def _kept(entry: QueueEntry, policy: RetentionPolicy, now: float) -> Json:
    step = next_step(entry, policy)
    return {
        "id": entry.id,
        "state": entry.status,
        "kept": entry.held,
        "size": entry.size,
        "redacted_at": entry.redacted_at,
        "next": step and step[0].value,
        "next_at": step and max(step[1], now),
    }
