"""Must-show: faults planted into the server are found."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.simulation.plan import draw
from fwd_mta.simulation.simulation import run
from tests.simulation.planted import PLANTS, Plant, planted

MORE = 10


class PlantedTests(SynchronousTestCase):
    """The simulation would notice; `planted.py` looks for the first seeds anew."""

    def test_each_is_found(self) -> None:
        """Each fault breaks an invariant, at or soon after the seed that once did."""
        missed = [name for name, plant in PLANTS if not self.is_found(plant)]
        self.assertEqual(missed, [])

    def is_found(self, plant: Plant) -> bool:
        """Whether one of the seeds breaks an invariant."""
        with planted(plant):
            return any(
                run(draw(seed)).broken is not None
                for seed in range(plant.seed, plant.seed + MORE)
            )

    def test_the_fault_goes_again(self) -> None:
        """What was planted is taken out, and the same seed is sound."""
        for name, plant in PLANTS[:1]:
            before = vars(plant.where)[plant.name]
            with planted(plant):
                self.assertIsNot(vars(plant.where)[plant.name], before, name)
            self.assertIs(vars(plant.where)[plant.name], before, name)
            self.assertIsNone(run(draw(plant.seed)).broken)
