"""Mailboxes and paths: RFC 5321 4.1.2, RFC 6531 3.3, read and written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox as it was meant: the local part without quotes or escapes.

    `domain` is as the client wrote it: a name, U-label or A-label, or an address
    literal with its brackets; empty only for the bare `<Postmaster>`.
    """

    local: str
    domain: str

    @property
    def key(self) -> tuple[str, str]:
        """For comparison: local part and domain in lower case, domain as A-label."""
        return self.local.lower(), self.domain.lower()
