"""Must-show: five days of retries in under a second of real time, all rooms real."""

import itertools

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.inbound import limits, watching
from fwd_mta.mail.entry import EntryFilter, StandingState, Status
from fwd_mta.rules.retry import RetrySchedule
from tests.kit import World

DAY = 86_400.0


class FiveDaysTests(SynchronousTestCase):
    """One message whose recipient is always put off, from submission to its notice."""

    def test_five_days_of_retries(self) -> None:
        """About 120 tries by the schedule, one delay notice, a last try, a failure."""
        # Two loops that look at files all day long are no part of this journey.
        self.patch(watching, "LOOK_EVERY", DAY)
        self.patch(limits, "WRITE_EVERY", DAY)
        world = World()
        world.start()
        accepted = world.submit("bob+later@example.net")
        self.assertIn(b"250 2.0.0 Ok: queued as", accepted)
        start = world.clock.seconds()
        world.until(lambda: len(world.inbox.messages) == 2, 6 * DAY, step=3600.0)
        tries = self.tries(world, start)
        # The list is what this test shows: the schedule as it was kept.
        print("seconds after arrival:", [round(one) for one in tries])  # noqa: T201
        waits = [b - a for a, b in itertools.pairwise(tries)]
        schedule = RetrySchedule()
        for number, wait in enumerate(waits[:-1], start=1):
            full = schedule.backoff(number)
            self.assertTrue(0.8 * full - 1 <= wait <= full + 1, (number, wait))
        self.assertTrue(abs(tries[-1] - 5 * DAY) < 5, tries[-1])
        self.assertTrue(105 < len(tries) < 145, len(tries))
        delay, failure = world.inbox.messages
        self.assertIn(b"Action: delayed", delay.content)
        self.assertIn(b"Action: failed", failure.content)
        self.assertEqual(failure.reverse_path, "")
        self.check_end(world)

    def tries(self, world: World, start: float) -> list[float]:
        """When the remote host saw the message offered."""
        steps = world.done(world.server.store.timeline(self.entry_id(world)))
        assert isinstance(steps, list)
        made = [step.attempt for step in steps if step.attempt is not None]
        begin = world.wall.now() - world.clock.seconds() + start
        return [attempt.started - begin for attempt in made]

    def entry_id(self, world: World) -> str:
        """The id of the one message of ann's."""
        entries = world.done(world.server.store.entries(EntryFilter(finished=True)))
        assert isinstance(entries, list)
        return next(one.id for one in entries if one.cause is None)

    def check_end(self, world: World) -> None:
        """The message is finished, expired and bounced; nothing waits any more."""
        world.pass_time(5)
        entries = world.done(world.server.store.entries(EntryFilter(finished=True)))
        assert isinstance(entries, list)
        self.assertEqual(len(entries), 3)
        self.assertTrue(all(one.is_final for one in entries))
        message = next(one for one in entries if one.cause is None)
        self.assertEqual(message.status, Status.BOUNCED)
        self.assertEqual(message.standings[0].state, StandingState.EXPIRED)
        self.assertIsNone(world.server.store.next_due())
