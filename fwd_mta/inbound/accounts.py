"""Accounts from a file: `accounts.toml`, read off the reactor, reloaded as a whole.

A password costs one slow hash (argon2id, on a worker); its success is remembered as a
keyed digest, so that the next message of the same client costs none. An unknown login
costs as much as a wrong password.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

from typing_extensions import override

from fwd_mta.inbound.passwords import PASSWORDS_LIMIT, HashCost, Passwords, is_hash
from fwd_mta.interfaces import Accounts, Entropy, Worker
from fwd_mta.mail.account import Account
from fwd_mta.mail.address import Mailbox, parse_mailbox
from fwd_mta.mail.envelope import Notify
from fwd_mta.mail.errors import LookUpFailed, SyntaxFault
from fwd_mta.rules.inspection import ACTIONS, RULES
from fwd_mta.rules.notice_words import LANGUAGES
from fwd_mta.smtp.scram import ScramKeys, made_up_keys

T = TypeVar("T")

SCRAM_ITERATIONS = 32_768
SCRAM_SHAPE = SCRAM_ITERATIONS, 16  # and the octets of a salt

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_NOTIFY = {notify.value.lower(): notify for notify in Notify}


class AccountsFault(Exception):
    """The accounts file cannot be used; `errors` has a line for each mistake."""

    def __init__(self, errors: tuple[str, ...]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account with its secrets, as the file holds it."""

    account: Account
    passwords: tuple[str, ...] = field(repr=False)
    scram: tuple[ScramKeys, ...] = field(default=(), repr=False)

    @property
    def has_scram(self) -> bool:
        """Whether SCRAM takes each of its passwords: keys for all, with one salt."""
        salts = {(keys.salt, keys.iterations) for keys in self.scram}
        return len(salts) == 1 and len(self.scram) == len(self.passwords)


AccountTable = Mapping[str, StoredAccount]


def parse_accounts(content: bytes) -> AccountTable:
    """Read the whole file; raises AccountsFault with all mistakes at once."""
    try:
        tables = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as broken:
        raise AccountsFault((f"not TOML: {broken}",)) from None
    errors = [
        f"key {key!r} is unknown; the file holds [[account]] tables"
        for key in tables
        if key != "account"
    ]
    written = tables.get("account", [])
    if not isinstance(written, list):
        raise AccountsFault(("write [[account]] with double brackets",))
    found: dict[str, StoredAccount | None] = {}
    for number, table in enumerate(written, 1):
        _add(found, table, number, errors)
    if errors:
        raise AccountsFault(tuple(errors))
    return {key: stored for key, stored in found.items() if stored}


