"""Why a message is where it is: right in words, cause, next time and command."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.config import rule_table
from fwd_mta.mail.entry import (
    Attempt,
    DeliveryResult,
    QueueEntry,
    Stage,
    Standing,
    StandingState,
)
from fwd_mta.mail.envelope import Notify, Recipient
from fwd_mta.rules import settlement
from fwd_mta.rules.classification import reply_of
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.why import Circumstances, Explanation, clusters, explain
from tests.builders import ID, T0, entry, recipient

DAY = 86_400.0
SCHEDULE = RetrySchedule()
RETENTION = RetentionPolicy(30 * DAY, 90 * DAY)
TABLE = rule_table()
Make = Callable[[], QueueEntry]


def heard(text: str, stage: Stage = Stage.RCPT) -> DeliveryResult:
    """Bob's result after a reply."""
    reply = reply_of(text)
    found = TABLE.diagnose(reply, stage)
    return DeliveryResult(
        recipient(), stage, reply, found, "mx.example.net[1.2.3.4]:25"
    )


def met(kind: str, stage: Stage = Stage.CONNECT) -> DeliveryResult:
    """Bob's result after trouble without a reply."""
    found = TABLE.trouble(kind, "", stage)
    return DeliveryResult(recipient(), stage, diagnosis=found, in_doubt="dot" in kind)


TAKEN = DeliveryResult(recipient(), Stage.DOT, reply_of("250 2.0.0 Ok"))


def after(
    result: DeliveryResult, *, tries: int = 1, at: float = T0, sender: str | None = ""
) -> QueueEntry:
    """A message after some tries that all ended so."""
    one = entry(sender=sender) if sender is None else entry()
    standings = tuple(replace(one, attempts=tries - 1) for one in one.standings)
    one = replace(one, standings=standings)
    done = Attempt(at, at, (result,))
    return replace(settlement.settle(one, done, SCHEDULE, at, 0.0), owed=())


def silent(result: DeliveryResult) -> QueueEntry:
    """The same, of a sender who wants no notice."""
    to = Recipient(recipient().mailbox, notify=(Notify.NEVER,))
    one = entry(to)
    done = Attempt(T0, T0, (replace(result, recipient=to),))
    return settlement.settle(one, done, SCHEDULE, T0, 0.0)


def futured() -> QueueEntry:
    """A message that is to leave in two hours."""
    one = entry()
    envelope = replace(one.envelope, hold_until=T0 + 7200)
    waiting = (Standing(one.standings[0].recipient, T0 + 7200),)
    return replace(one, envelope=envelope, standings=waiting)


@dataclass(frozen=True)
class Situation:
    """How it came about, and what must be said."""

    make: Make
    state: str
    reason: str
    next_in: float | None = None
    setting: str = ""
    waits_for: str = ""
    command: str = ""
    now: float = T0
    doing: str = ""


_RETRY = f"fwdmta queue retry {ID}"
_OWN_TIME = "the time of its next try"

