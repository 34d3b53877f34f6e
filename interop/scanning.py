"""Scenarios with real scanners: clamd, rspamd, spamd, OpenDKIM; killed, and back."""

import os
import pwd
import shutil
import signal
import smtplib
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import dkim  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from interop.kit import (
    Failed,
    Workbench,
    expect,
    expect_in,
    free_port,
    is_listening,
    wait_for,
)
from interop.messages import SENDER, dotted, plain
from interop.server import Server
from interop.sink import Sink

_READER = "reader@inbox.example"
# In halves, so that no scanner takes this file for the real thing
_EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + rb"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
_GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


class Daemon:
    """A scanner in a folder of its own, with all its processes; started on entering."""

    def __init__(self, folder: Path, port: int, words: list[str]) -> None:
        self.port = port
        self._folder = folder
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it takes connections."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill what runs of it."""
        self.kill()

    def start(self) -> None:
        """Start it."""
        with (self._folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._words,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(f"{self._words[0]} listens", self._is_up, seconds=90)

    def _is_up(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise Failed(f"{self._words[0]} ended with {self._process.returncode}")
        return is_listening("127.0.0.1", self.port)

    def freeze(self) -> None:
        """Stop all its processes where they stand: it takes, and never answers."""
        self._signal(signal.SIGSTOP)

    def kill(self) -> None:
        """Kill all its processes where they stand."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a scanner is started and asked, what it calls bad, how that is refused."""

    make: Callable[[Path], Daemon]
    table: str
    bad: bytes
    reply: str


def with_clamd(bench: Workbench) -> None:
    """Clean mail passes clamd, EICAR is refused; killed in mid-scan: 451; back."""
    _walk(bench, _CLAMD)


def with_rspamd(bench: Workbench) -> None:
    """Clean mail passes rspamd, GTUBE is refused; killed in mid-scan: 451; back."""
    _walk(bench, _RSPAMD)


def with_spamd(bench: Workbench) -> None:
    """Clean mail passes spamd, GTUBE is refused; killed in mid-scan: 451; back."""
    _walk(bench, _SPAMD)


def _walk(bench: Workbench, kind: _Kind) -> None:
    folder = bench.folder / "scanner"
    folder.mkdir()
    folder.chmod(0o777)
    sink = bench.keep(Sink())
    daemon = bench.keep(kind.make(folder))
    tables = {
        "delivery": f'relayhost = "[127.0.0.1]:{sink.port}"',
        "scan": kind.table.format(port=daemon.port),
    }
    server = bench.keep(Server(bench, tables))
    _clean(server, "clean")
    expect_in(kind.reply, _refused(server, kind.bad), "the reply to bad mail")
    _killed_in_mid_scan(server, daemon)
    daemon.start()
    _clean(server, "back")
    wait_for("the clean mail arrives", lambda: len(sink.caught) == 2)


def _clean(server: Server, name: str) -> None:
    server.submit(plain(_READER, name), _READER)


def _refused(server: Server, bad: bytes) -> str:
    """What is answered to the dot of a bad message, or of a good one when it must."""
    with server.login() as session:
        try:
            session.sendmail(SENDER, [_READER], plain(_READER, "bad") + bad + b"\r\n")
        except smtplib.SMTPDataError as error:
            return f"{error.smtp_code} {error.smtp_error!r}"
    raise Failed("the message was accepted")


def _killed_in_mid_scan(server: Server, daemon: Daemon) -> None:
    """Freeze it, submit, kill it while we wait for it: 451."""
    daemon.freeze()
    timer = threading.Timer(1.5, daemon.kill)
    timer.start()
    said = _refused(server, b"")
    timer.join()
    expect(said.startswith("451"), f"killed in mid-scan: {said}")
    expect_in("4.7.1", said, "the reply when a scanner is gone")
    expect(_refused(server, b"").startswith("451"), "not 451 while it is down")
    expect_in("could not check a message", server.logged(), "the log")


# How each is started


def _clamd(folder: Path) -> Daemon:
    port = free_port()
    (folder / "db").mkdir()
    rule = f"Kit.Eicar:0:*:{_EICAR.hex()}\n"
    (folder / "db" / "kit.ndb").write_text(rule, encoding="utf-8")
    (folder / "clamd.conf").write_text(
        f"DatabaseDirectory {folder}/db\nTCPSocket {port}\nTCPAddr 127.0.0.1\n"
        f"Foreground yes\nTemporaryDirectory {folder}\nUser root\n",
        encoding="utf-8",
    )
    return Daemon(folder, port, ["clamd", "-c", str(folder / "clamd.conf")])


def _rspamd(folder: Path) -> Daemon:
    port = free_port()
    owner = pwd.getpwnam("_rspamd")
    local = folder / "local"
    (local / "local.d").mkdir(parents=True)
    for name, text in {
        "worker-normal.inc": f'bind_socket = "127.0.0.1:{port}";\n',
        "worker-proxy.inc": "enabled = false;\n",
        "worker-controller.inc": f'bind_socket = "127.0.0.1:{free_port()}";\n',
        "worker-fuzzy.inc": "enabled = false;\n",
        "options.inc": 'dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; }\n',
        "logging.inc": 'type = "console"; level = "info";\n',
    }.items():
        (local / "local.d" / name).write_text(text, encoding="utf-8")
    for name in ("db", "run", "log"):
        (folder / name).mkdir()
        os.chown(folder / name, owner.pw_uid, owner.pw_gid)
    words = ["rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd"]
    words += ["-c", "/etc/rspamd/rspamd.conf", f"--var=LOCAL_CONFDIR={local}"]
    words += [f"--var=DBDIR={folder}/db", f"--var=RUNDIR={folder}/run"]
    return Daemon(folder, port, [*words, f"--var=LOGDIR={folder}/log"])


def _spamd(folder: Path) -> Daemon:
    port = free_port()
    program = shutil.which("spamd") or "/usr/sbin/spamd"
    words = [program, "--listen=127.0.0.1", f"--port={port}", "--local"]
    words += ["--nouser-config", "--max-children=2", "--syslog=stderr"]
    return Daemon(folder, port, words)


_CLAMD = _Kind(_clamd, 'clamd = "tcp:127.0.0.1:{port}"', _EICAR, "554")
_RSPAMD = _Kind(_rspamd, 'rspamd = "http://127.0.0.1:{port}"', _GTUBE, "550")
_SPAMD = _Kind(_spamd, 'spamd = "tcp:127.0.0.1:{port}"', _GTUBE, "550")


# OpenDKIM


def with_opendkim(bench: Workbench) -> None:
    """OpenDKIM signs as a milter, and holds; killed in mid-scan: 451; back."""
    folder = bench.folder / "scanner"
    folder.mkdir()
    sink = bench.keep(Sink())
    record = _dkim_key(folder)
    daemon = bench.keep(_opendkim(folder))
    tables = {
        "delivery": f'relayhost = "[127.0.0.1]:{sink.port}"',
        "scan": f'milters = ["inet:127.0.0.1:{daemon.port}"]',
    }
    server = bench.keep(Server(bench, tables))
    _clean(server, "clean")
    server.submit(dotted(_READER, "dotted"), _READER)
    _killed_in_mid_scan(server, daemon)
    daemon.start()
    _clean(server, "back")
    wait_for("the mail arrives", lambda: len(sink.caught) == 3)
    for caught in sink.caught:
        signature = caught.field("DKIM-Signature")
        expect_in("d=sender.example;", signature, "the signature")
        holds = dkim.verify(caught.content, dnsfunc=lambda *_, **__: record)
        expect(holds, f"OpenDKIM's signature of {caught.field('Subject')} is broken")


def _dkim_key(folder: Path) -> bytes:
    """Make an RSA key in a file; the record of its public half."""
    key = generate_private_key(65537, 2048)
    file = folder / "kit.pem"
    file.write_bytes(
        key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )
    )
    file.chmod(0o600)
    public = key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return b"v=DKIM1; k=rsa; p=" + b64encode(public)


def _opendkim(folder: Path) -> Daemon:
    port = free_port()
    (folder / "opendkim.conf").write_text(
        f"Socket inet:{port}@127.0.0.1\nMode s\nDomain sender.example\nSelector kit\n"
        f"KeyFile {folder}/kit.pem\nCanonicalization relaxed/relaxed\nUserID root\n"
        "InternalHosts 0.0.0.0/0\nRequireSafeKeys false\nBackground no\n",
        encoding="utf-8",
    )
    return Daemon(folder, port, ["opendkim", "-f", "-x", f"{folder}/opendkim.conf"])
