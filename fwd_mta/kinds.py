"""How one value of the configuration is read, and what is allowed there, in words.

Durations, sizes, networks, addresses: each a `Kind`. A kind takes what TOML gave and
returns a value of ours, or raises `Wrong` saying what it saw. May import: `mail`,
`rules`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import PurePath
from typing import Generic, TypeVar, overload
from urllib.parse import urlsplit

from fwd_mta.mail.address import Mailbox, parse_mailbox
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.route import Via
from fwd_mta.rules.routing import parse_key, parse_transport

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

Network = IPv4Network | IPv6Network


class Wrong(Exception):
    """A value that its kind does not take; `str()` says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How a value is read; `allowed` says what is, for the person who wrote it."""

    allowed: str
    read: Callable[[object], T]


_TYPES = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"is {_TYPES.get(type(value), 'a date')}, not text in quotes")
    if not value.isprintable():
        raise Wrong(f"{value!r} holds a control character")
    return value


def _some_text(value: object) -> str:
    text = _text(value)
    if not text.strip():
        raise Wrong("is empty")
    return text


TEXT = Kind("text in quotes", _some_text)


def _yes_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"{value!r} is not true or false")
    return value


YES_NO = Kind("true or false, without quotes", _yes_no)


def count(least: int = 0, most: int | None = None) -> Kind[int]:
    """Whole numbers between two bounds."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"{value!r} is no whole number")
        if value < least or (most is not None and value > most):
            raise Wrong(f"{value} is out of bounds")
        return value

    bounds = f"{least} or more" if most is None else f"{least} to {most}"
    return Kind(f"a whole number, {bounds}, without quotes", read)


COUNT = count()
PORT = count(1, 65_535)

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd])\Z", re.ASCII)


def duration(least: float = 0.0) -> Kind[float]:
    """Durations such as "30s", in seconds."""

    def read(value: object) -> float:
        text = _text(value)
        match = _DURATION.match(text)
        if match is None and text != "0":
            raise Wrong(f'"{text}" is no duration')
        seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
        if seconds < least:
            raise Wrong(f'"{text}" is too short')
        return seconds

    zero = f'at least "{least:g}s"' if least else '"0"'
    return Kind(f'"30s", "5m", "4h", "30d", {zero}', read)


_OCTETS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SIZE = re.compile(r"(\d{1,15})([A-Za-z]*)\Z", re.ASCII)


def size(least: int = 0) -> Kind[int]:
    """Sizes such as "50MB" or "64KiB", in octets."""

    def read(value: object) -> int:
        text = _text(value)
        match = _SIZE.match(text)
        if match is None or match[2] not in _OCTETS:
            raise Wrong(f'"{text}" is no size')
        octets = int(match[1]) * _OCTETS[match[2]]
        if octets < least:
            raise Wrong(f'"{text}" is too small')
        return octets

    bound = f", at least {least} octets" if least else ""
    return Kind(f'"50MB" (50 x 10^6 octets), "64KiB" (64 x 2^10){bound}', read)


@overload
def choice(first: type[E]) -> Kind[E]: ...
@overload
def choice(first: str, *others: str) -> Kind[str]: ...
def choice(first: type[E] | str, *others: str) -> Kind[E] | Kind[str]:
    """One of some words, or of the values of an enumeration."""
    if isinstance(first, str):
        return _choice({word: word for word in (first, *others)})
    return _choice({word.value: word for word in first})


def _choice(words: dict[str, T]) -> Kind[T]:
    def read(value: object) -> T:
        text = _text(value)
        if text not in words:
            raise Wrong(f'"{text}" is none of the choices')
        return words[text]

    return Kind(", ".join(f'"{word}"' for word in words), read)


