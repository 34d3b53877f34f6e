"""A machine that knows our server's name and trusts our authority, for one command.

The command runs in a mount namespace of its own, in which the scenario's files lie over
/etc/hosts, passwd, group and ssl/certs. So a client is run as its users run it, with
nothing about certificates or addresses in its own settings, and this machine's files
stay as they are.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from interop.kit import Workbench, expect

_TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
# Exim's binary asks for the user and group that its package would have made
_EXIM = {
    "passwd": "Debian-exim:x:64999:64999::/nonexistent:/usr/sbin/nologin\n",
    "group": "Debian-exim:x:64999:\n",
}
_MOUNT = (
    "for name in hosts passwd group; do "
    'mount --bind "$1/$name" "/etc/$name" || exit 99; done; '
    'mount --bind "$1/certs" /etc/ssl/certs || exit 99; shift; exec "$@"'
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended and all that it said."""

    status: int
    said: str


class Machine:
    """Runs commands that see `names` (an address for each) and trust the authority."""

    def __init__(self, bench: Workbench, names: dict[str, str]) -> None:
        expect(os.geteuid() == 0, "only root can put files over /etc/hosts for a while")
        self._etc = bench.folder / "machine"
        self._certificates = self._etc / "certs"
        self._certificates.mkdir(parents=True)
        lines = ["127.0.0.1 localhost\n", "::1 localhost\n"]
        lines += [f"{address} {name}\n" for name, address in names.items()]
        (self._etc / "hosts").write_text("".join(lines), encoding="ascii")
        for name, line in _EXIM.items():
            text = Path("/etc", name).read_text(encoding="utf-8")
            known = "\nDebian-exim:" in text
            (self._etc / name).write_text(text if known else text + line)
        self.authority = bench.authority.certificate
        shutil.copy(self.authority, self._certificates / _TRUST.name)
        # OpenSSL also looks for a file named by the subject's hash
        named = subprocess.run(
            ["openssl", "x509", "-noout", "-hash", "-in", self.authority],
            capture_output=True,
            text=True,
            check=True,
        )
        shutil.copy(self.authority, self._certificates / f"{named.stdout.strip()}.0")

    def trust_in_java(self) -> None:
        """Put the authority where Debian's Java looks."""
        store = self._certificates / "java" / "cacerts"
        if store.exists():
            return
        store.parent.mkdir()
        words = [
            "-importcert",
            "-noprompt",
            "-storetype",
            "JKS",
            "-file",
            str(self.authority),
        ]
        kept = ["-keystore", str(store), "-storepass", "changeit"]
        subprocess.run(["keytool", *words, *kept], capture_output=True, check=True)

    def words(self, *command: str | Path) -> list[str]:
        """The command as this machine's shell runs it in that place."""
        words = [str(self._etc), *map(str, command)]
        return ["unshare", "-m", "sh", "-c", _MOUNT, "sh", *words]

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """What a command finds: a home of its own, and no settings of yours."""
        kept = {
            name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ
        }
        return {
            **kept,
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "NODE_EXTRA_CA_CERTS": str(_TRUST),
            "SSL_CERT_FILE": str(_TRUST),
            **more,
        }

    def run(
        self, *command: str | Path, folder: Path, typed: str = "", **more: str
    ) -> Outcome:
        """Run it in that folder, which is its home; bounded in time."""
        done = subprocess.run(
            self.words(*command),
            cwd=folder,
            env=self.environment(folder, **more),
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=240,
            check=False,
        )
        return Outcome(done.returncode, done.stdout)
