#!/usr/bin/env python3
"""Starts this server as a peer of the benchmark: writes a configuration, is twistd.

Listens on a relay listener, or with a certificate on implicit TLS with AUTH.
`--profile` keeps a cProfile of the reactor's thread in that file.
"""

import argparse
import os
import sys
from typing import Any

_CONFIGURATION = """
hostname = "bench.example"
state_dir = "{folder}/state"
[[listener]]
service = "{service}"
address = "127.0.0.1:{port}"
{trusted}
[tls]
certificate = "{certificate}"
private_key = "{certificate}"
[accounts]
file = "{folder}/accounts.toml"
[limits]
connections_per_client = 10000
connections_per_account = 10000
[queue]
index = {index}
[metrics]
{metrics}
[delivery]
relayhost = "[127.0.0.1]:{sink}"
tls_security_level = "none"
[delivery.transport]
"defer.example" = "[127.0.0.1]:{dead}"
"""
ACCOUNT = """[[account]]
login = "u@bench.example"
password = "{password}"
send_as = ["*@bench.example"]
"""
_NAMES = ("folder", "port", "sink", "dead", "certificate")


def arguments(place: Any) -> list[str]:
    """The options of this program for a place."""
    said = [(name, getattr(place, name)) for name in _NAMES]
    return [
        word
        for name, value in said
        if value is not None
        for word in (f"--{name}", str(value))
    ]


def write(path: str, text: str) -> None:
    """Write a file that others may read."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o644)


def configuration(service: str, **fields: object) -> str:
    """The configuration of the server under test."""
    trusted = "" if service != "relay" else 'trusted_networks = ["127.0.0.0/8"]'
    unused = {"certificate": "unused", "index": "true", "metrics": ""}
    return _CONFIGURATION.format(service=service, trusted=trusted, **(unused | fields))


def main() -> None:
    """Write the files and become the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in _NAMES:
        parser.add_argument(f"--{name}")
    parser.add_argument("--profile")
    parser.add_argument("--no-index", action="store_true")
    parser.add_argument("--metrics", action="store_true", help="on a free port")
    place = parser.parse_args()
    is_tls = place.certificate is not None
    said = {name: getattr(place, name) for name in _NAMES if getattr(place, name)}
    said["index"] = "false" if place.no_index else "true"
    said["metrics"] = 'address = "127.0.0.1:0"' if place.metrics else ""
    text = configuration("submissions" if is_tls else "relay", **said)
    write(f"{place.folder}/fwdmta.toml", text)
    from fwd_mta.inbound.passwords import argon2id_hash

    account = ACCOUNT.format(password=argon2id_hash("p"))
    write(f"{place.folder}/accounts.toml", account)
    os.chmod(f"{place.folder}/accounts.toml", 0o600)
    twistd = os.path.join(os.path.dirname(sys.executable), "twistd")
    profile = ["--profile", place.profile, "--profiler", "cprofile", "--savestats"]
    os.execv(
        sys.executable,
        [sys.executable, twistd, "-n", "--pidfile="]
        + (profile if place.profile else [])
        + ["fwdmta", "--config", f"{place.folder}/fwdmta.toml"],
    )


if __name__ == "__main__":
    main()
