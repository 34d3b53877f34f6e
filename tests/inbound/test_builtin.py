"""The built-in checks as a scanner: off the reactor thread, in blocks."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Trouble
from fwd_mta.inbound.builtin import BLOCK, BuiltIn
from fwd_mta.inbound.checks import Checks
from fwd_mta.interfaces import Worker
from fwd_mta.mail.account import Account
from fwd_mta.mail.message import Message
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.rules.inspection import RULES
from tests.inbound.test_intake import ENVELOPE, SESSION
from tests.inbound.test_scanners import PacedBody
from tests.rules.inspected import attached

T = TypeVar("T")


class CountingWorker(Worker):
    """Runs jobs at once, and counts them."""

    def __init__(self) -> None:
        self.jobs = 0

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run it."""
        self.jobs += 1
        return maybeDeferred(job)


class BuiltInTests(SynchronousTestCase):
    """`BuiltIn.scan`."""

    def scan(self, message: Message) -> tuple[ScanReport, int]:
        """Its report, and how many jobs the worker had."""
        worker = CountingWorker()
        scanner = BuiltIn(worker, RULES)
        scanning = Deferred.fromCoroutine(scanner.scan(SESSION, ENVELOPE, message))
        return self.successResultOf(scanning), worker.jobs

    def test_small(self) -> None:
        """A small message is looked at where it is."""
        head, _, body = attached("setup.exe").partition(b"\r\n\r\n")
        report, jobs = self.scan(Message(head + b"\r\n", body))
        self.assertIs(report.verdict, Verdict.REJECT)
        self.assertIn("setup.exe", report.reason)
        self.assertEqual(jobs, 0)

    def test_own_rules(self) -> None:
        """An account may have its own: stricter or milder than the rest."""
        head, _, body = attached("setup.exe").partition(b"\r\n\r\n")
        message = Message(head + b"\r\n", body)
        scanner = BuiltIn(CountingWorker(), RULES)
        for action, wanted in (("tag", Verdict.TAG), ("off", Verdict.ACCEPT)):
            account = Account("ann@example.com", rules=(("executable-name", action),))
            session = replace(SESSION, account=account)
            given = scanner.at_once(session, message)
            self.assertIs(given and given.verdict, wanted)
        given = scanner.at_once(SESSION, message)
        self.assertIs(given and given.verdict, Verdict.REJECT)

    def test_large(self) -> None:
        """A large one goes to the worker, a block at a time, never whole."""
        body = PacedBody(10_000_000)
        report, jobs = self.scan(Message(b"Subject: x\r\n", body))
        self.assertIs(report.verdict, Verdict.ACCEPT)
        self.assertEqual(jobs, 10_000_000 // BLOCK + 2)
        self.assertLessEqual(body.largest, BLOCK)

    def test_alone(self) -> None:
        """Where it is all that looks, a small message waits for no timer."""
        clock, events = Clock(), list[Event]()
        checks = Checks((BuiltIn(CountingWorker(), RULES),), clock, events.append)
        message = Message(b"Subject: x\r\n", b"Hi\r\n")
        asked = Deferred.fromCoroutine(checks.reports(SESSION, ENVELOPE, message))
        [report] = self.successResultOf(asked)
        self.assertIs(report.verdict, Verdict.ACCEPT)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertIsNone(checks.at_once(SESSION, Message(b"", PacedBody(10))))

    def test_defect(self) -> None:
        """A defect of its own is a report that it could not say, and no exception."""
        clock, events = Clock(), list[Event]()
        scanner = BuiltIn(CountingWorker(), {})
        checks = Checks((scanner,), clock, events.append)
        head, _, body = attached("setup.exe").partition(b"\r\n\r\n")
        message = Message(head + b"\r\n", body)
        asked = Deferred.fromCoroutine(checks.reports(SESSION, ENVELOPE, message))
        [report] = self.successResultOf(asked)
        self.assertIs(report.verdict, Verdict.FAILED)
        self.assertIsInstance(events[0], Trouble)
