"""Known failures of other mail servers, and the guide's hard days: given, when, then.

Each life has one message to one recipient; its tries are printed as they were kept.
"""

import itertools
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.events import Attempted, Notified
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.simulation.plan import (
    DAY,
    HOUR,
    BadDisk,
    Death,
    Fault,
    Habit,
    Operator,
    Plan,
    Roads,
    Stop,
    Submission,
)
from fwd_mta.simulation.simulation import Simulation
from fwd_mta.world.disk import Crash
from fwd_mta.world.hosts import Behaviour
from fwd_mta.world.network import Dead

BOB = "bob@d0.example.net"
PLAN = Plan(1, minimal=300, maximal=4000, bounce_lifetime=5 * DAY)


class Scenarios(SynchronousTestCase):
    """The parts that the scenarios share."""

    def given(self, *faults: Fault, to: str = BOB, plan: Plan = PLAN) -> Simulation:
        """A server with one message at time 0, and what happens to it."""
        submission = Submission(0.0, 0, ((to, ""),))
        return Simulation(replace(plan, submissions=(submission,), faults=faults))

    def when(self, life: Simulation) -> list[tuple[float, Attempted]]:
        """It is lived to its end, all invariants kept; the tries of its message."""
        life.run()
        tries = [
            (at, event)
            for at, event in life.events
            if isinstance(event, Attempted) and event.id == life.ids[0]
        ]
        print()  # noqa: T201 - the schedule is what a scenario shows
        for number, (at, event) in enumerate(tries, 1):
            words = f"{event.state} {event.category}".strip()
            print(f"  {number:3} {at / HOUR:8.2f} h  {words}")  # noqa: T201
        return tries

    def notices(self, life: Simulation) -> list[str]:
        """The kinds of notices that went out, in order."""
        return [one.kind for _, one in life.events if isinstance(one, Notified)]

    def arrived(self, life: Simulation) -> int:
        """How often the message arrived at its recipient's host."""
        messages = life.outside.inbox.messages
        return sum(BOB in one.recipients for one in messages)

    def assert_kept(self, times: list[float], schedule: RetrySchedule) -> None:
        """Each wait is what the schedule says, shortened by a fifth at most."""
        for number, (one, other) in enumerate(itertools.pairwise(times), 1):
            full = schedule.backoff(number)
            self.assertTrue(0.8 * full - 1 <= other - one <= full + 1, (number, times))


class KnownFailureTests(Scenarios):
    """What went wrong elsewhere does not go wrong here."""

    def test_expiry_needs_nobody_to_wake_it(self) -> None:
        """Given a host that is silent for ever, the message expires at five days."""
        tries = self.when(life := self.given(Roads(0, 0, Dead.SILENT)))
        self.assertEqual(tries[-1][1].state, "expired")
        self.assertTrue(abs(tries[-1][0] - 5 * DAY) < 60, tries[-1][0])
        self.assertEqual(self.notices(life), ["delayed", "failed"])

    def test_back_off_is_kept_by_restarts(self) -> None:
        """Given stops, kills and reloads between tries, no wait begins anew."""
        faults: list[Fault] = [
            Habit(0, 0, "defers"),
            Stop(1.5 * HOUR, 10),
            Operator(3 * HOUR, "reload", 0),
            Death(4 * HOUR, 1, Crash.KEPT, 10),
            Habit(2 * DAY, 0, "plain"),
        ]
        tries = self.when(self.given(*faults))
        self.assertEqual(tries[-1][1].state, "delivered")
        times = [at for at, _ in tries]
        # The one killed in the middle of its record was tried, and is tried again.
        waits = [b - a for a, b in itertools.pairwise(times)]
        self.assertTrue(min(waits[5:]) > 0.8 * 4000 - 60, waits)

    def test_seven_days_are_seven_days(self) -> None:
        """Given a lifetime of seven days, the last try is at its end."""
        plan = replace(PLAN, lifetime=7 * DAY)
        tries = self.when(self.given(Roads(0, 0, Dead.REFUSED), plan=plan))
        self.assertTrue(abs(tries[-1][0] - 7 * DAY) < 60, tries[-1][0])
        self.assert_kept([at for at, _ in tries[:-1]], RetrySchedule(300, 4000))

    def test_a_shorter_lifetime_ends_what_waits(self) -> None:
        """Given a lifetime shortened by a reload, what is older fails, and is told."""
        reload = Operator(3 * DAY, "reload", 0)
        life = self.given(Roads(0, 0, Dead.REFUSED), reload)
        shorter = replace(PLAN, lifetime=2 * DAY)
        life.clock.callLater(3 * DAY - 1, life.set_schedule, shorter)
        tries = self.when(life)
        self.assertEqual(tries[-1][1].state, "expired")
        self.assertTrue(3 * DAY <= tries[-1][0] <= 3 * DAY + 4000, tries[-1][0])
        self.assertEqual(self.notices(life), ["delayed", "failed"])

    def test_a_refusal_stays_one_after_restarts(self) -> None:
        """Given an unknown recipient and a kill, there is one try and one notice."""
        kill = Death(HOUR, 1, Crash.KEPT, 10)
        to = "bob+unknown@d0.example.net"
        life = self.given(kill, Stop(2 * HOUR, 10), Stop(3 * HOUR, 10), to=to)
        self.assertEqual(len(self.when(life)), 1)
        self.assertEqual(self.notices(life), ["failed"])

    def test_a_slow_final_reply_is_waited_for(self) -> None:
        """Given a host that takes minutes for each reply, the message arrives once."""
        life = self.given()
        life.outside.hosts[0].behaviour = Behaviour(lag=110.0)
        (only,) = self.when(life)
        self.assertEqual(only[1].state, "delivered")
        self.assertEqual(self.arrived(life), 1)

    def test_a_lost_final_reply_is_known(self) -> None:
        """Given a host that hangs up after the dot, each repetition is marked."""
        habits = Habit(0, 0, "lost-after-dot"), Habit(HOUR / 2, 0, "plain")
        life = self.given(*habits)
        tries = self.when(life)
        self.assertTrue(tries[0][1].in_doubt)
        self.assertTrue(tries[1][0] - tries[0][0] >= 600, tries)
        self.assertEqual(self.arrived(life), len(tries))

    def test_what_could_not_be_filed_is_filed(self) -> None:
        """Given a disk that refuses to file what is finished, it is still redacted."""
        bad = BadDisk(250, 5, ("rename",), 3 * HOUR)
        life = self.given(Habit(0, 0, "defers"), Habit(200, 0, "plain"), bad)
        self.assertEqual(self.when(life)[-1][1].state, "delivered")


