"""`fwdmta try` against a running server: all well, a wrong password, a wrong sender."""

import json
from typing import Any

from fwd_mta.admin import try_words
from interop.kit import Workbench, expect
from interop.messages import PASSWORD, SENDER
from interop.server import Server

_STEPS = ["connection", "TLS", "greeting", "offers", "login", "From"]
_ALL = ["DNS", *_STEPS, "connection", "greeting", "TLS", *_STEPS[3:]]


def tried(bench: Workbench) -> None:
    """All steps on both ports; what is wrong is the one step that fails."""
    server = bench.keep(Server(bench, {}))
    ca = ("--ca", str(bench.authority.certificate))
    good = _try(server, PASSWORD, *ca)
    expect([step["step"] for step in good] == _ALL, f"other steps: {good}")
    expect(all(step["ok"] for step in good), f"not all is well: {good}")
    unknown = _failed(_try(server, PASSWORD))
    expect(
        [step["do"] for step in unknown] == [try_words.AUTHORITY] * 2,
        f"an authority that nobody knows: {unknown}",
    )
    guessed = _failed(_try(server, "wrong", *ca))
    expect(
        [(step["step"], step["do"]) for step in guessed]
        == [("login", try_words.COPY_ANEW)],
        f"a wrong password: {guessed}",
    )
    foreign = _failed(_try(server, PASSWORD, *ca, "--from", "x@elsewhere.example"))
    expect(
        [(step["step"], step["do"]) for step in foreign]
        == [("From", try_words.SENDER)] * 2,
        f"a sender that is not the account's: {foreign}",
    )
    counted = server.fwdmta_json("queue", "list", "--all")
    expect(not counted, f"something was sent: {counted}")


def _try(server: Server, password: str, *words: str) -> list[dict[str, Any]]:
    ports = ("--port", f"{server.submissions}/tls", "--port", str(server.submission))
    out = server.fwdmta(
        *("try", "localhost", SENDER, "--password-stdin", "--json", *ports, *words),
        typed=password + "\n",
        allowed=1,
        configured=False,
    )
    return list(map(json.loads, out.splitlines()))


def _failed(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [step for step in steps if not step["ok"]]
