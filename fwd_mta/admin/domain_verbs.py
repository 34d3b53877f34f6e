"""`fwdmta domain new`: the DNS records of a domain that sends through us."""

from collections.abc import Callable, Iterator, Sequence

import dns.exception
import dns.resolver

from fwd_mta.admin.command import (
    DONE,
    NO,
    Options,
    Surroundings,
    complain,
    configuration_of,
    print_lines,
)
from fwd_mta.config import Configuration
from fwd_mta.kinds import DOMAIN, Wrong
from fwd_mta.net.disk import SystemDisk
from fwd_mta.net.small_file import read_whole
from fwd_mta.rules.zone import Wanted, fault, wanted
from fwd_mta.settings import CannotServeError, signing_keys_of

LookUp = Callable[[str, str], Sequence[str]]
_PAUSE = 10.0
_PATIENCE = 5.0


def new(options: Options, world: Surroundings) -> int:
    """`domain new DOMAIN`: print the records; --verify waits until all is right."""
    configuration = configuration_of(options)
    try:
        domain = DOMAIN.read(options.domain)
        records = tuple(_records(domain, configuration, options.report_to))
    except Wrong as wrong:
        return complain(NO, f"{wrong}; allowed: {DOMAIN.allowed}")
    except CannotServeError as error:
        return complain(NO, *error.lines)
    print_lines(_zone(records))
    if not any("_domainkey" in one.name for one in records):
        key = f"fwdmta dkim new {domain}"
        print(f"\n; there is no key that signs for {domain}: {key} makes one")
    if not options.verify:
        return DONE
    return _verify(records, world, look_up(configuration), options.timeout)


def _records(
    domain: str, configuration: Configuration, report_to: str | None
) -> Iterator[Wanted]:
    keys = signing_keys_of(configuration, lambda path: read_whole(SystemDisk(), path))
    return wanted(
        domain,
        configuration.hostname,
        addresses=configuration.delivery.source_addresses,
        keys=[key for key in keys if key.domain == domain],
        report_to=report_to or "",
    )


def _zone(records: Sequence[Wanted]) -> Iterator[str]:
    for record in records:
        yield f"; {record.why}"
        yield record.line


def look_up(configuration: Configuration) -> LookUp:
    """Ask the name servers of the configuration, or those of the system.

    Gives the records of a name and kind as text; none where there is none, and none
    where nobody can say.
    """
    servers = configuration.dns.nameservers
    resolver = dns.resolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers = [
            dns.nameserver.Do53Nameserver(address, port) for address, port in servers
        ]

    def ask(name: str, kind: str) -> Sequence[str]:
        try:
            answer = resolver.resolve(name, kind, lifetime=_PATIENCE)
        except dns.exception.DNSException:
            return ()
        if kind == "TXT":
            return [b"".join(one.strings).decode("utf-8", "replace") for one in answer]
        return [one.to_text() for one in answer]

    return ask


def _verify(
    records: Sequence[Wanted], world: Surroundings, ask: LookUp, timeout: float
) -> int:
    """Look until all that is needed is right, or the time is over."""
    end = world.wall.now() + timeout
    while True:
        faults = [(one, fault(one, ask(one.name, one.kind))) for one in records]
        wrong = [f"{one.name} {one.kind}: {said}" for one, said in faults if said]
        needed = [one.name for one, said in faults if said and one.needed]
        if not needed or world.wall.now() + _PAUSE > end:
            break
        world.pause(_PAUSE)
    if needed:
        return complain(NO, *wrong)
    print("\n; all that mail needs is published and right")
    print_lines(f"; not needed, and not right: {line}" for line in wrong)
    return DONE
