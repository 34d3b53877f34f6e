"""`fwdmta_sendmail`: the sendmail command, for cron, PHP's mail() and git.

Doorway: `main(argv) -> exit status`, one of sysexits.h. It reads a message on standard
input and hands it to the running server; 0 says that it is durable in the queue.
"""

import argparse
import os
import pwd
import re
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from email.utils import parseaddr
from typing import NoReturn, Protocol

from typing_extensions import override

from fwd_mta.admin.asking import CommandError, Json
from fwd_mta.admin.link import SOCKET_NAME, connect
from fwd_mta.admin.show import clean
from fwd_mta.config import ConfigError, Configuration, load, locate
from fwd_mta.mail.address import PATH_LIMIT, excerpt
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import (
    Field,
    addresses,
    encoded_words,
    fields,
    join,
    make_field,
)

OK, USAGE, DATA, NO_INPUT, NO_USER, UNAVAILABLE, TRY_AGAIN = 0, 64, 65, 66, 67, 69, 75

_PATIENCE = 600.0  # seconds: scanners may take their time
_PIECE = 30_000  # octets of content in a request
_BATCH = 10  # recipients in a request
_TO = ("to", "cc", "bcc")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_DOT = re.compile(rb"^\.\r?$", re.MULTILINE)
_BARE = re.compile(r"[A-Za-z0-9._+-]+")
_WORD = re.compile(r"[A-Za-z0-9 ._-]*")
_MODES = {
    "s": "it speaks no SMTP here; use a listener of the server",
    "p": "the queue is shown by: fwdmta queue list",
    "i": "there is no alias database",
    "d": "the server is started by: twistd fwdmta",
}


class Talk(Protocol):
    """A connection to the server."""

    def ask(self, request: Json) -> Json:
        """Ask, and wait for the answer; raises CommandError."""

    def close(self) -> None:
        """Let go."""


def _reach(state_dir: str) -> Talk | None:
    return connect(state_dir, _PATIENCE)


def _read(limit: int) -> bytes:
    return sys.stdin.buffer.read(limit)


def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


@dataclass(frozen=True, slots=True)
class Around:
    """Who calls, on what; tests bring their own."""

    uid: int
    login: str
    read: Callable[[int], bytes] = _read
    reach: Callable[[str], Talk | None] = _reach


class _StopError(Exception):
    """The command ends: its exit status and the line that says why."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


def main(argv: Sequence[str] | None = None, around: Around | None = None) -> int:
    """Run the command; gives its exit status."""
    uid = os.getuid()
    try:
        options = _options(sys.argv[1:] if argv is None else argv)
        _run(options, around or Around(uid, _login(uid)))
    except _StopError as stop:
        print(f"fwdmta_sendmail: {clean(str(stop))}", file=sys.stderr)
        return stop.status
    except SystemExit:  # --help
        return OK
    return OK


def _run(options: argparse.Namespace, around: Around) -> None:
    try:
        configuration = load(locate(options.config))
    except ConfigError as error:
        raise _StopError(UNAVAILABLE, "; ".join(map(str, error.problems))) from error
    hostname = configuration.hostname
    sender = _sender(options, around, hostname)
    head, body = _message(options, around, configuration)
    try:
        section = fields(head)
        recipients = list(options.recipients)
        if options.t:
            recipients += [one for part in section for one in _named(part, hostname)]
        mended = [_qualified(part, hostname) for part in section]
    except SyntaxFault as fault:
        raise _StopError(DATA, str(fault)) from fault
    if not recipients:
        raise _StopError(USAGE, "no recipients: name them, or use -t with a To field")
    for address in (sender, *recipients):
        if len(address) > PATH_LIMIT:
            raise _StopError(NO_USER, f"{excerpt(address)} is too long for an address")
    if "from" not in section.places:
        author = sender or f"{around.login}@{hostname}"
        mended.append(_from(options.F, author))
    content = join(mended) + b"\r\n" + body
    _hand_over(around, configuration, sender, recipients, content)


def _sender(options: argparse.Namespace, around: Around, hostname: str) -> str:
    """The envelope's sender; empty is the null path."""
    said: str = around.login if options.f is None else options.f
    address = said.strip().removeprefix("<").removesuffix(">")
    return address if "@" in address or not address else f"{address}@{hostname}"


# The message


def _message(
    options: argparse.Namespace, around: Around, configuration: Configuration
) -> tuple[bytes, bytes]:
    """Read a message: its header section with CRLF, and its body as it came."""
    limit = configuration.submission.message_size_limit
    try:
        text = around.read(limit + 1)
    except OSError as error:
        raise _StopError(NO_INPUT, f"standard input: {error}") from error
    if len(text) > limit:
        raise _StopError(DATA, f"the message is over {limit} octets")
    end = None if options.i else _DOT.search(text)
    return _split(text[: end.start()] if end else text)


