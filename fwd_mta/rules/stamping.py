"""What we add to a header section and what we take out of it (RFC 6409 8)."""

import re
import time
from functools import lru_cache
from ipaddress import ip_address

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.header import Field, fields, join, make_field
from fwd_mta.mail.session import Session
from fwd_mta.rules.submission import is_relayed

# Bcc tells who else got it; Return-Path is the last hop's to write (RFC 5321 4.4).
REMOVED = ("bcc", "resent-bcc", "return-path")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_HELLO = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9.:]{2,60}\]")
_ID_LIMIT = 998


def stamp(
    head: bytes,
    *,
    session: Session,
    envelope: Envelope,
    hostname: str,
    entry_id: str,
    now: float,
    trace_client: bool = False,
    message_id: str | None = None,
) -> bytes:
    """Give the header section as it leaves us; what is kept, is kept byte for byte.

    Received comes first, missing fields last. `message_id` is the one to give to a
    message without; by default it is made of the entry's id. Raises SyntaxFault.
    """
    kept = [field for field in fields(head) if not field.has_name(*REMOVED)]
    trace = _received(session, envelope, hostname, entry_id, now, traced=trace_client)
    missing = {
        "Message-ID": message_id or f"<{entry_id}@{hostname}>",
        "Date": format_date(now),
    }
    if is_relayed(session):
        missing = {"From": _author(envelope, hostname)} | missing
    present = {field.name.lower() for field in kept}
    added = [
        make_field(name, value, smtputf8=True)
        for name, value in missing.items()
        if name.lower() not in present
    ]
    return join([trace, *kept, *added])


def message_id_of(head: bytes) -> str:
    """The Message-ID, or the empty string; raises SyntaxFault."""
    for field in fields(head):
        if field.has_name("message-id"):
            return field.value[:_ID_LIMIT]
    return ""


def format_date(now: float) -> str:
    """A wall time as RFC 5322 3.3 writes it, in UTC."""
    at = time.gmtime(now)
    day, month = _DAYS[at.tm_wday], _MONTHS[3 * at.tm_mon - 3 : 3 * at.tm_mon]
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{day}, {at.tm_mday} {month} {at.tm_year:04} {clock} +0000"


def _author(envelope: Envelope, hostname: str) -> str:
    sender = envelope.reverse_path or Mailbox("MAILER-DAEMON", hostname)
    return str(sender.as_ascii)


def _received(
    session: Session,
    envelope: Envelope,
    hostname: str,
    entry_id: str,
    now: float,
    *,
    traced: bool,
) -> Field:
    """The trace field (RFC 5321 4.4), without `for`, which would betray Bcc."""
    clauses = [f"by {hostname}", f"with {_protocol(session, envelope)}"]
    if session.tls:
        clauses.append(f"({session.tls})")
    if traced or is_relayed(session):
        clauses.insert(0, f"from {_client(session)}")
    return make_field(
        "Received", f"{' '.join(clauses)} id {entry_id}; {format_date(now)}"
    )


def _protocol(session: Session, envelope: Envelope) -> str:
    """The word for "with" (RFC 3848; RFC 6531 4.3)."""
    if envelope.smtputf8 and session.extended:
        return "UTF8" + session.protocol.removeprefix("E")
    return session.protocol


def _client(session: Session) -> str:
    """The client's name as it gave it, if that is harmless, and its address."""
    hello = session.hello or ""
    address = _literal(session.client)
    return f"{hello if _HELLO.fullmatch(hello) else address} ({address})"


@lru_cache(maxsize=1024)
def _literal(client: str) -> str:
    try:
        version = ip_address(client).version
    except ValueError:
        return "localhost"
    return f"[IPv6:{client}]" if version == 6 else f"[{client}]"