def many(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """Lists of a kind."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Wrong(f"is {_TYPES.get(type(value), 'a date')}, not a list")
        return tuple(kind.read(one) for one in value)

    return Kind(f"a list in [ ], of {kind.allowed}", read)


# Names and addresses

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z", re.ASCII)
_NAME_LIMIT = 253


def _domain(value: object) -> str:
    name = _some_text(value).removesuffix(".")
    if not name.isascii():
        raise Wrong(f'"{name}" is not ASCII: write its xn-- form')
    if len(name) > _NAME_LIMIT or not all(map(_LABEL.match, name.split("."))):
        raise Wrong(f'"{name}" is no domain name')
    return name.lower()


DOMAIN = Kind('a domain name, as in "example.com"', _domain)


def _hostname(value: object) -> str:
    name = _domain(value)
    if name.rpartition(".")[2].isdigit():
        raise Wrong(f'"{name}" is an address, not a name')
    return name


HOSTNAME = Kind('a host name, as in "mail.example.com"', _hostname)


def _mailbox(value: object) -> Mailbox | None:
    text = _text(value)
    if not text:
        return None
    try:
        return parse_mailbox(text)
    except SyntaxFault as fault:
        raise Wrong(f"is no mail address: {fault}") from fault


MAILBOX = Kind('an address, as in "you@example.com", or "" for none', _mailbox)


def _address(value: object) -> Mailbox:
    mailbox = _mailbox(value)
    if mailbox is None or not mailbox.domain:
        raise Wrong("is no full address")
    return mailbox


ADDRESS = Kind('a full address, as in "bounces@example.com"', _address)


def _login(value: object) -> str:
    found = _mailbox(_some_text(value))
    return str(found).lower()


LOGIN = Kind('a login, as in "you@example.com"', _login)


def _path(value: object) -> str:
    text = _some_text(value)
    if text.endswith("/") and text != "/":
        return text.rstrip("/")
    return text


PATH = Kind("a path; a relative one starts at the configuration file", _path)


def _ip(value: object) -> str:
    text = _text(value)
    try:
        return str(ip_address(text))
    except ValueError:
        raise Wrong(f'"{text}" is no IP address') from None


IP = Kind('an IP address, as in "192.0.2.1" or "2001:db8::1"', _ip)


def _network(value: object) -> Network:
    text = _text(value)
    try:
        return ip_network(text)
    except ValueError as error:
        raise Wrong(f'"{text}" is no network: {error}') from None


NETWORK = Kind('networks, as in "10.0.0.0/8" or "2001:db8::/32"', _network)


def _host_port(text: str) -> tuple[str, int]:
    """Read "192.0.2.1:25" or "[2001:db8::1]:25"."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit():
        raise Wrong(f'"{text}" has no :port')
    if not 0 <= int(port) <= PORT_LIMIT:
        raise Wrong(f'"{text}" has a port beyond {PORT_LIMIT}')
    if bracketed is not (":" in host):
        raise Wrong(f'"{text}" needs its IPv6 address in brackets')
    return _ip(host[1:-1] if bracketed else host), int(port)


PORT_LIMIT = 65_535
_SYSTEMD_NAME = re.compile(r"systemd:[!-9;-~]{1,255}\Z", re.ASCII)


def _listen_address(value: object) -> str:
    text = _text(value)
    if text.startswith("unix:"):
        return _unix(text)
    if text.startswith("systemd:"):
        if not _SYSTEMD_NAME.match(text):
            raise Wrong(f'"{text}" names no socket of systemd')
        return text
    _host_port(text)
    return text


def _unix(text: str) -> str:
    path = text.removeprefix("unix:")
    if not PurePath(path).is_absolute():
        raise Wrong(f'"{text}" has no absolute path')
    if len(path.encode()) > _UNIX_PATH_LIMIT:
        raise Wrong(f'"{text}" is longer than a socket\'s name can be')
    return text


_UNIX_PATH_LIMIT = 107
LISTEN_ADDRESS = Kind(
    '"0.0.0.0:465", "[::]:465" (dual stack), "unix:/path" or "systemd:NAME"',
    _listen_address,
)


def _name_server(value: object) -> tuple[str, int]:
    text = _text(value)
    try:
        return str(ip_address(text)), 53
    except ValueError:
        return _host_port(text)


NAME_SERVER = Kind('name servers, as in "127.0.0.1:53" or "[::1]:53"', _name_server)


def socket(*schemes: str) -> Kind[str]:
    """Where a program listens: "unix:/path", or "tcp:host:port"."""

    def read(value: object) -> str:
        text = _text(value)
        scheme, _, rest = text.partition(":")
        if scheme not in schemes:
            raise Wrong(f'"{text}" does not begin with {" or ".join(schemes)}:')
        if scheme == "unix":
            return _unix(text)
        host, colon, port = rest.rpartition(":")
        if not host or not colon or not port.isdigit():
            raise Wrong(f'"{text}" is not {scheme}:host:port')
        return text

    shapes = {"unix": '"unix:/path"'}
    return Kind(" or ".join(shapes.get(s, f'"{s}:host:port"') for s in schemes), read)


def _url(value: object) -> str:
    text = _some_text(value)
    parts = urlsplit(text)
    if not parts.scheme or not (parts.netloc or parts.path):
        raise Wrong(f'"{text}" is no URL')
    return text


URL = Kind('a URL, as in "https://mail.example.com/help"', _url)


# Routing


def _plainly(read: Callable[[str], object], text: str) -> object:
    """Read by a grammar of ours; its words say what is wrong."""
    try:
        return read(text)
    except SyntaxFault as fault:
        raise Wrong(str(fault)) from fault


def _transport_key(value: object) -> str:
    return str(_plainly(parse_key, _some_text(value)))


def _transport(value: object) -> str:
    text = _some_text(value)
    _plainly(parse_transport, text)
    return text


TRANSPORT_KEY = Kind(
    '"example.com", ".example.com" (all below it) or "*"', _transport_key
)
TRANSPORT = Kind(
    '"[host]:port" (no MX look-up), "host" (its MX), "mx" (the usual look-up),'
    ' "lmtp:unix:/path", "lmtp:host:port", "discard" or "error:5.1.1 text"',
    _transport,
)


def _relayhost(value: object) -> str:
    text = _transport(value)
    destination = parse_transport(text)
    if destination.via not in {Via.MX, Via.HOST} or not destination.next_hop:
        raise Wrong(f'"{text}" is no host')
    return text


RELAYHOST = Kind(
    '"[smtp.isp.example]:587" (no MX look-up) or "isp.example"', _relayhost
)
