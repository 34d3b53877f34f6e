"""Which exchangers to try, in which order, at which addresses (RFC 5321 5.1)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from fwd_mta.mail.route import CannotSay, Exchanger, Found, NoSuchName

_MOST_EXCHANGERS = 20
_MOST_ADDRESSES = 5


@dataclass(frozen=True, slots=True)
class Unroutable:
    """Why a domain has no exchanger to try.

    `kind` is one of "no-such-domain", "null-mx", "no-usable-exchanger", "loop",
    "dns-failure"; `detail` says it in words.
    """

    kind: str
    detail: str


def order(
    domain: str,
    answer: Found[Exchanger] | NoSuchName | CannotSay,
    ourselves: frozenset[str],
    chance: Callable[[], float],
) -> tuple[Exchanger, ...] | Unroutable:
    """Put a domain's exchangers into the order to try them, equal ones shuffled.

    No MX record means the domain itself (RFC 5321 5.1), a lone "." that it takes no
    mail (RFC 7505). `ourselves` are our host names in lower case.
    """
    match answer:
        case NoSuchName():
            return Unroutable("no-such-domain", f"the domain {domain} does not exist")
        case CannotSay():
            detail = f"the look-up of {answer.name} failed: {answer.reason}"
            return Unroutable("dns-failure", detail)
        case Found(records=()):
            return _usable(domain, [Exchanger(0, domain)], ourselves)
        case Found(records=(Exchanger(name="" | "."),)):
            return Unroutable("null-mx", f"the domain {domain} takes no mail")
        case Found():
            shuffled = sorted(
                answer.records, key=lambda each: (each.preference, chance())
            )
            return _usable(domain, shuffled, ourselves)


def _usable(
    domain: str, ordered: list[Exchanger], ourselves: frozenset[str]
) -> tuple[Exchanger, ...] | Unroutable:
    named = list(_named(ordered))
    if not named:
        detail = f"no exchanger of {domain} has a usable name"
        return Unroutable("no-usable-exchanger", detail)
    ours = [each.preference for each in named if each.name in ourselves]
    better = [each for each in named if not ours or each.preference < min(ours)]
    if not better:
        detail = f"the best exchanger of {domain} is this host"
        return Unroutable("loop", detail)
    return tuple(better[:_MOST_EXCHANGERS])


def site(domain: str, answer: Found[Exchanger] | NoSuchName | CannotSay) -> str:
    """Name the site of a domain: its exchangers, in whatever order they are liked.

    A domain without any that DNS would tell is a site of its own.
    """
    records = answer.records if isinstance(answer, Found) else ()
    return " ".join(sorted(each.name for each in _named(records))) or domain


def _named(exchangers: Iterable[Exchanger]) -> Iterable[Exchanger]:
    """Names once each; a null name among others or an address is no host name."""
    seen: set[str] = set()
    for each in exchangers:
        name = each.name.lower().removesuffix(".")
        if name and name not in seen and not is_address(name):
            seen.add(name)
            yield Exchanger(each.preference, name)


@lru_cache(maxsize=1024)
def is_address(text: str) -> bool:
    """Whether the text is a numeric address, of either family."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def share(exchangers: int) -> int:
    """How many addresses of one exchanger a try may take, so that others get a turn."""
    return max(2, -(-_MOST_ADDRESSES // max(1, exchangers)))


def interleave(
    addresses: Sequence[str], limit: int = _MOST_ADDRESSES
) -> tuple[str, ...]:
    """Take turns between the families, beginning with that of the first address."""
    first = [each for each in addresses if (":" in each) == (":" in addresses[0])]
    second = [each for each in addresses if each not in first]
    mixed: list[str] = []
    for place in range(max(len(first), len(second))):
        mixed += first[place : place + 1] + second[place : place + 1]
    return tuple(mixed[:limit])


_CLOSED = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private, RFC 1918
        "100.64.0.0/10",  # shared by a carrier, RFC 6598
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/128",
        "::1/128",
        "fc00::/7",  # private, RFC 4193
        "fe80::/10",
        "fec0::/10",  # site-local, of old
        "ff00::/8",
    )
)
_NAT64 = ip_network("64:ff9b::/96")


def is_public(address: str, own: frozenset[str]) -> bool:
    """Whether a stranger's DNS may send us there: not inside, not to ourselves.

    An IPv6 address that carries an IPv4 one is judged by both.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return all(_is_open(each, own) for each in _meant(parsed))


def _meant(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address in _NAT64 or int(address) >> 32 == 0:
        return [address, IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address]


def _is_open(address: IPv4Address | IPv6Address, own: frozenset[str]) -> bool:
    return str(address) not in own and not any(address in net for net in _CLOSED)
