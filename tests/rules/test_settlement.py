"""What an attempt makes of an entry."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.entry import (
    Action,
    Category,
    DeliveryResult,
    NoticeKind,
    Scope,
    StandingState,
    Status,
)
from fwd_mta.mail.envelope import Notify, Recipient
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.settlement import (
    cancel,
    hold,
    in_doubt,
    paid,
    release,
    retry_now,
    settle,
)
from tests.builders import (
    DEFERRED,
    DELIVERED,
    REFUSED,
    T0,
    about,
    attempt,
    diagnosis,
    entry,
    mailbox,
    recipient,
)
from tests.properties import given, settings, st

SCHEDULE = RetrySchedule()
HOUR = 3600.0
DAY = 86_400.0


def deferred(category: Category, scope: Scope = Scope.RECIPIENT) -> DeliveryResult:
    """A deferral of that category."""
    return replace(DEFERRED, diagnosis=diagnosis(Action.DEFER, category, scope))


class SettleTests(SynchronousTestCase):
    """Old entry and attempt in, new entry out."""

    def test_delivered(self) -> None:
        """A message whose only recipient took it is sent and finished."""
        after = settle(entry(), attempt(DELIVERED), SCHEDULE, T0 + 2, 0)
        self.assertEqual(after.status, Status.SENT)
        self.assertEqual(after.finished_at, T0 + 2)
        self.assertEqual(after.owed, ())
        self.assertIsNone(after.due)

    def test_deferred_comes_back_by_the_schedule(self) -> None:
        """A temporary answer means five minutes, then ten."""
        after = settle(entry(), attempt(DEFERRED), SCHEDULE, T0, 0)
        self.assertEqual(after.status, Status.DEFERRED)
        self.assertEqual(after.due, T0 + 300)
        again = settle(after, attempt(DEFERRED), SCHEDULE, T0 + 300, 0)
        self.assertEqual(again.due, T0 + 900)
        self.assertEqual(again.standings[0].attempts, 2)

    def test_refused_owes_a_failure_notice(self) -> None:
        """A permanent refusal ends the recipient and the sender must hear of it."""
        after = settle(entry(), attempt(REFUSED), SCHEDULE, T0, 0)
        self.assertEqual(after.status, Status.BOUNCED)
        self.assertEqual([one.kind for one in after.owed], [NoticeKind.FAILED])
        self.assertEqual(after.owed[0].id, f"{after.id}-1")

    def test_one_bad_recipient_never_harms_another(self) -> None:
        """Each recipient has its own result; only what is open waits."""
        three = entry("a@example.net", "b@example.net", "c@example.net")
        results = attempt(
            about("a@example.net", DELIVERED),
            about("b@example.net", REFUSED),
            about("c@example.net", DEFERRED),
        )
        after = settle(three, results, SCHEDULE, T0, 0)
        states = [one.state for one in after.standings]
        self.assertEqual(
            states,
            [StandingState.DELIVERED, StandingState.FAILED, StandingState.OPEN],
        )
        self.assertEqual(after.owed[0].recipients, (recipient("b@example.net"),))
        self.assertFalse(after.is_final)

    def test_failures_together_share_a_notice(self) -> None:
        """Two recipients refused in one attempt are told of in one notice."""
        two = entry("a@example.net", "b@example.net")
        results = attempt(
            about("a@example.net", REFUSED), about("b@example.net", REFUSED)
        )
        after = settle(two, results, SCHEDULE, T0, 0)
        self.assertEqual(len(after.owed), 1)
        self.assertEqual(len(after.owed[0].recipients), 2)

    def test_expiry_needs_an_attempt_at_the_end(self) -> None:
        """At five days the last try decides: still temporary means expired."""
        before = settle(entry(), attempt(DEFERRED), SCHEDULE, T0 + 5 * DAY - 1, 0)
        self.assertEqual(before.due, T0 + 5 * DAY)
        after = settle(before, attempt(DEFERRED), SCHEDULE, T0 + 5 * DAY, 0)
        self.assertEqual(after.standings[0].state, StandingState.EXPIRED)
        self.assertEqual([n.kind for n in after.owed][-1], NoticeKind.FAILED)

    def test_the_delay_is_told_once_and_the_failure_still(self) -> None:
        """A delay notice after four hours, one only; it does not hide the failure."""
        late = settle(entry(), attempt(DEFERRED), SCHEDULE, T0 + 4 * HOUR, 0)
        self.assertEqual([n.kind for n in late.owed], [NoticeKind.DELAYED])
        later = settle(paid(late), attempt(DEFERRED), SCHEDULE, T0 + 6 * HOUR, 0)
        self.assertEqual(later.owed, ())
        failed = settle(later, attempt(REFUSED), SCHEDULE, T0 + 7 * HOUR, 0)
        self.assertEqual([n.kind for n in failed.owed], [NoticeKind.FAILED])
        self.assertEqual(failed.owed[0].id, f"{failed.id}-2")

    def test_notify_never_is_obeyed(self) -> None:
        """NOTIFY=NEVER: neither delay nor failure is told (RFC 3461 4.1)."""
        silent = Recipient(mailbox("bob@example.net"), (Notify.NEVER,))
        result = replace(REFUSED, recipient=silent)
        after = settle(entry(silent), attempt(result), SCHEDULE, T0, 0)
        self.assertEqual(after.status, Status.BOUNCED)
        self.assertEqual(after.owed, ())

    def test_never_a_notice_about_a_notice(self) -> None:
        """A message from the null reverse-path owes nothing when it fails."""
        after = settle(entry(sender=None), attempt(REFUSED), SCHEDULE, T0, 0)
        self.assertEqual(after.owed, ())

    def test_a_full_mailbox_slows_down_after_a_day(self) -> None:
        """Full mailboxes are tried by the schedule first, then every four hours."""
        full = deferred(Category.CAPACITY)
        early = settle(entry(), attempt(full), SCHEDULE, T0, 0)
        self.assertEqual(early.due, T0 + 300)
        late = settle(entry(), attempt(full), SCHEDULE, T0 + 2 * DAY, 0)
        self.assertEqual(late.due, T0 + 2 * DAY + 4 * HOUR)

    def test_a_block_on_our_address_rests_an_hour(self) -> None:
        """Hammering a site that blocks us makes it worse."""
        blocked = deferred(Category.BLOCKLIST, Scope.DESTINATION)
        after = settle(entry(), attempt(blocked), SCHEDULE, T0, 0)
        self.assertEqual(after.due, T0 + HOUR)

    def test_waits_never_pass_the_end(self) -> None:
        """However long a rule makes us wait, the last try is at five days."""
        full = deferred(Category.CAPACITY)
        after = settle(entry(), attempt(full), SCHEDULE, T0 + 5 * DAY - HOUR, 0)
        self.assertEqual(after.due, T0 + 5 * DAY)

    def test_doubt_is_kept_and_the_next_try_marked(self) -> None:
        """Dot sent, reply unknown: late, and known as a possible duplicate (P2)."""
        unknown = replace(DEFERRED, in_doubt=True)
        after = settle(entry(), attempt(unknown), SCHEDULE, T0, 0)
        self.assertEqual(after.standings[0].in_doubt_since, T0)
        self.assertEqual(after.due, T0 + 600)
        again = settle(after, attempt(DELIVERED), SCHEDULE, T0 + 600, 0)
        self.assertTrue(again.standings[0].possible_duplicate)
        self.assertIsNone(again.standings[0].in_doubt_since)

    def test_success_at_our_final_delivery_is_told(self) -> None:
        """In a mail store of ours: `delivered` to who asked, nothing to who did not."""
        asking = recipient()._replace(notify=(Notify.SUCCESS,))
        for who, wanted in ((asking, [NoticeKind.DELIVERED]), (recipient(), [])):
            result = replace(DELIVERED, recipient=who, at_home=True)
            after = settle(entry(who), attempt(result), SCHEDULE, T0, 0.0)
            self.assertEqual([n.kind for n in after.owed], wanted)

    def test_success_through_a_hop_without_dsn_is_relayed(self) -> None:
        """Who asked for SUCCESS hears `relayed` when the hop offers no DSN."""
        asking = Recipient(mailbox("bob@example.net"), (Notify.SUCCESS,))
        result = replace(DELIVERED, recipient=asking, relayed=True)
        after = settle(entry(asking), attempt(result), SCHEDULE, T0, 0)
        self.assertEqual(after.status, Status.SENT)
        self.assertEqual([n.kind for n in after.owed], [NoticeKind.RELAYED])

    def test_final_stays_final(self) -> None:
        """A late result about a finished recipient changes nothing."""
        sent = settle(entry(), attempt(DELIVERED), SCHEDULE, T0, 0)
        self.assertEqual(settle(sent, attempt(REFUSED), SCHEDULE, T0 + 9, 0), sent)


class OperatorTests(SynchronousTestCase):
    """What an operator may do to an entry."""

    def test_hold_and_release(self) -> None:
        """A released message is due now; its recipients are as they were."""
        held = hold(entry(), "looks odd")
        self.assertEqual(held.held, "looks odd")
        freed = release(held, T0 + DAY)
        self.assertIsNone(freed.held)
        self.assertEqual(freed.due, T0 + DAY)

    def test_released_after_its_end_gets_one_try(self) -> None:
        """Held past its lifetime: one attempt, then it fails."""
        freed = release(hold(entry(), "x"), T0 + 9 * DAY)
        self.assertTrue(freed.due)
        after = settle(freed, attempt(DEFERRED), SCHEDULE, T0 + 9 * DAY, 0)
        self.assertEqual(after.status, Status.BOUNCED)

    def test_retry_now_overrides_doubt(self) -> None:
        """An operator's retry does not wait out the ten minutes of doubt."""
        doubtful = in_doubt(entry(), [recipient()], T0)
        self.assertEqual(doubtful.due, T0 + 600)
        self.assertEqual(retry_now(doubtful, T0 + 1).due, T0 + 1)

    def test_cancel_is_final_and_silent(self) -> None:
        """Cancelled: rejected, finished, and nobody is notified."""
        gone = cancel(entry(), T0)
        self.assertEqual(gone.status, Status.REJECTED)
        self.assertEqual(gone.owed, ())
        self.assertEqual(gone.finished_at, T0)

    def test_cancel_leaves_what_was_delivered(self) -> None:
        """What went out cannot be recalled; the rest is."""
        two = entry("a@example.net", "b@example.net")
        half = settle(two, attempt(about("a@example.net", DELIVERED)), SCHEDULE, T0, 0)
        self.assertEqual(cancel(half, T0).status, Status.PARTIALLY_SENT)

    def test_a_finished_message_cannot_be_held(self) -> None:
        """Hold is for what waits."""
        sent = settle(entry(), attempt(DELIVERED), SCHEDULE, T0, 0)
        self.assertEqual(hold(sent, "late"), sent)


