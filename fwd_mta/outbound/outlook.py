"""What would happen if a message to an address came now: asked of DNS, nothing sent.

Doorway: `outlook(mailbox, table, resolver, settings)`.
"""

from dataclasses import dataclass, field

from fwd_mta.interfaces import Resolver
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.route import CannotSay, Destination, Exchanger, Found, Via
from fwd_mta.outbound.agent import AgentSettings
from fwd_mta.rules import exchangers
from fwd_mta.rules.routing import RoutingTable, decided_by, route


@dataclass(frozen=True, slots=True)
class Stop:
    """One host that would be tried: its addresses, and what speaks against it."""

    name: str
    preference: int | None = None
    addresses: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The way of a message: who decides it, over which hosts, with which TLS.

    `trouble` says why it would not leave, or not now; empty: it would be tried.
    """

    via: str
    decided_by: str
    tls: str
    stops: tuple[Stop, ...] = field(default=())
    trouble: str = ""


_WORDS = {
    Via.MX: "by the mail exchangers of {0.next_hop}, port {0.port}",
    Via.HOST: "to {0.next_hop}, port {0.port}",
    Via.LMTP: "by LMTP to {0.next_hop}",
    Via.DISCARD: "nowhere: it is taken and thrown away",
    Via.ERROR: "nowhere: it is refused with {0.next_hop}",
}
_TLS = {
    "none": "never",
    "may": "if the host offers it; in clear otherwise",
    "encrypt": "always, whoever the host says it is",
    "secure": "always, and the certificate must be right",
}


async def outlook(
    mailbox: Mailbox, table: RoutingTable, resolver: Resolver, settings: AgentSettings
) -> Outlook:
    """Look where an address leads, without sending anything."""
    way = route(mailbox, table)
    via = _WORDS[way.via].format(way)
    decides = decided_by(mailbox, table)
    if way.via in {Via.DISCARD, Via.ERROR}:
        return Outlook(via, decides, "")
    tls = f"{way.tls}: {_TLS[way.tls]}"
    named = await _named(way, resolver, settings)
    if isinstance(named, exchangers.Unroutable):
        return Outlook(via, decides, tls, trouble=_fate(named))
    stops = tuple([await _stop(one, way, resolver, settings) for one in named])
    dead = all(stop.trouble for stop in stops)
    trouble = "no host can be tried; it would wait, or fail" if dead else ""
    return Outlook(via, decides, tls, stops, trouble)


async def _named(
    way: Destination, resolver: Resolver, settings: AgentSettings
) -> tuple[Exchanger, ...] | exchangers.Unroutable:
    """The names to try, in order; equal ones as DNS gave them."""
    if way.via is not Via.MX:
        return (Exchanger(0, way.next_hop),)
    answer = await resolver.exchangers(way.next_hop)
    ourselves = {settings.hostname.lower(), *settings.own_names}
    return exchangers.order(way.next_hop, answer, frozenset(ourselves), lambda: 0.0)


def _fate(found: exchangers.Unroutable) -> str:
    waits = found.kind == "dns-failure"
    return f"{found.detail}: it would {'wait and be tried again' if waits else 'fail'}"


async def _stop(
    one: Exchanger, way: Destination, resolver: Resolver, settings: AgentSettings
) -> Stop:
    preference = one.preference if way.via is Via.MX else None
    if one.name.startswith("unix:") or exchangers.is_address(one.name):
        found: tuple[str, ...] = (one.name,)
    else:
        answer = await resolver.addresses(one.name)
        if isinstance(answer, CannotSay):
            return Stop(
                one.name, preference, (), f"cannot be looked up: {answer.reason}"
            )
        found = answer.records if isinstance(answer, Found) else ()
    free = way.trusted or settings.allow_private_destinations
    usable = tuple(
        each
        for each in found
        if free or exchangers.is_public(each, settings.own_addresses)
    )
    if not found:
        return Stop(one.name, preference, (), "has no address")
    if not usable:
        why = f"leads to {', '.join(found)}, where no mail of strangers goes"
        return Stop(one.name, preference, (), why)
    return Stop(one.name, preference, exchangers.interleave(usable))
