"""`fwdmta simulate`, as it is typed."""

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin import simulate_verb
from fwd_mta.admin.cli import main

MAIL = {"at": "10m", "from": "ann@example.com", "to": ["bob@example.net"]}


class SimulateTests(SynchronousTestCase):
    """Its arguments, its table, its plot."""

    @override
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.traffic = self.file("traffic", json.dumps(MAIL))

    def file(self, name: str, text: str) -> str:
        """Write a file; gives its path."""
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def run_it(self, *words: str) -> tuple[int, str, str]:
        """Exit status, output, errors."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(["simulate", *words])
        return status, out.getvalue(), err.getvalue()

    def test_a_wrong_schedule(self) -> None:
        """Must-show: a cap above the lifetime is told, beside what the defaults do."""
        wrong = self.file(
            "fwdmta.toml",
            'hostname = "mail.example.com"\n[queue]\nminimal_backoff_time = "12h"\n'
            'maximal_backoff_time = "10d"\nmaximal_queue_lifetime = "2d"\n',
        )
        status, out, _ = self.run_it(
            *("--config", wrong, "--traffic", self.traffic),
            *("--fault", "down=example.net@0s+1h"),
        )
        self.assertEqual(status, 0)
        self.assertIn("! queue.maximal_backoff_time (10.0 d) is above", out)
        self.assertIn("this configuration", out)
        self.assertIn("the defaults", out)
        self.assertRegex(out, r"worst wait +(9|10|11|12)\.\d h +1\.\d h")

    def test_a_plot(self) -> None:
        """It is written where it is wanted."""
        path = str(self.directory / "plot.svg")
        status, _, err = self.run_it("--traffic", self.traffic, "--svg", path)
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(Path(path).read_text().startswith("<svg "))

    def test_json(self) -> None:
        """The figures for programs."""
        status, out, _ = self.run_it("--traffic", self.traffic, "--json")
        self.assertEqual(status, 0)
        self.assertEqual(json.loads(out)["ended"], {"delivered": 1})

    def test_misuse(self) -> None:
        """One line says what is wrong, and the status is 2."""
        nothing = str(self.directory / "nothing")
        for words, said in (
            (("--fault", "plague"), "the faults are down, network"),
            (("--traffic", nothing), "there is no message in it"),
            (("--traffic", self.traffic, "--days", "0.001"), "no mail in 0.001 days"),
            (("--days", "many"), "want a number of days"),
            (("--days", "1000"), "want a number up to 60"),
        ):
            status, _, err = self.run_it(*words)
            self.assertEqual(status, 2, words)
            self.assertIn(said, err)

    def test_a_bar(self) -> None:
        """Progress is drawn on a terminal, and taken away at the end."""
        terminal = io.StringIO()
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        with redirect_stderr(terminal):
            simulate_verb._bar(0.5)
            simulate_verb._bar(None)
        self.assertIn("[" + "#" * 20 + "." * 20 + "]  50 %", terminal.getvalue())
        self.assertTrue(terminal.getvalue().endswith("\r\x1b[K"))
        self.assertFalse(os.path.exists("plot.svg"))
