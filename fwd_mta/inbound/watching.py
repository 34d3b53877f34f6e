"""The accounts file, looked at every quarter of a minute: a change needs no reload."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from fwd_mta.events import Emit, Lifecycle, Trouble
from fwd_mta.inbound.accounts import AccountsFault, FileAccounts

LOOK_EVERY = 15.0


class AccountsWatch:
    """Takes a changed file into use; a bad one is reported, and the old one stays."""

    def __init__(self, accounts: FileAccounts, clock: IReactorTime, emit: Emit) -> None:
        self._accounts = accounts
        self._emit = emit
        self._loop = LoopingCall(self._look_later)
        self._loop.clock = clock
        self.every = LOOK_EVERY
        self._ended: Deferred[LoopingCall] | None = None

    def start(self) -> None:
        """Begin to look (`every` so many seconds)."""
        self._ended = self._loop.start(self.every, now=False)

    async def stop(self) -> None:
        """Look no more."""
        ended, self._ended = self._ended, None
        if ended is not None:
            if self._loop.running:
                self._loop.stop()
            await ended

    def _look_later(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look())

    async def _look(self) -> None:
        try:
            if await self._accounts.refresh():
                self._emit(Lifecycle("the accounts file has changed and is in use"))
        except AccountsFault as fault:
            for line in fault.errors:
                self._emit(Trouble("accounts", line, "the old accounts stay in use"))
        except Exception as broken:  # noqa: BLE001 - the next look must come
            what = f"looking for changes failed: {type(broken).__name__}"
            self._emit(Trouble("accounts", what, "it is tried again in 15 seconds"))
