"""What can break, drawn as a tree; each error knows the reply a client gets.

    MailError
    ├── SyntaxFault         the other side's words are not in the grammar
    ├── StoreError          our disk or store failed; 451, never lost, never 5xx
    │   ├── NoSpace         the disk is full; 452
    │   └── Corrupt         a file of ours is not what was written
    ├── LookUpFailed        an account source or resolver cannot say now; 454 / 4.4.3
    ├── FetchError          a policy could not be fetched; there is none for now
    │   └── Unproved        its host did not prove its name
    └── Interrupted         the connection or the process is going away

What the field expects is a value, not an exception: a refusal is a `Reply`, a failed
delivery a `DeliveryResult`.
"""

from fwd_mta.mail.reply import Reply


class MailError(Exception):
    """Something broke; `reply` is what a client is told (our faults are 4xx)."""

    reply = Reply(451, "3.0", "Server error, please try again later")


class SyntaxFault(MailError):
    """Words outside the grammar; `str()` says which and why, in plain words."""

    reply = Reply(501, "5.4", "Syntax error")


class StoreError(MailError):
    """The store could not do what was asked; nothing was promised."""

    reply = Reply(451, "3.0", "Message store trouble, please try again later")


class NoSpace(StoreError):
    """The disk is full."""

    reply = Reply(452, "3.1", "Insufficient storage, please try again later")


class Corrupt(StoreError):
    """A stored file fails its checksum or does not parse; `str()` says how."""


class LookUpFailed(MailError):
    """A source that knows did not answer; not the same as "does not exist"."""

    reply = Reply(454, "7.0", "Temporary authentication failure, try again later")


class FetchError(MailError):
    """A policy could not be fetched from its host; `str()` says why."""


class Unproved(FetchError):
    """The host of a policy did not prove its name."""


class Interrupted(MailError):
    """The connection or the process went away in between."""

    reply = Reply(421, "3.2", "Service closing, try again later")
