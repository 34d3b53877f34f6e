"""Accounts from Dovecot's auth socket: one password for SMTP here and IMAP there.

Doorway: `DovecotAccounts`. A login is asked by AUTH PLAIN of Dovecot's authentication
protocol (version 1), a connection each; fields that its passdb adds and that have names
of `accounts.toml` (send_as, smtp, messages_per_account, …) hold for the account.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from typing_extensions import override

from fwd_mta.inbound.accounts import login_key
from fwd_mta.inbound.dialogue import Line, NoAnswer, Place, dialogue
from fwd_mta.inbound.rows import limits_and_more
from fwd_mta.interfaces import Accounts, Entropy, Network
from fwd_mta.mail.account import Account
from fwd_mta.mail.errors import LookUpFailed
from fwd_mta.smtp.scram import ScramKeys

AT_ONCE = 100
TIMEOUT = 20.0  # Dovecot keeps a wrong password waiting for 2 seconds, or more
KNOWN_LIMIT = 50_000
_LINE = 8192
_LINES = 100
_VERSION = "1"
_ESCAPE = re.compile("\x01([01trn])")
_ESCAPED = {"0": "\0", "1": "\x01", "t": "\t", "r": "\r", "n": "\n"}


class DovecotAccounts(Accounts):
    """The accounts of a Dovecot, which tells of a login only when it lets it in."""

    def __init__(
        self, network: Network, place: Place, clock: IReactorTime, entropy: Entropy
    ) -> None:
        self._network = network
        self._place = place
        self._clock = clock
        self._entropy = entropy
        self._free = DeferredSemaphore(AT_ONCE)
        self._known: dict[str, Account] = {}

    @override
    async def find(self, login: str) -> Account | None:
        """The account of a login that Dovecot has let in; it tells of no other."""
        return self._known.get(login_key(login))

    @override
    async def verify(self, login: str, password: str) -> Account | None:
        """The account if Dovecot says that the password is right."""
        asked = self._free.run(
            lambda: Deferred.fromCoroutine(self._ask(login, password)).addTimeout(
                TIMEOUT, self._clock
            )
        )
        try:
            account: Account | None = await asked
        except (NoAnswer, TimeoutError, CancelledError) as error:
            why = str(error) if isinstance(error, NoAnswer) else "it does not answer"
            raise LookUpFailed(f"Dovecot at {self._place}: {why}") from error
        except Exception as error:
            raise LookUpFailed(f"Dovecot at {self._place}: {error}") from error
        if account is not None:
            self._remember(login_key(login), account)
        return account

    @override
    def offers_scram(self) -> bool:
        """No: the keys stay with Dovecot."""
        return False

    @override
    async def scram_keys(self, login: str) -> Sequence[ScramKeys]:
        """There are none to be had."""
        raise LookUpFailed("Dovecot gives no SCRAM keys")

    def _remember(self, key: str, account: Account) -> None:
        self._known.pop(key, None)
        if len(self._known) >= KNOWN_LIMIT:
            del self._known[next(iter(self._known))]
        self._known[key] = account

    async def _ask(self, login: str, password: str) -> Account | None:
        async with dialogue(self._network, self._place) as line:
            await self._greet(line)
            # no login and no password is ever a word of the line: base64
            resp = b64encode(f"\0{login}\0{password}".encode()).decode("ascii")
            words = ("AUTH", "1", "PLAIN", "service=smtp", "secured", f"resp={resp}")
            await line.send("\t".join(words).encode() + b"\n")
            return _account(await _answer(line))

    async def _greet(self, line: Line) -> None:
        """Both sides say who they are; Dovecot must know PLAIN."""
        pid = 1 + int.from_bytes(self._entropy.octets(4), "big") // 2
        await line.send(f"VERSION\t{_VERSION}\t1\nCPID\t{pid}\n".encode())
        offered: set[str] = set()
        for _ in range(_LINES):
            words = await _words(line)
            if words[0] == "DONE":
                break
            if words[0] == "VERSION" and words[1:2] != [_VERSION]:
                raise NoAnswer(f"it speaks version {words[1:2]} of the protocol")
            if words[0] == "MECH":
                offered |= set(words[1:2])
        else:
            raise NoAnswer("it greets without end")
        if "PLAIN" not in offered:
            raise NoAnswer("it does not offer PLAIN: see its auth_mechanisms")


async def _words(line: Line) -> list[str]:
    """The words of the next line, as they were before Dovecot escaped them."""
    octets = await line.until(b"\n", _LINE)
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise NoAnswer("it does not speak UTF-8") from None
    return [
        _ESCAPE.sub(lambda found: _ESCAPED[found[1]], one) for one in text.split("\t")
    ]


async def _answer(line: Line) -> list[str]:
    """The words of the answer to our only request."""
    for _ in range(_LINES):
        words = await _words(line)
        if words[0] in {"OK", "FAIL", "CONT"}:
            if words[1:2] != ["1"]:
                raise NoAnswer("it answers what was not asked")
            return words
    raise NoAnswer("it talks without end and does not answer")


def _account(words: list[str]) -> Account | None:
    """What an answer says; raises NoAnswer where it says that it cannot say."""
    fields = dict(_pairs(words[2:]))
    if words[0] == "FAIL":
        if fields.keys() & {"temp"} or fields.get("code") == "temp_fail":
            raise NoAnswer("it cannot say now; its own log knows why")
        return None
    if words[0] != "OK":
        raise NoAnswer("it asks for more than PLAIN has")
    login = fields.get("user", "")
    if "@" not in login:
        raise NoAnswer(
            f"it calls the login {login!r}, without a domain: set its"
            " auth_username_format to %Lu"
        )
    account = limits_and_more(login, fields)
    return replace(account, smtp=account.smtp and "nologin" not in fields)


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, _, value = word.partition("=")
        yield name, value
