"""The checks that need no service: what is in a message that should not leave.

Pure, linear in the size of the message, and bounded in memory. Doorway: `Inspector`,
fed with head and body, which gives findings; `report` says what follows from them.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from fwd_mta.mail.address import excerpt
from fwd_mta.mail.entry import Category
from fwd_mta.mail.errors import SyntaxFault
from fwd_mta.mail.header import Field, Section, addresses, fields
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.rules.attachments import START, ZIP, ZipNames, judge_name, judge_start
from fwd_mta.rules.links import (
    Doubt,
    foreign_address,
    judge_links,
    links_in,
    may_hold_links,
)
from fwd_mta.rules.mime import Facts, Walk

ACTIONS = ("reject", "tag", "note", "off")

# Each rule and what it does unless the operator says otherwise
RULES: Mapping[str, str] = MappingProxyType(
    {
        "eicar": "reject",
        "gtube": "reject",
        "executable-name": "reject",
        "executable-content": "reject",
        "executable-in-archive": "reject",
        "double-extension": "reject",
        "mime-bomb": "reject",
        "encrypted-archive": "note",
        "display-name-address": "note",
        "link-mismatch": "note",
        "mixed-script-host": "note",
        "office-macro": "note",
        "pdf-launch": "note",
        "raw-address-link": "note",
    }
)

# Written in halves, so that no scanner takes this file for the real thing
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + rb"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
EXPANDED_LIMIT = 4 * 1024**3

_TEXT_LIMIT = 256 * 1024
_OVERLAP = 80
_MOST = 20
_USUAL_FROM = 200
_PDF = b"%PDF-"
_MACROS = "_VBA_PROJECT".encode("utf-16-le")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_KINDS = {"eicar": Category.VIRUS, "gtube": Category.SPAM}
_WORDS = {
    "eicar": "EICAR-Test-File",
    "gtube": "GTUBE",
    "executable-name": "Attachments that are programs are not taken",
    "executable-content": "Attachments that are programs are not taken",
    "executable-in-archive": "Archives that hold programs are not taken",
    "double-extension": "Attachments whose name hides what they are are not taken",
    "mime-bomb": "The message is built too deep or too large to be checked",
    "encrypted-archive": "Encrypted archives are not taken",
    "display-name-address": "The name in From holds the address of someone else",
    "link-mismatch": "A link leads elsewhere than its text says",
    "mixed-script-host": "A link leads to a host whose name mixes alphabets",
    "office-macro": "Documents with macros are not taken",
    "pdf-launch": "PDF files that start programs are not taken",
    "raw-address-link": "A link leads to an address instead of a name",
}


class Inspector:
    """Looks at one message; `findings` are complete after `finish`."""

    def __init__(self, head: bytes) -> None:
        self.findings: list[Doubt] = []
        parts = _fields(head)
        self._author(parts)
        self._walk = Walk(parts, self._leaf)

    def feed(self, piece: bytes) -> None:
        """Take more of the body."""
        self._walk.feed(piece)

    def finish(self) -> Sequence[Doubt]:
        """The body ends; gives what was found, each rule and detail once."""
        self._walk.finish()
        if self._walk.excess:
            self._note(Doubt("mime-bomb", self._walk.excess))
        return tuple(dict.fromkeys(self.findings)) if self.findings else ()

    def _note(self, doubt: Doubt) -> None:
        known = sum(one.rule == doubt.rule for one in self.findings)
        if known < _MOST:
            self.findings.append(doubt)

    def _leaf(self, facts: Facts) -> "_Content":
        return _Content(facts, self)

    def _author(self, parts: Section) -> None:
        for field in parts.named("from"):
            if b"@" in field.raw:
                found = _foreign(field)
                if found:
                    self._note(Doubt("display-name-address", found))

    def notes(self, doubts: Iterator[Doubt]) -> None:
        """Note what a leaf found."""
        for doubt in doubts:
            self._note(doubt)


class _Content:
    """Looks at the decoded content of one leaf."""

    def __init__(self, facts: Facts, inspector: Inspector) -> None:
        self._facts = facts
        self._inspector = inspector
        self._is_html = facts.media_type == "text/html"
        self._is_text = self._is_html or facts.media_type == "text/plain"
        self._start = b""
        self._rest = b""
        self._text = bytearray()
        self._zip: ZipNames | None = None
        if facts.name:
            inspector.notes(judge_name(facts.name))

    def feed(self, octets: bytes) -> None:
        """Take more of it."""
        if not octets:
            return
        if len(self._start) < START:
            self._start += octets[:START]
            if self._zip is None and self._start.startswith(ZIP):
                self._zip = ZipNames()
        if self._zip is not None:
            self._zip.feed(octets)
        if self._is_text and len(self._text) < _TEXT_LIMIT:
            self._text += octets[:_TEXT_LIMIT]
        window = self._rest + octets
        if EICAR in window or GTUBE in window or self._start.startswith((_PDF, _OLE)):
            self._inspector.notes(self._strings(window))
        self._rest = window[-_OVERLAP:]

    def _strings(self, window: bytes) -> Iterator[Doubt]:
        """Strings that may stand anywhere."""
        if EICAR in window:
            yield Doubt("eicar", "")
        if GTUBE in window:
            yield Doubt("gtube", "")
        if self._start.startswith(_PDF) and b"/Launch" in window:
            yield Doubt("pdf-launch", self._facts.name)
        if self._start.startswith(_OLE) and _MACROS in window:
            yield Doubt("office-macro", self._facts.name)

    def close(self) -> None:
        """It ends: look at what was kept of it."""
        name = self._facts.name
        self._inspector.notes(judge_start(self._start, name))
        if self._zip is not None:
            self._inspector.notes(_archive(self._zip, name))
        if may_hold_links(self._text, html=self._is_html):
            text = self._text.decode("utf-8", "replace")
            found = judge_links(links_in(text, html=self._is_html))
            self._inspector.notes(found)


def _archive(names: ZipNames, name: str) -> Iterator[Doubt]:
    if names.executable is not None:
        inside = f"{names.executable} in {name or 'an archive'}"
        yield Doubt("executable-in-archive", inside)
    if names.has_macro:
        yield Doubt("office-macro", name)
    if names.is_encrypted:
        yield Doubt("encrypted-archive", name)
    if names.expanded > EXPANDED_LIMIT:
        size = names.expanded // 1_000_000
        yield Doubt("mime-bomb", f"{name or 'an archive'} expands to {size} MB")


def _fields(head: bytes) -> Section:
    try:
        return fields(head)
    except SyntaxFault:
        return Section()


def _foreign(field: Field) -> str | None:
    """An address in the display names of From that is none of its own."""
    return _usual(field) if len(field.raw) < _USUAL_FROM else _judged(field)


@lru_cache(maxsize=256)  # who sends much writes the same From each time
def _usual(field: Field) -> str | None:
    return _judged(field)


def _judged(field: Field) -> str | None:
    try:
        return foreign_address(field.value, addresses(field).mailboxes)
    except SyntaxFault:
        return None


# What follows


def report(findings: Sequence[Doubt], actions: Mapping[str, str]) -> ScanReport:
    """The verdict on findings; `actions` say reject, tag, note or off for each rule."""
    found = [one for one in findings if actions[one.rule] != "off"]
    note = "; ".join(_line(one) for one in found)
    worst = next((one for one in found if actions[one.rule] == "reject"), None)
    if worst is not None:
        kind = _KINDS.get(worst.rule, Category.POLICY)
        reason = _reason(worst)
        return ScanReport("builtin", Verdict.REJECT, reason, kind, note=note)
    tags = [one.rule for one in found if actions[one.rule] == "tag"]
    if tags:
        fields = (("X-Fwdmta-Notes", ", ".join(dict.fromkeys(tags))),)
        return ScanReport("builtin", Verdict.TAG, note=note, fields=fields)
    return ScanReport("builtin", Verdict.ACCEPT, note=note)


def _line(doubt: Doubt) -> str:
    detail = excerpt(doubt.detail, 100)
    return f"{doubt.rule} ({detail})" if detail else doubt.rule


def _reason(doubt: Doubt) -> str:
    detail = excerpt(doubt.detail, 150)
    words = _WORDS[doubt.rule]
    return f"{words}: {detail}" if detail else words
