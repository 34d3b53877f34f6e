"""Tests for retention: when content and records go, and what stays in between."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import QueueEntry, Standing, StandingState
from fwd_mta.mail.message import Message
from fwd_mta.rules.identity import entry_id, made_at, notice_id
from fwd_mta.rules.retention import (
    RetentionPolicy,
    RetentionStep,
    Term,
    due_step,
    next_step,
    placeholder,
)
from tests.builders import T0, entry, recipient

DAY = 86_400.0
POLICY = RetentionPolicy(content=30 * DAY, record=90 * DAY)


def over(one: QueueEntry, *states: StandingState, at: float = T0 + 60) -> QueueEntry:
    """The entry, finished at that time with these states."""
    standings = tuple(
        Standing(standing.recipient, standing.next_attempt_at, state)
        for standing, state in zip(one.standings, states, strict=True)
    )
    return replace(one, standings=standings, finished_at=at)


DONE = over(entry(), StandingState.DELIVERED)


class TermTests(SynchronousTestCase):
    """Terms of accounts and domains."""

    def test_the_most_particular_counts(self) -> None:
        """An account's term before its domain's, and that before the usual one."""
        policy = RetentionPolicy(
            30 * DAY,
            90 * DAY,
            {
                "ann@example.com": Term(DAY, 2 * DAY),
                "example.com": Term(5 * DAY, 10 * DAY),
            },
        )
        for account, days in (
            ("ann@example.com", 1),
            ("Ann@Example.com", 1),
            ("carl@example.com", 5),
            ("carl@example.org", 30),
            (None, 1),
        ):
            one = replace(DONE, account=account)
            self.assertEqual(next_step(one, policy), ("redact", T0 + days * DAY))

    def test_a_notice_goes_by_its_cause(self) -> None:
        """A notice quotes its cause: it has the term of its account, not its own."""
        policy = RetentionPolicy(30 * DAY, 90 * DAY, {"app@example.com": Term(0, DAY)})
        cause = entry_id(T0, bytes(8))
        notice = replace(
            over(entry("news@example.com", sender=None), StandingState.DELIVERED),
            id=notice_id(cause, 1),
            cause=cause,
        )
        self.assertEqual(next_step(notice, policy), ("redact", T0 + 30 * DAY))
        owned = replace(notice, owner="app@example.com")
        self.assertEqual(next_step(owned, policy), ("redact", T0 + 60))
        again = RetentionPolicy(30 * DAY, 90 * DAY, {"news@example.com": Term(0, DAY)})
        self.assertEqual(next_step(notice, again), ("redact", T0 + 60))

    def test_the_words_tell_policies_apart(self) -> None:
        """Another term is other words, whichever way it was written."""
        terms = {"a@example.com": Term(1, 2), "b@example.com": Term(3, 4)}
        one = RetentionPolicy(30, 90, terms)
        other = RetentionPolicy(30, 90, dict(reversed(terms.items())))
        self.assertEqual(one.words, other.words)
        self.assertNotEqual(one.words, RetentionPolicy(30, 90).words)


class NextStepTests(SynchronousTestCase):
    """`next_step` and `due_step`."""

    def test_content_goes_thirty_days_after_arrival(self) -> None:
        """The clock starts at arrival, not when the message finished."""
        self.assertEqual(next_step(DONE, POLICY), (RetentionStep.REDACT, T0 + 30 * DAY))

    def test_the_record_goes_later(self) -> None:
        """What is redacted already is purged at the end of the record's time."""
        redacted = replace(DONE, redacted_at=T0 + 31 * DAY)
        self.assertEqual(
            next_step(redacted, POLICY), (RetentionStep.PURGE, T0 + 90 * DAY)
        )

    def test_what_waits_or_owes_is_left_alone(self) -> None:
        """An open recipient, or a notice owed, keeps everything."""
        self.assertIsNone(next_step(entry(), POLICY))
        half = over(
            entry("a@example.net", "b@example.net"),
            StandingState.DELIVERED,
            StandingState.OPEN,
        )
        self.assertIsNone(next_step(half, POLICY))
        self.assertIsNone(due_step(half, POLICY, T0 + 1000 * DAY))

    def test_zero_redacts_when_it_finishes(self) -> None:
        """With content = "0" it is due at the end, not before."""
        step = next_step(DONE, RetentionPolicy(0, 90 * DAY))
        self.assertEqual(step, (RetentionStep.REDACT, T0 + 60))

    def test_never_before_the_end(self) -> None:
        """A message that waited longer than the retention is kept until it ends."""
        late = over(entry(), StandingState.EXPIRED, at=T0 + 40 * DAY)
        self.assertEqual(next_step(late, POLICY), (RetentionStep.REDACT, T0 + 40 * DAY))

    def test_the_clock_of_a_release_time(self) -> None:
        """A FUTURERELEASE message counts from its release (RFC 4865)."""
        held = replace(entry().envelope, hold_until=T0 + 7 * DAY)
        one = over(
            replace(entry(), envelope=held), StandingState.DELIVERED, at=T0 + 8 * DAY
        )
        self.assertEqual(next_step(one, POLICY), (RetentionStep.REDACT, T0 + 37 * DAY))

    def test_a_notice_goes_with_its_cause(self) -> None:
        """A notice quotes an older message; its content goes with that one's."""
        cause = entry_id(T0, b"12345678")
        notice = over(
            entry(sender=None, entry_id=notice_id(cause, 1), queued_at=T0 + 5 * DAY),
            StandingState.DELIVERED,
            at=T0 + 5 * DAY,
        )
        notice = replace(notice, cause=cause)
        self.assertEqual(made_at(cause), T0)
        self.assertEqual(
            next_step(notice, POLICY), (RetentionStep.REDACT, T0 + 30 * DAY)
        )
        late = replace(notice, finished_at=T0 + 35 * DAY)
        self.assertEqual(next_step(late, POLICY), (RetentionStep.REDACT, T0 + 35 * DAY))

    def test_a_record_kept_no_longer_than_its_content(self) -> None:
        """Where both end together, the purge is enough."""
        step = next_step(DONE, RetentionPolicy(30 * DAY, 10 * DAY))
        self.assertEqual(step, (RetentionStep.PURGE, T0 + 10 * DAY))

    def test_what_is_due(self) -> None:
        """Nothing before its time; what is purged anyway is not redacted first."""
        self.assertIsNone(due_step(DONE, POLICY, T0 + 30 * DAY - 1))
        self.assertIs(due_step(DONE, POLICY, T0 + 30 * DAY), RetentionStep.REDACT)
        self.assertIs(due_step(DONE, POLICY, T0 + 90 * DAY), RetentionStep.PURGE)


