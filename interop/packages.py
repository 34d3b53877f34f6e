"""The Debian packages interop needs, installed without starting what they hold."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interop.kit import Failed

_LIST = Path(__file__).with_name("packages.txt")
_POLICY = Path("/usr/sbin/policy-rc.d")
_PRESEED = "postfix postfix/main_mailer_type select No configuration\n"


def listed() -> list[str]:
    """The packages of packages.txt."""
    lines = (line.strip() for line in _LIST.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def missing(names: list[str] | None = None) -> list[str]:
    """Those of some, or of the list, that are not installed here."""
    wanted = listed() if names is None else names
    return [name for name in wanted if not _is_installed(name)]


def install(names: list[str]) -> None:
    """Install them; what cannot be had is named."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Failed(
            f"not installed: {' '.join(names)}. Run as root on Debian, or there say: "
            f"apt-get install --no-install-recommends {' '.join(names)}"
        )
    with _nothing_started():
        _run(["debconf-set-selections"], _PRESEED)
        updated = _run(["apt-get", "update", "-qq"])
        said = _run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names]
        )
    if still := missing(names):
        raise Failed(f"could not be installed: {' '.join(still)}\n{updated}{said}")


def _is_installed(name: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    said = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Status}", name],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout == "install ok installed"


def _run(words: list[str], typed: str = "") -> str:
    """Run it to its end; the last it said, whatever its status."""
    done = subprocess.run(
        words,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout[-2000:]


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Keep Debian from starting daemons meanwhile, where nothing else forbids it."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
