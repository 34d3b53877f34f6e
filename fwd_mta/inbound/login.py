"""AUTH: who a client is (RFC 4954), and what guessing costs it."""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.mail import smtp
from twisted.mail.interfaces import IMessageDelivery
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.inbound import words
from fwd_mta.inbound.clients import is_in
from fwd_mta.inbound.sasl import reply_to
from fwd_mta.inbound.talk import Talk
from fwd_mta.mail.errors import MailError, SyntaxFault
from fwd_mta.mail.noun import changed
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import Service

AUTH_FAILURE_LIMIT = 4
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class Login(Talk):
    """The part of a session that knows its account."""

    @override
    def ext_AUTH(self, rest: bytes) -> None:
        """RFC 4954, with an initial response or without."""
        mechanism, _, initial = rest.partition(b" ")
        refusal = self._auth_refusal(mechanism.upper())
        if refusal is not None:
            self._answer(refusal)
            return
        self.challenger = self.challengers[mechanism.upper()]()
        self.mode = smtp.AUTH
        initial = initial.strip()
        if initial:
            # RFC 4954 4: "=" is the empty initial response
            self.state_AUTH(b"" if initial == b"=" else initial)
        else:
            self._challenge()

    @override
    def state_AUTH(self, response: bytes) -> None:
        """Take the client's answer to a challenge."""
        if response == b"*":
            self._end_auth(Reply(501, "7.0", "Authentication aborted"))
            return
        try:
            self.challenger.setResponse(_decoded(response))
        except SyntaxFault:
            self._end_auth(words.AUTH_MALFORMED)
            return
        if self.challenger.moreChallenges():
            self._challenge()
            return
        self.mode = smtp.COMMAND
        challenger = self.challenger
        login = self._braked().addCallback(
            lambda _: self.portal.login(challenger, None, IMessageDelivery)
        )
        self._then(login, self._logged_in, self._login_failed)

    def _auth_refusal(self, mechanism: bytes) -> Reply | None:
        refusals = (
            (self.settings.service is Service.RELAY, words.NOT_HERE),
            (not self._encrypted, words.AUTH_NEEDS_TLS),
            (self.session.hello is None, words.EHLO_FIRST),
            (self.authenticated, words.LOGGED_IN),
            (not mechanism, words.NO_MECHANISM),
            (mechanism not in self.challengers, words.UNKNOWN_MECHANISM),
            (self._waiting() > 0, words.guessing(self._waiting())),
        )
        return next((reply for applies, reply in refusals if applies), None)

    def _waiting(self) -> float:
        """Seconds until this client may try passwords again."""
        settings, client = self.settings, self.session.client
        if is_in(client, settings.exempt_networks):
            return 0.0
        return self.factory.guesses.wait(
            client,
            settings.auth_failures_per_client,
            settings.auth_failure_window,
            self.factory.intake.now(),
        )

    def _braked(self) -> Deferred[None]:
        """Wait, where many are guessing at this login; the right password too."""
        login = self.challenger.username.decode("utf-8", "replace")
        window, now = self.settings.auth_failure_window, self.factory.intake.now()
        delay = self.factory.guesses.delay(self.session.client, login, window, now)
        waited: Deferred[None] = Deferred()
        if delay:
            _ = self.clock.callLater(delay, waited.callback, None)
        else:
            waited.callback(None)
        return waited

    def _challenge(self) -> None:
        """Ask the client; what to ask may have to be looked up."""
        asked: Deferred[Any] = maybeDeferred(self.challenger.getChallenge)
        self._then(asked, self._ask, self._login_failed)

    def _ask(self, challenge: bytes) -> None:
        """Clients wait for the blank behind 334, also when nothing follows it."""
        self._write(b"334 " + b64encode(challenge) + b"\r\n")

    def _end_auth(self, reply: Reply) -> None:
        self.mode = smtp.COMMAND
        self.challenger = None
        self._answer(reply)

    def _logged_in(self, avatar: tuple[Any, Any, Callable[[], None]]) -> None:
        _, delivery, log_out = avatar
        login = delivery.account.login
        limit = self.settings.connections_per_account
        if self.closing or not self.factory.clients.admit(login, limit):
            log_out()
            if not self.closing:
                self._log_refusal("AUTH", f"{login}: {words.TOO_MANY_SESSIONS.text}")
            self.close(words.TOO_MANY_SESSIONS)
            return
        self.delivery, self._onLogout = delivery, log_out
        self.authenticated = True
        now = self.factory.intake.now()
        self.factory.guesses.succeeded(self.session.client, login, now)
        self._counted_login = login
        self.session = changed(self.session, account=delivery.account)
        self._end_auth(Reply(235, "7.0", "Authentication successful"))

    def _login_failed(self, failure: Failure) -> None:
        reply = reply_to(failure.value)
        if reply == MailError.reply:
            self._trouble("accounts", failure)
        if reply.code == 535:
            self._auth_failures += 1
            self._remember_guess()
        if self._auth_failures >= AUTH_FAILURE_LIMIT:
            self._log_refusal("AUTH", words.TOO_MANY_FAILURES.text)
            self.close(words.TOO_MANY_FAILURES)
            return
        self._end_auth(reply)

    def _remember_guess(self) -> None:
        guess = self.challenger
        if guess is None:
            return
        password = getattr(guess, "password", None)
        login = guess.username.decode("utf-8", "replace")
        # a SCRAM proof tells nothing of the password: each is another guess
        known = b"" if password is None else guess.username + b"\0" + password
        digest = self.factory.guess_digest(known)
        now = self.factory.intake.now()
        self.factory.guesses.failed(self.session.client, login, digest, now)

    def _log_out(self) -> None:
        if self._onLogout is not None:
            self._onLogout()
            self._onLogout = None
        if not self.session.trusted:
            self.delivery = None
        if self._counted_login is not None:
            self.factory.clients.logged_out(self._counted_login)
            self._counted_login = None
        self.authenticated = False
        self.session = changed(self.session, account=None)


def _decoded(response: bytes) -> bytes:
    """Read base64; b64decode alone would let padding pass that is too much."""
    if not _BASE64.fullmatch(response):
        raise SyntaxFault("not base64")
    return b64decode(response)
