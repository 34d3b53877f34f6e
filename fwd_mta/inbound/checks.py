"""All scanners at once, under one time limit; then each milter in its turn.

Doorways: `Checks.reports`, `Checks.through`. A scanner that breaks, hangs or lies is a
report FAILED; nothing it does reaches further.
"""

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime

from fwd_mta.events import Emit, Trouble
from fwd_mta.inbound.builtin import BuiltIn
from fwd_mta.inbound.milter import Milter
from fwd_mta.inbound.words import fault
from fwd_mta.interfaces import Scanner
from fwd_mta.mail.envelope import Envelope
from fwd_mta.mail.message import Message
from fwd_mta.mail.noun import changed
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.mail.session import Session

Scan = Callable[[], Awaitable[ScanReport]]


class Checks:
    """The scanners, how long they may take together, and what their failure means.

    All of it may be replaced at a reload; scans under way go on as they began.
    """

    def __init__(
        self,
        scanners: Sequence[Scanner],
        clock: IReactorTime,
        emit: Emit,
        timeout: float = 30.0,
        on_error: str = "defer",
        milters: Sequence[Milter] = (),
    ) -> None:
        self.scanners = scanners
        self.milters = milters
        self.timeout = timeout
        self.on_error = on_error
        self._clock = clock
        self._emit = emit
        self.failing: dict[str, str] = {}

    async def reports(
        self, session: Session, envelope: Envelope, message: Message
    ) -> Sequence[ScanReport]:
        """Ask all at once; gives a report of each, in their order, and never raises."""
        known = self.at_once(session, message)
        if known is not None:
            return known
        scanners = self.scanners
        return await self._all(
            [
                (one.name, lambda one=one: one.scan(session, envelope, message))  # type: ignore[misc]
                for one in scanners
            ]
        )

    def at_once(
        self, session: Session, message: Message
    ) -> Sequence[ScanReport] | None:
        """The reports, if no scanner has to be waited for; else None, nobody asked."""
        scanners = self.scanners
        if len(scanners) != 1 or not isinstance(scanners[0], BuiltIn):
            return None
        began = self._clock.seconds()
        try:
            report = scanners[0].at_once(session, message)
        except Exception as broken:  # noqa: BLE001 - it must not raise, yet might
            report = ScanReport(scanners[0].name, Verdict.FAILED, note=fault(broken))
            self.complain(report)
        if report is None:
            return None
        return (changed(report, seconds=self._clock.seconds() - began),)

    async def through(
        self,
        milter: Milter,
        session: Session,
        envelope: Envelope,
        message: Message,
        entry_id: str,
    ) -> ScanReport:
        """Ask one milter, which may change the message; never raises."""
        [report] = await self._all(
            [(milter.name, lambda: milter.scan(session, envelope, message, entry_id))]
        )
        return report

    async def _all(self, scans: Sequence[tuple[str, Scan]]) -> Sequence[ScanReport]:
        if not scans:
            return ()
        asked = [Deferred.fromCoroutine(self._ask(*scan)) for scan in scans]
        timer = self._clock.callLater(self.timeout, _cancel, asked)
        reports = await gatherResults(asked)
        if timer.active():
            timer.cancel()
        for report in reports:
            self.failing.pop(report.scanner, None)
            if report.verdict is Verdict.FAILED:
                self.failing[report.scanner] = report.note
                self.complain(report)
        return reports

    def complain(self, report: ScanReport) -> None:
        """Tell the operator of a scanner that could not say."""
        what = f"{report.scanner} could not check a message: {report.note}"
        self._emit(Trouble("scan", what, "see whether the scanner runs"))

    async def _ask(self, name: str, scan: Scan) -> ScanReport:
        began = self._clock.seconds()
        try:
            report = await scan()
        except CancelledError:
            note = f"no answer within {self.timeout:g} seconds"
            report = ScanReport(name, Verdict.FAILED, note=note)
        except Exception as broken:  # noqa: BLE001 - it must not raise, yet might
            report = ScanReport(name, Verdict.FAILED, note=fault(broken))
        return changed(report, seconds=self._clock.seconds() - began)


def _cancel(asked: Sequence[Deferred[ScanReport]]) -> None:
    for one in asked:
        one.cancel()
