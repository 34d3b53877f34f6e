"""Tells systemd how we are: one datagram to the socket named by NOTIFY_SOCKET.

The protocol is sd_notify(3): lines of NAME=value. Without the variable nobody listens,
and nothing is sent.
"""

import socket
from collections.abc import Mapping

READY = "READY=1"
RELOADING = "RELOADING=1"
STOPPING = "STOPPING=1"


def sd_notify(environ: Mapping[str, str], *lines: str) -> bool:
    """Send the lines; whether somebody was there to be told.

    Never raises for what systemd does: a server that runs well must not stop because
    its supervisor did not listen.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    # A leading @ stands for the NUL of an abstract address.
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        try:
            channel.sendto("\n".join(lines).encode(), name)
        except OSError:
            return False
    return True


def status(text: str) -> str:
    """Make the line that `systemctl status` shows."""
    return f"STATUS={' '.join(text.split())}"
