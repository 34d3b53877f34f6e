"""The control socket: what operators ask, and what hostile lines get."""

import json
from base64 import b64decode
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin.asking import pages
from fwd_mta.admin.control import BATCH, CONTENT_PAGE, PAGE, Commands
from fwd_mta.admin.control_socket import (
    CONNECTION_LIMIT,
    REQUEST_LIMIT,
    ControlFactory,
    ControlProtocol,
)
from fwd_mta.events import Event
from fwd_mta.mail.message import Message
from fwd_mta.world.machine import VirtualWall
from tests.admin.keeping import (
    HEAD,
    NOW,
    ListKeeper,
    an_attempt,
    an_id,
    deferred,
    delivered,
    entry,
    ids,
)

Json = dict[str, Any]


class CommandsCase(SynchronousTestCase):
    """A queue, and the verbs on it."""

    @override
    def setUp(self) -> None:
        """Begin with four messages of different states."""
        held = replace(entry(3, "a@example.org"), held="by an operator: abuse")
        self.keeper = ListKeeper(entry(1), deferred(2), held, delivered(4))
        self.wakes = 0
        self.lifts: list[bool] = []
        self.commands = self.commanding(self.keeper)

    def commanding(self, keeper: ListKeeper) -> Commands:
        """Give the verbs on a keeper."""
        wall = VirtualWall(Clock(), NOW)
        return Commands(keeper, wall, self.wake, lift=self.lifts.append)

    def wake(self) -> None:
        """Count how often the scheduler would be woken."""
        self.wakes += 1

    def ask(self, verb: str, **words: object) -> Json:
        """Ask, and take the answer at once."""
        asked = Deferred.fromCoroutine(self.commands.obey({"verb": verb, **words}))
        return self.successResultOf(asked)

    def error(self, verb: str, **words: object) -> str:
        """Ask for something impossible."""
        answer = self.ask(verb, **words)
        self.assertEqual(list(answer), ["error"], answer)
        return str(answer["error"])


class ListTests(CommandsCase):
    """`list` and `count`."""

    def test_lists_what_waits_oldest_first(self) -> None:
        """A list holds what waits, in order, and not what is finished."""
        rows = self.ask("list")["items"]
        self.assertEqual(ids(rows), [an_id(1), an_id(2), an_id(3)])

    def test_tells_why_and_when(self) -> None:
        """A row tells state, next try and the last answer with its rule (P3)."""
        row = self.ask("list", states=["deferred"])["items"][0]
        self.assertEqual((row["state"], row["next_at"]), ("deferred", NOW + 750))
        last = row["last"]
        self.assertEqual(
            (last["code"], last["status"], last["rule"], last["category"]),
            (452, "4.2.2", "mailbox-full", "capacity"),
        )
        self.assertIn("452 4.2.2 Mailbox", last["reply"])

    def test_gives_no_next_try_of_held_mail(self) -> None:
        """What is on hold waits for the operator, not for a time."""
        (row,) = self.ask("list", held=True)["items"]
        self.assertEqual((row["held"], row["next_at"]), ("by an operator: abuse", None))

    def test_filters(self) -> None:
        """Each filter takes what it says."""
        for words, expected in (
            ({"finished": True}, [1, 2, 3, 4]),
            ({"states": ["sent"]}, [4]),
            ({"domain": "Example.ORG"}, [3]),
            ({"to": "A@example.org"}, [3]),
            ({"from": "you@example.com", "category": "capacity"}, [2]),
            ({"from": ""}, []),
            ({"account": "nobody@example.com"}, []),
            ({"older_than": 7199}, []),
            ({"older_than": 7197.5}, [1, 2]),
            ({"ids": [an_id(4)]}, [4]),
        ):
            rows = self.ask("list", **words)["items"]
            self.assertEqual(ids(rows), [an_id(one) for one in expected], words)

    def test_pages_a_long_list(self) -> None:
        """A long list comes page by page, each entry once."""
        many = [entry(number) for number in range(1, 2 * PAGE + 2)]
        commands = self.commanding(ListKeeper(*many))

        def call(request: Json) -> Json:
            return self.successResultOf(Deferred.fromCoroutine(commands.obey(request)))

        found = list(pages(call, {"verb": "list"}))
        self.assertEqual([len(page["items"]) for page in found], [PAGE, PAGE, 1])
        rows = [row for page in found for row in page["items"]]
        self.assertEqual(ids(rows), [one.id for one in many])

    def test_asks_the_store_for_a_page_only(self) -> None:
        """The store is asked for no more than a page holds (P7)."""
        self.ask("list", after=an_id(1))
        (asked,) = self.keeper.asked
        self.assertEqual((asked.limit, asked.after), (PAGE, an_id(1)))

    def test_shows_a_few_of_many_recipients(self) -> None:
        """A row stays short, however many recipients there are."""
        many = [f"r{number}@example.net" for number in range(1000)]
        self.commands = self.commanding(ListKeeper(entry(1, *many)))
        (row,) = self.ask("list")["items"]
        self.assertEqual((row["recipient_count"], len(row["recipients"])), (1000, 5))

    def test_counts(self) -> None:
        """A count holds every state, and what is on hold."""
        counts = self.ask("count", finished=True)["counts"]
        self.assertEqual(
            counts,
            {
                "queued": 2,
                "deferred": 1,
                "sent": 1,
                "partially_sent": 0,
                "bounced": 0,
                "rejected": 0,
                "held": 1,
            },
        )

    def test_refuses_filters_it_does_not_know(self) -> None:
        """A filter with a wrong word is an answer, not an exception."""
        self.assertIn("filter", self.error("list", states=["lost"]))
        self.assertIn("filter", self.error("list", category="weather"))
        self.assertIn("filter", self.error("list", older_than="old"))
        self.assertIn("filter", self.error("list", ids=5))
        self.assertIn("no to", self.error("list", to=5))

    def test_tells_trouble_of_the_disk(self) -> None:
        """What the disk says reaches the operator."""
        self.keeper.broken = True
        self.assertIn("Input/output error", self.error("list"))


