"""Must-show: the journeys of the guide's "dummy proof" list, all rooms real.

A block list, network trouble, a full mailbox, a server that is down: the message is
tried again, arrives once when the trouble is over, is never given up before its five
days, and its sender is told what a sender should hear, and no more. Each journey prints
its schedule. Time is virtual.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import SiteRests, SiteWorks
from fwd_mta.inbound import limits, watching
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Stage, Status, Step
from fwd_mta.mail.reply import Reply
from fwd_mta.world.hosts import PLAIN, Behaviour, Deed, Inbox, RemoteHost
from fwd_mta.world.network import Dead
from tests.kit import THEIR_ADDRESS, World

HOUR = 3600.0
DAY = 24 * HOUR
BOB = "bob@example.net"
ANN = "ann@example.com"
HOME_ADDRESS = "203.0.113.9"


@dataclass(frozen=True, slots=True)
class Ill:
    """What is wrong with the world, and how it is made right again."""

    break_it: Callable[[World], None]
    mend_it: Callable[[World], None]


def _says(stage: Stage, code: int, detail: str | None, text: str) -> Ill:
    return _does({stage: Reply(code, detail, text)})


def _does(acts: Mapping[Stage, Reply | Deed]) -> Ill:
    def break_it(world: World) -> None:
        world.host.behaviour = Behaviour(dict(acts))

    def mend_it(world: World) -> None:
        world.host.behaviour = PLAIN

    return Ill(break_it, mend_it)


def _way(dead: Dead) -> Ill:
    return Ill(
        lambda world: world.network.bend(THEIR_ADDRESS, dead),
        lambda world: world.network.mend(THEIR_ADDRESS),
    )


def _names(*failing: str) -> Ill:
    def fail(world: World, names: tuple[str, ...]) -> None:
        world.resolver._failing = names

    return Ill(lambda world: fail(world, failing), lambda world: fail(world, ()))


BLOCK_LISTS = {
    "refused at the greeting": _says(
        Stage.GREETING, 554, "7.1", "mx: {client} is listed at bl.example"
    ),
    "refused at MAIL": _says(
        Stage.MAIL, 550, "7.1", "Client host [{client}] blocked using bl.example.org"
    ),
    "refused at RCPT": _says(
        Stage.RCPT,
        554,
        "7.1",
        "Service unavailable; Client host [{client}] blocked using zen.spamhaus.org",
    ),
    "refused at the dot": _says(
        Stage.DOT, 550, "7.1", "Our system: the IP {client} has a poor reputation"
    ),
    "put off at RCPT": _says(
        Stage.RCPT, 451, "7.1", "Client host [{client}] is on a block list, try later"
    ),
}

NETWORK_TROUBLE = {
    "no route": _way(Dead.NO_ROUTE),
    "packets are lost": _way(Dead.SILENT),
    "names cannot be looked up": _names("example.net"),
    "the exchanger's name cannot be looked up": _names("mx.example.net"),
    "reset at the greeting": _does({Stage.GREETING: Deed.RESET}),
    "closed at EHLO": _does({Stage.HELLO: Deed.CLOSE}),
    "reset at MAIL": _does({Stage.MAIL: Deed.RESET}),
    "silence at RCPT": _does({Stage.RCPT: Deed.SILENCE}),
    "reset at DATA": _does({Stage.DATA: Deed.RESET}),
}

FULL_MAILBOXES = {
    "452 4.2.2": _says(Stage.RCPT, 452, "2.2", "The mailbox is full"),
    "552 5.2.2": _says(Stage.RCPT, 552, "2.2", "Mailbox full"),
    "550 5.2.2": _says(Stage.RCPT, 550, "2.2", "User is over quota"),
    "550 without a status": _says(Stage.RCPT, 550, None, "Mailbox quota exceeded"),
    "552 5.2.2 at the dot": _says(Stage.DOT, 552, "2.2", "Quota exceeded"),
}

SERVERS_DOWN = {
    "refused connections": _way(Dead.REFUSED),
    "421 at the greeting": _says(Stage.GREETING, 421, "3.2", "Down for maintenance"),
    "421 at EHLO": _says(Stage.HELLO, 421, "3.2", "Shutting down"),
    "451 at MAIL": _says(Stage.MAIL, 451, "3.0", "Temporary system problem"),
    "451 in the guide's words": _says(Stage.MAIL, 451, None, "Temporarily deferred"),
    "450 at RCPT": _says(Stage.RCPT, 450, "2.0", "Try again later"),
    "452 at the dot": _says(Stage.DOT, 452, "3.1", "Insufficient system storage"),
    "554 at the greeting": _says(Stage.GREETING, 554, "3.2", "No service now"),
}


def _shown(tries: list[float]) -> str:
    """The times of a schedule; of a long one its beginning and its end."""
    times = [f"{one:.2f}" for one in tries]
    if len(times) > 20:
        times[14:-2] = [f"... ({len(times) - 16} more)"]
    return " ".join(times)


class Journey(SynchronousTestCase):
    """One message of ann's to bob, whose mail system has a trouble; ann's has none."""

    @override
    def setUp(self) -> None:
        # Two loops that look at files all day long are no part of these journeys.
        self.patch(watching, "LOOK_EVERY", DAY)
        self.patch(limits, "WRITE_EVERY", DAY)

    # Given

    def given(self, ill: Ill) -> None:
        """A server that runs, a sender's mailbox that works, and the trouble."""
        self.world = world = World()
        self.home = Inbox()
        home = RemoteHost("home.example.com", world.clock, self.home)
        _ = world.network.listen(f"{HOME_ADDRESS}:25", home)
        self.patch(
            world.resolver,
            "_exchangers",
            {
                "example.net": [(10, "mx.example.net")],
                "example.com": [(10, "home.example.com")],
            },
        )
        self.patch(
            world.resolver,
            "_addresses",
            {"mx.example.net": [THEIR_ADDRESS], "home.example.com": [HOME_ADDRESS]},
        )
        ill.break_it(world)
        world.start()
        self.ill = ill

    # When

    def when_ann_writes(self) -> None:
        """Her message is accepted, whatever is wrong out there."""
        answer = self.world.submit(BOB)
        self.assertIn(b"250 2.0.0 Ok: queued as", answer)
        self.began = self.world.wall.now()

    def when_it_heals_after(self, hours: float) -> None:
        """Nothing is bounced meanwhile; then the trouble is over."""
        self.until(hours * HOUR)
        self.assertEqual(self.actions(), ["delayed"] if hours > 4 else [])
        self.assertEqual(self.world.inbox.messages, [])
        self.assertEqual(self.message().status, Status.DEFERRED)
        self.ill.mend_it(self.world)
        self.world.until(lambda: self.message().is_final, 8 * HOUR, step=HOUR)
        self.world.pass_time(5)

    def until(self, seconds: float) -> None:
        """Let time pass up to so many seconds after arrival."""
        end = self.began + seconds
        while self.world.wall.now() < end:
            self.world.skip(min(HOUR, end - self.world.wall.now()))

    # Then

    def then_delivered_once(self) -> None:
        """Bob has it once; the message is finished as sent."""
        self.assertEqual(len(self.world.inbox.of(BOB)), 1)
        self.assertEqual(self.message().status, Status.SENT)
        self.assertIsNone(self.world.server.store.next_due())

    def then_ann_heard(self, *actions: str) -> None:
        """These notices came to her, in this order, and nothing else."""
        self.assertEqual(self.actions(), list(actions))
        for notice in self.home.messages:
            self.assertEqual(notice.reverse_path, "")
            self.assertEqual(notice.recipients, (ANN,))
            self.assertIn(b"Final-Recipient: rfc822; bob@example.net", notice.content)

    def then_given_up_at_the_end(self) -> None:
        """The last try was at five days, not a second before; then she was told."""
        entry = self.message()
        self.assertEqual(entry.status, Status.BOUNCED)
        assert entry.finished_at is not None
        self.assertGreaterEqual(entry.finished_at, self.began + 5 * DAY - 1)
        self.assertLess(entry.finished_at, self.began + 5 * DAY + HOUR)
        self.assertEqual(self.world.inbox.messages, [])

    # Looking

    def actions(self) -> list[str]:
        """What the notices that came to ann say became of bob's copy."""
        found = []
        for notice in self.home.messages:
            lines = notice.content.decode().splitlines()
            found += [line[8:] for line in lines if line.startswith("Action: ")]
        return found

    def message(self) -> QueueEntry:
        """Ann's message as the queue has it."""
        found = self.world.server.store.entries(EntryFilter(finished=True))
        return next(one for one in self.world.done(found) if one.cause is None)

    def tries(self) -> list[float]:
        """Hours after arrival of each time that somebody was really asked."""
        steps: list[Step] = self.world.done(
            self.world.server.store.timeline(self.message().id)
        )
        return [
            max(0.0, step.attempt.started - self.began) / HOUR
            for step in steps
            if step.attempt is not None
            and not any(line.startswith("not tried") for line in step.attempt.trail)
        ]

    def show(self, kind: str, name: str) -> None:
        """Print the schedule as it was kept, and what the sender heard."""
        tries = _shown(self.tries())
        heard = ", ".join(self.actions()) or "nothing"
        end = self.message().status.value
        print(f"{kind}: {name}: tried after {tries} h; {end}; ann heard: {heard}")  # noqa: T201

    def heals(self, kind: str, ills: Mapping[str, Ill], hours: float) -> None:
        """Each trouble of a kind lasts so long; then the message arrives, once."""
        for name, ill in ills.items():
            self.given(ill)
            self.when_ann_writes()
            self.when_it_heals_after(hours)
            self.show(kind, name)
            self.then_delivered_once()
            self.then_ann_heard(*(["delayed"] if hours > 4 else []))

    def lasts(self, kind: str, name: str, ill: Ill) -> None:
        """The trouble never ends: one delay notice, five days, one failure notice."""
        self.given(ill)
        self.when_ann_writes()
        self.until(4.9 * DAY)
        self.then_ann_heard("delayed")
        self.assertEqual(self.message().status, Status.DEFERRED)
        self.until(5 * DAY + HOUR)
        self.show(kind, name)
        self.then_given_up_at_the_end()
        self.then_ann_heard("delayed", "failed")


