"""What `--demo` lives on, in memory."""

import json
import tomllib

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta import config
from fwd_mta.inbound.accounts import parse_accounts
from fwd_mta.mail.session import Service
from fwd_mta.net.tls import certificate_names
from fwd_mta.world.demo import LOGIN, Demo, file_name
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.hosts import Received
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from fwd_mta.world.network import MemoryNetwork

DIRECTORY = '/srv/a "demo"'


def received(
    recipient: str, content: bytes = b"Subject: x\r\n\r\nhello\r\n"
) -> Received:
    """A message as the far side takes it."""
    return Received(
        at=0.0,
        host="mx.far.example",
        client="127.0.0.1",
        hello="mail.demo.example",
        tls=None,
        reverse_path=LOGIN,
        recipients=(recipient,),
        content=content,
    )


class DemoTests(SynchronousTestCase):
    """Files, configuration and the far side."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = MemoryDisk()
        entropy = SeededEntropy()
        self.network = MemoryNetwork(self.clock, entropy)
        wall = VirtualWall(self.clock)
        self.demo = Demo(DIRECTORY, self.network, self.disk, self.clock, wall, entropy)
        preparing = Deferred.fromCoroutine(self.demo.prepare())
        self.text = self.successResultOf(preparing)

    def file(self, name: str) -> bytes:
        """The content of a file in the demo's directory."""
        opened = self.disk.open(f"{DIRECTORY}/{name}")
        return opened.read_at(0, opened.size())

    def test_configuration(self) -> None:
        """The configuration is a good one, on loopback only, with fast retries."""
        configuration = config.parse(self.text, "--demo")
        addresses = [one.address for one in configuration.listeners]
        services = [one.service for one in configuration.listeners]
        self.assertEqual(addresses, ["127.0.0.1:0"] * 2)
        self.assertEqual(services, [Service.SUBMISSIONS, Service.SUBMISSION])
        self.assertEqual(configuration.state_dir, DIRECTORY)
        self.assertEqual(configuration.queue.minimal_backoff_time, 3)

    def test_all_mail_stays(self) -> None:
        """Every recipient of the world is the far side's, which is on loopback."""
        (table,) = [tomllib.loads(self.text)["delivery"]["transport"]]
        self.assertEqual(list(table), ["*"])
        host, _, port = table["*"].rpartition(":")
        self.assertEqual(host, "[127.0.0.1]")
        self.assertIs(
            self.network.port_at("127.0.0.1", int(port)).factory,  # type: ignore[union-attr]
            self.demo.far_side,
        )

    def test_files(self) -> None:
        """Certificate and account are there, and the password is not readable."""
        self.assertEqual(
            list(certificate_names(self.file("certificate.pem"))), ["localhost"]
        )
        self.assertIn(b"PRIVATE KEY", self.file("key.pem"))
        self.assertNotIn(b"PRIVATE KEY", self.file("ca.pem"))
        accounts = self.file("accounts.toml")
        (account,) = parse_accounts(accounts).values()
        self.assertEqual(account.account.login, LOGIN)
        self.assertNotIn(self.demo.password.encode(), accounts)

    def test_announcement(self) -> None:
        """Who waits for the demo finds ports, account, password and CA file."""
        self.demo.announce({"submissions": 4651, "submission": 5871})
        told = json.loads(self.file("demo.json"))
        self.assertEqual(told["ports"], {"submissions": 4651, "submission": 5871})
        self.assertEqual((told["login"], told["password"]), (LOGIN, self.demo.password))
        self.assertEqual(told["ca"], f"{DIRECTORY}/ca.pem")
        self.demo.announce({"submissions": 1})
        self.assertEqual(
            json.loads(self.file("demo.json"))["ports"], {"submissions": 1}
        )

    def test_inbox(self) -> None:
        """What arrives lies in the recipient's folder, each message a file."""
        for content in (b"one\r\n", b"two\r\n"):
            self.demo.inbox.take(received("friend@far.example", content))
        names = self.disk.names(f"{DIRECTORY}/inbox/friend@far.example")
        self.assertEqual(names, ["000001-0.eml", "000002-0.eml"])
        self.assertEqual(
            self.file("inbox/friend@far.example/000002-0.eml"),
            b"Return-Path: <you@demo.example>\r\ntwo\r\n",
        )

    def test_far_names(self) -> None:
        """No recipient's name leads out of the inbox."""
        for name in ("../../etc/cron.d/x@y", "..", ".", "a/b@c", "a\0b", "x" * 500, ""):
            folder = file_name(name)
            self.assertNotIn("/", folder)
            self.assertNotIn("\0", folder)
            self.assertFalse(folder.startswith("."), folder)
            self.assertLess(len(folder), 200)

    def test_stop(self) -> None:
        """The far side closes, and closing twice is fine."""
        port = int(tomllib.loads(self.text)["delivery"]["transport"]["*"].split(":")[1])
        for _ in range(2):
            self.successResultOf(Deferred.fromCoroutine(self.demo.stop()))
        self.assertIs(self.network.port_at("127.0.0.1", port), None)
