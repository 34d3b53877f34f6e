"""`fwdmta check --deep`: what the world sees of us, certificates' ends, the disk.

Each finding has a state, what was looked at, what was found and what to do.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from statistics import median

from cryptography import x509

from fwd_mta.admin.domain_verbs import LookUp
from fwd_mta.config import Configuration
from fwd_mta.interfaces import Disk
from fwd_mta.net.small_file import read_whole, replace_whole
from fwd_mta.rules.zone import fault, wanted
from fwd_mta.settings import CannotServeError, signing_keys_of

OK, WARN, FAIL = "ok", "warn", "FAIL"
_SOON = 14  # days in which a certificate ends: it should have been renewed
_SYNCS = 7
_SLOW = 0.05  # seconds a sync, above which every 250 is slow


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: str
    what: str
    found: str
    cure: str = ""


def findings(
    configuration: Configuration, ask: LookUp, disk: Disk, now: float
) -> Iterator[Finding]:
    """Look at everything, the quick first."""
    yield from _certificates(configuration, disk, now)
    yield _disk(configuration, disk)
    yield from _names(configuration, ask)
    yield from _domains(configuration, disk, ask)


def _certificates(
    configuration: Configuration, disk: Disk, now: float
) -> Iterator[Finding]:
    tls = configuration.tls
    for path in (tls.certificate, *(one.certificate for one in tls.sni)):
        what = f"certificate {path}"
        try:
            [leaf, *_] = x509.load_pem_x509_certificates(read_whole(disk, path))
        except (OSError, ValueError) as error:
            yield Finding(FAIL, what, f"cannot be read: {error}", "see fwdmta check")
            continue
        days = int((leaf.not_valid_after_utc.timestamp() - now) // 86400)
        ends = f"{leaf.not_valid_after_utc:%Y-%m-%d}, in {days} days"
        state = OK if days > _SOON else WARN if days >= 0 else FAIL
        cure = "" if state == OK else "renew it, then reload (etc/certbot)"
        yield Finding(state, what, f"ends {ends}", cure)


def _disk(configuration: Configuration, disk: Disk) -> Finding:
    """How long a small file takes to be durable, which every 250 waits for."""
    path = f"{configuration.state_dir}/.check"
    what, times = f"disk of {configuration.state_dir}", []
    try:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            replace_whole(disk, path, b"x" * 4096)
            times.append(time.perf_counter() - began)
        disk.remove(path)
    except OSError as error:
        cure = "run this as the server's user, and see that the disk can be written"
        return Finding(WARN, what, f"cannot be written: {error.strerror}", cure)
    took = median(times)
    slow = took > _SLOW
    cure = "a disk with a faster sync makes every message faster" if slow else ""
    found = f"a small file is durable after {took * 1000:.1f} ms"
    return Finding(WARN if slow else OK, what, found, cure)


def _names(configuration: Configuration, ask: LookUp) -> Iterator[Finding]:
    """Our name has addresses, and each address has our name (RFC 5321 4.1.4)."""
    host = configuration.hostname
    addresses = [*ask(host, "A"), *ask(host, "AAAA")]
    if addresses:
        yield Finding(OK, f"name {host}", ", ".join(addresses))
    else:
        cure = f"publish: {host}. IN A <the address of this server>"
        yield Finding(FAIL, f"name {host}", "has no address", cure)
    for address in configuration.delivery.source_addresses or addresses:
        yield _reverse(address, host, ask)


def _reverse(address: str, host: str, ask: LookUp) -> Finding:
    pointer = ip_address(address).reverse_pointer
    names = [name.rstrip(".").lower() for name in ask(pointer, "PTR")]
    what, cure = f"address {address}", f"publish: {pointer}. IN PTR {host}."
    if not names:
        return Finding(FAIL, what, "has no name (PTR)", cure)
    kinds = ("A", "AAAA")
    back = {one for name in names for kind in kinds for one in ask(name, kind)}
    if ip_address(address) not in {ip_address(one) for one in back}:
        said = f"is named {names[0]}, which does not lead back to it"
        return Finding(FAIL, what, said, cure)
    state = OK if host.lower() in names else WARN
    return Finding(state, what, f"is named {names[0]}", "" if state == OK else cure)


def _domains(
    configuration: Configuration, disk: Disk, ask: LookUp
) -> Iterator[Finding]:
    """What each domain that we sign for publishes."""
    try:
        keys = signing_keys_of(configuration, lambda path: read_whole(disk, path))
    except CannotServeError as error:
        yield Finding(FAIL, "dkim", error.lines[0], "see fwdmta check")
        return
    if not keys:
        cure = "fwdmta dkim new DOMAIN, for each domain that sends"
        yield Finding(WARN, "dkim", "no domain's mail is signed", cure)
    addresses: Sequence[str] = configuration.delivery.source_addresses
    for domain in sorted({key.domain for key in keys}):
        mine = [key for key in keys if key.domain == domain]
        for record in wanted(
            domain, configuration.hostname, addresses=addresses, keys=mine
        ):
            said = fault(record, ask(record.name, record.kind))
            what = f"{record.name} {record.kind}"
            wrong = FAIL if record.needed else WARN
            yield Finding(
                wrong if said else OK,
                what,
                said or "is right",
                f"publish: {record.line}" if said else "",
            )
