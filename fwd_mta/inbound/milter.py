"""A milter, asked when the whole message is here: all stages, one after the other.

What it wants changed comes back in the report; nothing is changed here.
"""

from collections.abc import AsyncIterator, Mapping, Sequence

from typing_extensions import override

from fwd_mta.inbound.dialogue import Line, NoAnswer, Place, dialogue
from fwd_mta.interfaces import Network, Scanner
from fwd_mta.mail.entry import Category
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import fields
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.scan import Edit, EditKind, ScanReport, Verdict
from fwd_mta.mail.session import Session
from fwd_mta.smtp import milter as grammar
from fwd_mta.smtp.milter import Step, strings

_BODY_LIMIT = 64 * 1024 * 1024
_EDITS = 500
_REFUSED = Reply(550, "7.1", "Message refused")
_LATER = Reply(451, "7.1", "Not now, try again later")


class Milter(Scanner):
    """One milter at "inet:host:port" or "unix:/path"; raises ValueError for a name."""

    def __init__(self, network: Network, place: str, hostname: str) -> None:
        self._network = network
        self._place = Place.parse(place)
        self._name = f"milter@{place}"
        self._hostname = hostname

    @property
    @override
    def name(self) -> str:
        """Its name in reports."""
        return self._name

    @override
    async def scan(
        self,
        session: Session,
        envelope: Envelope,
        message: Message,
        entry_id: str = "",
    ) -> ScanReport:
        """Go through all stages and report what it decides and wants changed."""
        try:
            async with dialogue(self._network, self._place) as line:
                facts = _macros(session, envelope, entry_id, self._hostname)
                talk = _Talk(line, self.name, facts)
                report = await talk.run(session, envelope, message)
                line.leave(grammar.packet(b"Q"))
                return report
        except (NoAnswer, SyntaxFault) as reason:
            return ScanReport(self.name, Verdict.FAILED, note=str(reason))


def _macros(
    session: Session, envelope: Envelope, entry_id: str, hostname: str
) -> Mapping[bytes, dict[str, str]]:
    """What Postfix would tell at each stage, by the letter of its command."""
    tls = session.tls
    login = session.account.login if session.account else ""
    secured = {
        "{tls_version}": tls.version if tls else "",
        "{cipher}": tls.cipher if tls else "",
    }
    sender = {
        "i": entry_id,
        "{auth_authen}": login,
        "{auth_type}": "PLAIN" if login else "",
        "{mail_addr}": str(envelope.reverse_path or ""),
    }
    daemon = {"j": hostname, "{daemon_name}": "fwdmta", "v": "fwd_mta"}
    return {
        b"C": daemon,
        b"H": secured,
        b"M": sender,
        b"T": {"i": entry_id},
        b"E": {"i": entry_id},
    }


