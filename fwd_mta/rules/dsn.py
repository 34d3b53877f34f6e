"""Tells the sender: notices of failure, delay and delivery (RFC 3461, 3464, 6522).

A notice speaks to a person first, then to programs, then shows what it is about. What
the other side said is bounded and stripped of everything that is not printable ASCII.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import (
    Category,
    DeliveryResult,
    Diagnosis,
    Notice,
    NoticeKind,
    QueueEntry,
    Standing,
    StandingState,
)
from fwd_mta.mail.envelope import Body, Envelope, Notify, Recipient, Ret
from fwd_mta.mail.header import Field, join, make_field
from fwd_mta.rules.encoding import quoted_printable
from fwd_mta.rules.notice_words import Words, words_of
from fwd_mta.rules.stamping import format_date

_SAID_LIMIT = 900
_HEAD_LIMIT = 64 * 1024
_LINE = 76
_LONGEST_LINE = 998

_NOT_PRINTABLE = re.compile(r"[^!-~]+")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_INVISIBLE = re.compile(
    r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+"
)
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_NOT_UNITEXT = re.compile(r"[^!-*,-<>-\[\]-~]")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")

_WANTED = {
    NoticeKind.FAILED: Notify.FAILURE,
    NoticeKind.DELAYED: Notify.DELAY,
    NoticeKind.DELIVERED: Notify.SUCCESS,
    NoticeKind.RELAYED: Notify.SUCCESS,
}


def wants(entry: QueueEntry, kind: NoticeKind, recipient: Recipient) -> bool:
    """Whether a notice about this recipient may be sent at all.

    Never to a null reverse-path, about a notice, or to a mailer-daemon: those make
    loops (RFC 5321 4.5.5, RFC 3464 2). NOTIFY decides the rest (RFC 3461 4.1).
    """
    sender = entry.envelope.reverse_path
    if sender is None or entry.cause is not None:
        return False
    if sender.key[0] == "mailer-daemon":
        return False
    return recipient.wants(_WANTED[kind])


@dataclass(frozen=True, slots=True)
class _About:
    """What a notice is about, and who speaks in it."""

    entry: QueueEntry
    kind: NoticeKind
    standings: tuple[Standing, ...]
    hostname: str
    now: float
    until: float | None
    attempted_at: float
    help_url: str
    contact: str
    words: Words

    @property
    def is_international(self) -> bool:
        """Whether RFC 6533's parts are due: the client has SMTPUTF8, and it is needed.

        The client's parameter alone does not count: some give it always.
        """
        return self.entry.envelope.smtputf8 and any(
            not one.recipient.mailbox.as_ascii.is_ascii for one in self.standings
        )


def compose(
    entry: QueueEntry,
    notice: Notice,
    head: bytes,
    body: bytes | None,
    *,
    hostname: str,
    now: float,
    boundary: str,
    message_id: str,
    help_url: str = "",
    contact: str = "",
    until: float | None = None,
    attempted_at: float | None = None,
    language: str = "en",
) -> tuple[Envelope, bytes, bytes]:
    """Write a notice: its envelope, header section and body, for the original sender.

    `head` and `body` are the message it is about; `body` None when it is too large to
    return. `until` is when we give up, `attempted_at` the last try (default: now).
    People read it in `language`, as far as we have words in it.
    """
    sender = entry.envelope.reverse_path
    if sender is None:
        raise ValueError(f"{entry.id}: a message without a sender gets no notice")
    tried = now if attempted_at is None else attempted_at
    about = _About(
        entry,
        notice.kind,
        _standings(entry, notice),
        hostname,
        now,
        until,
        tried,
        help_url,
        contact,
        words_of(language),
    )
    parts = [_for_people(about), _for_programs(about), _returned(about, head, body)]
    eight_bit = not all(part.isascii() for part in parts)
    boundary = _free_boundary(boundary, parts)
    fields = _fields(about, sender, boundary, message_id, eight_bit=eight_bit)
    return _envelope(sender, eight_bit=eight_bit), fields, _multipart(boundary, parts)


def _standings(entry: QueueEntry, notice: Notice) -> tuple[Standing, ...]:
    known = {standing.recipient: standing for standing in entry.standings}
    found = (known.get(recipient) for recipient in notice.recipients)
    return tuple(standing for standing in found if standing is not None)


# The outside


def _envelope(sender: Mailbox, *, eight_bit: bool) -> Envelope:
    """Null reverse-path, and no notice about this one (RFC 3461 6.1)."""
    return Envelope(
        None,
        (Recipient(sender, notify=(Notify.NEVER,)),),
        body=Body.EIGHT_BIT if eight_bit else None,
        smtputf8=not sender.as_ascii.is_ascii,
    )


def _fields(
    about: _About, sender: Mailbox, boundary: str, message_id: str, *, eight_bit: bool
) -> bytes:
    host = about.hostname
    report = f'multipart/report; report-type=delivery-status; boundary="{boundary}"'
    cause = _MESSAGE_ID.fullmatch(about.entry.message_id.strip())
    subject = about.words.subjects[about.kind].format(whom=_named(about))
    values = {
        "Date": format_date(about.now),
        "From": f"Mail Delivery System <MAILER-DAEMON@{host}>",
        "To": f"<{sender.as_ascii}>",
        "Subject": subject,
        "Message-ID": message_id if message_id.startswith("<") else f"<{message_id}>",
        "In-Reply-To": cause[0] if cause else "",
        "References": cause[0] if cause else "",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
        "Content-Type": report,
        "Content-Transfer-Encoding": "8bit" if eight_bit else "",
    }
    return join(
        make_field(name, value, smtputf8=name == "To")
        for name, value in values.items()
        if value
    )


def _named(about: _About) -> str:
    """The recipient in a subject, or how many there are."""
    words, count = about.words, len(about.standings)
    if count != 1:
        return words.to_many.format(count=count)
    mailbox = about.standings[0].recipient.mailbox.as_ascii
    if mailbox.is_ascii:
        return words.to_one.format(address=mailbox)
    return words.to_one.format(
        address=_visible(str(about.standings[0].recipient.mailbox))
    )


def _multipart(boundary: str, parts: Sequence[bytes]) -> bytes:
    mark = b"--" + boundary.encode("ascii")
    written = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return written + mark + b"--\r\n"


def _free_boundary(boundary: str, parts: Sequence[bytes]) -> str:
    """A boundary that no part holds, even if someone guessed ours (RFC 2046 5.1.1)."""
    while any(boundary.encode("ascii") in part for part in parts):
        boundary += "x"
    return boundary


def _part(
    media_type: str, content: bytes, encoding: str = "", language: str = ""
) -> bytes:
    fields = {
        "Content-Type": media_type,
        "Content-Transfer-Encoding": encoding,
        "Content-Language": language,
    }
    return _group(fields) + b"\r\n" + content


# First part: for people


def _for_people(about: _About) -> bytes:
    text = "\r\n".join(_lines(about)) + "\r\n"
    language = about.words.language
    if text.isascii():
        octets, kind, encoding = text.encode(), "text/plain; charset=us-ascii", ""
    else:
        octets = quoted_printable(text.encode("utf-8", "replace"))
        kind, encoding = "text/plain; charset=utf-8", "quoted-printable"
    return _part(kind, octets, encoding, language)


def _lines(about: _About) -> Iterator[str]:
    """All the words of a notice."""
    words = about.words
    several = len(about.standings) != 1
    until = words.until.format(date=words.date(about.until)) if about.until else ""
    opening = words.openings[about.kind].format(
        date=words.date(about.entry.queued_at),
        until=until,
        **(words.many if several else words.one),
    )
    yield from _wrapped(words.server.format(host=about.hostname))
    yield ""
    yield from _wrapped(opening)
    for standing in about.standings:
        yield ""
        yield from _lines_about(about, standing)
    yield ""
    yield from _closing(about)


def _lines_about(about: _About, standing: Standing) -> Iterator[str]:
    """What happened to one recipient, in whose words, and what to do."""
    words, result = about.words, standing.last
    yield from _wrapped(f"<{_visible(str(standing.recipient.mailbox))}>", 2)
    if about.kind is NoticeKind.FAILED and standing.state is StandingState.EXPIRED:
        yield from _wrapped(words.over.format(tries=standing.attempts), 4)
    if result and result.diagnosis:
        yield from _wrapped(_happened(words, result.diagnosis), 4)
    if result and result.reply:
        yield from _wrapped(words.said.format(by=_by(words, result)), 4)
        yield from _wrapped(_printable(str(result.reply)), 6)
    if about.kind is NoticeKind.FAILED:
        diagnosis = result.diagnosis if result else None
        category = diagnosis.category if diagnosis else Category.OTHER
        advice = words.advice.get(category, words.other_advice)
        yield from _wrapped(words.advice_is.format(advice=advice), 4)
    if about.kind is NoticeKind.DELAYED and standing.next_attempt_at > about.now:
        date = words.date(standing.next_attempt_at)
        yield from _wrapped(words.next_try.format(date=date), 4)


def _happened(words: Words, diagnosis: Diagnosis) -> str:
    """What was wrong: our diagnosis is English, another language has a sentence."""
    return words.happened.get(diagnosis.category) or _printable(diagnosis.message)


def _closing(about: _About) -> Iterator[str]:
    words = about.words
    yield from _wrapped(words.number.format(id=about.entry.id))
    if about.help_url:
        yield from _wrapped(words.help.format(url=_printable(about.help_url)))
    if about.contact:
        yield from _wrapped(words.contact.format(contact=_printable(about.contact)))


def _by(words: Words, result: DeliveryResult) -> str:
    return words.said_by.format(host=_printable(result.host)) if result.host else ""


def _wrapped(text: str, indent: int = 0) -> list[str]:
    margin = " " * indent
    return wrap(
        text,
        _LINE,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _printable(text: str) -> str:
    """Foreign words as ASCII on one line, bounded: no CR, LF, NUL or ESC is left."""
    shown = _NON_ASCII.sub("?", text[:_SAID_LIMIT])
    return _NOT_PRINTABLE.sub(" ", shown).strip()


def _visible(text: str) -> str:
    """An address in its own letters, without what hides or turns them."""
    return _INVISIBLE.sub(" ", text[:_SAID_LIMIT])


# Second part: for programs (RFC 3464 2, RFC 6533 4)


def _for_programs(about: _About) -> bytes:
    groups = [_message_fields(about)]
    groups += [_recipient_fields(about, standing) for standing in about.standings]
    if not about.is_international:
        content = b"\r\n".join(_group(group) for group in groups)
        return _part("message/delivery-status", content)
    content = b"\r\n".join(_group(group, smtputf8=True) for group in groups)
    return _global_part(about, "message/global-delivery-status", content)


def _global_part(about: _About, media_type: str, content: bytes) -> bytes:
    """A part that may hold UTF-8: 8bit where the way back has SMTPUTF8 for certain."""
    sender = about.entry.envelope.reverse_path
    if sender is not None and not sender.as_ascii.is_ascii:
        return _part(media_type, content, "8bit")
    return _part(media_type, quoted_printable(content), "quoted-printable")


def _group(values: Mapping[str, str], *, smtputf8: bool = False) -> bytes:
    fields: list[Field] = [
        make_field(name, value, smtputf8=smtputf8)
        for name, value in values.items()
        if value
    ]
    return join(fields)


def _message_fields(about: _About) -> dict[str, str]:
    envid = about.entry.envelope.envid
    return {
        "Original-Envelope-Id": _printable(_decoded(envid)) if envid else "",
        "Reporting-MTA": f"dns; {about.hostname}",
        "Arrival-Date": format_date(about.entry.queued_at),
    }


def _recipient_fields(about: _About, standing: Standing) -> dict[str, str]:
    result = standing.last
    until = about.until if about.kind is NoticeKind.DELAYED else None
    return {
        "Original-Recipient": _original(standing.recipient),
        "Final-Recipient": _final(
            standing.recipient.mailbox, plain=about.is_international
        ),
        "Action": about.kind.value,
        "Status": _status(about.kind, standing),
        "Remote-MTA": _remote(result),
        "Diagnostic-Code": _diagnostic(result),
        "Last-Attempt-Date": (
            format_date(about.attempted_at) if standing.attempts else ""
        ),
        "Final-Log-ID": about.entry.id,
        "Will-Retry-Until": format_date(until) if until else "",
    }


def _original(recipient: Recipient) -> str:
    """RFC 3464 2.3.1: the ORCPT parameter; only its rfc822 kind is xtext to us."""
    kind, _, address = (recipient.orcpt or "").partition(";")
    if not address:
        return ""
    plain = address if kind.lower() == "utf-8" else _decoded(address)
    return f"{_printable(kind)}; {_printable(plain)}"


def _final(mailbox: Mailbox, *, plain: bool) -> str:
    """RFC 3464 2.3.2, and RFC 6533 3 where letters beyond ASCII are needed.

    `plain`: in their own letters, as message/global-delivery-status may have them.
    """
    if mailbox.as_ascii.is_ascii:
        return f"rfc822; {_printable(str(mailbox.as_ascii))}"
    if plain:
        return f"utf-8; {_visible(str(mailbox))}"
    return "utf-8; " + _NOT_UNITEXT.sub(
        lambda found: f"\\x{{{ord(found[0]):02X}}}", str(mailbox)
    )


def _status(kind: NoticeKind, standing: Standing) -> str:
    """RFC 3464 2.3.4: the class goes with the action, the rest is as it was said."""
    if standing.state is StandingState.EXPIRED:
        # RFC 3463 3.5: useful only as a persistent transient error
        return "4.4.7"
    result = standing.last
    said = result.reply.status if result and result.reply else None
    if result and result.diagnosis:
        said = result.diagnosis.status
    digit = {NoticeKind.FAILED: "5", NoticeKind.DELAYED: "4"}.get(kind, "2")
    detail = (said or "").partition(".")[2]
    return f"{digit}.{detail or '0.0'}"


def _remote(result: DeliveryResult | None) -> str:
    """The name of a host that is written as name[address]:port."""
    if result is None or not result.host:
        return ""
    name, _, rest = _printable(result.host).partition("[")
    return f"dns; {name or '[' + rest.partition(']')[0] + ']'}"


def _diagnostic(result: DeliveryResult | None) -> str:
    """RFC 3464 2.3.6: the words of the other side, or else ours under our own name."""
    if result and result.reply:
        return f"smtp; {_printable(str(result.reply))}"
    if result and result.diagnosis:
        return f"x-fwd-mta; {_printable(result.diagnosis.message)}"
    return ""


def _decoded(xtext: str) -> str:
    """RFC 3461 4: +XX is an octet."""
    return _XTEXT.sub(lambda found: chr(int(found[1], 16)), xtext)


# Third part: what it is about (RFC 6522 3, RFC 3462 2)


def _returned(about: _About, head: bytes, body: bytes | None) -> bytes:
    """The whole message where RET=FULL asked for it (RFC 3461 4.3), else its header.

    Only a failure returns content; a REQUIRETLS message never does (RFC 8689 5).
    """
    envelope = about.entry.envelope
    full = envelope.ret is Ret.FULL and about.kind is NoticeKind.FAILED
    if body is None or not full or envelope.require_tls or _is_long(body):
        return _returned_header(about, head)
    if _is_long(head):
        return _returned_header(about, head)
    media_type = "message/rfc822" if head.isascii() else "message/global"
    content = head + b"\r\n" + body
    encoding = "" if content.isascii() else "8bit"
    return _part(media_type, content, encoding)


def _returned_header(about: _About, head: bytes) -> bytes:
    """The header section, encoded where it is not plain (RFC 3462 2, RFC 6533 6)."""
    if len(head) > _HEAD_LIMIT:
        head = head[: head.rfind(b"\r\n", 0, _HEAD_LIMIT) + 2]
    if head.isascii() and not _is_long(head):
        return _part("text/rfc822-headers", head)
    if about.entry.envelope.smtputf8 and not head.isascii() and not _is_long(head):
        return _global_part(about, "message/global-headers", head)
    return _part(
        "text/rfc822-headers; charset=utf-8", quoted_printable(head), "quoted-printable"
    )


def _is_long(data: bytes) -> bool:
    return any(len(line) > _LONGEST_LINE for line in data.split(b"\r\n"))
