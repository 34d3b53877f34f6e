"""What an SMTP client says about a message before its content (RFC 5321 2.3.1)."""

from enum import StrEnum
from typing import NamedTuple

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.noun import noun


class Notify(StrEnum):
    """What a recipient's NOTIFY may ask for (RFC 3461 4.1)."""

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


class Body(StrEnum):
    """The BODY parameter (RFC 6152)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"


class Ret(StrEnum):
    """The RET parameter: what a failure notice returns (RFC 3461 4.3)."""

    FULL = "FULL"
    HEADERS = "HDRS"


class Recipient(NamedTuple):
    """One RCPT: the forward-path's mailbox and its DSN parameters.

    `notify` is None when the client did not ask, else sorted and without doubles;
    `orcpt` is the parameter as given, "rfc822;xtext", or None (RFC 3461 4.2).
    """

    mailbox: Mailbox
    notify: tuple[Notify, ...] | None = None
    orcpt: str | None = None

    def wants(self, notify: Notify) -> bool:
        """Whether a notice of this kind is wanted; unasked means FAILURE and DELAY."""
        if self.notify is None:
            return notify in {Notify.FAILURE, Notify.DELAY}
        return notify in self.notify


@noun
class Envelope:
    """One mail transaction's envelope.

    `reverse_path` None is the null path `<>`; `envid` is the ENVID xtext as given;
    `hold_until` is the release time of RFC 4865 in seconds since the epoch.
    """

    reverse_path: Mailbox | None
    recipients: tuple[Recipient, ...]
    body: Body | None = None
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str | None = None
    require_tls: bool = False
    hold_until: float | None = None
