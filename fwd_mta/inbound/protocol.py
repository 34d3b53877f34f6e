"""How a client submits mail: Twisted's ESMTP, with what it lacks (RFC 6409, 5321).

`FwdESMTP` is an `ESMTP` and `SubmissionFactory` an `SMTPFactory`, with a cred portal;
framing, grammar, limits, mail data and the STARTTLS reset are our own (`gate`,
`smtp.commands`, `smtp.data`), because the stock ones lose or mix up mail there.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

from OpenSSL import SSL
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol
from twisted.mail import smtp
from twisted.mail.interfaces import IMessageDelivery
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.events import Emit, Refused, Trouble
from fwd_mta.inbound import words
from fwd_mta.inbound.clients import Clients, Farewell, Networks, client_of, is_in
from fwd_mta.inbound.content import Content
from fwd_mta.inbound.gate import CLOSE_LIMIT, Gate
from fwd_mta.inbound.intake import Intake, policy_for
from fwd_mta.inbound.limits import (
    Guesses,
    Quotas,
    SendLimits,
    Usage,
    limits_of,
    network_of,
)
from fwd_mta.inbound.sasl import (
    CHALLENGERS,
    TrustedDelivery,
    reply_to,
)
from fwd_mta.mail.address import Mailbox, excerpt
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.errors import MailError, SyntaxFault
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import Service, Session
from fwd_mta.net.tls import ServerTls, channel_binding, start_tls, tls_facts
from fwd_mta.rules.submission import SubmissionPolicy, with_help
from fwd_mta.smtp import commands, extensions, replies
from fwd_mta.smtp.data import ChunkReader, ContentReader, DataReader

HANDSHAKE_LIMIT = 30.0
COMMAND_LIMIT = 300.0  # RFC 5321 4.5.3.2.7
DATA_BLOCK_LIMIT = 180.0  # RFC 5321 4.5.3.2.5
MESSAGE_LIMIT = 7200.0
SESSION_LIMIT = 86400.0
REFUSED_CHUNK_LIMIT = 1024 * 1024

ERROR_LIMIT = 20
IDLE_COMMAND_LIMIT = 100
AUTH_FAILURE_LIMIT = 4

_TLS_HELLO = b"\x16\x03"
# refusals of a command as such; who hears nothing else is no mail client
_FAULT_CODES = frozenset({454, *range(500, 505), 525, 530, 538, 553, 554, 555})
# what a browser was made to say; what follows it is its page's, not its user's
_WEB_VERBS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"})
_IDLE_VERBS = frozenset({"EHLO", "HELO", "HELP", "NOOP", "RSET", "VRFY"})


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


@dataclass(slots=True)
class _Transaction:
    """A mail transaction on its way from MAIL to DATA.

    `spoiled`: a chunk of it was refused, so what follows must not become a message.
    """

    parameters: commands.MailParameters
    hold_until: float | None = None
    recipients: dict[tuple[str, str], Recipient] = field(default_factory=dict)
    refused: int = 0
    spoiled: Reply | None = None

    def envelope(self) -> Envelope:
        said = self.parameters
        return Envelope(
            reverse_path=said.reverse_path,
            recipients=tuple(self.recipients.values()),
            body=said.body,
            smtputf8=said.smtputf8,
            ret=said.ret,
            envid=said.envid,
            require_tls=said.requiretls,
            hold_until=self.hold_until,
        )


@dataclass(slots=True)
class _Arriving:
    """Mail data on its way from 354 to the final dot, or to the last chunk."""

    envelope: Envelope
    reader: ContentReader
    content: Content
    deadline: float

    @property
    def fault(self) -> Reply | None:
        return self.reader.fault or self.content.fault

    def write(self, chunk: bytes) -> None:
        """Keep content as the reader gave it; after a fault nothing is kept."""
        if chunk:
            self.content.write(chunk)
        if self.reader.fault is not None:
            self.content.discard()


@dataclass(slots=True)
class _Chunk:
    """A BDAT chunk on its way; refused ones are read to their end as well."""

    size: int
    last: bool
    left: int
    refusal: Reply | None


@implementer(IHandshakeListener, IHalfCloseableProtocol, IPushProducer)
class FwdESMTP(Gate, smtp.ESMTP):
    """One submission session."""

    factory: "SubmissionFactory"
    portal: Any
    delivery: Any
    challenger: Any
    callLater: Any

    def __init__(self, factory: "SubmissionFactory") -> None:
        smtp.ESMTP.__init__(self, dict(CHALLENGERS), factory.tls)
        Gate.__init__(self, factory.clock)
        self.factory = factory
        self.portal = factory.portal
        self.host = factory.settings.hostname
        self.callLater = factory.clock.callLater
        self.session = Session(factory.settings.service, "", 0)
        self._transaction: _Transaction | None = None
        self._arriving: _Arriving | None = None
        self._chunk: _Chunk | None = None
        self._offered: frozenset[str] = frozenset()
        self._encrypted = self._handshaking = self._spoken = self._distrusts = False
        self._counted_login: str | None = None
        self._verb = ""
        self._errors = self._idle_commands = self._auth_failures = 0
        self._stray_recipients = 0
        self._born = self.clock.seconds()

    @property
    def settings(self) -> SubmissionSettings:
        """The listener's settings as they are now."""
        return self.factory.settings

    @property
    def policy(self) -> SubmissionPolicy:
        """What holds for messages of this session."""
        return policy_for(self.session, self.settings.policy)

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if the session ended now."""
        in_mail = self._transaction is not None or self._arriving is not None
        return not (in_mail or self._busy)

    # The connection

    @override
    def connectionMade(self) -> None:
        """Greet; on a port where TLS comes first the greeting waits for it."""
        self.open_gate()
        client, port = client_of(self.transport.getPeer())
        service = self.settings.service
        trusted = service is Service.RELAY and is_in(
            client, self.settings.trusted_networks
        )
        self.session = Session(service, client, port, trusted=trusted)
        if trusted:
            self.delivery = TrustedDelivery()
        self._encrypted = self._handshaking = service is Service.SUBMISSIONS
        self.factory.joined(self)
        self.setTimeout(HANDSHAKE_LIMIT if self._handshaking else COMMAND_LIMIT)
        self._answer(Reply(220, None, f"{self.settings.hostname} ESMTP fwd_mta"))

    def handshakeCompleted(self) -> None:
        """TLS is up, on 465 or after STARTTLS."""
        self._handshaking = False
        self.session = replace(self.session, tls=tls_facts(self.transport))
        scram = self.factory.scram(channel_binding(self.transport))
        self.challengers = {**CHALLENGERS, **scram}
        self.setTimeout(COMMAND_LIMIT)

    @override
    def dataReceived(self, data: bytes) -> None:
        """Octets from the client; a TLS hello in clear is named, not answered."""
        if not (self._spoken or self._encrypted or self.closing):
            if (bytes(self._input[:2]) + data).startswith(_TLS_HELLO):
                self._log_refusal("TLS", words.HELLO_IN_CLEAR)
                self.close()
                return
            self._spoken = len(self._input) + len(data) >= len(_TLS_HELLO)
        super().dataReceived(data)

    @override
    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The end, announced by QUIT or not: what was accepted stays accepted."""
        self.setTimeout(None)
        self.shut_gate()
        if self._handshaking and reason.check(SSL.Error):
            self._log_refusal("TLS", words.tls_mistake(reason.value))
        self._drop_arriving()
        self._log_out()
        self.factory.left(self)

    @override
    def timeoutConnection(self) -> None:
        """A stage took too long."""
        if self._handshaking:
            self._handshake_too_slow()
            return
        self._drop_arriving()
        name = self.settings.hostname
        self.close(Reply(421, "4.2", f"{name} waited too long for you, closing"))

    @override
    def broken(self, failure: Failure) -> None:
        """An exception ends this session, and nothing else (P6)."""
        self._trouble("session", failure)
        self._drop_arriving()
        self.close(Reply(421, "3.0", "Server error, please try again later"))

    def leave_if_idle(self) -> None:
        """The server drains: go, unless a message is on its way."""
        if self._handshaking:
            self.transport.abortConnection()
        elif self.is_idle:
            self.close(words.SHUTTING_DOWN)

    def leave_now(self) -> None:
        """The grace is over: say so (RFC 5321 3.8), and at the second time just go."""
        if self._handshaking or self.closing:
            self.transport.abortConnection()
        else:
            self._drop_arriving()
            self.close(words.SHUTTING_DOWN)

    def _handshake_too_slow(self) -> None:
        """Nobody began TLS: most often a client that waits for a greeting in clear.

        It can read our words if they go below the TLS layer, which has sent nothing.
        """
        self._stop_listening()
        below = getattr(self.transport, "transport", None)
        is_first = self.settings.service is Service.SUBMISSIONS
        self._log_refusal("TLS", words.NO_TLS if is_first else words.NO_HANDSHAKE)
        if not is_first or below is None:
            self.transport.abortConnection()
            return
        self.transport.unregisterProducer()
        below.write(replies.write(words.WANTS_TLS))
        below.loseConnection()
        self._cut = self.clock.callLater(CLOSE_LIMIT, below.abortConnection)

    # Lines and replies

    @override
    def lineReceived(self, line: bytes) -> None:
        """Obey one line; no timer runs while we owe the reply."""
        self.setTimeout(None)
        if self.mode == smtp.AUTH:
            self.state_AUTH(line)
        else:
            self.state_COMMAND(line)

    @override
    def state_COMMAND(self, line: bytes) -> None:
        """Find the verb's method and let it answer."""
        try:
            command = commands.parse(line)
        except commands.CommandFault as fault:
            self._verb = "a command"
            self._obey(None, b"", fault.reply)
            return
        is_old = self.clock.seconds() - self._born > SESSION_LIMIT
        if is_old and self._transaction is None:
            self.close(words.TOO_OLD)
            return
        self._verb = command.verb
        if command.verb in _WEB_VERBS:
            self._log_refusal(command.verb, words.NOT_THE_WEB.text)
            self.close(words.NOT_THE_WEB)
            return
        self._obey(self.lookupMethod(command.verb), command.argument, words.UNKNOWN)

    @override
    def lookupMethod(self, command: str) -> Any:
        """The method of a verb, or None."""
        return getattr(self, "do_" + command, None) or getattr(
            self, "ext_" + command, None
        )

    @override
    def do_UNKNOWN(self, rest: bytes) -> None:
        """A client that says UNKNOWN gets what all unknown verbs get."""
        self._answer(words.UNKNOWN)

    @override
    def sendCode(self, code: int, message: bytes = b"") -> None:
        """Twisted's way to answer; ours carries an enhanced code."""
        self._answer(Reply(code, None, message.decode("ascii", "replace")))

    def _obey(
        self, method: Callable[[bytes], None] | None, argument: bytes, unknown: Reply
    ) -> None:
        """Call a verb's method; behind a refused DATA anything else is mail data."""
        distrusted, self._distrusts = self._distrusts, False
        if method is not None:
            method(argument)
        elif distrusted:
            self.close(words.CONTENT_REFUSED)
        else:
            self._answer(unknown)

    def _answer(self, reply: Reply) -> None:
        """Answer the command at hand, or end the session if that was one too many."""
        if self.closing:
            return
        last = self._last_word(reply)
        if reply.code >= 400:
            reply = with_help(reply, self.settings.policy.help_url)
            self._log_refusal(self._verb, str(last or reply))
        if last is not None:
            self.close(last)
            return
        self._write(replies.write(reply))
        if self.factory.draining and self.is_idle:
            self.close(words.SHUTTING_DOWN)

    def _then(
        self,
        waited: Deferred[Any],
        done: Callable[[Any], None],
        failed: Callable[[Failure], None],
    ) -> None:
        """Go on when something answered; the gate stays shut until then."""
        _ = waited.addCallbacks(done, failed)
        _ = waited.addErrback(self.broken)

    def _consult(
        self,
        question: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[Failure], None],
    ) -> None:
        """Ask what may answer now or later, and go on."""
        try:
            answer = question()
        except Exception:  # noqa: BLE001 - a refusal, or a defect of a plugged-in part
            failed(Failure())
            return
        if isinstance(answer, Deferred):
            self._then(answer, done, failed)
        else:
            done(answer)

    def _write(self, octets: bytes) -> None:
        if not self._handshaking:
            self.setTimeout(COMMAND_LIMIT)
        self.respond(octets)

    def _last_word(self, reply: Reply) -> Reply | None:
        """Count what wears a server out; the 421 that replaces the reply, if due."""
        if self._verb in _IDLE_VERBS:
            self._idle_commands += 1
        if reply.code in _FAULT_CODES and self._verb != "RCPT":
            self._errors += 1
        if self._errors > ERROR_LIMIT:
            return words.TOO_MANY_ERRORS
        if self._idle_commands > IDLE_COMMAND_LIMIT:
            return words.TOO_MANY_IDLE
        return None

    def _trouble(self, where: str, failure: Failure) -> None:
        what = f"{self._verb or 'a session'}: {words.fault(failure.value)}"
        self.factory.emit(Trouble(where, what))

    def _log_refusal(self, where: str, text: str) -> None:
        account = self.session.account
        login = account.login if account else ""
        self.factory.emit(Refused(self.session.client, login, where, text))

    # EHLO and the small verbs

    @override
    def do_EHLO(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.1: any name is taken, and ends the transaction."""
        self._hello(rest, "\n".join(["", *self._keywords()]), extended=True)

    @override
    def do_HELO(self, rest: bytes) -> None:
        """The same, for clients of another age."""
        self._hello(rest, "", extended=False)

    @override
    def do_RSET(self, rest: bytes) -> None:
        """End the transaction, not the login."""
        if not rest:
            self._end_transaction()
        self._answer(words.NO_ARGUMENT if rest else words.OK)

    @override
    def do_QUIT(self, rest: bytes) -> None:
        """Part as friends."""
        self.close(Reply(221, "0.0", "Bye"))

    def do_NOOP(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.9."""
        self._answer(words.OK)

    def do_VRFY(self, rest: bytes) -> None:
        """RFC 5321 7.3: who has a mailbox is nobody's business."""
        missing = Reply(501, "5.4", "Say VRFY and an address")
        told = Reply(252, "0.0", "Cannot say, but will take mail for it")
        self._answer(told if rest else missing)

    def do_HELP(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.8: where a person finds help."""
        words = ["Log in with your full address and password, then MAIL, RCPT, DATA"]
        words += [f"Help: {url}" for url in [self.settings.policy.help_url] if url]
        words += [f"Contact: {name}" for name in [self.settings.contact] if name]
        self._answer(Reply(214, "0.0", "\n".join(words)))

    def do_EXPN(self, rest: bytes) -> None:
        """Not for strangers (RFC 5321 7.3)."""
        self._answer(words.NOT_HERE)

    do_ETRN = do_TURN = do_EXPN

    def _hello(self, name: bytes, offer: str, *, extended: bool) -> None:
        if not name:
            self._answer(Reply(501, "5.4", f"Say {self._verb} and your name"))
            return
        self._end_transaction()
        hello = excerpt(name.decode("latin-1"), 255)
        self.session = replace(self.session, hello=hello, extended=extended)
        names = (line.partition(" ")[0] for line in self._keywords())
        self._offered = frozenset(names)
        self._answer(Reply(250, None, self.settings.hostname + offer))

    def _keywords(self) -> tuple[str, ...]:
        is_relay = self.settings.service is Service.RELAY
        names = () if is_relay else self.challengers
        mechanisms = tuple(name.decode() for name in names)
        return extensions.keywords(
            encrypted=self._encrypted,
            starttls=self.factory.tls is not None,
            auth=mechanisms,
            size_limit=self.policy.message_size_limit,
            recipient_limit=self.policy.recipient_limit,
            hold_until=self.factory.intake.now() + extensions.HOLD_LIMIT,
        )

    # STARTTLS

    @override
    def ext_STARTTLS(self, rest: bytes) -> None:
        """RFC 3207: nothing said or sent in clear is known any more afterwards (P5)."""
        if rest:
            self._answer(words.NO_ARGUMENT)
        elif self._encrypted:
            self._answer(Reply(503, "5.1", "The line is encrypted already"))
        elif self.factory.tls is None:
            self._answer(words.NOT_HERE)
        elif self.pending:
            self._log_refusal("STARTTLS", words.BEHIND_STARTTLS.text)
            self.close(words.BEHIND_STARTTLS)
        else:
            self._start_tls(self.factory.tls)

    def _start_tls(self, creator: ServerTls) -> None:
        self.send(replies.write(Reply(220, "0.0", "Ready to start TLS")))
        self._flush()
        self._end_transaction()
        self._log_out()
        self.session = replace(self.session, hello=None, extended=False)
        self._encrypted = self._handshaking = True
        self._busy = self._blocked = False
        self.setTimeout(HANDSHAKE_LIMIT)
        start_tls(self, self.transport, creator, self.clock, client=False)

    # AUTH

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
            self.challenger.setResponse(b64decode(response, validate=True))
        except (binascii.Error, SyntaxFault):
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
        self.session = replace(self.session, account=delivery.account)
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
        self.session = replace(self.session, account=None)

    # MAIL and RCPT

    @override
    def do_MAIL(self, rest: bytes) -> None:
        """Begin a transaction (RFC 5321 4.1.1.2), if the session may."""
        refusal = self._mail_refusal()
        if refusal is not None:
            self._answer(refusal)
            return
        try:
            parameters = commands.parse_mail(rest, offered=self._offered)
            hold_until = parameters.release_time(self.factory.intake.now())
        except commands.CommandFault as fault:
            self._answer(fault.reply)
            return
        refusal = self._room_refusal(parameters)
        if refusal is not None:
            self._answer(refusal)
            return
        helo = (self.session.hello, self.session.client)
        origin = parameters.reverse_path
        self._consult(
            lambda: self.delivery.validateFrom(helo, origin),
            lambda _: self._begin(_Transaction(parameters, hold_until)),
            lambda failure: self._answer(self._reason(failure)),
        )

    @override
    def do_RCPT(self, rest: bytes) -> None:
        """Add a recipient (RFC 5321 4.1.1.3); a repeated one is kept once."""
        transaction = self._transaction
        if transaction is None:
            self._stray_recipient()
            return
        if self._has_chunks:
            self._answer(words.CHUNKS_BEGUN)
            return
        try:
            recipient = commands.parse_rcpt(
                rest,
                smtputf8=transaction.parameters.smtputf8,
                offered=self._offered,
            )
        except commands.CommandFault as fault:
            self._refuse_recipient(transaction, fault.reply)
            return
        self._consult(
            lambda: self.delivery.validateTo(recipient),
            lambda _: self._add(transaction, recipient),
            lambda failure: self._refuse_recipient(transaction, self._reason(failure)),
        )

    def _mail_refusal(self) -> Reply | None:
        """Why this session cannot begin a transaction now, or None."""
        service = self.settings.service
        if self.session.hello is None:
            return words.EHLO_FIRST
        if self._transaction is not None:
            return Reply(503, "5.1", "A transaction is open: DATA or RSET first")
        if service is Service.RELAY:
            return None if self.session.trusted else words.NOT_TRUSTED
        if not self._encrypted:
            return words.STARTTLS_FIRST
        return None if self.authenticated else words.LOG_IN_FIRST

    def _room_refusal(self, parameters: commands.MailParameters) -> Reply | None:
        limit = self.policy.message_size_limit
        if (parameters.size or 0) > limit:
            return Reply(552, "3.4", f"Message is over {limit} octets")
        return self.factory.intake.no_room()

    def _quota_refusal(self, asked: Usage) -> Reply | None:
        """Why this account cannot send so much more now, or None."""
        account = self.session.account
        if account is None:
            return None
        limits = limits_of(account, self.settings.sending)
        if not limits:
            return None
        now = self.factory.intake.now()
        return self.factory.quotas.refusal(account.login, limits, asked, now)

    def _count(self, sent: Usage) -> None:
        account = self.session.account
        limits = limits_of(account, self.settings.sending) if account else None
        if account and limits:
            now = self.factory.intake.now()
            self.factory.quotas.take(account.login, limits, sent, now)

    def _reason(self, failure: Failure) -> Reply:
        """The reply for a sender or recipient that `validateFrom/To` did not take."""
        reply = reply_to(failure.value)
        if reply == MailError.reply:
            self._trouble("accounts", failure)
        return reply

    def _begin(self, transaction: _Transaction) -> None:
        account = getattr(self.delivery, "account", None)
        if account is not self.session.account:
            self.session = replace(self.session, account=account)
        refusal = self._quota_refusal(Usage(1, 1))
        if refusal is not None:
            self._answer(refusal)
            return
        self._transaction = transaction
        self._answer(Reply(250, "1.0", "Ok"))

    def _add(self, transaction: _Transaction, recipient: Recipient) -> None:
        mailbox = self._readdressed(recipient.mailbox)
        if mailbox is None:
            self._refuse_recipient(transaction, words.NO_POSTMASTER)
            return
        key = (mailbox.local, mailbox.key[1])
        limit = self.policy.recipient_limit
        if key not in transaction.recipients:
            if len(transaction.recipients) >= limit:
                reply = Reply(452, "5.3", f"Too many recipients, {limit} at most")
                self._refuse_recipient(transaction, reply)
                return
            refusal = self._quota_refusal(Usage(0, len(transaction.recipients) + 1))
            if refusal is not None:
                self._refuse_recipient(transaction, refusal)
                return
            if mailbox is not recipient.mailbox:
                recipient = replace(recipient, mailbox=mailbox)
            transaction.recipients[key] = recipient
        self._answer(Reply(250, "1.5", "Ok"))

    def _readdressed(self, mailbox: Mailbox) -> Mailbox | None:
        """Where mail for our own postmaster goes (RFC 5321 4.5.1)."""
        ours = {"", self.settings.hostname.lower()}
        if mailbox.key[0] == "postmaster" and mailbox.key[1] in ours:
            return self.settings.postmaster
        return mailbox

    def _stray_recipient(self) -> None:
        """A RCPT behind a refused MAIL: pipelining clients send all they have."""
        self._stray_recipients += 1
        if self._stray_recipients > self.policy.recipient_limit:
            self.close(words.TOO_MANY_ERRORS)
        else:
            self._answer(words.MAIL_FIRST)

    def _refuse_recipient(self, transaction: _Transaction, reply: Reply) -> None:
        transaction.refused += 1
        is_many = transaction.refused > self.policy.recipient_limit
        if is_many and reply.is_permanent:
            self.close(words.TOO_MANY_ERRORS)
        else:
            self._answer(reply)

    # DATA and BDAT

    @override
    def do_DATA(self, rest: bytes) -> None:
        """Open the door for mail data (RFC 5321 4.1.1.4)."""
        transaction = self._transaction
        refusal = self._data_refusal(transaction, rest)
        if refusal is not None or transaction is None:
            self._refuse_data(refusal or words.EHLO_FIRST)
            return
        refusal = self._open(transaction, DataReader)
        if refusal is not None:
            self._refuse_data(refusal)
            return
        self._transaction = None
        self.mode = smtp.DATA
        self._answer(Reply(354, None, "End data with <CR><LF>.<CR><LF>"))
        self.setTimeout(DATA_BLOCK_LIMIT)

    def do_BDAT(self, rest: bytes) -> None:
        """Take one chunk (RFC 3030 2); its octets are never read as commands."""
        try:
            said = commands.parse_bdat(rest)
        except commands.CommandFault as fault:
            # without its length nobody knows where the commands go on
            self._log_refusal("BDAT", str(fault.reply))
            self.close(fault.reply)
            return
        refusal = self._chunk_refusal()
        limit = REFUSED_CHUNK_LIMIT if refusal else 2 * self.policy.message_size_limit
        if said.size > limit:
            refusal = refusal or words.far_over(self.policy.message_size_limit)
            self._log_refusal("BDAT", str(refusal))
            self._drop_arriving()
            self.close(refusal)
            return
        self._chunk = _Chunk(said.size, said.last, said.size, refusal)
        self.mode = smtp.DATA
        self.setTimeout(DATA_BLOCK_LIMIT)
        if said.size:
            self.respond(b"")
        else:
            self._end_of_chunk(self._chunk)

    @override
    def take_data(self, buffer: bytearray) -> bool:
        """Take mail data; only its reader, or its count, knows where it ends."""
        if self._chunk is not None:
            return self._take_chunk(self._chunk, buffer)
        arriving = self._arriving
        if arriving is None or not isinstance(arriving.reader, DataReader):
            raise RuntimeError("mail data outside of DATA")
        chunk, ended = arriving.reader.feed(buffer)
        arriving.write(chunk)
        if ended:
            self._end_of_data(arriving)
            return True
        self._check_pace(arriving)
        return False

    def _data_refusal(
        self, transaction: _Transaction | None, rest: bytes
    ) -> Reply | None:
        if rest:
            return words.NO_ARGUMENT
        if transaction is None:
            return words.MAIL_FIRST
        if self._has_chunks:
            return words.CHUNKS_BEGUN
        if transaction.recipients:
            return None
        if transaction.refused:
            return Reply(554, "5.1", "No valid recipients")
        return Reply(503, "5.1", "Say RCPT first")

    def _open(
        self,
        transaction: _Transaction,
        make_reader: Callable[[int, str], ContentReader],
    ) -> Reply | None:
        """Begin to take content; the reply when the store cannot."""
        policy = self.policy
        try:
            content = Content(
                self.factory.intake.spool,
                policy.header_size_limit,
                self._disk_is_slow,
                self._disk_is_fast,
            )
        except MailError as broken:
            self._trouble("spool", Failure(broken))
            return broken.reply
        reader = make_reader(policy.message_size_limit, policy.bare_newline)
        deadline = self.clock.seconds() + MESSAGE_LIMIT
        envelope = transaction.envelope()
        self._arriving = _Arriving(envelope, reader, content, deadline)
        return None

    @property
    def _has_chunks(self) -> bool:
        """Whether BDAT has begun in this transaction."""
        spoiled = self._transaction is not None and self._transaction.spoiled
        return self._arriving is not None or bool(spoiled)

    def _chunk_refusal(self) -> Reply | None:
        """Why a chunk cannot be taken now, or None; the first one opens the content."""
        if self._arriving is not None:
            return self._arriving.fault
        transaction = self._transaction
        if transaction is None:
            return words.MAIL_FIRST
        transaction.spoiled = (
            transaction.spoiled
            or self._data_refusal(transaction, b"")
            or self._open(transaction, ChunkReader)
        )
        return transaction.spoiled

    def _take_chunk(self, chunk: _Chunk, buffer: bytearray) -> bool:
        piece = bytes(buffer[: chunk.left])
        del buffer[: len(piece)]
        chunk.left -= len(piece)
        arriving = self._arriving
        if arriving is not None and isinstance(arriving.reader, ChunkReader):
            arriving.write(arriving.reader.feed(piece))
        if not chunk.left:
            self._end_of_chunk(chunk)
            return True
        if arriving is not None:
            self._check_pace(arriving)
        elif not self._holds:
            self.setTimeout(DATA_BLOCK_LIMIT)
        return False

    def _end_of_chunk(self, chunk: _Chunk) -> None:
        """Answer a chunk; only the last one ends the transaction."""
        self._chunk = None
        self._busy = True
        self.mode = smtp.COMMAND
        self.setTimeout(None)
        arriving = self._arriving
        if arriving is not None and arriving.reader.overrun:
            self._check_pace(arriving)
        elif arriving is None or chunk.refusal is not None:
            if chunk.last:
                self._end_transaction()
            self._answer(chunk.refusal or words.MAIL_FIRST)
        elif chunk.last:
            self._transaction = None
            if isinstance(arriving.reader, ChunkReader):
                arriving.write(arriving.reader.end())
            self._end_of_data(arriving)
        else:
            taken = Reply(250, "0.0", f"{chunk.size} octets received")
            self._answer(arriving.fault or taken)

    def _refuse_data(self, reply: Reply) -> None:
        """Mail data sent without waiting for the 354 must not become commands."""
        if self.pending:
            self.send(replies.write(reply))
            self._log_refusal("DATA", str(reply))
            self.close(words.CONTENT_REFUSED)
            return
        self._distrusts = True
        self._answer(reply)

    def _check_pace(self, arriving: _Arriving) -> None:
        if arriving.reader.overrun:
            self._drop_arriving()
            self.close(words.far_over(arriving.reader.size_limit))
        elif self.clock.seconds() > arriving.deadline:
            self.timeoutConnection()
        elif not self._holds:
            self.setTimeout(DATA_BLOCK_LIMIT)

    def _end_of_data(self, arriving: _Arriving) -> None:
        self._busy = True
        self._verb = "the final dot" if self._verb == "DATA" else self._verb
        self.mode = smtp.COMMAND
        self.setTimeout(None)
        self._arriving = None
        if arriving.fault is not None:
            arriving.content.discard()
            self._answer(arriving.fault)
            return
        sent = Usage(1, len(arriving.envelope.recipients))
        refusal = self._quota_refusal(sent)
        if refusal is not None:
            arriving.content.discard()
            self._answer(refusal)
            return
        self._count(sent)
        accepted = Deferred.fromCoroutine(
            self.factory.intake.accept(
                self.session, arriving.envelope, arriving.content
            )
        )
        self._then(accepted, lambda reply: self._settled(reply, sent), self.broken)

    def _settled(self, reply: Reply, sent: Usage) -> None:
        if not reply.is_positive:
            self._count(Usage(-sent.messages, -sent.recipients))
        if reply.is_positive:
            self._errors = self._idle_commands = 0
        self._answer(reply)

    def _disk_is_slow(self) -> None:
        self.hold_reading("disk")
        self.setTimeout(None)

    def _disk_is_fast(self) -> None:
        if self._arriving is not None:
            self.setTimeout(DATA_BLOCK_LIMIT)
        self.release_reading("disk")

    def _drop_arriving(self) -> None:
        if self._arriving is not None:
            self._arriving.content.discard()
            self._arriving = None
        self._chunk = None
        self.mode = smtp.COMMAND

    def _end_transaction(self) -> None:
        """Forget the envelope, and the chunks that came for it."""
        self._transaction = None
        self._drop_arriving()


def _no_scram(binding: bytes | None) -> Mapping[bytes, Any]:
    """Where SCRAM is not offered."""
    return {}


class SubmissionFactory(smtp.SMTPFactory):
    """Makes the sessions of one listener, and knows those that live.

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
        self._guess_key = intake.octets(32)
        self.draining = False
        self.sessions: set[FwdESMTP] = set()
        self._drained: list[Deferred[None]] = []

    @override
    def buildProtocol(self, addr: IAddress) -> Protocol:  # type: ignore[override]
        """Make a session, or a farewell for a client with too many."""
        client, _ = client_of(addr)
        refusal = self._refusal(client)
        if refusal is not None:
            self.emit(Refused(client, "", "connect", str(refusal)))
            return Farewell(refusal, self.clock)
        return FwdESMTP(self)

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

    def joined(self, session: FwdESMTP) -> None:
        """A session has begun."""
        self.sessions.add(session)
        self.clients.joined(session.session.client)

    def left(self, session: FwdESMTP) -> None:
        """A session has ended."""
        if session not in self.sessions:
            return
        self.sessions.remove(session)
        self.clients.left(session.session.client)
        if not self.sessions:
            waiting, self._drained = self._drained, []
            for drained in waiting:
                drained.callback(None)

    def _refusal(self, client: str) -> Reply | None:
        if self.draining:
            return words.SHUTTING_DOWN
        settings = self.settings
        if is_in(client, settings.exempt_networks + settings.trusted_networks):
            return None
        connected = self.clients.connected[network_of(client)]
        many = connected >= settings.connections_per_client
        return words.TOO_MANY_SESSIONS if many else None
