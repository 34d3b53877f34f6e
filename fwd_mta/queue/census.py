"""How many messages wait, by place: counted by names, some at a time.

Between two slices the worker serves others, so that a count of a million names never
makes a message wait for longer than one slice.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from fwd_mta.interfaces import Census
from fwd_mta.queue.tree import Tree
from fwd_mta.rules.identity import is_entry_id, made_at

_SLICE = 1024


async def census(tree: Tree) -> Census:
    """Count what waits in a tree."""
    names = _names(tree)
    counts: Counter[str] = Counter()
    oldest: str | None = None
    while some := await tree.job(lambda: list(islice(names, _SLICE))):
        counts.update(place for place, _ in some)
        first = min(name for _, name in some)
        oldest = first if oldest is None else min(oldest, first)
    return Census(
        counts["incoming"],
        counts["deferred"],
        counts["held"],
        None if oldest is None else made_at(oldest),
    )


def _names(tree: Tree) -> Iterator[tuple[str, str]]:
    """The place and id of each message that waits; ids begin with the time."""
    layout = tree.layout
    places = [("incoming", layout.incoming), ("held", layout.hold)]
    places += [("deferred", minute) for minute in tree.reader.minutes()]
    for place, directory in places:
        for name in tree.disk.scan(directory):
            if is_entry_id(name):
                yield place, name
    young = list(tree.journal.mails.values())
    yield from (("incoming", mail.id) for mail in young if mail.due is None)