class FileAccounts(Accounts):
    """The accounts of one file; `load` reads it, and again at every reload.

    A file that cannot be used leaves the accounts as they were.
    """

    def __init__(
        self,
        read: Callable[[], bytes],
        worker: Worker,
        entropy: Entropy,
        cost: HashCost | None = None,
    ) -> None:
        self._read = read
        self._worker = worker
        self._passwords = Passwords(worker, entropy, cost)
        self._table: AccountTable | None = None
        self._offers_scram = False
        self._scram_shape = SCRAM_SHAPE
        self._seen = b""
        self.salt_secret = entropy.octets(32)

    async def read(self) -> AccountTable:
        """Read and check the file without using it; raises AccountsFault."""

        def job() -> AccountTable:
            try:
                content = self._read()
                _ = self._has_seen(content)
                return parse_accounts(content)
            except OSError as broken:
                raise AccountsFault((f"cannot be read: {broken}",)) from broken

        return await self._worker.run(job)

    def use(self, table: AccountTable) -> None:
        """Use what `read` gave; passwords that are gone are forgotten."""
        self._table = table
        stored = {hashed for one in table.values() for hashed in one.passwords}
        self._passwords.keep_only(stored)
        most = max((len(one.passwords) for one in table.values()), default=1)
        # what there is not looks and costs like most of what there is
        self._passwords.expect(most, _usual(_cost(one) for one in stored) or "")
        keys = _usual(
            (one.iterations, len(one.salt))
            for account in table.values()
            for one in account.scram
        )
        self._scram_shape = keys or SCRAM_SHAPE
        self._offers_scram = all(one.has_scram for one in table.values())

    async def refresh(self) -> bool:
        """Use the file if it has changed since it was looked at; whether it had.

        Raises AccountsFault once for a change that cannot be used.
        """

        def job() -> AccountTable | None:
            try:
                content = self._read()
            except OSError as broken:
                content = str(broken).encode()
                if self._has_seen(content):
                    return None
                raise AccountsFault((f"cannot be read: {broken}",)) from broken
            return None if self._has_seen(content) else parse_accounts(content)

        table = await self._worker.run(job)
        if table is None:
            return False
        self.use(table)
        return True

    def _has_seen(self, content: bytes) -> bool:
        digest = blake2b(content, digest_size=16).digest()
        seen, self._seen = self._seen == digest, digest
        return seen

    async def load(self) -> None:
        """Read the file and use it; raises AccountsFault, and then changes nothing."""
        self.use(await self.read())

    @override
    async def find(self, login: str) -> Account | None:
        """The account of a login (its own, or a domain-wide one), or None."""
        stored = self._stored(login)
        return stored.account if stored else None

    @override
    async def verify(self, login: str, password: str) -> Account | None:
        """The account if the password is right; always as slow if it is not."""
        stored = self._stored(login)
        hashes = stored.passwords if stored else ()
        fits = await self._passwords.fits(hashes, password)
        return stored.account if stored and fits else None

    @property
    def is_empty(self) -> bool:
        """Whether the file holds no account."""
        return not self._table

    @override
    def offers_scram(self) -> bool:
        """Whether every password of every account has SCRAM keys."""
        return self._offers_scram and not self.is_empty

    @override
    async def scram_keys(self, login: str) -> Sequence[ScramKeys]:
        """The keys of a login, or made-up ones."""
        stored = self._stored(login)
        if stored is not None and stored.has_scram:
            return stored.scram
        key = login_key(login)
        return [made_up_keys(key, self.salt_secret, *self._scram_shape)]

    def _stored(self, login: str) -> StoredAccount | None:
        if self._table is None:
            raise LookUpFailed("The accounts file has not been read")
        key = login_key(login)
        own = self._table.get(key)
        return own or self._table.get("*@" + key.rpartition("@")[2])


def _usual(values: Iterable[T]) -> T | None:
    """What most of them are."""
    common = Counter(values).most_common(1)
    return common[0][0] if common else None


def _cost(hashed: str) -> str:
    """The part of a hash that says what it costs."""
    return hashed.rpartition("$")[0].rpartition("$")[0]


def login_key(login: str) -> str:
    """The form under which a login is looked up: lower case, its domain in A-labels."""
    local, _, domain = login.rpartition("@")
    return f"{local.lower()}@{Mailbox('', domain).key[1]}"


def _add(
    found: dict[str, StoredAccount | None],
    table: object,
    number: int,
    errors: list[str],
) -> None:
    """Take one [[account]] table, or say what is wrong with it."""
    if not isinstance(table, dict):
        errors.append("write [[account]] with double brackets")
        return
    login = table.get("login")
    if not isinstance(login, str) or not _is_pattern(login):
        what = f"a full address, or *@domain, not {login!r}"
        errors.append(f"account {number}: login: {what}")
        return
    mistakes = mistakes_in(table)
    key = login_key(login)
    if key in found:
        mistakes.append("login: there are two accounts of this login")
    errors += [f"account {login}: {mistake}" for mistake in mistakes]
    found[key] = None if mistakes else stored_account(table)


