"""TLS reports over the days, and what the agent counts for them."""

import gzip
import json
from email import message_from_bytes
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event, Reported, Trouble
from fwd_mta.interfaces import ReportHost
from fwd_mta.mail.entry import EntryFilter, QueueEntry
from fwd_mta.mail.errors import FetchError
from fwd_mta.outbound.tls_reports import TlsReports
from fwd_mta.queue.memory import MemoryStore
from fwd_mta.rules.retention import RetentionPolicy
from fwd_mta.rules.signing import SigningKey
from fwd_mta.rules.tlsrpt import DAY, Applied, Failure, Kind, Reporter
from fwd_mta.world.disk import MemoryDisk
from fwd_mta.world.machine import InlineWorker, SeededEntropy, VirtualWall
from fwd_mta.world.names import TableResolver
from tests.kit import World
from tests.outbound.test_transport_security import ROWS, Row, SecurityCase
from tests.rules import dkim_twin
from tests.rules.dkim_twin import publish, verify
from tests.test_signed import ED, RSA, TABLES, SignedWorld

PATH = "/state/state/tlsrpt.json"
RECORD = "_smtp._tls.example.net"
WHO = Reporter("tls@us.example", "Us", "postmaster@us.example")
NONE = Applied(Kind.NONE, "example.net")
BAD = Failure("starttls-not-supported", "mx.example.net", "192.0.2.1")


class ScriptedHost(ReportHost):
    """Takes reports, or does not."""

    def __init__(self) -> None:
        self.fails = False
        self.tries = 0
        self.taken: list[tuple[str, dict[str, Any]]] = []

    @override
    async def post(self, url: str, report: bytes) -> None:
        """Take it, unless it fails."""
        self.tries += 1
        if self.fails:
            raise FetchError("down")
        self.taken.append((url, json.loads(gzip.decompress(report))))


