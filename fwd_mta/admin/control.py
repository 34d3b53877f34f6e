"""What operators ask of the queue: one method a verb, and the socket that carries them.

Doorway: `Commands.obey(request) -> answer`, both plain JSON objects. A running server
offers it on `state_dir/control.sock`, a JSON object a line each way; without a server
the `fwdmta` command holds the store and asks the same object. Long answers come page by
page: an answer's `next` goes into the next request's `after`.
"""

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.protocols.basic import LineReceiver
from typing_extensions import override

from fwd_mta.events import Emit, Trouble
from fwd_mta.interfaces import Change, QueueKeeper, WallClock
from fwd_mta.mail.entry import (
    Attempt,
    Category,
    DeliveryResult,
    EntryFilter,
    QueueEntry,
    Standing,
    Status,
    Step,
)
from fwd_mta.mail.errors import StoreError
from fwd_mta.mail.message import Message
from fwd_mta.rules import retention, settlement
from fwd_mta.rules.identity import is_entry_id

T = TypeVar("T")
Json = dict[str, Any]
Reload = Callable[[], Awaitable[Sequence[str]]]
Verb = Callable[[Json], Awaitable[Json]]

REQUEST_LIMIT = 65_536
CONNECTION_LIMIT = 32
PAGE = 1000  # rows of a list
BATCH = 200  # messages of a change
_COUNT_PAGE = 20_000
CONTENT_PAGE = 384 * 2**10
RECIPIENTS_IN_ROW = 5
_STEPS_WEIGHT = 500  # results a page of a timeline may hold, about


class CommandError(Exception):
    """What was asked cannot be done; `str()` is the line for the person who asked."""


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
            "count": self.count,
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
        page, after = await self._page(request, PAGE)
        return {"items": [row(entry) for entry in page], "next": after}

    async def count(self, request: Json) -> Json:
        """How many entries there are of each state, and how many are on hold."""
        counts = dict.fromkeys([status.value for status in Status], 0)
        counts["held"] = 0
        after: str | None = ""
        while after is not None:
            page, after = await self._page(request | {"after": after}, _COUNT_PAGE)
            for entry in page:
                counts[entry.status] += 1
                counts["held"] += entry.held is not None
        return {"counts": counts}

    async def show(self, request: Json) -> Json:
        """All that is known of one entry, but for its timeline and content."""
        return {"entry": whole(await self._entry(text_of(request, "id")))}

    async def timeline(self, request: Json) -> Json:
        """What happened to one entry, a page of steps; `after` counts steps."""
        entry_id = _id(request)
        steps = await self._keeper.timeline(entry_id)
        if not steps:
            raise unknown(entry_id)
        first = _number(request, "after")
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
        entry = await self._entry(_id(request))
        first = _number(request, "after")
        octets = await _octets(await self._keeper.open(entry.id), first)
        last = first + len(octets)
        more = len(octets) == CONTENT_PAGE
        return {
            "content": b64encode(octets).decode(),
            "redacted": entry.redacted_at is not None,
            "next": last if more else None,
        }

    async def change(self, request: Json) -> Json:
        """Hold, release, retry or cancel some entries, and say what became of each."""
        change = _CHANGES.get(text_of(request, "change"))
        if change is None:
            raise CommandError(f"the changes are: {', '.join(_CHANGES)}")
        reason = text_of(request, "reason", "")
        ids = request.get("ids")
        if not isinstance(ids, Sequence) or len(ids) > BATCH:
            raise CommandError(f"a change is about a list of up to {BATCH} ids")
        if change.past == "retried":
            self._lift(request.get("all") is True)
        items = [await self._changed(str(one), change, reason) for one in ids]
        self._wake()
        return {"items": items}

    async def reload(self, request: Json) -> Json:
        """Read the configuration anew."""
        del request
        if self._reload is None:
            raise CommandError("no server runs; it reads its configuration at start")
        return {"problems": list(await self._reload())}

    async def _page(
        self, request: Json, length: int
    ) -> tuple[Sequence[QueueEntry], str | None]:
        wanted = entry_filter(request, self._wall.now())
        found = await self._keeper.entries(replace(wanted, limit=length))
        page = sorted(found, key=lambda entry: entry.id)[:length]
        after = page[-1].id if len(found) >= length else None
        if request.get("held"):
            page = [entry for entry in page if entry.held is not None]
        return page, after

    async def _entry(self, entry_id: str) -> QueueEntry:
        if is_entry_id(entry_id):
            wanted = EntryFilter(ids=(entry_id,), finished=True)
            for entry in await self._keeper.entries(wanted):
                return entry
        raise unknown(entry_id)

    async def _changed(self, entry_id: str, change: "_Verb", reason: str) -> Json:
        try:
            entry = await self._entry(entry_id)
        except CommandError as error:
            return {"id": entry_id, "done": False, "why": str(error)}
        refusal = change.refusal(entry)
        if refusal:
            return {"id": entry_id, "done": False, "why": f"{entry_id} {refusal}"}
        now = self._wall.now()
        note = f"by an operator: {reason}" if reason else "by an operator"
        step = Step(now, change.past, note)
        make = change.make(now, reason)
        after = await self._keeper.change(entry_id, make, step)
        if after is None:
            return {"id": entry_id, "done": False, "why": str(unknown(entry_id))}
        waits = after == entry != make(entry)
        return {"id": entry_id, "done": True, "waits": waits, "why": ""}


