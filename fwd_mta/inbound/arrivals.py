"""DATA and BDAT: the content of a message on its way in (RFC 5321, RFC 3030)."""

from collections.abc import Callable
from functools import partial

from twisted.mail import smtp
from twisted.python.failure import Failure
from typing_extensions import override

from fwd_mta.inbound import words
from fwd_mta.inbound.content import Content
from fwd_mta.inbound.envelopes import Envelopes
from fwd_mta.inbound.limits import Usage
from fwd_mta.inbound.transaction import Arriving, Chunk, Transaction
from fwd_mta.mail.errors import MailError
from fwd_mta.mail.reply import Reply
from fwd_mta.net.drive import drive
from fwd_mta.smtp import commands, replies
from fwd_mta.smtp.data import ChunkReader, ContentReader, DataReader

DATA_BLOCK_LIMIT = 180.0  # RFC 5321 4.5.3.2.5
MESSAGE_LIMIT = 7200.0
REFUSED_CHUNK_LIMIT = 1024 * 1024
SMALL_CHUNK = 1024
SMALL_CHUNK_LIMIT = 1000  # of one transaction: more is no client but a waste of time


class Arrivals(Envelopes):
    """The part of a session that takes content."""

    @override
    def do_DATA(self, rest: bytes) -> None:
        """Open the door for mail data (RFC 5321 4.1.1.4)."""
        transaction = self._transaction
        refusal = self._data_refusal(transaction, rest)
        if refusal is not None or transaction is None:
            self._refuse_data(refusal or words.EHLO_FIRST)
            return
        refusal = self._open(transaction, DataReader)
        if refusal is not None:
            self._refuse_data(refusal)
            return
        self._transaction = None
        self.mode = smtp.DATA
        self._answer(Reply(354, None, "End data with <CR><LF>.<CR><LF>"))
        self.setTimeout(DATA_BLOCK_LIMIT)

    def do_BDAT(self, rest: bytes) -> None:
        """Take one chunk (RFC 3030 2); its octets are never read as commands."""
        try:
            said = commands.parse_bdat(rest)
        except commands.CommandFault as fault:
            # without its length nobody knows where the commands go on
            self._log_refusal("BDAT", str(fault.reply))
            self.close(fault.reply)
            return
        refusal = self._chunk_refusal()
        limit = REFUSED_CHUNK_LIMIT if refusal else 2 * self.policy.message_size_limit
        if said.size > limit:
            refusal = refusal or words.far_over(self.policy.message_size_limit)
            self._log_refusal("BDAT", str(refusal))
            self._drop_arriving()
            self.close(refusal)
            return
        self._chunk = Chunk(said.size, said.last, said.size, refusal)
        self.mode = smtp.DATA
        self.setTimeout(DATA_BLOCK_LIMIT)
        if said.size:
            self.respond(b"")
        else:
            self._end_of_chunk(self._chunk)

    @override
    def take_data(self, buffer: bytearray) -> bool:
        """Take mail data; only its reader, or its count, knows where it ends."""
        if self._chunk is not None:
            return self._take_chunk(self._chunk, buffer)
        arriving = self._arriving
        if arriving is None or not isinstance(arriving.reader, DataReader):
            raise RuntimeError("mail data outside of DATA")
        chunk, ended = arriving.reader.feed(buffer)
        arriving.write(chunk)
        if ended:
            self._end_of_data(arriving)
            return True
        self._check_pace(arriving)
        return False

    def _data_refusal(
        self, transaction: Transaction | None, rest: bytes
    ) -> Reply | None:
        if rest:
            return words.NO_ARGUMENT
        if transaction is None:
            return words.MAIL_FIRST
        if self._has_chunks:
            return words.CHUNKS_BEGUN
        if transaction.recipients:
            return None
        if transaction.refused:
            return Reply(554, "5.1", "No valid recipients")
        return Reply(503, "5.1", "Say RCPT first")

    def _open(
        self,
        transaction: Transaction,
        make_reader: Callable[[int, str], ContentReader],
    ) -> Reply | None:
        """Begin to take content; the reply when the store cannot."""
        policy = self.policy
        try:
            content = Content(
                self.factory.intake.spool,
                policy.header_size_limit,
                self._disk_is_slow,
                self._disk_is_fast,
                digested=self.factory.intake.duplicates.watches(self.session),
            )
        except MailError as broken:
            self._trouble("spool", Failure(broken))
            return broken.reply
        reader = make_reader(policy.message_size_limit, policy.bare_newline)
        deadline = self.clock.seconds() + MESSAGE_LIMIT
        envelope = transaction.envelope()
        self._arriving = Arriving(envelope, reader, content, deadline)
        return None

    def _chunk_refusal(self) -> Reply | None:
        """Why a chunk cannot be taken now, or None; the first one opens the content."""
        if self._arriving is not None:
            return self._arriving.fault
        transaction = self._transaction
        if transaction is None:
            return words.MAIL_FIRST
        if "CHUNKING" not in self._offered:
            return words.CHUNKS_NEED_EHLO
        transaction.spoiled = (
            transaction.spoiled
            or self._data_refusal(transaction, b"")
            or self._open(transaction, ChunkReader)
        )
        return transaction.spoiled

    def _take_chunk(self, chunk: Chunk, buffer: bytearray) -> bool:
        piece = bytes(buffer[: chunk.left])
        del buffer[: len(piece)]
        chunk.left -= len(piece)
        arriving = self._arriving
        if arriving is not None and isinstance(arriving.reader, ChunkReader):
            arriving.write(arriving.reader.feed(piece))
        if not chunk.left:
            self._end_of_chunk(chunk)
            return True
        if arriving is not None:
            self._check_pace(arriving)
        elif not self._holds:
            self.setTimeout(DATA_BLOCK_LIMIT)
        return False

    def _end_of_chunk(self, chunk: Chunk) -> None:
        """Answer a chunk; only the last one ends the transaction."""
        self._chunk = None
        self._busy = True
        self.mode = smtp.COMMAND
        self.setTimeout(None)
        arriving = self._arriving
        if arriving is not None and arriving.reader.overrun:
            self._check_pace(arriving)
        elif arriving is None or chunk.refusal is not None:
            if chunk.last:
                self._end_transaction()
            self._answer(chunk.refusal or words.MAIL_FIRST)
        elif chunk.last:
            self._transaction = None
            if isinstance(arriving.reader, ChunkReader):
                arriving.write(arriving.reader.end())
            self._end_of_data(arriving)
        else:
            self._chunk_taken(arriving, chunk)

    def _chunk_taken(self, arriving: Arriving, chunk: Chunk) -> None:
        """Answer a chunk that is not the last; thousands of crumbs are no message."""
        transaction = self._transaction
        if transaction is not None and chunk.size < SMALL_CHUNK:
            transaction.small_chunks += 1
            if transaction.small_chunks > SMALL_CHUNK_LIMIT:
                self._log_refusal("BDAT", words.TOO_MANY_IDLE.text)
                self._drop_arriving()
                self.close(words.TOO_MANY_IDLE)
                return
        if self.clock.seconds() > arriving.deadline:
            self.timeoutConnection()
            return
        taken = Reply(250, "0.0", f"{chunk.size} octets received")
        self._answer(arriving.fault or taken)

    def _refuse_data(self, reply: Reply) -> None:
        """Mail data sent without waiting for the 354 must not become commands."""
        if self.pending:
            self.send(replies.write(reply))
            self._log_refusal("DATA", str(reply))
            self.close(words.CONTENT_REFUSED)
            return
        self._distrusts = True
        self._answer(reply)

    def _check_pace(self, arriving: Arriving) -> None:
        if arriving.reader.overrun:
            self._drop_arriving()
            self.close(words.far_over(arriving.reader.size_limit))
        elif self.clock.seconds() > arriving.deadline:
            self.timeoutConnection()
        elif not self._holds:
            self.setTimeout(DATA_BLOCK_LIMIT)

    def _end_of_data(self, arriving: Arriving) -> None:
        self._busy = True
        self._verb = "the final dot" if self._verb == "DATA" else self._verb
        self.mode = smtp.COMMAND
        self.setTimeout(None)
        self._arriving = None
        if arriving.fault is not None:
            arriving.content.discard()
            self._answer(arriving.fault)
            return
        sent = Usage(1, len(arriving.envelope.recipients))
        refusal = self._quota_refusal(sent)
        if refusal is not None:
            arriving.content.discard()
            self._answer(refusal)
            return
        self._count(sent)
        drive(
            self.factory.intake.accept(
                self.session, arriving.envelope, arriving.content
            ),
            partial(self._settled, sent),
            self.broken,
        )

    def _settled(self, sent: Usage, reply: Reply) -> None:
        if not reply.is_positive:
            self._count(Usage(-sent.messages, -sent.recipients))
        if reply.is_positive:
            self._errors = self._idle_commands = 0
        self._answer(reply)

    def _disk_is_slow(self) -> None:
        self.hold_reading("disk")
        self.setTimeout(None)

    def _disk_is_fast(self) -> None:
        if self._arriving is not None:
            self.setTimeout(DATA_BLOCK_LIMIT)
        self.release_reading("disk")

    def _drop_arriving(self) -> None:
        if self._arriving is not None:
            self._arriving.content.discard()
            self._arriving = None
        self._chunk = None
        self.mode = smtp.COMMAND

    def _end_transaction(self) -> None:
        """Forget the envelope, and the chunks that came for it."""
        self._transaction = None
        self._drop_arriving()
