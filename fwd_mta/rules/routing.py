"""Where each recipient goes next: the transport table, the relayhost, or its MX."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.route import Destination, TlsLevel, Via

_LMTP_PORT = 24
_KNOWN = 10_000
_ERROR = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3} +\S.*\Z")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,253}[A-Za-z0-9_])?\.?\Z")
_ALLOWED = (
    'use "[host]:port", "host", "mx", "lmtp:unix:/path", "lmtp:host:port", '
    '"discard" or "error:5.1.1 text"'
)


@dataclass(frozen=True)
class RoutingTable:
    """What an operator says about next hops (SPEC [delivery], [delivery.transport]).

    Keys of `transports` come from `parse_key`. `port` and `tls` are for hosts that the
    table does not name.
    """

    relayhost: Destination | None = None
    transports: Mapping[str, Destination] = field(default_factory=dict)
    port: int = 25
    tls: TlsLevel = TlsLevel.MAY
    tls_policies: Mapping[str, TlsLevel] = field(default_factory=dict)
    _known: dict[str, Destination] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def level(self, domain: str) -> TlsLevel | None:
        """What `[[delivery.tls_policy]]` says about a domain, the most specific one."""
        found = (self.tls_policies.get(key) for key in _keys(domain))
        return next((one for one in found if one is not None), None)


def parse_key(text: str) -> str:
    """Read a key of the table: "domain", ".domain" (all below it) or "*"."""
    name = text.removeprefix(".")
    if text == "*" or (name.startswith("[") and name.endswith("]")):
        return text.lower()
    key = Mailbox("", name).key[1].removesuffix(".")
    if not _HOST.match(key):
        raise SyntaxFault(f'"{text}" is no domain; use "domain", ".domain" or "*"')
    return "." + key if text.startswith(".") else key


def parse_transport(
    text: str, *, port: int = 25, tls: TlsLevel = TlsLevel.MAY
) -> Destination:
    """Read a value of the table; `port` and `tls` are the defaults of its hosts.

    Raises SyntaxFault in plain words.
    """
    kind, _, rest = text.partition(":")
    if text == "mx":
        return Destination(Via.MX, "", port, tls)
    if text == "discard":
        return Destination(Via.DISCARD, "", 0)
    if kind == "error":
        return _error(rest.strip())
    if kind == "lmtp":
        return _lmtp(rest, tls)
    host, port = _host_and_port(text, port)
    via = Via.HOST if text.startswith("[") else Via.MX
    return Destination(via, host, port, tls, trusted=True)


def _error(words: str) -> Destination:
    if not _ERROR.match(words):
        raise SyntaxFault(
            f'"error:{words}" needs a code and a text: "error:5.1.1 text"'
        )
    return Destination(Via.ERROR, words, 0)


def _lmtp(rest: str, tls: TlsLevel) -> Destination:
    if rest.startswith("unix:"):
        if not rest.startswith("unix:/"):
            raise SyntaxFault(
                f'"lmtp:{rest}" needs an absolute path: "lmtp:unix:/path"'
            )
        return Destination(Via.LMTP, rest, 0, TlsLevel.NONE, trusted=True)
    host, port = _host_and_port(rest, _LMTP_PORT)
    return Destination(Via.LMTP, host, port, tls, trusted=True)


def _host_and_port(text: str, port: int) -> tuple[str, int]:
    host, colon, digits = text.strip(), "", ""
    if host.startswith("["):
        host, closing, after = host[1:].partition("]")
        colon, digits = after[:1], after[1:]
        if not closing or colon not in {"", ":"}:
            raise SyntaxFault(f'"{text}" is no next hop; {_ALLOWED}')
    elif host.count(":") <= 1:
        host, colon, digits = host.partition(":")
    host = host.removeprefix("IPv6:").lower().removesuffix(".")
    if not (_HOST.match(host) or _literal(host)):
        raise SyntaxFault(f'"{text}" is no next hop; {_ALLOWED}')
    return host, _port(text, digits) if colon else port


def _port(text: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) < 65536):
        raise SyntaxFault(f'"{text}" has no port from 1 to 65535 after its colon')
    return int(digits)


def route(mailbox: Mailbox, table: RoutingTable) -> Destination:
    """Find a mailbox's next hop: most specific key, relayhost, then what DNS says.

    Its TLS level is the domain's, where one is written down; a relayhost has its own.
    """
    known = table._known  # noqa: SLF001 - what this function found before
    found = known.get(mailbox.domain)
    if found is None:
        found = _found(mailbox.key[1].removesuffix("."), table)
        if len(known) >= _KNOWN:
            known.clear()
        known[mailbox.domain] = found
    return found


def _found(domain: str, table: RoutingTable) -> Destination:
    found = _route(domain, table)
    level = table.level(domain) if table.tls_policies else None
    if level is None or found is table.relayhost or not found.port:
        return found
    return replace(found, tls=level)


def _route(domain: str, table: RoutingTable) -> Destination:
    for key in _keys(domain):
        found = table.transports.get(key)
        if found is not None:
            return (
                found
                if found.next_hop or found.via is not Via.MX
                else _by_dns(domain, replace(found, next_hop=domain))
            )
    if table.relayhost is not None:
        return table.relayhost
    return _by_dns(domain, Destination(Via.MX, domain, table.port, table.tls))


def decided_by(mailbox: Mailbox, table: RoutingTable) -> str:
    """Name the setting that `route` goes by; "DNS" where there is none."""
    for key in _keys(mailbox.key[1].removesuffix(".")):
        if key in table.transports:
            return f'delivery.transport, "{key}"'
    return "DNS" if table.relayhost is None else "delivery.relayhost"


def _keys(domain: str) -> Iterator[str]:
    yield domain
    if not domain.startswith("["):
        labels = domain.split(".")
        for place in range(1, len(labels)):
            yield "." + ".".join(labels[place:])
    yield "*"


def _by_dns(domain: str, usual: Destination) -> Destination:
    """Take the MX of a domain, or the very host that a literal names."""
    if not domain:
        return Destination(Via.ERROR, "5.1.3 The address has no domain", 0)
    if not domain.startswith("["):
        return usual
    address = _literal(domain[1:-1].removeprefix("ipv6:"))
    if address is None:
        return Destination(Via.ERROR, f"5.1.3 {domain} is no address that we know", 0)
    return replace(usual, via=Via.HOST, next_hop=address)


def _literal(text: str) -> str | None:
    for family in (IPv4Address, IPv6Address):
        try:
            return str(family(text))
        except ValueError:
            continue
    return None


def group(
    recipients: Iterable[Recipient], table: RoutingTable, via: str = ""
) -> dict[Destination, tuple[Recipient, ...]]:
    """Group recipients by where they go next, in the order they came.

    `via` is a next hop that an operator chose for all of them.
    """
    if via:
        table = RoutingTable(
            transports={"*": parse_transport(via, port=table.port, tls=table.tls)},
            port=table.port,
            tls=table.tls,
            tls_policies=table.tls_policies,
        )
    groups: dict[Destination, list[Recipient]] = {}
    last: Destination | None = None
    members: list[Recipient] = []
    for recipient in recipients:
        destination = route(recipient.mailbox, table)
        if destination is not last:
            members = groups.setdefault(destination, [])
            last = destination
        members.append(recipient)
    return {destination: tuple(members) for destination, members in groups.items()}
