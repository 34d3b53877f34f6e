"""Writes docs/notices.md: every notice as its reader sees it, in every language.

`python -m tests.rules.notice_page > docs/notices.md`; a test holds the page.
"""

from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage

from fwd_mta.mail.entry import (
    Action,
    Category,
    Notice,
    NoticeKind,
    QueueEntry,
    StandingState,
)
from fwd_mta.mail.reply import Reply
from fwd_mta.rules.dsn import compose
from fwd_mta.rules.notice_words import LANGUAGES
from tests.builders import DELIVERED, REFUSED, T0, diagnosis, entry

HEAD = b"From: ann@example.com\r\nSubject: Hello\r\nMessage-ID: <m1@example.com>\r\n"
_TITLES = {"en": "English", "fi": "suomi", "de": "Deutsch"}
_FULL = replace(
    REFUSED,
    reply=Reply(452, "2.2", "The mailbox is full"),
    diagnosis=replace(
        diagnosis(Action.DEFER, Category.CAPACITY), message="The mailbox is full."
    ),
)
_UNKNOWN = replace(
    REFUSED,
    reply=Reply(550, "1.1", "No such user here"),
    host="mx.example.net[192.0.2.1]:25",
    diagnosis=replace(
        diagnosis(Action.REJECT, Category.RECIPIENT),
        message="There is no mailbox of that name.",
    ),
)
_BEGINNING = """\
# The notices

What senders are told, as `fwd_mta/rules/notice_words.py` has it: the subject, and the
part for people. Behind it come a part for programs (RFC 3464) and the header section,
or with RET=FULL the message. The language is the account's (`language` in the accounts
file), else the one of the sender's domain (`[notices.domains]`), else
`notices.language`. What the other side said stays as it was said. This page is written
by `python -m tests.rules.notice_page`.
"""


def about(kind: NoticeKind, count: int = 1) -> QueueEntry:
    """A message with something to tell of."""
    known = entry(*(f"{name}@example.net" for name in ("bob", "eve", "mo")[:count]))
    result = {
        NoticeKind.FAILED: _UNKNOWN,
        NoticeKind.DELAYED: _FULL,
    }.get(kind, DELIVERED)
    state = {
        NoticeKind.FAILED: StandingState.FAILED,
        NoticeKind.DELAYED: StandingState.OPEN,
        NoticeKind.DELIVERED: StandingState.DELIVERED,
        NoticeKind.RELAYED: StandingState.RELAYED,
    }[kind]
    standings = tuple(
        replace(
            one,
            state=state,
            attempts=1,
            last=replace(result, recipient=one.recipient),
            next_attempt_at=T0 + 4 * 3600 + 300,
        )
        for one in known.standings
    )
    return replace(known, standings=standings)


def read(known: QueueEntry, kind: NoticeKind, language: str) -> EmailMessage:
    """The notice, as a mail program of today reads it."""
    notice = Notice("n1", kind, known.envelope.recipients)
    _, head, body = compose(
        known,
        notice,
        HEAD,
        None,
        hostname="mail.example.com",
        now=T0 + 4 * 3600,
        boundary="boundary",
        message_id="n1@mail.example.com",
        help_url="https://mail.example.com/help",
        contact="postmaster@example.com",
        until=T0 + 5 * 86_400,
        language=language,
    )
    found = message_from_bytes(head + b"\r\n" + body, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def text(notice: EmailMessage) -> str:
    """The part for people."""
    part = next(iter(notice.iter_parts()))
    assert isinstance(part, EmailMessage)
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def page() -> Iterator[str]:
    """The page, piece by piece."""
    yield _BEGINNING
    for language in LANGUAGES:
        yield f"\n## {_TITLES[language]}\n"
        for kind in NoticeKind:
            for count in (1, 2) if kind is NoticeKind.FAILED else (1,):
                notice = read(about(kind, count), kind, language)
                subject = f"Subject: {notice['Subject']}"
                yield f"\n```\n{subject}\n\n{text(notice).rstrip()}\n```\n"
        yield from _table(language)


def _table(language: str) -> Iterator[str]:
    words = LANGUAGES[language]
    yield "\n| about | what happened | what to do |\n|---|---|---|\n"
    for category in Category:
        happened = words.happened.get(category, "(as our diagnosis says)")
        advice = words.advice.get(category, words.other_advice)
        yield f"| {category.value} | {happened} | {advice} |\n"


if __name__ == "__main__":
    print("".join(page()), end="")  # noqa: T201 - it is what this program is for
