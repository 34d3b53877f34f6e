"""How the command reaches the queue: real sockets, a real store, and neither."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorUNIX
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from typing_extensions import override

from fwd_mta.admin.asking import CommandError, Json
from fwd_mta.admin.command import file_store
from fwd_mta.admin.control import Commands
from fwd_mta.admin.control_socket import ControlFactory
from fwd_mta.admin.link import SOCKET_NAME, at_once, connect, link
from fwd_mta.config import parse
from fwd_mta.interfaces import QueueStore
from fwd_mta.mail.errors import StoreError
from fwd_mta.mail.message import Message
from fwd_mta.world.machine import VirtualWall
from tests.admin.keeping import HEAD, NOW, ListKeeper, an_id, entry


def wall() -> VirtualWall:
    """Give a clock that stands."""
    return VirtualWall(Clock(), NOW)


def no_store(clock: Clock) -> QueueStore:
    """Fail a test that should have met a server."""
    raise AssertionError(clock)


class SocketTests(TestCase):
    """The server's control socket."""

    @override
    def setUp(self) -> None:
        """Serve a queue on a socket of a short name."""
        directory = tempfile.TemporaryDirectory(prefix="fwd")
        self.addCleanup(directory.cleanup)
        self.state_dir = directory.name
        self.keeper = ListKeeper(*[entry(number) for number in range(1, 40)])
        factory = ControlFactory(Commands(self.keeper, wall()), lambda _: None)
        self.factory = factory
        port = IReactorUNIX(reactor).listenUNIX(
            f"{self.state_dir}/{SOCKET_NAME}", factory, mode=0o600
        )
        self.addCleanup(port.stopListening)
        self.addCleanup(factory.close)

    def ask(self, *requests: Json) -> "Deferred[list[Json]]":
        """Ask as the command does, from a thread."""

        def run() -> list[Json]:
            with link(self.state_dir, wall(), no_store) as call:
                return [call(request) for request in requests]

        return deferToThread(run)

    async def test_asks_a_running_server(self) -> None:
        """Several requests go over one connection."""
        counts, shown = await self.ask(
            {"verb": "count"}, {"verb": "show", "id": an_id(7)}
        )
        self.assertEqual(counts["counts"]["queued"], 39)
        self.assertEqual(shown["entry"]["id"], an_id(7))

    async def test_takes_long_answers(self) -> None:
        """An answer of many pieces is read to its end."""
        body = b"x" * 300_000
        self.keeper.content[an_id(1)] = Message(HEAD, body)
        (answer,) = await self.ask({"verb": "cat", "id": an_id(1)})
        self.assertGreater(len(answer["content"]), 400_000)

    async def test_says_that_the_server_hung_up(self) -> None:
        """A server that stops meanwhile is one line, not a traceback."""

        def run() -> list[Json]:
            with link(self.state_dir, wall(), no_store) as call:
                call({"verb": "count"})
                reactor.callFromThread(self.factory.close)  # type: ignore[attr-defined]
                return [call({"verb": "count"}) for _ in range(1000)]

        failure = await self.assertFailure(deferToThread(run), CommandError)
        self.assertIn("server", str(failure))


