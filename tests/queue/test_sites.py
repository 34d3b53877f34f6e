"""Sites: whose turn it is, what rests, and that one bad site costs itself alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from itertools import pairwise
from statistics import median

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, SiteRests, SiteWorks
from fwd_mta.interfaces import Delivery
from fwd_mta.mail.entry import (
    Action,
    Attempt,
    Category,
    DeliveryResult,
    QueueEntry,
    Scope,
    Stage,
    StandingState,
    Step,
)
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.route import Destination
from fwd_mta.queue.scheduler import Machine, NoticeStyle, Scheduler
from fwd_mta.queue.sites import SiteSettings
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.routing import RoutingTable
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from tests.builders import DELIVERED, diagnosis, entry

HOUR = 3600.0
MESSAGE = Message(b"From: ann@example.com\r\n", b"Hello\r\n")
SILENT = DeliveryResult(
    DELIVERED.recipient,
    Stage.CONNECT,
    None,
    diagnosis(Action.DEFER, Category.NETWORK, Scope.DESTINATION),
)
BLOCKED = DeliveryResult(
    DELIVERED.recipient,
    Stage.RCPT,
    Reply(550, "7.1", "198.51.100.1 is listed"),
    diagnosis(Action.DEFER, Category.BLOCKLIST, Scope.DESTINATION),
)


class HeapStore:
    """As much of a queue as the scheduler needs, quick with many entries."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, str]] = []
        self.entries: dict[str, QueueEntry] = {}
        self.records = 0
        self.postponed = 0
        self._changed: Callable[[], None] = lambda: None

    def put(self, made: QueueEntry, due: float | None = None) -> None:
        """Take an entry in."""
        self.entries[made.id] = made
        heappush(self.heap, (made.due or 0.0 if due is None else due, made.id))
        self._changed()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call back when something comes."""
        self._changed = changed

    async def claim(self, now: float, count: int) -> list[QueueEntry]:
        """Give what is due, oldest first."""
        claimed: list[QueueEntry] = []
        while self.heap and self.heap[0][0] <= now and len(claimed) < count:
            claimed.append(self.entries[heappop(self.heap)[1]])
        return claimed

    def next_due(self) -> float | None:
        """The next that is due."""
        return self.heap[0][0] if self.heap else None

    async def open(self, entry_id: str) -> Message:
        """The same message always."""
        return MESSAGE

    def at_hand(self, entry_id: str) -> Message | None:
        """The same message always."""
        return MESSAGE

    async def dot_sent(
        self, entry_id: str, recipients: Sequence[Recipient], now: float
    ) -> None:
        """Note nothing."""

    async def record(
        self, made: QueueEntry, step: Step, *, release: bool = True
    ) -> QueueEntry:
        """Keep a state."""
        self.records += 1
        self.entries[made.id] = made
        if release and not made.is_final and not made.owed:
            self.put(made)
        return made

    async def postpone(self, made: QueueEntry, until: float) -> None:
        """Keep an entry for later."""
        self.postponed += 1
        self.put(made, until)

    async def pay(
        self, made: QueueEntry, notices: Sequence[tuple[QueueEntry, Message]]
    ) -> QueueEntry:
        """Clear a debt."""
        paid = replace(made, owed=())
        self.entries[made.id] = paid
        if not paid.is_final:
            self.put(paid)
        return paid


class TimedAgent:
    """Answers after some time, by domain; counts what runs at once."""

    def __init__(self, clock: Clock, wall: VirtualWall) -> None:
        self.clock = clock
        self.wall = wall
        self.answers: dict[str, tuple[float, DeliveryResult]] = {}
        self.usual: tuple[float, DeliveryResult] = (1.0, DELIVERED)
        self.source: str | None = None
        self.tried: list[tuple[float, str, str]] = []
        self.shunned: list[frozenset[str]] = []
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}

    async def site(self, destination: Destination) -> str:
        """Every domain is a site of its own."""
        return destination.next_hop

    def at_once(self, delivery: Delivery, done: Callable[[Attempt], None]) -> bool:
        """Nothing goes at once."""
        return False

    async def deliver(self, delivery: Delivery) -> Attempt:
        """Take the time that this domain takes."""
        domain = delivery.destination.next_hop
        started = self.wall.now()
        self.tried.append((self.clock.seconds(), domain, delivery.entry_id))
        self.shunned.append(delivery.shunned)
        self.running[domain] = self.running.get(domain, 0) + 1
        self.most[domain] = max(self.most.get(domain, 0), self.running[domain])
        seconds, result = self.answers.get(domain, self.usual)
        await deferLater(self.clock, seconds)
        self.running[domain] -= 1
        sources = ({"192.0.2.1", "192.0.2.2"} - delivery.shunned) or {"192.0.2.1"}
        source = min(sources) if self.source is not None else None
        results = tuple(
            replace(result, recipient=one, source=source)
            for one in delivery.envelope.recipients
        )
        return Attempt(started, self.wall.now(), results)

    async def stop(self) -> None:
        """Nothing to stop."""


class SiteCase(SynchronousTestCase):
    """A scheduler over a queue and an agent that take little real time."""

    limits = SiteSettings()

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = VirtualWall(self.clock)
        self.events: list[Event] = []
        self.store = HeapStore()
        self.agent = TimedAgent(self.clock, self.wall)
        self.number = 0
        self.scheduler = Scheduler(
            self.store,
            self.agent,
            Machine(self.clock, self.wall, SeededEntropy(), self.events.append),
            RoutingTable(),
            RetrySchedule(),
            NoticeStyle("mail.example.com"),
            limits=self.limits,
        )

    def add(self, domain: str, account: str = "ann", *others: str) -> str:
        """Put one message into the queue; gives its id."""
        self.number += 1
        name = f"{self.number:016d}"
        to = [f"bob@{each}" for each in (domain, *others)]
        made = entry(*to, entry_id=name, queued_at=self.wall.now())
        self.store.put(replace(made, account=account))
        return name

    def run_for(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(step)

    def tries(self, domain: str) -> list[float]:
        """When a domain was tried."""
        return [at for at, each, _ in self.agent.tried if each == domain]

    def happened(self, kind: type[Event]) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


class DeadSiteTests(SiteCase):
    """A site where nobody answers."""

    @override
    def setUp(self) -> None:
        super().setUp()
        self.agent.answers["dead.example"] = (30.0, SILENT)

    def test_five_find_out_then_one_at_a_time(self) -> None:
        """A hundred messages cost five attempts, then a probe now and then."""
        self.scheduler.start()
        for _ in range(100):
            self.add("dead.example")
        self.run_for(200)
        at_first = len(self.tries("dead.example"))
        self.assertTrue(5 <= at_first <= 10, at_first)
        self.run_for(HOUR)
        probes = self.tries("dead.example")[at_first:]
        self.assertTrue(3 <= len(probes) <= 10, probes)
        self.assertTrue(all(b - a > 30 for a, b in pairwise(probes)), probes)
        self.assertEqual(len(self.happened(SiteRests)), 1)

    def test_who_was_never_tried_is_told_why(self) -> None:
        """Each has a reason for waiting at once, from what others heard (P3)."""
        self.scheduler.start()
        ids = [self.add("dead.example") for _ in range(20)]
        self.run_for(100)
        for each in ids:
            standing = self.store.entries[each].standings[0]
            self.assertIsNotNone(standing.last)
            self.assertEqual(standing.attempts, 1)

    def test_what_waits_for_a_dead_site_is_not_written_each_time(self) -> None:
        """From then on it is put off without a record."""
        self.scheduler.start()
        for _ in range(50):
            self.add("dead.example")
        self.run_for(400)
        records = self.store.records
        self.run_for(1000)
        self.assertTrue(self.store.records - records <= 10, self.store.records)
        self.assertTrue(self.store.postponed > 50)

    def test_recovery_by_slow_start(self) -> None:
        """When it works again, one probe goes first, and all of it soon after."""
        self.scheduler.start()
        for _ in range(100):
            self.add("dead.example")
        self.run_for(2 * HOUR, 5.0)
        self.agent.answers["dead.example"] = (1.0, DELIVERED)
        self.agent.most.clear()
        tried = len(self.agent.tried)
        self.run_for(1.5 * HOUR)
        states = {one.standings[0].state for one in self.store.entries.values()}
        self.assertEqual(states, {StandingState.DELIVERED})
        self.assertEqual(len(self.happened(SiteWorks)), 1)
        first, second = self.agent.tried[tried][0], self.agent.tried[tried + 1][0]
        self.assertTrue(second >= first + 1, "the probe went alone")

    def test_the_sender_hears_of_the_delay_and_of_the_end(self) -> None:
        """Put off or not: told after four hours, and failed after five days."""
        self.scheduler.start()
        ids = [self.add("dead.example") for _ in range(30)]
        self.run_for(4 * HOUR + 300, 10.0)
        warned = [self.store.entries[each].standings[0].warned for each in ids]
        self.assertEqual(warned, [True] * 30)
        self.run_for(5 * 24 * HOUR - 4 * HOUR - 600, 60.0)
        states = {self.store.entries[each].standings[0].state for each in ids}
        self.assertEqual(states, {StandingState.OPEN})
        self.run_for(900, 10.0)
        states = {self.store.entries[each].standings[0].state for each in ids}
        self.assertEqual(states, {StandingState.EXPIRED})

    def test_a_message_to_two_places_is_delivered_to_the_one_that_works(self) -> None:
        """A dead site keeps nobody else's copy waiting."""
        self.scheduler.start()
        for _ in range(20):
            self.add("dead.example")
        self.run_for(60)
        both = self.add("dead.example", "ann", "live.example")
        self.run_for(10)
        states = [one.state for one in self.store.entries[both].standings]
        self.assertEqual(states, [StandingState.OPEN, StandingState.DELIVERED])

    def test_an_operator_may_have_it_probed_now(self) -> None:
        """`queue retry` has the next message find out."""
        self.scheduler.start()
        for _ in range(20):
            self.add("dead.example")
        self.run_for(60)
        tried = len(self.tries("dead.example"))
        self.add("dead.example")
        self.run_for(10)
        self.assertEqual(len(self.tries("dead.example")), tried)
        self.scheduler.sites.lift(blocks=False)
        self.add("dead.example")
        self.run_for(10)
        self.assertEqual(len(self.tries("dead.example")), tried + 1)

    def delays(self, dead: int) -> float:
        """The median delay of 20 live sites' mail beside so many dead messages."""
        clock_start = self.wall.now()
        for _ in range(dead):
            self.add("dead.example", "spammy")
        self.scheduler.start()
        live: list[str] = []
        for _ in range(20):
            live += [self.add(f"live{n}.example", f"a{n}") for n in range(20)]
            self.run_for(1)
        self.run_for(60)
        self.assertTrue(self.wall.now() > clock_start)
        ends = [self.store.entries[each] for each in live]
        self.assertTrue(all(one.is_final for one in ends))
        return median((one.finished_at or 0) - one.queued_at for one in ends)

    def test_ten_thousand_dead_messages_delay_nobody(self) -> None:
        """The live mail's median delay stays within a tenth of what it is without."""
        without = self.delays(0)
        self.setUp()
        beside = self.delays(10_000)
        self.assertTrue(beside <= 1.1 * without, (without, beside))


