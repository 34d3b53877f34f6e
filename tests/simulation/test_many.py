"""Many seeds, each examined once, and the plans that once failed."""

import io
from contextlib import redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.simulation import many, plan
from fwd_mta.simulation.drawing import draw
from fwd_mta.simulation.plan import source
from fwd_mta.simulation.simulation import run
from tests.simulation.kept import KEPT
from tests.simulation.planted import PLANTS, planted


class ManyTests(SynchronousTestCase):
    """`make simulate`."""

    def lived(self, *arguments: str) -> tuple[int, list[str]]:
        """Its exit status, and what it prints."""
        said = io.StringIO()
        with redirect_stdout(said):
            status = many.main([*arguments, "--jobs", "1"])
        return status, said.getvalue().splitlines()

    def test_it_counts(self) -> None:
        """It says which seeds it lives, what CPU they took, and how many passed."""
        status, lines = self.lived("--first", "3", "--seeds", "2")
        self.assertEqual(status, 0)
        self.assertEqual(lines[0], "seeds 3 to 4; again: --first 3 --seeds 2")
        self.assertTrue(lines[-2].startswith("CPU "), lines)
        self.assertEqual(lines[-1], "2 passed, 0 failed")

    def test_new_ones(self) -> None:
        """New seeds are none of the fixed ones, the same all day; the first is told."""
        _, lines = self.lived("--new", "--seeds", "1")
        self.assertEqual(int(lines[0].split()[1]) % 10_000, 0)
        self.assertTrue(int(lines[0].split()[1]) > 1_000_000, lines[0])

    def test_a_failure_can_be_kept(self) -> None:
        """A failing seed prints its shortest plan as the Python that makes it again."""
        name, plant = PLANTS[0]
        with planted(plant):
            _, words = many.examine(plant.seed)
        lines = words.splitlines()
        self.assertTrue(lines[0].startswith(f"seed {plant.seed} breaks: "), name)
        self.assertIn("To keep it, add this plan to tests/simulation/kept.py:", lines)
        self.assertIn("Plan(seed=", lines[-1])


class KeptTests(SynchronousTestCase):
    """What once failed."""

    def test_kept_plans_are_sound(self) -> None:
        """No plan that once broke an invariant breaks one."""
        broken = [(one.seed, run(one).broken) for one in KEPT if run(one).broken]
        self.assertEqual(broken, [])

    def test_plans_can_be_written_down(self) -> None:
        """What is printed is the whole plan, as Python that makes it again."""
        for seed in range(40):
            again = eval(source(draw(seed)), vars(plan))  # noqa: S307 - our own words
            self.assertEqual(again, draw(seed))
