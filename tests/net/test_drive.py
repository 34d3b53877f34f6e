"""A coroutine driven to its end."""

from collections.abc import Awaitable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.net.drive import drive


class DriveTests(SynchronousTestCase):
    """`drive`."""

    @override
    def setUp(self) -> None:
        """Nothing has come yet."""
        self.done: list[object] = []
        self.failed: list[Failure] = []

    def drive(self, *awaited: Awaitable[object]) -> None:
        """Drive a coroutine that awaits these, and gives a list of what they gave."""

        async def work() -> list[object]:
            return [await one for one in awaited]

        drive(work(), self.done.append, self.failed.append)

    def test_at_once(self) -> None:
        """What need not wait is over when the call returns."""
        self.drive(succeed(1), succeed(2))
        self.assertEqual(self.done, [[1, 2]])

    def test_later(self) -> None:
        """It goes on when what it waits for has come, and only then."""
        first, second = Deferred[object](), Deferred[object]()
        self.drive(first, second)
        second.callback(2)
        self.assertEqual(self.done, [])
        first.callback(1)
        self.assertEqual(self.done, [[1, 2]])

    def test_failure(self) -> None:
        """A failure is raised where it is awaited; unless caught, it is told."""
        waited = Deferred[object]()
        self.drive(waited)
        waited.errback(ValueError("no"))
        self.drive(fail(KeyError("gone")))
        kinds = [failure.type for failure in self.failed]
        self.assertEqual(kinds, [ValueError, KeyError])
        self.assertEqual(self.done, [])

    def test_caught(self) -> None:
        """The coroutine may go on after a failure."""

        async def work() -> str:
            try:
                await fail(ValueError("no"))
            except ValueError as error:
                return str(error)
            return ""

        drive(work(), self.done.append, self.failed.append)
        self.assertEqual(self.done, ["no"])

    def test_many(self) -> None:
        """Ten thousand waits that are none need no deeper stack."""
        self.drive(*[succeed(None) for _ in range(10_000)])
        self.assertEqual(len(self.done), 1)

    def test_end_that_raises(self) -> None:
        """What `done` raises is told, and disturbs nobody who fires a Deferred."""

        async def work() -> object:
            return await waited

        def refuse(result: object) -> None:
            raise RuntimeError(result)

        waited = Deferred[object]()
        drive(work(), refuse, self.failed.append)
        waited.callback("x")
        self.assertEqual(self.failed[0].getErrorMessage(), "x")
