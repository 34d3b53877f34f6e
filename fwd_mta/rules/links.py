"""Links and names that claim to be what they are not.

Pure and linear: each looks at a bounded text once. Doorways: `links_in`, `judge_links`,
`foreign_address`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from html import unescape
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from fwd_mta.mail.address import Mailbox
from fwd_mta.rules.mime import decoded

_ANCHOR = re.compile(r"<a\s[^<>]{0,4000}>", re.IGNORECASE)
_HREF = re.compile(
    r"""\shref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"']+))""", re.IGNORECASE
)
_TAG = re.compile(r"<[^<>]{0,1000}>")
_URL = re.compile(r"https?://[^\s<>\"'()]{1,2000}", re.IGNORECASE)
_SHOWN_HOST = re.compile(
    r"(?:https?://)?((?:[\w-]{1,63}\.){1,10}[^\W\d_]{2,24})(?::\d+)?(?:[/?#]\S*)?",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}")
_TEXT_AFTER = 600
_MOST = 2000
_NAMES = 4096
# Those whose letters pass for each other
_LOOK_ALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK"})
_FILES = "html htm php asp aspx jsp js css txt pdf doc docx xls xlsx zip png jpg py md"
_NOT_A_SITE = frozenset(_FILES.split())


class Link(NamedTuple):
    """Where a link leads, and the text it is shown as; empty where that is itself."""

    url: str
    text: str = ""


class Doubt(NamedTuple):
    """A rule that a link or a name breaks, and what of it."""

    rule: str
    detail: str


def may_hold_links(octets: bytes | bytearray, *, html: bool) -> bool:
    """Whether a text is worth being searched: this looks for two letters, in C."""
    if html:
        return b"<a" in octets or b"<A" in octets
    return b"://" in octets


def links_in(text: str, *, html: bool) -> Iterator[Link]:
    """The web links of a text, at most so many."""
    found = _anchors(text) if html else map(Link, _URL.findall(text))
    for count, link in enumerate(found):
        if count >= _MOST:
            return
        yield link


def _anchors(text: str) -> Iterator[Link]:
    for match in _ANCHOR.finditer(text):
        href = _HREF.search(match[0])
        if href is None:
            continue
        after = text[match.end() : match.end() + _TEXT_AFTER]
        shown = _TAG.sub(
            "", re.split(r"</a", after, maxsplit=1, flags=re.IGNORECASE)[0]
        )
        url = unescape(href[1] or href[2] or href[3] or "")
        yield Link(url.strip(), unescape(shown).strip())


def judge_links(links: Iterable[Link]) -> Iterator[Doubt]:
    """What is wrong with links."""
    for link in links:
        host = _host(link.url)
        if not host:
            continue
        if _is_raw_address(host):
            yield Doubt("raw-address-link", host)
        if _mixes_scripts(host):
            yield Doubt("mixed-script-host", host)
        shown = _SHOWN_HOST.fullmatch(link.text) if link.text else None
        if shown and _is_site(link.text, shown[1]) and not _related(shown[1], host):
            yield Doubt("link-mismatch", f"{shown[1]} leads to {host}")


def _host(url: str) -> str:
    """The host of a web link as people see it, or nothing."""
    if not url.lower().startswith(("http://", "https://")):
        return ""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return ".".join(map(_unicode, host.lower().rstrip(".").split(".")))


def _unicode(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except (UnicodeError, ValueError):
        return label


def _is_raw_address(host: str) -> bool:
    """Whether it is an address of the public network; devices at home have no name."""
    try:
        return ip_address(host).is_global
    except ValueError:
        return False


def _mixes_scripts(host: str) -> bool:
    return any(len(_scripts(label) & _LOOK_ALIKE) > 1 for label in host.split("."))


def _scripts(label: str) -> frozenset[str]:
    if label.isascii():
        return frozenset()
    letters = (one for one in label if one.isalpha())
    return frozenset(unicodedata.name(one, "?").partition(" ")[0] for one in letters)


def _is_site(text: str, host: str) -> bool:
    """Whether a text is meant as a site, not as the name of a file."""
    ending = host.rpartition(".")[2].lower()
    return "://" in text or ending not in _NOT_A_SITE


def _related(shown: str, host: str) -> bool:
    """Whether one is the other or below it, "www." aside."""
    ours, theirs = shown.lower().removeprefix("www."), host.removeprefix("www.")
    ours = ".".join(map(_unicode, ours.split(".")))
    return ours == theirs or _below(ours, theirs) or _below(theirs, ours)


def _below(one: str, other: str) -> bool:
    return one.endswith("." + other)


def foreign_address(value: str, mailboxes: Iterable[Mailbox]) -> str | None:
    """An address in the display names of From that is none of its mailboxes."""
    own = {one.key for one in mailboxes}
    for found in _ADDRESS.findall(decoded(value[:_NAMES])):
        local, _, domain = found.rpartition("@")
        if Mailbox(local, domain).key not in own:
            return str(found)
    return None
