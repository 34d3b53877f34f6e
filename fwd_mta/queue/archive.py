"""Finished mail: redacted and purged when it is time, on a lane of its own."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import Any

from twisted.internet.defer import DeferredList

from fwd_mta.interfaces import Swept
from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.queue.commit import Gone, Outcome, Script
from fwd_mta.queue.index import Index
from fwd_mta.queue.layout import PACK, pack_of, parts
from fwd_mta.queue.tree import Tree, value
from fwd_mta.rules.identity import is_entry_id
from fwd_mta.rules.retention import RetentionStep

_AT_ONCE = 64
_PURGE = RetentionStep.PURGE
_LOOKS = 3  # a pack may move on between a look and its turn


class Archive:
    """Sweeps the hours that have ended, some messages at a time."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.lane = tree.lane()
        self.stopping = False
        self.index: Index | None = None

    async def redact(self, entry_id: str) -> bool:
        """Replace the content of a finished message now; False if there is none."""
        tree = self._tree
        now, policy = tree.wall.now(), tree.retention
        for _ in range(_LOOKS):
            pack = await self._pack_of(entry_id)
            if pack is None:
                break
            wanted = frozenset({entry_id})
            sweep = partial(tree.packs.sweep, pack, now, policy, wanted)
            await self.lane.run(parts(pack)[1], sweep, value)
            if await self._is_redacted(entry_id):
                return True
        script = partial(tree.finished.redact, entry_id, now, policy)
        try:
            return bool(await self.lane.run(entry_id, script, value))
        except Gone:
            return False

    async def _pack_of(self, entry_id: str) -> str | None:
        reader = self._tree.reader
        path = await self._tree.job(lambda: reader.packed(entry_id) or "")
        return pack_of(path)

    async def unpack(self, entry_id: str) -> None:
        """See to it that a finished message is a file of its own."""
        tree = self._tree
        now, policy = tree.wall.now(), tree.retention
        for _ in range(_LOOKS):
            pack = await self._pack_of(entry_id)
            if pack is None:
                return
            script = partial(tree.packs.unpack, pack, entry_id, now, policy)
            await self.lane.run(parts(pack)[1], script, value)

    async def _is_redacted(self, entry_id: str) -> bool:
        reader = self._tree.reader
        try:
            state = await self._tree.job(
                lambda: reader.located(entry_id, "", reader.state)
            )
        except Gone:
            return True  # it was due to go altogether
        return state.entry.redacted_at is not None

    async def sweep(self, now: float) -> Swept:
        """Do what is due in every hour that has ended, the earliest first."""
        tree = self._tree
        done: Counter[RetentionStep] = Counter()
        digest = sha256()
        terms = await self._new_terms()
        until = now if terms is None else None
        for hour in await tree.job(lambda: tree.reader.hours(until)):
            names = tree.disk.scan(hour)
            while not self.stopping and (some := await self._some(names)):
                swept = await self._sweep(hour, some, now)
                if self.index is not None:
                    over = [name for name, step in swept if step is _PURGE]
                    self.index.gone(over)
                for name, step in swept:
                    done[step] += 1
                    digest.update(f"{step} {name}\n".encode())
            await self.lane.run(hour, partial(tree.operations.tidy, hour), _quietly)
        if terms is not None and not self.stopping:
            script = partial(tree.finished.write_terms, terms)
            await self.lane.run(tree.layout.terms, script, value)
        return Swept(
            done[RetentionStep.REDACT], done[RetentionStep.PURGE], digest.hexdigest()
        )

    async def _new_terms(self) -> bytes | None:
        """The policy in words, if what is filed was filed by another one."""
        tree, policy = self._tree, self._tree.retention
        terms = b"content %d\nrecord %d\n" % (policy.content, policy.record)
        if policy.terms:
            terms += b"terms %s\n" % sha256(policy.words.encode()).hexdigest().encode()
        known = await tree.job(tree.finished.read_terms)
        return None if known == terms else terms

    async def mend(self, path: str) -> str:
        """File a message where it belongs, or set it aside; what was done, in words."""
        tree = self._tree
        name = parts(path)[1]
        if name.endswith(PACK):
            return await self._mend_pack(path)
        try:
            state = await tree.job(lambda: tree.reader.state(path))
            await tree.job(lambda: tree.reader.content(path, 0))
        except (Corrupt, StoreError) as error:
            await tree.set_aside(path, error, self.lane)
            return "set aside"
        home = tree.layout.home(state.entry, tree.wall.now(), tree.retention)
        script = partial(tree.operations.file_at, path, home)
        await self.lane.run(name, script, value)
        return f"filed in {home.removeprefix(f'{tree.layout.root}/')}"

    async def _mend_pack(self, path: str) -> str:
        """Sweep a pack and set its damaged messages aside, or all of it."""
        tree, now = self._tree, self._tree.wall.now()
        try:
            await tree.job(lambda: tree.reader.members(path))
        except (Corrupt, StoreError) as error:
            await tree.set_aside(path, error, self.lane)
            return "set aside"
        sweep = partial(tree.packs.sweep, path, now, tree.retention, verify=True)
        await self.lane.run(parts(path)[1], sweep, value)
        return "damaged messages of it set aside" if self._say_damaged() else "swept"

    def _say_damaged(self) -> int:
        """Report what was found damaged in packs; how much it is."""
        found, self._tree.packs.damaged = self._tree.packs.damaged, []
        for member, damage in found:
            place = f"{self._tree.layout.corrupt}/{parts(member)[1]}"
            self._tree.say(member, damage, f"look at {place}")
        return len(found)

    async def _some(self, names: Iterator[str]) -> list[str]:
        return await self._tree.job(lambda: list(islice(names, _AT_ONCE)))

    async def _sweep(
        self, hour: str, names: list[str], now: float
    ) -> list[tuple[str, RetentionStep]]:
        """Sweep some; what goes wrong with one is reported and stops no other."""
        paths = [f"{hour}/{name}" for name in names]
        jobs = [
            self.lane.run(
                parts(path)[1],
                partial(self._script, path, now),
                lambda outcome: outcome,
            )
            for path in paths
        ]
        steps: list[tuple[str, RetentionStep]] = []
        for path, (_, outcome) in zip(paths, await DeferredList(jobs), strict=True):
            if outcome.error is not None:
                await self._failed(path, outcome.error)
            elif isinstance(outcome.value, list):
                steps += outcome.value
            elif outcome.value is not None:
                steps.append((parts(path)[1], outcome.value))
        self._say_damaged()
        return steps

    def _script(self, path: str, now: float) -> Script[Any]:
        tree = self._tree
        if path.endswith(PACK):
            return tree.packs.sweep(path, now, tree.retention)
        return tree.finished.sweep(path, now, tree.retention)

    async def _failed(self, path: str, error: Exception) -> None:
        ours = is_entry_id(parts(path)[1]) or path.endswith(PACK)
        if isinstance(error, Corrupt) or not ours:
            await self._tree.set_aside(path, error, self.lane)
        else:
            self._tree.say(path, f"cannot be swept: {error}", "it is tried again")


def _quietly(outcome: Outcome) -> object:
    """A directory that cannot be removed now is tried with the next sweep."""
    return outcome.value
