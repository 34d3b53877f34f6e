"""All sources of accounts as one: the file, a database, Dovecot.

A login belongs to the first source that names it, then to the first that has a
domain-wide account for it, then to Dovecot, which tells of nobody. A refusal costs what
all sources cost, so that the time does not tell where a login is.
"""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from typing_extensions import override

from fwd_mta.events import Emit, Lifecycle, Trouble
from fwd_mta.inbound.accounts import FileAccounts
from fwd_mta.inbound.dovecot import DovecotAccounts
from fwd_mta.inbound.sql import SqlAccounts
from fwd_mta.interfaces import Accounts
from fwd_mta.mail.account import Account
from fwd_mta.mail.errors import LookUpFailed
from fwd_mta.smtp.scram import ScramKeys

T = TypeVar("T")

ALARM_EVERY = 300.0
NOBODY = "nobody@invalid"  # RFC 6761 6.4: no login of anybody


class AllAccounts(Accounts):
    """The accounts of the file and of what else is configured.

    A source that cannot say makes an alarm, at most every five minutes, and a line
    when it answers again; who logs in meanwhile hears 454 (P4).
    """

    def __init__(self, file: FileAccounts, clock: IReactorTime, emit: Emit) -> None:
        self._file = file
        self._sql: SqlAccounts | None = None
        self._dovecot: DovecotAccounts | None = None
        self._clock = clock
        self._emit = emit
        self._alarmed: dict[Accounts, float] = {}

    def use(self, sql: SqlAccounts | None, dovecot: DovecotAccounts | None) -> None:
        """Ask these beside the file, from now on."""
        if self._sql is not None and self._sql is not sql:
            self._sql.close()
        self._sql, self._dovecot = sql, dovecot
        self._alarmed.clear()

    def use_secret(self, secret: bytes) -> None:
        """Make up the salts of logins that there are not from this."""
        self._file.salt_secret = secret
        if self._sql is not None:
            self._sql.salt_secret = secret

    def close(self) -> None:
        """Let the sources go."""
        self.use(None, None)

    @override
    async def find(self, login: str) -> Account | None:
        """The account of a login; raises LookUpFailed when a source cannot say."""
        return (await self._owner(login))[1]

    @override
    async def verify(self, login: str, password: str) -> Account | None:
        """The account if the password is right; else all sources are asked."""
        owner, _ = await self._owner(login)
        account = await self._told(owner, owner.verify(login, password))
        if account is None:
            for one in self._sources():
                if one is not owner:
                    _ = await self._told(one, one.verify(NOBODY, password))
        return account

    @override
    def offers_scram(self) -> bool:
        """Whether every password of every account has SCRAM keys."""
        return all(one.offers_scram() for one in self._sources())

    @override
    async def scram_keys(self, login: str) -> Sequence[ScramKeys]:
        """The keys of a login, or made-up ones."""
        owner, _ = await self._owner(login)
        return await self._told(owner, owner.scram_keys(login))

    def _sources(self) -> list[Accounts]:
        """Whom to ask; a file without accounts only when there is nobody else."""
        beside: list[Accounts] = [
            one for one in (self._sql, self._dovecot) if one is not None
        ]
        return beside if beside and self._file.is_empty else [self._file, *beside]

    async def _owner(self, login: str) -> tuple[Accounts, Account | None]:
        """Who answers for a login; nobody's login is for the last source to refuse."""
        sources = self._sources()
        found = [(one, await self._told(one, one.find(login))) for one in sources]
        known = [(one, account) for one, account in found if account is not None]
        own = [pair for pair in known if not pair[1].login.startswith("*@")]
        return next(iter([*own, *known, (sources[-1], None)]))

    async def _told(self, source: Accounts, question: Awaitable[T]) -> T:
        """The answer of a source, which may be an alarm, or the end of one."""
        try:
            answer = await question
        except LookUpFailed as failed:
            self._alarm(source, failed)
            raise
        if source in self._alarmed and (source is not self._dovecot or answer):
            del self._alarmed[source]
            self._emit(Lifecycle("a source of accounts answers again"))
        return answer

    def _alarm(self, source: Accounts, failed: LookUpFailed) -> None:
        now, last = self._clock.seconds(), self._alarmed.get(source)
        if last is None or now - last >= ALARM_EVERY:
            self._alarmed[source] = now
            cure = "logins are answered 454 until it does"
            self._emit(Trouble("accounts", str(failed), cure))
