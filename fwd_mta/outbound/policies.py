"""MTA-STS policies of domains: found, fetched once, kept until they end (RFC 8461).

A policy that is kept holds whatever DNS or the policy host say, or do not say, until
its `max_age` is over: who cuts us off from them gains nothing.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from fwd_mta.interfaces import PolicyHost, Resolver, WallClock
from fwd_mta.mail.errors import FetchError, Unproved
from fwd_mta.mail.route import Found
from fwd_mta.rules import sts, tlsrpt
from fwd_mta.rules.sts import Mode, Policy

_PAUSE = 300.0  # after a fetch that failed, and between two looks that doubt asks for
_MOST_KEPT = 10_000


@dataclass(slots=True)
class Kept:
    """What is known of a domain; wall times. Without a policy: none was to be had."""

    policy: Policy | None
    identity: str
    until: float
    asked_at: float
    doubted: bool = False
    trouble: str = ""


class Policies:
    """Asks DNS for a domain's policy id, and its policy host when that is new."""

    def __init__(self, resolver: Resolver, host: PolicyHost, wall: WallClock) -> None:
        self._resolver = resolver
        self._host = host
        self._wall = wall
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._fetching: dict[str, list[Deferred[None]]] = {}
        self.on_change: Callable[[], Awaitable[None]] | None = None

    async def of(self, domain: str) -> Policy | None:
        """The policy in force for a domain; None when there is none."""
        answer = await self._resolver.text(f"_mta-sts.{domain}")
        texts = answer.records if isinstance(answer, Found) else ()
        identity = sts.record_id(texts)
        if identity is not None and self._is_wanted(domain, identity):
            await self._fetch(domain, identity)
        return self._in_force(domain)

    def doubt(self, domain: str) -> None:
        """Delivery failed by its policy: look for a new one before it ends (5.1)."""
        kept = self._kept.get(domain)
        if kept is not None:
            kept.doubted = True

    def trouble(self, domain: str) -> str:
        """Why a domain's policy was not to be had, as reports call it; or nothing."""
        kept = self._kept.get(domain)
        return kept.trouble if kept is not None else ""

    def _in_force(self, domain: str) -> Policy | None:
        kept = self._kept.get(domain)
        if kept is None or kept.policy is None or kept.until <= self._wall.now():
            return None
        return None if kept.policy.mode is Mode.NONE else kept.policy

    def _is_wanted(self, domain: str, identity: str) -> bool:
        kept, now = self._kept.get(domain), self._wall.now()
        if kept is None:
            return True
        if 0 <= now - kept.asked_at < _PAUSE:
            return False
        return kept.doubted or kept.identity != identity or kept.until <= now

    async def _fetch(self, domain: str, identity: str) -> None:
        """Fetch a policy, or wait for who does."""
        if domain in self._fetching:
            waiting: Deferred[None] = Deferred()
            self._fetching[domain].append(waiting)
            await waiting
            return
        self._fetching[domain] = []
        policy, trouble = None, tlsrpt.FETCH_ERROR
        try:
            policy = sts.parse(await self._host.fetch(domain))
            trouble = "" if policy else tlsrpt.POLICY_INVALID
        except Unproved:
            trouble = tlsrpt.WEBPKI_INVALID
        except FetchError:
            policy = None
        finally:
            self._keep(domain, identity, policy)
            self._kept[domain].trouble = trouble
            for each in self._fetching.pop(domain):
                each.callback(None)
        if policy is not None and self.on_change is not None:
            await self.on_change()

    def _keep(self, domain: str, identity: str, policy: Policy | None) -> None:
        now = self._wall.now()
        kept = self._kept.pop(domain, None)
        if policy is not None:
            kept = Kept(policy, identity, now + policy.max_age, now)
        elif kept is None:
            kept = Kept(None, "", now, now)
        else:
            kept.asked_at = now
        self._kept[domain] = kept
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)

    # Over a restart

    def known(self) -> dict[str, tuple[str, float, Policy]]:
        """What is worth keeping: id, end and policy of each domain."""
        now = self._wall.now()
        return {
            domain: (kept.identity, kept.until, kept.policy)
            for domain, kept in self._kept.items()
            if kept.policy is not None and kept.until > now
        }

    def remember(self, known: dict[str, tuple[str, float, Policy]]) -> None:
        """Take in what was kept before a restart."""
        for domain, (identity, until, policy) in known.items():
            self._kept[domain] = Kept(policy, identity, until, 0.0)