@dataclass(frozen=True, slots=True)
class _Verb:
    """One change: what it makes of an entry, and of which it cannot be made."""

    past: str
    make: Callable[[float, str], Change]
    refusal: Callable[[QueueEntry], str]


def _finished(entry: QueueEntry) -> str:
    return f"is finished: {entry.status}" if entry.is_final else ""


def _not_kept(entry: QueueEntry) -> str:
    if not entry.is_final or entry.owed:
        return "is not finished; it is kept until then"
    return ""


_CHANGES: Mapping[str, _Verb] = {
    "keep": _Verb(
        "kept",
        lambda _, reason: (
            lambda entry: retention.keep(entry, reason or "by an operator")
        ),
        lambda entry: (
            _not_kept(entry) or ("is kept already" if entry.held is not None else "")
        ),
    ),
    "let-go": _Verb(
        "let-go",
        lambda _now, _reason: retention.let_go,
        lambda entry: _not_kept(entry) or ("is not kept" if entry.held is None else ""),
    ),
    "hold": _Verb(
        "held",
        lambda _, reason: (
            lambda entry: settlement.hold(entry, reason or "by an operator")
        ),
        lambda entry: _finished(entry) or ("is on hold already" if entry.held else ""),
    ),
    "release": _Verb(
        "released",
        lambda now, _: lambda entry: settlement.release(entry, now),
        lambda entry: (
            _finished(entry) or ("is not on hold" if entry.held is None else "")
        ),
    ),
    "retry": _Verb(
        "retried",
        lambda now, _: lambda entry: settlement.retry_now(entry, now),
        lambda entry: (
            _finished(entry)
            or ("is on hold; release it" if entry.held is not None else "")
        ),
    ),
    "cancel": _Verb(
        "cancelled",
        lambda now, _: lambda entry: settlement.cancel(entry, now),
        _finished,
    ),
}


# Requests


def text_of(request: Json, key: str, default: str | None = None) -> str:
    """One word of a request; raises CommandError when it is not there."""
    value = request.get(key, default)
    if not isinstance(value, str):
        raise CommandError(f"the request has no {key}")
    return value


def _number(request: Json, key: str) -> int:
    value = request.get(key) or 0
    if not isinstance(value, int) or value < 0:
        raise CommandError(f"{key} is no number")
    return value


