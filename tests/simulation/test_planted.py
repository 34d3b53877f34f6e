"""Must-show: faults planted into the server are found, and told on a page."""

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.simulation.drawing import draw
from fwd_mta.simulation.many import page
from fwd_mta.simulation.simulation import run
from tests.simulation.planted import PLANTS, SEEDS, planted

PAGE = 60  # lines


class PlantedTests(SynchronousTestCase):
    """The simulation would notice; `planted.py` looks for the first seeds anew."""

    def test_each_is_found(self) -> None:
        """Each fault breaks an invariant at a seed of the first thousand."""
        self.assertGreaterEqual(len(PLANTS), 13)
        for name, plant in PLANTS:
            self.assertLess(plant.seed, SEEDS, name)
            with planted(plant):
                self.assertIsNotNone(run(draw(plant.seed)).broken, name)

    def test_each_fits_on_a_page(self) -> None:
        """Its shortest plan breaks an invariant, and what happened is short to read."""
        for name, plant in PLANTS:
            with planted(plant):
                report = run(plant.plan)
            lines = list(page(report))
            print(f"\n== {name}", *lines, sep="\n")  # noqa: T201 - to be seen
            self.assertIsNotNone(report.broken, name)
            self.assertLessEqual(len(lines), PAGE, name)

    def test_without_the_fault(self) -> None:
        """The same plans are sound when the fault is taken out again."""
        for name, plant in PLANTS:
            self.assertIsNone(run(plant.plan).broken, name)

    def test_the_fault_goes_again(self) -> None:
        """What was planted is taken out."""
        for name, plant in PLANTS:
            before = vars(plant.where)[plant.name]
            with planted(plant):
                self.assertIsNot(vars(plant.where)[plant.name], before, name)
            self.assertIs(vars(plant.where)[plant.name], before, name)
