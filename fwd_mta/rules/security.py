"""The TLS a hop must have, and what follows when it has not (SPEC section 3)."""

from enum import Enum

from fwd_mta.mail.route import TlsLevel


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
