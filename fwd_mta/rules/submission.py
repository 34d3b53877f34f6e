"""What a submitted message must be like (RFC 6409 6, SPEC section 2)."""

from collections.abc import Callable
from dataclasses import dataclass

from fwd_mta.mail.account import Account
from fwd_mta.mail.address import Mailbox, excerpt
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import Section, addresses, fields
from fwd_mta.mail.message import Message
from fwd_mta.mail.noun import noun
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import Service, Session

# RFC 5322 3.6 allows more than one of the others, or readers do not mind
ONCE = ("From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID")
OWNED = ("From", "Sender", "Resent-From", "Resent-Sender")
_OWNED = [(name, name.lower()) for name in OWNED]
SINGLE = ("sender", "resent-sender")
_SHOWN_PATTERNS = 5


@dataclass(frozen=True, slots=True)
class SubmissionPolicy:
    """The `[submission]` table, the limits of a header section, the help address.

    `bare_newline` is "normalize" or "reject", `long_lines` "encode" or "reject".
    """

    message_size_limit: int = 50_000_000
    recipient_limit: int = 1000
    hopcount_limit: int = 50
    bare_newline: str = "normalize"
    long_lines: str = "encode"
    header_size_limit: int = 256 * 1024
    header_count_limit: int = 2000
    help_url: str | None = None


@noun
class _Case:
    """All that a check may look at."""

    session: Session
    envelope: Envelope
    message: Message
    policy: SubmissionPolicy
    parts: Section
    relayed: bool


def refusal(
    session: Session, envelope: Envelope, message: Message, policy: SubmissionPolicy
) -> Reply | None:
    """Why the message cannot be taken, or None."""
    reply = _too_big(message, policy)
    if not reply:
        try:
            parts = fields(message.head)
        except SyntaxFault as fault:
            reply = Reply(550, "6.0", f"{fault}")
        else:
            relayed = is_relayed(session)
            case = _Case(session, envelope, message, policy, parts, relayed)
            for check in _CHECKS:
                if (reply := check(case)) is not None:
                    break
    return with_help(reply, policy.help_url) if reply else None


def sender_refusal(account: Account, reverse_path: Mailbox | None) -> Reply | None:
    """Why the account cannot send with that reverse-path, or None; `<>` always can."""
    if reverse_path is None or account.may_send_as(reverse_path):
        return None
    return Reply(553, "7.1", _not_owned("sender address", account, reverse_path))


def with_help(reply: Reply, url: str | None) -> Reply:
    """Append the operator's help page to a refusal (SPEC [help])."""
    if not url or not reply.is_permanent:
        return reply
    return reply._replace(text=f"{reply.text}\nHelp: {excerpt(url, 200)}")


def is_relayed(session: Session) -> bool:
    """Whether the message comes from a trusted network on a relay listener."""
    return session.service is Service.RELAY and session.trusted


# The checks


def _too_big(message: Message, policy: SubmissionPolicy) -> Reply | None:
    """Sizes come first: nothing larger is even parsed."""
    if message.size > policy.message_size_limit:
        limit = policy.message_size_limit
        text = f"Message of {message.size} octets is too big, at most {limit} are taken"
        return Reply(552, "3.4", text)
    if len(message.head) > policy.header_size_limit:
        limit = policy.header_size_limit
        text = f"Header section of {len(message.head)} octets is too big, limit {limit}"
        return Reply(552, "3.4", text)
    return None


def _too_many_fields(case: _Case) -> Reply | None:
    count, limit = len(case.parts), case.policy.header_count_limit
    if count <= limit:
        return None
    return Reply(550, "6.0", f"{count} header fields are too many, limit {limit}")


def _too_many_hops(case: _Case) -> Reply | None:
    hops, limit = len(case.parts.named("received")), case.policy.hopcount_limit
    if hops <= limit:
        return None
    text = f"Too many hops ({hops}, limit {limit}): the message goes round in circles"
    return Reply(554, "4.6", text)


