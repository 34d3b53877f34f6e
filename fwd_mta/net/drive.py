"""A coroutine that runs to its end, where nobody waits for it as a Deferred.

It does for a hot path what `Deferred.fromCoroutine` does, without a Deferred, a context
and a way to cancel it.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def drive(
    work: Coroutine[Deferred[Any], Any, T],
    done: Callable[[T], None],
    failed: Callable[[Failure], None],
) -> None:
    """Run a coroutine until it waits, and on when that has come, and so to its end.

    Then one of the two is called, `failed` also when `done` raises. It may all be over
    when this returns.
    """
    _Driver(work, done, failed).go(None)


class _Driver:
    """One coroutine on its way; what it awaits must be a Deferred."""

    __slots__ = ("_came", "_done", "_failed", "_is_going", "_work")

    def __init__(
        self,
        work: Coroutine[Deferred[Any], Any, Any],
        done: Callable[[Any], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._work = work
        self._done = done
        self._failed = failed
        self._is_going = False
        self._came: list[Any] = []

    def go(self, result: Any) -> None:
        """Go on with what came; a loop, however often nothing has to be waited for."""
        self._came.append(result)
        if self._is_going:
            return
        self._is_going = True
        try:
            while self._came:
                _ = self._step(self._came.pop()).addBoth(self.go)
        except StopIteration as end:
            self._end(end.value)
        except Exception:  # noqa: BLE001 - it is told, not raised
            self._failed(Failure())
        finally:
            self._is_going = False

    def _step(self, result: Any) -> Deferred[Any]:
        if isinstance(result, Failure):
            return self._work.throw(result.value)  # type: ignore[arg-type]
        return self._work.send(result)

    def _end(self, value: Any) -> None:
        try:
            self._done(value)
        except Exception:  # noqa: BLE001 - as above
            self._failed(Failure())
