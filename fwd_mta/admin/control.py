"""What operators ask of the queue: one method a verb.

Doorway: `Commands.obey(request) -> answer`, both plain JSON objects. A running server
offers it on its control socket; without a server the `fwdmta` command holds the store
and asks the same object. Long answers come page by page: an answer's `next` goes into
the next request's `after`.
"""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from fwd_mta.admin.answers import row, step_json, whole
from fwd_mta.admin.asking import (
    CommandError,
    Json,
    Verb,
    entry_filter,
    id_of,
    number_of,
    text_of,
    unknown,
)
from fwd_mta.admin.changes import CHANGES, Kind, Order
from fwd_mta.interfaces import QueueKeeper, WallClock
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Status, Step
from fwd_mta.mail.errors import StoreError
from fwd_mta.mail.message import Message
from fwd_mta.rules.identity import is_entry_id

Reload = Callable[[], Awaitable[Sequence[str]]]

PAGE = 100  # rows of a list
IDS = 5000  # ids of a list without more
BATCH = 200  # messages of a change
CONTENT_PAGE = 384 * 2**10
_REASON_LIMIT = 500
_NAME_LIMIT = 100
_STEPS_WEIGHT = 500  # results a page of a timeline may hold, about


def _nothing() -> None:
    """Wake nobody: no scheduler runs."""


def _lift_none(everything: bool) -> None:
    """Lift no rest: no scheduler runs."""


