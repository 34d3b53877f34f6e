"""The verb `why`: one message explained, or all that waits for an address or a site.

Doorway: `Why(...).ask(request) -> answer`, a verb for `control.Commands`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace

from fwd_mta.admin.answers import row
from fwd_mta.admin.asking import CommandError, Json, text_of, unknown
from fwd_mta.interfaces import QueueKeeper, WallClock
from fwd_mta.mail.address import Mailbox, parse_mailbox
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Standing
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.outbound.outlook import Outlook
from fwd_mta.queue.sites import Obstacle
from fwd_mta.rules.identity import is_entry_id
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.why import Circumstances, clusters, explain

LOOKED_AT = 1000  # messages that an answer about an address or a site sums up
_TOLD = 12  # reasons in an answer
_NAMES = 5  # recipients named beside each reason

Doing = Callable[[str], str]
Sites = Callable[[Sequence[Recipient], str], Awaitable[Obstacle | None]]
Doors = Callable[[str], Awaitable[Sequence[str]]]
Look = Callable[[Mailbox], Awaitable[Outlook]]


def _idle(entry_id: str) -> str:
    """Say that nothing is in work: no server runs."""
    return ""


class Why:
    """Explains; `look` is there only where a server runs, and asks DNS.

    `doors` tells what keeps us from taking mail in now, from the account of that name
    or from all.
    """

    def __init__(
        self,
        keeper: QueueKeeper,
        wall: WallClock,
        schedule: Callable[[], RetrySchedule],
        retention: Callable[[], RetentionPolicy],
        doing: Doing = _idle,
        look: Look | None = None,
        sites: Sites | None = None,
        doors: Doors | None = None,
    ) -> None:
        self._keeper = keeper
        self._wall = wall
        self._schedule = schedule
        self._retention = retention
        self._doing = doing
        self._look = look
        self._sites = sites
        self._doors = doors

    async def ask(self, request: Json) -> Json:
        """Explain what `name` names: a queue id, an address, a domain or a host."""
        name = text_of(request, "name").strip()
        if is_entry_id(name):
            return await self._message(name)
        mailbox = _mailbox(name)
        if mailbox.local:
            wanted = [EntryFilter(recipient=str(mailbox))]
        else:
            domain = mailbox.key[1]
            wanted = [EntryFilter(domain=domain), EntryFilter(host=domain)]
        return await self._waiting(name, mailbox, wanted)

    async def _around(self, entry: QueueEntry | None = None) -> Circumstances:
        """What counts now; for an entry, what its own sites do too."""
        now = self._wall.now()
        around = Circumstances(now, self._schedule(), self._retention())
        if entry is None:
            return around
        waiting = [one.recipient for one in entry.open]
        found = await self._sites(waiting, entry.via) if self._sites else None
        doing = self._doing(entry.id)
        if doing or found is None:
            return replace(around, doing=doing)
        return replace(around, doing=found.words, not_before=now + found.seconds)

    async def _message(self, entry_id: str) -> Json:
        wanted = EntryFilter(ids=(entry_id,), finished=True)
        found = await self._keeper.entries(wanted)
        if not found:
            raise unknown(entry_id)
        around = await self._around(found[0])
        told = [asdict(one) for one in explain(found[0], around)]
        for one in told:
            one["count"] = len(one["recipients"])
            one["recipients"] = one["recipients"][:_NAMES]
        more = max(0, len(told) - _TOLD)
        return {"entry": row(found[0]), "reasons": told[:_TOLD], "more": more}

    async def _waiting(
        self, name: str, mailbox: Mailbox, wanted: list[EntryFilter]
    ) -> Json:
        found: dict[str, QueueEntry] = {}
        for one in wanted:
            entries = await self._keeper.entries(replace(one, limit=LOOKED_AT))
            found |= {entry.id: entry for entry in entries}

        def about(standing: Standing) -> bool:
            return any(one.concerns(standing) for one in wanted)

        around = await self._around()
        some = clusters(iter(found.values()), about, around)
        to = [Recipient(mailbox)]
        site = await self._sites(to, "") if self._sites else None
        looked = await self._look(mailbox) if self._look else None
        return {
            "name": name,
            "messages": len(found),
            "all": len(found) < LOOKED_AT,
            "reasons": [asdict(one) for one in some[:_TOLD]],
            "site": site and site.words,
            "site_until": site and around.now + site.seconds,
            "outlook": looked and asdict(looked),
            "doors": list(await self._doors(name)) if self._doors else [],
        }


def _mailbox(name: str) -> Mailbox:
    """An address, or an address without local part for a domain or a host."""
    try:
        if "@" in name:
            return parse_mailbox(name.removeprefix("<").removesuffix(">"))
        return parse_mailbox(f"x@{name.removesuffix('.')}")._replace(local="")
    except SyntaxFault as fault:
        raise CommandError(
            f"{name} is no queue id, address, domain or host: {fault}"
        ) from fault
