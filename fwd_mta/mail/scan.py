"""What a scanner says of a message."""

from dataclasses import dataclass
from enum import StrEnum

from fwd_mta.mail.entry import Category
from fwd_mta.mail.reply import Reply


class Verdict(StrEnum):
    """What a scanner wants done; FAILED: it could not say."""

    ACCEPT = "accept"
    TAG = "tag"
    QUARANTINE = "quarantine"
    FAILED = "failed"
    DEFER = "defer"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class ScanReport:
    """One scanner's answer.

    `reason` is for the sender, with REJECT by malware the name of what was found;
    `note` only for the timeline; `kind` is virus, spam or policy; `fields` are header
    fields it wants added, as name and value; `reply` its own words, where it has some;
    `seconds` is what it took.
    """

    scanner: str
    verdict: Verdict
    reason: str = ""
    kind: Category = Category.POLICY
    score: float | None = None
    note: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    reply: Reply | None = None
    seconds: float = 0.0
