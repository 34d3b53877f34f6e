"""MAIL and RCPT: who may send to whom, and how much (RFC 5321 4.1.1.2, 4.1.1.3)."""

from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.inbound import words
from fwd_mta.inbound.limits import Usage, limits_of
from fwd_mta.inbound.sasl import reply_to
from fwd_mta.inbound.talk import Talk
from fwd_mta.inbound.transaction import Transaction
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import MailError
from fwd_mta.mail.noun import changed
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import Service
from fwd_mta.smtp import commands

# times recipient_limit: how often RCPT may be said in a transaction, taken or not; a
# client with a long list hears 452 to the end of it
ASKED_LIMIT = 10


class Envelopes(Talk):
    """The part of a session that makes envelopes."""

    @override
    def do_MAIL(self, rest: bytes) -> None:
        """Begin a transaction (RFC 5321 4.1.1.2), if the session may."""
        refusal = self._mail_refusal()
        if refusal is not None:
            self._answer(refusal)
            return
        try:
            parameters = commands.parse_mail(rest, offered=self._offered)
            hold_until = None
            if parameters.holdfor is not None or parameters.holduntil is not None:
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
            lambda _: self._begin(Transaction(parameters, hold_until)),
            lambda failure: self._answer(self._reason(failure)),
        )

    @override
    def do_RCPT(self, rest: bytes) -> None:
        """Add a recipient (RFC 5321 4.1.1.3); a repeated one is kept once."""
        transaction = self._transaction
        if transaction is None:
            self._stray_recipient()
            return
        transaction.asked += 1
        if transaction.asked > ASKED_LIMIT * self.policy.recipient_limit:
            self._log_refusal("RCPT", words.TOO_MANY_ERRORS.text)
            self.close(words.TOO_MANY_ERRORS)
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
        if hold := self.factory.brake.hold(account.login):
            return hold.reply
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

    def _begin(self, transaction: Transaction) -> None:
        account = getattr(self.delivery, "account", None)
        if account is not self.session.account:
            self.session = changed(self.session, account=account)
        refusal = self._quota_refusal(Usage(1, 1))
        if refusal is not None:
            self._answer(refusal)
            return
        self._transaction = transaction
        self._answer(Reply(250, "1.0", "Ok"))

    def _add(self, transaction: Transaction, recipient: Recipient) -> None:
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
                recipient = recipient._replace(mailbox=mailbox)
            transaction.recipients[key] = recipient
        self._answer(Reply(250, "1.5", "Ok"))

    def _readdressed(self, mailbox: Mailbox) -> Mailbox | None:
        """Where mail for our own postmaster goes (RFC 5321 4.5.1)."""
        if mailbox.local.lower() != "postmaster":
            return mailbox
        ours = {"", self.settings.hostname.lower()}
        return self.settings.postmaster if mailbox.key[1] in ours else mailbox

    def _stray_recipient(self) -> None:
        """A RCPT behind a refused MAIL: pipelining clients send all they have."""
        self._stray_recipients += 1
        if self._stray_recipients > self.policy.recipient_limit:
            self.close(words.TOO_MANY_ERRORS)
        else:
            self._answer(words.MAIL_FIRST)

    def _refuse_recipient(self, transaction: Transaction, reply: Reply) -> None:
        transaction.refused += 1
        is_many = transaction.refused > self.policy.recipient_limit
        if is_many and reply.is_permanent:
            self.close(words.TOO_MANY_ERRORS)
        else:
            self._answer(reply)

    @property
    def _has_chunks(self) -> bool:
        """Whether BDAT has begun in this transaction."""
        spoiled = self._transaction is not None and self._transaction.spoiled
        return self._arriving is not None or bool(spoiled)
