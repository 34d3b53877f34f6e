"""clamd, rspamd and spamd, each against its twin: honest, dying, lying, endless."""

import json
from collections.abc import Awaitable
from dataclasses import dataclass, replace

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Event
from fwd_mta.inbound.checks import Checks
from fwd_mta.inbound.clamd import Clamd
from fwd_mta.inbound.dialogue import NoAnswer, Place
from fwd_mta.inbound.rspamd import Rspamd, report_of
from fwd_mta.inbound.spamd import SIZE_LIMIT, Spamd
from fwd_mta.interfaces import Scanner
from fwd_mta.mail.message import Message
from fwd_mta.mail.scan import ScanReport, Verdict
from fwd_mta.world.machine import SeededEntropy
from fwd_mta.world.network import Link, MemoryNetwork
from fwd_mta.world.scanners import EICAR, GTUBE, Conduct, ScannerHost
from tests.inbound.test_intake import ENVELOPE, SESSION

HEAD = b"From: ann@example.com\r\n"
CLEAN = Message(HEAD, b"Hi\r\n")
KINDS = ("clamd", "rspamd", "spamd")
BAD = {"clamd": EICAR, "rspamd": GTUBE, "spamd": GTUBE}


@dataclass
class PacedBody:
    """A body of octets that lies elsewhere; remembers how it was read."""

    size: int
    largest: int = 0

    def read(self, offset: int, length: int) -> Awaitable[bytes]:
        """Give a range."""
        self.largest = max(self.largest, length)
        found: Deferred[bytes] = Deferred()
        found.callback(b"x" * max(0, min(length, self.size - offset)))
        return found


