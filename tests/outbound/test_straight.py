"""Tests of deliveries that go where mail just went, by plain calls."""

from dataclasses import replace
from functools import partial
from typing import Any

from typing_extensions import override

from fwd_mta.interfaces import Delivery
from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import Attempt, Stage
from fwd_mta.mail.envelope import Envelope, Notify, Recipient
from fwd_mta.mail.errors import Interrupted
from fwd_mta.mail.message import Message
from fwd_mta.mail.reply import Reply
from fwd_mta.mail.route import Destination, Via
from fwd_mta.world.hosts import HOSTS, Behaviour, Deed
from tests.outbound.test_agent import MESSAGE, ONE, SENDER, TWO, AgentCase, _recipients

EXAMPLE = Destination(Via.MX, "example.com")


class StraightCase(AgentCase):
    """An agent that can be asked for what goes at once."""

    def delivery(
        self, *recipients: Recipient, message: Message = MESSAGE, **more: Any
    ) -> Delivery:
        """What is to go out."""
        envelope = Envelope(SENDER, recipients or _recipients("ann"))
        return Delivery("1", envelope, EXAMPLE, message, self._note, **more)

    def at_once(self, delivery: Delivery | None = None) -> list[Attempt] | None:
        """Begin at once; what it came to will be in the list. None: not begun."""
        attempts: list[Attempt] = []
        begun = self.agent.at_once(delivery or self.delivery(), attempts.append)
        return attempts if begun else None

    def straight(self, delivery: Delivery | None = None) -> Attempt:
        """Begin at once, and see it end."""
        attempts = self.at_once(delivery)
        assert attempts is not None
        self.run_for(1)
        (attempt,) = attempts
        return attempt


class WayTests(StraightCase):
    """When there is a way, and when there is none."""

    def test_as_the_long_way(self) -> None:
        """The second message goes at once, and comes to the same in every word."""
        self.host()
        self.assertIsNone(self.at_once())
        first = self.attempt()
        second = self.straight()
        self.assertEqual(second.results, first.results)
        self.assertEqual(second.trail, first.trail)
        one, two = self.inbox.messages
        self.assertEqual(one.content, two.content)
        self.assertEqual(len(self.noted), 2)

    def test_many_recipients(self) -> None:
        """All in one transaction; who is named twice goes the long way."""
        self.host()
        self.attempt()
        people = _recipients("a", "b", "c")
        long = self.attempt(*people)
        self.assertEqual(self.straight(self.delivery(*people)), long_at(long, self))
        self.assertIsNone(self.at_once(self.delivery(people[0], people[0])))

    def test_only_while_it_is_fresh(self) -> None:
        """After a minute, or with other settings, it is found anew."""
        self.make_agent(pool=replace(self.agent.settings.pool, idle=1000))
        self.host()
        self.attempt()
        self.run_for(70)
        self.assertIsNone(self.at_once())
        self.attempt()
        self.agent.settings = replace(self.agent.settings, inet_protocols="ipv6")
        self.assertIsNone(self.at_once())

    def test_needs_a_connection(self) -> None:
        """Without one at hand nothing is begun."""
        self.host()
        self.attempt()
        self.run_for(10)
        self.assertIsNone(self.at_once())

    def test_what_is_special_goes_the_long_way(self) -> None:
        """8-bit content and UTF-8 addresses that a host may not take, REQUIRETLS."""
        self.host(behaviour=Behaviour(extensions=("PIPELINING",)))
        self.attempt()
        utf8 = Recipient(Mailbox("böb", "example.com"))
        odd = self.delivery()
        for each in (
            self.delivery(utf8),
            self.delivery(message=Message("Subject: ö\r\n".encode(), b"")),
            self.delivery(message=Message(b"", "ö\r\n".encode())),
            self.delivery(message=Message(b"", b"x" * 70_000)),
            replace(odd, envelope=replace(odd.envelope, require_tls=True)),
        ):
            self.assertIsNone(self.at_once(each))

    def test_hosts_by_chance_have_no_way(self) -> None:
        """Of two equal exchangers each gets its share."""
        self.mx["example.com"] = [(5, "one.example"), (5, "two.example")]
        self.host(ONE)
        self.host(TWO)
        self.attempt()
        self.assertIsNone(self.at_once())

    def test_a_better_host_that_failed(self) -> None:
        """The second best is no way: the best is asked first each time."""
        self.mx["example.com"] = [(5, "one.example"), (10, "two.example")]
        self.host(TWO)
        self.attempt()
        self.assertIsNone(self.at_once())

    def test_sources_take_turns(self) -> None:
        """A connection from another address of ours does not serve."""
        self.make_agent(source_addresses=("192.0.2.1",))
        self.host()
        self.attempt()
        self.assertEqual(self.straight().results[0].source, "192.0.2.1")
        self.agent.settings = self.agent.settings
        other = replace(self.agent.settings, source_addresses=("192.0.2.2",))
        self.agent.settings = other
        self.assertIsNone(self.at_once())

    def test_success_is_told_where_the_host_does_not(self) -> None:
        """A hop without DSN relays: the notice is ours to make."""
        self.host(behaviour=Behaviour(extensions=("PIPELINING",)))
        self.attempt()
        asks = Recipient(Mailbox("ann", "example.com"), (Notify.SUCCESS,))
        self.assertTrue(self.straight(self.delivery(asks)).results[0].relayed)


