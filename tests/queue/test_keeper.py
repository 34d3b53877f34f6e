"""Tests for the sweep loop."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Trouble
from fwd_mta.interfaces import Swept
from fwd_mta.queue.keeper import Keeper
from fwd_mta.queue.memory import MemoryStore
from fwd_mta.world.machine import VirtualWall
from tests.queue.stores import POLICY


class SlowStore(MemoryStore):
    """A store whose sweeps end when the test says so, or fail."""

    def __init__(self, wall: VirtualWall) -> None:
        super().__init__(wall, POLICY)
        self.sweeps: list[float] = []
        self.gate: Deferred[None] | None = None
        self.error: Exception | None = None

    @override
    async def sweep(self, now: float) -> Swept:
        """Note the time; wait, or fail, if told to."""
        self.sweeps.append(now)
        if self.gate is not None:
            await self.gate
        if self.error is not None:
            raise self.error
        return Swept()


class KeeperTests(SynchronousTestCase):
    """`Keeper`."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = VirtualWall(self.clock)
        self.store = SlowStore(self.wall)
        self.events: list[Event] = []
        self.keeper = Keeper(self.store, self.clock, self.wall, self.events.append)
        self.keeper.start()

    def stop(self) -> Deferred[Any]:
        """Stop the keeper."""
        return Deferred.fromCoroutine(self.keeper.stop())

    def test_every_thirty_seconds(self) -> None:
        """It sweeps at the start and every 30 seconds, by the wall clock's date."""
        start = self.wall.now()
        self.clock.pump([30, 30])
        self.assertEqual(self.store.sweeps, [start, start + 30, start + 60])

    def test_a_failed_sweep(self) -> None:
        """Whatever a sweep raises is reported, and the next one comes."""
        self.store.error = ZeroDivisionError("a bug")
        self.clock.advance(30)
        self.assertEqual(len(self.events), 1)
        self.assertIn("ZeroDivisionError: a bug", str(self.events[0]))
        self.store.error = None
        self.clock.advance(30)
        self.assertEqual(len(self.store.sweeps), 3)

    def test_one_at_a_time(self) -> None:
        """A long sweep is not overtaken by the next."""
        self.store.gate = Deferred()
        self.clock.pump([30] * 5)
        self.assertEqual(len(self.store.sweeps), 2)
        self.store.gate.callback(None)
        self.clock.advance(30)
        self.assertEqual(len(self.store.sweeps), 3)

    def test_stopping_waits(self) -> None:
        """Stopping waits for the sweep that runs, and no other follows."""
        self.store.gate = Deferred()
        self.clock.advance(30)
        stopped = self.stop()
        self.assertNoResult(stopped)
        self.store.gate.callback(None)
        self.successResultOf(stopped)
        self.clock.advance(300)
        self.assertEqual(len(self.store.sweeps), 2)
        self.successResultOf(self.stop())

    def test_a_wrong_date_removes_nothing(self) -> None:
        """After a jump of more than a day it waits for an hour of agreeing clocks."""
        self.wall.jump(400 * 86_400)
        self.clock.pump([30] * 119)
        self.assertEqual(len(self.store.sweeps), 1)
        self.assertEqual([type(event) for event in self.events], [Trouble])
        self.clock.pump([30] * 3)
        self.assertGreater(len(self.store.sweeps), 1)

    def test_a_small_jump_is_nothing(self) -> None:
        """An hour's difference, as at a change of summer time, stops no sweep."""
        self.wall.jump(3600)
        self.clock.advance(30)
        self.assertEqual(len(self.store.sweeps), 2)
