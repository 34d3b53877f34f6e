"""Tests for what the store in memory has beside the contract."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.mail.errors import NoSpace
from fwd_mta.queue.memory import MemoryStore
from fwd_mta.world.machine import VirtualWall
from tests.builders import entry
from tests.queue.stores import MESSAGE, POLICY


class MemoryStoreTests(SynchronousTestCase):
    """`MemoryStore`."""

    def test_it_can_be_full(self) -> None:
        """A test can make it refuse, as a full disk would."""
        store = MemoryStore(VirtualWall(Clock()), POLICY)
        self.assertTrue(store.has_room(10**9))
        store.full = True
        self.assertFalse(store.has_room(0))
        adding = Deferred.fromCoroutine(store.add(entry(), MESSAGE))
        self.failureResultOf(adding, NoSpace)
