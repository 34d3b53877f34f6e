"""Chance from the operating system."""

import os
import random  # noqa: TID251 - this is the source of chance

from typing_extensions import override

from fwd_mta.interfaces import Entropy


class SystemEntropy(Entropy):
    """Unpredictable numbers and octets."""

    @override
    def random(self) -> float:
        """Give a number in [0, 1)."""
        return random.random()  # noqa: S311 - jitter, not secrets

    @override
    def octets(self, count: int) -> bytes:
        """Give unpredictable octets."""
        return os.urandom(count)  # noqa: TID251 - this is the source of chance
