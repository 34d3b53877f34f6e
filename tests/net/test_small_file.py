"""Small files, replaced whole."""

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.net.small_file import read_whole, replace_whole
from fwd_mta.world.disk import Crash, MemoryDisk
from fwd_mta.world.machine import SeededEntropy

PATH = "/srv/state/one.json"


class SmallFileTests(SynchronousTestCase):
    """On the disk in memory, which forgets what was not synced."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.disk.make_directory("/srv")
        self.disk.sync_directory("/")

    def test_nothing_yet(self) -> None:
        """Where there is no file there is nothing to read."""
        self.assertEqual(read_whole(self.disk, PATH), b"")

    def test_survives_a_power_cut(self) -> None:
        """What was replaced is there after a power cut, its new directory too."""
        replace_whole(self.disk, PATH, b"first")
        replace_whole(self.disk, PATH, b"second")
        self.disk.crash(Crash.LOST, SeededEntropy())
        self.assertEqual(read_whole(self.disk, PATH), b"second")

    def test_a_leftover_is_no_hindrance(self) -> None:
        """What a death left aside is thrown away."""
        self.disk.make_directory("/srv/state")
        self.disk.create(PATH + ".new").append(b"half")
        replace_whole(self.disk, PATH, b"whole")
        self.assertEqual(read_whole(self.disk, PATH), b"whole")
