"""Mailboxes and paths: RFC 5321 4.1.2, RFC 6531 3.3, read and written."""

import re
import unicodedata
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from fwd_mta.mail.errors import SyntaxFault

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-"
_DOT_ATOM = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_TO_ESCAPE = re.compile(r'(["\\])')
_ROUTE = re.compile(r"(?:@[^,:@\"]+,)*@[^,:@\"]+:")
# controls, lone surrogates, the replacement character, line and paragraph separators
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffd]")
_NOT_PRINTABLE = re.compile(r"[^ -~]")
# joiners and punctuation that RFC 5892 allows in a U-label
_ALSO_IN_LABELS = frozenset("-\u200c\u200d\u00b7\u0375\u05f3\u05f4\u30fb")

# RFC 5321 4.5.3.1.3 says 256; longer ones exist (VERP) and "should not be rejected".
PATH_LIMIT = 512
DOMAIN_LIMIT = 255
LABEL_LIMIT = 63


class Mailbox(NamedTuple):
    """A mailbox as it was meant: the local part without quotes or escapes.

    `domain` is as the client wrote it: a name, U-label or A-label, or an address
    literal with its brackets; empty only for the bare `<Postmaster>`.
    """

    local: str
    domain: str

    @property
    def key(self) -> tuple[str, str]:
        """For comparison: local part and domain in lower case, domain as A-label."""
        return self.local.lower(), _domain_key(self.domain)

    @property
    def is_literal(self) -> bool:
        """Whether the domain is an address in brackets."""
        return self.domain.startswith("[")

    @property
    def is_ascii(self) -> bool:
        """Whether it is ASCII as it stands; if not, `as_ascii` may yet be."""
        return self.local.isascii() and self.domain.isascii()

    @property
    def wire_domain(self) -> str:
        """The domain for a hop without SMTPUTF8: U-labels become A-labels."""
        if self.domain.isascii():
            return self.domain
        return ".".join(_a_label(label) for label in self.domain.split("."))

    @property
    def as_ascii(self) -> "Mailbox":
        """The same mailbox with A-labels; only its local part can need SMTPUTF8."""
        if self.domain.isascii():
            return self
        return Mailbox(self.local, self.wire_domain)

    def __str__(self) -> str:
        local = self.local
        if not _DOT_ATOM.fullmatch(local):
            local = '"' + _TO_ESCAPE.sub(r"\\\1", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local


def parse_path(text: str, *, smtputf8: bool = False) -> Mailbox | None:
    """Read a path with its angle brackets; `<>` is None; raises SyntaxFault.

    A source route is dropped (RFC 5321 4.1.2, 3.6.1); `<Postmaster>` needs no domain
    (RFC 5321 4.1.1.3).
    """
    if not (text.startswith("<") and text.endswith(">") and len(text) > 1):
        raise SyntaxFault(f"No address in angle brackets: {excerpt(text)}")
    inner = text[1:-1]
    if not inner:
        return None
    route = _ROUTE.match(inner) if inner.startswith("@") else None
    return parse_mailbox(inner[route.end() if route else 0 :], smtputf8=smtputf8)


def parse_mailbox(text: str, *, smtputf8: bool = True) -> Mailbox:
    """Read `local@domain`, or the bare `Postmaster`; raises SyntaxFault."""
    _check_octets(text, smtputf8=smtputf8)
    if text.lower() == "postmaster":
        return Mailbox("Postmaster", "")
    local, rest = _local_part(text)
    if not rest:
        raise SyntaxFault(f"The address has no @domain: {excerpt(text)}")
    if rest[0] != "@":
        raise SyntaxFault(f"Unexpected '{excerpt(rest[0])}' in address {excerpt(text)}")
    return Mailbox(local, _domain(rest[1:]))


def excerpt(text: str, limit: int = 60) -> str:
    """The text as a reply may show it: printable ASCII, bounded."""
    shown = _NOT_PRINTABLE.sub(_escape, text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _check_octets(text: str, *, smtputf8: bool) -> None:
    if not text.isascii() and not smtputf8:
        raise SyntaxFault(f"A non-ASCII address needs SMTPUTF8: {excerpt(text)}")
    bad = _FORBIDDEN.search(text)
    if bad:
        raise SyntaxFault(f"Control character or invalid text: {excerpt(text)}")
    if len(text.encode()) > PATH_LIMIT:
        raise SyntaxFault(f"The address is longer than {PATH_LIMIT} octets")


def _local_part(text: str) -> tuple[str, str]:
    """The local part as meant, and what follows it."""
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if not quoted:
            raise SyntaxFault(f"No closing quotation mark: {excerpt(text)}")
        return _ESCAPED.sub(r"\1", quoted[1]), text[quoted.end() :]
    atom = _DOT_ATOM.match(text)
    if not atom:
        raise SyntaxFault(f"The address has no local part: {excerpt(text)}")
    return atom[0], text[atom.end() :]


@lru_cache(maxsize=4096)  # a few domains make up most of a day's mail
def _domain(text: str) -> str:
    if text.startswith("["):
        _check_literal(text)
        return text
    labels = text.split(".")
    for label in labels:
        fault = _label_fault(label)
        if fault:
            raise SyntaxFault(f"{fault} in domain {excerpt(text)}")
    if labels[-1].isdigit():
        raise SyntaxFault(f"An IP address goes in brackets, not {excerpt(text)}")
    if len(Mailbox("", text).wire_domain) > DOMAIN_LIMIT:
        raise SyntaxFault(f"The domain is longer than {DOMAIN_LIMIT} octets")
    return text


def _check_literal(text: str) -> None:
    """RFC 5321 4.1.3; a scope (`%eth0`) has no meaning to anyone else."""
    address, closing = text[1:-1], text[-1]
    valid = closing == "]" and "%" not in address
    try:
        if address[:5].lower() == "ipv6:":
            IPv6Address(address[5:])
        else:
            IPv4Address(address)
    except AddressValueError:
        valid = False
    if not valid:
        raise SyntaxFault(f"No valid address literal: {excerpt(text)}")


@lru_cache(maxsize=4096)
def _domain_key(domain: str) -> str:
    if domain.startswith("["):
        return _literal_key(domain)
    return Mailbox("", domain).wire_domain.lower()


def _literal_key(domain: str) -> str:
    address = domain[1:-1].lower()
    if not address.startswith("ipv6:"):
        return domain.lower()
    try:
        return f"[ipv6:{IPv6Address(address[5:]).compressed}]"
    except AddressValueError:
        return domain.lower()


def _label_fault(label: str) -> str | None:
    """What is wrong with a label, in plain words, or None."""
    if not label:
        return "Empty label"
    # before it is mapped, so that the work stays bounded
    if len(label) > LABEL_LIMIT or len(_a_label(label)) > LABEL_LIMIT:
        return f"Label over {LABEL_LIMIT} octets"
    if label[0] == "-" or label[-1] == "-":
        return "Hyphen at the edge of a label"
    if not all(_is_of_label(character) for character in label + _mapped(label)):
        return "Character that no domain holds"
    return None


def _is_of_label(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character == "-"
    return unicodedata.category(character)[0] in "LMN" or character in _ALSO_IN_LABELS


def _mapped(label: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).lower())


def _a_label(label: str) -> str:
    """A label as RFC 5891 4.4 writes it.

    The "idna" codec is of 2003: it would send mail for "straße" to "strasse".
    """
    if label.isascii():
        return label
    mapped = _mapped(label)
    return mapped if mapped.isascii() else "xn--" + mapped.encode("punycode").decode()