class BlockedTests(SiteCase):
    """A site that does not trust our address."""

    @override
    def setUp(self) -> None:
        super().setUp()
        self.agent.answers["wary.example"] = (1.0, BLOCKED)

    def test_it_rests_an_hour_then_longer_with_one_probe_each_time(self) -> None:
        """1 h, 2 h, 4 h, then every 6 h; the operator hears of each."""
        self.scheduler.start()
        self.add("wary.example")
        self.run_for(10)
        for _ in range(20):
            self.add("wary.example")
        self.run_for(14 * HOUR, 10.0)
        at = [round(each / HOUR) for each in self.tries("wary.example")]
        self.assertEqual(at, [0, 1, 3, 7, 13])
        rests = [event.seconds / HOUR for event in self.happened(SiteRests)]  # type: ignore[union-attr]
        self.assertEqual(rests, [1, 2, 4, 6, 6])

    def test_other_sites_are_not_concerned(self) -> None:
        """Only the pair rests."""
        self.scheduler.start()
        self.add("wary.example")
        self.run_for(10)
        other = self.add("other.example")
        self.run_for(10)
        self.assertTrue(self.store.entries[other].is_final)

    def test_flush_lifts_the_rest(self) -> None:
        """`queue retry --all` after delisting."""
        self.scheduler.start()
        self.add("wary.example")
        self.run_for(10)
        self.agent.answers.clear()
        self.scheduler.sites.lift(blocks=True)
        other = self.add("wary.example")
        self.run_for(10)
        self.assertTrue(self.store.entries[other].is_final)


