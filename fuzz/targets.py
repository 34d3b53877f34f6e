"""What must hold whatever octets come: each target takes octets and raises if not.

No exception, no two messages from one, no command executed from content, the same
answers however segments are cut.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from fuzz.model import body_of, final_replies, meant, pieces, split_data
from fwd_mta.admin.accounts import scram_keys
from fwd_mta.events import Trouble
from fwd_mta.mail.address import parse_mailbox, parse_path
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import addresses, fields, join
from fwd_mta.mail.message import Message
from fwd_mta.smtp import commands
from fwd_mta.smtp.extensions import Offered
from tests.inbound.bench import HASHED, SECRET, Bench, Wire, plain

LOGIN = "ann@example.com"
_KEYS = scram_keys(SECRET, b"0123456789abcdef", 4096)
_ACCOUNTS = (
    f'[[account]]\nlogin = "{LOGIN}"\npassword = "{HASHED}"\nscram = "{_KEYS}"\n'
).encode()
_OFFERED = frozenset(
    ("SIZE", "8BITMIME", "SMTPUTF8", "DSN", "AUTH", "REQUIRETLS", "FUTURERELEASE")
)
_PEER = Offered(_OFFERED, size=1000)
_MAIL = b"MAIL FROM:<ann@example.com>\r\nRCPT TO:<bob@example.net>\r\n"
_FROM = b"From: ann@example.com\r\n"
_LONGEST_LINE = 998  # longer ones are encoded (RFC 6409 8)
_SECRETS = (SECRET.encode(), b64encode(SECRET.encode()))


def command_line(octets: bytes) -> None:
    """A line is a command or a fault; what is understood is written back the same."""
    for parse in (_mail, _rcpt, _bdat):
        with suppress(commands.CommandFault):
            parse(octets)
    with suppress(commands.CommandFault):
        command = commands.parse(octets)
        assert command.verb.isascii()
        assert command.verb == command.verb.upper()


def _mail(octets: bytes) -> None:
    said = commands.parse_mail(octets, offered=_OFFERED)
    with suppress(commands.CommandFault):
        _ = said.release_time(1_800_000_000.0)
    envelope = Envelope(
        reverse_path=said.reverse_path,
        recipients=(),
        body=said.body,
        smtputf8=said.smtputf8,
        ret=said.ret,
        envid=said.envid,
        require_tls=said.requiretls,
    )
    written = commands.mail_command(envelope, _PEER, 1)
    _is_one_line(written)
    argument = commands.parse(written[:-2]).argument
    again = commands.parse_mail(argument, offered=_OFFERED)
    for name in ("reverse_path", "body", "smtputf8", "ret", "envid", "requiretls"):
        assert getattr(again, name) == getattr(said, name), name


def _rcpt(octets: bytes) -> None:
    said = commands.parse_rcpt(octets, smtputf8=True, offered=_OFFERED)
    written = commands.rcpt_command(said, dsn=True, utf8=True)
    _is_one_line(written)
    argument = commands.parse(written[:-2]).argument
    again = commands.parse_rcpt(argument, smtputf8=True, offered=_OFFERED)
    assert again == said, (again, said)


def _bdat(octets: bytes) -> None:
    assert commands.parse_bdat(octets).size >= 0


def _is_one_line(written: bytes) -> None:
    assert written.endswith(b"\r\n")
    assert not set(b"\r\n\0") & set(written[:-2]), written


def address(octets: bytes) -> None:
    """An address is a mailbox or a fault; written and read again it is the same."""
    text = octets.decode("utf-8", "surrogateescape")
    with suppress(SyntaxFault):
        mailbox = parse_mailbox(text)
        assert str(mailbox).isprintable() or not str(mailbox).isascii()
        assert not set("\r\n\0") & set(str(mailbox))
        assert parse_mailbox(str(mailbox)) == mailbox
        assert mailbox.as_ascii.key == mailbox.key
    with suppress(SyntaxFault):
        _ = parse_path(f"<{text}>", smtputf8=True)
    with suppress(SyntaxFault):
        read = fields(b"From: " + octets + b"\r\n")
        assert join(read) == b"From: " + octets + b"\r\n"
        for field in read:
            with suppress(SyntaxFault):
                for one in addresses(field).mailboxes:
                    assert parse_mailbox(str(one)).key == one.key


@dataclass
class _Door:
    """A server in memory, made anew before it knows too much."""

    bench: Bench
    sessions: int = 0


_DOORS: dict[str, _Door] = {}


def _door() -> Bench:
    door = _DOORS.get("")
    if door is None or door.sessions >= 500:
        door = _DOORS[""] = _Door(Bench(accounts_file=_ACCOUNTS))
    door.sessions += 1
    door.bench.writer.added.clear()
    door.bench.writer.spools.clear()
    door.bench.events.clear()
    return door.bench


def _client(bench: Bench) -> str:
    """An address that has guessed at nothing yet."""
    number = _DOORS[""].sessions
    return f"192.0.{number // 250}.{number % 250}"


def _greeted() -> tuple[Bench, Wire]:
    bench = _door()
    wire = bench.connect(_client(bench))
    wire.say("EHLO me")
    return bench, wire


def _logged_in() -> tuple[Bench, Wire]:
    bench, wire = _greeted()
    wire.say("AUTH PLAIN " + plain(LOGIN))
    assert wire.protocol.authenticated
    wire.heard()
    return bench, wire


def _said(bench: Bench, wire: Wire, octets: list[bytes]) -> list[bytes]:
    """What is answered to segments; nothing may break, no secret be logged."""
    wire.transport.clear()
    for segment in octets:
        wire.send(segment)
    replies = final_replies(wire.transport.value())
    troubles = [one for one in bench.events if isinstance(one, Trouble)]
    assert not troubles, troubles
    wire.drop()
    return replies


def sasl(octets: bytes) -> None:
    """No response logs anybody in but the right password; one line, one reply."""
    bench, wire = _greeted()
    mechanism, *responses = octets.split(b"\n")
    responses = [
        b64encode(one[1:]) if one[:1] == b"!" else one.replace(b"\r", b"")
        for one in responses[:8]
    ]
    lines = [b"AUTH " + mechanism.replace(b"\r", b""), *responses]
    replies = _said(bench, wire, [line + b"\r\n" for line in lines])
    assert len(replies) <= len(lines), replies
    right = any(secret in octets for secret in _SECRETS)
    assert right or not wire.protocol.authenticated, lines
    _no_secret(bench, b"".join(lines))


def _no_secret(bench: Bench, sent: bytes) -> None:
    """No event tells the password, unless the client itself sent it in the open."""
    if SECRET.encode() in sent:
        return
    for event in bench.events:
        assert SECRET not in repr(event), event


def data(octets: bytes) -> None:
    """Behind DATA only CRLF.CRLF ends a message; content is never a command."""
    cuts, _, stream = octets.partition(b"|")
    stream = _FROM + stream
    bench, wire = _logged_in()
    whole = _said(bench, wire, [_MAIL + b"DATA\r\n", stream])
    kept = [_body(message) for _, message in bench.writer.added]
    bench, wire = _logged_in()
    parts = _said(bench, wire, [_MAIL + b"DATA\r\n", *pieces(stream, cuts)])
    again = [_body(message) for _, message in bench.writer.added]
    assert kept == again, (kept, again)
    said = split_data(stream)
    if said is None:
        assert [one[:3] for one in whole] == [b"250", b"250", b"354"], whole
        assert not kept
        return
    content, rest = said
    _compare(content, kept, whole[3])
    if not rest:
        assert len(whole) == len(parts) == 4, (whole, parts)


def _compare(content: bytes, kept: list[bytes], reply: bytes) -> None:
    """What was kept of the first message is what the model says."""
    expected = meant(content)
    if expected is None:
        assert reply[:1] == b"5", (content, reply)
    if reply[:3] == b"250":
        assert expected is not None, content
        if max(map(len, expected.split(b"\r\n"))) > _LONGEST_LINE:
            assert max(map(len, kept[0].split(b"\r\n"))) <= _LONGEST_LINE
        else:
            assert kept[0] == body_of(expected), (content, kept, expected)


def _body(message: Message) -> bytes:
    assert isinstance(message.body, bytes)
    return message.body


def chunks(octets: bytes) -> None:
    """Behind BDAT only its count ends a chunk; the content is kept as it is meant."""
    cuts, _, content = octets.partition(b"|")
    content = _FROM + content
    sizes = [1 + cut for cut in cuts] or [len(content)]
    made = pieces_of(content, sizes)
    stream = b"".join(
        b"BDAT %d%s\r\n%s" % (len(one), b" LAST" if number == len(made) else b"", one)
        for number, one in enumerate(made, 1)
    )
    outcomes = []
    for segments in ([stream], pieces(stream, cuts), pieces(stream, b"\0")):
        bench, wire = _logged_in()
        replies = _said(bench, wire, [_MAIL, *segments, b"NOOP\r\n"])
        outcomes.append([_body(message) for _, message in bench.writer.added])
        codes = [one[:3] for one in replies]
        assert len(codes) == 2 + len(made) + 1 or b"421" in codes, replies
        assert len(outcomes[-1]) <= 1
        _compare(content, outcomes[-1], replies[1 + len(made)])
    assert outcomes[0] == outcomes[1] == outcomes[2], outcomes


def pieces_of(content: bytes, sizes: list[int]) -> list[bytes]:
    """The content in chunks of these sizes, the last of which takes the rest."""
    made: list[bytes] = []
    for size in sizes[:20]:
        made.append(content[:size])
        content = content[size:]
        if not content:
            return made
    return [*made, content]


def session(octets: bytes) -> None:
    """Any octets of a client that is logged in: nothing breaks, and one is one."""
    cuts, _, stream = octets.partition(b"|")
    ends = stream.count(b"\r\n.\r\n") + stream.upper().count(b"LAST")
    for segments in ([stream], pieces(stream, cuts)):
        bench, wire = _logged_in()
        replies = _said(bench, wire, segments)
        lines = stream.count(b"\r\n") + 1
        assert len(replies) <= 2 * lines, replies
        assert len(bench.writer.added) <= ends, stream
        _no_secret(bench, stream)


def head(octets: bytes) -> None:
    """A header section is taken or refused with a reason; bare ends never leave."""
    bench, wire = _logged_in()
    replies = _said(bench, wire, [_MAIL + b"DATA\r\n", octets + b"\r\n.\r\n"])
    assert replies[3][:3] in {b"250", b"550", b"552", b"554"}, replies
    for _, message in bench.writer.added:
        octets = message.head + b"\r\n" + _body(message)
        assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
        assert b"\0" not in octets
        assert max(map(len, octets.split(b"\r\n"))) <= _LONGEST_LINE


TARGETS: Mapping[str, Callable[[bytes], None]] = MappingProxyType(
    {
        one.__name__: one
        for one in (command_line, address, sasl, data, chunks, session, head)
    }
)
