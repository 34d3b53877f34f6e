"""TLS reports: what sessions with a domain came to, counted and told (RFC 8460).

A domain that asks for reports gets one a day: how often TLS came about as its policy
(DANE, MTA-STS or none) wants it, and what stood against it. All here is pure.
"""

import gzip
import json
import re
from base64 import encodebytes
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from fwd_mta.mail.header import join, make_field
from fwd_mta.rules.dane import Tlsa
from fwd_mta.rules.stamping import format_date
from fwd_mta.rules.sts import Mode, Policy

DAY = 86_400
_MOST_DESTINATIONS = 10
_PLACE = re.compile(r"(?:mailto:[^ ]|https://[^ ])", re.IGNORECASE)
_MOST_DETAILS = 100
_LONGEST = 200
_LINE = 76


# What a domain asks for


def destinations(texts: Iterable[str]) -> tuple[str, ...]:
    """Where a domain wants its reports, by the TXT records at _smtp._tls (3).

    "mailto:…" and "https:…"; none when there is not exactly one record.
    """
    ours = [one for one in texts if re.match(r"v=TLSRPTv1[ \t]*;", one)]
    if len(ours) != 1:
        return ()
    found: dict[str, None] = {}
    for word in ours[0].split(";")[1:]:
        name, _, value = word.strip().partition("=")
        if name.strip() == "rua":
            found.update(dict.fromkeys(one.strip() for one in value.split(",")))
    return tuple(one for one in found if _PLACE.match(one))[:_MOST_DESTINATIONS]


# What is counted


class Kind(StrEnum):
    """Whose policy was applied (4.2)."""

    TLSA = "tlsa"
    STS = "sts"
    NONE = "no-policy-found"


@dataclass(frozen=True, slots=True)
class Applied:
    """A policy as reports name it; `domain` is where it is defined."""

    kind: Kind
    domain: str
    strings: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a session was not as the policy wants it (4.3): a result type, and where."""

    result: str
    host: str = ""
    address: str = ""
    source: str = ""
    reason: str = ""


NOT_SUPPORTED = "starttls-not-supported"
MISMATCH = "certificate-host-mismatch"
EXPIRED = "certificate-expired"
NOT_TRUSTED = "certificate-not-trusted"
INVALID = "validation-failure"
TLSA_INVALID = "tlsa-invalid"
DNSSEC_INVALID = "dnssec-invalid"
FETCH_ERROR = "sts-policy-fetch-error"
POLICY_INVALID = "sts-policy-invalid"
WEBPKI_INVALID = "sts-webpki-invalid"


def by_dane(name: str, records: Sequence[Tlsa]) -> Applied:
    """The policy that a host's TLSA records are."""
    strings = tuple(
        f"{one.usage} {one.selector} {one.matching} {one.data.hex()}" for one in records
    )
    return Applied(Kind.TLSA, name.lower(), strings, (name.lower(),))


def by_sts(domain: str, policy: Policy | None) -> Applied:
    """The MTA-STS policy of a domain; None: it has one that could not be had."""
    if policy is None:
        return Applied(Kind.STS, domain)
    strings = (
        "version: STSv1",
        f"mode: {policy.mode}",
        *(f"mx: {name}" for name in policy.names),
        f"max_age: {policy.max_age}",
    )
    return Applied(Kind.STS, domain, strings, policy.names)


def applied(domain: str, policy: Policy | None) -> Applied:
    """What goes for a domain whose hosts have no TLSA records."""
    if policy is None or policy.mode is Mode.NONE:
        return Applied(Kind.NONE, domain)
    return by_sts(domain, policy)


def result_of_fault(fault: str) -> str:
    """The result type of what is wrong with a certificate, in our own words."""
    if "not for" in fault or "another name" in fault:
        return MISMATCH
    if "expired" in fault:
        return EXPIRED
    if "TLSA" in fault:
        return INVALID
    return NOT_TRUSTED


@dataclass(slots=True)
class Count:
    """How many sessions were as a policy wants them, and why others were not."""

    good: int = 0
    bad: Counter[Failure] = field(default_factory=Counter)

    def add(self, failure: Failure | None, times: int = 1) -> None:
        """Count sessions; of very many different failures only the kind is kept."""
        if failure is None:
            self.good += times
            return
        failure = replace(failure, reason=failure.reason[:_LONGEST])
        if failure not in self.bad and len(self.bad) >= _MOST_DETAILS:
            failure = Failure(failure.result)
        self.bad[failure] += times


Counts = Mapping[Applied, Count]


