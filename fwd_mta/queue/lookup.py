"""Lists, counts and shapes of the queue: by the index while it is whole, else by files.

What is shown was read at its file either way: the index only says where to look. Counts
of many are the index's own.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fwd_mta.interfaces import Ids, Page, Shape, Tally
from fwd_mta.mail.entry import EntryFilter, QueueEntry, Status
from fwd_mta.mail.errors import StoreError
from fwd_mta.queue.commit import Gone
from fwd_mta.queue.index import Index
from fwd_mta.queue.index_file import Place, shape_of, site_rows
from fwd_mta.queue.layout import parts
from fwd_mta.queue.listing import Listing
from fwd_mta.queue.reading import Look
from fwd_mta.queue.tree import Tree

PAGE = 100
_MANY = 5000


class LookUp:
    """Answers what the keeper's face is asked; `index` may be missing."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._listing = Listing(tree)
        self.index: Index | None = None

    async def start(self) -> None:
        """Open the index, if there is one."""
        if self.index is not None:
            await self.index.start(lambda: Listing(self._tree).all(), self._states)

    async def stop(self) -> None:
        """Close the index."""
        if self.index is not None:
            await self.index.stop()

    def _states(
        self, paths: Sequence[tuple[str, str]]
    ) -> list[tuple[QueueEntry, Place]]:
        """What some files say, on the index's thread; what is damaged is left out."""
        read = []
        for name, path in paths:
            directory = self._relative(path)
            look = self._tree.reader.hinted([(name, Place(directory))])[0][1]
            if look.state is not None:
                read.append((look.state.entry, self._place(look.path)))
        return read

    def _relative(self, path: str) -> str:
        return parts(path)[0].removeprefix(f"{self._tree.layout.root}/")

    def _place(self, path: str) -> Place:
        return Place(self._relative(path), *self._tree.reader.part(path))

    # Lists

    async def entries(self, wanted: EntryFilter) -> list[QueueEntry]:
        """All that the filter takes, oldest first; the first `wanted.limit` by id."""
        found: list[QueueEntry] = []
        after: str | None = wanted.after
        while after is not None:
            left = None if wanted.limit is None else wanted.limit - len(found)
            if left is not None and left <= 0:
                break
            page = await self._page(replace(wanted, after=after, limit=left))
            found += page.entries
            after = page.next
        return sorted(found, key=lambda entry: (entry.queued_at, entry.id))

    async def page(self, wanted: EntryFilter) -> Page:
        """The next entries; an index that is whole bounds what is looked at."""
        return await self._page(replace(wanted, limit=wanted.limit or PAGE))

    async def _page(self, wanted: EntryFilter) -> Page:
        hints = None
        if self.index is not None and not wanted.ids:
            limit = min(wanted.limit or PAGE, PAGE)
            hints = await self.index.find(wanted, limit)
        if hints is None:
            return await self._walked(wanted)
        reader = self._tree.reader
        looks = await self._tree.job(lambda: reader.hinted(hints.rows))
        await self._heal(hints.rows, looks)
        read = [look.state.entry for _, look in looks if look.state is not None]
        return Page(tuple(filter(wanted.takes, read)), hints.next)

    async def _walked(self, wanted: EntryFilter) -> Page:
        found = await self._listing.entries(wanted)
        found.sort(key=lambda entry: entry.id)
        more = wanted.limit is not None and len(found) >= wanted.limit
        return Page(tuple(found), found[-1].id if more and found else None)

    async def _heal(
        self, rows: Iterable[tuple[str, Place]], looks: Iterable[tuple[str, Look]]
    ) -> None:
        """Tell the index what lies elsewhere, or nowhere."""
        assert self.index is not None  # noqa: S101 - it gave the rows
        gone, moved = [], []
        for (name, place), (_, look) in zip(rows, looks, strict=True):
            if isinstance(look.error, Gone):
                gone.append(name)
            elif look.state is not None and self._relative(look.path) != place.path:
                moved.append(look.path)
        if gone:
            self.index.gone(gone)
        if moved:
            found = await self._tree.job(lambda: [self._part(one) for one in moved])
            for directory, row in found:
                self.index.placed(directory, [row])

    def _part(self, path: str) -> tuple[str, tuple[str, int, int]]:
        directory, name = parts(path)
        try:
            return directory, (name, *self._tree.reader.part(path))
        except OSError:
            return "", (name, 0, 0)  # it moves on just now

    # Counts

    async def ids(self, wanted: EntryFilter) -> Ids:
        """The next ids; nothing is opened when the index is whole."""
        if self.index is not None and not wanted.ids and _is_exact(wanted):
            found = await self.index.find(wanted, min(wanted.limit or _MANY, _MANY))
            if found is not None:
                return Ids(tuple(name for name, _ in found.rows), found.next)
        page = await self.page(wanted)
        return Ids(tuple(one.id for one in page.entries), page.next)

    async def tally(self, wanted: EntryFilter) -> Tally:
        """Count the next part of what the filter takes."""
        if self.index is not None and not wanted.ids and _is_exact(wanted):
            found = await self.index.tally(wanted)
            if found is not None:
                return found
        page = await self.page(replace(wanted, limit=_MANY))
        counts: Counter[Status] = Counter(one.status for one in page.entries)
        held = sum(one.held is not None for one in page.entries)
        return Tally(counts, held, page.next)

    async def shape(self, by: str, now: float, after: str) -> Shape:
        """Count the recipients that wait by site or domain, and by age."""
        if self.index is not None:
            found = await self.index.shape(by, now, after)
            if found is not None:
                return found
        page = await self.page(EntryFilter(after=after, limit=_MANY))
        rows = [row for entry in page.entries for row in site_rows(entry)]
        return Shape(shape_of(rows, by, now), page.next)

    # Made anew

    async def remake(self, *, wait: bool = False) -> bool:
        """Make the index anew, in the background or at once; whether it is whole."""
        if self.index is None:
            raise StoreError("there is no index: queue.index is false")
        await self.index.remake()
        return await self.index.remade() if wait else False


def _is_exact(wanted: EntryFilter) -> bool:
    """Whether the index knows it all: two things of one recipient it does not."""
    asked = (wanted.recipient, wanted.domain, wanted.host, wanted.category)
    return sum(one is not None for one in asked) <= 1
