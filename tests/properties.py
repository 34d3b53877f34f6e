"""Hypothesis where it is installed (the `dev` extra); else its tests are skipped.

So that a plain `pip install -e .` is enough for `trial tests`.
"""

import unittest
from collections.abc import Callable, Iterator
from typing import Any

try:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
except ImportError:

    class _Anything:
        """Stands for every strategy, and for what is made of them."""

        def __getattr__(self, name: str) -> "_Anything":
            return self

        def __call__(self, *_: object, **__: object) -> "_Anything":
            return self

        def __iter__(self) -> Iterator[object]:
            return iter(())

        def __or__(self, other: object) -> "_Anything":
            return self

    def given(*_: object, **__: object) -> Callable[[Any], Any]:  # type: ignore[no-redef]
        """Skip the test."""
        return lambda _: unittest.skip("needs hypothesis: pip install -e .[dev]")(
            lambda self: None
        )

    def settings(*_: object, **__: object) -> Callable[[Any], Any]:  # type: ignore[no-redef]
        """Leave the test as it is."""
        return lambda test: test

    st = _Anything()  # type: ignore[assignment]
    HealthCheck = _Anything()  # type: ignore[misc,assignment]

__all__ = ["HealthCheck", "given", "settings", "st"]