class HardDayTests(Scenarios):
    """The guide's rows: block list, network trouble, full mailbox, server down."""

    def test_block_list(self) -> None:
        """Given a block list for a day, mail waits an hour at least, and arrives."""
        habits = Habit(0, 0, "blocks"), Habit(DAY, 0, "plain")
        tries = self.when(life := self.given(*habits))
        self.assertEqual(tries[0][1].category, "blocklist")
        self.assertEqual(tries[-1][1].state, "delivered")
        self.assertTrue(DAY <= tries[-1][0] <= DAY + 6 * HOUR, tries[-1][0])
        waits = [b - a for (a, _), (b, _) in itertools.pairwise(tries)]
        self.assertTrue(min(waits) >= 0.8 * HOUR, waits)
        self.assertEqual(self.notices(life), ["delayed"])

    def test_network_trouble(self) -> None:
        """Given no route for ten hours, mail arrives with the next try after it."""
        roads = Roads(0, 0, Dead.NO_ROUTE), Roads(10 * HOUR, 0, None)
        tries = self.when(life := self.given(*roads))
        self.assertEqual({one.category for _, one in tries[:-1]}, {"network"})
        self.assertTrue(10 * HOUR <= tries[-1][0] <= 10 * HOUR + 4000, tries[-1][0])
        self.assertEqual(self.arrived(life), 1)

    def test_full_mailbox(self) -> None:
        """Given a mailbox that stays full, tries thin out after a day, and it fails."""
        to = "bob+full@d0.example.net"
        tries = self.when(life := self.given(to=to))
        self.assertEqual({one.category for _, one in tries}, {"capacity"})
        late = [at for at, _ in tries if at > DAY + 4 * HOUR]
        waits = [b - a for a, b in itertools.pairwise(late)]
        self.assertTrue(min(waits[:-1]) >= 4 * HOUR - 1, waits)
        self.assertEqual(self.notices(life), ["delayed", "failed"])

    def test_server_down(self) -> None:
        """Given a host that is down for two days, mail arrives soon after that."""
        roads = Roads(0, 0, Dead.REFUSED), Roads(2 * DAY, 0, None)
        tries = self.when(life := self.given(*roads))
        self.assertTrue(2 * DAY <= tries[-1][0] <= 2 * DAY + 4000, tries[-1][0])
        self.assertEqual(self.notices(life), ["delayed"])
        self.assertEqual(self.arrived(life), 1)
