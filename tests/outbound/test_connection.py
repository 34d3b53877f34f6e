"""Tests of one connection: what a peer may do to us, octet by octet."""

from collections.abc import AsyncIterator

from fwd_mta.mail.reply import Reply
from fwd_mta.mail.session import TlsFacts
from fwd_mta.net.tls import ClientTlsContext
from fwd_mta.outbound.connection import Broken
from fwd_mta.smtp.extensions import Offered
from tests.outbound.wired import Wired


class ReplyTests(Wired):
    """Replies and their commands."""

    def test_greeting(self) -> None:
        """The greeting is heard even when it comes before anybody waits for it."""
        self.hear(b"220 hi\r\n")
        self.assertEqual(
            self.successResultOf(self.begin(self.connection.greeting())),
            Reply(220, None, "hi"),
        )

    def test_in_order(self) -> None:
        """Pipelined commands get their replies in order, in whatever pieces."""
        self.greet(b"PIPELINING", b"STARTTLS")
        expected = self.connection.send(b"A\r\nB\r\n", 1, 1)
        waiting = [self.begin(each.reply()) for each in expected]
        self.hear(b"250 a\r", b"\n55", b"0 b\r\n")
        codes = [self.successResultOf(each).code for each in waiting]
        self.assertEqual(codes, [250, 550])
        self.assertTrue(self.connection.usable)

    def test_drip_fed_reply(self) -> None:
        """One deadline covers a whole reply: drops of it win the peer no time."""
        greeting = self.begin(self.connection.greeting())
        for _ in range(9):
            self.hear(b"220-x\r\n")
            self.clock.advance(1)
        self.assertNoResult(greeting)
        self.clock.advance(1)
        self.assertEqual(self.broken(greeting), "timeout")
        self.assertTrue(self.transport.disconnected)

    def test_deadline_begins_when_due(self) -> None:
        """A pipelined reply has its whole time from when it is the next one."""
        self.greet(b"PIPELINING", b"STARTTLS")
        first, second = self.connection.send(b"A\r\nB\r\n", 5, 5)
        one, two = self.begin(first.reply()), self.begin(second.reply())
        self.clock.advance(4)
        self.hear(b"250 a\r\n")
        self.clock.advance(4)
        self.assertNoResult(two)
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(one).code, 250)
        self.assertEqual(self.broken(two), "timeout")

    def test_no_timer_is_left(self) -> None:
        """With nothing expected the one timer ends by itself; a closed one has none."""
        self.greet(b"PIPELINING", b"STARTTLS")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.connection.usable)
        self.connection.send(b"A\r\n", 5)
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unsolicited_reply(self) -> None:
        """A reply that nobody asked for ends the connection; nothing more is sent."""
        self.greet(b"PIPELINING", b"STARTTLS")
        self.hear(b"250 free of charge\r\n")
        self.assertFalse(self.connection.usable)
        self.assertTrue(self.transport.disconnected)
        self.assertRaises(Broken, self.connection.send, b"MAIL\r\n", 1)
        self.assertEqual(self.said(), b"")

    def test_answers_in_advance(self) -> None:
        """Replies sent ahead of commands are never taken for their answers."""
        self.greet(b"PIPELINING", b"STARTTLS")

        async def two() -> tuple[Reply, Reply]:
            first = await self.connection.say(b"MAIL", 1)
            return first, await self.connection.say(b"RCPT", 1)

        work = self.begin(two())
        self.hear(b"250 to MAIL\r\n250 to a RCPT not yet sent\r\n")
        self.assertEqual(self.broken(work), "protocol")
        self.assertEqual(self.said(), b"MAIL\r\n")

    def test_part_of_an_answer_in_advance(self) -> None:
        """Half a reply behind the last expected one counts as well."""
        self.greet(b"PIPELINING", b"STARTTLS")
        work = self.begin(self.connection.say(b"MAIL", 1))
        self.hear(b"250 ok\r\n25")
        self.assertEqual(self.successResultOf(work).code, 250)
        self.assertFalse(self.connection.usable)

    def test_farewell(self) -> None:
        """421 to an idle connection ends it and its words are kept."""
        self.greet(b"PIPELINING", b"STARTTLS")
        told: list[bool] = []
        self.connection.on_trouble = lambda: told.append(True)
        self.hear(b"421 4.4.2 too idle\r\n")
        assert self.connection.trouble is not None
        self.assertEqual(self.connection.trouble.reply, Reply(421, "4.2", "too idle"))
        self.assertEqual(told, [True])

    def test_oversize_reply(self) -> None:
        """A reply without end is cut off at the limit."""
        greeting = self.begin(self.connection.greeting())
        self.hear(*[b"220-" + b"x" * 996 + b"\r\n"] * 100)
        self.assertEqual(self.broken(greeting), "protocol")
        self.assertTrue(self.transport.disconnected)

    def test_nonsense(self) -> None:
        """An HTTP server on the port is no mail host."""
        greeting = self.begin(self.connection.greeting())
        self.hear(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(self.broken(greeting), "protocol")

    def test_lost(self) -> None:
        """Whoever waits learns of the loss; later commands too."""
        self.greet(b"PIPELINING", b"STARTTLS")
        one, two = self.connection.send(b"A\r\nB\r\n", 1, 1)
        waiting = self.begin(one.reply())
        self.lose()
        self.assertEqual(self.broken(waiting), "connection-lost")
        self.assertEqual(self.broken(self.begin(two.reply())), "connection-lost")
        self.assertRaises(Broken, self.connection.send, b"C\r\n", 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class HelloTests(Wired):
    """EHLO, HELO, LHLO."""

    def test_extensions(self) -> None:
        """The EHLO answer tells what may be used."""
        self.greet(b"PIPELINING", b"STARTTLS")
        self.assertEqual(
            self.connection.offered.names, {"PIPELINING", "STARTTLS", "HELP"}
        )

    def test_older_host(self) -> None:
        """Who does not know EHLO is greeted by HELO and offers nothing."""
        self.hear(b"220 hi\r\n")
        hello = self.begin(self.connection.hello())
        self.assertEqual(self.said(), b"EHLO us.example\r\n")
        self.hear(b"502 5.5.1 what?\r\n")
        self.assertEqual(self.said(), b"HELO us.example\r\n")
        self.hear(b"250 host\r\n")
        self.assertTrue(self.successResultOf(hello).is_positive)
        self.assertEqual(self.connection.offered, Offered.none())

    def test_temporary_refusal(self) -> None:
        """A 4yz to EHLO is an answer, no reason to say HELO."""
        self.hear(b"220 hi\r\n")
        hello = self.begin(self.connection.hello())
        self.hear(b"451 later\r\n")
        self.assertEqual(self.successResultOf(hello).code, 451)
        self.assertEqual(self.said(), b"EHLO us.example\r\n")

    def test_refusal_and_hang_up(self) -> None:
        """A host that refuses EHLO and hangs up is quoted by its refusal."""
        self.hear(b"220 hi\r\n")
        hello = self.begin(self.connection.hello())
        self.hear(b"550 5.7.1 go away\r\n")
        self.lose()
        self.assertEqual(self.successResultOf(hello), Reply(550, "7.1", "go away"))

    def test_lmtp(self) -> None:
        """A mail store is greeted by LHLO, and never by HELO."""
        self.hear(b"220 hi\r\n")
        hello = self.begin(self.connection.hello(lmtp=True))
        self.assertEqual(self.said(), b"LHLO us.example\r\n")
        self.hear(b"500 what?\r\n")
        self.assertEqual(self.successResultOf(hello).code, 500)


class TlsTests(Wired):
    """STARTTLS where the wire is hostile; real handshakes are in test_agent."""

    def test_injected_replies(self) -> None:
        """Replies behind the 220 never enter TLS; no handshake is begun (D2)."""
        self.greet(b"PIPELINING", b"STARTTLS")
        work = self.begin(
            self.connection.start_tls(ClientTlsContext().towards("host.example"))
        )
        self.assertEqual(self.said(), b"STARTTLS\r\n")
        self.hear(b"220 go\r\n250 injected\r\n250 injected\r\n")
        self.assertEqual(self.broken(work), "protocol")
        self.assertEqual(self.said(), b"")
        self.assertTrue(self.transport.disconnected)

    def test_injected_part(self) -> None:
        """Not even part of a reply may be left over behind the 220."""
        self.greet(b"PIPELINING", b"STARTTLS")
        creator = ClientTlsContext().towards("host.example")
        work = self.begin(self.connection.start_tls(creator))
        self.hear(b"220 go\r\n250-inj")
        self.assertEqual(self.broken(work), "protocol")

    def test_refused(self) -> None:
        """STARTTLS refused leaves the connection usable in clear."""
        self.greet(b"PIPELINING", b"STARTTLS")
        creator = ClientTlsContext().towards("host.example")
        work = self.begin(self.connection.start_tls(creator))
        self.hear(b"454 4.7.0 not now\r\n")
        self.assertEqual(self.successResultOf(work).code, 454)
        self.assertTrue(self.connection.usable)
        self.assertIsNone(self.connection.tls)

    def test_odd_answer(self) -> None:
        """Only 220 begins TLS; a 250 is a host that did not understand."""
        self.greet(b"PIPELINING", b"STARTTLS")
        creator = ClientTlsContext().towards("host.example")
        work = self.begin(self.connection.start_tls(creator))
        self.said()
        self.hear(b"250 ok\r\n")
        self.assertEqual(self.successResultOf(work).code, 250)
        self.assertEqual(self.said(), b"")

    def test_endless_handshake(self) -> None:
        """A handshake that does not go on ends in its time."""
        self.greet(b"PIPELINING", b"STARTTLS")
        creator = ClientTlsContext().towards("host.example")
        work = self.begin(self.connection.start_tls(creator))
        self.said()
        self.hear(b"220 go\r\n")
        self.assertEqual(self.said()[:2], b"\x16\x03")  # a TLS record: ClientHello
        self.assertEqual(self.connection.offered, Offered.none())
        self.clock.advance(20)
        self.assertEqual(self.broken(work), "tls-failed")


class LogInTests(Wired):
    """AUTH towards a relayhost."""

    def _verified(self, *mechanisms: str) -> None:
        self.greet(b"PIPELINING", b"STARTTLS")
        self.connection.tls = TlsFacts("TLSv1.3", "X", verified="host.example")
        self.connection.offered = Offered(frozenset({"AUTH"}), auth=mechanisms)

    def test_not_in_clear(self) -> None:
        """No password goes out without TLS, or to a name that is not proved."""
        self.greet(b"PIPELINING", b"STARTTLS")
        self.connection.offered = Offered(frozenset({"AUTH"}), auth=("PLAIN",))
        work = self.begin(self.connection.log_in("joe", "secret"))
        self.assertEqual(self.broken(work), "tls-required")
        self.connection.tls = TlsFacts("TLSv1.3", "X")
        work = self.begin(self.connection.log_in("joe", "secret"))
        self.assertEqual(self.broken(work), "tls-required")
        self.assertEqual(self.said(), b"")

    def test_plain(self) -> None:
        """PLAIN with an initial response (RFC 4616)."""
        self._verified("LOGIN", "PLAIN")
        work = self.begin(self.connection.log_in("joe", "secret"))
        self.assertEqual(self.said(), b"AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n")
        self.hear(b"235 2.7.0 welcome\r\n")
        self.assertTrue(self.successResultOf(work).is_positive)

    def test_login(self) -> None:
        """LOGIN where there is no PLAIN."""
        self._verified("LOGIN")
        work = self.begin(self.connection.log_in("joe", "secret"))
        self.assertEqual(self.said(), b"AUTH LOGIN\r\n")
        self.hear(b"334 VXNlcm5hbWU6\r\n")
        self.assertEqual(self.said(), b"am9l\r\n")
        self.hear(b"334 UGFzc3dvcmQ6\r\n")
        self.assertEqual(self.said(), b"c2VjcmV0\r\n")
        self.hear(b"535 5.7.8 no\r\n")
        self.assertEqual(self.successResultOf(work).code, 535)

    def test_no_common_mechanism(self) -> None:
        """A host with other mechanisms only gets no password."""
        self._verified("GSSAPI")
        work = self.begin(self.connection.log_in("joe", "secret"))
        self.assertEqual(self.broken(work), "protocol")
        self.assertEqual(self.said(), b"")


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class StreamTests(Wired):
    """Content against a peer that does not read."""

    def test_back_pressure(self) -> None:
        """A full buffer holds the content back until there is room."""
        self.greet(b"PIPELINING", b"STARTTLS")
        work = self.begin(self.connection.stream(_pieces(b"one", b"two", b"three")))
        # Nothing held it back; the registration is gone afterwards.
        self.successResultOf(work)
        self.assertEqual(self.said(), b"onetwothree")
        self.assertIsNone(self.transport.producer)

        self.connection.pauseProducing()
        work = self.begin(self.connection.stream(_pieces(b"four", b"five")))
        self.assertEqual(self.said(), b"four")
        self.assertNoResult(work)
        self.connection.resumeProducing()
        self.successResultOf(work)
        self.assertEqual(self.said(), b"five")

    def test_never_reading_peer(self) -> None:
        """A peer that takes no content for too long is dropped."""
        self.greet(b"PIPELINING", b"STARTTLS")
        self.connection.pauseProducing()
        work = self.begin(self.connection.stream(_pieces(b"one", b"two")))
        self.clock.advance(39)
        self.assertNoResult(work)
        self.clock.advance(1)
        self.assertEqual(self.broken(work), "timeout")
        self.assertEqual(self.said(), b"one")

    def test_lost_while_waiting(self) -> None:
        """A loss while the content waits ends the wait."""
        self.greet(b"PIPELINING", b"STARTTLS")
        self.connection.pauseProducing()
        work = self.begin(self.connection.stream(_pieces(b"one", b"two")))
        self.lose()
        self.assertEqual(self.broken(work), "connection-lost")


class LeaveTests(Wired):
    """The end."""

    def test_quit(self) -> None:
        """QUIT is said, its answer not waited for."""
        self.greet(b"PIPELINING", b"STARTTLS")
        gone = self.connection.leave()
        self.assertEqual(self.said(), b"QUIT\r\n")
        self.assertTrue(self.transport.disconnecting)
        self.hear(b"221 bye\r\n")
        self.assertNoResult(gone)
        self.lose()
        self.successResultOf(gone)
        self.successResultOf(self.connection.leave())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_peer_that_does_not_let_go(self) -> None:
        """A peer that keeps the connection open is dropped after a while."""
        self.greet(b"PIPELINING", b"STARTTLS")
        gone = self.connection.leave()
        self.clock.advance(4)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnected)
        self.assertNoResult(gone)

    def test_in_the_middle(self) -> None:
        """With an answer outstanding there is no QUIT, only an end."""
        self.greet(b"PIPELINING", b"STARTTLS")
        (expected,) = self.connection.send(b"MAIL\r\n", 1)
        self.said()
        gone = self.connection.leave()
        self.assertEqual(self.broken(self.begin(expected.reply())), "connection-lost")
        self.assertEqual(self.said(), b"")
        self.assertNoResult(gone)