class TwoSourcesTests(SiteCase):
    """Two source addresses of ours."""

    limits = SiteSettings(sources=("192.0.2.1", "192.0.2.2"))

    def test_another_source_is_used_while_one_rests(self) -> None:
        """Only when both are refused does the site rest."""
        self.agent.source = "chosen"
        self.agent.answers["wary.example"] = (1.0, BLOCKED)
        self.scheduler.start()
        for _ in range(3):
            self.add("wary.example")
            self.run_for(10)
        shunned = [sorted(each) for each in self.agent.shunned]
        self.assertEqual(shunned, [[], ["192.0.2.1"]])


class StraightAgent(TimedAgent):
    """Has one to follow each delivery while its dot is on the way.

    `open` counts connections, `longest` how many there were at a time; `is_stuck`:
    no delivery comes to its dot.
    """

    def __init__(self, clock: Clock, wall: VirtualWall) -> None:
        super().__init__(clock, wall)
        self.usual = (0.01, DELIVERED)
        self.open = self.longest = self.followed = 0
        self.is_stuck = False
        self._offered = False

    @override
    def at_once(self, delivery: Delivery, done: Callable[[Attempt], None]) -> bool:
        """Send to where it is offered to follow, or over a new connection."""
        self.tried.append((self.clock.seconds(), "", delivery.entry_id))
        if self._offered:
            self.followed += 1
        else:
            self.open += 1
            self.longest = max(self.longest, self.open)
        self._offered = False
        if not self.is_stuck:
            self.clock.callLater(0.005, self._dot, delivery, done)
        return True

    def _dot(self, delivery: Delivery, done: Callable[[Attempt], None]) -> None:
        self._offered, before = True, self.followed
        delivery.follow()
        self._offered = False
        self.clock.callLater(0.005, self._end, delivery, done, self.followed == before)

    def _end(
        self, delivery: Delivery, done: Callable[[Attempt], None], closes: bool
    ) -> None:
        self.open -= closes
        results = tuple(
            replace(DELIVERED, recipient=one) for one in delivery.envelope.recipients
        )
        done(Attempt(self.wall.now(), self.wall.now(), results))


