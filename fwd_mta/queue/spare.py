"""Room that is kept back for what is in the queue already (docs/crashes.md, "spare").

A few files of zeros, all together at most half of `minimum_free_space`. When the disk
is full one after the other is removed, so that results and notices can be written; they
are made again when there is room. New mail never gets it: it is part of the reserve.
"""

from fwd_mta.interfaces import Disk, Space
from fwd_mta.queue.layout import Layout

_PIECES = 8
_PIECE = 1 << 20
_WORTH_IT = 4096


class Spare:
    """The pieces there are; everything here runs on a worker's thread."""

    def __init__(self, disk: Disk, layout: Layout, reserve: int) -> None:
        self._disk = disk
        self._directory = layout.spare
        self._tmp = layout.tmp
        self._piece = min(_PIECE, reserve // (2 * _PIECES))
        self._held: set[str] = set()

    @property
    def octets(self) -> int:
        """How much is kept back now."""
        return len(self._held) * self._piece

    def look(self) -> None:
        """See what there is, as at the start; raises OSError."""
        self._held = {
            name for name in self._disk.names(self._directory) if name in _NAMES
        }

    def tend(self, left: Space, wanted: int) -> bool:
        """Give up a piece when nothing is left, make what lacks when there is room.

        Whether anything was given up; raises OSError.
        """
        if self._piece < _WORTH_IT:
            return False
        if left.octets < self._piece and self._held:
            self._give_up()
            return True
        lacking = _PIECES - len(self._held)
        for _ in range(min(lacking, (left.octets - wanted) // self._piece)):
            self._make()
        return False

    def _give_up(self) -> None:
        name = max(self._held)
        self._disk.remove(f"{self._directory}/{name}")
        self._disk.sync_directory(self._directory)
        self._held.discard(name)

    def _make(self) -> None:
        """One more piece, whole when it has its name."""
        name = min(_NAMES - self._held)
        source = f"{self._tmp}/spare"
        self._disk.make_directory(self._directory)
        if self._disk.exists(source):
            self._disk.remove(source)
        file = self._disk.create(source)
        try:
            file.append(bytes(self._piece))
            file.sync()
        except OSError:
            self._disk.remove(source)
            raise
        finally:
            file.close()
        self._disk.rename(source, f"{self._directory}/{name}")
        self._held.add(name)


_NAMES = frozenset(str(number) for number in range(_PIECES))
