"""What the sessions of one listener share: its settings, its counts, its end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.mail import smtp

from fwd_mta.events import Emit
from fwd_mta.inbound import words
from fwd_mta.inbound.brake import Brake
from fwd_mta.inbound.clients import Clients, Networks, is_in
from fwd_mta.inbound.intake import Intake
from fwd_mta.inbound.limits import Guesses, Quotas, SendLimits, network_of
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import Service, Session
from fwd_mta.net.tls import ServerTls
from fwd_mta.rules.submission import SubmissionPolicy


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """What one listener is like; may be replaced at a reload.

    `postmaster` is where unqualified `<Postmaster>` and postmaster at our own name go.
    """

    service: Service
    hostname: str
    policy: SubmissionPolicy
    trusted_networks: Networks = ()
    exempt_networks: Networks = ()
    proxy_networks: Networks = ()
    connections_per_client: int = 50
    connections_per_account: int = 60
    auth_failures_per_client: int = 10
    auth_failure_window: float = 3600.0
    sending: SendLimits = field(default_factory=SendLimits)
    postmaster: Mailbox | None = None
    contact: str = ""


class Guest(Protocol):
    """A session, as its listener knows it."""

    session: Session

    def leave_if_idle(self) -> None:
        """Go, unless a message is on its way."""

    def leave_now(self) -> None:
        """Go."""


def _no_scram(binding: bytes | None) -> Mapping[bytes, Any]:
    """Where SCRAM is not offered."""
    return {}


class Listener(smtp.SMTPFactory):
    """Knows the sessions of one listener that live, and what they share.

    `settings` may be replaced at a reload; sessions see the new ones at once. Limits of
    connections hold over all listeners that were given the same `clients`.
    """

    noisy = False

    def __init__(
        self,
        settings: SubmissionSettings,
        portal: Portal | None,
        intake: Intake,
        tls: ServerTls | None,
        clock: IReactorTime,
        emit: Emit,
        clients: Clients | None = None,
        scram: Callable[[bytes | None], Mapping[bytes, Any]] = _no_scram,
        quotas: Quotas | None = None,
        guesses: Guesses | None = None,
        brake: Brake | None = None,
    ) -> None:
        smtp.SMTPFactory.__init__(self, portal)
        self.settings = settings
        self.intake = intake
        self.tls = tls
        self.clock = clock
        self.emit = emit
        self.scram = scram
        self.clients = clients or Clients()
        self.quotas = quotas or Quotas()
        self.guesses = guesses or Guesses()
        self.brake = brake or Brake()
        self._guess_key = intake.octets(32)
        self.draining = False
        self.sessions: set[Guest] = set()
        self._drained: list[Deferred[None]] = []

    def guess_digest(self, known: bytes) -> bytes:
        """A digest of a login and a password, or one of its own for what is unknown."""
        octets = known or self.intake.octets(16)
        return blake2b(octets, key=self._guess_key, digest_size=16).digest()

    def drain(self) -> Deferred[None]:
        """Send idle sessions away; fires when the last one has ended."""
        self.draining = True
        for session in list(self.sessions):
            session.leave_if_idle()
        if not self.sessions:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        return drained

    def cut(self) -> None:
        """End all sessions: the grace is over. Who stays in spite of it is cut off."""
        for session in list(self.sessions):
            session.leave_now()

    def joined(self, session: Guest) -> None:
        """A session has begun."""
        self.sessions.add(session)
        self.clients.joined(session.session.client)

    def left(self, session: Guest) -> None:
        """A session has ended."""
        if session not in self.sessions:
            return
        self.sessions.remove(session)
        self.clients.left(session.session.client)
        if not self.sessions:
            waiting, self._drained = self._drained, []
            for drained in waiting:
                drained.callback(None)

    def refusal(self, client: str) -> Reply | None:
        """Why a client cannot have a session now, or None."""
        if self.draining:
            return words.SHUTTING_DOWN
        settings = self.settings
        if is_in(client, settings.exempt_networks + settings.trusted_networks):
            return None
        connected = self.clients.connected[network_of(client)]
        many = connected >= settings.connections_per_client
        return words.TOO_MANY_SESSIONS if many else None
