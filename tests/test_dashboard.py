"""The shipped Grafana dashboard shows figures that there are."""

import json
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.kit import OUR_ADDRESS, World

DASHBOARD = Path(__file__).parent.parent / "etc/grafana/fwdmta.json"
OURS = re.compile(r"\b(?:fwdmta|process)_[a-z_]+")


class DashboardTests(SynchronousTestCase):
    """`etc/grafana/fwdmta.json`."""

    def expressions(self) -> list[str]:
        """What the panels ask of Prometheus."""
        board: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
        return [one["expr"] for panel in board["panels"] for one in panel["targets"]]

    def test_each_figure_is_on_the_page(self) -> None:
        """Every figure that a panel asks for is written by a server."""
        world = World(extra=f'[metrics]\naddress = "{OUR_ADDRESS}:9464"\n')
        world.start()
        assert world.server.metrics is not None
        page = world.server.metrics.text().decode()
        names = {name for text in self.expressions() for name in OURS.findall(text)}
        self.assertGreater(len(names), 12)
        for name in names:
            family = name.removesuffix("_total").removesuffix("_bucket")
            self.assertRegex(page, rf"(?m)^# TYPE {family}(?:_total)? ", name)

    def test_panels_lie_beside_each_other(self) -> None:
        """No two panels have the same place or number."""
        board = json.loads(DASHBOARD.read_text("utf-8"))
        places = {(one["gridPos"]["x"], one["gridPos"]["y"]) for one in board["panels"]}
        self.assertEqual(len(places), len(board["panels"]))
        self.assertEqual(len({one["id"] for one in board["panels"]}), len(places))
