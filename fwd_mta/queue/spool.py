"""A body on its way in: in memory while small, else streamed to a file in tmp.

The file has room for the header line in front, so that it becomes the message's file
when it is added. The reactor never waits: what arrives while a write is under way is
gathered for the next one.
"""

from collections.abc import Callable
from functools import partial
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.interfaces import Disk, DiskFile, Spool, Worker
from fwd_mta.mail.errors import StoreError
from fwd_mta.mail.message import Body
from fwd_mta.queue.commit import seen_to, store_error
from fwd_mta.queue.operations import SpooledFile
from fwd_mta.queue.record import HEADER_SIZE

_LOW_WATER = 64 * 1024


class SpooledBody(Body):
    """A body in a file that is not a message yet."""

    def __init__(self, worker: Worker, file: SpooledFile) -> None:
        self._worker = worker
        self.file: SpooledFile | None = file
        self._size = file.length

    @property
    @override
    def size(self) -> int:
        """How many octets."""
        return self._size

    @override
    async def read(self, offset: int, length: int) -> bytes:
        """Give up to `length` octets from `offset`; StoreError once it is added."""
        if self.file is None:
            raise StoreError("this body was added to the queue: open the message")
        length = max(0, min(length, self._size - offset))
        read = self.file.file.read_at
        try:
            return await self._worker.run(partial(read, HEADER_SIZE + offset, length))
        except OSError as error:
            raise store_error(error) from error


class FileSpool(Spool):
    """Takes one body; above `small` octets it goes to the file at `path`."""

    def __init__(
        self,
        disk: Disk,
        worker: Worker,
        path: str,
        small: int,
        closed: Callable[["FileSpool"], None],
    ) -> None:
        self._disk = disk
        self._worker = worker
        self._path = path
        self._small = small
        self._closed: Callable[[FileSpool], None] | None = closed
        self._chunks: list[bytes] = []
        self._file: DiskFile | None = None
        self._body: SpooledBody | None = None
        self._crc = 0
        self._writing = 0
        self._busy = False
        self._error: Exception | None = None
        self._discarded = False
        self._waiting: list[Deferred[None]] = []
        self._ended: Deferred[None] | None = None
        self._gathered = 0
        self.taken = 0

    @override
    def write(self, data: bytes) -> None:
        """Take more octets."""
        self.taken += len(data)
        if self._error is not None or self._discarded:
            return
        self._chunks.append(data)
        self._gathered += len(data)
        if self.taken > self._small:
            self._flush()

    @property
    @override
    def backlog(self) -> int:
        """Octets taken but not yet written; none while all stays in memory."""
        if self.taken <= self._small or self._error is not None:
            return 0
        return self._gathered + self._writing

    @override
    def drained(self) -> Deferred[None]:
        """Fires when the backlog is small again."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self._tell()
        return waiting

    def _tell(self) -> None:
        if self.backlog <= _LOW_WATER:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)
        if self._ended is not None and not self._busy:
            ended, self._ended = self._ended, None
            ended.callback(None)

    def _flush(self) -> None:
        if self._busy or not self._chunks:
            return
        chunks, self._chunks = self._chunks, []
        self._writing, self._gathered = self._gathered, 0
        self._busy = True
        job = self._worker.run(partial(self._write, self._file, chunks, self._crc))
        seen_to(job.addCallbacks(self._written, self._failed))

    def _write(
        self, file: DiskFile | None, chunks: list[bytes], crc: int
    ) -> tuple[DiskFile, int]:
        """On the worker's thread: append, in a new file behind room for the header."""
        octets = b"".join(chunks)
        if file is None:
            return self._begin(octets), crc32(octets)
        file.append(octets)
        return file, crc32(octets, crc)

    def _begin(self, octets: bytes) -> DiskFile:
        file = self._disk.create(self._path)
        try:
            file.append(bytes(HEADER_SIZE) + octets)
        except OSError:
            self._unlink(file)
            raise
        return file

    def _written(self, result: tuple[DiskFile, int]) -> None:
        self._file, self._crc = result
        self._writing, self._busy = 0, False
        if self._discarded:
            self._remove()
        else:
            self._flush()
        self._tell()

    def _failed(self, failure: Failure) -> None:
        """Nothing more is written; `done` tells it."""
        self._writing, self._busy = 0, False
        self._chunks.clear()
        failure.trap(Exception)
        error = failure.value
        assert isinstance(error, Exception)  # noqa: S101 - narrows what trap let through
        self._error = store_error(error)
        self._tell()

    @override
    async def done(self) -> bytes | Body:
        """End; gives the body, or raises StoreError."""
        self._close()
        if self._discarded:
            raise StoreError("this body was discarded")
        if self.taken <= self._small:
            return b"".join(self._chunks)
        if self._busy:
            self._ended = Deferred()
            await self._ended
        if self._error is None and self._body is None:
            await self._finish()
        if self._error is not None or self._body is None:
            raise self._error or StoreError("this body was discarded")
        return self._body

    async def _finish(self) -> None:
        """Sync now, so that adding it later has little to wait for."""
        file = self._file
        if file is None:
            return
        try:
            await self._worker.run(file.sync)
        except OSError as error:
            self._error = store_error(error)
            return
        length = self.taken
        spooled = SpooledFile(self._path, file, length, self._crc)
        self._body = SpooledBody(self._worker, spooled)

    @override
    def discard(self) -> None:
        """Forget all of it; what was added to the queue stays there."""
        self._close()
        if self._discarded:
            return
        self._discarded = True
        self._chunks.clear()
        self._gathered = 0
        if not self._busy:
            self._remove()
        self._tell()

    def _close(self) -> None:
        """No more is coming: tell the store."""
        closed, self._closed = self._closed, None
        if closed is not None:
            closed(self)

    def _remove(self) -> None:
        """Close and remove the file, unless it became a message's."""
        file, self._file = self._file, None
        body = self._body
        if file is None or (body is not None and body.file is None):
            return
        if body is not None:
            body.file = None
        job = self._worker.run(partial(self._unlink, file))
        seen_to(job.addErrback(lambda _: None))

    def _unlink(self, file: DiskFile) -> None:
        file.close()
        self._disk.remove(self._path)
