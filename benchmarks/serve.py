#!/usr/bin/env python3
"""Start this server as a peer of the benchmark: writes a configuration, execs twistd.

usage: serve.py --port P --sink S --dead D --dir DIR [--cert PEM]
Listens on 127.0.0.1:P (a relay listener, or implicit TLS with AUTH when a certificate
is given), relays all to 127.0.0.1:S and *@defer.example to 127.0.0.1:D.
"""

import argparse
import os
import sys

CONFIGURATION = """
hostname = "bench.example"
state_dir = "{dir}/state"
[[listener]]
service = "{service}"
address = "127.0.0.1:{port}"
{trusted}
[tls]
certificate = "{cert}"
private_key = "{cert}"
[accounts]
file = "{dir}/accounts.toml"
[limits]
connections_per_client = 10000
connections_per_account = 10000
[delivery]
relayhost = "[127.0.0.1]:{sink}"
tls_security_level = "none"
[delivery.transport]
"defer.example" = "[127.0.0.1]:{dead}"
"""


def main() -> None:
    """Write the files and become the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("port", "sink", "dead"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--cert")
    parser.add_argument("--profile")
    options = parser.parse_args()
    tls = options.cert is not None
    text = CONFIGURATION.format(
        dir=options.dir,
        port=options.port,
        sink=options.sink,
        dead=options.dead,
        cert=options.cert or "unused",
        service="submissions" if tls else "relay",
        trusted="" if tls else 'trusted_networks = ["127.0.0.0/8"]',
    )
    with open(f"{options.dir}/fwdmta.toml", "w", encoding="utf-8") as file:
        file.write(text)
    from fwd_mta.inbound.accounts import argon2id_hash

    with open(f"{options.dir}/accounts.toml", "w", encoding="utf-8") as file:
        file.write(
            '[[account]]\nlogin = "u@bench.example"\n'
            f'password = "{argon2id_hash("p")}"\nsend_as = ["*@bench.example"]\n'
        )
    twistd = os.path.join(os.path.dirname(sys.executable), "twistd")
    profile = ["--profile", options.profile, "--profiler", "cprofile", "--savestats"]
    os.execv(
        sys.executable,
        [sys.executable, twistd, "-n", "--pidfile="]
        + (profile if options.profile else [])
        + ["fwdmta", "--config", f"{options.dir}/fwdmta.toml"],
    )


if __name__ == "__main__":
    main()
