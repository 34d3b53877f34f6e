"""Commands on the wire: read from clients, written to peers (RFC 5321 4.1).

Parameters of RFC 1870 (SIZE), 6152 (BODY), 6531 (SMTPUTF8), 3461 (RET, ENVID, NOTIFY,
ORCPT), 4954 (AUTH), 8689 (REQUIRETLS) and 4865 (HOLDFOR, HOLDUNTIL). What a client did
wrong is raised as `CommandFault`, which holds the reply.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from fwd_mta.mail.address import Mailbox, excerpt, parse_path
from fwd_mta.mail.envelope import Body, Envelope, Notify, Recipient, Ret
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.noun import noun
from fwd_mta.mail.reply import Reply
from fwd_mta.smtp.extensions import HOLD_LIMIT, Offered

ENVID_LIMIT = 100  # RFC 3461 4.4
ORCPT_LIMIT = 500  # RFC 3461 4.2
_USUAL = 200  # octets of an argument that is kept for the next one who says it

_DSN = frozenset({"DSN"})
_BARE = re.compile(rb"[\r\n\0]")
_VERB = re.compile(rb"[A-Za-z][A-Za-z0-9-]{0,31}\Z")
_PATH = re.compile(r'[ \t]*(<(?:[^<>"\\]|"(?:[^"\\]|\\.)*")*>)')
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u00a1-\U0010ffff]+))?")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_UNITEXT = re.compile(r"(?:[!-*,-<>-~\u00a1-\U0010ffff]|\+[0-9A-F]{2})+")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CHUNK = re.compile(rb"([0-9]{1,20})(?:[ \t]+(LAST))?", re.IGNORECASE)
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})",
    re.IGNORECASE,
)


class CommandFault(SyntaxFault):
    """A command that cannot be obeyed as it stands; `reply` tells the client why."""

    def __init__(self, code: int, detail: str, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(code, detail, text)


class Command(NamedTuple):
    """One command line: the verb in upper case, and all that follows it."""

    verb: str
    argument: bytes = b""


@noun
class MailParameters:
    """What a MAIL command says; `auth` is the claim of RFC 4954 5, which we ignore."""

    reverse_path: Mailbox | None
    size: int | None = None
    body: Body | None = None
    smtputf8: bool = False
    ret: Ret | None = None
    envid: str | None = None
    auth: str | None = None
    requiretls: bool = False
    holdfor: int | None = None
    holduntil: float | None = None

    def release_time(self, now: float) -> float | None:
        """When the message may leave (RFC 4865); None for at once.

        Raises CommandFault, 501 5.5.4, when that is further away than we offer.
        """
        asked = self.holduntil if self.holdfor is None else now + self.holdfor
        if asked is not None and asked > now + HOLD_LIMIT:
            raise _bad(f"Mail is held for {HOLD_LIMIT // 86400} days at most")
        return asked


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a BDAT command announces."""

    size: int
    last: bool


def parse(line: bytes) -> Command:
    """Read a command line without its CRLF; raises CommandFault, 500 5.5.2."""
    if _BARE.search(line):
        raise CommandFault(500, "5.2", "Bare CR, LF or NUL in a command")
    verb, _, argument = line.strip(b" \t").partition(b" ")
    return Command(_verb(verb), argument.strip(b" \t"))


@lru_cache(maxsize=256)
def _verb(octets: bytes) -> str:
    if not _VERB.match(octets):
        raise CommandFault(500, "5.2", "Not a command")
    return octets.decode("ascii").upper()


def parse_mail(argument: bytes, *, offered: frozenset[str]) -> MailParameters:
    """Read what follows MAIL; `offered` are our EHLO keywords, without their values.

    Raises CommandFault: 501 5.1.7 for the path, 555 5.5.4 for a parameter not offered,
    501 5.5.4 for a bad value.
    """
    if len(argument) < _USUAL:
        return _usual_mail(argument, offered)
    return _mail(argument, offered)


def _mail(argument: bytes, offered: Collection[str]) -> MailParameters:
    path, words = _path_and_words(argument, b"FROM:", "1.7")
    given = _parameters(words, _MAIL_PARAMETERS, offered)
    values = {name: _MAIL_PARAMETERS[name].read(word) for name, word in given.items()}
    utf8 = "SMTPUTF8" in given
    mailbox = _mailbox(path, "1.7", utf8=utf8)
    if mailbox is not None and not mailbox.domain:
        raise CommandFault(501, "1.7", f"The sender has no @domain: {excerpt(path)}")
    if {"HOLDFOR", "HOLDUNTIL"} <= given.keys():
        raise _bad("HOLDFOR and HOLDUNTIL exclude each other")
    fields = {name.lower(): value for name, value in values.items()}
    return MailParameters(mailbox, **fields)


_usual_mail = lru_cache(maxsize=1024)(_mail)  # who sends much says it each time


