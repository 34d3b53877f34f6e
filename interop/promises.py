"""What was promised with a 250, and whether it is kept: for scenarios of the end.

Threads submit without pause and note every 250; after whatever befell the server all
of it must arrive, octet by octet, and what arrives twice must be marked as a possible
duplicate in the server's own records.
"""

import re
import smtplib
import threading
import time
from collections import Counter
from contextlib import suppress

from interop.kit import expect, expect_same, wait_for
from interop.messages import SENDER, message_id, plain
from interop.server import Server
from interop.sink import Caught, Sink

INBOX = "reader@inbox.example"
_THREADS = 4
_QUEUE_ID = re.compile(rb"\sid ([0-9a-z]{16}(?:-[0-9]+)?);")


def relayhost(port: int) -> dict[str, str]:
    """The tables that send all mail to a port of this machine."""
    return {"delivery": f'relayhost = "[127.0.0.1]:{port}"'}


class Submitters:
    """Threads that submit without pause and note every message that got its 250."""

    def __init__(self, server: Server, name: str) -> None:
        self.promised: dict[str, bytes] = {}
        self._server = server
        self._name = name
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_more(self, count: int, seconds: float = 120) -> None:
        """Wait until so many more messages are accepted."""
        enough = len(self.promised) + count
        wait_for(
            f"{count} more messages are accepted",
            lambda: len(self.promised) >= enough,
            seconds=seconds,
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
                    self._one(session, f"{self._name}-{number}-{count}")
                session.quit()
            time.sleep(0.05)

    def _one(self, session: smtplib.SMTP, name: str) -> None:
        if self._over.is_set():
            return
        content = plain(INBOX, name)
        session.sendmail(SENDER, INBOX, content)
        self.promised[message_id(name)] = content


def missing(sink: Sink, promised: dict[str, bytes]) -> set[str]:
    """What has not arrived."""
    return set(promised) - {caught.field("Message-ID") for caught in sink.caught}


def all_arrived(
    server: Server, sink: Sink, promised: dict[str, bytes], seconds: float = 180
) -> "Counter[str]":
    """Wait until all that was promised has arrived as sent; how often each did."""

    def is_complete() -> bool:
        if not missing(sink, promised):
            return True
        # What a crash left in doubt waits ten minutes unless asked for. Status 1
        # says that nothing waits: the last ones may have arrived just now.
        server.fwdmta("queue", "retry", "--all", allowed=1)
        return False

    wait_for("all that got a 250 arrives", is_complete, seconds, 2)
    for caught in sink.caught:
        if sent := promised.get(caught.field("Message-ID")):
            expect_same(caught.content[-len(sent) :], sent, caught.field("Subject"))
    return Counter(caught.field("Message-ID") for caught in sink.caught)


def nothing_is_damaged(server: Server) -> None:
    """Fail when `fsck` has anything to say, or something was set aside."""
    server.fwdmta("fsck")
    corrupt = list((server.folder / "state" / "queue" / "corrupt").iterdir())
    expect(not corrupt, f"was set aside: {corrupt}")


def all_marked(server: Server, sink: Sink, seen: "Counter[str]") -> int:
    """Fail when what came twice is not marked in the server's records; how many did.

    Each copy more than one has to be a try that was known to be a possible duplicate.
    """
    twice = {name: times for name, times in seen.items() if times > 1}
    ids = {one.field("Message-ID"): _queue_id(one) for one in sink.caught}
    with server.operator() as ask:
        for name, times in twice.items():
            entry = ask(verb="show", id=ids[name])["entry"]
            marked = all(one["possible_duplicate"] for one in entry["standings"])
            expect(marked, f"{name} came {times} times, and is not marked")
            steps = ask(verb="timeline", id=ids[name])["items"]
            marks = sum(step["what"] == "in-doubt" for step in steps)
            expect(marks >= times - 1, f"{name} came {times} times, marks: {marks}")
    return sum(times - 1 for times in twice.values())


def _queue_id(caught: Caught) -> str:
    found = _QUEUE_ID.search(caught.content)
    expect(found, f"no queue id in {caught.content[:300]!r}")
    return found[1].decode() if found else ""
