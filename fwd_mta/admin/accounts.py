"""`accounts.toml` as the command edits it: comments kept, passwords never readable.

Doorway: `AccountsFile`. A change is written aside, synced and renamed over the old
file, whose mode and owner the new one keeps; two commands at once wait for each other.
"""

import fcntl
import hashlib
import hmac
import os
import stat
import stringprep
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path  # noqa: TID251 - the command is the one that edits this file

import tomlkit
from tomlkit.exceptions import TOMLKitError

from fwd_mta.inbound.accounts import SCRAM_ITERATIONS
from fwd_mta.inbound.passwords import PASSWORDS_LIMIT, argon2id_hash
from fwd_mta.interfaces import Entropy
from fwd_mta.mail.address import Mailbox, parse_mailbox
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.smtp.scram import ScramKeys

PASSWORD_LIMIT = 256
NOTIFY_WORDS = ("failure", "delay", "success")

_HEADER = """\
# Accounts of fwd_mta; written by `fwdmta account`, and fine to edit by hand.
# What each key means is explained in the accounts.toml that comes with fwd_mta.
"""


class AccountsError(Exception):
    """The change was not made; `str()` says why and what to do."""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account as a list shows it, without its secrets."""

    login: str
    smtp: bool
    passwords: int
    send_as: tuple[str, ...]
    notify: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What `add` needs to know."""

    login: str
    password: str
    send_as: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()


class AccountsFile:
    """The file; each change is on stable storage when its method returns."""

    def __init__(
        self,
        path: str,
        entropy: Entropy,
        hash_password: Callable[[str], str] = argon2id_hash,
    ) -> None:
        self.path = path
        self._file = Path(path)
        self._entropy = entropy
        self._hash = hash_password

    def rows(self) -> list[AccountRow]:
        """List the accounts in the order of the file."""
        return [_row(table) for table in self._tables(self._read())]

    def holds(self, login: str) -> bool:
        """Whether the file has it: accounts may come from elsewhere, without a file."""
        try:
            self.check_known(login)
        except AccountsError:
            return False
        return True

    def check_known(self, login: str) -> None:
        """Raise AccountsError when there is no such account."""
        self._found(self._read(), login)

    def add(self, account: NewAccount) -> None:
        """Add an account; its login must be new (else: `allow`, `set_password`)."""
        login = check_pattern(account.login)
        patterns = [check_pattern(pattern) for pattern in account.send_as]
        table = tomlkit.table()
        table["login"] = login
        self._set_password(table, account.password)
        table["send_as"] = patterns or [login]
        table["smtp"] = True
        if account.notify:
            table["notify"] = list(account.notify)
        with self._changing() as document:
            if self._find(document, login) is not None:
                raise AccountsError(
                    f"there is an account {login} already; for a new password:"
                    f" fwdmta account password {login}"
                )
            self._append(document, table)

    def allow(self, login: str, patterns: Sequence[str]) -> tuple[str, ...]:
        """Let an account send as these addresses too; gives all it may send as."""
        added = [check_pattern(pattern) for pattern in patterns]
        with self._changing() as document:
            table = self._found(document, login)
            now = _list(table.get("send_as")) or [str(table["login"])]
            now += [one for one in added if _key(one) not in map(_key, now)]
            table["send_as"] = now
        return tuple(now)

    def has(self, login: str) -> bool:
        """Whether there is an account of this login."""
        return self._find(self._read(), login) is not None

    def set_password(self, login: str, password: str, *, keep_old: bool) -> None:
        """Give an account a new password, with `keep_old` beside the old ones."""
        with self._changing() as document:
            table = self._found(document, login)
            old = {name: _list(table.get(name)) for name in ("password", "scram")}
            # SCRAM tells one salt before it hears which password it will be
            salt = _salt(old["scram"]) if keep_old else None
            self._set_password(table, password, salt)
            if keep_old:
                for name, values in old.items():
                    table[name] = [table[name], *values][:PASSWORDS_LIMIT]

    def switch(self, login: str, *, on: bool) -> None:
        """Switch an account's access to SMTP on or off."""
        with self._changing() as document:
            self._found(document, login)["smtp"] = on

    def remove(self, login: str) -> None:
        """Remove an account."""
        with self._changing() as document:
            table = self._found(document, login)
            document["account"].remove(table)
            if not document["account"]:
                del document["account"]

    def _set_password(
        self, table: tomlkit.items.Table, password: str, salt: bytes | None = None
    ) -> None:
        check_password(password)
        table["password"] = self._hash(password)
        table["scram"] = scram_keys(password, salt or self._entropy.octets(16))

    def _read(self) -> tomlkit.TOMLDocument:
        try:
            text = self._file.read_text("utf-8")
        except FileNotFoundError:
            return tomlkit.parse(_HEADER)
        except (OSError, UnicodeDecodeError) as error:
            raise AccountsError(f"{self.path} cannot be read: {error}") from error
        try:
            return tomlkit.parse(text)
        except TOMLKitError as error:
            raise AccountsError(f"{self.path} is not TOML: {error}") from error

    def _tables(self, document: tomlkit.TOMLDocument) -> list[tomlkit.items.Table]:
        tables = document.get("account") or tomlkit.aot()
        if not isinstance(tables, tomlkit.items.AoT) or not all(
            isinstance(table.get("login"), str) for table in tables
        ):
            raise AccountsError(
                f"{self.path}: every account is an [[account]] with a login; mend it"
            )
        return list(tables)

    def _find(
        self, document: tomlkit.TOMLDocument, login: str
    ) -> tomlkit.items.Table | None:
        wanted = _key(login)
        for table in self._tables(document):
            if _key(table["login"]) == wanted:
                return table
        return None

    def _found(self, document: tomlkit.TOMLDocument, login: str) -> tomlkit.items.Table:
        table = self._find(document, login)
        if table is None:
            raise AccountsError(
                f"there is no account {login} in {self.path};"
                " see which there are: fwdmta account list"
            )
        return table

    def _append(
        self, document: tomlkit.TOMLDocument, table: tomlkit.items.Table
    ) -> None:
        if not document.get("account"):
            document["account"] = tomlkit.aot()
        document["account"].append(table)

    @contextmanager
    def _changing(self) -> Iterator[tomlkit.TOMLDocument]:
        """Read, let the caller change, write; nobody else changes it meanwhile."""
        try:
            with _locked(str(self._file.parent)):
                document = self._read()
                yield document
                self._replace(tomlkit.dumps(document).encode())
        except OSError as error:
            raise AccountsError(
                f"{self.path} cannot be written: {error.strerror}"
            ) from error

    def _replace(self, content: bytes) -> None:
        """Write aside, sync, rename: a reader sees the old file or the new one."""
        aside = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            with aside.open("xb") as written:
                self._keep_owner(written.fileno())
                written.write(content)
                written.flush()
                os.fsync(written.fileno())  # noqa: TID251 - durable before it counts
            aside.replace(self._file)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise
        _sync_directory(str(self._file.parent))

    def _keep_owner(self, descriptor: int) -> None:
        """Give mode and owner of the old file; a new one belongs to its directory."""
        try:
            old, mode = self._file.stat(), None
        except FileNotFoundError:
            old, mode = self._file.parent.stat(), 0o600
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode) if mode is None else mode)
        now = os.fstat(descriptor)
        if (now.st_uid, now.st_gid) == (old.st_uid, old.st_gid):
            return
        if mode is not None and os.geteuid() != 0:
            return
        os.fchown(descriptor, old.st_uid, old.st_gid)


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)  # noqa: TID251
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)  # noqa: TID251
    try:
        os.fsync(descriptor)  # noqa: TID251 - the rename must be durable too
    finally:
        os.close(descriptor)


