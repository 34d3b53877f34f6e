"""A private Postfix: its own configuration, queue and port."""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from interop.kit import expect, free_port, is_listening, wait_for

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = {hostname}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
smtp_host_lookup = native
message_size_limit = 52428800
minimal_backoff_time = 5s
queue_run_delay = 5s
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
{more}
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
"""


class Postfix:
    """Runs in a folder of its own and listens on `port`; `more` ends its main.cf.

    `services` are further lines for its master.cf, and `prefix` starts it.
    """

    def __init__(
        self,
        folder: Path,
        more: str,
        hostname: str = "postfix.interop.example",
        services: str = "",
        prefix: tuple[str, ...] = (),
    ) -> None:
        expect(os.geteuid() == 0, "Postfix starts only as root")
        self.folder = folder
        self._prefix = prefix
        self.port = free_port()
        self.etc = folder / "etc"
        for each in (self.etc, folder / "queue", folder / "data"):
            each.mkdir(parents=True)
        shutil.chown(folder / "data", "postfix")
        main = _MAIN.format(folder=folder, hostname=hostname, more=more)
        (self.etc / "main.cf").write_text(main, encoding="utf-8")
        master = _MASTER.format(port=self.port) + services
        (self.etc / "master.cf").write_text(master, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it in the foreground and wait until it listens."""
        with (self.folder / "start.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._prefix, "postfix", "-c", self.etc, "start-fg"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for("Postfix listens", self._is_up, seconds=60)
        return self

    def _is_up(self) -> bool:
        running = self._process
        expect(running is None or running.poll() is None, "Postfix did not start")
        return is_listening("127.0.0.1", self.port)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it by its own command, and its master for certain."""
        subprocess.run(
            ["postfix", "-c", self.etc, "stop"], capture_output=True, check=False
        )
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(15)
        self._process.kill()
        self._process.wait()

    def maillog(self) -> str:
        """What it has logged."""
        log = self.folder / "maillog"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
