"""What a scanner says of a message."""

from dataclasses import dataclass
from enum import StrEnum

from fwd_mta.mail.entry import Category
from fwd_mta.mail.noun import noun
from fwd_mta.mail.reply import Reply


class Verdict(StrEnum):
    """What a scanner wants done; FAILED: it could not say."""

    ACCEPT = "accept"
    TAG = "tag"
    QUARANTINE = "quarantine"
    FAILED = "failed"
    DEFER = "defer"
    REJECT = "reject"


class EditKind(StrEnum):
    """What a milter does with a header field."""

    ADD = "add"
    INSERT = "insert"
    CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a header section.

    `index` is a place from 0 for INSERT, for CHANGE the number of the field of that
    name from 1; a CHANGE to nothing removes it. The value is all behind the colon.
    """

    kind: EditKind
    name: bytes
    value: bytes
    index: int = 0


@noun
class ScanReport:
    """One scanner's answer.

    `reason` is for the sender, with REJECT by malware the name of what was found;
    `note` only for the timeline; `kind` is virus, spam or policy; `fields` are header
    fields it wants added, as name and value; `reply` its own words, where it has some;
    `edits` and `body` are changes of the message itself; `seconds` is what it took.
    """

    scanner: str
    verdict: Verdict
    reason: str = ""
    kind: Category = Category.POLICY
    score: float | None = None
    note: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    reply: Reply | None = None
    edits: tuple[Edit, ...] = ()
    body: bytes | None = None
    seconds: float = 0.0
