"""Ready-made nouns for tests."""

from dataclasses import replace

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import (
    Action,
    Attempt,
    Category,
    DeliveryResult,
    Diagnosis,
    QueueEntry,
    Scope,
    Stage,
    Standing,
)
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.reply import Reply

T0 = 1_800_000_000.0
ID = "0123456789bcdfgh"


def mailbox(text: str) -> Mailbox:
    """A mailbox from plain text, without grammar."""
    local, _, domain = text.rpartition("@")
    return Mailbox(local, domain)


def recipient(text: str = "bob@example.net") -> Recipient:
    """A recipient that asks for nothing."""
    return Recipient(mailbox(text))


def envelope(
    *recipients: str | Recipient, sender: str | None = "ann@example.com"
) -> Envelope:
    """An envelope from ann to whom it is said, or to bob."""
    wanted = recipients or ("bob@example.net",)
    return Envelope(
        mailbox(sender) if sender else None,
        tuple(one if isinstance(one, Recipient) else recipient(one) for one in wanted),
    )


def entry(
    *recipients: str | Recipient,
    sender: str | None = "ann@example.com",
    entry_id: str = ID,
    queued_at: float = T0,
) -> QueueEntry:
    """A fresh entry of ann's, due at once."""
    wanted = envelope(*recipients, sender=sender)
    return QueueEntry(
        id=entry_id,
        account="ann@example.com" if sender else None,
        envelope=wanted,
        standings=tuple(Standing(one, queued_at) for one in wanted.recipients),
        queued_at=queued_at,
        size=100,
        message_id="<m1@example.com>",
    )


def diagnosis(
    action: Action = Action.DEFER,
    category: Category = Category.OTHER,
    scope: Scope = Scope.RECIPIENT,
) -> Diagnosis:
    """What some reply means."""
    code = 550 if action is Action.REJECT else 450
    status = f"{code // 100}.0.0"
    return Diagnosis(action, category, scope, "words", code, status, "test-rule")


DELIVERED = DeliveryResult(recipient(), Stage.DOT, Reply(250, "0.0", "Ok"))
DEFERRED = DeliveryResult(
    recipient(), Stage.RCPT, Reply(450, "2.0", "Later"), diagnosis()
)
REFUSED = DeliveryResult(
    recipient(), Stage.RCPT, Reply(550, "1.1", "No"), diagnosis(Action.REJECT)
)


def attempt(*results: DeliveryResult, at: float = T0) -> Attempt:
    """An attempt of a second's length that ended at that time."""
    return Attempt(at - 1, at, results)


def about(text: str, result: DeliveryResult) -> DeliveryResult:
    """The same result for another recipient."""
    return replace(result, recipient=recipient(text))
