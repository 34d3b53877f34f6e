"""What a request to the running server is: a JSON object, read here word by word."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from fwd_mta.mail.entry import Category, EntryFilter, Status
from fwd_mta.rules.identity import is_entry_id

Json = dict[str, Any]
Verb = Callable[[Json], Awaitable[Json]]


class CommandError(Exception):
    """What was asked cannot be done; `str()` is the line for the person who asked."""


def text_of(request: Json, key: str, default: str | None = None) -> str:
    """One word of a request; raises CommandError when it is not there."""
    value = request.get(key, default)
    if not isinstance(value, str):
        raise CommandError(f"the request has no {key}")
    return value


def number_of(request: Json, key: str) -> int:
    """One number of a request, zero when it is not there."""
    value = request.get(key) or 0
    if not isinstance(value, int) or value < 0:
        raise CommandError(f"{key} is no number")
    return value


def id_of(request: Json) -> str:
    """The id that a request is about; raises CommandError when it can be none."""
    entry_id = text_of(request, "id")
    if not is_entry_id(entry_id):
        raise unknown(entry_id)
    return entry_id


def unknown(entry_id: str) -> CommandError:
    """Say that there is no such message."""
    return CommandError(f"no message {entry_id} is known; see `fwdmta queue list`")


def entry_filter(request: Json, now: float) -> EntryFilter:
    """Read a filter from a request; raises CommandError on words it does not know."""
    older_than, newer_than = request.get("older_than"), request.get("newer_than")
    sender, to, account, domain = (
        None if request.get(name) is None else text_of(request, name)
        for name in ("from", "to", "account", "domain")
    )
    try:
        ids = tuple(map(str, request.get("ids") or ()))
        states = tuple(Status(state) for state in request.get("states") or ())
        category = Category(request["category"]) if request.get("category") else None
        queued_before = None if older_than is None else now - float(older_than)
        queued_after = None if newer_than is None else now - float(newer_than)
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
        queued_after=queued_after,
        held=bool(request.get("held")),
        message_id=_message_id(request),
        finished=bool(request.get("finished")),
        after=text_of(request, "after", ""),
    )


def _message_id(request: Json) -> str | None:
    """A Message-ID as it stands in the field, with or without its brackets asked."""
    if request.get("message_id") is None:
        return None
    name = text_of(request, "message_id").strip()
    return name if name.startswith("<") else f"<{name}>"


def pages(call: Callable[[Json], Json], request: Json) -> Iterator[Json]:
    """Ask for page after page until there is none left."""
    after: object = request.get("after")
    while True:
        answer = call(request if after is None else request | {"after": after})
        yield answer
        after = answer.get("next")
        if after is None:
            return
