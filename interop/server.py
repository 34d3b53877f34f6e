"""Our server, started as an operator starts it: twistd and a configuration file."""

import json
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509

from interop.certificates import LOOPBACK
from interop.kit import (
    Failed,
    Workbench,
    expect,
    free_port,
    greets,
    is_listening,
    wait_for,
)
from interop.messages import PASSWORD, SENDER

_CONFIGURATION = """\
hostname = "{name}"
state_dir = "{folder}/state"
shutdown_grace = "{grace:d}s"

[[listener]]
service = "submissions"
address = "{address}:{submissions}"
[[listener]]
service = "submission"
address = "{address}:{submission}"

[tls]
certificate = "{folder}/chain.pem"
private_key = "{folder}/key.pem"

[accounts]
file = "{folder}/accounts.toml"
"""


def outside_checkout() -> dict[str, str]:
    """The environment without what would let Python see the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


class Server:
    """One fwd_mta in a folder of its own, with one account; started on entering.

    `tables` are lines for the tables of the configuration, by table name. `programs`
    is where twistd and fwdmta are, `options` are twistd's own, and `prefix` starts
    twistd and hands it the open files of `inherited`. `trusting` holds the roots that
    it trusts, instead of the system's. With an address of its own it listens on the
    ports that clients know, 465 and 587.
    """

    def __init__(
        self,
        bench: Workbench,
        tables: dict[str, str],
        *,
        grace: int = 15,
        programs: Path | None = None,
        options: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        inherited: tuple[int, ...] = (),
        trusting: Path | None = None,
        address: str = "",
        name: str = "mail.interop.example",
    ) -> None:
        self.folder = bench.folder / "server"
        self.folder.mkdir()
        self.grace = grace
        self.name = name
        self.address = address or "127.0.0.1"
        self.submissions = 465 if address else free_port()
        self.submission = 587 if address else free_port()
        self.log = bench.folder / "server.log"
        self.configuration = self.folder / "fwdmta.toml"
        self._authority = bench.authority
        self._programs = programs or Path(sys.executable).parent
        self._options = options
        self._prefix = prefix
        self._inherited = inherited
        self._environment = outside_checkout()
        if trusting is not None:
            self._environment["SSL_CERT_FILE"] = str(trusting)
        self._process: subprocess.Popen[bytes] | None = None
        self.serial = self.renew_certificate()
        self.configure(self.usual(tables))

    def __enter__(self) -> Self:
        """Make the account and start."""
        self.add_account(SENDER)
        try:
            self.start()
        except BaseException:
            # who fails to enter is not asked to leave
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it if it still runs, without waiting for its grace."""
        if self._process is not None:
            self.kill()

    def usual(self, tables: dict[str, str]) -> str:
        """The configuration of this server with these lines in these tables."""
        return _CONFIGURATION.format(
            folder=self.folder,
            grace=self.grace,
            name=self.name,
            address=self.address,
            submissions=self.submissions,
            submission=self.submission,
        ) + "".join(f"\n[{name}]\n{lines}\n" for name, lines in tables.items())

    def configure(self, text: str) -> None:
        """Write the configuration file."""
        self.configuration.write_text(text, encoding="utf-8")

    def renew_certificate(self) -> int:
        """Put a new certificate in place; its serial number."""
        chain, key = self.folder / "chain.pem", self.folder / "key.pem"
        return self._authority.issue(chain, key, (*LOOPBACK, x509.DNSName(self.name)))

    def start(self) -> None:
        """Start twistd and wait until both ports take connections."""
        service = ["fwdmta", "--config", str(self.configuration)]
        twistd = [str(self._programs / "twistd"), "-n", "--pidfile=", *self._options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, *twistd, *service],
                pass_fds=self._inherited,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for("the server listens", self._is_up, seconds=60)

    def _is_up(self) -> bool:
        running = self._running()
        if running.poll() is not None:
            raise Failed(f"twistd ended with {running.returncode} while starting")
        return is_listening(self.address, self.submissions) and greets(
            self.address, self.submission
        )

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._running().pid

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise Failed("the server is not running")
        return self._process

    def kill(self) -> None:
        """Kill it where it stands, with all of its process group."""
        running = self._running()
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        self._process = None

    def stop(self, margin: float = 10) -> int:
        """End it with SIGTERM; its exit status."""
        running = self._running()
        self.signal(signal.SIGTERM)
        try:
            status = running.wait(self.grace + margin)
        except subprocess.TimeoutExpired:
            raise Failed(f"still runs {margin} s after its grace") from None
        self._process = None
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._running().send_signal(number)

    def logged(self) -> str:
        """All that it has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def fwdmta(
        self, *words: str, typed: str = "", allowed: int = 0, configured: bool = True
    ) -> str:
        """What `fwdmta WORDS --config FILE` prints; its status is 0, or the allowed."""
        file = ("--config", self.configuration) if configured else ()
        done = subprocess.run(
            [self._programs / "fwdmta", *words, *file],
            cwd=self.folder,
            env=outside_checkout(),
            input=typed,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        command = "fwdmta " + " ".join(words)
        said = f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"interop: {said}\n")
        expect(done.returncode in {0, allowed}, said)
        return done.stdout

    def fwdmta_json(self, *words: str) -> list[dict[str, Any]]:
        """The same, asked for JSON, which is an object a line."""
        return list(map(json.loads, self.fwdmta(*words, "--json").splitlines()))

    @contextmanager
    def operator(self) -> Iterator[Callable[..., Any]]:
        """A line to the control socket: call it with a verb and its words."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(60)
            control.connect(str(self.folder / "state" / "control.sock"))
            with control.makefile("rwb") as line:

                def ask(**request: object) -> Any:
                    line.write(json.dumps(request).encode() + b"\n")
                    line.flush()
                    return json.loads(line.readline())

                yield ask

    def add_account(self, login: str, password: str = PASSWORD) -> None:
        """Add an account as the operator does."""
        self.fwdmta("account", "add", login, "--password-stdin", typed=password + "\n")

    def trust(self) -> ssl.SSLContext:
        """A context that takes this server's certificates and no others."""
        return ssl.create_default_context(cafile=self._authority.certificate)

    def connect(self) -> smtplib.SMTP_SSL:
        """A session on the implicit TLS port, not yet logged in."""
        return smtplib.SMTP_SSL(
            "127.0.0.1", self.submissions, context=self.trust(), timeout=60
        )

    def login(self, *, starttls: bool = False) -> smtplib.SMTP:
        """A session of the account, by implicit TLS or STARTTLS."""
        session: smtplib.SMTP
        if starttls:
            session = smtplib.SMTP("127.0.0.1", self.submission, timeout=60)
            session.starttls(context=self.trust())
        else:
            session = self.connect()
        session.login(SENDER, PASSWORD)
        return session

    def submit(self, content: bytes, *recipients: str, starttls: bool = False) -> None:
        """Submit one message in a session of its own."""
        with self.login(starttls=starttls) as session:
            refused = session.sendmail(
                SENDER, recipients, content, mail_options=["BODY=8BITMIME"]
            )
            expect(not refused, f"refused recipients: {refused}")

    def presented_serial(self) -> int:
        """The serial number of the certificate a new connection is shown."""
        with self.connect() as session:
            sock = session.sock
            expect(isinstance(sock, ssl.SSLSocket), "no TLS on the submissions port")
            shown = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
        return int(str((shown or {}).get("serialNumber", "0")), 16)