class TlsReportsTests(SynchronousTestCase):
    """One disk, several days and lives."""

    @override
    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = VirtualWall(self.clock, 20_000 * DAY + 3600.0)
        self.disk = MemoryDisk()
        self.disk.make_directory("/state")
        self.disk.sync_directory("/")
        self.texts = {RECORD: ["v=TLSRPTv1; rua=https://r.example/v1"]}
        self.failing: set[str] = set()
        self.host = ScriptedHost()
        self.events: list[Event] = []
        self.store = MemoryStore(self.wall, RetentionPolicy(0, 0))
        self.reports = self.life()

    def life(self) -> TlsReports:
        """A server's reports, started."""
        reports = TlsReports(
            PATH,
            self.disk,
            InlineWorker(),
            self.clock,
            self.wall,
            SeededEntropy(),
            TableResolver(texts=self.texts, failing=self.failing),
            self.store,
            self.host,
            self.events.append,
            WHO,
            tuple,
        )
        self.successResultOf(Deferred.fromCoroutine(reports.start()))
        return reports

    def pass_hours(self, hours: float) -> None:
        """Let time pass, a minute at a time."""
        self.clock.pump([60.0] * int(hours * 60))

    def queued(self) -> list[QueueEntry]:
        """What was put into the queue."""
        found = self.store.entries(EntryFilter())
        return self.successResultOf(Deferred.fromCoroutine(found))

    def test_a_day_is_told_when_it_is_over(self) -> None:
        """Once, within four hours; what comes meanwhile belongs to the next day."""
        self.reports.count("example.net", NONE, None)
        self.reports.count("example.net", NONE, BAD)
        self.pass_hours(22.9)
        self.assertEqual(self.host.taken, [])
        self.pass_hours(4.2)
        ((url, told),) = self.host.taken
        self.assertEqual(url, "https://r.example/v1")
        self.assertEqual(told["date-range"]["start-datetime"], "2024-10-04T00:00:00Z")
        (policy,) = told["policies"]
        self.assertEqual(
            policy["summary"],
            {"total-successful-session-count": 1, "total-failure-session-count": 1},
        )
        self.assertEqual(len([e for e in self.events if isinstance(e, Reported)]), 1)
        self.reports.count("example.net", NONE, None)
        self.pass_hours(23.5)
        self.assertEqual(len(self.host.taken), 2)
        self.pass_hours(48)
        self.assertEqual(len(self.host.taken), 2)

    def test_counts_hold_over_a_restart(self) -> None:
        """Stopped or killed, nothing older than a minute is lost."""
        self.reports.count("example.net", NONE, BAD)
        self.pass_hours(0.1)
        self.reports._loop.stop()  # that process is no more
        self.disk.crash()
        self.reports = self.life()
        self.reports.count("example.net", NONE, None)
        self.successResultOf(Deferred.fromCoroutine(self.reports.stop()))
        self.reports = self.life()
        self.pass_hours(28)
        ((_, told),) = self.host.taken
        (policy,) = told["policies"]
        self.assertEqual(policy["summary"]["total-failure-session-count"], 1)
        self.assertEqual(policy["summary"]["total-successful-session-count"], 1)
        self.assertEqual(policy["failure-details"][0]["receiving-ip"], "192.0.2.1")

    def test_who_does_not_ask_is_not_told(self) -> None:
        """No record, no report; and the counts are gone."""
        self.texts.clear()
        self.reports.count("example.net", NONE, None)
        self.pass_hours(30)
        self.assertEqual((self.host.taken, self.queued()), ([], []))
        self.texts[RECORD] = ["v=TLSRPTv1; rua=https://r.example/v1"]
        self.pass_hours(24)
        self.assertEqual(self.host.taken, [])

    def test_tried_again_for_a_day(self) -> None:
        """A host that is down is asked every hour, up to a day; then it is over."""
        self.host.fails = True
        self.reports.count("example.net", NONE, None)
        self.pass_hours(23 + 12)
        self.assertGreater(self.host.tries, 7)
        self.host.fails = False
        self.pass_hours(1.1)
        self.assertEqual(len(self.host.taken), 1)
        self.host.fails = True
        self.reports.count("example.net", NONE, None)
        self.pass_hours(48)
        tries = self.host.tries
        self.host.fails = False
        self.pass_hours(30)
        self.assertEqual((self.host.tries, len(self.host.taken)), (tries, 1))
        words = [one.what for one in self.events if isinstance(one, Trouble)]
        self.assertIn("no report reached example.net", words)

    def test_names_that_cannot_be_looked_up(self) -> None:
        """Are looked up again."""
        self.failing.add(RECORD)
        self.reports.count("example.net", NONE, None)
        self.pass_hours(23 + 8)
        self.failing.clear()
        self.pass_hours(1.1)
        self.assertEqual(len(self.host.taken), 1)

    def test_several_places_each_once(self) -> None:
        """A place that failed is tried again, one that took it is not."""
        self.texts[RECORD] = ["v=TLSRPTv1; rua=mailto:r%2B1@example.net,https://r.ex/"]
        self.host.fails = True
        self.reports.count("example.net", NONE, None)
        self.pass_hours(23 + 8)
        (entry,) = self.queued()
        self.assertEqual(str(entry.envelope.recipients[0].mailbox), "r+1@example.net")
        self.assertEqual(str(entry.envelope.reverse_path), "tls@us.example")
        self.assertEqual(entry.lifetime, 86_400.0)
        self.host.fails = False
        self.pass_hours(2)
        self.assertEqual((len(self.host.taken), len(self.queued())), (1, 1))

    def test_a_place_that_is_none(self) -> None:
        """An address nobody can have is passed over."""
        self.texts[RECORD] = ["v=TLSRPTv1; rua=mailto:nonsense"]
        self.reports.count("example.net", NONE, None)
        self.pass_hours(30)
        self.assertEqual(self.queued(), [])

    def test_a_file_that_cannot_be_read(self) -> None:
        """Is reported, and counting begins anew."""
        self.disk.make_directory("/state/state")
        file = self.disk.create(PATH)
        file.append(b"nonsense")
        self.life()
        self.assertIsInstance(self.events[-1], Trouble)

    def test_bounded(self) -> None:
        """Ten thousand domains a day are counted, the next ones are not."""
        for number in range(10_050):
            domain = f"d{number}.example"
            self.reports.count(domain, Applied(Kind.NONE, domain), None)
        self.assertEqual(len(self.reports._days[20_000]), 10_000)


