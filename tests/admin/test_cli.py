"""The `fwdmta` command as an operator types it: output, errors, exit status."""

import io
import json
import os
import sys
import tempfile
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta import config
from fwd_mta.admin import account_verbs, cli, demo
from fwd_mta.admin.change_verbs import operator
from fwd_mta.admin.command import (
    Surroundings,
    UsageError,
    ask_at_terminal,
    file_store,
)
from fwd_mta.admin.link import at_once
from fwd_mta.config import parse
from fwd_mta.inbound.accounts import parse_accounts
from fwd_mta.mail.entry import QueueEntry
from fwd_mta.mail.message import Message
from fwd_mta.world.machine import SeededEntropy, VirtualWall
from tests.admin.keeping import HEAD, NOW, an_attempt, an_id, deferred, delivered, entry


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run of the command left."""

    status: int
    out: str
    err: str
    octets: bytes = b""

    @property
    def rows(self) -> list[Any]:
        """The JSON lines of its output."""
        return [json.loads(line) for line in self.out.splitlines()]


class CommandCase(SynchronousTestCase):
    """A configuration in a directory of its own, and the command."""

    @override
    def setUp(self) -> None:
        """Write the configuration."""
        directory = tempfile.TemporaryDirectory(prefix="fwd")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.file = self.directory / "fwdmta.toml"
        self.accounts = self.directory / "accounts.toml"
        self.write("")
        self.asked: list[str] = []

    def pause(self, seconds: float) -> None:
        """Sleep never."""
        raise AssertionError(seconds)

    def write(self, text: str) -> None:
        """Write the configuration, with what every one has."""
        self.file.write_text(
            'hostname = "mail.example.com"\nstate_dir = "state"\n'
            f'[accounts]\nfile = "accounts.toml"\n{text}'
        )

    def ask_password(self, prompt: str) -> str:
        """Answer as a person at the terminal."""
        self.asked.append(prompt)
        return "typed"

    def run_bare(self, *words: str, stdin: str = "") -> Ran:
        """Run the command without any configuration."""
        octets = io.BytesIO()
        out = io.TextIOWrapper(octets, "utf-8", write_through=True)
        err = io.StringIO()
        world = Surroundings(
            VirtualWall(Clock(), NOW),
            SeededEntropy(),
            file_store,
            self.ask_password,
            self.pause,
        )
        self.patch(sys, "stdin", io.StringIO(stdin))
        with redirect_stdout(out), redirect_stderr(err):
            status = cli.main(words, world)
        written = octets.getvalue()
        return Ran(status, written.decode("utf-8", "replace"), err.getvalue(), written)

    def fails(self, status: int, *words: str, stdin: str = "") -> str:
        """Run into an error, which is one line, with no traceback and no output."""
        ran = self.run_it(*words, stdin=stdin)
        self.assertEqual((ran.status, ran.out), (status, ""), ran.err)
        self.assertTrue(ran.err.startswith("fwdmta: "), ran.err)
        self.assertEqual(ran.err.count("\n"), 1, ran.err)
        return ran.err

    def done(self, *words: str, stdin: str = "") -> Ran:
        """Run to a good end, without a word on standard error."""
        ran = self.run_it(*words, stdin=stdin)
        self.assertEqual((ran.status, ran.err), (0, ""), ran.out)
        return ran

    def run_it(self, *words: str, stdin: str = "") -> Ran:
        """Run the command with the configuration of this test."""
        return self.run_bare(*words, "--config", str(self.file), stdin=stdin)


class LineTests(CommandCase):
    """The command line itself."""

    def test_says_how_it_is_used(self) -> None:
        """Wrong use is status 2, and one line that says where to read on."""
        for words in (
            ("nonsense",),
            (),
            ("queue",),
            ("queue", "show"),
            ("queue", "list", "--state", "lost"),
            ("queue", "list", "--older-than", "old"),
            ("account", "add"),
            ("account", "add", "a@example.com", "--generate", "--password-stdin"),
            ("bounce-info", "550 no", "--stage", "lunch"),
        ):
            self.assertIn("--help", self.fails(2, *words), words)

    def test_shows_help_and_version(self) -> None:
        """Help and version are no errors."""
        for words in (("--help",), ("queue", "list", "--help"), ("--version",)):
            ran = self.run_bare(*words)
            self.assertEqual((ran.status, ran.err), (0, ""))
            self.assertIn("fwd", ran.out)

    def test_takes_the_configuration_anywhere(self) -> None:
        """--config may stand before the verb, and behind it."""
        before = self.run_bare("--config", str(self.file), "account", "list")
        between = self.run_bare("account", "--config", str(self.file), "list")
        self.assertEqual((before.status, between.status), (0, 0))

    def test_names_the_usual_places(self) -> None:
        """Without a configuration it says where one is looked for."""
        self.patch(config, "PLACES", ("none.toml", "/nonexistent/fwdmta.toml"))
        ran = self.run_bare("queue", "list")
        self.assertEqual(ran.status, 1)
        self.assertIn("/nonexistent/fwdmta.toml", ran.err)

    def test_tells_every_error_of_the_configuration(self) -> None:
        """Each error is a line with file and key."""
        self.write("[queue]\nmaximal = 5\n[dns]\ntrust_ad = 1\n")
        ran = self.run_it("queue", "list")
        self.assertEqual((ran.status, ran.err.count("\n")), (1, 2))
        for line in ran.err.splitlines():
            self.assertTrue(line.startswith(f"fwdmta: {self.file}: "), line)

    def test_gives_the_demo_its_own_words(self) -> None:
        """The demo reads its options by itself."""
        given: list[list[str]] = []

        def run(words: list[str]) -> int:
            given.append(words)
            return 1

        self.patch(demo, "run", run)
        self.assertEqual(self.run_bare("demo", "--once").status, 1)
        self.assertEqual(given, [["--once"]])

    def test_is_silent_when_nobody_reads_on(self) -> None:
        """`fwdmta ... | head` is no error."""

        def broken(*_: object) -> int:
            raise BrokenPipeError

        duplicated: list[int] = []
        self.patch(os, "dup2", lambda _, target: duplicated.append(target))
        self.patch(account_verbs, "list_all", broken)
        self.assertEqual(self.done("account", "list").out, "")
        self.assertEqual(duplicated, [1])

    def test_escapes_what_the_terminal_cannot_show(self) -> None:
        """An address in letters of the world is no error on an ASCII terminal."""
        octets = io.BytesIO()
        terminal = io.TextIOWrapper(octets, "ascii", write_through=True)
        with redirect_stdout(terminal):
            self.assertEqual(cli.main(["--version"]), 0)
            terminal.write("ü")
        self.assertTrue(octets.getvalue().endswith(b"\\xfc"))

    def test_is_no_traceback_when_interrupted(self) -> None:
        """Control-C is status 1."""

        def interrupted(*_: object) -> int:
            raise KeyboardInterrupt

        self.patch(account_verbs, "list_all", interrupted)
        self.assertEqual(self.run_it("account", "list").status, 1)


class AccountTests(CommandCase):
    """`fwdmta account`."""

    def test_adds_an_account_by_a_pipe(self) -> None:
        """A script gives the password on standard input."""
        ran = self.done(
            "account",
            "add",
            "you@example.com",
            "--password-stdin",
            "--send-as",
            "*@example.org",
            "--notify",
            "success",
            stdin="secret\nmore\n",
        )
        self.assertEqual(ran.out, "account you@example.com is added\n")
        account = parse_accounts(self.accounts.read_bytes())["you@example.com"].account
        self.assertEqual(account.send_as, ("*@example.org",))
        self.assertEqual([str(one) for one in account.notify or ()], ["SUCCESS"])

    def test_asks_for_the_password(self) -> None:
        """A person is asked, and what is typed is not shown."""
        ran = self.done("account", "add", "you@example.com")
        self.assertEqual(self.asked, ["Password for you@example.com: "])
        self.assertNotIn("typed", ran.out)

    def test_lets_an_account_send_as_more(self) -> None:
        """What a refusal tells a sender to ask for; nobody is asked for a password."""
        self.done("account", "add", "you@example.com")
        self.asked.clear()
        ran = self.done(
            "account", "add", "you@example.com", "--send-as", "me@b.example"
        )
        self.assertIn("may send as you@example.com, me@b.example", ran.out)
        self.assertEqual(self.asked, [])

    def test_generates_a_password(self) -> None:
        """A generated password is shown once, and long enough."""
        ran = self.done("account", "add", "you@example.com", "--generate")
        password = ran.out.splitlines()[1].removeprefix("password: ")
        self.assertRegex(password, r"\A([a-z2-9]{5}-){3}[a-z2-9]{5}\Z")
        self.assertNotIn(password, self.accounts.read_text())

    def test_wants_a_terminal_or_a_pipe(self) -> None:
        """Without either it says which options there are."""
        self.patch(self, "ask_password", ask_at_terminal)
        words = self.fails(2, "account", "add", "a@b.example")
        self.assertIn("--password-stdin", words)

    def test_says_that_two_passwords_differ(self) -> None:
        """A typing error changes nothing."""

        def differ(prompt: str) -> str:
            raise UsageError("the two passwords differ; nothing was changed")

        self.patch(self, "ask_password", differ)
        self.assertIn("differ", self.fails(2, "account", "add", "a@b.example"))
        self.assertFalse(self.accounts.exists())

    def test_gives_a_new_password(self) -> None:
        """The old password goes, or stays beside the new one."""
        self.done("account", "add", "you@example.com")
        self.done("account", "password", "you@example.com", "--keep-old")
        (account,) = self.done("account", "list", "--json").rows
        self.assertEqual(account["passwords"], 2)
        self.done("account", "password", "you@example.com")
        (account,) = self.done("account", "list", "--json").rows
        self.assertEqual(account["passwords"], 1)

    def test_asks_no_password_for_nobody(self) -> None:
        """A misspelt login is refused before anything is typed."""
        self.assertIn(
            "no account", self.fails(1, "account", "password", "x@example.com")
        )
        self.assertEqual(self.asked, [])

    def test_switches_and_removes(self) -> None:
        """Disable, enable and remove say what they did."""
        self.done("account", "add", "you@example.com")
        for verb, words, left in (
            ("disable", "may not send", ["off"]),
            ("enable", "may send", ["on"]),
            ("remove", "is removed", []),
        ):
            self.assertIn(words, self.done("account", verb, "you@example.com").out)
            lines = self.done("account", "list").out.splitlines()[1:]
            self.assertEqual([line.split()[1] for line in lines], left)

    def test_lists_as_json(self) -> None:
        """A list as JSON is an object a line, without secrets."""
        self.done("account", "add", "*@example.com")
        (row,) = self.done("account", "list", "--json").rows
        self.assertEqual(
            row,
            {
                "login": "*@example.com",
                "smtp": True,
                "passwords": 1,
                "send_as": ["*@example.com"],
                "notify": [],
            },
        )

    def test_needs_no_state_dir(self) -> None:
        """Accounts are made before the server ever ran."""
        self.done("account", "add", "you@example.com")
        self.assertFalse((self.directory / "state").exists())

    def test_has_a_running_server_read_them(self) -> None:
        """A server that runs takes the new accounts into use at once."""
        answers: list[dict[str, Any]] = [{"problems": []}, {"problems": ["bad\x1b"]}]

        class Server:
            def ask(self, request: dict[str, Any]) -> dict[str, Any]:
                self.asked = request
                return answers.pop(0)

            def close(self) -> None:
                """Close nothing."""

        server = Server()
        self.patch(account_verbs, "connect", lambda _: server)
        self.done("account", "add", "you@example.com")
        self.assertEqual(server.asked, {"verb": "reload"})
        ran = self.run_it("account", "disable", "you@example.com")
        self.assertEqual(ran.status, 1)
        self.assertIn("the server keeps what it had: bad", ran.err)
        self.assertNotIn("\x1b", ran.err)


class QueueCase(CommandCase):
    """A queue on disk, and no server."""

    @override
    def setUp(self) -> None:
        """Begin with three messages, one of them delivered."""
        super().setUp()
        first = deferred(2)
        self.put(entry(1, "a@example.org"), first, delivered(3))
        self.done("queue", "list")

    def put(self, *entries: QueueEntry) -> None:
        """Put entries into the store, as a server would."""
        configuration = parse(self.file.read_text(), str(self.file))
        clock = Clock()
        store = file_store(configuration, clock)
        at_once(store.start(NOW), clock)
        for one in entries:
            fresh = replace(
                one,
                standings=tuple(
                    replace(standing, attempts=0, last=None, next_attempt_at=NOW)
                    for standing in one.standings
                ),
            )
            at_once(store.add(fresh, Message(HEAD, b"Body \xff\r\n")), clock)
            at_once(self.recorded(store, one), clock)
        at_once(store.stop(), clock)

    async def recorded(self, store: Any, one: QueueEntry) -> None:
        """Record what became of an entry."""
        step = an_attempt(one)
        if any(standing.attempts for standing in one.standings):
            await store.claim(NOW, 10)
            await store.record(one, step)

    def ids(self, *words: str) -> list[str]:
        """Give the ids of a list."""
        return [row["id"] for row in self.done("queue", "list", "--json", *words).rows]


class QueueTests(QueueCase):
    """`fwdmta queue` and `fwdmta timeline`, without a server."""

    def test_lists_what_waits(self) -> None:
        """A list has a head, two or three lines a message, and their number."""
        lines = self.done("queue", "list").out.splitlines()
        self.assertTrue(lines[0].startswith("ID"))
        self.assertTrue(lines[1].startswith(an_id(1)))
        self.assertIn("you@example.com -> them@example.net", lines[4])
        self.assertIn("capacity: The mailbox is full.", lines[5])
        self.assertEqual(lines[-1], "2 messages")

    def test_filters(self) -> None:
        """Each filter of the command line takes what it says."""
        first, second, third = an_id(1), an_id(2), an_id(3)
        for words, expected in (
            ((), [first, second]),
            (("--all",), [first, second, third]),
            (("--state", "sent"), [third]),
            (("--state", "sent", "--state", "deferred"), [second, third]),
            (("--state", "held"), []),
            (("--domain", "EXAMPLE.org"), [first]),
            (("--to", "them@example.net"), [second]),
            (("--from", "<you@example.com>"), [first, second]),
            (("--from", "<>"), []),
            (("--category", "capacity"), [second]),
            (("--older-than", "1h"), [first, second]),
            (("--older-than", "3h"), []),
            (("--account", "you@example.com", "--domain", "example.org"), [first]),
        ):
            self.assertEqual(self.ids(*words), expected, words)

    def test_counts(self) -> None:
        """A count has all states, finished ones too, as a table and as JSON."""
        self.assertIn("deferred        1", self.done("queue", "count").out)
        (counts,) = self.done("queue", "count", "--json").rows
        self.assertEqual((counts["queued"], counts["sent"]), (1, 1))
        (counts,) = self.done(
            "queue", "count", "--json", "--domain", "example.org"
        ).rows
        self.assertEqual((counts["queued"], counts["sent"]), (1, 0))

    def test_shows_one(self) -> None:
        """One message, for people and as JSON."""
        self.assertIn("mailbox-full", self.done("queue", "show", an_id(2)).out)
        (shown,) = self.done("queue", "show", an_id(2), "--json").rows
        self.assertEqual(shown["standings"][0]["last"]["rule"], "mailbox-full")

    def test_writes_out_the_content(self) -> None:
        """`cat` gives every octet as it is."""
        ran = self.done("queue", "cat", an_id(1))
        self.assertEqual(ran.octets, HEAD + b"\r\nBody \xff\r\n")

    def test_tells_the_timeline(self) -> None:
        """A timeline by id, and by Message-ID with and without brackets."""
        for name in (an_id(2), "<2@example.com>", "2@example.com"):
            text = self.done("timeline", name).out
            for words in (
                f"message {an_id(2)}",
                "accepted",
                "attempt",
                "452 4.2.2 Mailbox",
                "them@example.net: next try",
            ):
                self.assertIn(words, text)
        rows = self.done("timeline", an_id(2), "--json").rows
        self.assertEqual([row["what"] for row in rows], ["accepted", "attempt"])
        self.assertEqual({row["id"] for row in rows}, {an_id(2)})

    def test_follows_a_message(self) -> None:
        """A timeline is followed until the message is over, each step told once."""
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) > 2:
                raise KeyboardInterrupt

        self.patch(self, "pause", pause)
        ran = self.run_it("timeline", "--follow", an_id(3))
        self.assertEqual((ran.status, pauses), (0, []))
        ran = self.run_it("timeline", "--follow", "--json", an_id(2))
        self.assertEqual((ran.status, len(pauses)), (1, 3))
        self.assertEqual([row["what"] for row in ran.rows], ["accepted", "attempt"])

    def test_says_why(self) -> None:
        """Why a message waits, and what waits for a site, is one screen each."""
        text = self.done("why", an_id(2)).out
        for words in ("deferred", "mailbox-full", f"fwdmta queue retry {an_id(2)}"):
            self.assertIn(words, text)
        text = self.done("why", "example.net").out
        self.assertIn("1 message waits", text)
        self.assertIn("no server runs", text)
        (told,) = self.done("why", "example.net", "--json").rows
        self.assertEqual(told["messages"], 1)
        self.assertIn("no queue id, address", self.fails(1, "why", "not so"))

    def test_names_unknown_messages(self) -> None:
        """An unknown id is status 1, and the way to the known ones."""
        for words in (
            ("queue", "show", an_id(9)),
            ("queue", "cat", an_id(9)),
            ("queue", "show", "nonsense"),
            ("timeline", an_id(9)),
            ("timeline", "nobody@example.com"),
        ):
            self.assertIn("see `fwdmta queue list", self.fails(1, *words))

    def test_changes_by_id(self) -> None:
        """Hold, release, retry and cancel, and what the queue is afterwards."""
        ran = self.done("queue", "hold", an_id(1), an_id(2), "--reason", "abuse?")
        self.assertEqual(ran.out, "2 messages put on hold\n")
        self.assertEqual(self.ids("--state", "held"), [an_id(1), an_id(2)])
        self.assertEqual(
            self.done("queue", "release", an_id(1)).out, "1 message released\n"
        )
        self.assertEqual(self.ids("--state", "held"), [an_id(2)])
        self.done("queue", "cancel", an_id(1))
        self.assertEqual(self.ids("--state", "rejected"), [an_id(1)])
        self.assertIn(f"by {operator()}: abuse?", self.done("timeline", an_id(2)).out)

    def test_sends_by_another_next_hop(self) -> None:
        """`queue route` is in the timeline, and can be taken back; nonsense is told."""
        way = "[10.1.2.3]:2525"
        ran = self.done("queue", "route", "--via", way, an_id(1))
        self.assertEqual(ran.out, "1 message sent another way\n")
        self.assertIn(f"next hop      {way}", self.done("queue", "show", an_id(1)).out)
        told = self.done("timeline", an_id(1)).out
        self.assertIn(f"routed      by {operator()}, to {way}", told)
        self.done("queue", "route", "--via", "usual", an_id(1))
        self.assertNotIn("next hop", self.done("queue", "show", an_id(1)).out)
        words = self.fails(1, "queue", "route", "--via", "no way", "--all")
        self.assertIn("is no next hop", words)

    def test_only_says_how_many(self) -> None:
        """With --dry-run nothing is changed."""
        for words, told in (
            (("retry", "--all"), "2 messages would be due now\n"),
            (("cancel", an_id(1)), "1 message would be cancelled\n"),
            (("release", "--all"), "0 messages would be released\n"),
            (("hold", "--category", "capacity"), "1 message would be put on hold\n"),
        ):
            self.assertEqual(self.run_it("queue", *words, "--dry-run").out, told)
        self.assertEqual(self.ids("--state", "held"), [])

    def test_makes_the_index_anew(self) -> None:
        """`fsck --reindex` works without a server, and lists are right after it."""
        self.assertEqual(self.done("fsck", "--reindex").out, "the index is made anew\n")
        self.assertEqual(self.ids("--domain", "example.org"), [an_id(1)])
        self.assertEqual(len(self.done("queue", "list", "--all", "--json").rows), 3)

    def test_shapes(self) -> None:
        """Ages by site are columns, as those of qshape."""
        text = self.done("queue", "shape", "--by", "domain").out.splitlines()
        self.assertEqual(text[0].split()[:4], ["T", "5", "10", "20"])
        self.assertEqual(text[1].split()[:2], ["TOTAL", "2"])
        self.assertEqual(
            sorted(line.split()[0] for line in text[2:]), ["example.net", "example.org"]
        )
        rows = self.done("queue", "shape", "--json").rows
        self.assertEqual(sum(sum(row["ages"]) for row in rows), 2)

    def test_changes_by_filter(self) -> None:
        """A filter chooses as in a list; --all means all that waits."""
        self.assertEqual(
            self.done("queue", "hold", "--category", "capacity").out,
            "1 message put on hold\n",
        )
        # What is on hold is not tried, and what is not cannot be released.
        self.assertEqual(
            self.done("queue", "retry", "--all").out, "1 message due now\n"
        )
        self.assertEqual(
            self.done("queue", "release", "--all").out, "1 message released\n"
        )
        self.assertEqual(
            self.done("queue", "cancel", "--all").out,
            "2 messages match\n2 messages cancelled\n",
        )
        self.assertEqual(self.ids(), [])

    def test_says_that_nothing_was_there(self) -> None:
        """A filter that takes nothing is status 1."""
        ran = self.run_it("queue", "cancel", "--domain", "example.com")
        self.assertEqual((ran.status, ran.out), (1, "0 messages cancelled\n"))

    def test_says_why_not(self) -> None:
        """What could not be done is a line each; some done is done."""
        ran = self.run_it("queue", "retry", an_id(1), an_id(3), an_id(9))
        self.assertEqual((ran.status, ran.out), (0, "1 message due now\n"))
        finished, unknown = ran.err.splitlines()
        self.assertIn("is finished: sent", finished)
        self.assertIn("no message", unknown)

    def test_changes_as_json(self) -> None:
        """A change as JSON is an object for each message."""
        (row,) = self.done("queue", "hold", an_id(1), "--json").rows
        self.assertEqual((row["id"], row["done"]), (an_id(1), True))

    def test_wants_to_know_which(self) -> None:
        """A change of everything has to be asked for, and never both ways."""
        self.assertIn("--all", self.fails(2, "queue", "cancel"))
        self.assertIn("not both", self.fails(2, "queue", "cancel", an_id(1), "--all"))
        self.assertEqual(self.ids(), [an_id(1), an_id(2)])

    def test_says_that_there_is_no_queue(self) -> None:
        """Before the first start there is nothing to list, and nothing is made."""
        self.file.write_text('hostname = "a.example"\nstate_dir = "other"')
        self.assertIn("there is no queue", self.fails(1, "queue", "list"))
        self.assertFalse((self.directory / "other").exists())


class RetentionTests(QueueCase):
    """`fwdmta retention`, `fsck` and `export`."""

    def test_tells_what_is_kept(self) -> None:
        """Terms, figures, what comes next, and what is kept as evidence."""
        text = self.done("retention", "status").out
        self.assertIn("content is kept for 30 d, records for 90 d", text)
        self.assertIn("finished: 1, of them redacted: 0", text)
        self.assertIn("next to redact", text)
        self.done("retention", "hold", an_id(3), "--reason", "a case")
        (told,) = self.done("retention", "status", "--json").rows
        self.assertEqual(told["kept"], [{"id": an_id(3), "reason": "a case"}])
        self.assertIn("is kept", self.run_it("retention", "redact", an_id(3)).err)
        self.assertIn(
            "1 message let go", self.done("retention", "release", an_id(3)).out
        )
        self.assertIn("is not finished", self.run_it("retention", "hold", an_id(1)).err)

    def test_redacts_on_request(self) -> None:
        """By id and by recipient; what still waits is named and left alone."""
        text = self.done("retention", "redact", an_id(3)).out
        self.assertIn("1 message redacted", text)
        ran = self.run_it("queue", "cat", an_id(3))
        self.assertIn("was removed", ran.out)
        ran = self.run_it("retention", "redact", "--recipient", "them@example.net")
        self.assertIn(f"{an_id(2)} is not finished", ran.err)
        self.assertEqual((ran.status, ran.out), (0, "1 message redacted\n"))
        self.assertIn("say ids, or", self.fails(2, "retention", "redact"))

    def test_verifies(self) -> None:
        """Every byte is read; a stray copy is a finding and status 1."""
        ran = self.done("retention", "verify")
        self.assertIn("read: no findings", ran.out)
        copy = self.directory / "state" / "copy.eml"
        copy.write_bytes(HEAD)
        ran = self.run_it("retention", "verify")
        self.assertEqual(ran.status, 1)
        self.assertIn("copy.eml: is not of ours", ran.out)
        (found,) = self.run_it("retention", "verify", "--json").rows
        self.assertEqual((found["path"], found["kind"]), ("copy.eml", "unknown"))

    def test_checks_and_repairs(self) -> None:
        """`fsck` changes nothing, and with --repair files what lies wrongly."""
        self.assertIn("no findings", self.done("fsck").out)
        state = self.directory / "state"
        (where,) = state.glob(f"retained/2*/{an_id(3)}")
        wrong = state / "queue" / "hold" / an_id(3)
        where.rename(wrong)
        for _ in range(2):
            self.assertEqual(self.run_it("fsck").status, 1)
        self.assertTrue(wrong.exists())
        self.assertIn("filed in retained", self.done("fsck", "--repair").out)
        self.assertTrue(where.exists())
        self.done("fsck")

    def test_exports(self) -> None:
        """Each message becomes a plain file, with all that is known of it beside it."""
        out = self.directory / "out"
        self.assertIn("2 messages written", self.done("export", str(out)).out)
        self.assertEqual(
            (out / f"{an_id(1)}.eml").read_bytes(), HEAD + b"\r\nBody \xff\r\n"
        )
        told = json.loads((out / f"{an_id(2)}.json").read_text("utf-8"))
        self.assertEqual(told["state"], "deferred")
        self.assertEqual(len(told["timeline"]), 2)
        self.assertIn("not empty", self.fails(2, "export", str(out)))
        everything = str(self.directory / "all")
        self.assertIn("3 messages", self.done("export", "--all", everything).out)


class RuleTests(CommandCase):
    """`check`, `schedule` and `bounce-info`."""

    @override
    def setUp(self) -> None:
        """Have no configuration at the usual places."""
        super().setUp()
        self.patch(config, "PLACES", ("none.toml", "/nonexistent/fwdmta.toml"))

    def test_prints_the_schedule_without_a_configuration(self) -> None:
        """Five days of tries, the last one at the end."""
        ran = self.run_bare("schedule")
        lines = ran.out.splitlines()
        self.assertEqual(ran.status, 0)
        self.assertIn("0 d 00:05:00", lines[2])
        self.assertIn("5 d 00:00:00", lines[-2])
        rows = self.run_bare("schedule", "--json").rows
        self.assertEqual(rows[-1], {"attempt": len(rows), "seconds": 432_000.0})
        self.assertGreater(len(rows), 100)

    def test_prints_the_schedule_of_a_configuration(self) -> None:
        """With a configuration the schedule is its own."""
        self.write('[queue]\nmaximal_queue_lifetime = "1h"')
        rows = self.done("schedule", "--json").rows
        self.assertEqual([row["seconds"] for row in rows], [0, 300, 900, 2100, 3600])

    def test_explains_replies(self) -> None:
        """Replies of arguments are explained for people."""
        ran = self.run_bare("bounce-info", "550 5.1.1 User unknown", "452 4.2.2 full")
        self.assertEqual((ran.status, ran.err), (0, ""))
        self.assertIn("category      recipient", ran.out)
        self.assertEqual(ran.out.count("action"), 2)

    def test_explains_replies_as_json(self) -> None:
        """With --json each is an object with the seven facts."""
        ran = self.run_bare("bounce-info", "--json", "550 5.1.1 User unknown")
        (row,) = ran.rows
        self.assertEqual(
            list(row),
            ["action", "category", "scope", "message", "code", "status", "rule"],
        )
        self.assertEqual((row["action"], row["code"]), ("reject", 550))

    def test_explains_a_stream_of_replies(self) -> None:
        """A JSON string a line in, an object a line out, in order."""
        replies = ["550 5.1.1 User unknown", "421 4.7.0\u2028try later", ""]
        lines = "".join(json.dumps(reply) + "\n" for reply in replies)
        ran = self.run_bare("bounce-info", "--json-lines", stdin=lines)
        self.assertEqual((ran.status, len(ran.rows)), (0, 3))
        self.assertEqual(ran.rows[0]["category"], "recipient")

    def test_answers_nonsense_in_its_place(self) -> None:
        """A line that is no JSON string gets an error in its place; status 2."""
        lines = 'x\n5\n"550 5.1.1 User unknown"\n'
        ran = self.run_bare("bounce-info", "--json-lines", stdin=lines)
        self.assertEqual(ran.status, 2)
        self.assertEqual(["error" in row for row in ran.rows], [True, True, False])

    def test_wants_replies(self) -> None:
        """Without replies, or with both kinds, it says how it is used."""
        self.assertIn("--json-lines", self.fails(2, "bounce-info"))
        self.assertIn(
            "--json-lines", self.fails(2, "bounce-info", "550", "--json-lines")
        )

    def test_checks(self) -> None:
        """A check tells what is missing, and what has no effect yet."""
        self.write("[processes]\nreceivers = 2")
        ran = self.run_it("check")
        self.assertEqual((ran.status, ran.out), (1, ""))
        self.assertIn("processes.receivers is set, but has no effect", ran.err)
        self.assertIn("tls.certificate", ran.err)
        self.patch(config, "check", lambda _: [])
        self.write("")
        self.assertEqual(self.done("check").out, f"{self.file}: all is well\n")

    def test_tells_errors_of_a_check(self) -> None:
        """A bad configuration is status 1."""
        self.write("[queue]\nnonsense = 1")
        self.assertIn("queue.nonsense: is unknown", self.fails(1, "check"))


class ExampleTests(SynchronousTestCase):
    """`etc/accounts.toml`, the example."""

    def test_is_what_the_server_takes(self) -> None:
        """As it comes it has no account; its example is a right one."""
        path = Path(__file__).parent.parent.parent / "etc" / "accounts.toml"
        text = path.read_text("utf-8")
        self.assertEqual(parse_accounts(text.encode()), {})
        example = text[text.index("# [[account]]") :]
        taken = "\n".join(line.removeprefix("# ") for line in example.splitlines())
        self.assertEqual(len(tomllib.loads(taken)["account"]), 1)
        self.assertIn("you@example.com", parse_accounts(taken.encode()))
