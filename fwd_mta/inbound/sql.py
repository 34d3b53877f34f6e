"""Accounts from a database, by the operator's query.

The query is asked with the login and, for a domain-wide account, with "*@domain"; both
each time, so that the time tells nothing. Its columns are the keys of `accounts.toml`.
"""

from collections.abc import Sequence

from typing_extensions import override

from fwd_mta.inbound.accounts import SCRAM_SHAPE, StoredAccount, login_key
from fwd_mta.inbound.passwords import Passwords
from fwd_mta.inbound.rows import account_of
from fwd_mta.interfaces import AccountRows, Accounts
from fwd_mta.mail.account import Account
from fwd_mta.smtp.scram import ScramKeys, made_up_keys


class SqlAccounts(Accounts):
    """The accounts of one database; what it holds is looked up each time.

    `has_scram` is the operator's word that every row has SCRAM keys: we do not see all.
    """

    def __init__(
        self,
        database: AccountRows,
        query: str,
        passwords: Passwords,
        *,
        has_scram: bool = False,
    ) -> None:
        self._database = database
        self._query = query
        self._passwords = passwords
        self._has_scram = has_scram
        self._most = 1
        self._scram_shape = SCRAM_SHAPE
        self.salt_secret = b""

    @override
    async def find(self, login: str) -> Account | None:
        """The account of a login (its own, or a domain-wide one), or None."""
        stored = await self._stored(login)
        return stored.account if stored else None

    @override
    async def verify(self, login: str, password: str) -> Account | None:
        """The account if the password is right; always as slow if it is not."""
        stored = await self._stored(login)
        hashes = stored.passwords if stored else ()
        self._most = max(self._most, len(hashes))
        # what there is not looks and costs like what was seen last
        self._passwords.expect(self._most, hashes[0] if hashes else "")
        fits = await self._passwords.fits(hashes, password)
        return stored.account if stored and fits else None

    @override
    def offers_scram(self) -> bool:
        """Whether the operator says that every row has SCRAM keys."""
        return self._has_scram

    @override
    async def scram_keys(self, login: str) -> Sequence[ScramKeys]:
        """The keys of a login, or made-up ones."""
        stored = await self._stored(login)
        if stored is not None and stored.has_scram:
            first = stored.scram[0]
            self._scram_shape = first.iterations, len(first.salt)
            return stored.scram
        key = login_key(login)
        return [made_up_keys(key, self.salt_secret, *self._scram_shape)]

    def close(self) -> None:
        """Let the database go."""
        self._database.close()

    async def _stored(self, login: str) -> StoredAccount | None:
        key = login_key(login)
        domain = key.rpartition("@")[2]
        asked = (key, f"*@{domain}")
        answers = await self._database.rows(
            self._query, [{"login": one, "domain": domain} for one in asked]
        )
        for one, rows in zip(asked, answers, strict=True):
            if rows:
                return account_of(one, rows)
        return None
