"""A mail transaction on its way in: its envelope, its content, its chunks."""

from dataclasses import dataclass, field

from fwd_mta.inbound.content import Content
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.reply import Reply
from fwd_mta.smtp.commands import MailParameters
from fwd_mta.smtp.data import ContentReader


@dataclass(slots=True)
class Transaction:
    """A mail transaction on its way from MAIL to DATA.

    `asked` counts its RCPT commands, `small_chunks` its BDAT with little in them.
    `spoiled`: a chunk of it was refused, so what follows must not become a message.
    """

    parameters: MailParameters
    hold_until: float | None = None
    recipients: dict[tuple[str, str], Recipient] = field(default_factory=dict)
    refused: int = 0
    asked: int = 0
    small_chunks: int = 0
    spoiled: Reply | None = None

    def envelope(self) -> Envelope:
        """What was said, as a noun."""
        said = self.parameters
        return Envelope(
            reverse_path=said.reverse_path,
            recipients=tuple(self.recipients.values()),
            body=said.body,
            smtputf8=said.smtputf8,
            ret=said.ret,
            envid=said.envid,
            require_tls=said.requiretls,
            hold_until=self.hold_until,
        )


@dataclass(slots=True)
class Arriving:
    """Mail data on its way from 354 to the final dot, or to the last chunk."""

    envelope: Envelope
    reader: ContentReader
    content: Content
    deadline: float

    @property
    def fault(self) -> Reply | None:
        """The first thing that is wrong with the content."""
        return self.reader.fault or self.content.fault

    def write(self, chunk: bytes) -> None:
        """Keep content as the reader gave it; after a fault nothing is kept."""
        if chunk:
            self.content.write(chunk)
        if self.reader.fault is not None:
            self.content.discard()


@dataclass(slots=True)
class Chunk:
    """A BDAT chunk on its way; refused ones are read to their end as well."""

    size: int
    last: bool
    left: int
    refusal: Reply | None
