"""What one session was as TLS, told to whoever counts it for reports (RFC 8460)."""

from collections.abc import Callable
from dataclasses import dataclass

from fwd_mta.mail.entry import Stage
from fwd_mta.mail.route import Host
from fwd_mta.outbound.connection import Connection
from fwd_mta.outbound.opening import NotOpened
from fwd_mta.rules import tlsrpt
from fwd_mta.rules.security import Demand
from fwd_mta.rules.sts import Policy
from fwd_mta.rules.tlsrpt import Applied, Failure, Kind

Count = Callable[[str, Applied, Failure | None], None]


@dataclass(frozen=True, slots=True)
class Witness:
    """Sees sessions with one host of a domain, under one policy.

    `fault` is a result type that holds whatever the session comes to.
    """

    count: Count
    domain: str
    applied: Applied
    fault: str = ""

    @classmethod
    def of(
        cls,
        count: Count,
        domain: str,
        name: str,
        demand: Demand,
        policy: Policy | None,
        trouble: str,
    ) -> "Witness":
        """For a host called `name`; `trouble` is why the domain's policy is not had."""
        if demand.why.startswith("DANE"):
            base = demand.names[0] if demand.names else name
            fault = "" if demand.records else tlsrpt.TLSA_INVALID
            return cls(count, domain, tlsrpt.by_dane(base, demand.records), fault)
        if policy is None and trouble:
            return cls(count, domain, tlsrpt.by_sts(domain, None), trouble)
        applied = tlsrpt.applied(domain, policy)
        known = applied.kind is not Kind.STS or policy is None or policy.allows(name)
        return cls(count, domain, applied, "" if known else tlsrpt.INVALID)

    def saw(
        self,
        connection: Connection,
        host: Host,
        source: str | None,
        why: NotOpened | None = None,
    ) -> None:
        """Tell how a session began; one that broke before it came to TLS says nothing.

        `why`: it was given up.
        """
        if why is not None and why.stage is not Stage.STARTTLS:
            return
        result, reason = self._result(connection, why)
        if self.fault and connection.tls is not None:
            result, reason = self.fault, ""
        failure = None
        if result:
            failure = Failure(result, host.name, host.address, source or "", reason)
        self.count(self.domain, self.applied, failure)

    def _result(self, connection: Connection, why: NotOpened | None) -> tuple[str, str]:
        reason = str(why.reply or (why.trouble and why.trouble.detail)) if why else ""
        fault = connection.tls_fault
        if connection.tls is not None:
            if fault is None or self.applied.kind is Kind.NONE:
                return "", ""
            return tlsrpt.result_of_fault(fault), fault
        trouble = why.trouble if why else None
        if trouble is None or trouble.kind in {"tls-required", "requiretls"}:
            return tlsrpt.NOT_SUPPORTED, reason
        return tlsrpt.INVALID, reason
