"""What a domain that sends through us publishes in DNS, and whether it does. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from fwd_mta.rules.signing import SigningKey, record

_STRING = 200  # one string of a TXT record has 255 octets at most
_FAIL = ("-all", "~all", "?all", "+all")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One record: `why` for a person; `needed` where mail suffers without it."""

    name: str
    kind: str
    value: str
    why: str
    needed: bool = True

    @property
    def line(self) -> str:
        """The record as a line of a zone file."""
        value = self.value
        if self.kind == "TXT":
            pieces = range(0, len(value), _STRING)
            value = " ".join(f'"{value[at : at + _STRING]}"' for at in pieces)
            value = f"( {value} )" if len(self.value) > _STRING else value
        return f"{self.name}. IN {self.kind} {value}"


def wanted(
    domain: str,
    hostname: str,
    *,
    addresses: Sequence[str] = (),
    keys: Iterable[SigningKey] = (),
    report_to: str = "",
) -> Iterator[Wanted]:
    """The records of a domain, in the order in which they are worth the work.

    `addresses` are those we send from; without them SPF names the host.
    """
    yield Wanted(
        domain, "TXT", _spf(hostname, addresses), "SPF: who may send (RFC 7208)"
    )
    for key in keys:
        name = f"{key.selector}._domainkey.{domain}"
        yield Wanted(name, "TXT", record(key), "DKIM: our key (RFC 6376)")
    mailbox = report_to or f"postmaster@{domain}"
    yield Wanted(
        f"_dmarc.{domain}",
        "TXT",
        f"v=DMARC1; p=none; rua=mailto:{mailbox}",
        "DMARC: begin with none, read the reports, then reject (RFC 7489)",
    )
    for service, port in (("_submissions", 465), ("_submission", 587)):
        yield Wanted(
            f"{service}._tcp.{domain}",
            "SRV",
            f"0 1 {port} {hostname}.",
            "so that mail clients find this server by themselves (RFC 6186, RFC 8314)",
            needed=False,
        )
    yield Wanted(
        f"_smtp._tls.{domain}",
        "TXT",
        f"v=TLSRPTv1; rua=mailto:{mailbox}",
        "reports of trouble with TLS to your own exchangers (RFC 8460)",
        needed=False,
    )


def _spf(hostname: str, addresses: Sequence[str]) -> str:
    who = [f"ip{ip_address(one).version}:{one}" for one in addresses]
    return " ".join(["v=spf1", *(who or [f"a:{hostname}"]), "~all"])


def fault(record: Wanted, found: Sequence[str]) -> str | None:
    """Why what DNS gives does not do, in a sentence; None: it does."""
    if record.value.startswith("v=spf1"):
        return _spf_fault(record.value, found)
    start = record.value.partition(";")[0]
    if start in {"v=DMARC1", "v=TLSRPTv1"}:
        same = [one for one in found if one.replace(" ", "").startswith(start)]
        return None if len(same) == 1 else _count(start, same)
    wanted_value = _bare(record.value)
    if any(_bare(one) == wanted_value for one in found):
        return None
    return f"found {found[0][:60]!r}" if found else "not there"


def _spf_fault(value: str, found: Sequence[str]) -> str | None:
    records = [one for one in found if one.lower().split(" ")[0] == "v=spf1"]
    if len(records) != 1:
        return _count("v=spf1", records)
    there = records[0].lower().split()
    missing = [
        word
        for word in value.lower().split()
        if word not in there and word not in _FAIL
    ]
    if missing and not any(
        word.startswith(("include:", "redirect=")) for word in there
    ):
        return f"{' '.join(missing)} is missing in {records[0][:80]!r}"
    return None


def _count(what: str, found: Sequence[str]) -> str:
    return (
        f"{len(found)} records begin with {what}; one has to" if found else "not there"
    )


def _bare(value: str) -> str:
    return "".join(value.split()).rstrip(".")
