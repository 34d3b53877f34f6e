"""A reply of SMTP: code, enhanced code, text (RFC 5321 4.2, RFC 2034)."""

from typing import NamedTuple


class Reply(NamedTuple):
    """One reply, ours or a peer's; lines of a long one are joined by LF in `text`.

    The class digit has one home, `code`: `detail` is the enhanced code without it
    ("7.1" of "5.7.1"), or None where there is none.
    """

    code: int
    detail: str | None
    text: str

    @property
    def status(self) -> str | None:
        """The enhanced code with its class, as in "5.7.1" (RFC 3463)."""
        return f"{self.code // 100}.{self.detail}" if self.detail else None

    @property
    def is_positive(self) -> bool:
        """Whether it says yes (2yz)."""
        return self.code // 100 == 2

    @property
    def is_temporary(self) -> bool:
        """Whether it says not now (4yz)."""
        return self.code // 100 == 4

    @property
    def is_permanent(self) -> bool:
        """Whether it says no (5yz)."""
        return self.code // 100 == 5

    def __str__(self) -> str:
        words = f"{self.code}"
        if self.detail:
            words += f" {self.code // 100}.{self.detail}"
        return f"{words} {self.text}".replace("\n", " ") if self.text else words
