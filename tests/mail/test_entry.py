"""Tests of `fwd_mta.mail.entry`: what follows from an entry's standings; filters."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import (
    Action,
    Category,
    DeliveryResult,
    Diagnosis,
    EntryFilter,
    QueueEntry,
    Scope,
    Stage,
    Standing,
    StandingState,
    Status,
)
from fwd_mta.mail.envelope import Envelope, Recipient

JOE = Recipient(Mailbox("Joe", "Example.com"))
ANN = Recipient(Mailbox("ann", "bücher.example"))
SENDER = Mailbox("me", "home.example")
DIAGNOSIS = Diagnosis(
    Action.DEFER, Category.CAPACITY, Scope.RECIPIENT, "Full", 452, "4.2.2", "full"
)


def entry(*states: StandingState, attempts: int = 0) -> QueueEntry:
    """An entry with one standing of each state."""
    standings = tuple(
        Standing(recipient, 100.0 - at, state, attempts)
        for at, (recipient, state) in enumerate(
            zip((JOE, ANN, JOE), states, strict=False)
        )
    )
    envelope = Envelope(SENDER, tuple(one.recipient for one in standings))
    return QueueEntry("id1", "me", envelope, standings, 50.0, 10, message_id="<m@x>")


OPEN, DELIVERED = StandingState.OPEN, StandingState.DELIVERED
FAILED, CANCELLED = StandingState.FAILED, StandingState.CANCELLED


class StatusTests(SynchronousTestCase):
    """What is derived."""

    def test_status(self) -> None:
        """The state of the whole follows from its recipients'."""
        for states, status in {
            (OPEN,): Status.QUEUED,
            (OPEN, FAILED): Status.QUEUED,
            (DELIVERED,): Status.SENT,
            (DELIVERED, StandingState.RELAYED): Status.SENT,
            (DELIVERED, FAILED): Status.PARTIALLY_SENT,
            (DELIVERED, CANCELLED): Status.PARTIALLY_SENT,
            (FAILED, StandingState.EXPIRED): Status.BOUNCED,
            (FAILED, CANCELLED): Status.BOUNCED,
            (CANCELLED, CANCELLED): Status.REJECTED,
        }.items():
            self.assertEqual(entry(*states).status, status, states)

    def test_deferred(self) -> None:
        """What waits after an attempt is deferred."""
        self.assertEqual(entry(OPEN, attempts=1).status, Status.DEFERRED)

    def test_due(self) -> None:
        """An entry is due with its first open standing, a finished one never."""
        self.assertEqual(entry(OPEN, OPEN).due, 99.0)
        self.assertEqual(entry(OPEN, DELIVERED).due, 100.0)
        self.assertIsNone(entry(DELIVERED).due)
        self.assertTrue(entry(DELIVERED).is_final)

    def test_clock_start(self) -> None:
        """Lifetime begins at arrival, or at the release time if that is later."""
        one = entry(OPEN)
        self.assertEqual(one.clock_start, 50.0)
        held = replace(one.envelope, hold_until=70.0)
        self.assertEqual(replace(one, envelope=held).clock_start, 70.0)


class FilterTests(SynchronousTestCase):
    """What a list wants."""

    def test_everything_open(self) -> None:
        """Without a wish, all that waits is taken, and nothing finished."""
        self.assertTrue(EntryFilter().takes(entry(OPEN)))
        self.assertFalse(EntryFilter().takes(entry(DELIVERED)))
        self.assertTrue(EntryFilter(finished=True).takes(entry(DELIVERED)))

    def test_named_is_finished_too(self) -> None:
        """An id or a state finds a finished entry as well."""
        self.assertTrue(EntryFilter(ids=("id1",)).takes(entry(DELIVERED)))
        self.assertTrue(EntryFilter(states=(Status.SENT,)).takes(entry(DELIVERED)))

    def test_each_wish(self) -> None:
        """Each wish takes what it names and nothing else."""
        for wish, other in (
            (EntryFilter(ids=("id1",)), EntryFilter(ids=("id2",))),
            (EntryFilter(sender=str(SENDER)), EntryFilter(sender="you@home.example")),
            (EntryFilter(recipient="JOE@example.com"), EntryFilter(recipient="x@y")),
            (EntryFilter(domain="xn--bcher-kva.example"), EntryFilter(domain="x.y")),
            (EntryFilter(account="me"), EntryFilter(account="you")),
            (EntryFilter(message_id="<m@x>"), EntryFilter(message_id="<n@x>")),
            (EntryFilter(states=(Status.QUEUED,)), EntryFilter(states=(Status.SENT,))),
            (EntryFilter(queued_before=51), EntryFilter(queued_before=50)),
        ):
            self.assertTrue(wish.takes(entry(OPEN, OPEN)), wish)
            self.assertFalse(other.takes(entry(OPEN, OPEN)), other)

    def test_category(self) -> None:
        """A category finds entries whose last result was of it."""
        one = entry(OPEN)
        result = DeliveryResult(JOE, Stage.RCPT, diagnosis=DIAGNOSIS)
        tried = replace(one, standings=(replace(one.standings[0], last=result),))
        self.assertTrue(EntryFilter(category=Category.CAPACITY).takes(tried))
        self.assertFalse(EntryFilter(category=Category.SPAM).takes(tried))
        self.assertFalse(EntryFilter(category=Category.CAPACITY).takes(one))

    def test_one_recipient_for_all(self) -> None:
        """Recipient and domain must be true of the same recipient."""
        wish = EntryFilter(recipient="joe@example.com", domain="xn--bcher-kva.example")
        self.assertFalse(wish.takes(entry(OPEN, OPEN)))

    def test_null_sender(self) -> None:
        """The empty sender finds notices."""
        one = entry(OPEN)
        notice = replace(one, envelope=replace(one.envelope, reverse_path=None))
        self.assertTrue(EntryFilter(sender="").takes(notice))
        self.assertFalse(EntryFilter(sender="").takes(one))
