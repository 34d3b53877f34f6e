"""Hostile and odd next hops, class by class: what each comes to by SPEC section 3.

Every stage is met with every answer: what is no refusal never fails a message, what is
no `250` behind the dot is never taken for a delivery, and nothing hangs.
"""

from collections.abc import Mapping

from fwd_mta.mail.entry import Action, Attempt, DeliveryResult
from fwd_mta.net.tls import ServerTls, server_context
from fwd_mta.outbound.connection import Timeouts
from tests.outbound.odd_hosts import BY_THE_BOOK, Deed, Do, Odd
from tests.outbound.test_agent import AUTHORITY, ONE, TWO, AgentCase

REFUSALS: Mapping[str, Deed] = {
    "500": b"500 what\r\n",
    "502": b"502 no\r\n",
    "503": b"503 bad sequence\r\n",
    "530": b"530 5.7.0 authentication required\r\n",
    "550": b"550 5.7.1 no\r\n",
    "550 and close": Do("close", b"550 5.7.1 no\r\n"),
    "554": b"554 5.0.0 no\r\n",
}
NOT_NOW: Mapping[str, Deed] = {
    "421": b"421 4.3.2 busy\r\n",
    "421 and close": Do("close", b"421 4.3.2 busy\r\n"),
    "450": b"450 4.2.0 later\r\n",
    "451": b"451 4.3.0 later\r\n",
    "452": b"452 4.3.1 no room\r\n",
    "454": b"454 later\r\n",
}
CONSENT: Mapping[str, Deed] = {
    "200": b"200 ok\r\n",
    "220": b"220 ok\r\n",
    "250": b"250 ok\r\n",
    "251": b"251 will forward\r\n",
    "252": b"252 cannot tell\r\n",
    "299": b"299 ok\r\n",
    "no text": b"250\r\n",
    "empty lines": b"250-\r\n250 \r\n",
    "a tab": b"250\tok\r\n",
    "a lone LF": b"250 ok\n",
    "a NUL in it": b"250 o\0k\r\n",
    "8-bit in it": b"250 \xe4\xff\r\n",
    "octet by octet": Do("split", b"250-2.0.0 a\r\n250 2.0.0 b\r\n"),
    "many lines": b"250-a\r\n" * 200 + b"250 b\r\n",
}
NONSENSE: Mapping[str, Deed] = {
    "000": b"000 hm\r\n",
    "150": b"150 hm\r\n",
    "300": b"300 hm\r\n",
    "334": b"334 \r\n",
    "600": b"600 hm\r\n",
    "999": b"999 hm\r\n",
    "words": b"hello there\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an empty line": b"\r\n250 ok\r\n",
    "a leading space": b" 250 ok\r\n",
    "two digits": b"25 ok\r\n",
    "four digits": b"2500 ok\r\n",
    "a colon": b"250:ok\r\n",
    "a lone CR": b"250 ok\r",
    "binary": bytes(range(128, 200)) + b"\r\n",
    "a TLS record": b"\x16\x03\x01\x00\x05hello",
    "codes that differ": b"250-a\r\n550 b\r\n",
    "codes that differ the other way": b"550-a\r\n250 b\r\n",
    "lines without end": b"250-a\r\n" * 300,
    "a refusal without end": b"550-a\r\n" * 300,
    "a line without end": b"250 " + b"a" * 20_000 + b"\r\n",
    "a refusal as long as that": b"554 " + b"a" * 9000 + b"\r\n",
    "much in long lines": b"250-" + b"a" * 1000 + b"\r\n",
    "silence": None,
    "an octet a minute": Do("drip"),
    "close": Do("close"),
    "reset": Do("reset"),
    "half close": Do("half"),
    "a part, then close": Do("close", b"250"),
    "a line too few, then close": Do("close", b"250-ok\r\n"),
    "a refusal cut short": Do("close", b"550-no\r\n"),
}
TWICE: Mapping[str, Deed] = {
    "twice": b"250 ok\r\n250 ok\r\n",
    "yes, then no": b"250 ok\r\n550 no\r\n",
}
EVERYTHING = {**REFUSALS, **NOT_NOW, **CONSENT, **NONSENSE, **TWICE}