# What is told


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: the address reports come from, its organization, whom to ask."""

    sender: str
    organization: str
    contact: str

    @property
    def domain(self) -> str:
        """The domain that signs."""
        return self.sender.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Report:
    """One day of one domain; `day` counts days since the epoch, in UTC."""

    domain: str
    day: int

    @property
    def begins(self) -> datetime:
        """The first second of the day."""
        return datetime.fromtimestamp(self.day * DAY, UTC)

    @property
    def ends(self) -> datetime:
        """The last second of the day."""
        return self.begins + timedelta(seconds=DAY - 1)

    def id(self, reporter: Reporter) -> str:
        """The same whenever it is made again."""
        return f"{self.begins:%Y-%m-%d}.{self.domain}@{reporter.domain}"

    def file_name(self, reporter: Reporter) -> str:
        """RFC 8460 5.1."""
        begins, ends = self.begins.timestamp(), self.ends.timestamp()
        return f"{reporter.domain}!{self.domain}!{begins:.0f}!{ends:.0f}.json.gz"


def as_json(report: Report, counts: Counts, reporter: Reporter) -> bytes:
    """The report as RFC 8460 4.4 has it."""
    told = {
        "organization-name": reporter.organization,
        "date-range": {
            "start-datetime": f"{report.begins:%Y-%m-%dT%H:%M:%SZ}",
            "end-datetime": f"{report.ends:%Y-%m-%dT%H:%M:%SZ}",
        },
        "contact-info": reporter.contact,
        "report-id": report.id(reporter),
        "policies": [_policy(one, count) for one, count in counts.items()],
    }
    return json.dumps(told, ensure_ascii=False).encode()


def _policy(policy: Applied, count: Count) -> dict[str, Any]:
    described: dict[str, Any] = {
        "policy-type": policy.kind.value,
        "policy-string": list(policy.strings),
        "policy-domain": policy.domain,
        "mx-host": list(policy.hosts),
    }
    told: dict[str, Any] = {
        "policy": {name: value for name, value in described.items() if value},
        "summary": {
            "total-successful-session-count": count.good,
            "total-failure-session-count": count.bad.total(),
        },
    }
    if count.bad:
        told["failure-details"] = [
            _failure(failure, times) for failure, times in count.bad.items()
        ]
    return told


def _failure(failure: Failure, times: int) -> dict[str, Any]:
    told = {
        "result-type": failure.result,
        "sending-mta-ip": failure.source,
        "receiving-mx-hostname": failure.host,
        "receiving-ip": failure.address,
        "failure-reason-code": failure.reason,
    }
    return {name: value for name, value in told.items() if value} | {
        "failed-session-count": times
    }


def packed(report: bytes) -> bytes:
    """A report as it travels; the same octets whenever it is packed."""
    return gzip.compress(report, mtime=0)


def message(
    report: Report,
    octets: bytes,
    to: str,
    reporter: Reporter,
    now: float,
    boundary: str,
) -> tuple[bytes, bytes]:
    """The head and body of the mail that carries a packed report (5.3).

    TLS-Required: No, since a report of a failing policy must not fail by it.
    """
    name = report.file_name(reporter)
    subject = (
        f"Report Domain: {report.domain} Submitter: {reporter.domain}"
        f" Report-ID: <{report.id(reporter)}>"
    )
    kind = f'multipart/report; report-type="tlsrpt"; boundary="{boundary}"'
    head = _fields(
        {
            "Date": format_date(now),
            "From": f"{reporter.organization} <{reporter.sender}>"
            if reporter.organization.isascii()
            and reporter.organization.replace(" ", "").isalnum()
            else f"<{reporter.sender}>",
            "To": f"<{to}>",
            "Subject": subject,
            "Message-ID": f"<{report.id(reporter)}>",
            "TLS-Report-Domain": report.domain,
            "TLS-Report-Submitter": reporter.domain,
            "TLS-Required": "No",
            "Auto-Submitted": "auto-generated",
            "MIME-Version": "1.0",
            "Content-Type": kind,
        }
    )
    mark = b"--" + boundary.encode()
    parts = (_for_people(report, reporter), _for_programs(octets, name))
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return head, body + mark + b"--\r\n"


def _for_people(report: Report, reporter: Reporter) -> bytes:
    text = (
        f"This is a report on TLS in sessions with the mail servers of\r\n"
        f"{report.domain}, of {report.begins:%Y-%m-%d} (UTC), by {reporter.domain}.\r\n"
        f"The domain asks for it in its record at _smtp._tls (RFC 8460).\r\n"
        f"\r\n"
        f"Contact: {reporter.contact}\r\n"
    )
    fields = {"Content-Type": "text/plain; charset=utf-8"}
    if not text.isascii():
        fields["Content-Transfer-Encoding"] = "8bit"
    return _fields(fields) + b"\r\n" + text.encode()


def _for_programs(octets: bytes, name: str) -> bytes:
    fields = {
        "Content-Type": "application/tlsrpt+gzip",
        "Content-Transfer-Encoding": "base64",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    return _fields(fields) + b"\r\n" + encodebytes(octets).replace(b"\n", b"\r\n")


def _fields(values: Mapping[str, str]) -> bytes:
    return join(make_field(name, value) for name, value in values.items())
