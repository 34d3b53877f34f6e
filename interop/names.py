"""Scenarios with knot, a real name server, in front of two sinks."""

import subprocess
from email import message_from_bytes
from pathlib import Path
from types import TracebackType
from typing import Self

from interop.kit import Workbench, expect, expect_in, free_port, wait_for
from interop.messages import SENDER, plain
from interop.server import Server
from interop.sink import Caught, Sink

_FIRST, _SECOND = "127.0.0.2", "127.0.0.3"

_ZONE = f"""\
$ORIGIN interop.example.
$TTL 1
@         SOA ns hostmaster 1 60 60 600 1
@         NS  ns
ns        A   127.0.0.1
first     A   {_FIRST}
second    A   {_SECOND}
two       MX  10 first
two       MX  20 second
implicit  A   {_SECOND}
null      MX  0 .
lost      MX  10 nowhere
"""

_KNOT = """\
server:
    rundir: {folder}
    listen: 127.0.0.1@{port}
database:
    storage: {folder}/database
log:
  - target: {folder}/knot.log
    any: info
template:
  - id: default
    storage: {folder}
    journal-content: none
zone:
  - domain: interop.example
    file: interop.example.zone
"""


class Knot:
    """A name server that knows the zone interop.example, and `more` in it."""

    def __init__(self, folder: Path, more: str = "") -> None:
        folder.mkdir()
        self.port = free_port()
        self._folder = folder
        (folder / "interop.example.zone").write_text(_ZONE + more, encoding="utf-8")
        text = _KNOT.format(folder=folder, port=self.port)
        (folder / "knot.conf").write_text(text, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it and wait until it has loaded the zone."""
        with (self._folder / "start.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["knotd", "-c", self._folder / "knot.conf"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        log_file = self._folder / "knot.log"
        wait_for(
            "knot has loaded its zone",
            lambda: log_file.exists() and "loaded" in log_file.read_text(),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


def exchangers(bench: Workbench) -> None:
    """The preferred exchanger is used while it is up, the other one when it is down."""
    first = bench.keep(Sink(_FIRST, free_port(_FIRST)))
    second = bench.keep(Sink(_SECOND, first.port))
    knot = bench.keep(Knot(bench.folder / "knot"))
    server = bench.keep(Server(bench, _by_names(knot.port, first.port)))
    server.submit(plain("a@two.interop.example", "preferred"), "a@two.interop.example")
    wait_for("the preferred one has it", lambda: _subjects(first) == ["preferred"])
    first.close()
    server.submit(plain("a@two.interop.example", "other"), "a@two.interop.example")
    wait_for("the other one has it", lambda: _subjects(second) == ["other"])
    to = "a@implicit.interop.example"
    server.submit(plain(to, "implicit"), to)
    wait_for(
        "the address without MX has it",
        lambda: _subjects(second) == ["other", "implicit"],
    )


def refusals(bench: Workbench) -> None:
    """A null MX and names that do not exist fail at once; the sender is told why."""
    sink = bench.keep(Sink())
    knot = bench.keep(Knot(bench.folder / "knot"))
    tables = _by_names(knot.port, sink.port) | _sender_at(sink.port)
    server = bench.keep(Server(bench, tables))
    for number, (domain, (code, wanted)) in enumerate(_REFUSED.items(), start=1):
        to = f"a@{domain}.interop.example"
        server.submit(plain(to, domain), to)
        sink.wait_for(number, f"the notice about {domain}")
        _expect_notice(sink.caught[-1], to, wanted)
        last = server.fwdmta_json("queue", "list", "--all", "--to", to)[0]["last"]
        known = (last["action"], last["code"], last["status"])
        expect(known == ("reject", code, wanted), f"{to} ended as {known}")


def dead_server(bench: Workbench) -> None:
    """A name server that does not answer defers a message and never fails it."""
    sink = bench.keep(Sink())
    port = free_port()
    tables = _by_names(port, sink.port) | _sender_at(sink.port)
    server = bench.keep(Server(bench, tables))
    to = "a@two.interop.example"
    server.submit(plain(to, "dead"), to)
    wait_for("the queue says 4.4.3", lambda: "4.4.3" in _first_entry(server), 90, 1)
    expect_in("deferred", _first_entry(server), "fwdmta queue show")
    expect(not sink.caught, f"a notice was sent: {sink.caught}")


_REFUSED = {
    "null": (556, "5.1.10"),
    "missing": (550, "5.1.2"),
    "lost": (550, "5.4.4"),
}


_TOLD = ("Final-Recipient", "Action", "Status")


def _by_names(dns: int, smtp: int) -> dict[str, str]:
    delivery = f"smtp_port = {smtp}\nallow_private_destinations = true"
    return {"delivery": delivery, "dns": f'nameservers = ["127.0.0.1:{dns}"]'}


def _sender_at(port: int) -> dict[str, str]:
    return {"delivery.transport": f'"sender.example" = "[127.0.0.1]:{port}"'}


def _subjects(sink: Sink) -> list[str]:
    return [caught.field("Subject") for caught in sink.caught]


def _expect_notice(notice: Caught, to: str, status: str) -> None:
    """A failure notice by the null reverse-path that gives recipient and reason."""
    expect(notice.mail.startswith("FROM:<>"), f"not a notice: {notice.mail}")
    expect(notice.recipients[0].startswith(f"TO:<{SENDER}>"), str(notice.recipients))
    report = message_from_bytes(notice.content)
    kind = (report.get_content_type(), report.get_param("report-type"))
    expect(kind == ("multipart/report", "delivery-status"), f"a notice of {kind}")
    told = [
        tuple(part[name] for name in _TOLD)
        for part in report.walk()
        if "Final-Recipient" in part
    ]
    expect(told == [(f"rfc822; {to}", "failed", status)], f"the notice says {told}")


def _first_entry(server: Server) -> str:
    entries = server.fwdmta_json("queue", "list")
    return server.fwdmta("queue", "show", entries[0]["id"]) if entries else ""


def domain_published(bench: Workbench) -> None:
    """What `domain new` prints is a zone, and --verify finds it once it is there."""
    server = bench.keep(Server(bench, {}))
    key = server.folder / "dkim.pem"
    made = ["dkim", "new", "interop.example", "--out", str(key)]
    server.fwdmta(*made, configured=False)
    table = f'domain = "interop.example"\nselector = "fwd1"\nprivate_key = "{key}"'
    empty = bench.keep(Knot(bench.folder / "empty"))
    _look_at(server, table, empty)
    printed = server.fwdmta("domain", "new", "interop.example")
    said = server.fwdmta(*_VERIFY, allowed=1)
    expect("all that mail needs" not in said, f"nothing is published, yet: {said}")
    full = bench.keep(Knot(bench.folder / "full", printed))
    _look_at(server, table, full)
    expect_in("all that mail needs", server.fwdmta(*_VERIFY), "the published zone")


_VERIFY = ("domain", "new", "interop.example", "--verify", "--timeout", "5")


def _look_at(server: Server, table: str, knot: Knot) -> None:
    dns = f'nameservers = ["127.0.0.1:{knot.port}"]'
    server.configure(server.usual({"dns": dns, "[dkim]": table}))
