"""Tables of TOML as dataclasses: declared once, read, judged, listed."""

# ruff: noqa: RUF009 - the calls in the dataclasses declare fields

from dataclasses import dataclass

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.kinds import COUNT, PATH, TEXT, TRANSPORT_KEY
from fwd_mta.tables import (
    ConfigError,
    Problem,
    Reader,
    group,
    groups,
    key,
    keys_of,
    needed,
    optional,
    optional_group,
    pairs,
)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A part there are several of."""

    place: str = needed(TEXT, 'say which, as in place = "left"')
    spokes: int = key(COUNT, 32)


@dataclass(frozen=True, slots=True)
class Lamp:
    """A part there may be one of."""

    volts: int = key(COUNT, 6, later=True)
    manual: str | None = optional(PATH)


@dataclass(frozen=True, slots=True)
class Cart:
    """A whole."""

    name: str = needed(TEXT, 'write name = "cart"')
    wheels: tuple[Wheel, ...] = groups(Wheel, "wheel")
    lamp: Lamp = group(Lamp)
    spare: Lamp | None = optional_group(Lamp, later=True)
    load: tuple[tuple[str, int], ...] = pairs(TRANSPORT_KEY, COUNT)


class ReaderTests(SynchronousTestCase):
    """A reader builds what was declared, and notes what it was not told."""

    def read(self, table: dict[str, object]) -> tuple[Cart, Reader]:
        """Read a table as a file beside others would be."""
        reader = Reader("/etc/cart.toml")
        return reader.read(Cart, table), reader

    def problems(self, table: dict[str, object]) -> list[str]:
        """Read a table that is wrong."""
        return [f"{one.key}: {one.what}" for one in self.read(table)[1].problems]

    def test_reads_all_shapes(self) -> None:
        """Keys, tables, lists of tables, and tables of free keys."""
        cart, reader = self.read(
            {
                "name": "red",
                "wheel": [{"place": "left"}, {"place": "right", "spokes": 3}],
                "lamp": {"manual": "lamp.txt"},
                "load": {".example": 5},
            }
        )
        self.assertEqual(reader.problems, [])
        self.assertEqual(cart.wheels, (Wheel("left"), Wheel("right", 3)))
        self.assertEqual(cart.lamp, Lamp(6, "/etc/lamp.txt"))
        self.assertIsNone(cart.spare)
        self.assertEqual(cart.load, ((".example", 5),))

    def test_has_defaults(self) -> None:
        """What is not written is as it was declared."""
        self.assertEqual(self.read({"name": "red"})[0], Cart("red"))

    def test_notes_everything(self) -> None:
        """Problems of all depths are noted, each with its path."""
        self.assertEqual(
            self.problems(
                {
                    "wheel": [{}, {"place": "left", "spoke": 3}, 5],
                    "lamp": {"volts": "6", "place": 1},
                    "load": {"a b": 1, "c": "x"},
                    "zzz": 1,
                }
            ),
            [
                "zzz: is unknown",
                "name: is missing",
                "wheel[1].place: is missing",
                "wheel[2].spoke: is unknown",
                "wheel[3]: is no table",
                "wheel[3].place: is missing",
                "lamp.place: is unknown",
                "lamp.volts: '6' is no whole number",
                'load."a b": "a b" is no domain; use "domain", ".domain" or "*"',
                "load.\"c\": 'x' is no whole number",
            ],
        )

    def test_names_what_comes_later(self) -> None:
        """Settings without effect are named when they are on, and only then."""
        _, reader = self.read({"name": "x", "lamp": {"volts": 5}, "spare": {}})
        self.assertEqual(
            [line.partition(" ")[0] for line in reader.later], ["lamp.volts", "spare"]
        )
        _, reader = self.read({"name": "x", "lamp": {"volts": 0}})
        self.assertEqual(reader.later, [])

    def test_lists_its_keys(self) -> None:
        """Every key has one path; a list of tables is marked by brackets."""
        self.assertEqual(
            list(keys_of(Cart)),
            [
                "name",
                "wheel[].place",
                "wheel[].spokes",
                "lamp.volts",
                "lamp.manual",
                "spare.volts",
                "spare.manual",
                "load.*",
            ],
        )


class ProblemTests(SynchronousTestCase):
    """A problem is one line."""

    def test_is_one_line(self) -> None:
        """File, key, what, and what is allowed; parts that are empty are left out."""
        self.assertEqual(
            str(Problem("f", "k", "is bad", "be good")), "f: k: is bad; be good"
        )
        self.assertEqual(str(Problem("", "", "is\n\x1bbad")), "is??bad")

    def test_problems_make_an_error(self) -> None:
        """An error holds all problems, a line each."""
        error = ConfigError(Problem("f", "a", "is bad"), Problem("f", "b", "is bad"))
        self.assertEqual(str(error), "f: a: is bad\nf: b: is bad")
