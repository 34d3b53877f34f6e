"""Scenarios with Prometheus's own tools: they read our figures and our alert rules."""

import subprocess
import urllib.request
from pathlib import Path

from interop.kit import Workbench, expect, expect_in, free_port, wait_for
from interop.messages import plain
from interop.server import Server
from interop.sink import Sink

_RULES = Path(__file__).parents[1] / "etc" / "prometheus" / "fwdmta.rules.yml"
_INBOX = "reader@inbox.example"


def promtool(bench: Workbench) -> None:
    """Prometheus's promtool has nothing against our page of figures and our alerts."""
    sink = bench.keep(Sink())
    port = free_port()
    tables = {
        "metrics": f'address = "127.0.0.1:{port}"',
        "delivery": (
            f'relayhost = "[127.0.0.1]:{sink.port}"\nallow_private_destinations = true'
        ),
    }
    server = bench.keep(Server(bench, tables))
    server.submit(plain(_INBOX, "figures"), _INBOX)
    wait_for("the message arrives", lambda: bool(sink.caught))
    page = _get(port, "metrics")
    expect_in("fwdmta_accepted_messages_total 1.0", page, "the figures")
    expect_in("fwdmta_queue_messages", page, "the figures")
    _judge(["check", "metrics"], page)
    _judge(["check", "rules", str(_RULES)])
    expect_in("ready", _get(port, "readyz"), "the answer")


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as page:
        text: str = page.read().decode()
    return text


def _judge(words: list[str], typed: str = "") -> None:
    done = subprocess.run(
        ["promtool", *words], input=typed, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    expect(done.returncode == 0, f"promtool {' '.join(words)}: {said}")
