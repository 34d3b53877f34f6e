"""The page that leads from each promise to its test leads somewhere."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "guarantees.md"
ROW = re.compile(r"^\| (?:P?\d+) \|.*\|.*\|.*\|$", re.MULTILINE)
NAMED = re.compile(r"`([\w/]+(?:\.\w+|/))`((?:,? (?:test_\w+|[A-Z]\w+Tests))*)")


class GuaranteesTests(SynchronousTestCase):
    """docs/guarantees.md."""

    @override
    def setUp(self) -> None:
        """The rows, split into their cells."""
        page = PAGE.read_text("utf-8")
        self.rows = [row.strip("| ").split(" | ") for row in ROW.findall(page)]

    def test_complete(self) -> None:
        """Ten promises and thirty guarantees, each with a place and a test."""
        numbers = [row[0] for row in self.rows]
        expected = [f"P{number}" for number in range(1, 11)]
        expected += [str(number) for number in range(1, 31)]
        self.assertEqual(numbers, expected)
        self.assertTrue(all(len(row) == 4 and all(row) for row in self.rows))

    def test_places_exist(self) -> None:
        """Every place named is there."""
        places = [name for row in self.rows for name, _ in NAMED.findall(row[2])]
        self.assertTrue(places)
        missing = [name for name in places if not (ROOT / "fwd_mta" / name).exists()]
        self.assertEqual(missing, [])

    def test_tests_exist(self) -> None:
        """Every file, class and test named is there."""
        missing = []
        for row in self.rows:
            for name, inside in NAMED.findall(row[3]):
                path = ROOT / "tests" / name
                text = path.read_text("utf-8") if path.is_file() else ""
                words = re.findall(r"\w+", inside)
                if not path.exists() or not all(word in text for word in words):
                    missing.append(f"{row[0]}: {name}{inside}")
        self.assertEqual(missing, [])
