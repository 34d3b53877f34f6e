"""Who logs in: AUTH PLAIN, LOGIN and SCRAM through cred, and what a login may do.

`portal` joins the pieces: credentials that the wire fills, a checker over `Accounts`,
and a realm whose avatar is the `IMessageDelivery` of one login.
"""

from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.mail.interfaces import IChallengeResponse, IMessageDelivery
from twisted.mail.smtp import SMTPServerError
from zope.interface import Attribute, Interface, implementer

from fwd_mta.interfaces import Accounts, Entropy
from fwd_mta.mail.account import Account
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import MailError, SyntaxFault
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.submission import sender_refusal
from fwd_mta.smtp import scram
from fwd_mta.smtp.scram import ScramExchange

LOGIN_LIMIT = 320
PASSWORD_LIMIT = 1024

WRONG = Reply(535, "7.8", "Authentication failed: wrong login or password")
NO_ADDRESS = Reply(
    535,
    "7.8",
    "Authentication failed: log in with your full address, as in name@example.com",
)
SWITCHED_OFF = Reply(525, "7.13", "Sending mail is switched off for this account")


class LoginRefused(UnauthorizedLogin):
    """A login that is not let in; `reply` tells the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class SenderRefused(SMTPServerError):
    """A reverse-path that is not this login's to use; `reply` tells the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.code, reply.text)
        self.reply = reply


class IPasswordLogin(ICredentials):
    """A login and a password as a client sent them.

    Not IUsernamePassword: a stored password is a hash, and only `Accounts` compares.
    """

    username = Attribute("the login, as octets")
    password = Attribute("the password, as octets")


@implementer(IChallengeResponse, IPasswordLogin)
class PlainCredentials:
    """AUTH PLAIN (RFC 4616): authorization identity, login and password in one go."""

    def __init__(self) -> None:
        self.username = b""
        self.password = b""

    def getChallenge(self) -> bytes:
        """PLAIN has an empty challenge."""
        return b""

    def setResponse(self, response: bytes) -> None:
        """Take the response; raises SyntaxFault when it is none of PLAIN.

        An authorization identity other than the login is refused (P5).
        """
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise SyntaxFault("AUTH PLAIN wants authzid, NUL, login, NUL, password")
        authzid, self.username, self.password = parts
        if authzid and authzid.lower() != self.username.lower():
            self.username = self.password = b""

    def moreChallenges(self) -> bool:
        """There is nothing more to ask."""
        return False


@implementer(IChallengeResponse, IPasswordLogin)
class LoginCredentials:
    """AUTH LOGIN (draft-murchison-sasl-login): login and password one by one."""

    def __init__(self) -> None:
        self.username = b""
        self.password = b""
        self._asked: list[bytes] = []
        self._challenges = [b"Username:", b"Password:"]

    def getChallenge(self) -> bytes:
        """Ask for the login, then for the password."""
        return self._challenges[len(self._asked)]

    def setResponse(self, response: bytes) -> None:
        """Take the answer to the last challenge; raises SyntaxFault for NUL in it."""
        if b"\0" in response:
            raise SyntaxFault("NUL in AUTH LOGIN")
        self._asked.append(response)
        if len(self._asked) == len(self._challenges):
            self.username, self.password = self._asked

    def moreChallenges(self) -> bool:
        """Whether the password is still to be asked for."""
        return len(self._asked) < len(self._challenges)


class IScramLogin(ICredentials):
    """A login whose SCRAM exchange is over."""

    username = Attribute("the login, as octets")
    proved = Attribute("whether the proof was right")


@implementer(IChallengeResponse, IScramLogin)
class ScramCredentials:
    """AUTH SCRAM-SHA-256, and -PLUS when there is a channel binding.

    The server's last word goes out as a challenge, which the client answers with
    nothing (RFC 4954 4): a 235 has no room for it.
    """

    def __init__(self, accounts: Accounts, exchange: ScramExchange) -> None:
        self.username = b""
        self.proved = False
        self._accounts = accounts
        self._exchange = exchange
        self._steps = iter((self._first, self._final, self._last))
        self._word: bytes | None = b""
        self._ended = False

    def getChallenge(self) -> bytes | Deferred[bytes]:
        """Nothing, then the salt, then our own proof."""
        if self._word is not None:
            return self._word
        return Deferred.fromCoroutine(self._salt())

    def setResponse(self, response: bytes) -> None:
        """Take the next message; raises SyntaxFault."""
        next(self._steps)(response)

    def moreChallenges(self) -> bool:
        """Whether the exchange goes on."""
        return not self._ended

    def _first(self, response: bytes) -> None:
        self._exchange.first(response)
        self.username = self._exchange.login.encode()
        self._word = None

    async def _salt(self) -> bytes:
        login = _text(self.username)
        return self._exchange.challenge(await self._accounts.scram_keys(login))

    def _final(self, response: bytes) -> None:
        self._word = self._exchange.final(response)
        self.proved = self._word is not None
        self._ended = not self.proved

    def _last(self, response: bytes) -> None:
        if response:
            raise SyntaxFault("SCRAM ends with an empty response")
        self._ended = True


