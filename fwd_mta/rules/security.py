"""The TLS a hop must have, and what follows when it has not (SPEC section 3)."""

from dataclasses import dataclass
from enum import Enum

from fwd_mta.mail.header import Field
from fwd_mta.mail.route import CannotSay, Found, NoSuchName, TlsLevel
from fwd_mta.rules import dane
from fwd_mta.rules.dane import Tlsa
from fwd_mta.rules.sts import Mode, Policy


@dataclass(frozen=True, slots=True)
class Demand:
    """What one host must prove before mail goes to it.

    With `records` its chain is judged by them and `names` (the first is sent as SNI),
    else by the trust roots and its own name. `why` names what asks for it.
    """

    level: TlsLevel = TlsLevel.MAY
    records: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()
    why: str = ""


_RANK = {level: rank for rank, level in enumerate(TlsLevel)}


def at_least(level: TlsLevel, wanted: TlsLevel) -> TlsLevel:
    """The stricter of two levels."""
    return max(level, wanted, key=_RANK.__getitem__)


def may_be_raised(level: TlsLevel, head: tuple[Field, ...], *, required: bool) -> bool:
    """Whether DANE and MTA-STS have a say.

    Not where an operator switched TLS off, nor for a message that says `TLS-Required:
    No` (RFC 8689 4.3), unless it asks for REQUIRETLS too.
    """
    if level is TlsLevel.NONE:
        return False
    lifted = any(
        one.has_name("tls-required") and one.value.strip().lower() == "no"
        for one in head
    )
    return required or not lifted


def by_records(
    base: TlsLevel,
    answer: Found[bytes] | NoSuchName | CannotSay,
    names: tuple[str, ...],
) -> Demand | str | None:
    """What secure TLSA records demand (RFC 7672 2.2); None: there are none.

    Text: why the host must not be used at all. Records that all are of no use still
    show that the host does TLS.
    """
    if isinstance(answer, CannotSay):
        return f"its TLSA records cannot be had: {answer.reason}"
    if not isinstance(answer, Found) or not answer.secure or not answer.records:
        return None
    records = dane.usable(answer.records)
    if not records:
        return Demand(at_least(base, TlsLevel.ENCRYPT), why="DANE, unusable records")
    return Demand(TlsLevel.SECURE, records, names, "DANE")


def by_policy(base: TlsLevel, policy: Policy | None, name: str) -> Demand | str:
    """What a domain's MTA-STS policy demands of an exchanger; text: it is none."""
    if policy is None or policy.mode is not Mode.ENFORCE:
        return Demand(base)
    if not policy.allows(name):
        return "it is not in the domain's MTA-STS policy"
    return Demand(TlsLevel.SECURE, why="MTA-STS")


class Course(Enum):
    """What to do next on a connection."""

    PROCEED = "proceed"
    START_TLS = "start TLS"
    IN_CLEAR = "connect anew, in clear"
    NEXT_HOST = "next host"


def before_tls(level: TlsLevel, *, offered: bool, failed_before: bool) -> Course:
    """Decide on a connection in clear, after the EHLO answer.

    `failed_before`: a TLS handshake with this host failed earlier in this attempt.
    """
    if level is TlsLevel.NONE or (level is TlsLevel.MAY and failed_before):
        return Course.PROCEED
    if offered:
        return Course.START_TLS
    return _without(level)


def refused(level: TlsLevel, *, permanent: bool) -> Course:
    """Decide when STARTTLS was offered and then answered with anything but 220.

    IN_CLEAR here: the other hosts first, then this one anew.
    """
    if level is TlsLevel.MAY and permanent:
        return Course.IN_CLEAR
    return _without(level)


def failed(level: TlsLevel) -> Course:
    """Decide when the handshake failed; that connection is of no more use."""
    return Course.IN_CLEAR if level is TlsLevel.MAY else Course.NEXT_HOST


def verified(level: TlsLevel, fault: str | None) -> Course:
    """Decide after a handshake; `fault` is why the peer's name is not proved, if so."""
    if level is TlsLevel.SECURE and fault is not None:
        return Course.NEXT_HOST
    return Course.PROCEED


def _without(level: TlsLevel) -> Course:
    return Course.PROCEED if level is TlsLevel.MAY else Course.NEXT_HOST
