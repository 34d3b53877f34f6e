"""An account from a row of a database, or from the fields of Dovecot's answer.

The names are those of `accounts.toml`; lists may be written with commas or blanks, and
so may tables, as in "eicar=note". What is none of our names is none of our business.
"""

import re
from collections.abc import Sequence

from fwd_mta.inbound.accounts import (
    SETTINGS,
    StoredAccount,
    mistakes_in,
    stored_account,
)
from fwd_mta.inbound.passwords import PASSWORDS_LIMIT
from fwd_mta.interfaces import Row
from fwd_mta.mail.account import Account
from fwd_mta.mail.errors import LookUpFailed

_SCHEME = "{ARGON2ID}"  # as Dovecot writes it
_LISTS = frozenset({"send_as", "notify"})
_COUNTS = frozenset({"messages_per_account", "recipients_per_account"})
_TRUTH = {
    word: word in {"1", "t", "true", "y", "yes", "on"}
    for word in (
        "1",
        "t",
        "true",
        "y",
        "yes",
        "on",
        "0",
        "f",
        "false",
        "n",
        "no",
        "off",
    )
}


def account_of(login: str, rows: Sequence[Row]) -> StoredAccount:
    """The account of a login: a password a row, all else from the first.

    Raises LookUpFailed, which names what is wrong and no secret: it is our fault, not
    the client's.
    """
    table = settings_of(rows[0])
    passwords = [_password(row.get("password")) for row in rows[:PASSWORDS_LIMIT]]
    keys = [str(row["scram"]) for row in rows[:PASSWORDS_LIMIT] if row.get("scram")]
    table |= {"login": login, "password": passwords, "scram": keys}
    mistakes = mistakes_in(table)
    if mistakes:
        raise LookUpFailed(f"account {login}: {'; '.join(mistakes)}")
    return stored_account(table)


def settings_of(row: Row) -> dict[str, object]:
    """What a row says beside the password, in the shapes of the file."""
    return {
        name: _shaped(name, value)
        for name, value in row.items()
        if name in SETTINGS and value is not None and value != ""
    }


def limits_and_more(login: str, row: Row) -> Account:
    """An account whose password is another's business; raises LookUpFailed."""
    table = settings_of(row)
    table["login"] = login
    mistakes = [one for one in mistakes_in(table) if not one.startswith("password:")]
    if mistakes:
        raise LookUpFailed(f"account {login}: {'; '.join(mistakes)}")
    return stored_account({**table, "password": []}).account


def _password(value: object) -> str:
    return value.removeprefix(_SCHEME) if isinstance(value, str) else ""


def _shaped(name: str, value: object) -> object:
    if name in _LISTS:
        return _list(value)
    if name in _COUNTS and isinstance(value, str) and value.isdecimal():
        return int(value)
    if name == "rules" and isinstance(value, str):
        pairs = (one.partition("=") for one in _words(value))
        return {rule: action for rule, _, action in pairs}
    if name == "smtp":
        return _TRUTH.get(str(value).lower(), value)
    return value


def _list(value: object) -> object:
    """A text with commas or blanks as a list; a database's own list as it is."""
    if isinstance(value, str):
        return _words(value)
    return list(value) if isinstance(value, (list, tuple)) else value


def _words(text: str) -> list[str]:
    return [one for one in re.split(r"[\s,]+", text) if one]
