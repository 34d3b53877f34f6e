"""What would happen if a message to an address came now: asked of DNS, nothing sent.

Doorway: `outlook(mailbox, table, resolver, settings)`.
"""

from dataclasses import dataclass, field

from fwd_mta.interfaces import Resolver
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.route import (
    CannotSay,
    Destination,
    Exchanger,
    Found,
    TlsLevel,
    Via,
)
from fwd_mta.outbound.agent import AgentSettings
from fwd_mta.outbound.policies import Policies
from fwd_mta.rules import exchangers, security
from fwd_mta.rules.routing import RoutingTable, decided_by, route
from fwd_mta.rules.sts import Policy


@dataclass(frozen=True, slots=True)
class Stop:
    """One host that would be tried: its addresses, and what speaks against it.

    `tls`: what raises the TLS that is demanded of it, DANE or MTA-STS.
    """

    name: str
    preference: int | None = None
    addresses: tuple[str, ...] = ()
    trouble: str = ""
    tls: str = ""


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
    mailbox: Mailbox,
    table: RoutingTable,
    resolver: Resolver,
    settings: AgentSettings,
    policies: Policies | None = None,
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
    policy = await _policy(way, policies)
    if policy is not None:
        tls += f"; MTA-STS of {way.next_hop} says {policy.mode.value}"
    stops = tuple([await _stop(one, way, resolver, settings, policy) for one in named])
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


async def _policy(way: Destination, policies: Policies | None) -> Policy | None:
    """The MTA-STS policy that has a say."""
    if policies is None or way.via is not Via.MX or way.tls is TlsLevel.NONE:
        return None
    return await policies.of(way.next_hop)


def _fate(found: exchangers.Unroutable) -> str:
    waits = found.kind == "dns-failure"
    return f"{found.detail}: it would {'wait and be tried again' if waits else 'fail'}"


async def _stop(
    one: Exchanger,
    way: Destination,
    resolver: Resolver,
    settings: AgentSettings,
    policy: Policy | None,
) -> Stop:
    preference = one.preference if way.via is Via.MX else None
    secure = False
    if one.name.startswith("unix:") or exchangers.is_address(one.name):
        found: tuple[str, ...] = (one.name,)
    else:
        answer = await resolver.addresses(one.name)
        if isinstance(answer, CannotSay):
            return Stop(
                one.name, preference, (), f"cannot be looked up: {answer.reason}"
            )
        found = answer.records if isinstance(answer, Found) else ()
        secure = isinstance(answer, Found) and answer.secure
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
    demand = await _demand(one.name, way, resolver, policy, secure=secure)
    usable = exchangers.interleave(usable)
    if isinstance(demand, str):
        return Stop(one.name, preference, (), demand)
    return Stop(one.name, preference, usable, "", demand.why)


async def _demand(
    name: str,
    way: Destination,
    resolver: Resolver,
    policy: Policy | None,
    *,
    secure: bool,
) -> security.Demand | str:
    """The TLS that is demanded of a host; text: why it would not be used."""
    if secure and way.via is Via.MX and way.tls is not TlsLevel.NONE:
        answer = await resolver.tlsa(name, way.port)
        demand = security.by_records(way.tls, answer, (name,))
        if demand is not None:
            return demand
    return security.by_policy(way.tls, policy, name)
