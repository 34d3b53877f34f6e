"""Tables of TOML to frozen dataclasses: what is unknown, missing or wrong, all at once.

A dataclass declares its keys by `key`, `optional`, `needed`, `group` and `groups`; a
`Reader` builds it from what tomllib gave, and notes every problem. Knows no setting.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, Protocol, TypeVar

from typing_extensions import override

from fwd_mta.kinds import PATH, Kind, Wrong

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one key of one file, and what would be right."""

    file: str
    key: str
    what: str
    allowed: str = ""

    @override
    def __str__(self) -> str:
        line = ": ".join(part for part in (self.file, self.key, self.what) if part)
        line = f"{line}; {self.allowed}" if self.allowed else line
        return "".join(one if one.isprintable() else "?" for one in line)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` are all there are, one line each."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


# The shapes of the table


class Shape(Protocol):
    """What may stand at one place of the file."""

    @property
    def later(self) -> bool:
        """Whether it is read and judged, but has no effect in this version."""

    @property
    def needed(self) -> str:
        """What to write where it is missing; empty where it may be."""

    def read(self, reader: "Reader", value: object, path: str) -> object:
        """Give the value as a noun; raises Wrong, or notes problems further down."""

    def walk(self, path: str) -> Iterator[tuple[str, "Key"]]:
        """Every key at or below the path."""


@dataclass(frozen=True, slots=True)
class Key(Shape):
    """One key: its kind, and its default as it is written in the file."""

    kind: Kind[Any]
    default: object = None
    later: bool = False
    needed: str = ""

    @override
    def read(self, reader: "Reader", value: object, path: str) -> object:
        try:
            read = self.kind.read(value)
        except Wrong as wrong:
            reader.note(path, str(wrong), f"allowed: {self.kind.allowed}")
            return None
        return reader.place(read) if self.kind is PATH else read

    @override
    def walk(self, path: str) -> Iterator[tuple[str, "Key"]]:
        yield path, self


@dataclass(frozen=True, slots=True)
class Group(Shape):
    """A table of known keys."""

    of: type[Any]
    later: bool = False
    needed: str = ""

    @override
    def read(self, reader: "Reader", value: object, path: str) -> object:
        return reader.group(self.of, value, path)

    @override
    def walk(self, path: str) -> Iterator[tuple[str, Key]]:
        for name, shape in _shapes(self.of).items():
            yield from shape.walk(f"{path}.{name}" if path else name)


@dataclass(frozen=True, slots=True)
class Groups(Shape):
    """An array of tables, each with the same known keys."""

    of: type[Any]
    later: bool = False
    needed: str = ""

    @override
    def read(self, reader: "Reader", value: object, path: str) -> object:
        if not isinstance(value, list):
            reader.note(path, "is no list of tables", f"write [[{path}]]")
            return ()
        return tuple(
            reader.group(self.of, one, f"{path}[{number}]")
            for number, one in enumerate(value, start=1)
        )

    @override
    def walk(self, path: str) -> Iterator[tuple[str, Key]]:
        yield from Group(self.of).walk(f"{path}[]")


@dataclass(frozen=True, slots=True)
class Pairs(Shape):
    """A table whose keys the operator chooses."""

    key: Kind[str]
    value: Kind[Any]
    later: bool = False
    needed: str = ""

    @override
    def read(self, reader: "Reader", value: object, path: str) -> object:
        if not isinstance(value, dict):
            reader.note(path, "is no table", f"write [{path}] and a line for each")
            return ()
        return tuple(
            (self._key(reader, name, path), Key(self.value).read(reader, one, at))
            for name, one in value.items()
            for at in [f'{path}."{name}"']
        )

    def _key(self, reader: "Reader", name: str, path: str) -> str:
        try:
            return self.key.read(name)
        except Wrong as wrong:
            reader.note(f'{path}."{name}"', str(wrong), f"allowed: {self.key.allowed}")
            return name

    @override
    def walk(self, path: str) -> Iterator[tuple[str, Key]]:
        yield f"{path}.*", Key(self.value)


def key(kind: Kind[T], default: object, *, later: bool = False) -> T:
    """Declare a key with its default, written as in the file."""
    shape = Key(kind, default, later)
    return field(default=kind.read(default), metadata={"shape": shape})


def optional(kind: Kind[T], *, later: bool = False) -> T | None:
    """Declare a key that is None where it is not written."""
    return field(default=None, metadata={"shape": Key(kind, None, later)})


def needed(kind: Kind[T], why: str) -> T:
    """Declare a key that must be written; `why` tells what to write."""
    declared: T = field(metadata={"shape": Key(kind, needed=why)})
    return declared


def group(of: type[T]) -> T:
    """Declare a table."""
    return field(default_factory=of, metadata={"shape": Group(of)})


def groups(
    of: type[T], name: str = "", default: tuple[T, ...] = (), *, later: bool = False
) -> tuple[T, ...]:
    """Declare an array of tables, called `name` in the file."""
    metadata = {"shape": Groups(of, later), "name": name}
    return field(default=default, metadata=metadata)


def pairs(key_kind: Kind[str], kind: Kind[T]) -> tuple[tuple[str, T], ...]:
    """Declare a table whose keys the operator chooses."""
    return field(default=(), metadata={"shape": Pairs(key_kind, kind)})


def optional_group(of: type[T], *, later: bool = False) -> T | None:
    """Declare a table that is None where it is not written."""
    return field(default=None, metadata={"shape": Group(of, later)})


def _shapes(of: type[Any]) -> dict[str, Shape]:
    """Give the shapes of a group by their names in the file."""
    return {
        one.metadata.get("name") or one.name: one.metadata["shape"]
        for one in fields(of)
        if "shape" in one.metadata
    }


def _attributes(of: type[Any]) -> dict[str, str]:
    """Give the attribute of each name in the file."""
    return {one.metadata.get("name") or one.name: one.name for one in fields(of)}


def keys_of(of: type[Any]) -> Mapping[str, Key]:
    """Every key of a declared dataclass, by its path in the file."""
    return dict(Group(of).walk(""))


class Reader:
    """Reads one file's tables, and notes all that is wrong."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.later: list[str] = []
        self._known: Mapping[str, Key] = {}

    def read(self, of: type[T], table: Mapping[str, object]) -> T:
        """Read a whole file; what it gives is of use only without `problems`."""
        self._known = keys_of(of)
        return self.group(of, dict(table), "")

    def note(self, path: str, what: str, allowed: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(self.file, path, what, allowed))

    def place(self, path: str) -> str:
        """Give a path as absolute as the file's own: relative ones start beside it."""
        return os.path.normpath(PurePath(self.file).parent / path)

    def group(self, of: type[T], value: object, path: str) -> T:
        """Read a table of known keys."""
        if not isinstance(value, dict):
            self.note(path, "is no table", f"write [{path}] and its keys below")
            value = {}
        shapes = _shapes(of)
        for name in value:
            if name not in shapes:
                self.note(_below(path, name), "is unknown", self._near(name, shapes))
        attributes = _attributes(of)
        return of(
            **{
                attributes[name]: self._one(shape, value, name, _below(path, name))
                for name, shape in shapes.items()
                if name in value or shape.needed
            }
        )

    def _one(
        self, shape: Shape, table: dict[str, object], name: str, path: str
    ) -> object:
        if name not in table:
            self.note(path, "is missing", shape.needed)
            return None
        value = shape.read(self, table[name], path)
        if shape.later and value:
            self.later.append(f"{path} is set, but has no effect in this version")
        return value

    def _near(self, name: str, shapes: Mapping[str, Shape]) -> str:
        """Suggest what an unknown key was meant to be."""
        elsewhere = [path for path in self._known if path.rpartition(".")[2] == name]
        if elsewhere:
            return f"it belongs in another table: {' or '.join(elsewhere)}"
        near = get_close_matches(name, shapes, n=1)
        if near:
            return f"did you mean {near[0]}?"
        return f"allowed: {', '.join(shapes)}"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
