"""Scenarios of installing: the package in an empty place, and a fresh clone."""

import grp
import os
import pwd
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from interop.kit import Workbench, expect, expect_in
from interop.messages import PASSWORD, SENDER, plain
from interop.server import Server, outside_checkout
from interop.sink import Sink

_CHECKOUT = Path(__file__).resolve().parent.parent

# The configuration of the project's specification, section 1, with every key it
# writes; only paths, ports and the way out are adapted to this machine.
_WHOLE = """\
hostname = "mail.interop.example"
state_dir = "{folder}/state"
shutdown_grace = "15s"
postmaster = ""

[[listener]]
service = "submissions"
address = "127.0.0.1:{submissions}"
[[listener]]
service = "submission"
address = "127.0.0.1:{submission}"

[tls]
certificate = "{folder}/chain.pem"
private_key = "{folder}/key.pem"

[accounts]
file = "{folder}/accounts.toml"

[submission]
message_size_limit = "50MB"
recipient_limit = 1000
hopcount_limit = 50
bare_newline = "normalize"
long_lines = "encode"
duplicate_window = "10m"
trace_client = false

[limits]
connections_per_client = 50
connections_per_account = 60
auth_failures_per_client = 10
auth_failure_window = "1h"
messages_per_account = 0
recipients_per_account = 0
messages_window = "1d"

[queue]
maximal_queue_lifetime = "5d"
bounce_queue_lifetime = "5d"
minimal_backoff_time = "300s"
maximal_backoff_time = "4000s"
delay_warning_time = "4h"
bounce_size_limit = "64KiB"
minimum_free_space = "100MB"

[retention]
content = "30d"
record = "90d"

[delivery]
relayhost = "[127.0.0.1]:{sink}"
smtp_port = 25
inet_protocols = "all"
tls_security_level = "may"
allow_private_destinations = false
destination_concurrency_limit = 20

[dns]
trust_ad = false

[scan]
on_error = "defer"
timeout = "30s"

[metrics]

[help]

[processes]
receivers = 0
"""


# What systemd does with two sockets: files 3 and 4, their names, and for whom they are.
_HAND_OVER = (
    "exec 3<&{0} 4<&{1}; export LISTEN_PID=$$ LISTEN_FDS=2 "
    'LISTEN_FDNAMES=submissions:submission; exec "$@"'
)


def package(bench: Workbench) -> None:
    """`pip install .` elsewhere: twistd knows fwdmta, serves and logs an account in."""
    programs = _install(_copy_of_checkout(bench.folder / "copy"), bench.folder)
    listed = _said([programs / "twistd", "--help"], bench.folder)
    expect_in("\n    fwdmta ", listed, "twistd --help")
    sink = bench.keep(Sink())
    server = Server(bench, {}, programs=programs)
    server.configure(
        _WHOLE.format(
            folder=server.folder,
            submissions=server.submissions,
            submission=server.submission,
            sink=sink.port,
        )
    )
    bench.keep(server)
    server.submit(plain("a@inbox.example", "package-465"), "a@inbox.example")
    server.submit(
        plain("a@inbox.example", "package-587"), "a@inbox.example", starttls=True
    )
    sink.wait_for(2)
    stored = (server.folder / "accounts.toml").read_text(encoding="utf-8")
    expect_in(SENDER, stored, "accounts.toml")
    expect(PASSWORD not in stored, "the password is readable in accounts.toml")
    status = server.stop()
    expect(status == 0, f"exit status {status}")


def privileges_dropped(bench: Workbench) -> None:
    """Started as root with twistd's --uid and --gid it serves as nobody."""
    expect(os.geteuid() == 0, "only root can start it so")
    sink = bench.keep(Sink())
    options = ("--uid", "nobody", "--gid", "nogroup")
    server = Server(bench, _relayhost(sink.port), options=options)
    shutil.chown(server.folder, "nobody", "nogroup")
    bench.keep(server)
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
    user, group = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid
    expect_in("Uid:" + f"\t{user}" * 4, status, "its process status")
    expect_in("Gid:" + f"\t{group}" * 4, status, "its process status")
    server.submit(plain("a@inbox.example", "as-nobody"), "a@inbox.example")
    sink.wait_for(1)
    ended = server.stop()
    expect(ended == 0, f"exit status {ended}")


def systemd_sockets(bench: Workbench) -> None:
    """It listens on sockets that systemd opened and named."""
    sink = bench.keep(Sink())
    opened = [bench.keep(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
    numbers = [each.fileno() for each in opened]
    hand_over = _HAND_OVER.format(*numbers)
    server = Server(
        bench, {}, prefix=("bash", "-c", hand_over, "bash"), inherited=tuple(numbers)
    )
    text = server.usual(_relayhost(sink.port))
    for name in ("submissions", "submission"):
        port = getattr(server, name)
        text = text.replace(f"127.0.0.1:{port}", f"systemd:{name}")
    server.configure(text)
    server.submissions, server.submission = (each.getsockname()[1] for each in opened)
    bench.keep(server)
    for each in opened:
        each.close()
    server.submit(plain("a@inbox.example", "tls"), "a@inbox.example")
    server.submit(plain("a@inbox.example", "later"), "a@inbox.example", starttls=True)
    sink.wait_for(2)


def demo(bench: Workbench) -> None:
    """In a fresh clone `make demo ARGS=--once` ends with status 0."""
    copy = _copy_of_checkout(bench.folder / "copy")
    said = _said(["make", "demo", "ARGS=--once"], copy)
    (bench.folder / "demo.log").write_text(said, encoding="utf-8")
    for word in ("550 5.1.1", "over TLS", "over STARTTLS", "as it must be"):
        expect_in(word, said, "what the demo prints")


def _relayhost(port: int) -> dict[str, str]:
    return {"delivery": f'relayhost = "[127.0.0.1]:{port}"'}


def _copy_of_checkout(target: Path) -> Path:
    """What a clone would hold, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=_CHECKOUT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (_CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_CHECKOUT / name, target / name)
    return target


def _install(source: Path, folder: Path) -> Path:
    """Install it in an empty environment; where its programs are."""
    _said([sys.executable, "-m", "venv", folder / "empty"], folder)
    programs = folder / "empty" / "bin"
    _said([programs / "pip", "install", "-qq", source], folder)
    return programs


def _said(words: list[str | Path], folder: Path) -> str:
    """What a command prints, run in that folder; it must end with status 0."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=outside_checkout(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    command = " ".join(map(str, words))
    expect(done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout
