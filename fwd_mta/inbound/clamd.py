"""ClamAV, asked over clamd's own protocol (INSTREAM)."""

import re
from struct import pack

from typing_extensions import override

from fwd_mta.inbound.dialogue import Line, NoAnswer, Place, blocks, dialogue
from fwd_mta.interfaces import Network, Scanner
from fwd_mta.mail.address import excerpt
from fwd_mta.mail.entry import Category
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.message import Message
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.mail.session import Session

_ANSWER = 4096
_FOUND = re.compile(r"stream: (.+) FOUND")
_TOO_LARGE = "INSTREAM size limit exceeded"


class Clamd(Scanner):
    """A virus scanner. What it finds is refused with the name of the signature."""

    def __init__(self, network: Network, place: Place) -> None:
        self._network = network
        self._place = place

    @property
    @override
    def name(self) -> str:
        """Its name in reports."""
        return "clamd"

    @override
    async def scan(
        self, session: Session, envelope: Envelope, message: Message
    ) -> ScanReport:
        """Stream the message to it and report what it says."""
        try:
            async with dialogue(self._network, self._place) as line:
                return _report(await _ask(line, message))
        except NoAnswer as reason:
            return ScanReport(self.name, Verdict.FAILED, note=str(reason))


async def _ask(line: Line, message: Message) -> str:
    """Its answer; it may have one before it has read everything."""
    try:
        await line.send(b"zINSTREAM\0")
        async for block in blocks(message):
            await line.send(pack(">I", len(block)) + block)
        await line.send(pack(">I", 0))
    except NoAnswer:
        pass  # what it said before it hung up tells more
    return (await line.until(b"\0", _ANSWER)).decode("utf-8", "replace")


def _report(answer: str) -> ScanReport:
    if answer == "stream: OK":
        return ScanReport("clamd", Verdict.ACCEPT)
    found = _FOUND.fullmatch(answer)
    if found:
        return ScanReport("clamd", Verdict.REJECT, found[1], Category.VIRUS)
    if answer.startswith(_TOO_LARGE):
        reason = "The message is larger than the virus scanner takes"
        note = "raise StreamMaxLength of clamd over message_size_limit"
        return ScanReport("clamd", Verdict.FAILED, reason, note=note)
    return ScanReport("clamd", Verdict.FAILED, note=f"it said {excerpt(answer)}")