def _id(request: Json) -> str:
    entry_id = text_of(request, "id")
    if not is_entry_id(entry_id):
        raise unknown(entry_id)
    return entry_id


def unknown(entry_id: str) -> CommandError:
    """Say that there is no such message."""
    return CommandError(f"no message {entry_id} is known; see `fwdmta queue list`")


def entry_filter(request: Json, now: float) -> EntryFilter:
    """Read a filter from a request; raises CommandError on words it does not know."""
    older_than = request.get("older_than")
    sender, to, account, domain = (
        None if request.get(name) is None else text_of(request, name)
        for name in ("from", "to", "account", "domain")
    )
    try:
        ids = tuple(map(str, request.get("ids") or ()))
        states = tuple(Status(state) for state in request.get("states") or ())
        category = Category(request["category"]) if request.get("category") else None
        queued_before = None if older_than is None else now - float(older_than)
    except (TypeError, ValueError) as error:
        raise CommandError(f"the filter is not understood: {error}") from error
    return EntryFilter(
        ids=ids,
        sender=sender,
        recipient=to,
        domain=domain and domain.lower(),
        account=account,
        states=states,
        category=category,
        queued_before=queued_before,
        finished=bool(request.get("finished")),
        after=text_of(request, "after", ""),
    )


# Answers


def row(entry: QueueEntry) -> Json:
    """One entry as a list shows it; times are seconds since the epoch."""
    mailboxes = [str(one.recipient.mailbox) for one in entry.standings]
    last = _telling(entry)
    return {
        "id": entry.id,
        "state": entry.status,
        "held": entry.held,
        "account": entry.account,
        "sender": _sender(entry),
        "recipients": mailboxes[:RECIPIENTS_IN_ROW],
        "recipient_count": len(mailboxes),
        "size": entry.size,
        "queued_at": entry.queued_at,
        "next_at": None if entry.held is not None else entry.due,
        "attempts": max((one.attempts for one in entry.standings), default=0),
        "message_id": entry.message_id,
        "cause": entry.cause,
        "last": _result(last.last) if last and last.last else None,
    }


def _telling(entry: QueueEntry) -> Standing | None:
    """Find the standing that explains the entry best: one that waits, or failed."""
    told = [one for one in entry.standings if one.last is not None]
    troubled = [one for one in told if one.last and one.last.diagnosis]
    waiting = [one for one in troubled if one.is_open]
    return next(iter(waiting or troubled or told), None)


def _sender(entry: QueueEntry) -> str:
    path = entry.envelope.reverse_path
    return "<>" if path is None else str(path)


def whole(entry: QueueEntry) -> Json:
    """One entry with all its recipients."""
    envelope = entry.envelope
    return row(entry) | {
        "standings": [_standing(one) for one in entry.standings],
        "client": entry.origin.client,
        "hello": entry.origin.hello,
        "protocol": entry.origin.protocol,
        "tls": entry.origin.tls,
        "checks": list(entry.origin.checks),
        "envid": envelope.envid,
        "require_tls": envelope.require_tls,
        "hold_until": envelope.hold_until,
        "notices": entry.notices,
        "finished_at": entry.finished_at,
        "redacted_at": entry.redacted_at,
    }


def _standing(standing: Standing) -> Json:
    return {
        "recipient": str(standing.recipient.mailbox),
        "state": standing.state,
        "attempts": standing.attempts,
        "next_at": standing.next_attempt_at if standing.is_open else None,
        "in_doubt_since": standing.in_doubt_since,
        "possible_duplicate": standing.possible_duplicate,
        "last": _result(standing.last) if standing.last else None,
    }


