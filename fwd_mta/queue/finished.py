"""The operations on finished mail as scripts: redact, purge, file for the next step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from zlib import crc32

from fwd_mta.interfaces import Disk
from fwd_mta.mail.entry import QueueEntry, Step
from fwd_mta.mail.errors import Corrupt, StoreError
from fwd_mta.mail.message import Message
from fwd_mta.queue.commit import Script
from fwd_mta.queue.layout import Layout, parts
from fwd_mta.queue.operations import Operations
from fwd_mta.queue.reading import CHUNK, Reader, State
from fwd_mta.queue.record import header_for, header_line, record_line
from fwd_mta.rules.retention import (
    RetentionPolicy,
    RetentionStep,
    can_be_redacted,
    due_step,
    placeholder,
)


class FinishedOperations:
    """What happens to a message after its end; docs/crashes.md, redact and purge."""

    def __init__(
        self, disk: Disk, layout: Layout, reader: Reader, operations: Operations
    ) -> None:
        self._disk = disk
        self._layout = layout
        self._reader = reader
        self._operations = operations
        self.placed = _placed_nowhere

    def redact(
        self, entry_id: str, now: float, policy: RetentionPolicy
    ) -> Script[bool]:
        """Replace a finished message's content now; False when it is not finished."""
        state = self._reader.located(entry_id, "", self._reader.state)
        if not can_be_redacted(state.entry):
            return False
        if state.entry.redacted_at is None:
            yield from self._redact(state, now, policy)
        return True

    def sweep(
        self, path: str, now: float, policy: RetentionPolicy
    ) -> Script[RetentionStep | None]:
        """Do what is due with a finished message, else file it where it belongs."""
        try:
            state = self._reader.state(path)
        except FileNotFoundError:
            return None  # it was listed before it moved on
        step = due_step(state.entry, policy, now)
        if step is None:
            yield from self._file(path, state.entry, now, policy)
        elif step is RetentionStep.REDACT:
            yield from self._redact(state, now, policy)
        else:
            self._disk.remove(path)
            yield (parts(path)[0],)
        return step

    def read_terms(self) -> bytes:
        """The terms that finished mail was filed by; empty if there are none yet."""
        try:
            file = self._disk.open(self._layout.terms)
        except FileNotFoundError:
            return b""
        try:
            return file.read_at(0, 256)
        finally:
            file.close()

    def write_terms(self, terms: bytes) -> Script[None]:
        """Note that all finished mail is filed by these terms."""
        source = f"{self._layout.tmp}/terms"
        yield from self._operations.write(source, terms)
        self._disk.rename(source, self._layout.terms)
        yield (self._layout.queue,)

    def _redact(
        self, state: State, now: float, policy: RetentionPolicy
    ) -> Script[None]:
        """Write the placeholder beside the message, and rename it over it."""
        entry, octets = self.redacted(state, now)
        source = f"{self._layout.tmp}/{entry.id}.redacted"
        yield from self._operations.write(source, octets)
        try:
            self._disk.rename(source, state.path)
        except OSError:
            self._operations.forget(source)
            raise
        yield (parts(state.path)[0],)
        yield from self._file(state.path, entry, now, policy)

    def _file(
        self, path: str, entry: QueueEntry, now: float, policy: RetentionPolicy
    ) -> Script[None]:
        """File a message where it belongs, and say so."""
        home = self._layout.home(entry, now, policy)
        filed = yield from self._operations.file_at(path, home)
        if filed.path != path:
            self.placed(parts(filed.path)[0], [(entry.id, 0, 0)])

    def redacted(self, state: State, now: float) -> tuple[QueueEntry, bytes]:
        """A message's new state and whole file, with the placeholder in it."""
        content, digest = self._digested(state)
        standing_in = placeholder(state.entry, content, digest)
        entry = replace(state.entry, redacted_at=now)
        line = record_line(entry, Step(now, "redacted", f"sha256 {digest}"))
        return entry, self._with_content(state, standing_in) + line

    def _digested(self, state: State) -> tuple[Message, str]:
        """The head, a stand-in for the body that knows its size, and the SHA-256."""
        found = self._reader.content(state.path, 0)
        digest = sha256(found.head + b"\r\n")
        at, length = 0, state.header.body.length
        while at < length:
            piece = self._reader.piece(state.path, state.header, at, CHUNK)
            if not piece:
                raise Corrupt("the body is cut short")
            digest.update(piece)
            at += len(piece)
        return Message(found.head, _Sized(length)), digest.hexdigest()

    def _with_content(self, state: State, content: Message) -> bytes:
        """Another content before the records as they are."""
        file = self._reader.opened(state.path)
        try:
            records = file.read_at(state.header.records, state.records.length)
        finally:
            file.close()
        assert isinstance(content.body, bytes)  # noqa: S101 - a placeholder is small
        crc = crc32(content.body)
        header = header_for(state.entry.id, len(content.body), crc, content.head)
        return b"".join((header_line(header), content.body, content.head, records))


def _placed_nowhere(directory: str, rows: Sequence[tuple[str, int, int]]) -> None:
    """Nobody wants to know where finished mail lies."""


@dataclass(frozen=True, slots=True)
class _Sized:
    """A body of which only the size is asked."""

    size: int

    async def read(self, offset: int, length: int) -> bytes:
        """Nothing: the content is on its way out."""
        raise StoreError("the content is being redacted")