class LineTests(SiteCase):
    """At a site that answers fast, one that follows is cheaper than a connection."""

    @override
    def setUp(self) -> None:
        super().setUp()
        self.straight = StraightAgent(self.clock, self.wall)
        self.scheduler.agent = self.straight
        self.scheduler.start()
        for _ in range(40):
            self.add("big.example")
            self.run_for(0.1, 0.005)

    def delivered(self) -> int:
        """How many messages have arrived."""
        return sum(one.is_final for one in self.store.entries.values())

    def test_most_of_a_crowd_follows(self) -> None:
        """Forty at a time take a quarter of the connections, and no time."""
        self.straight.longest = 0
        for _ in range(40):
            self.add("big.example")
        self.run_for(0.1, 0.005)
        self.assertEqual(self.delivered(), 80)
        self.assertTrue(self.straight.longest <= 10, self.straight.longest)
        self.assertTrue(self.straight.followed >= 30, self.straight.followed)

    def test_nobody_waits_long_for_who_is_stuck(self) -> None:
        """A connection that stops all of a sudden keeps the line 50 ms."""
        self.straight.is_stuck = True
        before = len(self.straight.tried)
        for _ in range(4):
            self.add("big.example")
        self.run_for(0.01, 0.005)
        self.assertEqual(len(self.straight.tried), before + 1)
        self.run_for(0.06, 0.005)
        self.assertEqual(len(self.straight.tried), before + 4)

    def test_a_slow_site_has_no_line(self) -> None:
        """Where a delivery takes a second, each takes a connection at once."""
        for site in self.scheduler.sites._sites.values():
            site.seconds = 1.0
        before = len(self.straight.tried)
        for _ in range(4):
            self.add("big.example")
        self.assertEqual(len(self.straight.tried), before + 4)

    def test_stopping(self) -> None:
        """Who waits in the line is sent home untried."""
        for _ in range(20):
            self.add("big.example")
        stopped = Deferred.fromCoroutine(self.scheduler.stop(15.0))
        self.run_for(0.1, 0.005)
        self.successResultOf(stopped)
        self.assertTrue(40 < self.delivered() < 60)