def _result(result: DeliveryResult) -> Json:
    """One result with all that P3 asks for."""
    told = {
        "recipient": str(result.recipient.mailbox),
        "delivered": result.delivered,
        "stage": result.stage,
        "host": result.host,
        "tls": result.tls,
        "reply": str(result.reply) if result.reply else None,
        "in_doubt": result.in_doubt,
    }
    diagnosis = result.diagnosis
    if diagnosis is None:
        return told
    return told | {
        "action": diagnosis.action,
        "category": diagnosis.category,
        "scope": diagnosis.scope,
        "message": diagnosis.message,
        "code": diagnosis.code,
        "status": diagnosis.status,
        "rule": diagnosis.rule,
    }


def step_json(step: Step) -> Json:
    """One step of a timeline."""
    return {
        "at": step.at,
        "what": step.what,
        "note": step.note,
        "attempt": _attempt(step.attempt) if step.attempt else None,
    }


def _attempt(attempt: Attempt) -> Json:
    return {
        "started": attempt.started,
        "ended": attempt.ended,
        "trail": list(attempt.trail),
        "results": [_result(result) for result in attempt.results],
    }


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


# The socket


class ControlProtocol(LineReceiver):
    """One connection of the command: a request a line, answered before the next."""

    delimiter = b"\n"
    MAX_LENGTH = REQUEST_LIMIT

    def __init__(self, factory: "ControlFactory") -> None:
        self._factory = factory
        self._asked: Deferred[None] | None = None

    @override
    def connectionMade(self) -> None:
        """Count ourselves in; too many at once are told so."""
        if not self._factory.joined(self):
            self._answer({"error": "too many commands at once; try again"})
            self._close()

    @override
    def connectionLost(self, reason: object = None) -> None:
        """Count ourselves out; what was asked for is still done."""
        self._factory.left(self)

    @override
    def lineReceived(self, line: bytes) -> None:
        """Take a request, and no other until it is answered."""
        self.pauseProducing()
        asked = Deferred.fromCoroutine(self._obey(line))
        self._asked = asked.addErrback(self._factory.broken).addCallback(self._answered)

    @override
    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a request of endless length."""
        self._answer({"error": f"a request is at most {REQUEST_LIMIT} octets"})
        self._close()

    async def _obey(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"error": "the request is not JSON"}
        if not isinstance(request, dict):
            return {"error": "the request is no JSON object"}
        return await self._factory.commands.obey(request)

    def _answered(self, answer: Json) -> None:
        self._answer(answer)
        self.resumeProducing()

    def _answer(self, answer: Json) -> None:
        if self.transport is not None:
            self.sendLine(json.dumps(answer).encode())

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class ControlFactory(ServerFactory):
    """Makes the connections of the control socket, a bounded number at a time.

    Who may connect is the socket file's mode: 0600, in a directory of ours.
    """

    noisy = False

    def __init__(self, commands: Commands, emit: Emit) -> None:
        self.commands = commands
        self._emit = emit
        self._connections: set[ControlProtocol] = set()

    @override
    def buildProtocol(self, addr: IAddress | None) -> ControlProtocol:
        """Make one connection."""
        return ControlProtocol(self)

    def joined(self, connection: ControlProtocol) -> bool:
        """Note a connection, if there is room for it."""
        if len(self._connections) >= CONNECTION_LIMIT:
            return False
        self._connections.add(connection)
        return True

    def left(self, connection: ControlProtocol) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def close(self) -> None:
        """Close all connections, at shutdown."""
        for connection in list(self._connections):
            if connection.transport is not None:
                connection.transport.loseConnection()

    def broken(self, failure: Any) -> Json:
        """Turn a bug into an answer and an event; the connection lives on."""
        text = f"{failure.type.__name__}: {failure.getErrorMessage()}"
        self._emit(Trouble("control", f"a command failed: {text}", "report this bug"))
        return {"error": f"the server could not do it: {text}"}


def pages(call: Callable[[Json], Json], request: Json) -> Iterator[Json]:
    """Ask for page after page until there is none left."""
    after: object = request.get("after")
    while True:
        answer = call(request if after is None else request | {"after": after})
        yield answer
        after = answer.get("next")
        if after is None:
            return
