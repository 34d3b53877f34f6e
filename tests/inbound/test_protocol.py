"""Tests for the session: order, bounds, timers, limits, drain.

The eight defects of the stock ESMTP that concern a server (docs/design.md, D1 D4 D5 D6
D8) each have a test named for them; D1, D4 and D5 also have dialogues.
"""

from ipaddress import ip_network
from itertools import pairwise

from twisted.internet.defer import Deferred
from twisted.mail.smtp import ESMTP, SMTPFactory
from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.events import Accepted, Refused, Trouble
from fwd_mta.inbound import gate
from fwd_mta.inbound.protocol import SubmissionSettings
from fwd_mta.mail.errors import LookUpFailed, NoSpace, StoreError
from fwd_mta.mail.session import Service
from fwd_mta.rules.submission import SubmissionPolicy
from tests.inbound.bench import HOSTNAME, SECRET, Bench, Wire, plain
from tests.properties import given, settings, st
from tests.smtp.test_data import SEPARATORS

MAIL = ("MAIL FROM:<ann@example.com>", "RCPT TO:<bob@example.net>", "DATA")
GO_AHEAD = "354 End data with <CR><LF>.<CR><LF>"
MESSAGE = b"From: ann@example.com\r\n\r\nHi\r\n.\r\n"
DIALOGUE = (
    "EHLO me",
    "AUTH PLAIN " + plain("ann@example.com"),
    *MAIL,
    "From: ann@example.com",
    "",
    "..One",
    ".",
    *MAIL,
    "From: ann@example.com",
    "",
    "Two",
    ".",
    "NOOP",
)

FRAGMENTS = [
    b"MAIL FROM:<ann@example.com>\r\n",
    b"RCPT TO:<bob@example.net>\r\n",
    b"DATA\r\n",
    b"RSET\r\n",
    b"AUTH PLAIN\r\n",
    b"From: ann@example.com\r\n\r\n",
    b"NOOP",
    b"\r\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b".",
    b"\r",
    b"\n",
]
EXPECTED = [220, 250, 235, 250, 250, 354, 250, 250, 250, 354, 250, 250]


def codes(lines: list[str]) -> list[int]:
    """The codes of last lines of replies."""
    return [int(line[:3]) for line in lines if line[3] == " "]


def to_data(wire: Wire) -> None:
    """Bring a session that has logged in to the 354."""
    assert codes(wire.say(*MAIL)) == [250, 250, 354]


class KindTests(SynchronousTestCase):
    """What the customer asked for by name."""

    def test_kinds(self) -> None:
        """A session is an ESMTP, made by an SMTPFactory with a cred portal."""
        bench = Bench()
        self.assertIsInstance(bench.factory, SMTPFactory)
        self.assertIsInstance(bench.connect().protocol, ESMTP)
        self.assertIsNotNone(bench.factory.portal)


