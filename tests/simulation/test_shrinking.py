"""What a failure does not need is dropped."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.simulation.drawing import draw
from fwd_mta.simulation.plan import Habit, Jump, Plan
from fwd_mta.simulation.shrinking import shrink

PLAN = replace(
    draw(2),
    submissions=draw(1).submissions * 2,
    faults=(Jump(1, 2), *[Habit(at, 1, "busy") for at in range(9)], Jump(3, 4)),
)


class ShrinkTests(SynchronousTestCase):
    """Shrinking a plan."""

    def test_down_to_what_matters(self) -> None:
        """Two faults matter: they stay, and nothing else does."""

        def fails(plan: Plan) -> bool:
            return {Jump(1, 2), Jump(3, 4)} <= set(plan.faults)

        small = shrink(PLAN, fails)
        self.assertEqual(small.faults, (Jump(1, 2), Jump(3, 4)))
        self.assertEqual(small.submissions, ())
        self.assertTrue(fails(small))

    def test_one_message_with_one_recipient(self) -> None:
        """A failure that needs a message keeps one, with one recipient."""
        small = shrink(PLAN, lambda plan: bool(plan.submissions))
        self.assertEqual(len(small.submissions), 1)
        self.assertEqual(len(small.submissions[0].recipients), 1)
        self.assertEqual(small.faults, ())

    def test_nothing_smaller_fails(self) -> None:
        """What needs all of it stays as it is."""
        self.assertEqual(shrink(PLAN, lambda plan: False), PLAN)

    def test_tries_are_bounded(self) -> None:
        """It gives up in time."""
        tried: list[Plan] = []

        def fails(plan: Plan) -> bool:
            tried.append(plan)
            return True

        shrink(PLAN, fails, tries=3)
        self.assertEqual(len(tried), 3)

    def test_it_prints(self) -> None:
        """A plan is told in order of time, its settings first."""
        lines = PLAN.lines()
        self.assertTrue(lines[0].startswith("seed 2: lifetime"), lines[0])
        self.assertEqual(len(lines), 1 + len(PLAN.submissions) + len(PLAN.faults))
