"""Scenarios of a machine that runs short: the disk full, read-only, no descriptors.

Nothing that got a 250 is lost, acceptance stops with 452 or 451, what waits goes out
as far as that can be, and all of it resumes by itself, without a restart.
"""

import os
import smtplib
import socket
import time
from contextlib import ExitStack, suppress

from interop.kit import Workbench, expect, expect_in, wait_for
from interop.messages import SENDER, message_id, plain
from interop.promises import (
    INBOX,
    all_arrived,
    missing,
    nothing_is_damaged,
    relayhost,
)
from interop.server import Server
from interop.sink import Sink
from interop.volume import Volume

_MIB = 64
_FEW = 20
_SMALL = {
    "queue": 'minimum_free_space = "4MB"',
    "submission": 'message_size_limit = "1MB"',
}
_DESCRIPTORS = 256


def _place(bench: Workbench, sink: Sink, more: str = "") -> tuple[Server, Volume]:
    small = _SMALL | {"queue": f"{_SMALL['queue']}\n{more}"}
    server = Server(bench, relayhost(sink.port) | small)
    volume = bench.keep(Volume(bench, server.folder / "state", _MIB))
    return bench.keep(server), volume


def full(bench: Workbench) -> None:
    """A disk that fills up: 452, what is queued goes out, and it resumes by itself."""
    sink = bench.keep(Sink())
    server, volume = _place(bench, sink)
    promised = _held_back(server, sink, "before")
    volume.fill(leaving=4_500_000)
    wait_for("452 at MAIL", lambda: _refusal(server).startswith("452 4.3.1"), 60, 1)
    sink.gate.set()
    _all_out(sink, promised, "what was queued goes out within the reserve")
    volume.fill(leaving=0)
    wait_for("452 at MAIL", lambda: _refusal(server).startswith("452 4.3.1"), 60, 1)
    volume.relieve()
    wait_for("there is room again", lambda: not _refusal(server), 60, 1)
    promised |= _submitted(server, "after")
    seen = all_arrived(server, sink, promised)
    expect(seen.total() == len(promised), f"came twice: {seen}")
    nothing_is_damaged(server)


def full_at_start(bench: Workbench) -> None:
    """A disk without one free octet: the server starts, and delivers what it has."""
    sink = bench.keep(Sink())
    server, volume = _place(bench, sink)
    promised = _held_back(server, sink, "before")
    spare = server.folder / "state" / "queue" / "spare"
    wait_for("room is kept back", lambda: not _refusal(server) and spare.exists(), 60)
    server.kill()
    volume.fill(leaving=0)
    sink.gate.set()
    server.start()
    expect_in("452 4.3.1", _refusal(server), "the answer to MAIL")
    server.fwdmta("queue", "retry", "--all", allowed=1)
    _all_out(sink, promised, "what was queued goes out from a full disk")
    volume.relieve()
    wait_for("there is room again", lambda: not _refusal(server), 60, 1)
    promised |= _submitted(server, "after")
    all_arrived(server, sink, promised)
    nothing_is_damaged(server)


def read_only(bench: Workbench) -> None:
    """A disk that turns read-only: 451, and it resumes when the disk is back."""
    sink = bench.keep(Sink())
    server, volume = _place(bench, sink, 'minimal_backoff_time = "2s"')
    promised = _held_back(server, sink, "before")
    volume.make_read_only()
    wait_for("451 to the dot", lambda: _sent(server, promised)[:3] == "451", 60, 1)
    sink.gate.set()
    time.sleep(3)
    expect_in("451", _sent(server, promised), "the answer to a dot")
    # From here on no `fwdmta` until the stop: socket and lock are on the other disk.
    volume.replace()
    wait_for("it accepts again", lambda: not _sent(server, promised), 90, 1)
    promised |= _submitted(server, "after")
    _all_out(sink, promised, "all that got a 250 arrives")
    expect(server.stop() == 0, "it did not end well")
    nothing_is_damaged(server)


def few_descriptors(bench: Workbench) -> None:
    """More clients than descriptors: those it has are served, the rest later."""
    sink = bench.keep(Sink())
    tables = relayhost(sink.port) | {"limits": "connections_per_client = 1000"}
    limit = f"--nofile={_DESCRIPTORS}:{_DESCRIPTORS}"
    server = bench.keep(Server(bench, tables, prefix=("prlimit", limit)))
    session = server.login()
    with ExitStack() as crowd:
        for _ in range(_DESCRIPTORS + 100):
            client = crowd.enter_context(socket.socket())
            client.settimeout(2)
            client.connect(("127.0.0.1", server.submission))
        time.sleep(2)
        open_now = len(os.listdir(f"/proc/{server.pid}/fd"))
        expect(open_now > _DESCRIPTORS - 20, f"only {open_now} descriptors are in use")
        content = plain(INBOX, "crowded")
        promised = {}
        with suppress(smtplib.SMTPException):
            session.sendmail(SENDER, INBOX, content)
            promised = {message_id("crowded"): content}
    session.close()
    wait_for("it accepts again", lambda: not _refusal(server), 60, 1)
    promised |= _submitted(server, "after")
    all_arrived(server, sink, promised)
    nothing_is_damaged(server)


def _submitted(server: Server, name: str) -> dict[str, bytes]:
    """A few messages that got their 250."""
    promised = {}
    with server.login() as session:
        for number in range(_FEW):
            content = plain(INBOX, f"{name}-{number}")
            session.sendmail(SENDER, INBOX, content)
            promised[message_id(f"{name}-{number}")] = content
    return promised


def _held_back(server: Server, sink: Sink, name: str) -> dict[str, bytes]:
    """A few messages in the queue, all of them waiting for the answer to a dot."""
    sink.gate.clear()
    return _submitted(server, name)


def _sent(server: Server, promised: dict[str, bytes]) -> str:
    """Submit one message; the refusal, or nothing when it got its 250."""
    name = f"tried-{len(promised)}"
    content = plain(INBOX, name)
    try:
        with server.login() as session:
            session.sendmail(SENDER, INBOX, content)
    except (OSError, smtplib.SMTPException) as error:
        return (
            f"{getattr(error, 'smtp_code', '')} {getattr(error, 'smtp_error', error)!r}"
        )
    promised[message_id(name)] = content
    return ""


def _refusal(server: Server) -> str:
    """What MAIL is answered, empty when it is accepted."""
    try:
        with server.login() as session:
            code, text = session.mail(SENDER)
            return "" if code == 250 else f"{code} {text.decode()}"
    except (OSError, smtplib.SMTPException) as error:
        return (
            f"{getattr(error, 'smtp_code', '')} {getattr(error, 'smtp_error', error)!r}"
        )


def _all_out(sink: Sink, promised: dict[str, bytes], what: str) -> None:
    wait_for(what, lambda: not missing(sink, promised), 90, 0.5)