class FairnessTests(SiteCase):
    """Nobody is starved."""

    def test_a_window_holds(self) -> None:
        """Never more than twenty at a time to one site, however much waits."""
        self.scheduler.start()
        for _ in range(500):
            self.add("big.example")
        self.run_for(200)
        self.assertEqual(self.agent.most["big.example"], 20)
        self.assertTrue(all(one.is_final for one in self.store.entries.values()))

    def test_one_accounts_flood_does_not_delay_anothers_message(self) -> None:
        """100,000 messages of one account; another's is through within ten seconds.

        Both go to the same site, which takes a second for each message.
        """
        for _ in range(100_000):
            self.add("big.example", "flood")
        self.scheduler.start()
        self.run_for(30)
        single = self.add("big.example", "other")
        self.run_for(10)
        self.assertTrue(self.store.entries[single].is_final)

    def test_a_flood_over_many_sites_leaves_room(self) -> None:
        """An account that fills the ready set at slow sites is held to its share."""
        self.agent.usual = (500.0, DELIVERED)
        self.agent.answers["quick.example"] = (1.0, DELIVERED)
        for number in range(5000):
            self.add(f"slow{number}.example", "flood")
        self.scheduler.sites.settings = SiteSettings(deliveries=5000)
        self.scheduler.start()
        self.run_for(5)
        single = self.add("quick.example", "other")
        self.run_for(10)
        self.assertTrue(self.store.entries[single].is_final)
        self.assertTrue(self.scheduler.active < 2000)

    def test_a_backlog_keeps_its_site_busy(self) -> None:
        """Mail beyond its share comes back in time: the site never stands idle."""
        for _ in range(4000):
            self.add("big.example")
        self.scheduler.start()
        self.run_for(260)
        done = sum(one.is_final for one in self.store.entries.values())
        self.assertEqual(done, 4000)

    def test_stopping_sends_waiters_home_untried(self) -> None:
        """What waited for its turn is due as before, and stop does not wait for it."""
        for _ in range(50):
            self.add("big.example")
        self.scheduler.start()
        self.clock.advance(0.1)
        stopped = Deferred.fromCoroutine(self.scheduler.stop(15.0))
        self.run_for(2)
        self.successResultOf(stopped)
        tries = [one.standings[0].attempts for one in self.store.entries.values()]
        self.assertEqual(sum(tries), 5)
