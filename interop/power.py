"""Scenarios of power cuts: the state lies on an ext4 of its own, and that is cut.

Each life has another boot id, as after a real cut. The negative control is the same
cut under eatmydata, which makes every sync a lie: it has to lose mail that got a 250,
or this would prove nothing.
"""

import os
import random
import time
import uuid
from contextlib import suppress

from interop.kit import Failed, Workbench, expect, wait_for
from interop.messages import message_id, plain
from interop.promises import (
    INBOX,
    Submitters,
    all_arrived,
    all_marked,
    missing,
    nothing_is_damaged,
    relayhost,
)
from interop.server import Server
from interop.sink import Sink
from interop.volume import Volume

_CUTS = int(os.environ.get("INTEROP_CUTS", "3"))
_FEW = 40
_MIB = 256
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_SMALL_RESERVE = {
    "queue": 'minimum_free_space = "10MB"',
    "submission": 'message_size_limit = "1MB"',
}


class _Machine:
    """A server on a volume of its own, which loses power and boots again."""

    def __init__(
        self, bench: Workbench, sink: Sink, prefix: tuple[str, ...] = ()
    ) -> None:
        self._boot = bench.folder / "boot_id"
        self._new_boot()
        # In a mount namespace of its own it sees the boot id that it is given.
        given = f'mount --bind {self._boot} {_BOOT_ID} && exec "$@"'
        seen = ("unshare", "--mount", "sh", "-c", given, "sh")
        tables = relayhost(sink.port) | _SMALL_RESERVE
        made = Server(bench, tables, prefix=(*seen, *prefix))
        self._volume = bench.keep(Volume(bench, made.folder / "state", _MIB))
        self.server = bench.keep(made)

    def _new_boot(self) -> None:
        self._boot.write_text(f"{uuid.uuid4()}\n", encoding="ascii")

    def lose_power(self) -> None:
        """Cut the power and end what ran."""
        self._volume.cut()
        self.server.kill()
        self._volume.come_back()
        self._new_boot()


def cuts(bench: Workbench) -> None:
    """A power cut at any moment loses nothing that got a 250 (INTEROP_CUTS times)."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    sink = bench.keep(Sink())
    sink.dot_delay = lambda: 0.02
    machine = _Machine(bench, sink)
    server = machine.server
    submitters = Submitters(server, "cut")
    for _ in range(_CUTS):
        submitters.wait_for_more(_FEW)
        time.sleep(chance.uniform(0, 0.5))
        machine.lose_power()
        server.start()
    submitters.finish()
    seen = all_arrived(server, sink, submitters.promised)
    twice = all_marked(server, sink, seen)
    nothing_is_damaged(server)
    print(
        f"     {_CUTS} power cuts (seed {seed}): {len(submitters.promised)} promised, "
        f"{len(seen)} arrived, 0 damaged, {twice} duplicates, all marked"
    )


def control(bench: Workbench) -> None:
    """The same cut under eatmydata loses mail that got a 250: the test can fail."""
    kept = _one_cut(bench, ())
    expect(not kept, f"without eatmydata {kept} were lost")
    other = bench.beside("eatmydata")
    lost = _one_cut(other, ("eatmydata",))
    expect(lost, "under eatmydata nothing was lost: the cut cuts nothing")
    print(f"     of {_FEW} promised 0 were lost, under eatmydata {lost}")


def _one_cut(bench: Workbench, prefix: tuple[str, ...]) -> int:
    """Accept some mail that nobody takes yet, cut the power; how much was lost."""
    sink = bench.keep(Sink())
    sink.gate.clear()
    machine = _Machine(bench, sink, prefix)
    promised = {}
    for number in range(_FEW):
        content = plain(INBOX, f"control-{number}")
        machine.server.submit(content, INBOX)
        promised[message_id(f"control-{number}")] = content
    machine.lose_power()
    sink.gate.set()
    with suppress(Failed):  # a tree without syncs may be anything
        machine.server.start()
        with suppress(Failed):
            wait_for("all arrives", lambda: _all(machine.server, sink, promised), 20, 1)
    return len(missing(sink, promised))


def _all(server: Server, sink: Sink, promised: dict[str, bytes]) -> bool:
    server.fwdmta("queue", "retry", "--all", allowed=1)
    return not missing(sink, promised)
