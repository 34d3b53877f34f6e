"""Scenarios of the server's end: killed, asked to stop, asked to read anew."""

import os
import random
import signal
import threading
import time

from interop.kit import Workbench, expect, wait_for
from interop.messages import SENDER, message_id, plain
from interop.promises import (
    INBOX,
    Submitters,
    all_arrived,
    all_marked,
    nothing_is_damaged,
    relayhost,
)
from interop.server import Server
from interop.sink import Sink

_KILLS = int(os.environ.get("INTEROP_KILLS", "3"))
_STOPS = int(os.environ.get("INTEROP_STOPS", "2"))
_FEW = 40
_SLOWEST = 9.5  # seconds that a peer may take to answer a dot


def killed(bench: Workbench) -> None:
    """Killed at any moment, it loses nothing that got a 250 (INTEROP_KILLS times)."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    sink = bench.keep(Sink())
    sink.dot_delay = lambda: 0.02
    server = bench.keep(Server(bench, relayhost(sink.port)))
    submitters = Submitters(server, "killed")
    for _ in range(_KILLS):
        submitters.wait_for_more(_FEW)
        time.sleep(chance.uniform(0, 0.5))
        server.kill()
        server.start()
    submitters.finish()
    seen = all_arrived(server, sink, submitters.promised)
    twice = all_marked(server, sink, seen)
    nothing_is_damaged(server)
    print(
        f"     {_KILLS} kills (seed {seed}): {len(submitters.promised)} promised, "
        f"{len(seen)} arrived, 0 damaged, {twice} duplicates, all marked"
    )


def stops(bench: Workbench) -> None:
    """SIGTERM under load, peers slow with the dot: nothing twice (INTEROP_STOPS)."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    sink = bench.keep(Sink())
    sink.dot_delay = lambda: chance.uniform(0, _SLOWEST)
    server = bench.keep(Server(bench, relayhost(sink.port)))
    submitters = Submitters(server, "stopped")
    slowest = 0.0
    for _ in range(_STOPS):
        submitters.wait_for_more(_FEW)
        time.sleep(chance.uniform(0, 3))
        began = time.monotonic()
        status = server.stop()
        slowest = max(slowest, time.monotonic() - began)
        expect(status == 0, f"exit status {status}")
        expect(slowest < server.grace, f"stopped after {slowest:.1f} s")
        server.start()
    submitters.finish()
    sink.dot_delay = lambda: 0.0
    seen = all_arrived(server, sink, submitters.promised)
    twice = seen.total() - len(seen)
    print(
        f"     {_STOPS} stops (seed {seed}): {len(submitters.promised)} promised, "
        f"{len(seen)} arrived, {twice} duplicates, the slowest took {slowest:.1f} s"
    )
    expect(not twice, f"{twice} came twice")


def drains(bench: Workbench) -> None:
    """SIGTERM waits for the answers to dots already sent: exit 0, nothing twice."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, relayhost(sink.port)))
    idle = server.login()
    sink.gate.clear()
    promised = _submit_some(server, 5)
    wait_for("a dot has come", lambda: sink.dots > 0)
    threading.Timer(2, sink.gate.set).start()
    began = time.monotonic()
    status = server.stop()
    took = time.monotonic() - began
    expect(status == 0, f"exit status {status}")
    expect(1.5 < took < server.grace, f"stopped after {took:.1f} s")
    code, text = idle.getreply()
    expect((code, text[:5]) == (421, b"4.3.2"), f"an idle session got {code} {text!r}")
    server.start()
    seen = all_arrived(server, sink, promised)
    expect(seen.total() == len(promised), f"something came twice: {seen}")


def drains_out_of_time(bench: Workbench) -> None:
    """What is not answered within the grace is in doubt: exit 0, sent again later."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, relayhost(sink.port), grace=2))
    sink.gate.clear()
    promised = _submit_some(server, 3)
    wait_for("a dot has come", lambda: sink.dots > 0)
    status = server.stop()
    expect(status == 0, f"exit status {status}")
    sink.gate.set()
    server.start()
    all_arrived(server, sink, promised)


def reloads(bench: Workbench) -> None:
    """SIGHUP takes the new certificate, and a new account works; no session drops."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, relayhost(sink.port)))
    shown = server.presented_serial()
    expect(shown == server.serial, f"serial {shown:x}, not {server.serial:x}")
    session = server.login()
    with_starttls = server.login(starttls=True)
    renewed = server.renew_certificate()
    server.signal(signal.SIGHUP)
    wait_for("the new certificate", lambda: server.presented_serial() == renewed)
    for number, each in enumerate((session, with_starttls)):
        expect(each.noop()[0] == 250, "a session was dropped")
        each.sendmail(SENDER, INBOX, plain(INBOX, f"after-reload-{number}"))
        each.quit()
    server.add_account("second@sender.example", "another password")
    with server.connect() as second:
        second.login("second@sender.example", "another password")
    sink.wait_for(2)


def reload_refused(bench: Workbench) -> None:
    """SIGHUP with a file that is wrong changes nothing and says what is wrong."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, relayhost(sink.port)))
    session = server.login()
    server.configure(server.usual(relayhost(sink.port) | {"submission": "colour = 1"}))
    server.renew_certificate()
    server.signal(signal.SIGHUP)
    wait_for("the log names the key", lambda: "submission.colour" in server.logged())
    expect(server.presented_serial() == server.serial, "half of it was taken over")
    session.sendmail(SENDER, INBOX, plain(INBOX, "after-refused-reload"))
    sink.wait_for(1)


def _submit_some(server: Server, count: int) -> dict[str, bytes]:
    contents = {
        message_id(f"ending-{number}"): plain(INBOX, f"ending-{number}")
        for number in range(count)
    }
    for content in contents.values():
        server.submit(content, INBOX)
    return contents
