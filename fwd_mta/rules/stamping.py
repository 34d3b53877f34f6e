"""What we add to a header section and what we take out of it (RFC 6409 8)."""

import re
import time
from functools import lru_cache
from ipaddress import ip_address

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.header import Field, assembled, fields, make_field
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
    section = fields(head)
    present = section.places
    parts = [_received(session, envelope, hostname, entry_id, now, traced=trace_client)]
    if present.keys().isdisjoint(REMOVED):
        parts += section
    else:
        parts += [field for field in section if not field.has_name(*REMOVED)]
    if "from" not in present and is_relayed(session):
        parts.append(_made("From", _author(envelope, hostname)))
    if "message-id" not in present:
        parts.append(_made("Message-ID", message_id or f"<{entry_id}@{hostname}>"))
    if "date" not in present:
        parts.append(_made("Date", format_date(now)))
    return assembled(parts)


def _made(name: str, value: str) -> Field:
    return make_field(name, value, smtputf8=True)


def message_id_of(head: bytes) -> str:
    """The Message-ID, or the empty string; raises SyntaxFault."""
    found = fields(head).named("message-id")
    return found[0].value[:_ID_LIMIT] if found else ""


def format_date(now: float) -> str:
    """A wall time as RFC 5322 3.3 writes it, in UTC."""
    return _date(int(now // 1))


@lru_cache(maxsize=16)
def _date(second: int) -> str:
    at = time.gmtime(second)
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
    client = session.hello, session.client
    before, after = _trace(
        hostname,
        _protocol(session, envelope),
        str(session.tls) if session.tls else "",
        client if traced or is_relayed(session) else None,
        format_date(now),
        len(entry_id),
    )
    return Field("Received", b"%b%b%b" % (before, entry_id.encode("ascii"), after))


@lru_cache(maxsize=256)  # within a second only the id differs, never its length
def _trace(
    hostname: str,
    protocol: str,
    tls: str,
    client: tuple[str | None, str] | None,
    date: str,
    length: int,
) -> tuple[bytes, bytes]:
    """What stands before and behind an id of that length; it is folded already."""
    clauses = [f"by {hostname}", f"with {protocol}"]
    if tls:
        clauses.append(f"({tls})")
    if client is not None:
        clauses.insert(0, f"from {_client(*client)}")
    name = "z" * length  # no date has one
    raw = make_field("Received", f"{' '.join(clauses)} id {name}; {date}").raw
    before, _, after = raw.rpartition(name.encode())
    return before, after


def _protocol(session: Session, envelope: Envelope) -> str:
    """The word for "with" (RFC 3848; RFC 6531 4.3)."""
    if envelope.smtputf8 and session.extended:
        return "UTF8" + session.protocol.removeprefix("E")
    return session.protocol


def _client(said: str | None, client: str) -> str:
    """The client's name as it gave it, if that is harmless, and its address."""
    hello = said or ""
    address = _literal(client)
    return f"{hello if _HELLO.fullmatch(hello) else address} ({address})"


@lru_cache(maxsize=1024)
def _literal(client: str) -> str:
    try:
        version = ip_address(client).version
    except ValueError:
        return "localhost"
    return f"[IPv6:{client}]" if version == 6 else f"[{client}]"