class DefectTests(SynchronousTestCase):
    """The defects of the stock class stay mended."""

    def test_d1_starttls_injection(self) -> None:
        """D1: bytes behind STARTTLS end the session (with TLS itself: TlsTests)."""
        bench = Bench(Service.SUBMISSION)
        bench.factory.tls = object()  # type: ignore[assignment]
        wire = bench.connect()
        wire.say("EHLO me")
        heard = wire.say("STARTTLS", "EHLO mallory")
        self.assertEqual(codes(heard), [554])
        self.assertTrue(wire.closed)

    def test_d4_long_line_in_data(self) -> None:
        """D4: a line of any length is content, in as many segments as it likes."""
        bench = Bench()
        wire = bench.logged_in()
        to_data(wire)
        wire.send(b"From: ann@example.com\r\n\r\n")
        for _ in range(40):
            wire.send(b"x" * 1000)
        self.assertEqual(wire.heard(), [])
        wire.send(b"\r\nRSET\r\n.\r\n")
        self.assertEqual(codes(wire.heard()), [250])
        [(_, message)] = bench.writer.added
        assert isinstance(message.body, bytes)
        lines = message.body.split(b"\r\n")
        self.assertIn(b"RSET", lines)
        self.assertLessEqual(max(map(len, lines)), 998)

    def test_d5_endless_line(self) -> None:
        """D5: a line without an end is not kept: 500, and the session ends."""
        wire = Bench().connect()
        for _ in range(4):
            wire.send(b"x" * 1000)
        self.assertEqual(codes(wire.heard()), [220, 500])
        self.assertTrue(wire.closed)
        self.assertEqual(wire.protocol.pending, 0)

    def test_d6_two_messages_while_the_store_is_slow(self) -> None:
        """D6: nothing pipelined is looked at while a reply is owed; order is kept."""
        bench = Bench()
        wire = bench.logged_in()
        bench.writer.wait = Deferred()
        both = "".join(line + "\r\n" for line in MAIL).encode() + MESSAGE
        wire.send(both + both + b"NOOP\r\n")
        self.assertEqual(codes(wire.heard()), [250, 250, 354])
        waited, bench.writer.wait = bench.writer.wait, Deferred()
        waited.callback(None)
        self.assertEqual(codes(wire.heard()), [250, 250, 250, 354])
        bench.writer.wait.callback(None)
        self.assertEqual(codes(wire.heard()), [250, 250])
        self.assertEqual(len(bench.writer.added), 2)

    def test_d6_slow_look_up_at_mail(self) -> None:
        """D6: RCPT and DATA wait for the verdict on MAIL."""
        bench = Bench()
        wire = bench.logged_in()
        slow: Deferred[None] = Deferred()
        find = bench.accounts.find

        async def slow_find(login: str) -> object:
            await slow
            return await find(login)

        self.patch(bench.accounts, "find", slow_find)
        self.assertEqual(wire.say(*MAIL), [])
        bench.clock.advance(3600)
        self.assertFalse(wire.closed, "the time is ours, not the client's")
        slow.callback(None)
        self.assertEqual(codes(wire.heard()), [250, 250, 354])

    def test_d8_peer_that_never_reads(self) -> None:
        """D8: a client that reads nothing gets nothing done and is cut off."""
        bench = Bench()
        wire = bench.connect()
        producer = wire.transport.producer
        assert producer is not None
        producer.pauseProducing()
        wire.transport.clear()
        wire.send(b"EHLO me\r\n" * 100)
        self.assertEqual(wire.heard(), [])
        while wire.transport.producerState == "producing":
            wire.send(b"EHLO me\r\n" * 1000)
        self.assertLess(wire.protocol.pending, gate.INPUT_LIMIT + 10_000)
        bench.clock.advance(300)
        bench.clock.advance(gate.CLOSE_LIMIT)
        self.assertTrue(wire.transport.aborted)

    def test_d8_peer_that_reads_again(self) -> None:
        """D8: what was held back is answered when the client reads again."""
        wire = Bench().connect()
        wire.heard()
        wire.protocol.pauseProducing()
        self.assertEqual(wire.say("NOOP", "NOOP"), [])
        wire.protocol.resumeProducing()
        self.assertEqual(codes(wire.heard()), [250, 250])

    def test_d8_writes_are_bounded(self) -> None:
        """D8: replies are handed over before they become many."""
        bench = Bench()
        wire = bench.connect()
        wire.say("EHLO me")
        wire.transport.writes.clear()
        wire.send(b"RCPT TO:<a@b.example>\r\n" * 10)
        self.assertEqual(len(wire.transport.writes), 1)
        wire.send(b"EHLO me\r\n" * 90)
        self.assertLess(max(map(len, wire.transport.writes)), 34_000)