class StoreTests(SynchronousTestCase):
    """The store itself, when no server runs."""

    @override
    def setUp(self) -> None:
        """Begin with a state_dir that holds one message."""
        directory = tempfile.TemporaryDirectory(prefix="fwd")
        self.addCleanup(directory.cleanup)
        self.state_dir = directory.name
        text = f'hostname = "a.example"\nstate_dir = "{self.state_dir}"'
        configuration = parse(text, "/etc/fwdmta.toml")
        self.open_store: Callable[[Clock], QueueStore] = lambda clock: file_store(
            configuration, clock
        )
        clock = Clock()
        store = self.open_store(clock)
        at_once(store.start(NOW), clock)
        at_once(store.add(entry(1), Message(HEAD, b"Body\r\n")), clock)
        at_once(store.stop(), clock)

    def test_asks_the_store(self) -> None:
        """Without a server the command reads and changes the queue by itself."""
        with link(self.state_dir, wall(), self.open_store) as call:
            self.assertEqual(call({"verb": "count"})["counts"]["queued"], 1)
            request = {"verb": "change", "change": "hold", "ids": [an_id(1)]}
            self.assertTrue(call(request)["items"][0]["done"])
        with link(self.state_dir, wall(), self.open_store) as call:
            shown = call({"verb": "show", "id": an_id(1)})["entry"]
            self.assertEqual(shown["held"], "by an operator")

    def test_takes_no_dead_socket_for_a_server(self) -> None:
        """A socket file that a killed server left behind is no server."""
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(f"{self.state_dir}/{SOCKET_NAME}")
        dead.close()
        with link(self.state_dir, wall(), self.open_store) as call:
            self.assertEqual(call({"verb": "count"})["counts"]["queued"], 1)

    def test_lets_go_of_the_lock(self) -> None:
        """After a command, also a failed one, a server can start."""

        def fail() -> None:
            with link(self.state_dir, wall(), self.open_store) as call:
                call({"verb": "count"}).pop("")

        self.assertRaises(KeyError, fail)
        clock = Clock()
        store = self.open_store(clock)
        at_once(store.start(NOW), clock)
        at_once(store.stop(), clock)

    def test_says_who_holds_the_lock(self) -> None:
        """A locked queue without a server to ask is one line with the holder."""
        clock = Clock()
        store = self.open_store(clock)
        at_once(store.start(NOW), clock)
        try:
            with link(self.state_dir, wall(), self.open_store):
                self.fail("two owners of one queue")
        except CommandError as error:
            words = str(error)
        finally:
            at_once(store.stop(), clock)
        self.assertIn("no server answers", words)
        self.assertIn("process", words)
        self.assertNotIn("\n", words)

    def test_makes_no_queue(self) -> None:
        """A question never makes a state_dir."""
        nowhere = f"{self.state_dir}/nowhere"
        with self.assertRaises(CommandError) as caught:
            link(nowhere, wall(), self.open_store).__enter__()
        self.assertIn("there is no queue", str(caught.exception))
        self.assertFalse(Path(nowhere).exists())

    def test_leaves_the_queue_of_another_user_alone(self) -> None:
        """Files of root in the queue would stop the server: say whom to be."""
        real = os.geteuid()
        self.patch(os, "geteuid", lambda: real + 1)
        with self.assertRaises(CommandError) as caught:
            link(self.state_dir, wall(), no_store).__enter__()
        self.assertIn(f"belongs to user {real}", str(caught.exception))
        self.assertIn("sudo -u", str(caught.exception))

    def test_root_becomes_the_owner(self) -> None:
        """As root the command makes the owner's files, and is root again after it."""
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")
        for path in (Path(self.state_dir), *Path(self.state_dir).rglob("*")):
            os.chown(path, 65_534, 65_534)
        with link(self.state_dir, wall(), self.open_store) as call:
            call({"verb": "change", "change": "hold", "ids": [an_id(1)]})
            self.assertEqual((os.geteuid(), os.getegid()), (65_534, 65_534))
        self.assertEqual(os.geteuid(), 0)
        owners = {path.stat().st_uid for path in Path(self.state_dir).rglob("*")}
        self.assertEqual(owners, {65_534})

    def test_says_that_the_socket_is_forbidden(self) -> None:
        """A path that cannot be connected to is one line."""
        long = self.state_dir + "/" + "x" * 150
        with self.assertRaises(CommandError) as caught:
            connect(long)
        self.assertIn(SOCKET_NAME, str(caught.exception))


class AtOnceTests(SynchronousTestCase):
    """Coroutines without a reactor."""

    def test_gives_the_result(self) -> None:
        """What needs no waiting is done at once, what waits a moment soon after."""

        async def soon(clock: Clock) -> int:
            waiting: Deferred[int] = Deferred()
            clock.callLater(5, waiting.callback, 7)
            return await waiting

        clock = Clock()
        self.assertEqual(at_once(soon(clock), clock), 7)

    def test_raises_what_is_raised(self) -> None:
        """A failure is an exception here."""

        async def fail() -> None:
            raise StoreError("full")

        self.assertRaises(StoreError, at_once, fail(), Clock())

    def test_does_not_wait_for_ever(self) -> None:
        """What never ends is a bug, and is called one."""

        async def never() -> None:
            await Deferred()

        error = self.assertRaises(CommandError, at_once, never(), Clock())
        self.assertIn("bug", str(error))