OFFERS = b"250-mx\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n"
IN_LOCK_STEP = b"250-mx\r\n250 8BITMIME\r\n"


def outcome(result: DeliveryResult) -> str:
    """What became of it, in a word."""
    if result.diagnosis is None:
        return "delivered"
    if result.in_doubt:
        return "in doubt"
    return "failed" if result.diagnosis.action is Action.REJECT else "retried"


class HostileCase(AgentCase):
    """One exchanger of example.com, that does as it is told."""

    def attempt_at(self, host: Odd, *, other: bool = False) -> DeliveryResult:
        """An attempt, with as much time as it wants; fails if it hangs."""
        self.mx["example.com"] = [(10, "one.example"), (20, "two.example")]
        if not other:
            del self.mx["example.com"][1]  # type: ignore[attr-defined]
        attempt = self.begin()
        for _ in range(30):
            if attempt.called:
                break
            self.run_for(100)
        done: Attempt = self.successResultOf(attempt)
        (result,) = done.results
        return result

    def odd(self, deeds: Mapping[str, object], tls: ServerTls | None = None) -> Odd:
        """Put a host on a network of its own."""
        self.setUp()
        self.make_agent(timeouts=Timeouts(connect=5))
        host = Odd(self.clock, deeds, tls=tls)  # type: ignore[arg-type]
        self.successResultOf(self.network.listen(f"{ONE}:25", host))
        return host

    def check(self, stage: str, wanted: Mapping[str, str], **deeds: object) -> None:
        """Meet a stage with every answer; `wanted` names those not simply retried."""
        for name, deed in EVERYTHING.items():
            host = self.odd({**deeds, stage: deed})
            result = self.attempt_at(host)
            where = f"{name} at {stage}: {result}"
            self.assertEqual(outcome(result), wanted.get(name, "retried"), where)
            if outcome(result) != "delivered":
                assert result.diagnosis is not None
                self.assertTrue(result.diagnosis.message, where)
                self.assertTrue(result.diagnosis.rule, where)


def each(names: Mapping[str, Deed], word: str) -> dict[str, str]:
    """The same outcome for all of a class."""
    return dict.fromkeys(names, word)


DELIVERED = each(CONSENT, "delivered")
FAILED = each(REFUSALS, "failed")


class StageTests(HostileCase):
    """Every answer at every stage of a plain session."""

    def test_greeting(self) -> None:
        """A refusal of all is retried: nothing is known of the message yet."""
        self.check("GREETING", DELIVERED)

    def test_hello(self) -> None:
        """Who refuses EHLO is asked by HELO (RFC 5321 3.2)."""
        self.check("EHLO", DELIVERED | each(HELO_HELPS, "delivered"))

    def test_hello_refused_both_ways(self) -> None:
        """Refused EHLO and HELO: another host might talk, so it is retried."""
        self.check("EHLO", DELIVERED, HELO=b"550 5.7.1 no\r\n")

    def test_mail(self) -> None:
        """The sender refused in good order is a failure; disorder never is."""
        self.check("MAIL", DELIVERED | FAILED)

    def test_rcpt(self) -> None:
        """So is the recipient's refusal."""
        self.check("RCPT", DELIVERED | FAILED)

    def test_data(self) -> None:
        """Only 354 asks for content: a consent is none (D7)."""
        self.check("DATA", FAILED)

    def test_dot(self) -> None:
        """A well-formed 2yz alone is a delivery; what cannot be read is in doubt."""
        doubt = each(NONSENSE, "in doubt")
        self.check("DOT", DELIVERED | FAILED | doubt | each(TWICE, "delivered"))

    def test_reset(self) -> None:
        """A second message is not lost to a host that cannot forget the first."""
        for name, deed in EVERYTHING.items():
            host = self.odd({"RSET": deed, "RCPT": [b"550 5.1.1 who?\r\n"]})
            self.assertEqual(outcome(self.attempt_at(host)), "failed", name)
            second = self.attempt_at(host)
            self.assertIn(outcome(second), {"delivered", "retried"}, name)

    def test_in_lock_step(self) -> None:
        """Without pipelining the same holds, command by command."""
        plain = IN_LOCK_STEP
        self.check("MAIL", DELIVERED | FAILED, EHLO=plain)
        self.check("RCPT", DELIVERED | FAILED, EHLO=plain)
        self.check("DATA", FAILED, EHLO=plain)

    def test_nothing_is_taken_without_consent(self) -> None:
        """In no class did a host get content before its 354."""
        for stage in ("GREETING", "MAIL", "RCPT", "DATA"):
            for name, deed in {**REFUSALS, **NOT_NOW, **NONSENSE}.items():
                host = self.odd({stage: deed, "DATA": [None]})
                self.attempt_at(host)
                said = b"\n".join(host.heard)
                self.assertNotIn(b"Hello", said, (stage, name))


