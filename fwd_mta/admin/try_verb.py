"""`fwdmta try`: whether a client could send from here, and what is wrong if not.

It logs in and names a sender on each port; no message is sent.
"""

import ssl
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from fwd_mta.admin import try_words
from fwd_mta.admin.command import (
    DONE,
    NO,
    Options,
    Surroundings,
    UsageError,
    print_json,
    print_lines,
)
from fwd_mta.admin.far_side import FarSide, Line, Network
from fwd_mta.admin.show import clean, moment
from fwd_mta.mail.address import parse_mailbox
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.reply import Reply
from fwd_mta.smtp.extensions import Offered
from fwd_mta.smtp.replies import ReplyReader

_DAY = 86_400
_CERTIFICATE = {
    9: try_words.NOT_YET,
    10: try_words.EXPIRED,
    62: try_words.WRONG_NAME,
    64: try_words.WRONG_NAME,
}
_IN_CLEAR = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH", "RECORD_LAYER_FAILURE")
_LOGIN = {
    535: try_words.COPY_ANEW,
    525: try_words.SWITCHED_OFF,
    454: try_words.LATER,
}


@dataclass(frozen=True, slots=True)
class Port:
    """A port to try; `tls` says whether TLS comes first, instead of STARTTLS."""

    number: int
    tls: bool


USUAL = (Port(465, tls=True), Port(587, tls=False))


@dataclass(frozen=True, slots=True)
class Step:
    """What one step came to, and what to do if it failed."""

    port: int | None
    step: str
    ok: bool
    found: str
    do: str = ""

    @property
    def lines(self) -> Iterator[str]:
        """It, for people."""
        state = "ok" if self.ok else "FAIL"
        yield f"{state:<5}{self.port or '':<6}{self.step:<11}{self.found}"
        if self.do:
            yield f"{'':<22}{self.do}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for."""

    host: str
    login: str
    password: str
    sender: str


class _Fault(Exception):
    """A step failed: what was found, what to do."""

    def __init__(self, found: str, do: str) -> None:
        super().__init__(found)
        self.found = found
        self.do = do


def port(text: str) -> Port:
    """Read `465`, `587` or, where TLS comes first on another port, `8465/tls`."""
    number, slash, tls = text.partition("/")
    if not (number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65_536):
        raise ValueError(text)
    if slash and tls != "tls":
        raise ValueError(text)
    return Port(int(number), bool(slash) or int(number) == 465)


def try_out(options: Options, world: Surroundings) -> int:
    """`try HOST LOGIN`: take every step that a client takes before its message."""
    far = Network()
    wanted = _wanted(options, far)
    good = True
    for step in tried(wanted, options.port or USUAL, far, world.wall.now()):
        good = good and step.ok
        if options.json:
            print_json([asdict(step)])
        else:
            print_lines(step.lines)
        sys.stdout.flush()
    return DONE if good else NO


def _wanted(options: Options, far: FarSide) -> Wanted:
    sender = options.sender or options.login
    try:
        parse_mailbox(sender)
    except SyntaxFault as fault:
        raise UsageError(f"{sender} is no address: {fault}; use --from") from fault
    try:
        far.trust(options.ca)
    except OSError as error:
        raise UsageError(f"{options.ca}: no certificates there: {error}") from error
    if options.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = far.password(options.login)
    return Wanted(options.host, options.login, password, sender)


def tried(
    wanted: Wanted, ports: Sequence[Port], far: FarSide, now: float
) -> Iterator[Step]:
    """Take all steps; a password that was refused is not tried again."""
    try:
        addresses = far.addresses(wanted.host)
    except OSError as error:
        found = clean(f"{wanted.host} is not found: {error.strerror or error}")
        yield Step(None, "DNS", False, found, try_words.NAME)
        return
    yield Step(None, "DNS", True, f"{wanted.host} is {', '.join(addresses)}")
    logs_in = True
    for one in ports:
        for step in _Visit(wanted, one, far, addresses, now).steps(logs_in):
            logs_in = logs_in and (step.ok or step.step != "login")
            yield step


