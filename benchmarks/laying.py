"""Lays waiting messages on a disk, many and fast, through the formats of the store.

No server runs, and all is synced at once: what comes out is a tree as one would find it
after so many messages had been accepted and deferred once.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import (
    Action,
    Attempt,
    Category,
    DeliveryResult,
    Diagnosis,
    QueueEntry,
    Scope,
    Stage,
    Standing,
    Step,
)
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.reply import Reply
from fwd_mta.queue.layout import Layout
from fwd_mta.queue.record import message_octets, record_line
from fwd_mta.rules.identity import entry_id
from fwd_mta.rules.retry import RetrySchedule
from fwd_mta.rules.settlement import settle

SPREAD = 4000.0  # seconds over which they fall due: the longest wait between tries
_PIECE = 20_000
_HEAD = (
    b"From: a@bench.example\r\nTo: q@defer.example\r\nSubject: waits\r\n"
    b"Message-ID: <%d@bench.example>\r\n\r\n"
)
_BODY = b"It waits, with many others.\r\n" * 30
_RECIPIENT = Recipient(Mailbox("q", "defer.example"))
_WORDS = Diagnosis(
    Action.DEFER, Category.OTHER, Scope.RECIPIENT, "Later", 450, "4.2.0", "bench"
)


def later(recipient: Recipient) -> DeliveryResult:
    """What a peer says that wants it to be tried again."""
    reply = Reply(450, "4.2.0", "try again later")
    return DeliveryResult(recipient, Stage.RCPT, reply, _WORDS, "mx.bench.example")


def lay(root: str, first: int, count: int, now: float) -> None:
    """Put messages number `first` to `first + count - 1` into `queue/deferred`.

    They are due at even distances within `SPREAD` seconds from `now` on, in the order
    of a comb, so that each part of a tree is spread like the whole.
    """
    for directory in Layout(root).directories:
        os.makedirs(directory, 0o700, exist_ok=True)
    pieces = [
        (at, min(_PIECE, first + count - at))
        for at in range(first, first + count, _PIECE)
    ]
    with ProcessPoolExecutor(2) as processes:
        list(processes.map(partial(_lay_piece, root, now), pieces))
    os.sync()  # or the server would wait for all of it with its first sync


def lay_fresh(root: str, count: int, now: float) -> None:
    """Put messages into `queue/incoming`, as a killed server leaves them."""
    layout = Layout(root)
    for directory in layout.directories:
        os.makedirs(directory, 0o700, exist_ok=True)
    for number in range(count):
        entry, octets = _accepted(number, now - 60)
        _write(f"{layout.incoming}/{entry.id}", octets)


def _lay_piece(root: str, now: float, piece: tuple[int, int]) -> None:
    layout = Layout(root)
    made: set[str] = set()
    for directory, name, octets in _waiting(layout, now, *piece):
        if directory not in made:
            os.makedirs(directory, 0o700, exist_ok=True)
            made.add(directory)
        _write(f"{directory}/{name}", octets)


def _waiting(
    layout: Layout, now: float, first: int, count: int
) -> Iterator[tuple[str, str, bytes]]:
    schedule = RetrySchedule()
    for number in range(first, first + count):
        entry, octets = _accepted(number, now - 3600)
        attempt = Attempt(now - 60, now - 60, (later(_RECIPIENT),))
        waits = settle(entry, attempt, schedule, now - 60, 0.0)
        due = now + 60 + (number * 0.6180339887498949 % 1.0) * SPREAD
        standings = tuple(replace(one, next_attempt_at=due) for one in waits.standings)
        waits = replace(waits, standings=standings)
        line = record_line(waits, Step(now - 60, "attempt", attempt=attempt))
        yield layout.minute(due), entry.id, octets + line


def _accepted(number: int, at: float) -> tuple[QueueEntry, bytes]:
    """A message as it is accepted: the entry, and its file's octets."""
    at += number / 1000
    head = _HEAD % number
    entry = QueueEntry(
        id=entry_id(at, number.to_bytes(8, "big")),
        account=None,
        envelope=Envelope(Mailbox("a", "bench.example"), (_RECIPIENT,)),
        standings=(Standing(_RECIPIENT, at),),
        queued_at=at,
        size=len(head) + len(_BODY),
        message_id=f"<{number}@bench.example>",
    )
    return entry, message_octets(entry, Step(at, "accepted"), head, _BODY)


def _write(path: str, octets: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(path, flags, 0o600)
    os.write(descriptor, octets)
    os.close(descriptor)
