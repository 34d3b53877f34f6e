"""Scenarios of the server's end: killed, asked to stop, asked to read anew."""

import os
import random
import signal
import smtplib
import threading
import time
from collections import Counter
from contextlib import suppress

from interop.kit import Workbench, expect, expect_same, wait_for
from interop.messages import SENDER, message_id, plain
from interop.server import Server
from interop.sink import Sink

_INBOX = "reader@inbox.example"
_THREADS = 4
_KILLS = int(os.environ.get("INTEROP_KILLS", "3"))
_FEW = 40


class _Submitters:
    """Threads that submit without pause and note every message that got its 250."""

    def __init__(self, server: Server) -> None:
        self.promised: dict[str, bytes] = {}
        self._server = server
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_more(self, count: int) -> None:
        """Wait until so many more messages are accepted."""
        enough = len(self.promised) + count
        wait_for(
            f"{count} more messages are accepted",
            lambda: len(self.promised) >= enough,
            seconds=120,
            pause=0.01,
        )

    def finish(self) -> None:
        """Let each thread end its message, and stop."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _work(self, number: int) -> None:
        count = 0
        while not self._over.is_set():
            with suppress(OSError, smtplib.SMTPException):
                session = self._server.login()
                for _ in range(10):
                    count += 1
                    self._one(session, f"killed-{number}-{count}")
                session.quit()
            time.sleep(0.05)

    def _one(self, session: smtplib.SMTP, name: str) -> None:
        if self._over.is_set():
            return
        content = plain(_INBOX, name)
        session.sendmail(SENDER, _INBOX, content)
        self.promised[message_id(name)] = content


def killed(bench: Workbench) -> None:
    """Killed at any moment, it loses nothing that got a 250 (INTEROP_KILLS times)."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    sink = bench.keep(Sink())
    sink.dot_delay = 0.02
    server = bench.keep(Server(bench, _relayhost(sink.port)))
    submitters = _Submitters(server)
    for _ in range(_KILLS):
        submitters.wait_for_more(_FEW)
        time.sleep(chance.uniform(0, 0.5))
        server.kill()
        server.start()
    submitters.finish()
    seen = _all_arrived(server, sink, submitters.promised)
    print(
        f"     {_KILLS} kills (seed {seed}): {len(submitters.promised)} promised, "
        f"{len(seen)} arrived, {sum(seen.values()) - len(seen)} duplicates"
    )


def drains(bench: Workbench) -> None:
    """SIGTERM waits for the answers to dots already sent: exit 0, nothing twice."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, _relayhost(sink.port)))
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
    seen = _all_arrived(server, sink, promised)
    expect(seen.total() == len(promised), f"something came twice: {seen}")


def drains_out_of_time(bench: Workbench) -> None:
    """What is not answered within the grace is in doubt: exit 0, sent again later."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, _relayhost(sink.port), grace=2))
    sink.gate.clear()
    promised = _submit_some(server, 3)
    wait_for("a dot has come", lambda: sink.dots > 0)
    status = server.stop()
    expect(status == 0, f"exit status {status}")
    sink.gate.set()
    server.start()
    _all_arrived(server, sink, promised)


def reloads(bench: Workbench) -> None:
    """SIGHUP takes the new certificate, and a new account works; no session drops."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, _relayhost(sink.port)))
    shown = server.presented_serial()
    expect(shown == server.serial, f"serial {shown:x}, not {server.serial:x}")
    session = server.login()
    with_starttls = server.login(starttls=True)
    renewed = server.renew_certificate()
    server.signal(signal.SIGHUP)
    wait_for("the new certificate", lambda: server.presented_serial() == renewed)
    for number, each in enumerate((session, with_starttls)):
        expect(each.noop()[0] == 250, "a session was dropped")
        each.sendmail(SENDER, _INBOX, plain(_INBOX, f"after-reload-{number}"))
        each.quit()
    server.add_account("second@sender.example", "another password")
    with server.connect() as second:
        second.login("second@sender.example", "another password")
    sink.wait_for(2)


def reload_refused(bench: Workbench) -> None:
    """SIGHUP with a file that is wrong changes nothing and says what is wrong."""
    sink = bench.keep(Sink())
    server = bench.keep(Server(bench, _relayhost(sink.port)))
    session = server.login()
    server.configure(server.usual(_relayhost(sink.port) | {"submission": "colour = 1"}))
    server.renew_certificate()
    server.signal(signal.SIGHUP)
    wait_for("the log names the key", lambda: "submission.colour" in server.logged())
    expect(server.presented_serial() == server.serial, "half of it was taken over")
    session.sendmail(SENDER, _INBOX, plain(_INBOX, "after-refused-reload"))
    sink.wait_for(1)


def _relayhost(port: int) -> dict[str, str]:
    return {"delivery": f'relayhost = "[127.0.0.1]:{port}"'}


def _submit_some(server: Server, count: int) -> dict[str, bytes]:
    contents = {
        message_id(f"ending-{number}"): plain(_INBOX, f"ending-{number}")
        for number in range(count)
    }
    for content in contents.values():
        server.submit(content, _INBOX)
    return contents


def _all_arrived(
    server: Server, sink: Sink, promised: dict[str, bytes]
) -> "Counter[str]":
    """Wait until all that was promised has arrived as sent; how often each did."""

    def missing() -> set[str]:
        lacking = set(promised) - {caught.field("Message-ID") for caught in sink.caught}
        if lacking:
            # What a crash left in doubt waits ten minutes unless asked for. Status 1
            # says that nothing waits: the last ones may have arrived just now.
            server.fwdmta("queue", "retry", "--all", allowed=1)
        return lacking

    wait_for("all that got a 250 arrives", lambda: not missing(), 180, 2)
    for caught in sink.caught:
        if sent := promised.get(caught.field("Message-ID")):
            expect_same(caught.content[-len(sent) :], sent, caught.field("Subject"))
    return Counter(caught.field("Message-ID") for caught in sink.caught)
