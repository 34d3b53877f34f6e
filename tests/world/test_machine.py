"""Twins of clock, chance and threads."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.world.machine import InlineWorker, SeededEntropy, VirtualWall


class VirtualWallTests(SynchronousTestCase):
    """The wall clock of a virtual machine."""

    def test_follows(self) -> None:
        """It goes with the reactor's clock, from its own start."""
        clock = Clock()
        clock.advance(50)
        wall = VirtualWall(clock, start=1000.0)
        self.assertEqual(wall.now(), 1000.0)
        clock.advance(2.5)
        self.assertEqual(wall.now(), 1002.5)

    def test_jumps(self) -> None:
        """It can be set, forward and back, and no timer notices."""
        clock = Clock()
        fired: list[int] = []
        clock.callLater(10, fired.append, 1)
        wall = VirtualWall(clock, start=1000.0)
        wall.jump(86_400)
        self.assertEqual(wall.now(), 87_400.0)
        wall.jump(-90_000)
        self.assertEqual(wall.now(), -2600.0)
        self.assertEqual(fired, [])


class SeededEntropyTests(SynchronousTestCase):
    """Chance from a seed."""

    def test_same_seed(self) -> None:
        """The same seed gives the same numbers and octets, another one others."""

        def history(seed: int) -> tuple[float, bytes]:
            entropy = SeededEntropy(seed)
            return entropy.random(), entropy.octets(16)

        self.assertEqual(history(7), history(7))
        self.assertNotEqual(history(7), history(8))

    def test_range(self) -> None:
        """Numbers lie in [0, 1), octets are as many as asked for."""
        entropy = SeededEntropy()
        self.assertTrue(all(0 <= entropy.random() < 1 for _ in range(1000)))
        self.assertEqual([len(entropy.octets(n)) for n in (0, 1, 8)], [0, 1, 8])


class InlineWorkerTests(SynchronousTestCase):
    """A worker without threads."""

    def test_result(self) -> None:
        """The job has run when `run` returns."""
        self.assertEqual(self.successResultOf(InlineWorker().run(lambda: 42)), 42)

    def test_failure(self) -> None:
        """What a job raises fails its Deferred."""
        failing = InlineWorker().run(lambda: 1 // 0)
        self.failureResultOf(failing, ZeroDivisionError)