NAMES = ("a@example.net", "b@example.net", "c@example.net")
KINDS = (DELIVERED, DEFERRED, REFUSED, replace(DEFERRED, in_doubt=True))
Steps = list[tuple[list[tuple[str, DeliveryResult]], float, float]]
STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS)), max_size=3),
        st.floats(0, 6 * DAY),
        st.floats(0, 0.999),
    ),
    max_size=12,
)


class PropertyTests(SynchronousTestCase):
    """What holds for every history."""

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(STEPS)
    def test_no_recipient_is_lost_and_none_goes_back(self, steps: Steps) -> None:
        """No recipient vanishes, no final state changes, one notice per cause."""
        now = T0
        state = entry(*NAMES)
        told: list[tuple[NoticeKind, Recipient]] = []
        for results, wait, jitter in steps:
            now += wait
            made = attempt(*(about(name, kind) for name, kind in results))
            after = settle(state, made, SCHEDULE, now, jitter)
            for old, new in zip(state.standings, after.standings, strict=True):
                self.assertEqual(old.recipient, new.recipient)
                if not old.is_open:
                    self.assertEqual(old, new)
                elif new.is_open and new.attempts > old.attempts:
                    self.assertTrue(now < new.next_attempt_at <= T0 + 5 * DAY)
            told += [(n.kind, r) for n in after.owed for r in n.recipients]
            state = paid(after)
        self.assertEqual(len(told), len(set(told)))
