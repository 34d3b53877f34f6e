"""Long lists: every page is right, and names are looked at seldom."""

from collections.abc import Iterator
from itertools import chain

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.queue import listing
from tests.queue.test_files import FileStoreCase


class ListingTests(FileStoreCase, SynchronousTestCase):
    """`FileStore.entries`, page by page."""

    @override
    def setUp(self) -> None:
        self.prepare()
        self.scans = 0
        really = self.disk.scan

        def counted(path: str) -> Iterator[str]:
            self.scans += path.endswith("/incoming")
            return really(path)

        self.patch(self.disk, "scan", counted)

    def waiting(self, count: int) -> list[str]:
        """The ids of so many messages that wait, oldest first."""
        ids = []
        for number in range(count):
            ids.append(self.record_new(self.now + 600 + 90 * number).id)
            self.clock.advance(1)
        return ids

    def pages(self, length: int) -> list[list[str]]:
        """All that is listed, a page of ids after the other."""
        pages = []
        after = ""
        while page := self.listed(limit=length, after=after):
            pages.append([one.id for one in page])
            after = pages[-1][-1]
        return pages

    def test_a_long_list(self) -> None:
        """Its pages hold all, in order, once; names are read for many pages at once."""
        self.patch(listing, "NAMES_AT_ONCE", 10)
        ids = self.waiting(25)
        self.assertEqual(list(chain(*self.pages(2))), ids)
        self.assertEqual(self.scans, 4)  # three times ten names, and nothing more

    def test_a_list_that_begins_anew(self) -> None:
        """It knows what came, and what went, since the last one."""
        ids = self.waiting(6)
        self.pages(2)
        self.change(self.listed(limit=1)[0], lambda one: one, "nothing")
        newest = self.add().id
        self.assertEqual(list(chain(*self.pages(3))), [*ids, newest])

    def test_what_moves_meanwhile(self) -> None:
        """What is filed elsewhere between two pages is on the next all the same."""
        ids = self.waiting(4)
        self.listed(limit=2)
        (third,) = self.listed(ids=(ids[2],))
        self.change(third, lambda one: one, "nothing")
        self.clock.advance(600)
        self.assertEqual(len(self.get(self.store.claim(self.now, 10))), 1)
        self.assertEqual(
            [one.id for one in self.listed(limit=2, after=ids[1])], ids[2:]
        )

    def test_names_that_come_while_it_goes_on(self) -> None:
        """New mail is listed at the end."""
        self.patch(listing, "NAMES_AT_ONCE", 3)
        ids = self.waiting(5)
        first = [one.id for one in self.listed(limit=2)]
        newest = self.add().id
        rest = [one.id for one in self.listed(limit=9, after=first[-1])]
        self.assertEqual(first + rest, [*ids, newest])
