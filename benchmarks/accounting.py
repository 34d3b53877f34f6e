"""CPU and memory of all processes of a server: by its cgroup, or as /proc tells.

A cgroup counts exactly, dead children too, and wants root. Without one the living
descendants of the first process are asked, with what they waited for.
"""

import os
import re
import signal
import subprocess
import time

_ROOTS = (
    ("/sys/fs/cgroup/cpuacct", "cpuacct.usage"),
    ("/sys/fs/cgroup/unified", "cpu.stat"),
    ("/sys/fs/cgroup", "cpu.stat"),
)
_TICK = os.sysconf("SC_CLK_TCK")


class Account:
    """The account of one process tree."""

    _made = 0

    def __init__(self) -> None:
        Account._made += 1
        self._folder: str | None = None
        self._file = ""
        self._first = 0
        for root, file in _ROOTS:
            folder = f"{root}/fwdmta-bench-{os.getpid()}-{Account._made}"
            try:
                os.mkdir(folder)
            except OSError:
                continue
            if os.path.exists(f"{folder}/{file}"):
                self._folder, self._file = folder, file
                return
            os.rmdir(folder)

    @property
    def how(self) -> str:
        """What it counts by."""
        return "cgroup" if self._folder else "/proc"

    def enter(self) -> None:
        """Put the calling process into it, before it becomes the server."""
        if self._folder is not None:
            with open(f"{self._folder}/cgroup.procs", "w") as members:
                members.write("0")

    def watch(self, process: int) -> None:
        """Name the first process, for when there is no cgroup."""
        self._first = process

    def cpu(self) -> float:
        """Seconds of CPU used so far, user and system."""
        if self._folder is None:
            return sum(_ticks(process) for process in self.processes()) / _TICK
        with open(f"{self._folder}/{self._file}") as file:
            text = file.read()
        if self._file == "cpuacct.usage":
            return int(text) / 1e9
        found = re.search(r"usage_usec (\d+)", text)
        return int(found[1]) / 1e6 if found else 0.0

    def memory(self) -> float:
        """Proportional set size of all its processes, MiB."""
        return sum(_pss(process) for process in self.processes()) / 1024

    def processes(self) -> list[int]:
        """All that live."""
        if self._folder is None:
            return _descendants(self._first)
        with open(f"{self._folder}/cgroup.procs") as members:
            return [int(each) for each in members.read().split()]

    def end(self, first: subprocess.Popen[bytes]) -> None:
        """Ask all to end, then make them."""
        for number, seconds in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 4.0)):
            known = self.processes()
            for process in known:
                _signal(process, number)
            limit = time.monotonic() + seconds
            while any(map(_lives, known)) and time.monotonic() < limit:
                first.poll()
                time.sleep(0.05)
        first.wait()
        folder = self._folder
        for _ in range(40 if folder else 0):
            try:
                os.rmdir(folder or "")
            except OSError:  # busy until the last zombie is gone
                time.sleep(0.05)
            else:
                return


def _signal(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; none when it is gone."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _ticks(process: int) -> int:
    """utime, stime, and both of the children that were waited for."""
    return sum(map(int, _stat(process)[11:15]))


def _pss(process: int) -> int:
    try:
        with open(f"/proc/{process}/smaps_rollup") as file:
            found = re.search(r"^Pss:\s+(\d+)", file.read(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _descendants(first: int) -> list[int]:
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))):
            parents[int(name)] = int(stat[1])
    found = [first] if first in parents else []
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found
