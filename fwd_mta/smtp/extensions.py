"""Service extensions: what an EHLO answer offers, theirs and ours (RFC 5321 2.2)."""

from dataclasses import dataclass
from datetime import UTC, datetime

from fwd_mta.mail.reply import Reply

HOLD_LIMIT = 30 * 86400  # the most that FUTURERELEASE may ask for, in seconds


@dataclass(frozen=True, slots=True)
class Offered:
    """What a peer's EHLO answer offers; all words in upper case.

    `size` is the limit of RFC 1870, `rcpt_max` that of RFC 9422; None where none is
    told. `auth` holds the SASL mechanisms in the peer's order.
    """

    names: frozenset[str] = frozenset()
    size: int | None = None
    auth: tuple[str, ...] = ()
    rcpt_max: int | None = None

    @classmethod
    def parse(cls, reply: Reply) -> "Offered":
        """Read the lines after the first; the spelling AUTH=PLAIN is old and common."""
        names: set[str] = set()
        size = rcpt_max = None
        auth: list[str] = []
        for line in reply.text.split("\n")[1:]:
            name, *words = line.upper().replace("AUTH=", "AUTH ").split() or [""]
            names.add(name)
            if name == "SIZE":
                size = _positive(words[0] if words else "")
            elif name == "AUTH":
                auth += [word for word in words if word not in auth]
            elif name == "LIMITS":
                rcpt_max = _limit(words, "RCPTMAX")
        return cls(frozenset(names - {""}), size, tuple(auth), rcpt_max)

    @classmethod
    def none(cls) -> "Offered":
        """What a peer offers who was greeted by HELO: nothing."""
        return cls()

    def offers(self, name: str) -> bool:
        """Whether the extension of that keyword is offered."""
        return name.upper() in self.names


def _positive(word: str) -> int | None:
    """Read a limit; 0 means none (RFC 1870 3)."""
    if not (word.isascii() and word.isdigit()) or len(word) > 20:
        return None
    return int(word) or None


def _limit(words: list[str], wanted: str) -> int | None:
    for word in words:
        name, _, value = word.partition("=")
        if name == wanted:
            return _positive(value)
    return None


def keywords(
    *,
    encrypted: bool,
    starttls: bool,
    auth: tuple[str, ...],
    size_limit: int,
    recipient_limit: int,
    hold_until: float,
) -> tuple[str, ...]:
    """List our EHLO keywords, as far as the session has come (SPEC section 2).

    `hold_until` is the latest time that FUTURERELEASE may name.
    """
    lines = [
        "PIPELINING",
        f"SIZE {size_limit}",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "CHUNKING",
    ]
    if starttls and not encrypted:
        lines.append("STARTTLS")
    if encrypted and auth:
        lines.append("AUTH " + " ".join(auth))
    if encrypted:
        latest = datetime.fromtimestamp(hold_until, UTC)
        lines.append("REQUIRETLS")
        lines.append(f"FUTURERELEASE {HOLD_LIMIT} {latest:%Y-%m-%dT%H:%M:%SZ}")
        lines.append(f"LIMITS RCPTMAX={recipient_limit}")
    return tuple(lines)
