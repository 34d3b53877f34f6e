"""What all verbs of the `fwdmta` command share: exit status, output, the world around.

The verbs themselves are in `account_verbs`, `queue_verbs` and `rule_verbs`; `cli` reads
the command line and calls them.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from getpass import getpass
from time import sleep  # noqa: TID251 - a command at a terminal may sleep
from typing import Self

from twisted.internet.task import Clock

from fwd_mta.admin import show
from fwd_mta.admin.asking import CommandError, Json, Verb, pages
from fwd_mta.admin.link import Call, link
from fwd_mta.admin.retention import Retention
from fwd_mta.admin.why import Why
from fwd_mta.config import Configuration, load, locate
from fwd_mta.events import Event, Trouble
from fwd_mta.interfaces import Entropy, QueueStore, WallClock
from fwd_mta.net.chance import SystemEntropy
from fwd_mta.net.clocks import SystemClock
from fwd_mta.net.databases import SystemDatabases
from fwd_mta.net.disk import SystemDisk, lock_text
from fwd_mta.queue.index import Index
from fwd_mta.settings import retention_of, schedule_of, store_of
from fwd_mta.world.machine import InlineWorker

DONE, NO, MISUSED = 0, 1, 2
_WORTH_TELLING = 2000  # of fewer nobody waits to hear


class UsageError(Exception):
    """The command was called in a way that makes no sense; `str()` says how to."""


def ask_at_terminal(prompt: str) -> str:
    """Ask for a new password, twice, without showing it."""
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for a password at;"
            " use --password-stdin or --generate"
        )
    password = getpass(prompt)
    if getpass("Once more: ") != password:
        raise UsageError("the two passwords differ; nothing was changed")
    return password


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the command needs of the world; tests bring their own."""

    wall: WallClock
    entropy: Entropy
    open_store: Callable[[Configuration, Clock], QueueStore]
    ask_password: Callable[[str], str] = ask_at_terminal
    pause: Callable[[float], None] = sleep


def file_store(configuration: Configuration, clock: Clock) -> QueueStore:
    """Give the store of a configuration, for as long as no server holds it."""
    return store_of(
        configuration,
        SystemDisk(),
        InlineWorker(),
        SystemClock(),
        clock,
        _tell,
        lock_text(),
        make_index=lambda path: Index(
            SystemDatabases(), path, InlineWorker(), clock, _tell, reconciles=False
        ),
    )


def _tell(event: Event) -> None:
    """Tell the operator what the store found on the disk."""
    if isinstance(event, Trouble):
        complain(DONE, f"{event.where}: {event.what}")


def real() -> Surroundings:
    """Give the world as it is."""
    return Surroundings(SystemClock(), SystemEntropy(), file_store)


Options = argparse.Namespace
Run = Callable[[Options, Surroundings], int]


def complain(status: int, *lines: str) -> int:
    """Write a line each on standard error; gives the status back."""
    for line in lines:
        print(f"fwdmta: {show.clean(line)}", file=sys.stderr)
    return status


def print_lines(lines: Iterable[str]) -> None:
    """Write lines for people."""
    for line in lines:
        print(line)


def print_json(rows: Iterable[object]) -> None:
    """Write a JSON object a line."""
    for row in rows:
        print(json.dumps(row))


def configuration_of(options: Options) -> Configuration:
    """Read the configuration that the command was told of, or the usual one."""
    return load(locate(options.config))


def queue_of(options: Options, world: Surroundings) -> AbstractContextManager[Call]:
    """Reach the queue: by the server if one runs, else by the store."""
    configuration = configuration_of(options)
    return link(
        configuration.state_dir,
        world.wall,
        lambda clock: world.open_store(configuration, clock),
        lambda store: _more(configuration, store, world.wall),
    )


def _more(
    configuration: Configuration, store: QueueStore, wall: WallClock
) -> Mapping[str, Verb]:
    """The verbs that need more than a queue, where no server runs."""
    why = Why(
        store,
        wall,
        lambda: schedule_of(configuration),
        lambda: retention_of(configuration),
    )
    mend = getattr(store, "mend", None)
    reindex = getattr(store, "reindex", None)
    finished = Retention(
        store,
        wall,
        lambda: retention_of(configuration),
        mend,
        reindex and partial(reindex, wait=True),
    )
    return {"why": why.ask, **finished.verbs}


class Progress:
    """How far something long is, on one line of a terminal; else nothing is written."""

    def __init__(self, done: str, of: int | None = None) -> None:
        self._done = done
        self._of = "" if of is None else f" of {of:,}"
        self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._told:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def tell(self, number: int) -> None:
        """Say how many are done."""
        if number >= _WORTH_TELLING and sys.stderr.isatty():
            line = f"\r\x1b[K{number:,}{self._of} {self._done} (Ctrl-C ends it)"
            print(line, end="", file=sys.stderr, flush=True)
            self._told = True


def answer(call: Call, request: Json) -> Json:
    """Ask, and raise what the answer says went wrong."""
    given = call(request)
    if "error" in given:
        raise CommandError(given["error"])
    return given


def items(call: Call, request: Json) -> Iterator[Json]:
    """Ask for a list, page by page."""
    for page in pages(lambda asked: answer(call, asked), request):
        yield from page["items"]
