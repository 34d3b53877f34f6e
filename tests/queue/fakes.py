"""A scripted delivery agent for the scheduler's tests."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from fwd_mta.interfaces import Delivery
from fwd_mta.mail.entry import Attempt, DeliveryResult
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.errors import Interrupted
from fwd_mta.mail.route import Destination

Script = Callable[[Recipient], DeliveryResult]


class ScriptedAgent:
    """Answers each recipient by a function; can be made to wait, or to raise.

    `slow` is waited for before the dot, `gate` after it.
    """

    def __init__(self, script: Script, now: Callable[[], float]) -> None:
        self.script = script
        self.deliveries: list[Delivery] = []
        self.times: list[float] = []
        self.slow: Deferred[None] | None = None
        self.gate: Deferred[None] | None = None
        self.error: Exception | None = None
        self._now = now

    def at_once(self, delivery: Delivery, done: Callable[[Attempt], None]) -> bool:
        """Nothing goes at once."""
        return False

    async def deliver(self, delivery: Delivery) -> Attempt:
        """Note the delivery and answer it."""
        self.deliveries.append(delivery)
        started = self._now()
        self.times.append(started)
        if self.error is not None:
            raise self.error
        if self.slow is not None:
            await self.slow
        recipients: Sequence[Recipient] = delivery.envelope.recipients
        try:
            await delivery.before_dot(recipients)
        except Interrupted:
            return Attempt(started, self._now(), ())
        if self.gate is not None:
            await self.gate
        results = tuple(self.script(one) for one in recipients)
        return Attempt(started, self._now(), results)

    async def site(self, destination: Destination) -> str:
        """Every next hop is a site of its own."""
        return destination.next_hop

    async def stop(self) -> None:
        """Nothing to stop."""
