"""MTA-STS policies over a restart."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Trouble
from fwd_mta.outbound.policies import Policies
from fwd_mta.outbound.policy_file import PolicyFile
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.machine import InlineWorker, VirtualWall
from fwd_mta.world.names import TableResolver
from tests.outbound.test_policies import ScriptedHost

PATH = "/state/state/mta-sts.json"


class PolicyFileTests(SynchronousTestCase):
    """One disk, several lives."""

    @override
    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.disk.make_directory("/state")
        self.disk.sync_directory("/")
        self.events: list[Event] = []
        self.host = ScriptedHost()

    def life(self, texts: dict[str, list[str]]) -> Policies:
        """A server's policies, with what the last life left."""
        wall = VirtualWall(Clock())
        policies = Policies(TableResolver(texts=texts), self.host, wall)
        file = PolicyFile(PATH, self.disk, InlineWorker(), self.events.append)
        self.successResultOf(Deferred.fromCoroutine(file.start(policies)))
        return policies

    def found(self, policies: Policies) -> bool:
        """Whether example.com has a policy in force."""
        asked = Deferred.fromCoroutine(policies.of("example.com"))
        return self.successResultOf(asked) is not None

    def test_a_policy_holds_over_a_restart(self) -> None:
        """Also with its record and its host gone."""
        first = self.life({"_mta-sts.example.com": ["v=STSv1; id=1"]})
        self.assertTrue(self.found(first))
        self.disk.crash()
        self.host.text = None
        self.assertTrue(self.found(self.life({})))
        self.assertEqual(self.events, [])

    def test_a_file_that_cannot_be_read(self) -> None:
        """Is reported; mail goes on."""
        self.disk.make_directory("/state/state")
        file = self.disk.create(PATH)
        file.append(b"not json")
        self.assertFalse(self.found(self.life({})))
        self.assertEqual([type(event) for event in self.events], [Trouble])
