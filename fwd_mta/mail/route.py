"""Where a message goes: destinations, hosts, and what DNS says about them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Via(StrEnum):
    """How a destination is reached."""

    MX = "mx"
    HOST = "host"
    LMTP = "lmtp"
    DISCARD = "discard"
    ERROR = "error"


class TlsLevel(StrEnum):
    """What security a hop must have (Postfix: smtp_tls_security_level)."""

    NONE = "none"
    MAY = "may"
    ENCRYPT = "encrypt"
    SECURE = "secure"


class TlsMode(StrEnum):
    """How TLS begins: after STARTTLS, or with the connection."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where some recipients of a message go next.

    `next_hop` is a domain (MX), a host name, an address literal without brackets, or
    "unix:/path" (LMTP); for ERROR it is the reply's words, "5.1.1 text". `trusted`: an
    operator wrote it, so private addresses are fine.
    """

    via: Via
    next_hop: str
    port: int = 25
    tls: TlsLevel = TlsLevel.MAY
    tls_mode: TlsMode = TlsMode.STARTTLS
    trusted: bool = False
    login: str | None = None
    password: str | None = None

    def __hash__(self) -> int:
        """By what nearly always differs: it is asked for with every message."""
        return hash((self.next_hop, self.port))


@dataclass(frozen=True, slots=True)
class Exchanger:
    """A mail exchanger: a host name and its preference, lower first (RFC 5321 5.1)."""

    preference: int
    name: str


@dataclass(frozen=True, slots=True)
class Host:
    """One address of one exchanger, ready to be connected to."""

    name: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}[{self.address}]:{self.port}"


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A DNS answer: some records, none when the name exists without any (NODATA).

    `secure`: a validating resolver that we trust says so, for the whole chain of
    aliases; `name` is what stands at its end, None where there was no alias.
    """

    records: tuple[T, ...]
    secure: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class NoSuchName:
    """DNS says that the name does not exist (NXDOMAIN)."""

    name: str


@dataclass(frozen=True, slots=True)
class CannotSay:
    """DNS did not answer, or not with an answer: SERVFAIL, time-out, nonsense."""

    name: str
    reason: str
