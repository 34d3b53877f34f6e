"""A mail to the operator about one alarm. Pure."""

from dataclasses import dataclass
from textwrap import fill

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Envelope, Notify, Recipient
from fwd_mta.mail.header import join, make_field
from fwd_mta.rules.stamping import format_date

_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm: its cause, where it is, what is wrong and what to do."""

    cause: str
    where: str
    what: str
    cure: str = ""


def envelope_to(mailbox: Mailbox) -> Envelope:
    """Null reverse-path, and no notice about it (RFC 3834 4)."""
    recipient = Recipient(mailbox, notify=(Notify.NEVER,))
    return Envelope(None, (recipient,), smtputf8=not mailbox.as_ascii.is_ascii)


def written(
    alarm: Alarm, mailbox: Mailbox, hostname: str, name: str, now: float
) -> tuple[bytes, bytes]:
    """The header section and the body; nothing in it leaves its line unescaped."""
    values = {
        "Date": format_date(now),
        "From": f"fwd_mta <MAILER-DAEMON@{hostname}>",
        "To": f"<{mailbox.as_ascii}>",
        "Subject": f"{hostname}: {_plain(alarm.where)[:60]} needs you",
        "Message-ID": f"<{name}@{hostname}>",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=us-ascii",
    }
    fields = (
        make_field(field, value, smtputf8=True) for field, value in values.items()
    )
    return join(fields), _body(alarm, hostname)


def _body(alarm: Alarm, hostname: str) -> bytes:
    paragraphs = [
        f"{hostname} met something that it cannot mend by itself.",
        f"Where: {_plain(alarm.where)}",
        f"What:  {_plain(alarm.what)}",
        f"To do: {_plain(alarm.cure)}" if alarm.cure else "",
        "You are told once a day of each cause; the log has every occurrence.",
    ]
    wrapped = [
        fill(one, 76, subsequent_indent="       ", break_on_hyphens=False)
        for one in paragraphs
        if one
    ]
    return "\n\n".join(wrapped).replace("\n", "\r\n").encode("ascii") + b"\r\n"


def _plain(text: str) -> str:
    """On one line, in ASCII; controls and the rest are written as escapes."""
    return ascii(text[:_LONGEST])[1:-1]
