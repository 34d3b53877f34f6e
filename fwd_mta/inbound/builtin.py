"""The checks that need no service, as a scanner (`rules.inspection` decides)."""

from collections.abc import Mapping

from typing_extensions import override

from fwd_mta.interfaces import Scanner, Worker
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.message import Message
from fwd_mta.mail.scan import ScanReport
from fwd_mta.mail.session import Session
from fwd_mta.rules.inspection import Inspector, report

_SMALL = 64 * 1024
BLOCK = 256 * 1024  # of a large body: each takes two jobs of a thread


class BuiltIn(Scanner):
    """Looks at structure, attachments and links; large bodies on the worker.

    `actions` say reject, tag, note or off for each rule; an account may have its own.
    """

    def __init__(self, worker: Worker, actions: Mapping[str, str]) -> None:
        self.actions = actions
        self._worker = worker

    @property
    @override
    def name(self) -> str:
        """Its name in reports."""
        return "builtin"

    def at_once(self, session: Session, message: Message) -> ScanReport | None:
        """The report on a small message, None for one that takes time."""
        body = message.body
        if not isinstance(body, bytes) or len(body) > _SMALL:
            return None
        inspector = Inspector(message.head)
        inspector.feed(body)
        return report(inspector.finish(), self._actions_for(session))

    def _actions_for(self, session: Session) -> Mapping[str, str]:
        account = session.account
        if account is None or not account.rules:
            return self.actions
        return {**self.actions, **dict(account.rules)}

    @override
    async def scan(
        self, session: Session, envelope: Envelope, message: Message
    ) -> ScanReport:
        """Feed the message to an inspector, block by block."""
        found = self.at_once(session, message)
        if found is not None:
            return found
        inspector = Inspector(message.head)
        for at in range(0, message.body_size, BLOCK):
            block = await message.read(at, BLOCK)
            # nobody else holds the inspector, and the next job waits for this one
            await self._worker.run(lambda block=block: inspector.feed(block))  # type: ignore[misc]
        doubts = await self._worker.run(inspector.finish)
        return report(doubts, self._actions_for(session))
