"""A disk that is full or read-only, and what is kept back for that."""

import errno

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Trouble
from fwd_mta.interfaces import Space
from fwd_mta.mail.errors import NoSpace, StoreError
from fwd_mta.queue.files import FileStore
from fwd_mta.world.disk import Crash, MemoryDisk
from fwd_mta.world.machine import InlineWorker
from tests.builders import recipient
from tests.queue.stores import MESSAGE, POLICY
from tests.queue.test_crashes import World, added, fresh, to_defer, to_finish

MEBI = 1 << 20
RESERVE = 4 * MEBI
PLENTY = Space(1 << 40, 1 << 30)
NOTHING = Space(0, 1 << 30)


class Shop(World):
    """A machine whose reserve is worth keeping something back."""

    reserve = RESERVE

    @override
    def make(self) -> FileStore:
        return FileStore(
            self.disk,
            "/srv/fwdmta",
            InlineWorker(),
            self.wall,
            self.clock,
            POLICY,
            minimum_free_space=self.reserve,
            message_size_limit=MEBI,
            emit=self.events.append,
            owner=self.owner,
            journal_worker=InlineWorker(),
        )


class SpareTests(SynchronousTestCase):
    """`queue/spare`."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.shop = Shop(self.disk)
        self.shop.get(self.shop.store.start(self.shop.now))

    def kept(self) -> list[int]:
        """The sizes of the pieces that are kept back."""
        files = self.disk.files()
        return [len(files[path]) for path in files if "/spare/" in path]

    def a_minute(self) -> None:
        """Let the store look at its disk."""
        self.shop.clock.advance(60)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.shop.restart(Crash.KEPT, 0)

    def said(self) -> list[str]:
        """What was reported."""
        return [one.what for one in self.shop.events if isinstance(one, Trouble)]

    def test_half_of_the_reserve(self) -> None:
        """A start makes nothing; a minute later half of the reserve is kept back."""
        self.assertEqual(self.kept(), [])
        self.a_minute()
        self.assertEqual(sum(self.kept()), RESERVE // 2)
        self.assertEqual(self.shop.get(self.shop.store.inspect()).findings, ())

    def test_a_small_reserve(self) -> None:
        """Where the reserve is next to nothing, nothing is kept back."""
        self.shop.reserve = 1000
        self.restart()
        self.a_minute()
        self.assertEqual(self.kept(), [])

    def test_it_is_made_only_of_what_is_left_over(self) -> None:
        """New mail comes first: what it needs is not kept back."""
        need = RESERVE + MEBI + MEBI // 2
        self.disk.left = Space(need + RESERVE // 8, 1 << 30)
        self.a_minute()
        self.assertEqual(sum(self.kept()), RESERVE // 8)

    def test_it_is_a_part_of_the_reserve(self) -> None:
        """With all of it kept back, only the other half has to be free."""
        self.a_minute()
        need = RESERVE + MEBI + MEBI // 2
        for left, fits in (
            (need - RESERVE // 2, True),
            (need - RESERVE // 2 - 1, False),
        ):
            self.disk.left = Space(left, 1 << 30)
            self.a_minute()
            self.assertIs(self.shop.store.has_room(0), fits)

    def test_a_full_disk_at_the_start(self) -> None:
        """The start gives up a piece and says so; new mail has no room."""
        self.a_minute()
        self.disk.left = NOTHING
        self.restart()
        self.assertEqual(len(self.kept()), 7)
        self.assertTrue(any("is full" in one for one in self.said()), self.said())
        self.assertFalse(self.shop.store.has_room(0))

    def test_a_result_that_finds_no_space(self) -> None:
        """A write that failed for want of space gives up a piece; the next one goes."""
        one = added(self.shop)
        self.a_minute()
        self.disk.left = NOTHING
        self.disk.refuse(errno.ENOSPC, "append", "create")
        with self.assertRaises(NoSpace):
            self.shop.record(to_defer(self.shop, one))
        self.assertEqual(len(self.kept()), 7)
        self.disk.relent()
        self.shop.record(to_defer(self.shop, one))
        self.disk.left = PLENTY
        self.a_minute()
        self.assertEqual(len(self.kept()), 8)

    def test_a_start_on_a_disk_that_takes_nothing(self) -> None:
        """Without one octet to write the server starts, and knows its mail."""
        one = added(self.shop)
        self.disk.left = NOTHING
        self.disk.crash(Crash.KEPT)
        self.disk.refuse(errno.ENOSPC, "append", "create", "write_at")
        again = Shop(self.disk)
        again.get(again.store.start(again.now))
        self.assertEqual(again.get(again.store.claim(again.now, 1)), [one])


class TroubledDiskTests(SynchronousTestCase):
    """Nothing is lost, nothing is promised, and it goes on without a restart."""

    def trouble(self, error: int, *verbs: str) -> None:
        """Refuse calls while mail comes in and goes out; then relent."""
        disk = MemoryDisk()
        shop = Shop(disk)
        shop.get(shop.store.start(shop.now))
        one = added(shop)
        disk.refuse(error, *verbs)
        for number in (2, 3):
            with self.assertRaises(StoreError):
                shop.get(shop.store.add(fresh(shop, number), MESSAGE))
        with self.assertRaises(StoreError):
            shop.get(shop.store.dot_sent(one.id, [recipient()], shop.now))
        with self.assertRaises(StoreError):
            shop.record(to_finish(shop, one))
        disk.relent()
        shop.record(to_finish(shop, one))
        shop.get(shop.store.add(fresh(shop, 4), MESSAGE))
        shop.restart(Crash.KEPT, 0)
        there = [shop.entry(f"{number:016d}") for number in (1, 2, 3, 4)]
        self.assertEqual([one is not None for one in there], [True, False, False, True])
        self.assertEqual(there[0], to_finish(shop, one))
        self.assertEqual(len(shop.live_on()), 1)

    def test_full(self) -> None:
        """ENOSPC in every call that writes."""
        self.trouble(errno.ENOSPC)

    def test_read_only(self) -> None:
        """EROFS in every call that changes something."""
        self.trouble(errno.EROFS)

    def test_failing(self) -> None:
        """EIO in every call that changes something."""
        self.trouble(errno.EIO)

    def test_out_of_quota(self) -> None:
        """EDQUOT in every call that writes."""
        self.trouble(errno.EDQUOT, "append", "create", "write_at", "make_directory")