SITUATIONS: dict[str, Situation] = {
    "new": Situation(entry, "queued", "not tried yet", 0, waits_for="its turn"),
    "running": Situation(
        entry, "queued", "not tried", 0, waits_for="runs now", doing="it runs now"
    ),
    "no place": Situation(
        entry, "queued", "not tried", 0, waits_for="2000", doing="one of 2000 places"
    ),
    "future release": Situation(
        futured, "queued", "FUTURERELEASE", 7200, "", "the release time", _RETRY
    ),
    "held": Situation(
        lambda: settlement.hold(entry(), "abuse?"),
        "held",
        "on hold: abuse?",
        None,
        waits_for="an operator",
        command=f"fwdmta queue release {ID}",
    ),
    "greylisted": Situation(
        lambda: after(heard("451 4.7.1 Greylisting in action, please come back later")),
        "deferred", "", 300, "queue.minimal_backoff_time", _OWN_TIME, _RETRY,
    ),
    "rate": Situation(
        lambda: after(heard("421 4.7.28 Our system has detected an unusual rate")),
        "deferred", "", 300, "queue.minimal", _OWN_TIME, _RETRY,
    ),
    "third try": Situation(
        lambda: after(heard("451 4.3.0 later"), tries=3),
        "deferred", "", 1200, "1200 s after try 3", _OWN_TIME, _RETRY,
    ),
    "tenth try": Situation(
        lambda: after(heard("451 4.3.0 later"), tries=10),
        "deferred", "", 4000, "queue.maximal_backoff_time", _OWN_TIME, _RETRY,
    ),
    "last try": Situation(
        lambda: after(heard("451 4.3.0 later"), tries=9, at=T0 + 5 * DAY - 60),
        "deferred", "", 60, "this is the last try", _OWN_TIME, now=T0 + 5 * DAY - 60,
    ),
    "last try of a notice": Situation(
        lambda: after(
            heard("451 4.3.0 later"), tries=9, at=T0 + 5 * DAY - 60, sender=None
        ),
        "deferred", "", 60, "queue.bounce_queue_lifetime", now=T0 + 5 * DAY - 60,
    ),
    "block list": Situation(
        lambda: after(
            heard("550 5.7.1 Service unavailable, 192.0.2.1 blocked using zen.spamhaus")
        ),
        "deferred", "", 3600, "1 h at least", _OWN_TIME, _RETRY,
    ),
    "mailbox full": Situation(
        lambda: after(heard("452 4.2.2 Mailbox full"), tries=2),
        "deferred", "mailbox is full", 600, "queue.minimal", _OWN_TIME, _RETRY,
    ),
    "mailbox full for days": Situation(
        lambda: after(heard("452 4.2.2 Mailbox full"), tries=30, at=T0 + 2 * DAY),
        "deferred", "mailbox is full", 4 * 3600, "4 h", now=T0 + 2 * DAY,
    ),
    "refused connection": Situation(
        lambda: after(met("connection-refused")),
        "deferred", "does not accept connections", 300, "queue.minimal", _OWN_TIME,
    ),
    "time-out": Situation(
        lambda: after(met("timeout")), "deferred", "did not answer in time", 300
    ),
    "DNS failing": Situation(
        lambda: after(met("dns-failure", Stage.DNS)),
        "deferred", "The DNS could not say", 300, "queue.minimal", _OWN_TIME, _RETRY,
    ),
    "in doubt": Situation(
        lambda: after(met("lost-after-dot", Stage.DOT)),
        "in doubt", "no answer came", 600, "10 min", _OWN_TIME, _RETRY,
    ),
    "null MX": Situation(
        lambda: after(met("null-mx", Stage.DNS)),
        "failed", "takes no mail. The sender was told", 30 * DAY, "", "content goes",
    ),
    "no such user": Situation(
        lambda: after(heard("550 5.1.1 User unknown")), "failed", "sender was told",
        30 * DAY,
    ),
    "nobody to tell": Situation(
        lambda: silent(heard("550 5.1.1 User unknown")), "failed", "not to be told",
        30 * DAY,
    ),
    "a notice refused": Situation(
        lambda: after(heard("550 5.1.1 User unknown"), sender=None),
        "failed", "a notice itself", 30 * DAY,
    ),
    "expired": Situation(
        lambda: after(heard("451 4.3.0 later"), tries=99, at=T0 + 5 * DAY),
        "expired", "Its time was over", 30 * DAY, "queue.maximal_queue_lifetime",
        now=T0 + 5 * DAY,
    ),
    "cancelled": Situation(
        lambda: settlement.cancel(entry(), T0), "cancelled", "nobody was told",
        30 * DAY,
    ),
    "delivered": Situation(
        lambda: after(TAKEN), "delivered", "took it, for good", 30 * DAY,
        waits_for="retention.content",
    ),
    "relayed": Situation(
        lambda: after(replace(TAKEN, relayed=True)), "relayed", "no notices of its own",
        30 * DAY,
    ),
    "redacted": Situation(
        lambda: replace(after(TAKEN), redacted_at=T0 + 30 * DAY),
        "delivered", "took it", 90 * DAY, "", "retention.record",
    ),
}  # fmt: skip