class BlockListTests(Journey):
    """Our address is on a block list."""

    KIND = "block list"

    def test_soon_lifted(self) -> None:
        """Given a block, when it is lifted within hours, then bob has it, unnoticed."""
        self.heals(self.KIND, BLOCK_LISTS, 2)

    def test_lifted_after_ten_hours(self) -> None:
        """Given a block of ten hours, then ann hears of the delay, bob has it once."""
        self.heals(self.KIND, BLOCK_LISTS, 10)

    def test_never_lifted(self) -> None:
        """Given a block that stays, then it is given up after five days, not before."""
        name = "refused at MAIL"
        self.lasts(self.KIND, name, BLOCK_LISTS[name])
        self.assertGreater(self.tries()[-1], 119.9)

    def test_one_probe_at_a_time(self) -> None:
        """Given a block, then the site is left alone 1 h, 2 h, 4 h, then 6 h."""
        self.given(BLOCK_LISTS["refused at MAIL"])
        self.when_ann_writes()
        self.until(30 * HOUR)
        tries = self.tries()
        waits = [b - a for a, b in itertools.pairwise(tries)]
        for least, wait in zip((1, 2, 4, 6, 6), waits, strict=False):
            self.assertGreaterEqual(wait, least - 0.01, tries)
            self.assertLess(wait, least * 1.2 + 1.2, tries)

    def test_the_operator_is_told(self) -> None:
        """Given a block, then the operator hears of it, and of its end."""
        self.given(BLOCK_LISTS["refused at MAIL"])
        self.when_ann_writes()
        self.when_it_heals_after(6)
        events = self.world.events
        rests = [one for one in events if isinstance(one, SiteRests)]
        self.assertEqual(rests[0].seconds, HOUR)
        self.assertIn("blocked using", rests[0].reply)
        self.assertEqual(sum(isinstance(one, SiteWorks) for one in events), 1)

    def test_the_words_reach_the_sender(self) -> None:
        """Given a block, then the delay notice has the words and says who can help."""
        self.given(BLOCK_LISTS["refused at MAIL"])
        self.when_ann_writes()
        self.when_it_heals_after(5)
        (notice,) = self.home.messages
        text = notice.content.decode()
        self.assertIn("You need not send it", text)
        self.assertIn("blocked using bl.example.org", text)
        self.assertIn("Will-Retry-Until: ", text)