def _salt(keys: Sequence[str]) -> bytes | None:
    """The salt of the first keys, when they can be used beside new ones."""
    with suppress(SyntaxFault):
        for one in map(ScramKeys.parse, keys[:1]):
            return one.salt if one.iterations == SCRAM_ITERATIONS else None
    return None


def _row(table: Mapping[str, object]) -> AccountRow:
    login = str(table["login"])
    return AccountRow(
        login=login,
        smtp=table.get("smtp") is not False,
        passwords=len(_list(table.get("password"))),
        send_as=tuple(_list(table.get("send_as"))) or (login,),
        notify=tuple(_list(table.get("notify"))),
    )


def _list(value: object) -> list[str]:
    if isinstance(value, str):
        return [str(value)]
    return [str(one) for one in value] if isinstance(value, Sequence) else []


def _key(login: str) -> tuple[str, str]:
    local, _, domain = login.rpartition("@")
    return local.lower(), Mailbox("", domain).key[1]


def check_pattern(text: str) -> str:
    """Give back a login or send_as pattern; raises AccountsError when it is none."""
    local, at, domain = text.rpartition("@")
    try:
        parse_mailbox(f"any@{domain}" if at and local == "*" else text)
    except SyntaxFault as fault:
        raise AccountsError(
            f"{text!r} is no login: {fault}; write the full address, or *@domain"
        ) from fault
    if not at:
        raise AccountsError(f"{text!r} has no @domain; write the full address")
    return text


def check_password(password: str) -> None:
    """Refuse what a client could never send; raises AccountsError."""
    if not password:
        raise AccountsError("the password is empty")
    if len(password) > PASSWORD_LIMIT:
        raise AccountsError(f"the password is longer than {PASSWORD_LIMIT} characters")
    if any(unicodedata.category(character) == "Cc" for character in password):
        raise AccountsError("the password holds a control character")


def scram_keys(password: str, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> str:
    """Make the SCRAM-SHA-256 keys of a password (RFC 5802 3), written as RFC 5803 does.

    `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the three in base64.
    """
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (
        b64encode(octets).decode() for octets in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored64}:{server64}"


def _prepared(password: str) -> bytes:
    """Prepare a password by SASLprep's mapping and normalization (RFC 4013 2.1, 2.2).

    What SASLprep forbids passes as it is: clients that cannot prepare it send it so.
    """
    if password.isascii():
        return password.encode()
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in password
        if not stringprep.in_table_b1(character)
    )
    return unicodedata.normalize("NFKC", mapped).encode()