class ExplainTests(SynchronousTestCase):
    """`explain`."""

    def told(self, situation: Situation) -> Explanation:
        """The one explanation of a message to one recipient."""
        around = Circumstances(situation.now, SCHEDULE, RETENTION, situation.doing)
        (told,) = explain(situation.make(), around)
        return told

    def test_situations(self) -> None:
        """Each of 27 situations is told with its cause, its next time and its cure."""
        self.assertGreaterEqual(len(SITUATIONS), 25)
        for name, one in SITUATIONS.items():
            told = self.told(one)
            self.assertEqual(told.state, one.state, name)
            self.assertIn(one.reason, told.reason, name)
            at = None if told.next_at is None else told.next_at - one.now
            wanted = one.next_in
            if wanted is not None and wanted >= 30 * DAY:
                wanted -= one.now - T0
            self.assertEqual(at, wanted, name)
            self.assertIn(one.setting, told.setting, name)
            self.assertIn(one.waits_for, told.waits_for, name)
            self.assertIn(one.command, told.command, name)

    def test_gives_rule_words_and_host(self) -> None:
        """What was heard is quoted, with the rule that read it (P3)."""
        told = self.told(SITUATIONS["mailbox full"])
        self.assertEqual(told.said, "452 4.2.2 Mailbox full")
        self.assertEqual(told.host, "mx.example.net[1.2.3.4]:25")
        self.assertTrue(told.rule)
        self.assertEqual(told.until, T0 + 5 * DAY)
        self.assertIn("recipient must make room", told.advice)

    def test_those_who_stand_alike_are_told_together(self) -> None:
        """A thousand with one trouble are one explanation; what waits comes first."""
        names = [f"u{number}@example.net" for number in range(1000)]
        one = entry("done@example.net", *names)
        later = heard("451 4.3.0 later")
        results = tuple(
            replace(later, recipient=standing.recipient)
            for standing in one.standings[1:]
        )
        taken = replace(TAKEN, recipient=one.standings[0].recipient)
        done = Attempt(T0, T0, (taken, *results))
        one = settlement.settle(one, done, SCHEDULE, T0, 0.0)
        told = explain(one, Circumstances(T0, SCHEDULE, RETENTION))
        self.assertEqual([one.state for one in told], ["deferred", "delivered"])
        self.assertEqual(len(told[0].recipients), 1000)

    def test_an_old_doing_is_not_in_the_way(self) -> None:
        """What waits for its time does not wait for a place."""
        one = after(heard("451 4.3.0 later"))
        (told,) = explain(one, Circumstances(T0, SCHEDULE, RETENTION, "a place"))
        self.assertEqual(told.waits_for, _OWN_TIME)

    def test_every_end_is_told(self) -> None:
        """No final state is without words."""
        for state in set(StandingState) - {StandingState.OPEN}:
            one = entry()
            standings = (replace(one.standings[0], state=state),)
            (told,) = explain(
                replace(one, standings=standings),
                Circumstances(T0, SCHEDULE, RETENTION),
            )
            self.assertTrue(told.reason, state)


class ClusterTests(SynchronousTestCase):
    """`clusters`."""

    def test_sums_up(self) -> None:
        """Messages that wait for one reason are one line, the most frequent first."""
        full = after(heard("452 4.2.2 Mailbox full"))
        dead = after(met("connection-refused"))
        some = [replace(dead, id="B" * 16), replace(dead, id="A" * 16), full]
        found = clusters(
            iter(some), lambda one: True, Circumstances(T0, SCHEDULE, RETENTION)
        )
        self.assertEqual([one.count for one in found], [2, 1])
        self.assertEqual((found[0].category, found[0].example), ("network", "A" * 16))
        self.assertEqual(found[0].next_at, T0 + 300)

    def test_only_what_is_asked_for(self) -> None:
        """Other recipients of the same messages do not count."""
        found = clusters(
            iter([entry("a@one.example", "b@two.example")]),
            lambda one: one.recipient.mailbox.domain == "two.example",
            Circumstances(T0, SCHEDULE, RETENTION),
        )
        self.assertEqual([one.count for one in found], [1])
