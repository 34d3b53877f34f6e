"""The same message submitted twice: a client that did not hear our 250.

It sends its message again, and the recipients would get it twice. Within a window the
second one gets the 250 and the id of the first (SPEC section 2).
"""

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b

from fwd_mta.interfaces import QueueKeeper
from fwd_mta.mail.entry import EntryFilter, StandingState
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.session import Session
from fwd_mta.rules.submission import is_relayed

REMEMBERED = 50_000  # messages; some 10 MB when full

_OWN_ID = re.compile(rb"^message-id[ \t]*:", re.IGNORECASE | re.MULTILINE)
_LOST = frozenset(
    {StandingState.FAILED, StandingState.EXPIRED, StandingState.CANCELLED}
)

Confirm = Callable[[str], Awaitable[bool]]


class Duplicates:
    """Remembers what was taken within `window` seconds; 0 remembers nothing.

    `confirm` is asked whether a message is still good for a second 250.
    """

    def __init__(self, window: float, confirm: Confirm) -> None:
        self.window = window
        self._confirm = confirm
        self._taken: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def watches(self, session: Session) -> bool:
        """Whether a message of this session may be a duplicate at all."""
        is_ours = session.account is not None and not is_relayed(session)
        return bool(self.window) and is_ours

    def key(
        self, session: Session, envelope: Envelope, head: bytes, body: bytes
    ) -> bytes | None:
        """What makes a message the same; None where nothing may be a duplicate.

        `body` is the digest of the body as it came.
        """
        account = session.account
        if account is None or not self.watches(session) or not _OWN_ID.search(head):
            return None
        said = repr((account.login, envelope, len(head))).encode()
        return blake2b(said + b"\0" + head + body, digest_size=20).digest()

    async def first(self, key: bytes | None, now: float) -> str | None:
        """The id of the message this one repeats, or None."""
        if key is None:
            return None
        at, name = self._taken.get(key, (-self.window, ""))
        if not 0 <= now - at < self.window or not await self._confirm(name):
            return None
        return name

    def remember(self, key: bytes | None, name: str, now: float) -> None:
        """A message is durable; the oldest ones make room for it."""
        if key is None:
            return
        self._taken[key] = (now, name)
        self._taken.move_to_end(key)
        while self._is_old(now) or len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)

    def _is_old(self, now: float) -> bool:
        at, _ = next(iter(self._taken.values()))
        return not 0 <= now - at < self.window


def confirmed_by(store: QueueKeeper) -> Confirm:
    """Ask the store: the first must be there, and no recipient of it lost."""

    async def confirm(name: str) -> bool:
        found = await store.entries(EntryFilter(ids=(name,)))
        return bool(found) and not any(one.state in _LOST for one in found[0].standings)

    return confirm
