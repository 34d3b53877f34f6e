"""Nouns: data that never changes once it is made.

A frozen dataclass pays for it at run time: each field is set through a guard. Nouns of
which a message makes several are `noun`s: mypy sees to it that nothing sets their
fields, and making one costs a third.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def noun(made: type[T]) -> type[T]:
    """Make a class a slotted dataclass that is compared and hashed by its fields."""
    return dataclass(slots=True, unsafe_hash=True)(made)
