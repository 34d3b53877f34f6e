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

        def is_free() -> bool:
            return not _run("losetup", "-j", str(self._image))

        wait_for("the volume can be unmounted", is_gone, 20, 0.2)
        # A mount namespace that ended lets go of it a moment later.
        wait_for("its loop device is let go", is_free, 20, 0.1)

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
        self.mount()

    def make_read_only(self) -> None:
        """Let nobody write any more, whatever is open."""
        _run("mount", "-o", "remount,ro,abort", str(self.folder))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stdout}{done.stderr}".strip())
    return done.stdout