def parse_bdat(argument: bytes) -> Chunk:
    """Read what follows BDAT (RFC 3030 2); raises CommandFault, 501 5.5.4."""
    found = _CHUNK.fullmatch(argument)
    if found is None:
        raise _bad("Say BDAT, a number of octets, and LAST with the last chunk")
    return Chunk(int(found[1]), found[2] is not None)


def parse_rcpt(
    argument: bytes, *, smtputf8: bool, offered: frozenset[str] = _DSN
) -> Recipient:
    """Read what follows RCPT; `smtputf8`: the MAIL command said so.

    Raises CommandFault as `parse_mail` does, with 501 5.1.3 for the path.
    """
    if len(argument) < _USUAL:
        return _usual_rcpt(argument, smtputf8, offered)
    return _rcpt(argument, smtputf8, offered)


def _rcpt(argument: bytes, smtputf8: bool, offered: Collection[str]) -> Recipient:
    path, words = _path_and_words(argument, b"TO:", "1.3")
    mailbox = _mailbox(path, "1.3", utf8=smtputf8)
    if mailbox is None:
        raise CommandFault(501, "1.3", "The null path <> is no recipient")
    given = _parameters(words, _RCPT_PARAMETERS, offered)
    orcpt = given.get("ORCPT")
    return Recipient(
        mailbox,
        notify=_notify(given["NOTIFY"]) if "NOTIFY" in given else None,
        orcpt=None if orcpt is None else _orcpt(orcpt, utf8=smtputf8),
    )


_usual_rcpt = lru_cache(maxsize=4096)(_rcpt)


def mail_command(envelope: Envelope, peer: Offered, size: int) -> bytes:
    """Write MAIL; only parameters that the peer offers are sent.

    Raises CommandFault, 553 5.6.7, for an address that needs SMTPUTF8 where the peer
    does not offer it.
    """
    offered = peer.names
    utf8 = envelope.smtputf8 and "SMTPUTF8" in offered
    words = ["MAIL FROM:" + _written(envelope.reverse_path, utf8=utf8)]
    if "SIZE" in offered:
        words.append(f"SIZE={size}")
    if envelope.body and "8BITMIME" in offered:
        words.append(f"BODY={envelope.body}")
    if utf8:
        words.append("SMTPUTF8")
    if envelope.ret and "DSN" in offered:
        words.append(f"RET={envelope.ret}")
    if envelope.envid and "DSN" in offered:
        words.append(f"ENVID={envelope.envid}")
    if envelope.require_tls and "REQUIRETLS" in offered:
        words.append("REQUIRETLS")
    return _line(words)


def rcpt_command(recipient: Recipient, *, dsn: bool, utf8: bool) -> bytes:
    """Write RCPT; DSN parameters travel as the client gave them, where offered."""
    words = ["RCPT TO:" + _written(recipient.mailbox, utf8=utf8)]
    if dsn and recipient.notify:
        words.append("NOTIFY=" + ",".join(recipient.notify))
    if dsn and recipient.orcpt:
        words.append("ORCPT=" + (recipient.orcpt if utf8 else _escaped(recipient)))
    return _line(words)


def _line(words: list[str]) -> bytes:
    return " ".join(words).encode() + b"\r\n"


def _written(mailbox: Mailbox | None, *, utf8: bool) -> str:
    if mailbox is None:
        return "<>"
    if mailbox.is_ascii:
        return f"<{mailbox}>"
    written = mailbox if utf8 else mailbox.as_ascii
    if not utf8 and not written.is_ascii:
        where = excerpt(str(mailbox))
        raise CommandFault(553, "6.7", f"{where} needs SMTPUTF8 on its whole way")
    return f"<{written}>"


def _escaped(recipient: Recipient) -> str:
    r"""ORCPT for a hop without SMTPUTF8: `\x{20AC}` (RFC 6533 3)."""
    return "".join(
        char if char.isascii() else f"\\x{{{ord(char):X}}}"
        for char in recipient.orcpt or ""
    )


def _path_and_words(
    argument: bytes, keyword: bytes, detail: str
) -> tuple[str, list[str]]:
    """Part "FROM:<path> A=1 B" into its path and parameters.

    A blank after the colon is common and harmless, and so accepted.
    """
    if argument[: len(keyword)].upper() != keyword:
        wanted = keyword.decode("ascii")
        raise CommandFault(501, detail, f"Say {wanted}<address>")
    try:
        text = argument[len(keyword) :].decode()
    except UnicodeDecodeError:
        raise CommandFault(501, detail, "The command is not valid UTF-8") from None
    path = _PATH.match(text)
    if not path:
        given = excerpt(text.strip())
        raise CommandFault(501, detail, f"No address in angle brackets: {given}")
    rest = text[path.end() :]
    if rest and rest[0] not in " \t":
        raise CommandFault(501, "5.4", f"No blank behind {excerpt(path[1])}")
    return path[1], rest.split()