class ScannerTests(SynchronousTestCase):
    """Each scanner behind `Checks`, as intake uses it."""

    @override
    def setUp(self) -> None:
        """A network with one host per scanner."""
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock, SeededEntropy(), Link(split=True))
        self.hosts = {name: ScannerHost(name) for name in KINDS}
        for port, host in enumerate(self.hosts.values(), 1):
            _ = self.network.listen(f"127.0.0.1:{port}", host)
        self.scanners: dict[str, Scanner] = {
            "clamd": Clamd(self.network, Place("127.0.0.1", 1)),
            "rspamd": Rspamd(self.network, "http://localhost:2", "mail.example.com"),
            "spamd": Spamd(self.network, Place("127.0.0.1", 3)),
        }
        self.events: list[Event] = []

    def scan(self, name: str, message: Message = CLEAN) -> ScanReport:
        """Its report, within the time limit of 30 s."""
        checks = Checks([self.scanners[name]], self.clock, self.events.append)
        asked = Deferred.fromCoroutine(checks.reports(SESSION, ENVELOPE, message))
        for step in [0.01] * 500 + [1] * 31:
            if asked.called:
                break
            self.clock.advance(step)
        [report] = self.successResultOf(asked)
        self.clock.pump([0.01] * 5)
        self.assertEqual(self.hosts[name].open, 0, "a connection was left")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return report

    def test_clean(self) -> None:
        """Clean mail is accepted; the scanner was shown all of it."""
        for name in KINDS:
            report = self.scan(name)
            self.assertIs(report.verdict, Verdict.ACCEPT, report)
            self.assertEqual(report.scanner, name)
            self.assertEqual(self.hosts[name].messages, [HEAD + b"\r\nHi\r\n"])

    def test_bad(self) -> None:
        """Bad mail is refused, with what was found."""
        for name in KINDS:
            report = self.scan(name, Message(HEAD, BAD[name] + b"\r\n"))
            self.assertIs(report.verdict, Verdict.REJECT, report)
            self.assertTrue(report.reason.endswith(("EICAR_HDB-1", "GTUBE")))

    def test_every_fault(self) -> None:
        """Dead, silent, lying or endless: the report says FAILED, and why."""
        for name in KINDS:
            for conduct in list(Conduct)[1:]:
                self.hosts[name].conduct = conduct
                report = self.scan(name)
                self.assertIs(report.verdict, Verdict.FAILED, (conduct, report))
                self.assertTrue(report.note, conduct)
                self.assertLess(len(report.note), 300)

    def test_dies_in_a_large_message(self) -> None:
        """A scanner that hangs up, or reads nothing, while much is sent."""
        message = Message(HEAD, PacedBody(300_000))
        self.network.bend("127.0.0.1", Link())
        for name in ("clamd", "rspamd"):
            for conduct in (Conduct.DIES, Conduct.DEAF, Conduct.SILENT):
                self.hosts[name].conduct = conduct
                report = self.scan(name, message)
                self.assertIs(report.verdict, Verdict.FAILED, (conduct, report))

    def test_not_there(self) -> None:
        """Nobody listens: FAILED, with the place."""
        places = (
            Clamd(self.network, Place("127.0.0.1", 9)),
            Rspamd(self.network, "http://127.0.0.1:9", "mail.example.com"),
            Spamd(self.network, Place("unix:/nowhere")),
        )
        for scanner in places:
            self.scanners[scanner.name] = scanner
            report = self.scan(scanner.name)
            self.assertIs(report.verdict, Verdict.FAILED)
            self.assertIn("cannot connect to", report.note)

    def test_streamed(self) -> None:
        """A large message goes over in blocks, at the scanner's pace."""
        body = PacedBody(500_000)
        self.network.bend("127.0.0.1", Link())
        self.assertIs(self.scan("clamd", Message(HEAD, body)).verdict, Verdict.ACCEPT)
        self.assertLessEqual(body.largest, 64 * 1024)
        self.assertEqual(len(self.hosts["clamd"].messages[0]), len(HEAD) + 500_002)

    def test_clamd_size_limit(self) -> None:
        """What clamd finds too large is not checked, and the log says the cure."""
        self.hosts["clamd"].answer = b"INSTREAM size limit exceeded. ERROR\0"
        report = self.scan("clamd")
        self.assertIs(report.verdict, Verdict.FAILED)
        self.assertIn("larger", report.reason)
        self.assertIn("StreamMaxLength", str(self.events))

    def test_spamd_skips_large(self) -> None:
        """Like spamc, large mail is not shown to SpamAssassin."""
        report = self.scan("spamd", Message(HEAD, PacedBody(SIZE_LIMIT)))
        self.assertIs(report.verdict, Verdict.ACCEPT)
        self.assertIn("not looked at", report.note)
        self.assertEqual(self.hosts["spamd"].messages, [])

    def test_spamd_tags(self) -> None:
        """Between its own limit and ours spam is tagged."""
        table = ((b"5.1", Verdict.TAG), (b"14.9", Verdict.TAG), (b"15.0", "reject"))
        for score, verdict in table:
            self.hosts["spamd"].answer = (
                b"SPAMD/1.1 0 EX_OK\r\nContent-length: 5\r\n"
                b"Spam: True ; %s / 5.0\r\n\r\nA,B\r\n" % score
            )
            report = self.scan("spamd")
            self.assertEqual(report.verdict, verdict)
            self.assertEqual(report.score, float(score))
            if verdict is Verdict.TAG:
                self.assertIn(("X-Spam-Flag", "YES"), report.fields)

    def test_rspamd_is_told(self) -> None:
        """Envelope, client and account go with the message."""
        self.scan("rspamd")
        head = self.hosts["rspamd"].heads[0]
        for line in (
            "POST /checkv2 HTTP/1.1",
            "From: ann@example.com",
            "Rcpt: bob@example.net",
            "IP: 192.0.2.7",
            "User: ann@example.com",
            "TLS-Version: TLSv1.3",
            "MTA-Name: mail.example.com",
        ):
            self.assertIn(line, head.split("\r\n"))

    def test_rspamd_cannot_be_injected(self) -> None:
        """What a client says of itself makes no line of its own."""
        session = replace(SESSION, hello="x\r\nUser: root\r\n\r\n")
        scanner = self.scanners["rspamd"]
        checks = Checks([scanner], self.clock, self.events.append)
        asked = Deferred.fromCoroutine(checks.reports(session, ENVELOPE, CLEAN))
        self.clock.pump([0.01] * 300)
        self.successResultOf(asked)
        self.assertNotIn("User: root", self.hosts["rspamd"].heads[0].split("\r\n"))

    def test_http_forms(self) -> None:
        """All ways to send a body are read; all other answers are FAILED."""
        body = b'{"action":"no action","score":1}'
        half = b"%x\r\n%s\r\n%x;x=y\r\n%s\r\n0\r\n\r\n"
        chunks = half % (10, body[:10], len(body) - 10, body[10:])
        fine = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks,
            b"HTTP/1.1 200 OK\r\ncontent-length:%d\r\n\r\n" % len(body) + body,
        )
        wrong = (
            b"HTTP/1.1 503 No\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        )
        for answers, verdict in ((fine, Verdict.ACCEPT), (wrong, Verdict.FAILED)):
            for answer in answers:
                self.hosts["rspamd"].answer = answer
                self.assertIs(self.scan("rspamd").verdict, verdict, answer)


class RspamdReportTests(SynchronousTestCase):
    """`report_of` reads what rspamd says."""

    def test_actions(self) -> None:
        """Each action has its verdict; nothing is ever dropped in silence."""
        table = {
            "no action": Verdict.ACCEPT,
            "greylist": Verdict.ACCEPT,
            "add header": Verdict.TAG,
            "rewrite subject": Verdict.TAG,
            "soft reject": Verdict.DEFER,
            "quarantine": Verdict.QUARANTINE,
            "reject": Verdict.REJECT,
            "discard": Verdict.REJECT,
        }
        for action, verdict in table.items():
            report = report_of(json.dumps({"action": action, "score": 3}).encode())
            self.assertIs(report.verdict, verdict)
            self.assertEqual(report.score, 3.0)

    def test_words_symbols_fields(self) -> None:
        """Its words go to the sender, its symbols to the timeline, its fields in."""
        said = {
            "action": "add header",
            "score": 7.5,
            "symbols": {
                "SMALL": {"score": 0.5},
                "GOOD": {"score": -1},
                "BIG": {"score": 7},
            },
            "milter": {
                "add_headers": {
                    "X-One": "1",
                    "X-Two": {"value": "2", "order": 1},
                    "X-Three": [{"value": "3"}, "4"],
                }
            },
        }
        report = report_of(json.dumps(said).encode())
        self.assertEqual(report.note, "BIG, SMALL")
        self.assertEqual(
            report.fields,
            (("X-One", "1"), ("X-Two", "2"), ("X-Three", "3"), ("X-Three", "4")),
        )
        said |= {"action": "reject", "messages": {"smtp_message": "Go away"}}
        self.assertEqual(report_of(json.dumps(said).encode()).reason, "Go away")

    def test_nonsense(self) -> None:
        """Anything else is NoAnswer, never another exception."""
        table = (
            b"",
            b"[]",
            b"1",
            b"{}",
            b'{"action":"explode","score":1}',
            b'{"action":["reject"],"score":1}',
            b'{"action":"reject","score":"much"}',
            b'{"action":"reject","score":1,"symbols":[1]}',
            b'{"action":"reject","score":1,"symbols":{"A":1}}',
            b'{"action":"reject","score":1,"milter":5}',
            b'{"action":"reject","score":1,"milter":{"add_headers":[]},"messages":7}',
            b"[" * 100_000,
            b"\xff\xfe",
        )
        for body in table:
            with self.assertRaises(NoAnswer, msg=body[:80]):
                report_of(body)


class PlaceTests(SynchronousTestCase):
    """`Place.parse`."""

    def test_forms(self) -> None:
        """Socket files, addresses of both families, localhost; no names."""
        table = (
            ("unix:/run/x", Place("unix:/run/x")),
            ("tcp:127.0.0.1:3310", Place("127.0.0.1", 3310)),
            ("tcp:[::1]:3310", Place("::1", 3310)),
            ("inet:localhost:8891", Place("127.0.0.1", 8891)),
        )
        for text, place in table:
            self.assertEqual(Place.parse(text), place)
        with self.assertRaises(ValueError):
            Place.parse("tcp:scanner.example:3310")
        for url in ("https://127.0.0.1", "http://", "http://name.example:1"):
            with self.assertRaises(ValueError):
                Rspamd(MemoryNetwork(Clock(), SeededEntropy()), url, "x")