class OrderTests(SynchronousTestCase):
    """However a dialogue is cut into segments, it goes the same way."""

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.lists(st.integers(0, 420), max_size=12))
    def test_any_split(self, places: list[int]) -> None:
        """Two messages, cut anywhere: the same replies, the same two messages."""
        octets = "".join(line + "\r\n" for line in DIALOGUE).encode()
        edges = sorted({0, len(octets), *(min(p, len(octets)) for p in places)})
        bench = Bench()
        wire = bench.connect()
        for start, end in pairwise(edges):
            wire.send(octets[start:end])
        self.assertEqual(codes(wire.heard()), EXPECTED)
        bodies = [message.body for _, message in bench.writer.added]
        self.assertEqual(bodies, [b".One\r\n", b"Two\r\n"])

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=6), max_size=40))
    def test_any_nonsense(self, fragments: list[bytes]) -> None:
        """Whatever a client says, every answer is well formed and nothing breaks."""
        bench = Bench()
        wire = bench.logged_in()
        for fragment in fragments:
            wire.send(fragment)
        for line in wire.heard():
            self.assertRegex(line, r"\A[2345][0-9]{2}[ -][ -~]*\Z")
        self.assertFalse([one for one in bench.events if isinstance(one, Trouble)])
        for entry, message in bench.writer.added:
            assert isinstance(message.body, bytes)
            whole = message.head + b"\r\n" + message.body
            self.assertEqual(whole.count(b"\r\n"), whole.count(b"\n"))
            self.assertEqual(whole.count(b"\r"), whole.count(b"\n"))
            self.assertNotIn(b"\0", whole)
            self.assertTrue(entry.envelope.recipients)

    def test_one_write(self) -> None:
        """Replies of a pipelined group leave in one write."""
        wire = Bench().logged_in()
        wire.transport.writes.clear()
        wire.say(*MAIL)
        self.assertEqual(len(wire.transport.writes), 1)

    def test_smuggling(self) -> None:
        """None of the known separators makes two messages out of one."""
        for separator in SEPARATORS:
            bench = Bench()
            wire = bench.logged_in()
            to_data(wire)
            inner = b"MAIL FROM:<x@y.example>\r\nRCPT TO:<v@w.example>\r\nDATA\r\n"
            wire.send(
                b"From: ann@example.com\r\n\r\none" + separator + inner + b".\r\n"
            )
            self.assertEqual(len(codes(wire.heard())), 1, separator)
            self.assertLessEqual(len(bench.writer.added), 1, separator)
            self.assertEqual(codes(wire.say("NOOP")), [250], separator)