def _split(text: bytes) -> tuple[bytes, bytes]:
    """Find where the header section ends: at an empty line, or at what is no field."""
    head: list[bytes] = []
    at = 0
    while at < len(text):
        end = text.find(b"\n", at) + 1 or len(text)
        line = text[at:end].rstrip(b"\r\n")
        if not line:
            return b"".join(head), text[end:]
        is_mbox_line = at == 0 and line.startswith(b"From ")
        if not is_mbox_line:
            if not _FIELD.match(line) and not (head and line[:1] in {b" ", b"\t"}):
                break
            head.append(line + b"\r\n")
        at = end
    return b"".join(head), text[at:]


def _named(part: Field, hostname: str) -> list[str]:
    """The recipients that a field names; raises SyntaxFault."""
    if not part.has_name(*_TO):
        return []
    try:
        listed = addresses(part)
    except SyntaxFault:
        # bare names are of this machine, as in cron's "To: root"
        names = [one.strip() for one in part.value.split(",")]
        whole = [f"{one}@{hostname}" if _BARE.fullmatch(one) else one for one in names]
        listed = addresses(make_field(part.name, ", ".join(whole), smtputf8=True))
    return [str(mailbox) for mailbox in listed.mailboxes]


def _qualified(part: Field, hostname: str) -> Field:
    """Give an author without a domain that of this machine: cron's "From: root"."""
    if not part.has_name("from", "sender") or "@" in part.value:
        return part
    name, local = parseaddr(part.value)
    if not local:
        return part
    return make_field(part.name, _mailbox(name, f"{local}@{hostname}"))


def _from(name: str | None, address: str) -> Field:
    return make_field("From", _mailbox(name or "", address), smtputf8=True)


def _mailbox(name: str, address: str) -> str:
    """A name-addr; a name with special characters is quoted."""
    if not name:
        return address
    if not name.isascii():
        return f"{encoded_words(name)} <{address}>"
    if not _WORD.fullmatch(name):
        name = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    return f"{name} <{address}>"


# The server


def _hand_over(
    around: Around,
    configuration: Configuration,
    sender: str,
    recipients: Sequence[str],
    content: bytes,
) -> None:
    """Hand the message to the server; raises _StopError unless it is queued."""
    where = f"{configuration.state_dir}/{SOCKET_NAME}"
    try:
        talk = around.reach(configuration.state_dir)
    except CommandError as error:
        raise _StopError(UNAVAILABLE, str(error)) from error
    if talk is None:
        raise _StopError(
            TRY_AGAIN, f"no server answers at {where}; start it and send again"
        )
    answer: Json = {}
    with closing(talk):
        for piece in _pieces(recipients, content):
            said = {"sender": sender, "uid": around.uid, "id": answer.get("id", "")}
            try:
                answer = talk.ask({"verb": "submit", **said, **piece})
            except CommandError as error:
                raise _StopError(TRY_AGAIN, str(error)) from error
            if "id" not in answer:
                break
    _judge(answer)


def _pieces(recipients: Sequence[str], content: bytes) -> Iterator[Json]:
    """What each request holds; most often there is only one."""
    batches = -(-len(recipients) // _BATCH)
    count = max(batches, -(-len(content) // _PIECE))
    for number in range(count):
        piece = content[number * _PIECE : (number + 1) * _PIECE]
        yield {
            "recipients": recipients[number * _BATCH : (number + 1) * _BATCH],
            "content": b64encode(piece).decode(),
            "last": number == count - 1,
        }


def _judge(answer: Json) -> None:
    """Raise _StopError with the server's words, unless it says 250."""
    code, status = answer.get("code", 0), answer.get("status", "")
    line = str(answer.get("reply") or answer.get("error") or "no answer")
    if code // 100 == 2:
        return
    if code // 100 != 5:
        raise _StopError(TRY_AGAIN, line)
    raise _StopError(NO_USER if status == "5.1.3" else DATA, line)


# The command line


class _Parser(argparse.ArgumentParser):
    """A parser that ends as sendmail does."""

    @override
    def error(self, message: str) -> NoReturn:
        """End with the status for a wrong call."""
        raise _StopError(USAGE, f"{message}; see fwdmta_sendmail --help")


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="fwdmta_sendmail",
        description="Reads a message on standard input and queues it.",
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add("recipients", metavar="ADDRESS", nargs="*", help="a recipient")
    add("--help", action="help", help="show this")
    add("--config", metavar="FILE", help="the configuration of the server")
    add("-t", action="store_true", help="recipients from To, Cc and Bcc, too")
    add("-i", action="store_true", help="a line with a dot alone does not end")
    add("-f", "-r", metavar="ADDRESS", dest="f", help="the envelope's sender")
    add("-F", metavar="NAME", help="the name in a From field that is missing")
    add("-o", metavar="OPTION", action="append", default=[], help="-oi is -i")
    add("-b", metavar="MODE", default="m", help="only -bm, which is the usual one")
    for flag in "vnmUG":
        add(f"-{flag}", action="store_true", help=argparse.SUPPRESS)
    for flag in "ABNRVOLhpX":
        add(f"-{flag}", help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args(words)
    if options.b != "m":
        why = _MODES.get(options.b, "only -bm is known")
        raise _StopError(USAGE, f"-b{excerpt(options.b)}: {why}")
    options.i = options.i or "i" in options.o
    return options


if __name__ == "__main__":
    raise SystemExit(main())