NO_TLS = {
    **{name: deed for name, deed in NOT_NOW.items() if not name.startswith("421")},
    **{
        name: NONSENSE[name]
        for name in (
            "300",
            "334",
            "a lone CR",
            "a TLS record",
            "much in long lines",
            "silence",
            "an octet a minute",
            "close",
            "reset",
            "half close",
            "a part, then close",
            "a line too few, then close",
            "a refusal cut short",
        )
    },
}
HELO_HELPS = {name: deed for name, deed in REFUSALS.items() if name[-1].isdigit()}


class OtherHostTests(HostileCase):
    """A second exchanger that works."""

    def test_before_mail_the_next_host_is_asked(self) -> None:
        """Whatever a host does at its greeting or EHLO, the other one takes it."""
        for stage in ("GREETING", "EHLO"):
            for name, deed in EVERYTHING.items():
                host = self.odd({stage: deed, "HELO": b"550 no\r\n"})
                second = Odd(self.clock)
                self.successResultOf(self.network.listen(f"{TWO}:25", second))
                result = self.attempt_at(host, other=True)
                self.assertEqual(outcome(result), "delivered", (stage, name))
                self.assertEqual(len(host.taken) + len(second.taken), 1)

    def test_disorder_in_the_envelope_too(self) -> None:
        """Desync, farewell and silence before the dot: the other host takes it."""
        names = {**NONSENSE, "421": NOT_NOW["421"]}
        for stage in ("MAIL", "RCPT"):
            for name, deed in names.items():
                host = self.odd({stage: deed})
                second = Odd(self.clock)
                self.successResultOf(self.network.listen(f"{TWO}:25", second))
                result = self.attempt_at(host, other=True)
                self.assertEqual(outcome(result), "delivered", (stage, name))

    def test_behind_the_dot_no_other_host_is_asked(self) -> None:
        """What may have been taken is not sent a second time at once."""
        for name, deed in NONSENSE.items():
            host = self.odd({"DOT": deed})
            second = Odd(self.clock)
            self.successResultOf(self.network.listen(f"{TWO}:25", second))
            result = self.attempt_at(host, other=True)
            self.assertEqual(outcome(result), "in doubt", name)
            self.assertEqual(second.connections, 0, name)


class HealingTests(HostileCase):
    """What was retried arrives once the host is in order."""

    def test_each_arrives_once(self) -> None:
        """From every stage and every class."""
        for stage in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA"):
            for name, deed in {**NOT_NOW, **NONSENSE}.items():
                host = self.odd({stage: deed})
                first = self.attempt_at(host)
                self.assertEqual(outcome(first), "retried", (stage, name))
                host.left.clear()
                self.assertEqual(outcome(self.attempt_at(host)), "delivered")
                self.assertEqual(len(host.taken), 1, (stage, name))


