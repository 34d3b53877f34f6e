"""MTA-STS policies over time: fetched once, kept to their end, never cut off."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.mail.errors import FetchError
from fwd_mta.outbound.policies import Policies
from fwd_mta.rules.sts import Policy
from fwd_mta.world.machine import VirtualWall
from fwd_mta.world.names import TableResolver

TEXT = "version: STSv1\nmode: {mode}\nmx: mx.example.com\nmax_age: 86400\n"


class ScriptedHost:
    """A policy host that answers what it is told, or waits, or fails."""

    def __init__(self) -> None:
        self.text: str | None = TEXT.format(mode="enforce")
        self.gate: Deferred[None] | None = None
        self.fetched = 0

    async def fetch(self, domain: str) -> str:
        """Give the text, or fail."""
        self.fetched += 1
        if self.gate is not None:
            await self.gate
        if self.text is None:
            raise FetchError("down")
        return self.text


class PoliciesTests(SynchronousTestCase):
    """One domain's policy."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.texts = {"_mta-sts.example.com": ["v=STSv1; id=1"]}
        self.failing: set[str] = set()
        self.host = ScriptedHost()
        resolver = TableResolver(texts=self.texts, failing=self.failing)
        self.policies = Policies(resolver, self.host, VirtualWall(self.clock))

    def ask(self) -> Deferred[Policy | None]:
        """Ask for the policy of example.com."""
        return Deferred.fromCoroutine(self.policies.of("example.com"))

    def found(self) -> bool:
        """Whether a policy is in force."""
        return self.successResultOf(self.ask()) is not None

    def test_fetched_once(self) -> None:
        """As long as its id stays, it is not asked for again."""
        self.assertTrue(self.found())
        self.clock.advance(3600)
        self.assertTrue(self.found())
        self.assertEqual(self.host.fetched, 1)

    def test_one_fetch_in_flight(self) -> None:
        """Many messages at the same time are one question (guarantee 27)."""
        self.host.gate = Deferred()
        asked = [self.ask() for _ in range(50)]
        self.assertEqual(self.host.fetched, 1)
        self.host.gate.callback(None)
        for each in asked:
            self.assertIsNotNone(self.successResultOf(each))

    def test_no_record_no_policy(self) -> None:
        """Who publishes none is not asked by HTTPS."""
        self.texts.clear()
        self.assertFalse(self.found())
        self.assertEqual(self.host.fetched, 0)

    def test_it_holds_whatever_is_cut_off(self) -> None:
        """Record gone, DNS down, host down, nonsense: it holds until max_age."""
        self.assertTrue(self.found())
        self.clock.advance(600)
        self.texts["_mta-sts.example.com"] = ["v=STSv1; id=2"]
        self.host.text = None
        self.assertTrue(self.found())
        self.clock.advance(600)
        self.host.text = "<html>captive portal</html>"
        self.assertTrue(self.found())
        self.texts.clear()
        self.assertTrue(self.found())
        self.failing.add("_mta-sts.example.com")
        self.assertTrue(self.found())
        self.clock.advance(86_400)
        self.assertFalse(self.found())

    def test_a_new_id_is_a_new_policy(self) -> None:
        """The change of a domain is seen at once."""
        self.assertTrue(self.found())
        self.clock.advance(600)
        self.texts["_mta-sts.example.com"] = ["v=STSv1; id=2"]
        self.host.text = TEXT.format(mode="none")
        self.assertFalse(self.found())
        self.assertEqual(self.host.fetched, 2)

    def test_a_host_that_is_down_is_not_asked_by_each_message(self) -> None:
        """Five minutes between two tries."""
        self.host.text = None
        for _ in range(10):
            self.assertFalse(self.found())
        self.assertEqual(self.host.fetched, 1)
        self.clock.advance(301)
        self.found()
        self.assertEqual(self.host.fetched, 2)

    def test_doubt_looks_anew_before_the_end(self) -> None:
        """After a failure by the policy it is fetched again, though its id stays."""
        self.assertTrue(self.found())
        self.clock.advance(400)
        self.policies.doubt("example.com")
        self.host.text = TEXT.format(mode="testing")
        self.assertTrue(self.found())
        self.assertEqual(self.host.fetched, 2)

    def test_over_a_restart(self) -> None:
        """What is kept can be given to another life, with its end."""
        self.assertTrue(self.found())
        known = self.policies.known()
        self.failing.add("_mta-sts.example.com")
        resolver = TableResolver(texts=self.texts, failing=self.failing)
        wall = VirtualWall(self.clock)
        other = Policies(resolver, self.host, wall)
        other.remember(known)
        asked = Deferred.fromCoroutine(other.of("example.com"))
        self.assertIsNotNone(self.successResultOf(asked))
