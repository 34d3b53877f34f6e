"""Many operations at once: scripts run side by side to their next sync, then on.

An operation on the disk is a script: a generator that makes its calls and yields the
files and directories it wants synced before it goes on. `run_together` runs many as
one job; `Lane` gives it all that wait, one job at a time.
"""

import errno
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from fwd_mta.interfaces import Disk, DiskFile, Worker
from fwd_mta.mail.errors import NoSpace, StoreError
from fwd_mta.mail.noun import noun

T = TypeVar("T")
_AT_ONCE = 128  # each may hold a descriptor until the sync
Wanted = DiskFile | str
Script = Generator[tuple[Wanted, ...], None, T]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Gone(StoreError):
    """A message is not in the queue, wherever one looks."""

    def __init__(self, entry_id: str) -> None:
        super().__init__(f"message {entry_id} is not in the queue")


def store_error(error: Exception) -> Exception:
    """What went wrong, as the callers of a store know it."""
    if isinstance(error, OSError):
        kind = NoSpace if error.errno in _FULL else StoreError
        return kind(f"the disk says: {error}")
    return error


@noun
class Outcome:
    """How one script ended: with a value, or with an error."""

    value: Any
    error: Exception | None = None


class _Run:
    """One script on its way."""

    __slots__ = ("outcome", "script", "wanted")

    def __init__(self, script: Script[Any]) -> None:
        self.script = script
        self.wanted: tuple[Wanted, ...] = ()
        self.outcome: Outcome | None = None

    def advance(self, error: OSError | None) -> bool:
        """Go on to the next sync; False at the end."""
        try:
            if error is None:
                self.wanted = self.script.send(None)
            else:
                self.wanted = self.script.throw(error)
        except StopIteration as end:
            self.outcome = Outcome(end.value)
        except Exception as failed:  # noqa: BLE001 - it ends this script alone
            self.outcome = Outcome(None, store_error(failed))
        return self.outcome is None


def run_together(disk: Disk, scripts: Sequence[Script[Any]]) -> list[Outcome]:
    """Run scripts in step; what several want synced is synced once a step."""
    runs = [_Run(script) for script in scripts]
    live = [run for run in runs if run.advance(None)]
    while live:
        errors = _sync(disk, live)
        live = [run for run in live if run.advance(_first(errors, run.wanted))]
    return [run.outcome or Outcome(None) for run in runs]


def _sync(disk: Disk, runs: Sequence[_Run]) -> dict[Wanted, OSError]:
    """Sync all that is wanted, files first; gives what failed."""
    wanted = dict.fromkeys(one for run in runs for one in run.wanted)
    errors = disk.sync_all(sorted(wanted, key=lambda one: isinstance(one, str)))
    return {
        one: error
        for one, error in errors.items()
        # A directory that went when its last name had left it needs no sync.
        if not isinstance(error, FileNotFoundError)
    }


def _first(errors: dict[Wanted, OSError], wanted: tuple[Wanted, ...]) -> OSError | None:
    if not errors:
        return None
    return next((errors[one] for one in wanted if one in errors), None)


@dataclass(slots=True)
class _Work:
    key: str
    script: Callable[[], Script[Any]]
    finished: Callable[[Outcome], Any]
    done: Deferred[Any]


class Lane:
    """One job after the other on a worker, each with all that waits by then.

    Two scripts with the same key never share a batch, so one sees what the other did.
    """

    def __init__(
        self,
        worker: Worker,
        disk: Disk,
        after: Callable[[], None],
        short: Callable[[], None] = lambda: None,
    ) -> None:
        self._worker = worker
        self._disk = disk
        self._after = after
        self._short = short
        self._waiting: deque[_Work] = deque()
        self._running = False
        self._idle: list[Deferred[None]] = []

    def run(
        self,
        key: str,
        script: Callable[[], Script[Any]],
        finished: Callable[[Outcome], Any],
    ) -> Deferred[Any]:
        """Have a script run; `finished` turns its outcome into what is given, at once.

        It is called on the reactor thread even when nobody waits any more; what it
        raises is what the Deferred fails with.
        """
        done: Deferred[Any] = Deferred()
        self._waiting.append(_Work(key, script, finished, done))
        self._next()
        return done

    def idle(self) -> Deferred[None]:
        """Fires when nothing runs and nothing waits."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._next()
        return idle

    def _next(self) -> None:
        if self._running:
            return
        if not self._waiting:
            idle, self._idle = self._idle, []
            for one in idle:
                one.callback(None)
            return
        self._running = True
        batch = self._take()
        disk, scripts = self._disk, [_begun(work.script) for work in batch]
        job = self._worker.run(lambda: run_together(disk, scripts))
        seen_to(job.addCallbacks(self._ended, self._broke, (batch,), {}, (batch,)))

    def _take(self) -> list[_Work]:
        batch: dict[str, _Work] = {}
        rest: deque[_Work] = deque()
        for work in self._waiting:
            if work.key in batch or len(batch) >= _AT_ONCE:
                rest.append(work)
            else:
                batch[work.key] = work
        self._waiting = rest
        return list(batch.values())

    def _ended(self, outcomes: list[Outcome], batch: list[_Work]) -> None:
        self._running = False
        answers = [
            (work.done, _answer(work, outcome))
            for work, outcome in zip(batch, outcomes, strict=True)
        ]
        if any(isinstance(outcome.error, NoSpace) for outcome in outcomes):
            self._short()
        self._next()
        for done, answer in answers:
            done.callback(answer)
        self._after()

    def _broke(self, failure: Failure, batch: list[_Work]) -> None:
        """The worker itself failed: nobody knows what was done."""
        self._running = False
        for work in batch:
            work.done.errback(failure)
        self._next()


def seen_to(deferred: Deferred[Any]) -> None:
    """Nobody waits for it: its callbacks have seen to its end."""


def _begun(start: Callable[[], Script[T]]) -> Script[T]:
    """A script that is made, as it runs, on the worker's thread."""
    return (yield from start())


def _answer(work: _Work, outcome: Outcome) -> Any:
    try:
        return work.finished(outcome)
    except Exception:  # noqa: BLE001 - it belongs to whoever waits
        return Failure()
