"""What we know of the client on the other end of an inbound connection."""

from dataclasses import dataclass
from enum import StrEnum

from fwd_mta.mail.account import Account


class Service(StrEnum):
    """What a listener is for (SPEC section 1)."""

    SUBMISSIONS = "submissions"
    SUBMISSION = "submission"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """A negotiated TLS layer; `verified` says how the peer's name was proved, if."""

    version: str
    cipher: str
    verified: str | None = None

    def __str__(self) -> str:
        return f"{self.version}, {self.cipher}"


@dataclass(frozen=True, slots=True)
class Session:
    """One inbound session, as far as it has come.

    `client` is the peer's address as text (an IPv4-mapped one is written as IPv4),
    `trusted` says that a relay listener lists the client's network; `local` that it is
    no connection at all but a command on this machine.
    """

    service: Service
    client: str
    port: int
    hello: str | None = None
    extended: bool = False
    tls: TlsFacts | None = None
    account: Account | None = None
    trusted: bool = False
    local: bool = False

    @property
    def protocol(self) -> str:
        """The word for a Received field's "with" clause (RFC 3848, RFC 6531)."""
        if self.local:
            return "local"
        if not self.extended:
            return "SMTP"
        return "ESMTP" + ("S" if self.tls else "") + ("A" if self.account else "")
