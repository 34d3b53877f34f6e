"""A mail server for one test: what was sent to it, and what became of that."""

from collections.abc import Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial

from fwd_mta.events import Attempted
from fwd_mta.simulation.memory import MemoryServer
from fwd_mta.testing.smtp import MemorySmtp
from fwd_mta.world.hosts import HOSTS, TAGS, Behaviour


class MailServer(MemoryServer):
    """A running server, with its time, and an inbox for all the world.

    `MailServer(configuration, accounts)`: lines of fwdmta.toml, and logins with their
    passwords. `advance(seconds)` lets time pass, for retries and delays.
    """

    @property
    def smtp(self) -> "partial[MemorySmtp]":
        """What to use in place of `smtplib.SMTP`: it connects to this server.

        Port 25 trusts its clients, 587 wants STARTTLS and a login. Host names and TLS
        contexts that the application passes count for nothing.
        """
        return partial(MemorySmtp, self)

    def messages(self, recipient: str | None = None) -> list[EmailMessage]:
        """All messages that arrived, or those for one address, notices included."""
        return [
            message_from_bytes(
                one.content.replace(b"\r\n", b"\n"), EmailMessage, policy=policy.default
            )
            for one in self.inbox.messages
            if recipient is None or recipient in one.recipients
        ]

    def results(self, recipient: str) -> list[str]:
        """What each try came to: "delivered", "deferred", "failed" or "expired"."""
        return [
            one.state
            for one in self.events
            if isinstance(one, Attempted) and one.recipient == recipient
        ]

    def behave(self, who: str, how: str) -> None:
        """Have a domain's host, or one address, behave as named, from now on.

        The names are those of `fwd_mta.world.hosts`: "defers", "busy", "plain" for
        hosts; "unknown", "full", "greylist" for addresses.
        """
        local, _, domain = who.rpartition("@")
        host = self.hosts[domain]
        if not local:
            host.behaviour = _named(how, HOSTS)
        elif how == "plain":
            host.recipients.pop(who, None)
        else:
            host.recipients[who] = _named(how, TAGS)


def _named(name: str, known: Mapping[str, Behaviour]) -> Behaviour:
    if name not in known:
        raise ValueError(f"{name!r} is none of {', '.join(sorted(known))}")
    return known[name]
