"""What operators change: what it makes of an entry, and of which it cannot be made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fwd_mta.interfaces import Change
from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.rules import retention, settlement
from fwd_mta.rules.routing import parse_transport


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator wants, and why; `by` is who, `to` where a route leads."""

    at: float
    reason: str = ""
    by: str = "an operator"
    to: str = ""

    @property
    def note(self) -> str:
        """The line for the timeline."""
        way = f", to {self.to}" if self.to else ""
        return f"by {self.by}{way}" + (f": {self.reason}" if self.reason else "")

    @property
    def why(self) -> str:
        """The reason that is kept with a hold."""
        return self.reason or f"by {self.by}"


def _none(order: Order) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One change: what it makes of an entry, and of which it cannot be made.

    `objection`: why an order cannot be obeyed, whatever the entry.
    """

    past: str
    make: Callable[[Order], Change]
    refusal: Callable[[QueueEntry], str]
    objection: Callable[[Order], str] = _none


def _finished(entry: QueueEntry) -> str:
    return f"is finished: {entry.status}" if entry.is_final else ""


def _not_kept(entry: QueueEntry) -> str:
    if not entry.is_final or entry.owed:
        return "is not finished; it is kept until then"
    return ""


CHANGES: Mapping[str, Kind] = {
    "keep": Kind(
        "kept",
        lambda order: lambda entry: retention.keep(entry, order.why),
        lambda entry: (
            _not_kept(entry) or ("is kept already" if entry.held is not None else "")
        ),
    ),
    "let-go": Kind(
        "let-go",
        lambda order: retention.let_go,
        lambda entry: _not_kept(entry) or ("is not kept" if entry.held is None else ""),
    ),
    "hold": Kind(
        "held",
        lambda order: lambda entry: settlement.hold(entry, order.why),
        lambda entry: _finished(entry) or ("is on hold already" if entry.held else ""),
    ),
    "release": Kind(
        "released",
        lambda order: lambda entry: settlement.release(entry, order.at),
        lambda entry: (
            _finished(entry) or ("is not on hold" if entry.held is None else "")
        ),
    ),
    "retry": Kind(
        "retried",
        lambda order: lambda entry: settlement.retry_now(entry, order.at),
        lambda entry: (
            _finished(entry)
            or ("is on hold; release it" if entry.held is not None else "")
        ),
    ),
    "cancel": Kind(
        "cancelled",
        lambda order: lambda entry: settlement.cancel(entry, order.at),
        _finished,
    ),
    "route": Kind(
        "routed",
        lambda order: lambda entry: settlement.reroute(entry, order.to, order.at),
        _finished,
        lambda order: _no_way(order.to),
    ),
}


def _no_way(text: str) -> str:
    """Why mail cannot be sent that way; nothing when it can, or by the usual one."""
    try:
        if text:
            parse_transport(text)
    except SyntaxFault as fault:
        return str(fault)
    return ""