class NetworkTroubleTests(Journey):
    """Packets, names or connections are lost."""

    KIND = "network trouble"

    def test_soon_over(self) -> None:
        """Given trouble of half an hour, then bob has it, and nobody is bothered."""
        self.heals(self.KIND, NETWORK_TROUBLE, 0.5)

    def test_over_after_ten_hours(self) -> None:
        """Given trouble of ten hours, then ann hears of the delay, bob has it once."""
        self.heals(self.KIND, NETWORK_TROUBLE, 10)

    def test_never_over(self) -> None:
        """Given a domain that is never found again, then five days, one failure."""
        for name in ("packets are lost", "names cannot be looked up"):
            self.lasts(self.KIND, name, NETWORK_TROUBLE[name])


class FullMailboxTests(Journey):
    """Bob's mailbox is full."""

    KIND = "full mailbox"

    def test_soon_emptied(self) -> None:
        """Given a mailbox that is emptied in an hour, then bob has it, unnoticed."""
        self.heals(self.KIND, FULL_MAILBOXES, 1)

    def test_emptied_on_the_third_day(self) -> None:
        """Given three days of a full mailbox, whatever the code, then bob has it."""
        self.heals(self.KIND, FULL_MAILBOXES, 60)

    def test_asked_less_often_after_a_day(self) -> None:
        """Given a full mailbox, then after the first day it is asked every 4 hours."""
        self.given(FULL_MAILBOXES["552 5.2.2"])
        self.when_ann_writes()
        self.until(3 * DAY)
        tries = self.tries()
        first = [one for one in tries if one < 24]
        later = [one for one in tries if one > 24]
        self.assertGreater(len(first), 20)
        waits = [b - a for a, b in itertools.pairwise(later)]
        self.assertGreater(len(waits), 8)
        self.assertGreaterEqual(min(waits), 4 - 0.01)

    def test_never_emptied(self) -> None:
        """Given a mailbox that nobody empties, then five days, and ann hears why."""
        name = "552 5.2.2"
        self.lasts(self.KIND, name, FULL_MAILBOXES[name])
        text = self.home.messages[-1].content.decode()
        self.assertIn("Mailbox full", text)


class ServerDownTests(Journey):
    """Bob's server is down, or says so."""

    KIND = "server down"

    def test_soon_up(self) -> None:
        """Given a restart of some minutes, then bob has it, and nobody is bothered."""
        self.heals(self.KIND, SERVERS_DOWN, 0.2)

    def test_up_on_the_third_day(self) -> None:
        """Given a weekend of being down, then ann hears of it, and bob has it once."""
        self.heals(self.KIND, SERVERS_DOWN, 60)

    def test_never_up(self) -> None:
        """Given a server that is gone for good, then five days, one failure."""
        for name in ("refused connections", "450 at RCPT"):
            self.lasts(self.KIND, name, SERVERS_DOWN[name])
