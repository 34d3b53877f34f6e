"""A small ext4 of its own in a file, mounted by loop, whose power can be cut.

The cut is ext4's own: EXT4_IOC_SHUTDOWN with "no log flush" ends the file system as it
stands. Nothing that was not synced reaches the image any more, every later write
fails, and the next mount replays the journal, as after a real loss of power.
"""

import fcntl
import os
import struct
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from interop.kit import Failed, Workbench, expect, wait_for

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2


class Volume:
    """An ext4 of so many MiB, mounted on a folder while entered; root only."""

    def __init__(self, bench: Workbench, folder: Path, size: int) -> None:
        expect(os.geteuid() == 0, "only root may mount: run it as root")
        self.folder = folder
        self._copies = 0
        self._image = bench.folder / f"{folder.name}.img"
        with self._image.open("wb") as image:
            image.truncate(size << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))

    def __enter__(self) -> Self:
        """Mount it."""
        self.folder.mkdir(0o700)
        self.mount()
        self.folder.chmod(0o700)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Unmount it for good."""
        self.unmount()

    def mount(self) -> None:
        """Mount it, as it is; a journal is replayed."""
        _run("mount", "-o", "loop", str(self._image), str(self.folder))

    def unmount(self) -> None:
        """Unmount it; who used it must be gone."""

        def is_gone() -> bool:
            done = subprocess.run(
                ["umount", self.folder], capture_output=True, check=False
            )
            return done.returncode == 0 or not os.path.ismount(self.folder)

        wait_for("the volume can be unmounted", is_gone, 20, 0.2)

    def cut(self) -> None:
        """Cut its power: what was not synced is gone."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def come_back(self) -> None:
        """Mount it again after a cut."""
        self.unmount()
        self._copy()
        self.mount()

    def _copy(self) -> None:
        """Go on with a copy of what has reached the image.

        Whoever may still hold the dead file system writes to the old one.
        """
        self._copies += 1
        old = self._image
        self._image = old.with_suffix(f".{self._copies}")
        _run("cp", "--sparse=always", str(old), str(self._image))
        old.unlink()

    def fill(self, leaving: int) -> None:
        """Fill it up to so many octets, with a file that is in nobody's way."""
        ballast = self.folder / "state" / "ballast"
        ballast.parent.mkdir(exist_ok=True)
        with ballast.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12):
                while self._left() - size >= leaving:
                    try:
                        file.write(bytes(size))
                    except OSError:
                        break
            os.fsync(file.fileno())

    def _left(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def relieve(self) -> None:
        """Remove what filled it."""
        (self.folder / "state" / "ballast").unlink()

    def make_read_only(self) -> None:
        """Let it fail as ext4 does after an error: nobody writes any more."""
        _run("mount", "-o", "remount,abort", str(self.folder))

    def replace(self) -> None:
        """Put the disk back under the feet of who uses it."""
        _run("umount", "--lazy", str(self.folder))
        self._copy()
        self.mount()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stdout}{done.stderr}".strip())
    return done.stdout
