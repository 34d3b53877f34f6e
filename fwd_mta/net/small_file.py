"""Small files of `state/`, read and replaced whole (docs/design.md section 7).

Blocking: run these on a worker. What is replaced is there whole, the old or the new.
"""

from contextlib import suppress

from fwd_mta.interfaces import Disk


def read_whole(disk: Disk, path: str) -> bytes:
    """All of a file; nothing where there is none. Raises OSError."""
    if not disk.exists(path):
        return b""
    file = disk.open(path)
    try:
        return file.read_at(0, file.size())
    finally:
        file.close()


def replace_whole(disk: Disk, path: str, octets: bytes) -> None:
    """Write aside, sync, rename over, sync the names; durable when it returns."""
    directory, aside = path.rpartition("/")[0], path + ".new"
    disk.make_directory(directory)
    disk.sync_directory(directory.rpartition("/")[0] or "/")
    with suppress(FileNotFoundError):
        disk.remove(aside)
    file = disk.create(aside)
    try:
        file.append(octets)
        file.sync()
    finally:
        file.close()
    disk.rename(aside, path)
    disk.sync_directory(directory)
