"""Two zones at knot, one of them signed, and unbound in front of it to validate."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from interop.kit import Failed, expect, free_port, wait_for

SIGNED, PLAIN = "signed.example", "plain.example"

_BEGINNING = """\
$ORIGIN {zone}.
$TTL 1
@    SOA  ns hostmaster 1 60 60 600 1
@    NS   ns
ns   A    127.0.0.1
"""

_KNOT = """\
server:
    rundir: {folder}
    listen: 127.0.0.1@{port}
database:
    storage: {folder}/database
log:
  - target: {folder}/knot.log
    any: info
policy:
  - id: ours
    algorithm: ecdsap256sha256
template:
  - id: default
    storage: {folder}
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
zone:
{zones}"""

_ZONE = "  - domain: {name}\n    file: {name}.zone\n"
_SIGNING = "    dnssec-signing: on\n    dnssec-policy: ours\n"

_UNBOUND = """\
server:
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: "{folder}/unbound.pid"
    logfile: "{folder}/unbound.log"
    use-syslog: no
    interface: 127.0.0.1@{port}
    do-not-query-localhost: no
    do-ip6: no
    module-config: "validator iterator"
    trust-anchor-file: "{folder}/anchor"
{stubs}
remote-control:
    control-enable: no
"""
_STUB = 'stub-zone:\n    name: "{name}"\n    stub-addr: 127.0.0.1@{port}\n'


class Zones:
    """The name servers of one scenario; `port` is the validating resolver's.

    `records` are lines for each zone. Every name of `broken` gets a delegation in the
    signed zone whose proof fails, so that all below it is bogus.
    """

    def __init__(
        self, folder: Path, records: dict[str, str], broken: Iterable[str] = ()
    ) -> None:
        (folder / "database").mkdir(parents=True)
        self._folder = folder
        self._knot = free_port()
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        children = {f"{name}.{SIGNED}": "" for name in broken}
        bad = "".join(
            f"{name} NS ns\n{name} DS 12345 13 2 {'00' * 32}\n" for name in broken
        )
        for zone, lines in {**records, **children}.items():
            text = _BEGINNING.format(zone=zone) + lines
            text += bad if zone == SIGNED else ""
            (folder / f"{zone}.zone").write_text(text, encoding="utf-8")
        self._names = [*records, *children]

    def __enter__(self) -> Self:
        """Start both; names can be asked when it returns."""
        self._write_knot()
        self._run("knotd", "-c", str(self._folder / "knot.conf"))
        log = self._folder / "knot.log"
        wait_for("knot has signed its zone", lambda: _has(log, "successfully signed"))
        wait_for("knot serves", lambda: _has(log, "server started"))
        self._write_unbound(self._anchor())
        self._run("unbound", "-d", "-c", str(self._folder / "unbound.conf"))
        wait_for("unbound serves", lambda: _has(self._folder / "unbound.log", "start"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End both."""
        for each in self._processes:
            each.terminate()
            each.wait(30)

    def _run(self, *words: str) -> None:
        with (self._folder / f"{words[0]}.start.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )

    def _write_knot(self) -> None:
        zones = "".join(
            _ZONE.format(name=name) + (_SIGNING if name == SIGNED else "")
            for name in self._names
        )
        text = _KNOT.format(folder=self._folder, port=self._knot, zones=zones)
        (self._folder / "knot.conf").write_text(text, encoding="utf-8")

    def _anchor(self) -> str:
        """What a validator has to trust: the digest of the signed zone's key."""
        words = ["keymgr", "-c", str(self._folder / "knot.conf"), SIGNED, "ds"]
        said = subprocess.run(words, capture_output=True, text=True, check=False)
        expect(" DS " in said.stdout, f"keymgr: {said.stdout}{said.stderr}")
        return said.stdout

    def _write_unbound(self, anchor: str) -> None:
        (self._folder / "anchor").write_text(anchor, encoding="utf-8")
        stubs = "".join(
            _STUB.format(name=name, port=self._knot) for name in self._names
        )
        text = _UNBOUND.format(folder=self._folder, port=self.port, stubs=stubs)
        (self._folder / "unbound.conf").write_text(text, encoding="utf-8")
        checked = subprocess.run(
            ["unbound-checkconf", str(self._folder / "unbound.conf")],
            capture_output=True,
            text=True,
            check=False,
        )
        if checked.returncode:
            raise Failed(f"unbound.conf: {checked.stdout}{checked.stderr}")


def _has(log: Path, words: str) -> bool:
    return log.exists() and words in log.read_text(errors="replace")
