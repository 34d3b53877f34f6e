"""The sendmail command, with a whole server in memory behind it."""

import json
import sys
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.asking import CommandError, Json
from fwd_mta.admin.control_socket import REQUEST_LIMIT
from fwd_mta.admin.sendmail import (
    DATA,
    NO_INPUT,
    NO_USER,
    OK,
    TRY_AGAIN,
    UNAVAILABLE,
    USAGE,
    Around,
    Talk,
    main,
)
from fwd_mta.admin.submitting import AT_ONCE, PATIENCE
from fwd_mta.mail.entry import EntryFilter, QueueEntry
from tests.kit import CONFIGURATION, World

MESSAGE = b"From: ann@example.com\nTo: bob@example.net\nSubject: hello\n\nHello\n"


class Line:
    """A control socket without a socket."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[Json] = []

    def ask(self, request: Json) -> Json:
        """Ask the server in memory, by way of JSON."""
        line = json.dumps(request)
        assert len(line) < REQUEST_LIMIT
        self.asked.append(request)
        answer = self.world.done(self.world.server.commands.obey(json.loads(line)))
        told: Json = json.loads(json.dumps(answer))
        return told

    def close(self) -> None:
        """Nothing is open."""


class SendmailTests(SynchronousTestCase):
    """From the command line to the queue."""

    @override
    def setUp(self) -> None:
        """A server, and a configuration file that leads to it."""
        self.serve()
        self.file = self.mktemp()
        Path(self.file).write_text(CONFIGURATION, encoding="utf-8")
        self.errors = StringIO()
        self.patch(sys, "stderr", self.errors)

    def serve(self, extra: str = "") -> None:
        """Start a server with some more settings."""
        self.world = World(extra=extra)
        self.world.start()
        self.line = Line(self.world)

    def reach(self, state_dir: str) -> Talk | None:
        """Find the server by its directory."""
        self.assertEqual(state_dir, "/state")
        return self.line

    def send(self, *words: str, text: bytes = MESSAGE) -> int:
        """Run the command; gives its status."""
        around = Around(1000, "joe", lambda limit: text[:limit], self.reach)
        return main(["--config", self.file, *words], around)

    def queued(self) -> list[QueueEntry]:
        """What the queue has taken, finished or not."""
        wanted = EntryFilter(finished=True)
        return list(self.world.done(self.world.server.store.entries(wanted)))

    def sent(self, *words: str, text: bytes = MESSAGE) -> tuple[QueueEntry, bytes]:
        """Send one message; its entry and its content as it stands in the queue."""
        self.assertEqual(self.send(*words, text=text), OK, self.errors.getvalue())
        (entry,) = [one for one in self.queued() if one.cause is None]
        message = self.world.done(self.world.server.store.open(entry.id))
        body = self.world.done(message.read(0, message.body_size))
        return entry, message.head + b"\r\n" + body

    def recipients(self, entry: QueueEntry) -> list[str]:
        """The recipients of an entry, as text."""
        return [str(one.mailbox) for one in entry.envelope.recipients]

    def test_a_message_is_queued_before_the_answer(self) -> None:
        """The queue has it, with where it came from and whose it is."""
        entry, content = self.sent("-i", "-f", "ann@example.com", "bob@example.net")
        self.assertEqual(str(entry.envelope.reverse_path), "ann@example.com")
        self.assertEqual(self.recipients(entry), ["bob@example.net"])
        self.assertEqual(entry.origin.hello, "fwdmta_sendmail.uid-1000")
        self.assertEqual(entry.origin.protocol, "local")
        self.assertIsNone(entry.account)
        self.assertTrue(content.endswith(b"\r\n\r\nHello\r\n"))
        self.assertIn(b"Message-ID: <", content)
        self.assertIn(b"Date: ", content)
        self.assertIn(b" with local id ", content.replace(b"\r\n", b""))

    def test_it_is_delivered(self) -> None:
        """What the command handed over arrives like any other mail."""
        self.assertEqual(self.send("bob@example.net"), OK)
        self.world.pass_time(5)
        self.assertEqual(len(self.world.inbox.messages), 1)

    def test_recipients_of_the_header(self) -> None:
        """-t takes To, Cc and Bcc with those named; Bcc goes no further."""
        text = (
            b"From: ann@example.com\r\nTo: Bob <bob@example.net>\r\nCc: joe\r\n"
            b"Bcc: eve@example.net\r\n\r\nHello\r\n"
        )
        entry, content = self.sent("-t", "kim@example.net", text=text)
        self.assertEqual(
            sorted(self.recipients(entry)),
            [
                "bob@example.net",
                "eve@example.net",
                "joe@mail.example.com",
                "kim@example.net",
            ],
        )
        self.assertNotIn(b"eve", content)

    def test_mail_of_cron(self) -> None:
        """Bare names are of this machine, in the envelope and as the author."""
        text = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron\n\nout\n"
        entry, content = self.sent(
            "-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root", text=text
        )
        self.assertEqual(str(entry.envelope.reverse_path), "joe@mail.example.com")
        self.assertEqual(self.recipients(entry), ["root@mail.example.com"])
        self.assertIn(b"From: Cron Daemon <root@mail.example.com>\r\n", content)

    def test_a_missing_author(self) -> None:
        """A text without a header gets one, with the name of -F."""
        entry, content = self.sent(
            "-F", "Jo, the Ox", "-f", "", "bob@example.net", text=b"out of disk\n"
        )
        self.assertIsNone(entry.envelope.reverse_path)
        self.assertIn(b'From: "Jo, the Ox" <joe@mail.example.com>\r\n', content)
        self.assertTrue(content.endswith(b"\r\n\r\nout of disk\r\n"))

    def test_a_lone_dot(self) -> None:
        """It ends a message, unless -i or -oi says that it does not."""
        text = MESSAGE + b".\nmore\n"
        for words, end in (
            ([], b"Hello\r\n"),
            (["-i"], b"more\r\n"),
            (["-oi"], b"more\r\n"),
        ):
            self.serve()
            _, content = self.sent(*words, "bob@example.net", text=text)
            self.assertTrue(content.endswith(end), words)

    def test_a_large_message(self) -> None:
        """Content and recipients go in pieces, each within the socket's limit."""
        body = b"".join(b"line %d\n" % number for number in range(60_000))
        many = [f"r{number}@example.net" for number in range(200)]
        entry, content = self.sent("-i", *many, text=MESSAGE + body)
        self.assertGreater(len(self.line.asked), 20)
        self.assertEqual(self.recipients(entry), many)
        self.assertTrue(content.endswith(body.replace(b"\n", b"\r\n")))

    def test_statuses(self) -> None:
        """Each way to fail has its status, its words, and leaves nothing queued."""
        two = b"From: a@example.com\nFrom: b@example.com\n\nx\n"
        for words, text, status, line in (
            (["-bs"], MESSAGE, USAGE, "speaks no SMTP"),
            (["-bp"], MESSAGE, USAGE, "fwdmta queue list"),
            (["--what"], MESSAGE, USAGE, "--help"),
            ([], MESSAGE, USAGE, "no recipients"),
            (["bob@example.net"], two, DATA, "550 5.6.0 The message has 2 From"),
            (["bob@example.net"], MESSAGE + b"\0", DATA, "NUL"),
            (["-t"], b"To: a b c@d\n\nx\n", DATA, "White space"),
            (["bob@exa mple.net"], MESSAGE, NO_USER, "553 5.1.3"),
            (["b" * 600], MESSAGE, NO_USER, "too long"),
            (["-f", "a b@c", "bob@example.net"], MESSAGE, DATA, "553 5.1.7"),
        ):
            self.assertEqual(self.send(*words, text=text), status, (words, text))
            self.assertIn(line, self.errors.getvalue(), words)
            self.errors.truncate(0)
        self.assertEqual(self.queued(), [])

    def test_ignored_flags(self) -> None:
        """What changes nothing here is no reason to refuse mail."""
        flags = "-odi -oem -om -v -n -m -bm -B8BITMIME -N never -R hdrs -V id -h 3"
        self.assertEqual(self.send(*flags.split(), "bob@example.net"), OK)

    def test_no_server(self) -> None:
        """Without one it is to be tried again, and the line says why."""
        around = Around(0, "root", lambda limit: MESSAGE[:limit], lambda _: None)
        status = main(["--config", self.file, "bob@example.net"], around)
        self.assertEqual(status, TRY_AGAIN)
        self.assertIn("no server answers at /state/control", self.errors.getvalue())

    def test_what_cannot_be_reached(self) -> None:
        """A socket that is not ours, a configuration that is not there, no input."""

        def forbidden(_: str) -> Talk | None:
            raise CommandError("Permission denied")

        def broken(_: int) -> bytes:
            raise OSError("it is closed")

        given = ["--config", self.file, "bob@example.net"]
        around = Around(1, "joe", lambda limit: MESSAGE[:limit], forbidden)
        self.assertEqual(main(given, around), UNAVAILABLE)
        self.assertEqual(main(given, Around(1, "joe", broken)), NO_INPUT)
        given[1] = self.file + ".not"
        self.assertEqual(main(given, around), UNAVAILABLE)

    def test_a_full_disk(self) -> None:
        """What the server says 4yz to is to be tried again."""
        self.patch(self.world.server.store, "has_room", lambda _: False)
        self.assertEqual(self.send("bob@example.net"), TRY_AGAIN)
        self.assertIn("452 4.3.1", self.errors.getvalue())

    def test_too_large(self) -> None:
        """The server's limit holds, whatever the command thinks of it."""
        self.serve('[submission]\nmessage_size_limit = "100KB"\n')
        text = MESSAGE + b"x" * 70 + b"\n" + b"y" * 70 + b"\n"
        self.assertEqual(self.send("bob@example.net", text=text * 1000), DATA)
        self.assertIn("552 5.3.4", self.errors.getvalue())
        self.assertEqual(self.queued(), [])

    def test_messages_that_nobody_finishes(self) -> None:
        """Their number is bounded, and their places are free again after a while."""
        begun = {"verb": "submit", "sender": "", "uid": 0}
        ids = [self.line.ask(begun)["id"] for _ in range(AT_ONCE)]
        self.assertEqual(self.send("bob@example.net"), TRY_AGAIN)
        self.world.pass_time(PATIENCE + 1, 50)
        self.assertEqual(self.send("bob@example.net"), OK)
        answer = self.line.ask(begun | {"id": ids[0]})
        self.assertIn("not finished in time", answer["error"])