class MailTests(SynchronousTestCase):
    """What becomes of a message at the door."""

    def test_accepted(self) -> None:
        """The 250 names the id; the event says who sent how much to how many."""
        bench = Bench()
        wire = bench.logged_in()
        to_data(wire)
        wire.send(MESSAGE)
        [(entry, message)] = bench.writer.added
        self.assertEqual(wire.heard(), [f"250 2.0.0 Ok: queued as {entry.id}"])
        [event] = [one for one in bench.events if isinstance(one, Accepted)]
        self.assertEqual(event.account, "ann@example.com")
        self.assertEqual((event.recipients, event.size), (1, message.size))

    def test_no_250_before_the_store(self) -> None:
        """The client hears nothing until the message is durable (P1)."""
        bench = Bench()
        wire = bench.logged_in()
        to_data(wire)
        bench.writer.wait = Deferred()
        wire.send(MESSAGE)
        self.assertEqual(wire.heard(), [])
        bench.clock.advance(3600)
        self.assertEqual(wire.heard(), [])
        self.assertFalse(wire.closed)
        bench.writer.wait.callback(None)
        self.assertEqual(codes(wire.heard()), [250])

    def test_connection_lost_while_the_store_works(self) -> None:
        """What is durable stays accepted, though nobody heard the 250."""
        bench = Bench()
        wire = bench.logged_in()
        to_data(wire)
        bench.writer.wait = Deferred()
        wire.send(MESSAGE)
        wire.drop()
        bench.writer.wait.callback(None)
        self.assertEqual(len(bench.writer.added), 1)
        self.assertFalse(bench.writer.spools[0].discarded)
        self.assertEqual(bench.factory.sessions, set())

    def test_connection_lost_in_data(self) -> None:
        """Half a message is forgotten."""
        bench = Bench()
        wire = bench.logged_in()
        to_data(wire)
        wire.send(b"From: ann@example.com\r\n\r\nHalf")
        wire.drop()
        self.assertTrue(bench.writer.spools[0].discarded)
        self.assertEqual(bench.writer.added, [])

    def test_store_fails(self) -> None:
        """A broken disk is 451 or 452, never 5xx (P4), and leaves nothing behind."""
        for error, code in ((StoreError("torn"), 451), (NoSpace("full"), 452)):
            bench = Bench()
            wire = bench.logged_in()
            to_data(wire)
            bench.writer.error = error
            wire.send(MESSAGE)
            self.assertEqual(codes(wire.heard()), [code])
            self.assertTrue(bench.writer.spools[0].discarded)
            self.assertTrue(any(isinstance(one, Trouble) for one in bench.events))

    def test_no_room(self) -> None:
        """A nearly full disk is said at MAIL, before the content comes."""
        bench = Bench()
        bench.writer.room = False
        heard = bench.logged_in().say(MAIL[0])
        self.assertEqual(codes(heard), [452])
        self.assertIn("4.3.1", heard[0])

    def test_too_big(self) -> None:
        """Over the limit: 552 after the dot; far over it: the session ends."""
        bench = Bench(policy=SubmissionPolicy(message_size_limit=1000))
        wire = bench.logged_in()
        to_data(wire)
        wire.send(b"From: ann@example.com\r\n\r\n" + b"x" * 1000)
        self.assertTrue(bench.writer.spools[0].discarded)
        wire.send(b"\r\n.\r\n")
        self.assertEqual(codes(wire.heard()), [552])
        to_data(wire)
        wire.send(b"x" * 2001)
        # not 421: the client would send it all again
        self.assertEqual(codes(wire.heard()), [552])
        self.assertTrue(wire.closed)

    def test_refused_without_end(self) -> None:
        """Who only hears refusals is sent away: before AUTH, with a wrong sender."""
        for login, line in ((False, MAIL[0]), (True, "MAIL FROM:<eve@x.example>")):
            bench = Bench()
            wire = bench.logged_in() if login else bench.connect()
            wire.say("EHLO me")
            heard = [code for _ in range(30) for code in codes(wire.say(line))]
            self.assertEqual(heard[20:], [421])
            self.assertTrue(wire.closed)

    def test_slow_disk_pauses_the_client(self) -> None:
        """A client faster than the disk is paused, and not blamed for the time."""
        bench = Bench()
        bench.writer.slow_disk = True
        wire = bench.logged_in()
        to_data(wire)
        wire.send(b"From: ann@example.com\r\n\r\n" + b"x\r\n" * 400_000)
        self.assertEqual(wire.transport.producerState, "paused")
        bench.clock.advance(1000)
        self.assertFalse(wire.closed)
        bench.writer.spools[0].catch_up()
        self.assertEqual(wire.transport.producerState, "producing")
        wire.send(b".\r\n")
        self.assertEqual(codes(wire.heard()), [250])

    def test_switched_off_meanwhile(self) -> None:
        """What was switched off during a session is found at the next MAIL."""
        bench = Bench()
        wire = bench.logged_in()
        bench.accounts_file = bench.accounts_file.replace(
            b'login = "ann@example.com"', b'login = "ann@example.com"\nsmtp = false'
        )
        self.successResultOf(Deferred.fromCoroutine(bench.accounts.load()))
        self.assertEqual(codes(wire.say(MAIL[0])), [525])

    def test_look_up_fails_at_mail(self) -> None:
        """An account source that cannot say is temporary, never a refusal."""
        bench = Bench()
        wire = bench.logged_in()

        async def broken(login: str) -> object:
            raise LookUpFailed(login)

        self.patch(bench.accounts, "find", broken)
        self.assertEqual(codes(wire.say(MAIL[0])), [454])

    def test_bug_in_the_accounts(self) -> None:
        """A bug of ours at MAIL is 451 and an event, and the session goes on (P4)."""
        bench = Bench()
        wire = bench.logged_in()

        async def bug(login: str) -> object:
            raise ZeroDivisionError(login)

        self.patch(bench.accounts, "find", bug)
        self.assertEqual(codes(wire.say(MAIL[0], "NOOP")), [451, 250])
        self.assertTrue(any(isinstance(one, Trouble) for one in bench.events))

    def test_bug_in_a_verb(self) -> None:
        """An exception ends one session with 421, never the reactor (P6)."""
        bench = Bench()
        wire = bench.connect()
        wire.heard()
        self.patch(wire.protocol, "do_NOOP", lambda rest: 1 // 0)
        self.assertEqual(codes(wire.say("NOOP", "NOOP")), [421])
        self.assertTrue(wire.closed)
        self.assertTrue(any(isinstance(one, Trouble) for one in bench.events))

    def test_help_page(self) -> None:
        """Refusals name the operator's help page, and HELP does too."""
        policy = SubmissionPolicy(help_url="https://mail.example.com/help")
        wire = Bench(policy=policy).logged_in()
        for command in ("MAIL FROM:<eve@example.org>", "HELP"):
            heard = wire.say(command)
            self.assertIn("https://mail.example.com/help", heard[-1])


class TimerTests(SynchronousTestCase):
    """Every stage has its time; we never run out of ours."""

    def test_command(self) -> None:
        """A silent client is told 421 after five minutes."""
        bench = Bench()
        wire = bench.connect()
        wire.heard()
        bench.clock.advance(299)
        self.assertFalse(wire.closed)
        wire.say("NOOP")
        bench.clock.advance(299)
        self.assertFalse(wire.closed)
        bench.clock.advance(1)
        self.assertEqual(codes(wire.heard()), [421])
        self.assertTrue(wire.closed)

    def test_half_a_line_buys_no_time(self) -> None:
        """Octets that make no line do not restart the timer."""
        bench = Bench()
        wire = bench.connect()
        for _ in range(30):
            bench.clock.advance(10)
            wire.send(b"N")
        self.assertTrue(wire.closed)

    def test_data_block(self) -> None:
        """Mail data may pause for three minutes."""
        bench = Bench()
        wire = bench.logged_in()
        to_data(wire)
        bench.clock.advance(179)
        wire.send(b"From: ann@example.com\r\n")
        bench.clock.advance(179)
        self.assertFalse(wire.closed)
        bench.clock.advance(1)
        self.assertEqual(codes(wire.heard()), [421])
        self.assertTrue(bench.writer.spools[0].discarded)

    def test_drip(self) -> None:
        """A message that comes octet by octet is given two hours, not for ever."""
        bench = Bench()
        wire = bench.logged_in()
        to_data(wire)
        for _ in range(73):
            bench.clock.advance(100)
            wire.send(b"x")
        self.assertTrue(wire.closed)

    def test_nobody_is_left_hanging(self) -> None:
        """After QUIT the line is cut if the client does not let go."""
        bench = Bench()
        wire = bench.connect()
        wire.say("QUIT")
        bench.clock.advance(gate.CLOSE_LIMIT)
        self.assertTrue(wire.transport.aborted)

    def test_no_timer_left(self) -> None:
        """A session that is over leaves nothing in the clock."""
        bench = Bench()
        for last in ("NOOP", "QUIT", "STARTTLS"):
            wire = bench.connect()
            wire.say(last)
            wire.drop()
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_silence_in_clear_after_quit(self) -> None:
        """What comes after QUIT is not looked at."""
        wire = Bench().connect()
        wire.say("QUIT")
        self.assertEqual(wire.say("NOOP"), [])


class LimitTests(SynchronousTestCase):
    """One client costs itself, nobody else (P6)."""

    def test_errors(self) -> None:
        """Twenty errors are borne, the next one ends the session."""
        wire = Bench().connect()
        wire.heard()
        heard = wire.say(*["XYZZY"] * 25)
        self.assertEqual(codes(heard), [500] * 20 + [421])
        self.assertTrue(wire.closed)

    def test_idle_commands(self) -> None:
        """A hundred commands without a message are enough."""
        wire = Bench().connect()
        wire.heard()
        heard = wire.say(*["NOOP"] * 150)
        self.assertEqual(codes(heard), [250] * 100 + [421])

    def test_bad_recipients(self) -> None:
        """Bad recipients are no errors of that kind: a list may hold many."""
        wire = Bench(policy=SubmissionPolicy(recipient_limit=50)).logged_in()
        wire.say(MAIL[0])
        heard = wire.say(*["RCPT TO:<nobody>"] * 52)
        self.assertEqual(codes(heard), [501] * 50 + [421])

    def test_a_message_wipes_the_slate(self) -> None:
        """After an accepted message errors are counted anew."""
        wire = Bench().logged_in()
        for _ in range(3):
            wire.say(*["XYZZY"] * 15)
            to_data(wire)
            wire.send(MESSAGE)
            self.assertEqual(codes(wire.heard()), [250])

    def test_connections_per_client(self) -> None:
        """One connection too many hears 421 before any greeting."""
        limits = SubmissionSettings(
            Service.SUBMISSIONS,
            HOSTNAME,
            SubmissionPolicy(),
            connections_per_client=2,
            exempt_networks=(ip_network("198.51.100.0/24"),),
        )
        bench = Bench(settings=limits)
        first, _ = bench.connect(), bench.connect()
        third = bench.connect()
        self.assertEqual(codes(third.heard()), [421])
        self.assertTrue(third.closed)
        self.assertEqual(codes(bench.connect("203.0.113.1").heard()), [220])
        for _ in range(5):
            self.assertEqual(codes(bench.connect("198.51.100.9").heard()), [220])
        first.drop()
        self.assertEqual(codes(bench.connect().heard()), [220])

    def test_farewell_is_cut_off(self) -> None:
        """Even the one who is turned away cannot hold the line."""
        limits = SubmissionSettings(
            Service.SUBMISSIONS,
            HOSTNAME,
            SubmissionPolicy(),
            connections_per_client=0,
        )
        bench = Bench(settings=limits)
        wire = bench.connect()
        bench.clock.advance(gate.CLOSE_LIMIT)
        self.assertTrue(wire.transport.aborted)

    def test_connections_per_account(self) -> None:
        """An account has so many sessions, wherever they come from."""
        limits = SubmissionSettings(
            Service.SUBMISSIONS,
            HOSTNAME,
            SubmissionPolicy(),
            connections_per_account=1,
        )
        bench = Bench(settings=limits)
        first = bench.logged_in()
        second = bench.connect("203.0.113.1")
        second.say("EHLO me")
        login = "AUTH PLAIN " + plain("ann@example.com")
        self.assertEqual(codes(second.say(login)), [421])
        first.drop()
        third = bench.connect()
        third.say("EHLO me")
        self.assertEqual(codes(third.say(login)), [235])

    def test_all_counted_down(self) -> None:
        """When everybody has gone nothing is counted any more."""
        bench = Bench()
        for wire in [bench.logged_in() for _ in range(3)]:
            wire.drop()
        self.assertEqual(bench.factory.clients.connected, {})
        self.assertEqual(bench.factory.clients.logged_in, {})


class DrainTests(SynchronousTestCase):
    """SIGTERM: who is idle goes, who sends mail may finish."""

    def test_nobody_there(self) -> None:
        """Without sessions the drain is over at once."""
        self.successResultOf(Bench().factory.drain())

    def test_idle_and_busy(self) -> None:
        """Idle ones hear 421 at once, the others after their 250."""
        bench = Bench()
        idle, busy = bench.logged_in(), bench.logged_in()
        to_data(busy)
        drained = bench.factory.drain()
        self.assertEqual(idle.heard(), [_SHUTTING_DOWN])
        self.assertTrue(idle.closed)
        self.assertFalse(busy.closed)
        idle.drop()
        self.assertNoResult(drained)
        busy.send(MESSAGE)
        self.assertEqual(codes(busy.heard()), [250, 421])
        busy.drop()
        self.successResultOf(drained)

    def test_pending_250(self) -> None:
        """A message whose 250 is owed is answered before the line goes."""
        bench = Bench()
        wire = bench.logged_in()
        to_data(wire)
        bench.writer.wait = Deferred()
        wire.send(MESSAGE)
        drained = bench.factory.drain()
        self.assertNoResult(drained)
        bench.writer.wait.callback(None)
        self.assertEqual(codes(wire.heard()), [250, 421])

    def test_newcomers(self) -> None:
        """Who comes now is turned away."""
        bench = Bench()
        self.successResultOf(bench.factory.drain())
        self.assertEqual(bench.connect().heard(), [_SHUTTING_DOWN])

    def test_cut(self) -> None:
        """When the grace is over the rest hears 421; who does not go is cut off."""
        bench = Bench()
        wire = bench.logged_in()
        to_data(wire)
        drained = bench.factory.drain()
        wire.send(b"From: ann@example.com\r\n\r\nhalf of")
        bench.factory.cut()
        self.assertEqual(wire.heard(), [_SHUTTING_DOWN])
        self.assertTrue(bench.writer.spools[0].discarded)
        self.assertFalse(wire.transport.aborted)
        bench.factory.cut()
        self.assertTrue(wire.transport.aborted)
        wire.drop()
        self.successResultOf(drained)


class LoginTests(SynchronousTestCase):
    """AUTH at the edges; `test_sasl` has the table of mechanisms."""

    def test_lost_while_the_password_is_checked(self) -> None:
        """A client that leaves during AUTH is logged in nowhere."""
        bench = Bench()
        wire = bench.connect()
        wire.say("EHLO me")
        slow: Deferred[None] = Deferred()
        verify = bench.accounts.verify

        async def slow_verify(login: str, password: str) -> object:
            await slow
            return await verify(login, password)

        self.patch(bench.accounts, "verify", slow_verify)
        wire.say("AUTH PLAIN " + plain("ann@example.com"), "NOOP")
        self.assertEqual(wire.heard(), [])
        wire.drop()
        slow.callback(None)
        self.assertEqual(wire.heard(), [])
        self.assertEqual(bench.factory.clients.logged_in, {})

    def test_look_up_fails(self) -> None:
        """An account source that is away is 454, and is not counted as a guess."""
        bench = Bench()
        wire = bench.connect()
        wire.say("EHLO me")

        async def away(login: str, password: str) -> object:
            raise LookUpFailed("no answer")

        self.patch(bench.accounts, "verify", away)
        login = "AUTH PLAIN " + plain("ann@example.com")
        for _ in range(6):
            self.assertEqual(codes(wire.say(login)), [454])

    def test_rset_keeps_the_login(self) -> None:
        """RSET, EHLO and HELO end the transaction, not the login."""
        wire = Bench().logged_in()
        for command in ("RSET", "EHLO me", "HELO me"):
            self.assertEqual(codes(wire.say(MAIL[0], command)), [250, 250])
            self.assertEqual(codes(wire.say(MAIL[0], "RSET")), [250, 250])

    def test_no_secret_in_events(self) -> None:
        """No password and no AUTH line is in any event (P8)."""
        bench = Bench()
        wire = bench.connect()
        wire.say("EHLO me", "AUTH PLAIN " + plain("ann@example.com", "hunter2"))
        wire.say("AUTH PLAIN " + plain("ann@example.com"), "XYZZY " + SECRET)
        text = repr(bench.events)
        self.assertTrue(any(isinstance(one, Refused) for one in bench.events))
        for secret in ("hunter2", SECRET, plain("ann@example.com", "hunter2")):
            self.assertNotIn(secret, text)


_SHUTTING_DOWN = "421 4.3.2 Server is shutting down, try again later"