HEAD = (
    b"Received: from secret.example\r\nFrom: Ann <ann@example.com>\r\n"
    b"To: bob@example.net,\r\n eve@example.net\r\nCC: fay@example.net\r\n"
    b"Subject: the merger\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\n"
    b"Message-ID: <m1@example.com>\r\nX-Secret: yes\r\n"
)


class PlaceholderTests(SynchronousTestCase):
    """`placeholder`."""

    def body(self, one: QueueEntry, head: bytes = HEAD) -> str:
        """The placeholder's text."""
        made = placeholder(one, Message(head, b"the merger is on\r\n"), "ab" * 32)
        assert isinstance(made.body, bytes)
        return made.body.decode("ascii")

    def test_what_stays_of_the_head(self) -> None:
        """From, To, Cc, Date and Message-ID stay as they were, all else goes."""
        made = placeholder(DONE, Message(HEAD, b"the merger\r\n"), "ab" * 32)
        names = [line.split(b":")[0] for line in made.head.split(b"\r\n")[:-1]]
        self.assertEqual(
            names, [b"From", b"To", b" eve@example.net", b"CC", b"Date", b"Message-ID"]
        )

    def test_it_tells_the_truth(self) -> None:
        """The words are those of the outcome, never "delivered" for what was not."""
        two = entry("a@example.net", "b@example.net")
        outcomes = {
            (StandingState.DELIVERED, StandingState.RELAYED): "delivered to all",
            (StandingState.DELIVERED, StandingState.FAILED): "to some of its",
            (StandingState.FAILED, StandingState.EXPIRED): "to none of its",
            (StandingState.CANCELLED, StandingState.CANCELLED): "was cancelled by",
        }
        for states, words in outcomes.items():
            self.assertIn(words, self.body(over(two, *states)))
        some = self.body(over(two, StandingState.DELIVERED, StandingState.FAILED))
        self.assertIn("1 recipient: delivered\r\n1 recipient: refused\r\n", some)

    def test_sizes_and_digest(self) -> None:
        """What went can be recognised by who still has it, and by nobody else."""
        body = self.body(DONE)
        self.assertIn(f"Size: {len(HEAD) + 2 + 18} octets, of which body 18", body)
        self.assertIn("SHA-256: " + "ab" * 32, body)
        self.assertIn(f"Queue id: {DONE.id}", body)
        self.assertNotIn("merger", body)

    def test_a_head_that_does_not_parse(self) -> None:
        """A damaged head leaves no field behind, and stops nothing."""
        made = placeholder(DONE, Message(b"\xff\x00 no field\r\n", b""), "ab" * 32)
        self.assertEqual(made.head, b"")

    def test_every_line_ends(self) -> None:
        """The placeholder is a body as any other: CRLF only."""
        body = self.body(DONE)
        self.assertTrue(body.endswith("\r\n"))
        self.assertEqual(body.count("\n"), body.count("\r\n"))

    def test_a_plural(self) -> None:
        """Several recipients are several."""
        three = entry("a@a.example", "b@b.example", recipient("c@c.example"))
        states = [StandingState.DELIVERED] * 3
        self.assertIn("3 recipients: delivered", self.body(over(three, *states)))
