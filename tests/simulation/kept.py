"""Plans that once broke an invariant, as short as they got: they are lived for ever.

A failing seed prints the line to add here; a note says what was mended.
"""

import errno
from collections.abc import Sequence

from fwd_mta.simulation.plan import (
    DAY,
    HOUR,
    BadDisk,
    Death,
    Habit,
    Jump,
    Names,
    Operator,
    Plan,
    Submission,
)
from fwd_mta.world.disk import Crash

KEPT: Sequence[Plan] = (
    # Released when its lifetime was over: the one try it has may take its time.
    Plan(
        1720,
        (Submission(59.404, 5, (("r859+later@d0.example.net", ""),), 0),),
        (
            Habit(234.6, 0, "endless"),
            Operator(4406.531, "hold", 3),
            Death(172794.37, 5, Crash.KEPT, 1.0, "sync"),
        ),
    ),
    # A host whose power-cut caller never hung up went on with its reply for ever.
    Plan(
        576,
        (Submission(50282.619, 9, (("r31+spam@d2.example.net", "FAILURE"),), 0),),
        (
            Habit(46851.414, 2, "endless"),
            Death(49663.264, 23, Crash.TORN, 1.0),
        ),
        lifetime=2 * DAY,
        minimal=HOUR,
        maximal=12 * HOUR,
    ),
    # A power cut takes back what was only written in the last second: tried again.
    Plan(
        55,
        (Submission(25433.583, 0, (("r325+spam@d3.example.net", "NEVER"),), 0),),
        (
            Death(11849.417, 8, Crash.LOST, 0.0),
            Names(14499.438, 3, "nothing"),
        ),
        lifetime=2 * DAY,
        warning=0.0,
    ),
    # A spill that the disk refused to move lost its mail with the journal's segment.
    Plan(
        1092,
        (Submission(31302.426, 2, (("r393+rate@d1.example.net", "DELAY"),), 0),),
        (BadDisk(31014.87, errno.EIO, ("rename",), 600.0),),
        lifetime=2 * DAY,
        minimal=DAY,
        maximal=DAY,
    ),
    # On hold for longer than its lifetime: due when it is released, for one try.
    Plan(
        1720,
        (Submission(59.404, 5, (("r859+later@d0.example.net", ""),), 0),),
        (
            Habit(234.6, 0, "endless"),
            Operator(4406.531, "hold", 3),
            Death(172794.37, 5, Crash.KEPT, 1.0, "sync"),
        ),
        lifetime=2 * DAY,
        minimal=DAY,
        maximal=DAY,
        warning=0.0,
    ),
    # A clock set on by days purged what was older by then; retention has to allow it.
    Plan(
        27,
        (
            Submission(31.267, 10, (("r95+slow@d4.example.net", "SUCCESS,FAILURE"),)),
            Submission(42981.711, 11, (("r965+later@d3.example.net", ""),)),
        ),
        (Jump(6137.267, 3 * DAY),),
    ),
)
