"""Who may send, as whom, and how much."""

from dataclasses import dataclass

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Notify


@dataclass(frozen=True, slots=True)
class Account:
    """One account of `accounts.toml`, without its secrets.

    `login` is the full address, or "*@example.com" for a domain-wide credential;
    `send_as` holds addresses and "*@domain" patterns (empty: the login itself);
    None in a limit means the one of `[limits]` or `[retention]`; `rules` are what our
    own checks do for it, where that is not what `[scan.rules]` says. `language` is
    that of its notices; None: by domain.
    """

    login: str
    send_as: tuple[str, ...] = ()
    smtp: bool = True
    notify: tuple[Notify, ...] | None = None
    messages_per_account: int | None = None
    recipients_per_account: int | None = None
    retention_content: float | None = None
    rules: tuple[tuple[str, str], ...] = ()
    language: str | None = None

    @property
    def patterns(self) -> tuple[str, ...]:
        """What it may send as: its patterns, or the login where none are written."""
        return self.send_as or (self.login,)

    def may_send_as(self, mailbox: Mailbox) -> bool:
        """Whether a pattern owns the mailbox: exactly, with a +tag, or by domain."""
        return any(_owns(pattern, mailbox) for pattern in self.patterns)


def _owns(pattern: str, mailbox: Mailbox) -> bool:
    local, _, domain = pattern.rpartition("@")
    theirs, their_domain = mailbox.key
    if Mailbox("", domain).key[1] != their_domain:
        return False
    if local == "*":
        return True
    return local.lower() in {theirs, theirs.partition("+")[0]}