def scram_challengers(
    accounts: Accounts, entropy: Entropy, binding: bytes | None
) -> dict[bytes, Callable[[], ScramCredentials]]:
    """The SCRAM mechanisms of a session; -PLUS needs its channel's binding."""
    if not accounts.offers_scram():
        return {}

    def made(bound: bytes | None) -> ScramCredentials:
        nonce = b64encode(entropy.octets(18)).decode("ascii")
        exchange = ScramExchange(nonce, bound, offers_plus=binding is not None)
        return ScramCredentials(accounts, exchange)

    made_by: dict[bytes, Callable[[], ScramCredentials]] = {
        scram.NAME: lambda: made(None)
    }
    if binding is not None:
        made_by[scram.PLUS] = lambda: made(binding)
    return made_by


CHALLENGERS = {b"PLAIN": PlainCredentials, b"LOGIN": LoginCredentials}


@implementer(ICredentialsChecker)
class AccountsChecker:
    """Checks logins and passwords against `Accounts`."""

    credentialInterfaces = (IPasswordLogin, IScramLogin)

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """Give the login, or fail with LoginRefused or LookUpFailed."""
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: Any) -> bytes | tuple[()]:
        if IScramLogin.providedBy(credentials):
            return self._proved(credentials)
        login, password = credentials.username, credentials.password
        if login and b"@" not in login:
            raise LoginRefused(NO_ADDRESS)
        overlong = len(login) > LOGIN_LIMIT or len(password) > PASSWORD_LIMIT
        if overlong or not login or not password:
            raise LoginRefused(WRONG)
        account = await self._accounts.verify(_text(login), _text(password))
        if account is None:
            raise LoginRefused(WRONG)
        return bytes(login)

    def _proved(self, credentials: Any) -> bytes:
        if not credentials.proved:
            has_domain = b"@" in credentials.username or not credentials.username
            raise LoginRefused(WRONG if has_domain else NO_ADDRESS)
        return bytes(credentials.username)


@implementer(IRealm)
class SubmissionRealm:
    """Gives each login its avatar, a `SubmissionDelivery`."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def requestAvatar(
        self,
        avatar_id: bytes | tuple[()],
        mind: object,
        *interfaces: type[Interface],
    ) -> Deferred[Any]:
        """Give the avatar, or fail with LoginRefused or LookUpFailed."""
        if IMessageDelivery not in interfaces:
            raise NotImplementedError("There is an IMessageDelivery and nothing else")
        return Deferred.fromCoroutine(self._avatar(_text(bytes(avatar_id))))

    async def _avatar(self, login: str) -> tuple[type[Interface], object, object]:
        delivery = SubmissionDelivery(login, await self._allowed(login), self._allowed)
        return IMessageDelivery, delivery, delivery.logout

    async def _allowed(self, login: str) -> Account:
        account = await self._accounts.find(login)
        if account is None or not account.smtp:
            raise LoginRefused(SWITCHED_OFF)
        return account


@implementer(IMessageDelivery)
class SubmissionDelivery:
    """What one login may do; `account` is looked up again at every MAIL."""

    def __init__(
        self,
        login: str,
        account: Account,
        look_up: Callable[[str], Awaitable[Account]],
    ) -> None:
        self.login = login
        self.account: Account | None = account
        self._look_up = look_up

    def logout(self) -> None:
        """The session is over."""
        self.account = None

    def validateFrom(
        self, helo: object, origin: Mailbox | None
    ) -> Deferred[Mailbox | None]:
        """Give the reverse-path back, or fail with SenderRefused or LookUpFailed."""
        return Deferred.fromCoroutine(self._validate(origin))

    async def _validate(self, origin: Mailbox | None) -> Mailbox | None:
        try:
            account = await self._look_up(self.login)
        except LoginRefused as refused:
            raise SenderRefused(refused.reply) from None
        self.account = account
        refusal = sender_refusal(account, origin)
        if refusal is not None:
            raise SenderRefused(refusal)
        return origin

    def validateTo(self, user: Recipient) -> Recipient:
        """Any recipient will do: nothing of the sender's is refused at RCPT."""
        return user

    def receivedHeader(self, helo: object, origin: object, recipients: object) -> bytes:
        """Nothing: `rules.stamping` writes the trace field."""
        return b""


@implementer(IMessageDelivery)
class TrustedDelivery:
    """What a client on a relay listener's trusted network may do: send as anybody."""

    account: Account | None = None

    def validateFrom(self, helo: object, origin: Mailbox | None) -> Mailbox | None:
        """Any reverse-path will do."""
        return origin

    def validateTo(self, user: Recipient) -> Recipient:
        """Any recipient will do."""
        return user

    def receivedHeader(self, helo: object, origin: object, recipients: object) -> bytes:
        """Nothing: `rules.stamping` writes the trace field."""
        return b""


def portal(accounts: Accounts) -> Portal:
    """The cred portal through which AUTH goes."""
    return Portal(SubmissionRealm(accounts), [AccountsChecker(accounts)])


def reply_to(error: BaseException | None) -> Reply:
    """What a client is told when a login or a sender was not accepted.

    Whatever is not a refusal is our own fault, and so temporary (P4).
    """
    if isinstance(error, (LoginRefused, SenderRefused)):
        return error.reply
    if isinstance(error, UnauthorizedLogin):
        return WRONG
    if isinstance(error, MailError) and error.reply.is_temporary:
        return error.reply
    return MailError.reply


def _text(octets: bytes) -> str:
    """Decode; broken UTF-8 becomes a text that no login and no password is."""
    return octets.decode("utf-8", "backslashreplace")