def _long_header_line(case: _Case) -> Reply | None:
    """Under long_lines = "encode" they are folded instead (rules.encoding)."""
    if case.policy.long_lines != "reject":
        return None
    for number, line in enumerate(case.message.head.split(b"\r\n"), 1):
        if len(line) > 998:
            return Reply(550, "6.0", f"Header line {number} is longer than 998 octets")
    return None


def _no_from(case: _Case) -> Reply | None:
    """A relay listener adds it (SPEC section 1)."""
    if case.relayed or "from" in case.parts.places:
        return None
    return Reply(550, "6.0", "The message has no From field: add one with your address")


def _more_than_one(case: _Case) -> Reply | None:
    parts = case.parts
    if len(parts.places) == len(parts):
        return None
    for name in ONCE:
        lines = [parts.line(at) for at in parts.places.get(name.lower(), ())]
        if len(lines) > 1:
            text = (
                f"The message has {len(lines)} {name} fields (header lines {lines[0]}"
                f" and {lines[1]}), only one is allowed"
            )
            return Reply(550, "6.0", text)
    return None


def _wrong_author(case: _Case) -> Reply | None:
    index = case.parts.places
    for name, key in _OWNED:
        for at in index.get(key, ()):
            reply = _author(case, name, at)
            if reply:
                return reply
    return None


def _author(case: _Case, name: str, at: int) -> Reply | None:
    """Check one field that says who wrote or sent the message."""
    try:
        listed = addresses(case.parts[at])
    except SyntaxFault as fault:
        return Reply(550, "6.0", f"Cannot read the {_where(case, name, at)}: {fault}")
    if listed.has_group and not case.relayed:
        where = _where(case, name, at)
        return Reply(
            550, "7.1", f"{_login(case)} a group, not an address, in the {where}"
        )
    if not listed.mailboxes and not listed.has_group:
        return Reply(550, "6.0", f"The {_where(case, name, at)} holds no address")
    if name.lower() in SINGLE and len(listed.mailboxes) > 1:
        where = _where(case, name, at)
        return Reply(550, "6.0", f"The {where} holds more than one address")
    if case.relayed:
        return None
    return _owner(case, _where(case, name, at), listed.mailboxes)


def _where(case: _Case, name: str, at: int) -> str:
    return f"{name} field (header line {case.parts.line(at)})"


def _owner(case: _Case, where: str, mailboxes: tuple[Mailbox, ...]) -> Reply | None:
    account = case.session.account
    if account is None:
        return Reply(530, "7.0", "Log in first: mail is taken from known senders only")
    for mailbox in mailboxes:
        if not account.may_send_as(mailbox):
            return Reply(550, "7.1", _not_owned(where, account, mailbox))
    return None


_CHECKS: tuple[Callable[[_Case], Reply | None], ...] = (
    _too_many_fields,
    _too_many_hops,
    _long_header_line,
    _no_from,
    _more_than_one,
    _wrong_author,
)


# Their words


def _login(case: _Case) -> str:
    account = case.session.account
    login = excerpt(account.login, 100) if account else "nobody"
    return f"Logged in as {login}:"


def _not_owned(where: str, account: Account, mailbox: Mailbox) -> str:
    """Two lines: what is wrong and would be right; and what changes it.

    Each alone must do: Ruby's library shows the first one only, mutt the last one.
    """
    address = excerpt(str(mailbox.as_ascii), 100)
    login = excerpt(account.login, 100)
    return (
        f"{address} is not yours to use as {where}: "
        f"you are logged in as {login}, which may send as {_patterns(account)}\n"
        "Use such an address, or have your administrator allow it: "
        f"fwdmta account add {_quoted(login)} --send-as {_quoted(address)}"
    )


def _patterns(account: Account) -> str:
    shown = [excerpt(pattern, 60) for pattern in account.patterns[:_SHOWN_PATTERNS]]
    more = len(account.patterns) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _quoted(word: str) -> str:
    """A word for a shell, quoted only where that is needed."""
    plain = all(letter.isalnum() or letter in "@.+-_=:" for letter in word)
    return word if plain else "'" + word.replace("'", "'\\''") + "'"
