"""What epoll reports, called at once.

Twisted calls each reader and writer within a context of its older log, for a prefix
that our log does not have: eight calls, for each of a dozen events a message.
"""

import errno
from typing import Any

from twisted.python import log

try:
    from twisted.internet.epollreactor import EPollReactor
except ImportError:  # another system: its reactor stays as it is
    EPollReactor = None  # type: ignore[assignment, misc]


def poll_directly(reactor: Any) -> None:
    """Make an epoll reactor do without that context; others stay as they are.

    It looks at what Twisted keeps private, and does nothing where that is not.
    """
    private = ("_poller", "_selectables", "_doReadOrWrite")
    is_epoll = EPollReactor is not None and isinstance(reactor, EPollReactor)
    if is_epoll and all(hasattr(reactor, name) for name in private):
        vars(reactor)["doIteration"] = _Poll(reactor)


class _Poll:
    """One turn of a reactor: what `EPollReactor.doPoll` does."""

    __slots__ = ("_reactor",)

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __call__(self, timeout: float | None) -> None:
        """Wait for events, and have each seen to."""
        reactor = self._reactor
        known = reactor._selectables  # noqa: SLF001 - see poll_directly
        wait = -1 if timeout is None else timeout
        try:
            events = reactor._poller.poll(wait, len(known))  # noqa: SLF001
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        see_to = reactor._doReadOrWrite  # noqa: SLF001
        for descriptor, event in events:
            selectable = known.get(descriptor)
            if selectable is None:
                continue
            try:
                see_to(selectable, descriptor, event)
            except Exception:  # noqa: BLE001 - no event ends the reactor
                log.err()