class _Talk:
    """One message's way through a milter."""

    def __init__(
        self, line: Line, name: str, facts: Mapping[bytes, dict[str, str]]
    ) -> None:
        self._line = line
        self._name = name
        self._facts = facts
        self._steps = Step(0)
        self._skips_body = False
        self._edits: list[Edit] = []
        self._body: bytearray | None = None
        self._held: str | None = None

    async def run(
        self, session: Session, envelope: Envelope, message: Message
    ) -> ScanReport:
        """Go through the stages until it has decided; raises NoAnswer, SyntaxFault."""
        await self._line.send(grammar.offer())
        letter, data = await self._answer()
        if letter != b"O":
            raise NoAnswer(f"it answers our offer with {letter!r}")
        self._steps = grammar.read_terms(data).steps
        async for command in _commands(session, envelope, message, self._steps):
            report = await self._ask(*command)
            if report is not None:
                return report
        return await self._end()

    async def _ask(
        self, letter: bytes, data: bytes, unwanted: Step, silent: Step
    ) -> ScanReport | None:
        """One command; a report when it decided the message."""
        if self._steps & unwanted or (letter == b"B" and self._skips_body):
            return None
        macros = grammar.macros(letter, self._facts.get(letter, {}))
        await self._line.send(macros + grammar.packet(letter, data))
        if self._steps & silent:
            return None
        return self._decided(*await self._answer())

    async def _answer(self) -> tuple[bytes, bytes]:
        """The next packet that is more than a sign of life."""
        while True:
            length = grammar.read_length(await self._line.exactly(4))
            octets = await self._line.exactly(length)
            if octets[:1] != b"p":
                return octets[:1], octets[1:]

    def _decided(self, letter: bytes, data: bytes) -> ScanReport | None:
        """What an answer means for the message; None: go on."""
        if letter == b"c":
            return None
        if letter == b"s":
            self._skips_body = True
            return None
        if letter == b"a":
            return ScanReport(self._name, Verdict.ACCEPT)
        if letter in {b"r", b"d"}:
            return self._refused(_REFUSED)
        if letter == b"t":
            return self._refused(_LATER)
        if letter == b"y":
            return self._refused(grammar.read_reply(data))
        raise NoAnswer(f"it answers with {letter!r}")

    def _refused(self, reply: Reply) -> ScanReport:
        verdict = Verdict.REJECT if reply.is_permanent else Verdict.DEFER
        reason = reply.text.replace("\n", " ")
        return ScanReport(self._name, verdict, reason, Category.POLICY, reply=reply)

    async def _end(self) -> ScanReport:
        """The end of the message: its changes, then its decision."""
        macros = grammar.macros(b"E", self._facts[b"E"])
        await self._line.send(macros + grammar.packet(b"E"))
        while True:
            letter, data = await self._answer()
            if letter in _CHANGES:
                self._change(letter, data)
                continue
            report = self._decided(letter, data)
            if report is None or report.verdict is Verdict.ACCEPT:
                return self._changed()
            return report

    def _change(self, letter: bytes, data: bytes) -> None:
        if letter == b"q":
            self._held = data.rstrip(b"\0").decode("utf-8", "replace") or "quarantined"
        elif letter == b"b":
            self._replace(data)
        elif len(self._edits) >= _EDITS:
            raise NoAnswer(f"it makes more than {_EDITS} changes")
        else:
            self._edits.append(self._edit(letter, data))

    def _replace(self, data: bytes) -> None:
        self._body = self._body or bytearray()
        self._body += data
        if len(self._body) > _BODY_LIMIT:
            raise NoAnswer(f"its body is over {_BODY_LIMIT} octets")

    def _edit(self, letter: bytes, data: bytes) -> Edit:
        index = 0
        if letter == b"h":
            name, value = grammar.read_pair(data)
        else:
            index, name, value = grammar.read_indexed(data)
        if not self._steps & Step.LEADING_SPACE and value:
            value = b" " + value
        return Edit(_CHANGES[letter], name, value, index)

    def _changed(self) -> ScanReport:
        verdict = Verdict.ACCEPT if self._held is None else Verdict.QUARANTINE
        body = None if self._body is None else bytes(self._body)
        names = {edit.name.decode("latin-1") for edit in self._edits}
        note = f"changed {', '.join(sorted(names))}" if names else ""
        return ScanReport(
            self._name,
            verdict,
            self._held or "",
            note=note,
            edits=tuple(self._edits),
            body=body,
        )


_CHANGES = {
    b"h": EditKind.ADD,
    b"i": EditKind.INSERT,
    b"m": EditKind.CHANGE,
    b"b": EditKind.CHANGE,
    b"q": EditKind.CHANGE,
}

Command = tuple[bytes, bytes, Step, Step]


async def _commands(
    session: Session, envelope: Envelope, message: Message, steps: Step
) -> AsyncIterator[Command]:
    """All stages before the end: letter, data, who does not want or answer it."""
    for command in _beginning(session, envelope):
        yield command
    for field in fields(message.head):
        value = field.raw.partition(b":")[2].removesuffix(b"\r\n")
        if not steps & Step.LEADING_SPACE:
            value = value.removeprefix(b" ")
        pair = strings(field.name, value.replace(b"\r\n", b"\n"))
        yield b"L", pair, Step.NO_HEADERS, Step.SILENT_HEADER
    yield b"N", b"", Step.NO_END_OF_HEADERS, Step.SILENT_END_OF_HEADERS
    if steps & Step.NO_BODY:
        return
    for at in range(0, message.body_size, grammar.CHUNK):
        chunk = await message.read(at, grammar.CHUNK)
        yield b"B", chunk, Step.NO_BODY, Step.SILENT_BODY


def _beginning(session: Session, envelope: Envelope) -> Sequence[Command]:
    client = grammar.connection(session.client, session.port)
    hello = strings(session.hello or "unknown")
    sender = strings(f"<{envelope.reverse_path or ''}>")
    return [
        (b"C", client, Step.NO_CONNECT, Step.SILENT_CONNECT),
        (b"H", hello, Step.NO_HELLO, Step.SILENT_HELLO),
        (b"M", sender, Step.NO_MAIL, Step.SILENT_MAIL),
        *(
            (
                b"R",
                strings(f"<{one.mailbox}>"),
                Step.NO_RECIPIENT,
                Step.SILENT_RECIPIENT,
            )
            for one in envelope.recipients
        ),
        (b"T", b"", Step.NO_DATA, Step.SILENT_DATA),
    ]
