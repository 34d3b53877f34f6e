"""A whole server in memory: what it refuses to start with, and what it tells."""

import errno

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.settings import CannotServeError
from tests.kit import World


class StartTests(SynchronousTestCase):
    """`Server.start`."""

    @override
    def setUp(self) -> None:
        """A server whose ports are open."""
        self.world = World()
        self.world.done(self.world.server.bind())

    def test_no_control_socket(self) -> None:
        """A path too long for a socket's address is named, and the queue let go."""
        fault = OSError("AF_UNIX path too long")
        listen = self.world.network.listen

        def refuse(address: str, factory: object) -> Deferred[object]:
            if not address.startswith("unix:"):
                return listen(address, factory)  # type: ignore[arg-type,return-value]
            return fail(CannotListenError("", address, fault))

        self.patch(self.world.network, "listen", refuse)
        with self.assertRaises(CannotServeError) as caught:
            self.world.done(self.world.server.start())
        self.assertIn("state_dir: no control socket", str(caught.exception))
        self.assertIn("107 octets", str(caught.exception))
        self.world.done(self.world.make().store.start(self.world.wall.now()))

    def test_disk_trouble(self) -> None:
        """A full or forbidden disk is named by its setting, and nothing is held."""
        for trouble in (errno.ENOSPC, errno.EACCES):
            self.world.disk.refuse(trouble, "create", "make_directory")
            with self.assertRaises(CannotServeError) as caught:
                self.world.done(self.world.server.start())
            [line] = caught.exception.lines
            self.assertTrue(line.startswith("state_dir /state: the disk says"), line)
            self.world.disk.relent()
        self.world.done(self.world.server.start())

    def test_second_instance(self) -> None:
        """The queue belongs to one process; the other one is told so and ends."""
        self.world.done(self.world.server.start())
        second = self.world.make()
        with self.assertRaises(CannotServeError) as caught:
            self.world.done(second.start())
        self.assertIn("/state/fwdmta.lock is locked by", str(caught.exception))


class StopTests(SynchronousTestCase):
    """`Server.stop`."""

    def test_last_words(self) -> None:
        """Who is still in a transaction at the end hears why; nothing is kept."""
        world = World()
        world.start()
        wires = [world.connect(25) for _ in range(2)]
        for wire, last in zip(wires, (b"", b"DATA\r\nSubject: half"), strict=True):
            wire.say(b"EHLO x\r\nMAIL FROM:<ann@example.com>\r\n")
            wire.say(b"RCPT TO:<bob@example.net>\r\n" + last)
            world.settle()
            _ = wire.take()
        world.done(world.server.stop())
        world.settle()
        for wire in wires:
            self.assertTrue(wire.closed)
            self.assertEqual(wire.take()[:9], b"421 4.3.2")
        left = [path for path in world.disk.files() if path.endswith(".body")]
        self.assertEqual(left, [])