class StartTlsTests(HostileCase):
    """Lies about TLS, where TLS is a wish and not a must."""

    def test_answers_to_starttls(self) -> None:
        """No answer stops the mail but those that may be somebody in between."""
        in_clear = each(NO_TLS, "delivered")
        self.check(
            "STARTTLS",
            DELIVERED | each(REFUSALS, "delivered") | in_clear,
            EHLO=[OFFERS, OFFERS],
        )

    def test_answers_behind_the_handshake(self) -> None:
        """The EHLO over TLS is as any EHLO."""
        tls = ServerTls(server_context(*AUTHORITY.issue("one.example")))
        for name, deed in EVERYTHING.items():
            host = self.odd({"EHLO": [OFFERS, deed]}, tls)
            wanted = DELIVERED | each(HELO_HELPS, "delivered")
            result = self.attempt_at(host)
            self.assertEqual(outcome(result), wanted.get(name, "retried"), name)

    def test_injection(self) -> None:
        """Anything behind the 220 in the same breath ends the connection."""
        for behind in (b"250 ok\r\n", b"550 no\r\n", b"2", b"\r\n", b"\x16\x03\x01"):
            host = self.odd({"EHLO": [OFFERS], "STARTTLS": b"220 go\r\n" + behind})
            result = self.attempt_at(host)
            self.assertEqual(outcome(result), "retried", behind)
            self.assertEqual(host.connections, 1)

    def test_a_handshake_that_fails(self) -> None:
        """Closed, reset, silent, or not TLS at all: in clear, in the same attempt."""
        for deed in (
            Do("close", b"220 go\r\n"),
            Do("reset", b"220 go\r\n"),
            b"220 go\r\n",
        ):
            host = self.odd({"EHLO": [OFFERS], "STARTTLS": deed})
            self.assertEqual(outcome(self.attempt_at(host)), "delivered", deed)
            self.assertEqual(host.connections, 2, deed)


class OfferTests(HostileCase):
    """EHLO answers of all kinds: every one of these hosts gets its mail."""

    def test_odd_offers(self) -> None:
        """What cannot be understood is not offered; what is not offered is not used."""
        for offer in (
            b"250-mx\r\n250-pipelining\r\n250 size 100000\r\n",
            b"250-mx\r\n250-  PIPELINING  \r\n250 SIZE   1000  \r\n",
            b"250-mx\r\n250 SIZE abc\r\n",
            b"250-mx\r\n250 SIZE -5\r\n",
            b"250-mx\r\n250 SIZE 0\r\n",
            b"250-mx\r\n250 SIZE=10\r\n",
            b"250-mx\r\n250 SIZE 99999999999999999999999999\r\n",
            b"250-mx\r\n250-AUTH=LOGIN\r\n250 AUTH PLAIN CRAM-MD5\r\n",
            b"250-mx\r\n250 LIMITS RCPTMAX=0\r\n",
            b"250-mx\r\n250 LIMITS MAILMAX=1 RCPTMAX=1\r\n",
            b"250-mx\r\n" + b"250-X-WHATEVER\r\n" * 200 + b"250 HELP\r\n",
            b"250 PIPELINING\r\n",
            b"250-\r\n250-\r\n250 \r\n",
            b"250-mx\r\n250 PIPELINING\tX\r\n",
        ):
            host = self.odd({"EHLO": offer})
            self.assertEqual(outcome(self.attempt_at(host)), "delivered", offer)

    def test_nothing_is_used_that_stands_in_the_first_line(self) -> None:
        """The first line is the host's name (RFC 5321 4.1.1.1)."""
        host = self.odd({"EHLO": b"250 8BITMIME\r\n"})
        self.attempt_at(host)
        self.assertIn(b"MAIL FROM:<joe@us.example>", host.heard)

    def test_too_small(self) -> None:
        """A real limit that is too small is the one offer that fails a message."""
        host = self.odd({"EHLO": b"250-mx\r\n250 SIZE 10\r\n"})
        self.assertEqual(outcome(self.attempt_at(host)), "failed")


class SplitTests(HostileCase):
    """Replies cut at every octet."""

    def test_every_reply_octet_by_octet(self) -> None:
        """A slow line changes nothing."""
        deeds = {
            stage: Do("split", said)
            for stage, said in BY_THE_BOOK.items()
            if stage not in {"DATA", "QUIT"}
        }
        host = self.odd(deeds)
        self.assertEqual(outcome(self.attempt_at(host)), "delivered")