class ShowTests(CommandsCase):
    """`show`, `timeline`, `find` and `cat`."""

    def test_shows_all_of_one(self) -> None:
        """`show` tells every recipient, and where the message came from."""
        shown = self.ask("show", id=an_id(2))["entry"]
        self.assertEqual(shown["client"], "192.0.2.1")
        (standing,) = shown["standings"]
        self.assertEqual(standing["recipient"], "them@example.net")
        self.assertEqual(standing["last"]["host"], "mx.example.net[192.0.2.9]:25")

    def test_names_unknown_ids(self) -> None:
        """An unknown id is told the way to the known ones."""
        for unknown in (an_id(99), "../../etc/passwd", "", "x" * 5000):
            for verb in ("show", "timeline", "cat"):
                self.assertIn("fwdmta queue list", self.error(verb, id=unknown))
        self.assertIn("no id", self.error("show"))

    def test_tells_the_timeline(self) -> None:
        """A timeline tells each step, and each attempt with its results."""
        one = self.keeper.kept[an_id(2)]
        self.keeper.steps[one.id].append(an_attempt(one))
        answer = self.ask("timeline", id=one.id)
        accepted, attempt = answer["items"]
        self.assertEqual(accepted["what"], "accepted")
        self.assertIsNone(answer["next"])
        (result,) = attempt["attempt"]["results"]
        self.assertEqual((result["rule"], result["action"]), ("mailbox-full", "defer"))
        self.assertEqual(len(attempt["attempt"]["trail"]), 1)

    def test_pages_a_long_timeline(self) -> None:
        """Five days of a thousand recipients do not come at once."""
        one = deferred(2, *[f"r{number}@example.net" for number in range(300)])
        self.keeper = ListKeeper(one)
        self.keeper.steps[one.id] += [an_attempt(one)] * 5
        self.commands = self.commanding(self.keeper)
        first = self.ask("timeline", id=one.id)
        self.assertEqual((len(first["items"]), first["next"]), (2, 2))
        second = self.ask("timeline", id=one.id, after=2)
        self.assertEqual((len(second["items"]), second["next"]), (1, 3))
        last = self.ask("timeline", id=one.id, after=5)
        self.assertEqual((len(last["items"]), last["next"]), (1, None))

    def test_finds_by_message_id(self) -> None:
        """A Message-ID is found with its brackets and without."""
        for name in ("<4@example.com>", "4@example.com", " 4@example.com "):
            self.assertEqual(self.ask("find", message_id=name), {"ids": [an_id(4)]})
        self.assertEqual(self.ask("find", message_id="none"), {"ids": []})

    def test_gives_the_content(self) -> None:
        """`cat` gives the octets as they stand on the wire."""
        answer = self.ask("cat", id=an_id(1))
        self.assertEqual(b64decode(answer["content"]), HEAD + b"\r\nBody\r\n")
        self.assertEqual((answer["redacted"], answer["next"]), (False, None))

    def test_pages_the_content(self) -> None:
        """Large content comes page by page, octet by octet the same."""
        body = bytes(range(256)) * (CONTENT_PAGE // 100)
        self.keeper.content[an_id(1)] = Message(HEAD, body)

        def call(request: Json) -> Json:
            return self.ask(**request)

        found = [
            b64decode(page["content"])
            for page in pages(call, {"verb": "cat", "id": an_id(1)})
        ]
        self.assertEqual(len(found), 3)
        self.assertEqual(b"".join(found), HEAD + b"\r\n" + body)

    def test_says_that_content_is_corrupt(self) -> None:
        """A damaged file is named."""
        del self.keeper.content[an_id(1)]
        self.assertIn("checksum", self.error("cat", id=an_id(1)))

    def test_refuses_a_place_that_is_none(self) -> None:
        """A place in the content is a number."""
        self.assertIn("no number", self.error("cat", id=an_id(1), after="x"))
        self.assertIn("no number", self.error("cat", id=an_id(1), after=-1))


class ChangeTests(CommandsCase):
    """`change`: hold, release, retry, cancel."""

    def change(self, change: str, number: int, reason: str = "") -> Json:
        """Change one entry, and give what became of it."""
        answer = self.ask("change", change=change, ids=[an_id(number)], reason=reason)
        (item,) = answer["items"]
        return dict(item)

    def test_holds_and_releases(self) -> None:
        """Mail on hold waits until it is released, and is due then."""
        self.assertTrue(self.change("hold", 2, "abuse?")["done"])
        self.assertEqual(self.keeper.kept[an_id(2)].held, "abuse?")
        step = self.keeper.steps[an_id(2)][-1]
        self.assertEqual((step.what, step.note), ("held", "by an operator: abuse?"))
        self.assertTrue(self.change("release", 2)["done"])
        released = self.keeper.kept[an_id(2)]
        self.assertEqual((released.held, released.due), (None, NOW))
        self.assertEqual(self.wakes, 2)

    def test_a_retry_lifts_rests(self) -> None:
        """Dead sites are probed at once; all rests end only where all is flushed."""
        self.change("hold", 1)
        self.change("retry", 2)
        self.ask("change", change="retry", ids=[an_id(2)], reason="", all=True)
        self.assertEqual(self.lifts, [False, True])

    def test_retries(self) -> None:
        """A retry makes everything due now."""
        self.assertTrue(self.change("retry", 2)["done"])
        self.assertEqual(self.keeper.kept[an_id(2)].due, NOW)

    def test_cancels(self) -> None:
        """A cancelled message is final, and the timeline says who did it."""
        self.assertTrue(self.change("cancel", 1)["done"])
        self.assertEqual(self.keeper.kept[an_id(1)].status, "rejected")
        self.assertEqual(self.keeper.steps[an_id(1)][-1].note, "by an operator")

    def test_says_why_not(self) -> None:
        """What cannot be done is told, and changes nothing."""
        before = dict(self.keeper.kept)
        for change, number, words in (
            ("hold", 4, "is finished: sent"),
            ("retry", 4, "is finished: sent"),
            ("cancel", 4, "is finished: sent"),
            ("hold", 3, "is on hold already"),
            ("release", 1, "is not on hold"),
            ("retry", 3, "is on hold; release it"),
            ("cancel", 99, "no message"),
        ):
            item = self.change(change, number)
            self.assertFalse(item["done"], change)
            self.assertIn(words, item["why"])
        self.assertEqual(self.keeper.kept, before)

    def test_says_that_an_attempt_is_under_way(self) -> None:
        """A message in delivery takes the change when its attempt is recorded."""
        self.keeper.leased.add(an_id(2))
        item = self.change("cancel", 2)
        self.assertEqual((item["done"], item["waits"]), (True, True))

    def test_refuses_changes_it_does_not_know(self) -> None:
        """Nonsense is an answer, not an exception."""
        self.assertIn("hold, release", self.error("change", change="x", ids=[]))
        self.assertIn("list of up to", self.error("change", change="hold"))
        too_many = [an_id(1)] * (BATCH + 1)
        self.assertIn("up to", self.error("change", change="hold", ids=too_many))


class ReloadTests(CommandsCase):
    """`reload`."""

    def test_says_that_no_server_runs(self) -> None:
        """Without a server there is nothing to reload."""
        self.assertIn("no server", self.error("reload"))

    def test_gives_what_is_wrong(self) -> None:
        """A bad file keeps the old configuration, and the operator hears why."""

        async def reload() -> list[str]:
            return ["fwdmta.toml: queue: is no table"]

        self.commands = Commands(self.keeper, VirtualWall(Clock(), NOW), reload=reload)
        problems = self.ask("reload")["problems"]
        self.assertEqual(problems, ["fwdmta.toml: queue: is no table"])


class ProtocolTests(CommandsCase):
    """The line protocol of the socket."""

    @override
    def setUp(self) -> None:
        """Connect one command."""
        super().setUp()
        self.events: list[Event] = []
        self.factory = ControlFactory(self.commands, self.events.append)
        self.protocol, self.transport = self.connect()

    def connect(self) -> tuple[ControlProtocol, StringTransport]:
        """Connect a command."""
        protocol, transport = self.factory.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def answers(self) -> list[Json]:
        """Give the answers so far, and forget them."""
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    def send(self, *requests: object) -> list[Json]:
        """Send requests, a line each, and give the answers."""
        lines = [json.dumps(request).encode() + b"\n" for request in requests]
        self.protocol.dataReceived(b"".join(lines))
        return self.answers()

    def test_answers_in_order(self) -> None:
        """Each request gets one line, in order, also when they come at once."""
        count, shown = self.send({"verb": "count"}, {"verb": "show", "id": an_id(1)})
        self.assertEqual(count["counts"]["deferred"], 1)
        self.assertEqual(shown["entry"]["id"], an_id(1))

    def test_takes_requests_in_pieces(self) -> None:
        """A request may come octet by octet."""
        for octet in b'{"verb": "count"}':
            self.protocol.dataReceived(bytes([octet]))
        self.assertEqual(self.answers(), [])
        self.protocol.dataReceived(b"\n")
        self.assertEqual(len(self.answers()), 1)

    def test_takes_no_request_before_the_last_is_answered(self) -> None:
        """A command that floods is read no faster than it is answered (P6)."""
        waiting: Deferred[None] = Deferred()

        class SlowKeeper(ListKeeper):
            @override
            async def timeline(self, entry_id: str) -> Any:
                await waiting
                return self.steps[entry_id]

        self.factory.commands = self.commanding(SlowKeeper(entry(1)))
        answers = self.send({"verb": "timeline", "id": an_id(1)}, {"verb": "count"})
        self.assertEqual(answers, [])
        self.assertEqual(self.transport.producerState, "paused")
        waiting.callback(None)
        self.assertEqual(
            [list(one) for one in self.answers()],
            [["items", "next"], ["counts", "next"]],
        )
        self.assertEqual(self.transport.producerState, "producing")

    def test_survives_nonsense(self) -> None:
        """Lines that are no request get an answer, and the next one is served."""
        for line in (b"", b"x", b"\xff\xfe", b"[]", b"5", b"null", b"[" * 60_000):
            self.protocol.dataReceived(line + b"\n")
            (answer,) = self.answers()
            self.assertIn("error", answer, line[:9])
        for request in ({}, {"verb": 5}, {"verb": "drop"}, {"verb": "list", "ids": 5}):
            (answer,) = self.send(request)
            self.assertIn("error", answer, request)
        self.assertEqual(list(self.send({"verb": "count"})[0]), ["counts", "next"])

    def test_cuts_endless_requests(self) -> None:
        """A request without an end is cut at a bound."""
        self.protocol.dataReceived(b"x" * (REQUEST_LIMIT + 2))
        (answer,) = self.answers()
        self.assertIn("at most", answer["error"])
        self.assertTrue(self.transport.disconnecting)

    def test_bounds_how_many_are_connected(self) -> None:
        """One too many is told so and closed; when one leaves there is room again."""
        others = [self.connect() for _ in range(CONNECTION_LIMIT - 1)]
        _, refused = self.connect()
        self.assertIn(b"too many", refused.value())
        self.assertTrue(refused.disconnecting)
        others[0][0].connectionLost()
        _, taken = self.connect()
        self.assertFalse(taken.disconnecting)

    def test_turns_a_bug_into_an_answer(self) -> None:
        """A bug ends neither the connection nor the server, and is logged."""

        class BrokenKeeper(ListKeeper):
            @override
            async def timeline(self, entry_id: str) -> Any:
                raise ZeroDivisionError("oops")

        self.factory.commands = self.commanding(BrokenKeeper(entry(1)))
        (answer,) = self.send({"verb": "timeline", "id": an_id(1)})
        self.assertIn("ZeroDivisionError: oops", answer["error"])
        self.assertEqual(len(self.events), 1)
        self.assertEqual(len(self.send({"verb": "count"})), 1)

    def test_finishes_what_was_asked_by_one_who_left(self) -> None:
        """A command that is interrupted gets no answer, and breaks nothing."""
        waiting: Deferred[None] = Deferred()

        class SlowKeeper(ListKeeper):
            @override
            async def timeline(self, entry_id: str) -> Any:
                await waiting
                return self.steps[entry_id]

        self.factory.commands = self.commanding(SlowKeeper(entry(1)))
        self.send({"verb": "timeline", "id": an_id(1)})
        self.protocol.connectionLost()
        waiting.callback(None)
        self.assertEqual(self.events, [])

    def test_closes_all_at_shutdown(self) -> None:
        """No command keeps a stopping server up."""
        self.factory.close()
        self.assertTrue(self.transport.disconnecting)
