"""SpamAssassin, asked over spamd's own protocol (SYMBOLS)."""

import re

from typing_extensions import override

from fwd_mta.inbound.dialogue import Line, NoAnswer, Place, blocks, dialogue
from fwd_mta.interfaces import Network, Scanner
from fwd_mta.mail.address import excerpt
from fwd_mta.mail.entry import Category
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.message import Message
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.mail.session import Session

# What spamc leaves out, too: its rules take too long for more
SIZE_LIMIT = 500 * 1024
REJECT_SCORE = 15.0

_HEAD = 8 * 1024
_BODY = 64 * 1024
_SPAM = re.compile(
    r"spam:\s*(true|false)\s*;\s*(-?\d{1,7}(?:\.\d+)?)\s*/\s*(-?[0-9.]+)"
)
_LENGTH = re.compile(r"content-length:\s*([0-9]{1,6})")


class Spamd(Scanner):
    """A spam scanner: what it calls spam is tagged, and refused from a score on."""

    def __init__(
        self, network: Network, place: Place, reject_score: float = REJECT_SCORE
    ) -> None:
        self._network = network
        self._place = place
        self._reject_score = reject_score

    @property
    @override
    def name(self) -> str:
        """Its name in reports."""
        return "spamd"

    @override
    async def scan(
        self, session: Session, envelope: Envelope, message: Message
    ) -> ScanReport:
        """Hand the message to it and report what it says."""
        if message.size > SIZE_LIMIT:
            note = f"not looked at: over {SIZE_LIMIT} octets"
            return ScanReport(self.name, Verdict.ACCEPT, note=note)
        try:
            async with dialogue(self._network, self._place) as line:
                head, symbols = await _ask(line, message)
                return self._report(head, symbols)
        except NoAnswer as reason:
            return ScanReport(self.name, Verdict.FAILED, note=str(reason))

    def _report(self, head: str, symbols: str) -> ScanReport:
        found = _SPAM.search(head.lower())
        if found is None:
            raise NoAnswer(f"it answered {excerpt(head, 100)}")
        score, names = float(found[2]), excerpt(symbols.strip(), 300)
        if found[1] == "false":
            return ScanReport(self.name, Verdict.ACCEPT, score=score, note=names)
        if score >= self._reject_score:
            return ScanReport(self.name, Verdict.REJECT, names, Category.SPAM, score)
        status = f"Yes, score={score:.1f} required={found[3]} tests={names}"
        fields = (("X-Spam-Flag", "YES"), ("X-Spam-Status", status))
        return ScanReport(
            self.name, Verdict.TAG, "", Category.SPAM, score, names, fields
        )


async def _ask(line: Line, message: Message) -> tuple[str, str]:
    """The head of its answer, and the names of the rules that matched."""
    request = f"SYMBOLS SPAMC/1.5\r\nContent-length: {message.size}\r\n\r\n"
    await line.send(request.encode("ascii"))
    async for block in blocks(message):
        await line.send(block)
    head = (await line.until(b"\r\n\r\n", _HEAD)).decode("latin-1")
    words = head.partition("\r\n")[0].split()
    if len(words) < 2 or not words[0].startswith("SPAMD/") or words[1] != "0":
        raise NoAnswer(f"it answered {excerpt(head, 100)}")
    length = _LENGTH.search(head.lower())
    if length is None or int(length[1]) > _BODY:
        raise NoAnswer("it does not say how long its answer is")
    return head, (await line.exactly(int(length[1]))).decode("latin-1")