def mistakes_in(table: Mapping[str, Any]) -> list[str]:
    """What is wrong with the keys of one account; none may be missing a password."""
    mistakes = []
    for key, value in table.items():
        kind = _KEYS.get(key)
        if kind is None:
            mistakes.append(f"{key}: unknown; allowed: {', '.join(_KEYS)}")
        elif not kind.is_valid(value):
            mistakes.append(f"{key}: {kind.allowed}")
    if "password" not in table:
        mistakes.append("password: missing; make one with: fwdmta account password")
    return mistakes


def stored_account(table: Mapping[str, Any]) -> StoredAccount:
    """The account of a table without mistakes."""
    notify = table.get("notify")
    content = table.get("retention_content")
    rules: Mapping[str, str] = table.get("rules", {})
    account = Account(
        login=table["login"],
        send_as=tuple(table.get("send_as", ())),
        smtp=table.get("smtp", True),
        notify=None
        if notify is None
        else tuple(sorted({_NOTIFY[word] for word in notify})) or (Notify.NEVER,),
        messages_per_account=table.get("messages_per_account"),
        recipients_per_account=table.get("recipients_per_account"),
        retention_content=None if content is None else _duration(content),
        rules=tuple((_rule(key), value) for key, value in rules.items()),
        language=table.get("language"),
    )
    scram = tuple(ScramKeys.parse(one) for one in _list(table.get("scram", [])))
    return StoredAccount(account, tuple(_list(table["password"])), scram)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _duration(text: object) -> float | None:
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return int(match[1]) * _SECONDS[match[2]] if match else None


def _is_pattern(value: object) -> bool:
    """Whether it is an address or "*@domain"."""
    if not isinstance(value, str):
        return False
    try:
        return bool(parse_mailbox(value).domain)
    except SyntaxFault:
        return False


def _is_scram(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(ScramKeys.parse(value))
    except SyntaxFault:
        return False


def _are_hashes(value: object) -> bool:
    hashes = _list(value)
    return 0 < len(hashes) <= PASSWORDS_LIMIT and all(map(is_hash, hashes))


def _are_notices(value: object) -> bool:
    if not isinstance(value, list):
        return False
    known = all(isinstance(word, str) and word in _NOTIFY for word in value)
    return known and (value == ["never"] or "never" not in value)


def _rule(key: str) -> str:
    return key.replace("_", "-")


def _are_rules(value: object) -> bool:
    """Whether it is a table of our checks and what each does."""
    return isinstance(value, dict) and all(
        _rule(key) in RULES and action in ACTIONS for key, action in value.items()
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True, slots=True)
class _Key:
    is_valid: Callable[[object], bool]
    allowed: str


_COUNT = _Key(_is_count, "a whole number; 0 for no limit")
_KEYS = {
    "login": _Key(_is_pattern, "a full address, or *@domain"),
    "password": _Key(
        _are_hashes, f"one to {PASSWORDS_LIMIT} argon2id hashes, by: fwdmta account"
    ),
    "scram": _Key(
        lambda value: all(map(_is_scram, _list(value))),
        "SCRAM-SHA-256 keys, by: fwdmta account",
    ),
    "send_as": _Key(
        lambda value: isinstance(value, list) and all(map(_is_pattern, value)),
        "a list of addresses or *@domain",
    ),
    "smtp": _Key(lambda value: isinstance(value, bool), "true or false"),
    "notify": _Key(_are_notices, "a list of " + ", ".join(_NOTIFY)),
    "language": _Key(
        lambda value: isinstance(value, str) and value in LANGUAGES,
        "one of " + ", ".join(LANGUAGES),
    ),
    "messages_per_account": _COUNT,
    "recipients_per_account": _COUNT,
    "rules": _Key(
        _are_rules,
        f"a table of {', '.join(RULES).replace('-', '_')}, each {', '.join(ACTIONS)}",
    ),
    "retention_content": _Key(
        lambda value: _duration(value) is not None, 'a duration, as in "30d" or "0"'
    ),
}
# what an account may have beside its login and its secrets, wherever it is kept
SETTINGS = frozenset(_KEYS) - {"login", "password", "scram"}
