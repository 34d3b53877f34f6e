"""Our queue when it is full: `python -m benchmarks.queue`.

For each size so many deferred messages are laid on the disk, due over 67 minutes; a
server is started on them and watched while the first minutes fall due. Memory is to
be within 150 MiB of an empty server's, the first 250 is to come within 3 seconds of
the start, also on 10,000 messages that a killed server had not tried yet. The second
table counts, in this process, the calls that the scheduler makes on the same trees.

It wants four gigabytes in `--folder` for a million, and removes them.
"""

import argparse
import json
import os
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from benchmarks import peers, ticks
from benchmarks.accounting import Account
from benchmarks.cell import free_port
from benchmarks.laying import lay, lay_fresh
from benchmarks.ticks import Ticks

_SIZES = (10_000, 100_000, 1_000_000)
_FRESH = 10_000
_WATCHED = 150.0  # seconds, in which the first messages fall due
_EMPTY = 20.0


_SERVER_HEADS = (
    "| queue | first 250: s, CPU s | memory, MiB | above empty | peak"
    " | page of a list, s |"
)
_TICK_HEADS = (
    "| deferred | nothing due: functions, disk | each that is due: functions, disk"
    " | tried |"
)


@dataclass(slots=True)
class Row:
    """What a server on so many messages was like; seconds and MiB."""

    what: str
    first: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    peak: float = 0.0
    page: float = 0.0


def main() -> int:
    """Measure each size, print both tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.queue",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sizes", default=",".join(map(str, _SIZES)))
    parser.add_argument("--folder", help="where to lay them; default: a temporary one")
    parser.add_argument("--seconds", type=float, default=_WATCHED)
    wanted = parser.parse_args()
    sizes = sorted(map(int, wanted.sizes.split(",")))
    base = tempfile.mkdtemp(prefix="fwdmta-queue-", dir=wanted.folder)
    try:
        rows, counted = _measured(base, sizes, wanted.seconds)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(_written(rows, counted))
    return 0


def _measured(
    base: str, sizes: list[int], seconds: float
) -> tuple[list[Row], dict[int, Ticks]]:
    rows = [_watched(f"{base}/empty", "empty", _EMPTY)]
    lay_fresh(f"{base}/fresh/state", _FRESH, time.time())
    rows.append(_watched(f"{base}/fresh", f"{_FRESH:,} not tried yet", _EMPTY))
    counted: dict[int, Ticks] = {}
    for size in sizes:
        folder = f"{base}/{size}"
        now = time.time()
        lay(f"{folder}/state", 0, size, now)
        print(f"{size:,} laid in {time.time() - now:.0f} s", flush=True)
        counted[size] = ticks.count(f"{folder}/state", now)
        rows.append(_watched(folder, f"{size:,} deferred", seconds))
        shutil.rmtree(folder)
    return rows, counted


def _watched(folder: str, what: str, seconds: float) -> Row:
    """Start a server in a folder, and look at it for so long."""
    os.makedirs(folder, exist_ok=True)
    row = Row(what)
    began = time.monotonic()
    with _server(folder) as (port, account):
        _submit(port)
        row.first, row.cpu = time.monotonic() - began, account.cpu()
        while time.monotonic() < began + seconds:
            time.sleep(1)
            row.memory = account.memory()
            row.peak = max(row.peak, row.memory)
        asked = time.monotonic()
        _ask(folder, verb="list")
        row.page = time.monotonic() - asked
        row.peak = max(row.peak, account.memory(), _highest(account))
    print(row, flush=True)
    return row


@contextmanager
def _server(folder: str) -> Iterator[tuple[int, Account]]:
    """Our server under `folder`, its mail for defer.example refused by the kernel."""
    place = peers.Place(folder, free_port(), free_port(), free_port(), None)
    account = Account()
    with open(f"{folder}/output", "wb") as log:
        process = subprocess.Popen(
            peers.fwdmta(place), preexec_fn=account.enter, stdout=log, stderr=log
        )
    account.watch(process.pid)
    try:
        yield place.port, account
    finally:
        account.end(process)


def _submit(port: int) -> None:
    """Have one message accepted, as soon as anybody listens."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        with suppress(ConnectionRefusedError):
            with smtplib.SMTP("127.0.0.1", port, timeout=300) as session:
                content = b"From: a@bench.example\r\n\r\nfirst\r\n"
                session.sendmail("a@bench.example", "b@defer.example", content)
            return
        time.sleep(0.01)
    raise SystemExit("the server does not come up")


def _ask(folder: str, **request: object) -> dict[str, object]:
    """One answer of the control socket."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(300)
        control.connect(f"{folder}/state/control.sock")
        control.sendall(json.dumps(request).encode() + b"\n")
        with control.makefile("rb") as answer:
            told: dict[str, object] = json.loads(answer.readline())
    return told


def _highest(account: Account) -> float:
    """The most memory that a process has had so far, MiB."""
    found = 0.0
    for process in account.processes():
        with open(f"/proc/{process}/status") as status:
            for line in status:
                if line.startswith("VmHWM"):
                    found += int(line.split()[1]) / 1024
    return found


def _written(rows: list[Row], counted: dict[int, Ticks]) -> str:
    """Both tables, in Markdown."""
    lines = [
        _SERVER_HEADS,
        "|---|---|---|---|---|---|",
        *(_row(row, rows[0]) for row in rows),
        "",
        _TICK_HEADS,
        "|---|---|---|---|",
        *(_count(size, one) for size, one in counted.items()),
    ]
    return "\n".join(lines)


def _row(row: Row, empty: Row) -> str:
    return (
        f"| {row.what} | {row.first:.2f}, {row.cpu:.2f} | {row.memory:.0f}"
        f" | {row.memory - empty.memory:+.0f} | {row.peak:.0f} | {row.page:.2f} |"
    )


def _count(size: int, one: Ticks) -> str:
    return (
        f"| {size:,} | {one.idle.functions:.0f}, {one.idle.disk:.1f}"
        f" | {one.each.functions:.0f}, {one.each.disk:.1f} | {one.tried} |"
    )


if __name__ == "__main__":
    sys.exit(main())
