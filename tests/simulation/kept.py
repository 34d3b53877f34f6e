"""Plans that once broke an invariant, as short as they got: they are lived for ever.

A failing seed prints the line to add here; a note says what was mended.
"""

from collections.abc import Sequence

from fwd_mta.simulation.plan import Plan

KEPT: Sequence[Plan] = ()
