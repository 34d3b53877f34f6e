"""What every scenario holds: a folder, an authority, a stack of things to close."""

import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

from interop.certificates import Authority

Thing = TypeVar("Thing")


class Failed(Exception):
    """What a scenario found wrong, in one sentence."""


class Workbench:
    """The workplace of one scenario; what it keeps is closed when the scenario ends."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.folder = folder
        self.authority = Authority(folder / "authority")
        self._closing = closing

    def beside(self, name: str) -> "Workbench":
        """Another bench in a folder of this one, closed together with it."""
        folder = self.folder / name
        folder.mkdir()
        return Workbench(folder, self._closing)

    def keep(self, thing: AbstractContextManager[Thing]) -> Thing:
        """Enter it now, leave it when the scenario ends."""
        return self._closing.enter_context(thing)


def free_port(address: str = "127.0.0.1") -> int:
    """A port of that address which nobody listens on at the moment."""
    with socket.create_server((address, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def expect(fact: object, otherwise: str) -> None:
    """Fail the scenario with these words when the fact does not hold."""
    if not fact:
        raise Failed(otherwise)


def expect_in(wanted: str, text: str, where: str) -> None:
    """Fail when the text does not hold what is wanted, showing its end."""
    expect(wanted in text, f"{wanted!r} is not in {where}: ...{text[-600:]!r}")


def expect_same(got: bytes, wanted: bytes, what: str) -> None:
    """Fail at the first octet where the two part, showing both sides of it."""
    if got == wanted:
        return
    at = next(
        (i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b),
        min(len(got), len(wanted)),
    )
    near = slice(max(0, at - 20), at + 20)
    raise Failed(
        f"{what}: {len(got)} octets instead of {len(wanted)}, parting at {at}: "
        f"{got[near]!r} instead of {wanted[near]!r}"
    )


def wait_for(
    what: str, probe: Callable[[], Thing], seconds: float = 60, pause: float = 0.1
) -> Thing:
    """The probe's first true answer; fails when there is none in time."""
    end = time.monotonic() + seconds
    while not (answer := probe()):
        expect(time.monotonic() < end, f"not within {seconds:g} s: {what}")
        time.sleep(pause)
    return answer


def greets(address: str, port: int) -> bool:
    """Whether a server on that port greets in clear, as SMTP servers do."""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(4) in {b"220 ", b"220-"}
    except OSError:
        return False


def is_listening(address: str, port: int) -> bool:
    """Whether a connection to that port is taken."""
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True