class _Talk:
    """Commands and replies on a line."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.forget()

    def forget(self) -> None:
        """Nothing that came before TLS counts inside it (RFC 3207 4.2)."""
        self._reader = ReplyReader()
        self._ready: list[Reply] = []

    def reply(self) -> Reply:
        """Wait for a reply."""
        while not self._ready:
            octets = self.line.read()
            if not octets:
                raise ConnectionResetError("the server closed the connection")
            self._ready += self._reader.feed(octets)
        return self._ready.pop(0)

    def ask(self, command: str) -> Reply:
        """Say a command; gives its reply."""
        self.line.write(command.encode() + b"\r\n")
        return self.reply()


class _Visit:
    """All that is done at one port."""

    def __init__(
        self,
        wanted: Wanted,
        port: Port,
        far: FarSide,
        addresses: Sequence[str],
        now: float,
    ) -> None:
        self._wanted = wanted
        self._port = port
        self._far = far
        self._addresses = addresses
        self._now = now
        self._offered = Offered.none()
        self._talk: _Talk

    def steps(self, logs_in: bool) -> Iterator[Step]:
        """Take them until one fails."""
        number = self._port.number
        try:
            found = self._connect()
        except _Fault as fault:
            yield Step(number, "connection", False, fault.found, fault.do)
            return
        yield Step(number, "connection", True, found)
        try:
            for name, take in self._stages(logs_in):
                step = self._taken(name, take)
                yield step
                if not step.ok:
                    return
        finally:
            with suppress(OSError):
                self._talk.line.write(b"QUIT\r\n")
            self._talk.line.close()

    def _stages(self, logs_in: bool) -> Iterator[tuple[str, Callable[[], str]]]:
        opening = [("greeting", self._greet), ("TLS", self._secure)]
        yield from reversed(opening) if self._port.tls else opening
        yield "offers", self._hello
        if logs_in:
            yield "login", self._log_in
            yield "From", self._name_sender

    def _taken(self, name: str, take: Callable[[], str]) -> Step:
        number = self._port.number
        try:
            return Step(number, name, True, clean(take()))
        except _Fault as fault:
            found, do = fault.found, fault.do
        except TimeoutError:
            early = name == "greeting"
            found = "no answer within 30 s"
            do = try_words.SILENT if early else try_words.BROKEN
        except (OSError, SyntaxFault, UnicodeError) as error:
            found, do = str(error), try_words.BROKEN
        return Step(number, name, False, clean(found), do)

    def _connect(self) -> str:
        """Connect to the first address that takes it."""
        faults: list[tuple[str, str]] = []
        for address in self._addresses:
            try:
                self._talk = _Talk(self._far.connect(address, self._port.number))
            except OSError as error:
                faults.append(_unconnected(address, error))
                continue
            failed = "".join(f"; {found}" for found, _ in faults)
            return f"{address} answers{failed}"
        found = "; ".join(found for found, _ in faults)
        raise _Fault(found, faults[-1][1] if faults else try_words.NAME)

    def _greet(self) -> str:
        return _good(self._talk.reply(), try_words.REPLIED)

    def _secure(self) -> str:
        if not self._port.tls:
            self._start()
        try:
            version, cipher, ends = self._talk.line.secure(self._wanted.host)
        except ssl.SSLCertVerificationError as error:
            do = _CERTIFICATE.get(error.verify_code, try_words.AUTHORITY)
            raise _Fault(f"certificate: {error.verify_message}", do) from error
        except ssl.SSLError as error:
            raise _Fault(*_handshake(error)) from error
        self._talk.forget()
        days = int((ends - self._now) // _DAY)
        return (
            f"{version}, {cipher}; the certificate is trusted, for"
            f" {self._wanted.host}, until {moment(ends)} UTC: {days} days"
        )

    def _start(self) -> None:
        """RFC 3207: ask for TLS."""
        if not Offered.parse(self._greeted()).offers("STARTTLS"):
            raise _Fault("STARTTLS is not offered", try_words.NO_STARTTLS)
        _good(self._talk.ask("STARTTLS"), try_words.REPLIED)

    def _greeted(self) -> Reply:
        # Behind some router, a client's own name says nothing (RFC 5321 4.1.3).
        answer = self._talk.ask("EHLO [127.0.0.1]")
        _good(answer, try_words.REPLIED)
        return answer

    def _hello(self) -> str:
        answer = self._greeted()
        self._offered = Offered.parse(answer)
        return ", ".join(answer.text.split("\n")[1:]) or "nothing"

    def _log_in(self) -> str:
        login, password = self._wanted.login, self._wanted.password
        if "PLAIN" in self._offered.auth:
            secret = _coded(f"\0{login}\0{password}")
            answer = self._talk.ask(f"AUTH PLAIN {secret}")
        elif "LOGIN" in self._offered.auth:
            answer = self._talk.ask("AUTH LOGIN")
            for word in (login, password):
                if answer.code == 334:
                    answer = self._talk.ask(_coded(word))
        else:
            raise _Fault("neither AUTH PLAIN nor LOGIN is offered", try_words.NO_AUTH)
        do = _LOGIN.get(answer.code, try_words.REPLIED)
        if answer.code == 454 and "too many" in answer.text.lower():
            do = try_words.GUESSES
        return _good(answer, do)

    def _name_sender(self) -> str:
        """MAIL, and no more: RSET ends the transaction before it has a recipient."""
        sender = self._wanted.sender
        foreign = "" if sender.isascii() else " SMTPUTF8"
        answer = self._talk.ask(f"MAIL FROM:<{sender}>{foreign}")
        owned = answer.code in {550, 553}
        _good(answer, try_words.SENDER if owned else try_words.REPLIED)
        self._talk.ask("RSET")
        return f"{sender} may be used"


def _coded(text: str) -> str:
    return b64encode(text.encode()).decode("ascii")


def _good(reply: Reply, do: str) -> str:
    """Give the words of a reply that says yes; raises with those of another."""
    said = f"{reply.code} {reply.status or ''} {reply.text}"
    if not reply.is_positive:
        raise _Fault(said, do)
    return said


def _unconnected(address: str, error: OSError) -> tuple[str, str]:
    """What a failed connection means."""
    if isinstance(error, TimeoutError):
        return f"{address}: no answer within 10 s", try_words.TIMED_OUT
    if isinstance(error, ConnectionRefusedError):
        return f"{address}: refused", try_words.REFUSED
    return f"{address}: unreachable", try_words.UNREACHABLE


def _handshake(error: ssl.SSLError) -> tuple[str, str]:
    """What a failed handshake means."""
    reason = str(error.reason or error)
    if any(word in reason for word in _IN_CLEAR):
        return f"no TLS there ({reason})", try_words.CLEAR
    do = try_words.OLD if "PROTOCOL" in reason else try_words.BROKEN
    return f"the handshake failed ({reason})", do
