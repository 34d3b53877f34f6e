"""How a client submits mail: Twisted's ESMTP, with what it lacks (RFC 6409, 5321).

`FwdESMTP` is an `ESMTP` and `SubmissionFactory` an `SMTPFactory`, with a cred portal;
framing, grammar, limits, mail data and the STARTTLS reset are our own (`gate`,
`smtp.commands`, `smtp.data`), because the stock ones lose or mix up mail there.

The class is put together from `talk` (lines and replies), `login`, `envelopes` and
`arrivals`; here are the connection, EHLO, the small verbs and STARTTLS.
"""

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from fwd_mta.events import Refused
from fwd_mta.inbound import words
from fwd_mta.inbound.arrivals import Arrivals
from fwd_mta.inbound.clients import Farewell, client_of, is_in
from fwd_mta.inbound.gate import CLOSE_LIMIT
from fwd_mta.inbound.listener import Listener, SubmissionSettings
from fwd_mta.inbound.login import Login
from fwd_mta.inbound.sasl import CHALLENGERS, TrustedDelivery
from fwd_mta.inbound.talk import COMMAND_LIMIT
from fwd_mta.mail.address import excerpt
from fwd_mta.mail.noun import changed
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import Service, Session
from fwd_mta.net.tls import ServerTls, channel_binding, start_tls, tls_facts
from fwd_mta.smtp import extensions, replies

__all__ = ["FwdESMTP", "SubmissionFactory", "SubmissionSettings"]

HANDSHAKE_LIMIT = 30.0
_TLS_HELLO = b"\x16\x03"


@implementer(IHandshakeListener, IHalfCloseableProtocol, IPushProducer)
class FwdESMTP(Login, Arrivals):
    """One submission session."""

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
        self.session = changed(self.session, tls=tls_facts(self.transport))
        scram = self.factory.scram(channel_binding(self.transport))
        self.challengers = {**CHALLENGERS, **scram}
        self.setTimeout(COMMAND_LIMIT)

    @override
    def dataReceived(self, data: bytes) -> None:
        """Octets from the client; a TLS hello in clear is named, not answered."""
        if not self._spoken and not (self._encrypted or self.closing):
            if (bytes(self._input[:2]) + data).startswith(_TLS_HELLO):
                self._log_refusal("TLS hello-in-clear", words.HELLO_IN_CLEAR)
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
            name, meaning = words.tls_mistake(reason.value)
            self._log_refusal(f"TLS {name}", meaning)
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

    def spoken_in_clear(self) -> None:
        """The first octets on 465 are no TLS (`net.tls` looks at them)."""
        self._log_refusal("TLS clear-text", words.CLEAR_TEXT)
        self._say_below_tls()

    def _handshake_too_slow(self) -> None:
        """Nobody began TLS: most often a client that waits for a greeting in clear."""
        is_first = self.settings.service is Service.SUBMISSIONS
        text = words.NO_TLS if is_first else words.NO_HANDSHAKE
        self._log_refusal("TLS no-handshake", text)
        if is_first and getattr(self.transport, "transport", None) is not None:
            self._say_below_tls()
        else:
            self._stop_listening()
            self.transport.abortConnection()

    def _say_below_tls(self) -> None:
        """A last word below the TLS layer, which has sent nothing yet."""
        self._stop_listening()
        self._handshaking = False
        below = self.transport.transport
        self.transport.unregisterProducer()
        below.write(replies.write(words.WANTS_TLS))
        below.loseConnection()
        self._cut = self.clock.callLater(CLOSE_LIMIT, below.abortConnection)

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
        self.session = changed(self.session, hello=hello, extended=extended)
        names = (line.partition(" ")[0] for line in self._keywords())
        # RFC 5321 4.1.1.1: who says HELO is offered nothing
        self._offered = frozenset(names if extended else ())
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
        self.session = changed(self.session, hello=None, extended=False)
        self._encrypted = self._handshaking = True
        self._busy = self._blocked = False
        self.setTimeout(HANDSHAKE_LIMIT)
        start_tls(self, self.transport, creator, self.clock, client=False)


class SubmissionFactory(Listener):
    """Makes the sessions of one listener."""

    @override
    def buildProtocol(self, addr: IAddress) -> Protocol:  # type: ignore[override]
        """Make a session, or a farewell for a client with too many."""
        client, _ = client_of(addr)
        refusal = self.refusal(client)
        if refusal is not None:
            self.emit(Refused(client, "", "connect", str(refusal)))
            return Farewell(refusal, self.clock)
        return FwdESMTP(self)
