"""Named threads for blocking work, apart from the reactor's own pool."""

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from typing_extensions import override

from fwd_mta.interfaces import Worker

T = TypeVar("T")


class ThreadWorker(Worker):
    """A pool of threads for one kind of work: the store's, or password hashing."""

    def __init__(self, reactor: IReactorFromThreads, name: str, threads: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=threads, name=name)

    def start(self) -> None:
        """Start the threads; not before twistd has forked."""
        self._pool.start()

    def stop(self) -> None:
        """Let what runs finish and end the threads."""
        self._pool.stop()

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run the job on one of the threads; fires on the reactor thread."""
        return deferToThreadPool(self._reactor, self._pool, job)