class Commands:
    """The verbs. Each takes and gives JSON objects, and raises CommandError.

    `wake` is called when something may have become due; `reload` gives the lines on
    what is wrong with the new configuration, none when it is in force; `lift` has dead
    sites probed at once, and with True ends the rests after block lists too; `more` are
    verbs that need more than a queue.
    """

    def __init__(
        self,
        keeper: QueueKeeper,
        wall: WallClock,
        wake: Callable[[], None] = _nothing,
        reload: Reload | None = None,
        lift: Callable[[bool], None] = _lift_none,
        more: Mapping[str, Verb] | None = None,
    ) -> None:
        self._keeper = keeper
        self._wall = wall
        self._wake = wake
        self._reload = reload
        self._lift = lift
        self._verbs: Mapping[str, Verb] = {
            **(more or {}),
            "list": self.list,
            "ids": self.ids,
            "count": self.count,
            "shape": self.shape,
            "show": self.show,
            "timeline": self.timeline,
            "find": self.find,
            "cat": self.cat,
            "change": self.change,
            "reload": self.reload,
        }

    async def obey(self, request: Json) -> Json:
        """Do what is asked; trouble becomes an answer with an `error`."""
        try:
            verb = self._verbs.get(text_of(request, "verb"))
            if verb is None:
                return {"error": f"the verbs are: {', '.join(self._verbs)}"}
            return await verb(request)
        except (CommandError, StoreError) as error:
            return {"error": str(error) or type(error).__name__}

    async def list(self, request: Json) -> Json:
        """Rows of the entries that the filter takes, oldest first, a page of them."""
        wanted = entry_filter(request, self._wall.now())
        page = await self._keeper.page(replace(wanted, limit=PAGE))
        return {"items": [row(entry) for entry in page.entries], "next": page.next}

    async def ids(self, request: Json) -> Json:
        """The ids alone, many at a time: what the index knows, nothing is opened."""
        wanted = entry_filter(request, self._wall.now())
        found = await self._keeper.ids(replace(wanted, limit=IDS))
        return {"items": list(found.ids), "next": found.next}

    async def count(self, request: Json) -> Json:
        """How many entries there are of each state, and how many on hold; in parts."""
        found = await self._keeper.tally(entry_filter(request, self._wall.now()))
        counts = {status.value: found.counts.get(status, 0) for status in Status}
        return {"counts": counts | {"held": found.held}, "next": found.next}

    async def shape(self, request: Json) -> Json:
        """How many recipients wait, by site or domain and by age; in parts."""
        by = text_of(request, "by", "site")
        if by not in {"site", "domain"}:
            raise CommandError('a shape is by "site" or by "domain"')
        after = text_of(request, "after", "")
        found = await self._keeper.shape(by, self._wall.now(), after)
        rows = {name: list(row) for name, row in found.rows.items()}
        return {"rows": rows, "next": found.next}

    async def show(self, request: Json) -> Json:
        """All that is known of one entry, but for its timeline and content."""
        return {"entry": whole(await self._entry(text_of(request, "id")))}

    async def timeline(self, request: Json) -> Json:
        """What happened to one entry, a page of steps; `after` counts steps."""
        entry_id = id_of(request)
        steps = await self._keeper.timeline(entry_id)
        if not steps:
            raise unknown(entry_id)
        first = number_of(request, "after")
        last = _weighed(steps, first)
        items = [step_json(step) for step in steps[first:last]]
        return {"items": items, "next": last if last < len(steps) else None}

    async def find(self, request: Json) -> Json:
        """The ids of all entries with a Message-ID, finished ones too."""
        name = (
            text_of(request, "message_id").strip().removeprefix("<").removesuffix(">")
        )
        ids: list[str] = []
        for form in (f"<{name}>", name):
            wanted = EntryFilter(message_id=form, finished=True, limit=PAGE)
            ids += [entry.id for entry in await self._keeper.entries(wanted)]
        return {"ids": sorted(ids)[:PAGE]}

    async def cat(self, request: Json) -> Json:
        """The content in base64, a page of octets; `after` counts octets."""
        entry = await self._entry(id_of(request))
        first = number_of(request, "after")
        octets = await _octets(await self._keeper.open(entry.id), first)
        last = first + len(octets)
        more = len(octets) == CONTENT_PAGE
        return {
            "content": b64encode(octets).decode(),
            "redacted": entry.redacted_at is not None,
            "next": last if more else None,
        }

    async def change(self, request: Json) -> Json:
        """Hold, release, retry, route or cancel some, and say what became of each.

        `by` is the operator's name, for the timeline; `to` the next hop of a route.
        """
        change = CHANGES.get(text_of(request, "change"))
        if change is None:
            raise CommandError(f"the changes are: {', '.join(CHANGES)}")
        order = Order(
            self._wall.now(),
            text_of(request, "reason", "")[:_REASON_LIMIT],
            text_of(request, "by", "")[:_NAME_LIMIT] or "an operator",
            text_of(request, "to", ""),
        )
        why_not = change.objection(order)
        if why_not:
            raise CommandError(why_not)
        ids = request.get("ids")
        if not isinstance(ids, Sequence) or len(ids) > BATCH:
            raise CommandError(f"a change is about a list of up to {BATCH} ids")
        if change.past in {"retried", "routed"} and ids:
            self._lift(request.get("all") is True)
        items = [await self._changed(str(one), change, order) for one in ids]
        self._wake()
        return {"items": items}

    async def reload(self, request: Json) -> Json:
        """Read the configuration anew."""
        del request
        if self._reload is None:
            raise CommandError("no server runs; it reads its configuration at start")
        return {"problems": list(await self._reload())}

    async def _entry(self, entry_id: str) -> QueueEntry:
        if is_entry_id(entry_id):
            wanted = EntryFilter(ids=(entry_id,), finished=True)
            for entry in await self._keeper.entries(wanted):
                return entry
        raise unknown(entry_id)

    async def _changed(self, entry_id: str, change: Kind, order: Order) -> Json:
        try:
            entry = await self._entry(entry_id)
        except CommandError as error:
            return {"id": entry_id, "done": False, "why": str(error)}
        refusal = change.refusal(entry)
        if refusal:
            return {"id": entry_id, "done": False, "why": f"{entry_id} {refusal}"}
        step = Step(order.at, change.past, order.note)
        make = change.make(order)
        after = await self._keeper.change(entry_id, make, step)
        if after is None:
            return {"id": entry_id, "done": False, "why": str(unknown(entry_id))}
        waits = after == entry != make(entry)
        return {"id": entry_id, "done": True, "waits": waits, "why": ""}


def _weighed(steps: Sequence[Step], first: int) -> int:
    """Give the end of the page that begins at `first`: one step, or more if small."""
    weight = 0
    for place in range(first, len(steps)):
        attempt = steps[place].attempt
        weight += 1 + (len(attempt.results) if attempt else 0)
        if weight > _STEPS_WEIGHT and place > first:
            return place
    return len(steps)


async def _octets(message: Message, first: int) -> bytes:
    """Give a page of the message as it stands on the wire."""
    head = message.head + b"\r\n"
    page = head[first : first + CONTENT_PAGE]
    while len(page) < CONTENT_PAGE:
        offset = first + len(page) - len(head)
        more = await message.read(offset, CONTENT_PAGE - len(page))
        if not more:
            break
        page += more
    return page
