"""Lists of all there is, in order of ids, however much it is.

A directory gives its names in no order. A list takes the next so many of them by name,
a bounded number in memory, and reads the directories again only when those are used up;
so a page of a long list costs what it shows, and a list of a million a dozen walks over
the names. Between some messages and the next, the worker serves others.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from heapq import nsmallest
from itertools import chain, islice
from operator import itemgetter

from fwd_mta.interfaces import Disk
from fwd_mta.mail.entry import EntryFilter, QueueEntry
from fwd_mta.mail.errors import StoreError
from fwd_mta.queue.journal import Journal
from fwd_mta.queue.layout import PACK, Layout
from fwd_mta.queue.reading import Reader
from fwd_mta.queue.tree import Tree
from fwd_mta.rules.identity import is_entry_id

NAMES_AT_ONCE = 1 << 16
_SLICE = 256

Placed = tuple[str, str]  # a name, and the directory it was seen in


class Names:
    """Walks over names in order; what one look gave serves the next walk too."""

    def __init__(self) -> None:
        self._kind: object = None
        self._after = ""
        self._known: Sequence[Placed] = ()
        self._is_all = False

    def walk(
        self, after: str, kind: object, look: Callable[[], Iterator[Placed]]
    ) -> Iterator[Placed]:
        """Names behind `after`, and where they are; `kind` says what the look is at.

        What was seen last is used while the walk goes on in it: something new has a
        later name, or is left to the next walk.
        """
        while some := self._next(after, kind, look):
            is_all = self._is_all
            yield from some
            after = some[-1][0]
            if is_all:
                return

    def _next(
        self, after: str, kind: object, look: Callable[[], Iterator[Placed]]
    ) -> Sequence[Placed]:
        known = self._known
        # A walk that begins sees what is there now.
        goes_on = bool(after and known) and kind == self._kind
        if goes_on and self._after <= after < known[-1][0]:
            return known[bisect_right(known, after, key=itemgetter(0)) :]
        behind = (one for one in look() if one[0] > after)
        some = nsmallest(NAMES_AT_ONCE, behind, key=itemgetter(0))
        # One that is seen twice lies where it was seen last.
        self._known = list(dict(some).items())
        self._kind, self._after = kind, after
        self._is_all = len(some) < NAMES_AT_ONCE
        return self._known


class Listing:
    """The lists that operators ask for."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._disk: Disk = tree.disk
        self._layout: Layout = tree.layout
        self._reader: Reader = tree.reader
        self._journal: Journal = tree.journal
        self._names = Names()

    async def entries(self, wanted: EntryFilter) -> list[QueueEntry]:
        """Entries that the filter takes, oldest first; damaged files are left out.

        A page with a `limit` opens only the files it needs: ids begin with the time,
        so names alone say which come first.
        """
        limit = wanted.limit
        found: list[QueueEntry] = []
        looked_at = self._looks(wanted)
        while limit is None or len(found) < limit:
            some = await self._tree.job(lambda: list(islice(looked_at, _SLICE)))
            found += [one for one in some if one is not None]
            if len(some) < _SLICE:
                break
        found = found if limit is None else found[:limit]
        return sorted(found, key=lambda entry: (entry.queued_at, entry.id))

    def all(self) -> Iterator[tuple[str, str]]:
        """Names and paths of all messages there are, by rising name."""
        return self._candidates(EntryFilter(finished=True))

    def _looks(self, wanted: EntryFilter) -> Iterator[QueueEntry | None]:
        """Each message in order of ids, None for one that is not wanted; on the worker.

        It ends with the last that a page can hold.
        """
        left = wanted.limit
        for name, path in self._candidates(wanted):
            if left == 0:
                return
            entry = self._entry(name, path)
            if entry is None or not wanted.takes(entry):
                yield None
                continue
            left = None if left is None else left - 1
            yield entry

    def _entry(self, name: str, path: str) -> QueueEntry | None:
        """Read one; what moved on since its name was seen is looked for."""
        try:
            return self._reader.located(name, path, self._reader.state).entry
        except (OSError, StoreError):
            return None

    def _candidates(self, wanted: EntryFilter) -> Iterator[tuple[str, str]]:
        """Names and paths by rising name."""
        if wanted.ids:
            some = sorted(one for one in set(wanted.ids) if one > wanted.after)
            find = self._reader.find
            yield from ((one, path) for one in some if (path := find(one)))
            return
        finished = wanted.finished or bool(wanted.states)
        walk = self._names.walk(wanted.after, finished, lambda: self._all(finished))
        yield from ((name, f"{directory}/{name}") for name, directory in walk)

    def _all(self, finished: bool) -> Iterator[Placed]:
        """All names there are, and where; later ones count."""
        places = [self._layout.incoming, *self._reader.minutes(), self._layout.hold]
        if finished:
            places += [*self._reader.hours(), self._layout.kept]
        placed = chain(self._in_journal(), self._in_packs(places), self._named(places))
        return (one for one in placed if is_entry_id(one[0]))

    def _in_journal(self) -> Iterator[Placed]:
        for mail in list(self._journal.mails.values()):
            yield mail.id, self._layout.segment(mail.segment)

    def _in_packs(self, places: Sequence[str]) -> Iterator[Placed]:
        """Before files of their own: what was taken out of a pack is there twice."""
        for directory in places:
            if directory.startswith(self._layout.retained):
                for name in self._disk.scan(directory):
                    if name.endswith(PACK):
                        pack = f"{directory}/{name}"
                        yield from ((one, pack) for one in self._readable(pack))

    def _named(self, places: Sequence[str]) -> Iterator[Placed]:
        for directory in places:
            yield from ((name, directory) for name in self._disk.scan(directory))

    def _readable(self, pack: str) -> list[str]:
        try:
            return self._reader.members(pack)
        except (OSError, StoreError):
            return []  # the sweep says what is wrong with it
