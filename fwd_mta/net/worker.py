"""Named threads for blocking work, apart from the reactor's own pool.

A job takes six calls from the reactor to its thread and back; a pool of Twisted, which
also grows, shrinks and carries a context along, takes seventy.
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.interfaces import Worker

T = TypeVar("T")
_Job = tuple[Callable[[], Any], Deferred[Any]]


class ThreadWorker(Worker):
    """Threads for one kind of work: the store's, the journal's, or password hashing.

    One thread does its jobs in the order they were given.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str, threads: int) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads; not before twistd has forked."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let what was asked for finish and end the threads."""
        living = [thread for thread in self._threads if thread.is_alive()]
        for _ in living:
            self._jobs.put(None)
        for thread in living:
            thread.join()

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run the job on one of the threads; fires on the reactor thread."""
        done: Deferred[T] = Deferred()
        self._jobs.put((job, done))
        return done

    def _work(self) -> None:
        tell = self._reactor.callFromThread
        while (wanted := self._jobs.get()) is not None:
            job, done = wanted
            try:
                result = job()
            except BaseException:  # noqa: BLE001 - it is raised where it is awaited
                tell(done.errback, Failure())
            else:
                tell(done.callback, result)
            del wanted, job, done
