"""Finished mail: redacted and purged when it is time, on a lane of its own."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from itertools import islice

from twisted.internet.defer import DeferredList

from fwd_mta.interfaces import Swept
from fwd_mta.mail.errors import Corrupt
from fwd_mta.queue.commit import Gone, Outcome
from fwd_mta.queue.layout import parts
from fwd_mta.queue.tree import Tree, value
from fwd_mta.rules.identity import is_entry_id
from fwd_mta.rules.retention import RetentionStep

_AT_ONCE = 64


class Archive:
    """Sweeps the hours that have ended, some messages at a time."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.lane = tree.lane()
        self.stopping = False

    async def redact(self, entry_id: str) -> bool:
        """Replace the content of a finished message now; False if there is none."""
        tree = self._tree
        script = partial(
            tree.finished.redact, entry_id, tree.wall.now(), tree.retention
        )
        try:
            return bool(await self.lane.run(entry_id, script, value))
        except Gone:
            return False

    async def sweep(self, now: float) -> Swept:
        """Do what is due in every hour that has ended, the earliest first."""
        tree = self._tree
        done: Counter[RetentionStep] = Counter()
        digest = sha256()
        for hour in await tree.job(lambda: tree.reader.hours(now)):
            names = tree.disk.scan(hour)
            while not self.stopping and (some := await self._some(names)):
                for name, step in await self._sweep(hour, some, now):
                    done[step] += 1
                    digest.update(f"{step} {name}\n".encode())
            await self.lane.run(hour, partial(tree.operations.tidy, hour), _quietly)
        return Swept(
            done[RetentionStep.REDACT], done[RetentionStep.PURGE], digest.hexdigest()
        )

    async def _some(self, names: Iterator[str]) -> list[str]:
        return await self._tree.job(lambda: list(islice(names, _AT_ONCE)))

    async def _sweep(
        self, hour: str, names: list[str], now: float
    ) -> list[tuple[str, RetentionStep]]:
        """Sweep some; what goes wrong with one is reported and stops no other."""
        tree = self._tree
        paths = [f"{hour}/{name}" for name in names]
        jobs = [
            self.lane.run(
                parts(path)[1],
                partial(tree.finished.sweep, path, now, tree.retention),
                lambda outcome: outcome,
            )
            for path in paths
        ]
        steps: list[tuple[str, RetentionStep]] = []
        for path, (_, outcome) in zip(paths, await DeferredList(jobs), strict=True):
            if outcome.error is not None:
                await self._failed(path, outcome.error)
            elif outcome.value is not None:
                steps.append((parts(path)[1], outcome.value))
        return steps

    async def _failed(self, path: str, error: Exception) -> None:
        if isinstance(error, Corrupt) or not is_entry_id(parts(path)[1]):
            await self._tree.set_aside(path, error, self.lane)
        else:
            self._tree.say(path, f"cannot be swept: {error}", "it is tried again")


def _quietly(outcome: Outcome) -> object:
    """A directory that cannot be removed now is tried with the next sweep."""
    return outcome.value