COUNTED = {
    "nobody asks for anything": "no-policy-found good",
    "a certificate that proves nothing": "no-policy-found good",
    "no TLS at all": "no-policy-found starttls-not-supported",
    "none, though offered": "nothing",
    "usage 3, name and dates do not count": "tlsa good",
    "usage 3, another key": "tlsa validation-failure",
    "usage 3, no TLS": "tlsa starttls-not-supported",
    "usage 2, other name": "tlsa certificate-host-mismatch",
    "all unusable": "tlsa tlsa-invalid",
    "TLSA look-up fails": "tlsa dnssec-invalid",
    "answers that are not secure": "no-policy-found good",
    "enforce, good": "sts good",
    "enforce, unknown certificate": "sts certificate-not-trusted",
    "enforce, other name": "sts certificate-host-mismatch",
    "enforce, no TLS": "sts starttls-not-supported",
    "enforce, exchanger not named": "sts validation-failure",
    "testing, unknown certificate": "sts certificate-not-trusted",
    "testing, no TLS": "sts starttls-not-supported",
    "mode none": "no-policy-found starttls-not-supported",
    "no policy to be had": "sts starttls-not-supported",
    "a failing DANE, a good policy": "tlsa validation-failure",
    "DANE proves what PKIX cannot": "tlsa good",
    "lifted DANE": "nothing",
    "lifted MTA-STS": "nothing",
    "REQUIRETLS, good": "no-policy-found good",
}


class CountedTests(SecurityCase):
    """What the agent tells of each session: the rows of the table once more."""

    def counted(self, row: Row, messages: int = 1) -> list[str]:
        """What was counted for messages of that kind."""
        told: list[str] = []

        def count(domain: str, applied: Applied, failure: Failure | None) -> None:
            self.assertEqual(domain, "example.com")
            told.append(f"{applied.kind} {failure.result if failure else 'good'}")
            if failure is not None:
                self.assertEqual(failure.host, "one.example")

        self.world(row)
        self.agent.count = count
        for _ in range(messages):
            self.send(row)
        return told

    def test_the_table(self) -> None:
        """Policy type and result type of RFC 8460 for every kind of session."""
        rows = {row.words: row for row in ROWS}
        for words, wanted in COUNTED.items():
            told = ", ".join(self.counted(rows[words])) or "nothing"
            self.assertEqual(told, wanted, words)

    def test_a_session_counts_once(self) -> None:
        """However many messages a connection serves."""
        rows = {row.words: row for row in ROWS}
        self.assertEqual(len(self.counted(rows["enforce, good"], messages=3)), 1)


class WholeTests(SynchronousTestCase):
    """From a session to a signed report in the domain's mailbox."""

    def test_a_report_by_mail(self) -> None:
        """Counted, packed, signed, sent; and its own session is not counted."""
        world = SignedWorld()
        world.extra = TABLES + '\n[tlsrpt]\nsender = "tls@example.com"\n'
        world.make_keys()
        self.patch(
            world.resolver,
            "_texts",
            {RECORD: ["v=TLSRPTv1; rua=mailto:reports@example.net"]},
        )
        world.server = world.make()
        world.start()
        world.submit("bob@example.net")
        world.pass_time(5)
        world.until(lambda: bool(self.reports(world)), 2 * DAY, step=600.0)
        world.pass_time(60)
        (content,) = self.reports(world)
        keys = (
            SigningKey("example.com", "fwd1", RSA),
            SigningKey("example.com", "fwd2", ED),
        )
        self.patch(dkim_twin, "_CLOCK", SimpleNamespace(time=world.wall.now))
        self.assertEqual(verify(content, publish(keys)), [True, True])
        told = self.told(content)
        (policy,) = told["policies"]
        self.assertEqual(policy["policy"]["policy-type"], "no-policy-found")
        self.assertEqual(policy["summary"]["total-successful-session-count"], 1)
        self.assertEqual(told["organization-name"], "mail.example.com")
        world.pass_time(3 * DAY, step=600.0)
        self.assertEqual(len(self.reports(world)), 1, "a report about a report")

    def reports(self, world: World) -> list[bytes]:
        """The reports that came."""
        found = world.inbox.of("reports@example.net")
        return [one.content for one in found]

    def told(self, content: bytes) -> dict[str, Any]:
        """What a report says."""
        *_, packed = message_from_bytes(content).walk()
        octets = packed.get_payload(decode=True)
        assert isinstance(octets, bytes)
        told: dict[str, Any] = json.loads(gzip.decompress(octets))
        return told