def long_at(attempt: Attempt, case: StraightCase) -> Attempt:
    """An attempt, as if it had been made now."""
    now = case.agent.wall.now()
    return replace(attempt, started=now - 1, ended=now - 1)


class TroubleTests(StraightCase):
    """What does not go well goes on the long way."""

    def behave(self, behaviour: Behaviour | str) -> None:
        """The host behaves otherwise from now on."""
        known = HOSTS[behaviour] if isinstance(behaviour, str) else behaviour
        self.one.behaviour = known

    @override
    def setUp(self) -> None:
        super().setUp()
        self.one = self.host()
        self.attempt()

    def test_refused(self) -> None:
        """A refusal is a result, and the connection serves on."""
        self.behave(Behaviour({Stage.RCPT: Reply(550, "1.1", "nobody")}))
        (result,) = self.straight().results
        self.assertIs(result.stage, Stage.RCPT)
        self.assertEqual(result.reply, Reply(550, "1.1", "nobody"))
        self.assertEqual(len(self.network.connections), 1)

    def test_grown_old(self) -> None:
        """A kept connection that is gone when it is used gives way to a new one."""
        self.behave(Behaviour({Stage.MAIL: Deed.CLOSE}))
        attempts = self.at_once()
        self.behave("plain")
        self.run_for(1)
        assert attempts is not None
        self.assertTrue(attempts[0].results[0].delivered)
        self.assertEqual(len(self.inbox.messages), 2)

    def test_lost_after_the_dot(self) -> None:
        """In doubt, as on the long way."""
        self.behave("lost-after-dot")
        (result,) = self.straight().results
        self.assertTrue(result.in_doubt)

    def test_interrupted(self) -> None:
        """A server that stops sends no new dot; nobody was tried."""

        async def refuse(_: object) -> None:
            raise Interrupted("the server is stopping")

        attempt = self.straight(replace(self.delivery(), before_dot=refuse))
        self.assertEqual(attempt.results, ())
        self.assertEqual(attempt.trail, ("interrupted: the server is stopping",))
        self.assertEqual(len(self.inbox.messages), 1)

    def test_a_defect_of_ours(self) -> None:
        """It bounces nothing, and costs this attempt alone (P4)."""

        async def broken(_: object) -> None:
            raise ZeroDivisionError

        (result,) = self.straight(replace(self.delivery(), before_dot=broken)).results
        assert result.diagnosis is not None
        self.assertEqual(self.said(result)[0].value, "defer")
        self.assertTrue(self.result().delivered)


class FollowTests(StraightCase):
    """A delivery that waits for its turn follows on the same connection."""

    def test_a_line(self) -> None:
        """Ten deliveries over one connection, each called by the one before."""
        self.host()
        self.attempt()
        attempts: list[Attempt] = []
        waiting = [self.delivery(*_recipients(f"r{number}")) for number in range(10)]

        def call() -> None:
            if waiting:
                one = replace(waiting.pop(0), follow=call)
                self.assertTrue(self.agent.at_once(one, attempts.append))

        call()
        self.run_for(1)
        self.assertEqual(len(attempts), 10)
        self.assertTrue(all(one.results[0].delivered for one in attempts))
        self.assertEqual(len(self.inbox.messages), 11)
        self.assertEqual(len(self.network.connections), 1)

    def test_a_worn_connection_is_followed_by_nobody(self) -> None:
        """After its last message it is closed."""
        self.make_agent(pool=replace(self.agent.settings.pool, messages=2))
        self.host()
        self.attempt()
        called: list[object] = []
        one = replace(self.delivery(), follow=partial(called.append, 1))
        self.straight(one)
        self.assertEqual(called, [])
        self.assertIsNone(self.at_once())

    def test_a_host_that_breaks_is_spoken_to_one_by_one(self) -> None:
        """The first is in doubt, the next comes again, and none follows any more."""
        one = self.host()
        self.attempt()
        attempts: list[Attempt] = []
        calls: list[bool] = []

        def call() -> None:
            calls.append(self.agent.at_once(self.delivery(), attempts.append))

        self.agent.at_once(replace(self.delivery(), follow=call), attempts.append)
        one.behaviour = HOSTS["lost-after-dot"]
        self.clock.pump([0.0] * 3)
        self.run_for(1)
        self.assertEqual(calls, [True])
        self.assertTrue(attempts[0].results[0].in_doubt)
        one.behaviour = HOSTS["plain"]
        self.attempt()
        self.agent.at_once(replace(self.delivery(), follow=call), attempts.append)
        self.run_for(1)
        self.assertEqual(calls, [True])
