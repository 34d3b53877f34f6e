"""What follows from the scanners' reports: one reply, one mark, one line each.

Pure. The gravest verdict decides; all of them stand in the record of the message.
"""

from collections.abc import Sequence

from fwd_mta.mail.address import excerpt
from fwd_mta.mail.entry import Category
from fwd_mta.mail.header import Field, make_field
from fwd_mta.mail.noun import noun
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.scan import ScanReport, Verdict

# The gravest first: bad mail is refused even while another scanner cannot say
_GRAVITY = (
    Verdict.REJECT,
    Verdict.DEFER,
    Verdict.FAILED,
    Verdict.QUARANTINE,
    Verdict.TAG,
    Verdict.ACCEPT,
)
_UNCHECKED = "X-Fwdmta-Unchecked"
_REASON = 300
_NOTE = 500
_FIELDS = 50
_VALUE = 2000


@noun
class Outcome:
    """What becomes of a message: refused with `reply`, else taken.

    `held` is the reason to put it on hold, `fields` are added to its head, `checks`
    are lines for its timeline; `kind` is what it was refused for good for.
    """

    reply: Reply | None = None
    held: str | None = None
    fields: tuple[Field, ...] = ()
    checks: tuple[str, ...] = ()
    kind: Category | None = None


def judge(reports: Sequence[ScanReport], on_error: str = "defer") -> Outcome:
    """Weigh the reports; with `on_error` "accept" a scanner that cannot say is passed.

    The reply is that of the gravest verdict, of the first scanner where two agree.
    """
    checks = tuple(map(line, reports))
    if all(one.verdict is Verdict.ACCEPT and not one.fields for one in reports):
        return Outcome(checks=checks)
    lenient = on_error == "accept"
    weighed = [one for one in reports if not (lenient and _failed(one))]
    gravest = min(weighed, key=_gravity, default=None)
    reply = _reply(gravest) if gravest else None
    if reply is not None:
        final = gravest is not None and gravest.verdict is Verdict.REJECT
        kind = gravest.kind if gravest and final else None
        return Outcome(reply, checks=checks, kind=kind)
    return Outcome(None, _held(weighed), _fields(reports), checks)


def line(report: ScanReport) -> str:
    """A report as a line of the timeline: scanner, verdict, score, words, time."""
    took = f" ({report.seconds * 1000:.0f} ms)"
    reason, note = report.reason, report.note
    said = f"{reason}; {note}" if reason and note else reason or note
    score = "" if report.score is None else f" {report.score:.1f}"
    words = f": {excerpt(said, _NOTE)}" if said else ""
    return f"{report.scanner} {report.verdict.value}{score}{words}{took}"


def _gravity(report: ScanReport) -> int:
    return _GRAVITY.index(report.verdict)


def _failed(report: ScanReport) -> bool:
    return report.verdict is Verdict.FAILED


def _reply(report: ScanReport) -> Reply | None:
    """What the client is told, or None when the message is taken."""
    reason = excerpt(report.reason, _REASON)
    if report.verdict is Verdict.REJECT:
        return report.reply or _refusal(report, reason)
    if report.verdict is Verdict.DEFER:
        return report.reply or Reply(451, "7.1", reason or "Not now, try again later")
    if report.verdict is Verdict.FAILED:
        text = reason or "The message could not be checked, try again later"
        return Reply(451, "7.1", text)
    return None


def _refusal(report: ScanReport, reason: str) -> Reply:
    if report.kind is Category.VIRUS:
        return Reply(554, "7.1", f"Malware found: {reason or report.scanner}")
    if report.kind is Category.SPAM:
        return Reply(550, "7.1", f"Message looks like spam: {reason or report.scanner}")
    return Reply(550, "7.1", reason or f"Message refused by {report.scanner}")


def _held(reports: Sequence[ScanReport]) -> str | None:
    reasons = [
        f"{one.scanner}: {excerpt(one.reason, _REASON) or 'quarantined'}"
        for one in reports
        if one.verdict is Verdict.QUARANTINE
    ]
    return "; ".join(reasons) or None


def _fields(reports: Sequence[ScanReport]) -> tuple[Field, ...]:
    """Header fields: what scanners ask for, and who could not check."""
    asked = [pair for one in reports for pair in one.fields]
    unchecked = [one.scanner for one in reports if _failed(one)]
    if unchecked:
        asked.append((_UNCHECKED, ", ".join(unchecked)))
    return tuple(
        make_field(name, value[:_VALUE])
        for name, value in asked[:_FIELDS]
        if _is_name(name)
    )


def _is_name(name: str) -> bool:
    """Whether it can be a field's name (RFC 5322 3.6.8)."""
    fine = all("!" <= letter <= "~" and letter != ":" for letter in name)
    return fine and 0 < len(name) <= 60
