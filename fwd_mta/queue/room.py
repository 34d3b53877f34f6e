"""Whether there is room for another message, beside the reserve (SPEC [queue])."""

from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from fwd_mta.interfaces import Space
from fwd_mta.mail.errors import StoreError
from fwd_mta.queue.commit import seen_to
from fwd_mta.queue.spare import Spare
from fwd_mta.queue.spool import FileSpool
from fwd_mta.queue.tree import Tree

_EVERY = 60.0
_STALE = 5.0
_SPARE_INODES = 1000


class Room:
    """Looks at the file system off the reactor thread: often while it is asked."""

    def __init__(
        self, tree: Tree, clock: IReactorTime, reserve: int, size_limit: int
    ) -> None:
        self._tree = tree
        self._need = reserve + size_limit + size_limit // 2
        self._reserve = reserve
        self._space: Space | None = None
        self._spools: set[FileSpool] = set()
        self._clock = clock
        self._looked_at = 0.0
        self._loop = LoopingCall(self._look_later)
        self._loop.clock = clock
        self._was_enough = True
        self._spare = Spare(tree.disk, tree.layout, reserve)
        self._tending = False
        self.every = _EVERY

    async def start(self) -> None:
        """Look now, and then every minute (`every`) even when nobody asks."""
        with suppress(StoreError):
            await self._tree.job(self._spare.look)
        await self.look()
        if not self.has(0):
            await self.tend()
        seen_to(self._loop.start(self.every, now=False))

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def _look_later(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look_and_tend())

    async def _look_and_tend(self) -> None:
        await self.look()
        await self.tend()

    def short(self) -> None:
        """Something failed for want of space: give up what was kept back for it."""
        if self._loop.running and not self._tending:
            seen_to(self._look_later())

    async def tend(self) -> None:
        """Give up or make a piece of what is kept back."""
        space = self._space
        if space is None or self._tending:
            return
        self._tending = True
        try:
            given = await self._tree.job(lambda: self._spare.tend(space, self._need))
        except StoreError:
            return  # the next look tries it again
        finally:
            self._tending = False
        if given:
            what = "is full: some of the spare room is given to what waits"
            self._tree.say("queue", what, "make room")
            await self.look()

    async def look(self) -> None:
        """Ask the file system; what cannot be asked has no room."""
        tree = self._tree
        self._looked_at = self._clock.seconds()
        try:
            self._space = await tree.job(lambda: tree.disk.space(tree.layout.queue))
        except StoreError as error:
            self._space = None
            tree.say("queue", f"cannot see what space is left: {error}")
            return
        enough = self.has(0)
        if enough is not self._was_enough:
            self._was_enough = enough
            self._say(enough)

    def _say(self, enough: bool) -> None:
        if enough:
            self._tree.say("queue", "there is room again, mail is accepted")
            return
        left = self._space
        self._tree.say(
            "queue",
            f"only {left.octets if left else 0} octets and"
            f" {left.inodes if left else 0} inodes are left, mail is refused with 452",
            "make room, or lower minimum_free_space",
        )

    def has(self, octets: int) -> bool:
        """Whether a message of that size fits, with all that is being received.

        Answers by the last look; a stale one is renewed for the next who asks.
        """
        if self._loop.running and self._clock.seconds() >= self._looked_at + _STALE:
            self._looked_at = self._clock.seconds()
            seen_to(self._look_later())
        if self._space is None:
            return False
        receiving = sum(spool.taken for spool in self._spools)
        need = max(self._need, self._reserve + octets) + receiving
        need -= self._spare.octets  # it is a part of the reserve
        return self._space.octets >= need and self._space.inodes >= _SPARE_INODES

    def receiving(self, spool: FileSpool) -> None:
        """A body begins to arrive."""
        self._spools.add(spool)

    def received(self, spool: FileSpool) -> None:
        """A body has ended."""
        self._spools.discard(spool)
