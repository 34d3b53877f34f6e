"""`fwdmta why`, asked of a whole server in memory."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin import show
from fwd_mta.admin.why import LOOKED_AT
from fwd_mta.mail.entry import EntryFilter
from fwd_mta.world.hosts import HOSTS
from tests.kit import World

Json = dict[str, Any]
SCREEN = 40


class WhyTests(SynchronousTestCase):
    """The verb, and its screen."""

    @override
    def setUp(self) -> None:
        """A server that has a message to deliver."""
        self.world = World()
        self.world.start()

    def ask(self, name: str) -> Json:
        """Ask the server."""
        request = {"verb": "why", "name": name}
        return self.world.done(self.world.server.commands.obey(request))

    def screen(self, name: str) -> str:
        """What an operator reads."""
        told, now = self.ask(name), self.world.wall.now()
        self.assertNotIn("error", told)
        tell = show.why_message if "entry" in told else show.why_waiting
        lines = list(tell(told, now))
        self.assertLessEqual(len(lines), SCREEN)
        self.assertTrue(all(line.isprintable() for line in lines))
        return "\n".join(lines)

    def waiting(self) -> str:
        """The id of the oldest message."""
        found = self.world.server.store.entries(EntryFilter(finished=True, limit=1))
        return self.world.done(found)[0].id

    def test_a_message_that_waits(self) -> None:
        """Of a message one learns the trouble, the rule, the time and the command."""
        self.patch(self.world.resolver, "_failing", ("example.net",))
        self.world.submit("bob@example.net")
        self.world.pass_time(5)
        name = self.waiting()
        text = self.screen(name)
        for words in (
            "to bob@example.net: deferred",
            "The DNS could not say",
            "queue.minimal_backoff_time",
            "the time of its next try",
            f"fwdmta queue retry {name}",
            "given up",
        ):
            self.assertIn(words, text)
        (reason,) = self.ask(name)["reasons"]
        entry = self.world.done(
            self.world.server.store.entries(EntryFilter(ids=(name,)))
        )[0]
        self.assertEqual(reason["next_at"], entry.due)

    def test_the_time_it_tells_is_the_time_of_the_try(self) -> None:
        """At the moment that `why` names, and not before, the message goes out."""
        self.patch(self.world.resolver, "_failing", ("example.net",))
        self.world.submit("bob@example.net")
        self.world.pass_time(5)
        at = self.ask(self.waiting())["reasons"][0]["next_at"]
        self.patch(self.world.resolver, "_failing", ())
        self.world.pass_time(at - self.world.wall.now() - 1)
        self.assertEqual(self.world.inbox.of("bob@example.net"), [])
        self.world.pass_time(3)
        self.assertEqual(len(self.world.inbox.of("bob@example.net")), 1)

    def test_a_message_that_is_over(self) -> None:
        """Of a finished message one learns its end, and when its content goes."""
        self.world.submit("bob@example.net")
        self.world.pass_time(5)
        text = self.screen(self.waiting())
        self.assertIn("to bob@example.net: delivered", text)
        self.assertIn("retention.content: then its content goes", text)

    def test_an_address_and_its_domain(self) -> None:
        """Of an address, a domain and a host one learns what waits, and the way."""
        self.patch(self.world.resolver, "_failing", ("example.net",))
        self.world.submit("bob@example.net", "carl@example.net")
        self.world.pass_time(5)
        for name, count in (
            ("bob@example.net", 1),
            ("<bob@example.net>", 1),
            ("example.net", 2),
            ("EXAMPLE.net.", 2),
        ):
            text = self.screen(name)
            self.assertIn("1 message waits", text, name)
            self.assertIn(f"{count} x deferred: dns", text, name)
            self.assertIn("it would wait and be tried again", text)

    def test_a_host(self) -> None:
        """What waits for a host is found by the name of the host."""
        self.world.submit("bob+full@example.net")
        self.world.pass_time(5)
        text = self.screen("mx.example.net")
        self.assertIn("1 message waits", text)
        self.assertIn("mailbox", text)
        self.assertIn("0 messages wait", self.screen("other.example.net"))

    def test_a_site_that_refuses_our_address(self) -> None:
        """What waits for a site that rests, is told so, with the end of the rest."""
        self.world.host.behaviour = HOSTS["blocks"]
        self.world.submit("bob@example.net")
        self.world.pass_time(5)
        self.world.submit("carl@example.net")
        self.world.pass_time(5)
        rows = self.world.done(self.world.server.commands.obey({"verb": "list"}))
        second = rows["items"][1]["id"]
        (reason,) = self.ask(second)["reasons"]
        self.assertIn("while they refuse our address", reason["setting"])
        retry = {"verb": "change", "change": "retry", "ids": [second]}
        self.world.done(self.world.server.commands.obey(retry))
        self.world.pass_time(5)
        (reason,) = self.ask(second)["reasons"]
        self.assertIn("which rests because it refuses our address", reason["waits_for"])
        ahead = reason["next_at"] - self.world.wall.now()
        self.assertTrue(2000 < ahead < 3700, ahead)
        self.assertIn("refuses our address, until about", self.screen("example.net"))

    def test_an_attempt_that_runs(self) -> None:
        """What is in delivery at this moment waits for the end of that."""
        self.world.host.behaviour = HOSTS["mute"]
        self.world.submit("bob@example.net")
        self.world.pass_time(5)
        (reason,) = self.ask(self.waiting())["reasons"]
        self.assertIn("attempt that runs now", reason["waits_for"])

    def test_an_address_that_nobody_writes_to(self) -> None:
        """Without any mail one learns where it would go, and nothing is sent."""
        text = self.screen("new@example.net")
        self.assertIn("0 messages wait", text)
        self.assertIn("mx.example.net: 203.0.113.5", text)
        self.assertIn("decided by    DNS", text)
        self.assertEqual(self.world.host.commands, [])

    def test_what_is_no_name(self) -> None:
        """Nonsense is answered with what a name is."""
        for name in ("", "a b", "@", "bob@", "<>", "\x1b[31m"):
            self.assertIn("is no queue id, address", self.ask(name)["error"], name)
        self.assertIn("is known", self.ask("0" * 16)["error"])

    def test_many_messages_are_not_all_read(self) -> None:
        """An answer looks at a bounded number, and says so."""
        told = self.ask("example.net") | {"messages": LOOKED_AT, "all": False}
        first = next(iter(show.why_waiting(told, 0.0)))
        self.assertIn("more than 1000 messages wait", first)
