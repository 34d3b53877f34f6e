"""How the command reaches the queue: by the server's control socket, or the store.

Doorway: `link(state_dir, ...)`, a context manager that gives a `Call`: a request in,
its answer out. Without a server the command takes the store's lock and asks the same
`Commands` object that a server would.
"""

import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from fwd_mta.admin.asking import CommandError, Verb
from fwd_mta.admin.control import Commands
from fwd_mta.interfaces import QueueStore, WallClock
from fwd_mta.mail.errors import StoreError

T = TypeVar("T")
Json = dict[str, Any]
Call = Callable[[Json], Json]
OpenStore = Callable[[Clock], QueueStore]
More = Callable[[QueueStore], Mapping[str, Verb]]

SOCKET_NAME = "control.sock"
_PATIENCE = 60.0  # seconds for one answer
_MOMENTS = 600  # of virtual time that a store without a reactor may take


class Channel:
    """A connection to the server's control socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._file = channel.makefile("rb")

    def ask(self, request: Json) -> Json:
        """Ask the server, and wait for its answer."""
        try:
            self._channel.sendall(json.dumps(request).encode() + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise CommandError(f"the server does not answer: {error}") from error
        if not line.endswith(b"\n"):
            raise CommandError("the server closed the connection; see its log")
        answer: Json = json.loads(line)
        return answer

    def close(self) -> None:
        """Let go of the server."""
        self._file.close()
        self._channel.close()


def connect(state_dir: str, patience: float = _PATIENCE) -> Channel | None:
    """Connect to the server's control socket; None when no server listens."""
    channel = socket.socket(socket.AF_UNIX)
    channel.settimeout(patience)
    try:
        channel.connect(f"{state_dir}/{SOCKET_NAME}")
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        channel.close()
        return None
    except OSError as error:
        channel.close()
        raise CommandError(
            f"{state_dir}/{SOCKET_NAME}: {error.strerror or error};"
            " run the command as the server's user, or as root"
        ) from error
    return Channel(channel)


def nothing_more(store: QueueStore) -> Mapping[str, Verb]:
    """Give no verbs beside those of a queue."""
    return {}


@contextmanager
def link(
    state_dir: str,
    wall: WallClock,
    open_store: OpenStore,
    more: More = nothing_more,
) -> Iterator[Call]:
    """Reach the queue of a state_dir; raises CommandError with what to do.

    `more` gives the verbs beyond those of a queue, for when no server runs.
    """
    channel = connect(state_dir)
    if channel is not None:
        with closing(channel):
            yield channel.ask
        return
    with _store(state_dir, wall, open_store, more) as call:
        yield call


@contextmanager
def _store(
    state_dir: str, wall: WallClock, open_store: OpenStore, more: More
) -> Iterator[Call]:
    """Hold the store while no server does."""
    with _as_owner(state_dir):
        clock = Clock()
        store = open_store(clock)
        try:
            at_once(store.start(wall.now()), clock)
        except StoreError as error:
            raise CommandError(
                f"no server answers at {state_dir}/{SOCKET_NAME}, and the queue cannot"
                f" be opened: {error}"
            ) from error
        commands = Commands(store, wall, more=more(store))
        try:
            yield lambda request: at_once(commands.obey(request), clock)
        finally:
            at_once(store.stop(), clock)


@contextmanager
def _as_owner(state_dir: str) -> Iterator[None]:
    """Be the queue's owner, or refuse: the server has to read what is made here."""
    try:
        found = os.stat(state_dir)
    except OSError as error:
        raise CommandError(
            f"no server runs, and there is no queue at {state_dir}: {error.strerror};"
            " a server that starts makes it"
        ) from error
    owner, user, group = found.st_uid, os.geteuid(), os.getegid()
    if user not in {owner, 0}:
        raise CommandError(
            f"no server runs, and the queue at {state_dir} belongs to user {owner};"
            f" run the command as that user: sudo -u '#{owner}' fwdmta ..."
        )
    if user == owner:
        yield
        return
    os.setegid(found.st_gid)
    os.seteuid(owner)
    try:
        yield
    finally:
        os.seteuid(user)
        os.setegid(group)


def at_once(work: Awaitable[T], clock: Clock) -> T:
    """Run a coroutine to its end without a reactor, on a virtual clock.

    The store's jobs run inline, so only short waits of its own stand in between.
    """

    async def run() -> T:
        return await work

    outcome: list[T | Failure] = []
    running = Deferred.fromCoroutine(run()).addBoth(outcome.append)
    for _ in range(_MOMENTS):
        if outcome:
            break
        clock.advance(0.1)
    if not outcome:
        running.cancel()
        raise CommandError("the queue did not answer; report this bug")
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result