def _mailbox(path: str, detail: str, *, utf8: bool) -> Mailbox | None:
    if not utf8 and not path.isascii():
        # RFC 6531 3.5
        text = f"A non-ASCII address needs SMTPUTF8: {excerpt(path)}"
        raise CommandFault(553, "6.7", text)
    try:
        return parse_path(path, smtputf8=utf8)
    except SyntaxFault as fault:
        raise CommandFault(501, detail, str(fault)) from None


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter: the EHLO keyword that offers it, and how its value is read."""

    keyword: str
    read: Callable[[str], Any]


def _parameters(
    words: list[str], known: Mapping[str, _Parameter], offered: Collection[str]
) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        match = _PARAMETER.fullmatch(word)
        if not match:
            raise _bad(f"Not a parameter: {excerpt(word)}")
        name = match[1].upper()
        if name not in known or known[name].keyword not in offered:
            raise CommandFault(555, "5.4", f"Parameter {excerpt(name)} is not offered")
        if name in given:
            raise _bad(f"{name} is given twice")
        given[name] = match[2] or ""
    return given


def _bad(text: str) -> CommandFault:
    return CommandFault(501, "5.4", text)


def _size(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", value):
        raise _bad(f"SIZE wants a number of octets: {excerpt(value)}")
    return int(value)


def _body(value: str) -> Body:
    try:
        return Body(value.upper())
    except ValueError:
        raise _bad(f"BODY is 7BIT or 8BITMIME: {excerpt(value)}") from None


def _ret(value: str) -> Ret:
    try:
        return Ret(value.upper())
    except ValueError:
        raise _bad(f"RET is FULL or HDRS: {excerpt(value)}") from None


def _flag(value: str) -> bool:
    if value:
        raise _bad("SMTPUTF8 and REQUIRETLS take no value")
    return True


def _interval(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise _bad(f"HOLDFOR wants a number of seconds: {excerpt(value)}")
    return int(value)


def _moment(value: str) -> float:
    """A date and time with its zone (RFC 3339 5.6)."""
    wanted = "HOLDUNTIL wants a date and time, as in 2027-01-31T08:00:00Z"
    if not _MOMENT.fullmatch(value):
        raise _bad(f"{wanted}: {excerpt(value)}")
    try:
        return datetime.fromisoformat(value.upper()).timestamp()
    except (ValueError, OverflowError):
        raise _bad(f"{wanted}: {excerpt(value)}") from None


def _envid(value: str) -> str:
    if len(value) > ENVID_LIMIT or not _is_xtext(value):
        raise _bad(f"ENVID is not xtext of up to {ENVID_LIMIT} characters")
    return value


def _auth(value: str) -> str:
    """RFC 4954 5: a mailbox as xtext, or `<>`."""
    if value != "<>" and not _is_xtext(value):
        raise _bad(f"AUTH is not xtext: {excerpt(value)}")
    return value


def _notify(value: str) -> tuple[Notify, ...]:
    words = value.upper().split(",")
    if not all(word in set(Notify) for word in words):
        raise _bad(f"NOTIFY is NEVER, or of SUCCESS,FAILURE,DELAY: {excerpt(value)}")
    asked = tuple(sorted({Notify(word) for word in words}))
    if Notify.NEVER in asked and len(asked) > 1:
        raise _bad("NOTIFY=NEVER stands alone")
    return asked


def _orcpt(value: str, *, utf8: bool) -> str:
    """RFC 3461 4.2; type utf-8 may hold UTF-8 where SMTPUTF8 is spoken (RFC 6533)."""
    kind, _, address = value.partition(";")
    unitext = utf8 and kind.lower() == "utf-8"
    valid = (
        len(value) <= ORCPT_LIMIT
        and _ADDRESS_TYPE.fullmatch(kind) is not None
        and _is_xtext(address, _UNITEXT if unitext else _XTEXT)
    )
    if not valid:
        raise _bad(
            f"ORCPT wants type;xtext, as in rfc822;a@b.example: {excerpt(value)}"
        )
    return value


def _is_xtext(value: str, grammar: re.Pattern[str] = _XTEXT) -> bool:
    """Whether it is xtext (RFC 3461 4) that hides no control character."""
    if not grammar.fullmatch(value):
        return False
    meant = _HEX.sub(lambda found: chr(int(found[1], 16)), value)
    return not _CONTROL.search(meant)


_MAIL_PARAMETERS = {
    "SIZE": _Parameter("SIZE", _size),
    "BODY": _Parameter("8BITMIME", _body),
    "SMTPUTF8": _Parameter("SMTPUTF8", _flag),
    "RET": _Parameter("DSN", _ret),
    "ENVID": _Parameter("DSN", _envid),
    "AUTH": _Parameter("AUTH", _auth),
    "REQUIRETLS": _Parameter("REQUIRETLS", _flag),
    "HOLDFOR": _Parameter("FUTURERELEASE", _interval),
    "HOLDUNTIL": _Parameter("FUTURERELEASE", _moment),
}
_RCPT_PARAMETERS = {
    "NOTIFY": _Parameter("DSN", _notify),
    "ORCPT": _Parameter("DSN", str),
}
