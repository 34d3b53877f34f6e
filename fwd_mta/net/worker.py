"""Named threads for blocking work, apart from the reactor's own pool."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
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


_Job = tuple[Callable[[], Any], Deferred[Any]]


class LoneWorker(Worker):
    """One thread for many short jobs, in their order: the journal's.

    What a pool does for each job, in sixty calls, this does in six.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; not before twistd has forked."""
        self._thread.start()

    def stop(self) -> None:
        """Let what was asked for finish and end the thread."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    @override
    def run(self, job: Callable[[], T]) -> Deferred[T]:
        """Run the job on the thread; fires on the reactor thread."""
        done: Deferred[T] = Deferred()
        self._jobs.put((job, done))
        return done

    def _work(self) -> None:
        while (wanted := self._jobs.get()) is not None:
            job, done = wanted
            try:
                result = job()
            except Exception:  # noqa: BLE001 - it is raised where it is awaited
                self._reactor.callFromThread(done.errback, Failure())
            else:
                self._reactor.callFromThread(done.callback, result)
