"""What `twistd fwdmta --demo` lives on: files, a configuration, and the outside world.

Doorway: `Demo`. The far side is one `RemoteHost` on a loopback socket, which all mail
goes to; what it takes is laid into `state_dir/inbox/<recipient>/` as .eml files.
Nothing leaves this machine.
"""

import json
import re
from base64 import b32encode
from collections.abc import Mapping

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IListeningPort, IReactorTime

from fwd_mta.inbound.passwords import argon2id_hash
from fwd_mta.interfaces import Disk, Entropy, Network, WallClock
from fwd_mta.net.tls import ServerTls, server_context
from fwd_mta.world.certificates import Authority
from fwd_mta.world.hosts import TAGS, Behaviour, Inbox, Received, RemoteHost

HOST = "127.0.0.1"
LOGIN = "you@demo.example"
FAR_HOST = "mx.far.example"
ANNOUNCEMENT = "demo.json"
INBOX = "inbox"

# The first retry comes 2.4 to 3 s after the first try, so it finds the greylist open.
DEMO_TAGS: Mapping[str, Behaviour] = {**TAGS, "greylist": Behaviour(greylist=2.0)}

_CONFIGURATION = """\
hostname = "mail.demo.example"
state_dir = {state_dir}
shutdown_grace = "2s"

[[listener]]
service = "submissions"
address = "127.0.0.1:0"

[[listener]]
service = "submission"
address = "127.0.0.1:0"

[tls]
certificate = {certificate}
private_key = {private_key}

[accounts]
file = {accounts}

[submission]
message_size_limit = "10MB"

[queue]
minimal_backoff_time = "3s"
maximal_backoff_time = "20s"
maximal_queue_lifetime = "1h"
bounce_queue_lifetime = "1h"
delay_warning_time = "1m"
minimum_free_space = "10MB"

[delivery.transport]
"*" = "[127.0.0.1]:{far_port}"
"""

_ACCOUNTS = """\
[[account]]
login = {login}
password = {password}
send_as = ["*@demo.example"]
"""

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9@.+_=-]")
_NAME_LIMIT = 120


class Demo:
    """One demo: `prepare` before the service is made, `announce` when it listens."""

    def __init__(
        self,
        state_dir: str,
        network: Network,
        disk: Disk,
        clock: IReactorTime,
        wall: WallClock,
        entropy: Entropy,
    ) -> None:
        self.password = b32encode(entropy.octets(10)).decode().lower()
        self.inbox = Inbox(self._lay)
        self._dir = state_dir
        self._network = network
        self._disk = disk
        self._authority = Authority(wall.now())
        tls = ServerTls(server_context(*self._authority.issue(FAR_HOST)))
        self.far_side = RemoteHost(FAR_HOST, clock, self.inbox, tls=tls, tags=DEMO_TAGS)
        self._port: IListeningPort | None = None

    async def prepare(self) -> str:
        """Write certificate and account, open the far side; gives the configuration.

        The Deferred under it fires at once on real sockets: `makeService` can wait.
        """
        self._port = await self._network.listen(f"{HOST}:0", self.far_side)
        certificate, private_key = self._authority.issue("localhost", HOST)
        self._disk.make_directory(self._dir)
        self._write("ca.pem", self._authority.pem)
        self._write("certificate.pem", certificate)
        self._write("key.pem", private_key)
        self._write("accounts.toml", self._accounts().encode())
        return _CONFIGURATION.format(
            state_dir=_quoted(self._dir),
            certificate=_quoted(f"{self._dir}/certificate.pem"),
            private_key=_quoted(f"{self._dir}/key.pem"),
            accounts=_quoted(f"{self._dir}/accounts.toml"),
            far_port=_number(self._port),
        )

    def announce(self, ports: Mapping[str, int]) -> None:
        """Write `demo.json`: the listeners' ports by service name, and how to log in.

        Whoever started the demo waits for this file.
        """
        told = {
            "host": HOST,
            "ports": dict(ports),
            "login": LOGIN,
            "password": self.password,
            "ca": f"{self._dir}/ca.pem",
            "inbox": f"{self._dir}/{INBOX}",
        }
        self._write(ANNOUNCEMENT, json.dumps(told, indent=2).encode() + b"\n")

    async def stop(self) -> None:
        """Close the far side."""
        if self._port is not None:
            port, self._port = self._port, None
            stopped = port.stopListening()
            if stopped is not None:
                await stopped

    def _accounts(self) -> str:
        hashed = argon2id_hash(self.password)
        return _ACCOUNTS.format(login=_quoted(LOGIN), password=_quoted(hashed))

    def _lay(self, message: Received) -> None:
        content = _delivered(message)
        for number, recipient in enumerate(message.recipients):
            folder = f"{INBOX}/{file_name(recipient)}"
            self._disk.make_directory(f"{self._dir}/{folder}")
            count = len(self.inbox.messages)
            self._write(f"{folder}/{count:06}-{number}.eml", content)

    def _write(self, name: str, content: bytes) -> None:
        """Write a file so that it is there whole or not at all."""
        path = f"{self._dir}/{name}"
        if self._disk.exists(f"{path}.new"):
            self._disk.remove(f"{path}.new")
        opened = self._disk.create(f"{path}.new")
        opened.append(content)
        opened.close()
        self._disk.rename(f"{path}.new", path)


def file_name(recipient: str) -> str:
    """The name of a recipient's folder: nothing of it can leave the inbox."""
    name = _NOT_IN_A_NAME.sub("_", recipient)[:_NAME_LIMIT]
    return "_" + name.lstrip(".") if name.startswith(".") else name


def _delivered(message: Received) -> bytes:
    """The content under a Return-Path, as final delivery adds it (RFC 5321 4.4)."""
    path = message.reverse_path.encode("utf-8", "replace")
    return b"Return-Path: <" + path + b">\r\n" + message.content


def _quoted(text: str) -> str:
    """The text as a TOML string; JSON's escapes are TOML's too."""
    return json.dumps(text, ensure_ascii=False)


def _number(port: IListeningPort) -> int:
    address = port.getHost()
    return address.port if isinstance(address, IPv4Address) else 0
