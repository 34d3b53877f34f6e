"""Delivers over SMTP and LMTP: finds hosts, tries them in order, tells what they said.

A refusal or a failure of a host is a result; only the last host's, or the one that
leaves most hope, becomes the recipient's. Nothing here raises for a peer's sins. It is
made of

    means      what every delivery is made with
    trip       one delivery on its way from host to host
    visit      what happens at one of them
    findings   what is known of each recipient by then
    straight   the same by plain calls, where mail just went
"""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from typing_extensions import override

from fwd_mta.interfaces import (
    Delivery,
    DeliveryAgent,
    Entropy,
    Network,
    PolicyHost,
    Resolver,
    WallClock,
)
from fwd_mta.mail.entry import Attempt
from fwd_mta.mail.errors import Interrupted
from fwd_mta.mail.route import Destination, Via
from fwd_mta.net.tls import ClientTlsContext
from fwd_mta.outbound.connection import Trouble
from fwd_mta.outbound.means import AgentSettings, Means
from fwd_mta.outbound.straight import Errand, Ways
from fwd_mta.outbound.trip import Trip
from fwd_mta.rules import exchangers
from fwd_mta.rules.classification import RuleTable
from fwd_mta.rules.signing import SigningKey

__all__ = ["Agent", "AgentSettings"]

_SITES_KEPT = 10_000
_SITE_KEPT_FOR = 60.0

_log = Logger()


class Agent(Means, DeliveryAgent):
    """The delivery agent for all destinations."""

    @override
    def __init__(
        self,
        network: Network,
        resolver: Resolver,
        clock: IReactorTime,
        wall: WallClock,
        entropy: Entropy,
        table: RuleTable,
        trust: ClientTlsContext,
        settings: AgentSettings,
        keys: Sequence[SigningKey] = (),
        policy_host: PolicyHost | None = None,
    ) -> None:
        super().__init__(
            network,
            resolver,
            clock,
            wall,
            entropy,
            table,
            trust,
            settings,
            keys,
            policy_host,
        )
        self._sites: dict[Destination, tuple[float, str]] = {}
        self._ways = Ways()

    @override
    async def deliver(self, delivery: Delivery) -> Attempt:
        """Try once; what was heard before a defect of ours is still told (P4)."""
        return await self._made(Trip(self, delivery), self.wall.now())

    async def _made(self, trip: Trip, started: float) -> Attempt:
        try:
            await trip.run()
        except Interrupted as why:
            trip.findings.interrupt(str(why))
        except Exception as defect:  # noqa: BLE001 - it must not cost what is done
            _log.failure("a defect in the delivery of {id}", id=trip.entry_id)
            trip.findings.fail_rest(
                Trouble("interrupted", f"internal error: {defect!r}")
            )
        if trip.way is not None:
            self._ways.note(trip.destination, trip.way, self)
        return self._attempt(trip, started)

    def _attempt(self, trip: Trip, started: float) -> Attempt:
        findings, ended = trip.findings, self.wall.now()
        return Attempt(started, ended, findings.results(), tuple(findings.trail))

    @override
    def at_once(self, delivery: Delivery, done: Callable[[Attempt], None]) -> bool:
        """Begin on a known way, if a connection is ready; False: use `deliver`."""
        way = self._ways.find(delivery.destination, self)
        if way is None:
            return False
        return Errand(self, delivery, way, done, self._unhappy).begin()

    def _unhappy(self, errand: Errand, why: BaseException | None) -> None:
        """Do the rest of an errand the long way."""
        rest = Deferred.fromCoroutine(self._rest(errand, why))
        told = rest.addCallback(errand.done)
        _ = told.addErrback(lambda failure: _log.failure("a defect", failure))

    async def _rest(self, errand: Errand, why: BaseException | None) -> Attempt:
        trip, transaction = Trip(self, errand.delivery), errand.transaction
        if isinstance(why, Interrupted):
            trip.findings.interrupt(str(why))
            return self._attempt(trip, errand.begun_at)
        if not transaction.stale:
            trip.after(transaction, errand.connection, errand.line)
        if why is None:
            return await self._made(trip, errand.begun_at)
        trip.findings.fail_rest(Trouble("interrupted", f"internal error: {why!r}"))
        return self._attempt(trip, errand.begun_at)

    @override
    async def site(self, destination: Destination) -> str:
        """The set of exchangers, by name; of a named host or socket, itself."""
        match destination.via:
            case Via.DISCARD | Via.ERROR:
                return ""
            case Via.HOST | Via.LMTP:
                return f"{destination.next_hop}:{destination.port}"
            case Via.MX:
                return await self._exchangers_of(destination)

    async def _exchangers_of(self, destination: Destination) -> str:
        known = self._sites.get(destination)
        now = self.clock.seconds()
        if known is not None and now < known[0]:
            return known[1]
        answer = await self.resolver.exchangers(destination.next_hop)
        name = f"{exchangers.site(destination.next_hop, answer)}:{destination.port}"
        if len(self._sites) >= _SITES_KEPT:
            self._sites.clear()
        self._sites[destination] = now + _SITE_KEPT_FOR, name
        return name

    @override
    async def stop(self) -> None:
        """Close idle connections."""
        await self.pool.stop()
