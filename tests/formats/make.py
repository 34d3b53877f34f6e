"""Writes the store that a release leaves for ever in this directory.

Run once by whoever releases: `python -m tests.formats.make tests/formats/<version>`.
What is written here is never written again, only read.
"""

import sys
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from fwd_mta.mail.entry import Origin, QueueEntry, Step
from fwd_mta.mail.envelope import Body, Notify, Recipient, Ret
from fwd_mta.mail.message import Message
from fwd_mta.net.disk import SystemDisk
from fwd_mta.queue.files import FileStore
from fwd_mta.rules import settlement
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.world.machine import InlineWorker, VirtualWall
from tests.builders import DEFERRED, DELIVERED, REFUSED, attempt, entry, mailbox
from tests.queue.stores import BODY, HEAD, deferred, finished, notices_for, owing

POLICY = RetentionPolicy(30 * 86_400.0, 90 * 86_400.0)
LARGE = b"A line of a large message, of sixty-four octets with its end..\r\n" * 4200
FRESH, WAITING, HELD, OWING, SENT, DOUBTFUL, BOUNCED, BIG, REDACTED = (
    f"2r942bcdf000000{letter}" for letter in "123456789"
)


def rich(entry_id: str) -> QueueEntry:
    """An entry that uses every parameter a client can give."""
    asked = Recipient(
        mailbox("Bob Smith@bücher.example"),
        (Notify.DELAY, Notify.FAILURE),
        "rfc822;bob+40example.net",
    )
    one = entry(asked, "eve@example.net", entry_id=entry_id)
    envelope = replace(
        one.envelope,
        body=Body.EIGHT_BIT,
        smtputf8=True,
        ret=Ret.FULL,
        envid="QQ+2B1",
        require_tls=True,
        hold_until=one.queued_at,
    )
    origin = Origin("192.0.2.7", "laptop.example", "ESMTPSA", "TLSv1.3, AES")
    return replace(one, envelope=envelope, origin=origin)


async def fill(store: FileStore, now: float) -> None:
    """One message of each kind."""
    sent = Step(now, "attempt", "", attempt(DELIVERED, at=now))
    # First: redaction empties the journal, and the others are to lie there.
    await store.add(entry(entry_id=REDACTED), Message(HEAD, BODY))
    (first,) = await store.claim(now, 1)
    await store.record(finished(first, now), sent)
    await store.redact(REDACTED)
    for name in (FRESH, WAITING, HELD, OWING, SENT, DOUBTFUL, BOUNCED):
        one = rich(name) if name == FRESH else entry(entry_id=name)
        await store.add(one, Message(HEAD, BODY))
    spool = store.spool()
    for at in range(0, len(LARGE), 64_000):
        spool.write(LARGE[at : at + 64_000])
    await store.add(entry(entry_id=BIG), Message(HEAD, await spool.done()))
    claimed = {one.id: one for one in await store.claim(now, 100)}
    tried = Step(now, "attempt", "", attempt(DEFERRED, at=now))
    refused = Step(now, "attempt", "", attempt(REFUSED, at=now))
    held = settlement.hold(claimed[HELD], "an operator's word")
    waiting = deferred(claimed[WAITING], now + 600)
    await store.record(waiting, tried)
    await store.record(held, Step(now, "held", "by root"))
    await store.record(owing(claimed[OWING], now), refused)
    await store.record(finished(claimed[SENT], now), sent)
    bounced = owing(claimed[BOUNCED], now)
    bounced = await store.record(bounced, refused)
    await store.pay(bounced, notices_for(bounced, now))
    recipients = [standing.recipient for standing in claimed[DOUBTFUL].standings]
    await store.dot_sent(DOUBTFUL, recipients, now)


def main(root: str) -> None:
    """Write the store under a directory that does not exist yet."""
    clock = Clock()
    wall = VirtualWall(clock)
    store = FileStore(
        SystemDisk(),
        root,
        InlineWorker(),
        wall,
        clock,
        POLICY,
        0,
        1000,
        print,
        journal_worker=InlineWorker(),
    )

    async def work() -> None:
        await store.start(wall.now())
        await fill(store, wall.now())
        await store.stop()

    failures: list[object] = []
    done = Deferred.fromCoroutine(work()).addErrback(failures.append)
    if failures or not done.called:
        sys.exit(f"not written: {failures}")


if __name__ == "__main__":
    main(sys.argv[1])
