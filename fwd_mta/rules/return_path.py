"""The reverse-path that the world sees, where an operator wants bounces at home. Pure.

With `[[return_path]]` mail of a domain leaves with an address of ours that carries the
id of the message (VERP): SPF then aligns with us, and a bounce says what it is about.
Our own notices still go to the sender, and a null reverse-path stays null.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.envelope import Envelope

_ID = re.compile(r"\+([0-9a-z]{8,40})\Z", re.ASCII)

ReturnPaths = Mapping[str, Mailbox]


def returned_to(envelope: Envelope, entry_id: str, paths: ReturnPaths) -> Envelope:
    """The envelope as it goes out; `paths` holds a mailbox of ours for each domain."""
    sender = envelope.reverse_path
    mailbox = paths.get(sender.key[1]) if sender is not None else None
    if mailbox is None:
        return envelope
    local = f"{mailbox.local}+{entry_id}"
    return replace(envelope, reverse_path=Mailbox(local, mailbox.domain))


def entry_of(address: Mailbox, paths: ReturnPaths) -> str | None:
    """The id of the message that a bounce to this address is about, or None."""
    found = _ID.search(address.local.lower())
    if found is None:
        return None
    bare = Mailbox(address.local[: found.start()], address.domain)
    known = {mailbox.key for mailbox in paths.values()}
    return found[1] if bare.key in known else None
