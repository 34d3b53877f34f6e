"""The talk of a session: lines to verbs, replies counted, logged and sent."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.mail import smtp
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.events import Refused, Trouble
from fwd_mta.inbound import words
from fwd_mta.inbound.gate import Gate
from fwd_mta.inbound.intake import policy_for
from fwd_mta.inbound.listener import Listener, SubmissionSettings
from fwd_mta.inbound.sasl import CHALLENGERS
from fwd_mta.inbound.transaction import Arriving, Chunk, Transaction
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import Session
from fwd_mta.rules.submission import SubmissionPolicy, with_help
from fwd_mta.smtp import commands, replies

COMMAND_LIMIT = 300.0  # RFC 5321 4.5.3.2.7
SESSION_LIMIT = 86400.0
TRANSACTION_LIMIT = 7200.0  # for one that is open when the session has become too old

ERROR_LIMIT = 20
IDLE_COMMAND_LIMIT = 100

_TLS_HELLO = b"\x16\x03"
# refusals of a command as such; who hears nothing else is no mail client
_FAULT_CODES = frozenset({454, *range(500, 505), 525, 530, 538, 553, 554, 555})
# what a browser was made to say; what follows it is its page's, not its user's
_WEB_VERBS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"})
_IDLE_VERBS = frozenset({"EHLO", "HELO", "HELP", "NOOP", "RSET", "VRFY"})


class Talk(Gate, smtp.ESMTP):
    """Half a session; the verbs are in the classes that build on it."""

    factory: Listener
    portal: Any
    delivery: Any
    challenger: Any
    callLater: Any

    def __init__(self, factory: Listener) -> None:
        smtp.ESMTP.__init__(self, dict(CHALLENGERS), factory.tls)
        Gate.__init__(self, factory.clock)
        self.factory = factory
        self.portal = factory.portal
        self.host = factory.settings.hostname
        self.callLater = factory.clock.callLater
        self.session = Session(factory.settings.service, "", 0)
        self._transaction: Transaction | None = None
        self._arriving: Arriving | None = None
        self._chunk: Chunk | None = None
        self._offered: frozenset[str] = frozenset()
        self._encrypted = self._handshaking = self._spoken = self._distrusts = False
        self._counted_login: str | None = None
        self._policy_of: SubmissionSettings | None = None
        self._policy = factory.settings.policy
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
        settings = self.factory.settings
        if self._policy_of is not settings:
            self._policy_of = settings
            self._policy = policy_for(self.session, settings.policy)
        return self._policy

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if the session ended now."""
        in_mail = self._transaction is not None or self._arriving is not None
        return not (in_mail or self._busy)

    # Lines and replies

    @override
    def lineReceived(self, line: bytes) -> None:
        """Obey one line; no timer runs while we owe the reply."""
        self._deadline = None
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
        spare = 0.0 if self._transaction is None else TRANSACTION_LIMIT
        if self.clock.seconds() - self._born > SESSION_LIMIT + spare:
            self.close(words.TOO_OLD)
            return
        self._verb = verb = command.verb
        if verb in _WEB_VERBS:
            self._log_refusal(verb, words.NOT_THE_WEB.text)
            self.close(words.NOT_THE_WEB)
            return
        self._obey(self.lookupMethod(verb), command.argument, words.UNKNOWN)

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
        if reply.code >= 400 or self._verb in _IDLE_VERBS:
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
        is_no = reply.code >= 400 and self._verb != "RCPT"
        if is_no and (reply.code in _FAULT_CODES or self._verb == "MAIL"):
            self._errors += 1
        elif is_no or self._verb in _IDLE_VERBS:
            self._idle_commands += 1
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
