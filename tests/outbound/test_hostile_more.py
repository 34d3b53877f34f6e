"""More odd and hostile hosts: LMTP, several recipients, early replies, odd offers.

What each comes to for every single recipient, by SPEC section 3; and however a host
misbehaved, once it is in order everybody who was deferred has the message, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fwd_mta.mail.address import Mailbox
from fwd_mta.mail.entry import Attempt
from fwd_mta.mail.envelope import Envelope, Recipient
from fwd_mta.mail.message import Message
from fwd_mta.mail.route import Destination, Via
from fwd_mta.outbound.connection import Timeouts
from tests.outbound.odd_hosts import Deed, Do, Odd
from tests.outbound.test_agent import ONE, SENDER, AgentCase
from tests.outbound.test_hostile import (
    CONSENT,
    NONSENSE,
    NOT_NOW,
    REFUSALS,
    TWICE,
    each,
    outcome,
)

OK, NO, LATER = b"250 2.1.5 ok\r\n", b"550 5.1.1 who?\r\n", b"450 4.2.0 later\r\n"
FULL4, FULL5 = b"452 4.2.2 full\r\n", b"552 5.2.2 mailbox full\r\n"
MANY, MANY5 = b"452 4.5.3 too many\r\n", b"552 too many recipients\r\n"
LOCK_STEP = b"250-mx\r\n250 8BITMIME\r\n"
PLAIN = b"From: <joe@us.example>\r\n"


@dataclass(frozen=True)
class Row:
    """What a host does, and what becomes of each of three recipients."""

    words: str
    wanted: str
    deeds: Mapping[str, Deed | Sequence[Deed]]
    taken: int | None = None
    body: bytes = b"Hello\r\n"
    lmtp: bool = False
    connections: int | None = None


ROWS = (
    # Several recipients, each with its own answer
    Row("one is unknown", "delivered failed delivered", {"RCPT": [OK, NO, OK]}),
    Row("one later", "delivered retried failed", {"RCPT": [OK, LATER, NO]}, taken=1),
    Row("all unknown", "failed failed failed", {"RCPT": NO, "DATA": b"503 no\r\n"}),
    Row("all unknown, and 354", "failed failed failed", {"RCPT": NO}, taken=0),
    Row("all later, and 354", "retried retried retried", {"RCPT": LATER}, taken=0),
    Row("one full, 4yz", "delivered retried delivered", {"RCPT": [OK, FULL4, OK]}),
    Row("one full, 5yz", "delivered retried delivered", {"RCPT": [OK, FULL5, OK]}),
    Row("all full, 5yz", "retried retried retried", {"RCPT": FULL5}),
    Row("252 to one", "delivered delivered delivered", {"RCPT": [OK, b"252 ?\r\n"]}),
    Row("551 to one", "delivered failed delivered", {
        "RCPT": [OK, b"551 5.1.6 moved to <x@y.example>\r\n", OK]}),
    # Too many at a time
    Row("too many after one", "delivered delivered delivered",
        {"RCPT": [OK, MANY, MANY]}, taken=2, connections=1),
    Row("too many, 552", "delivered delivered delivered",
        {"RCPT": [OK, MANY5, MANY5]}, taken=2),
    Row("one at a time", "delivered delivered delivered",
        {"RCPT": [OK, MANY, MANY, OK, MANY, OK]}, taken=3, connections=1),
    Row("too many from the first", "retried retried retried", {"RCPT": MANY}, taken=0),
    Row("too many, and the dot refused", "failed failed failed",
        {"RCPT": [OK, MANY, OK, OK], "DOT": b"554 5.6.0 no\r\n"}),
    Row("too many, in lock step", "delivered delivered delivered",
        {"EHLO": LOCK_STEP, "RCPT": [OK, OK, MANY]}, taken=2),
    # Answers in one packet, too early, too late, too many
    Row("the dot's answer behind 354", "retried retried retried",
        {"DATA": b"354 go\r\n250 queued\r\n"}, taken=0),
    Row("the dot's refusal behind 354", "retried retried retried",
        {"DATA": b"354 go\r\n550 no\r\n"}, taken=0),
    Row("250 to DATA", "retried retried retried", {"DATA": b"250 ok\r\n"}),
    Row("250 to DATA, in lock step", "retried retried retried",
        {"EHLO": LOCK_STEP, "DATA": b"250 ok\r\n"}, taken=0),
    Row("a second greeting", "retried retried retried",
        {"GREETING": b"220 a\r\n220 b\r\n"}, taken=0),
    Row("answers in advance", "retried retried retried",
        {"GREETING": b"220 a\r\n250 b\r\n250 c\r\n250 d\r\n354 e\r\n250 f\r\n"}),
    Row("EHLO answered twice", "retried retried retried",
        {"EHLO": b"250 mx\r\n250 mx\r\n"}, taken=0),
    Row("MAIL answered twice", "retried retried retried",
        {"MAIL": b"250 a\r\n250 b\r\n"}, taken=0),
    Row("farewell behind the dot's 250", "delivered delivered delivered",
        {"DOT": b"250 ok\r\n421 bye\r\n"}),
    Row("hangs up after the dot's 250", "delivered delivered delivered",
        {"DOT": Do("close", b"250 ok\r\n")}),
    Row("resets after the dot's 250", "in_doubt in_doubt in_doubt",
        {"DOT": Do("reset", b"250 ok\r\n")}),
    Row("half closes after 354", "in_doubt in_doubt in_doubt",
        {"DATA": Do("half", b"354 go\r\n")}),
    Row("resets after 354", "retried retried retried",
        {"DATA": Do("reset", b"354 go\r\n")}),
    Row("421 to MAIL", "retried retried retried", {"MAIL": b"421 4.3.2 bye\r\n"}),
    Row("421 to the second RCPT", "retried retried retried",
        {"RCPT": [OK, Do("close", b"421 4.3.2 bye\r\n")]}, taken=0),
    Row("421 to DATA", "retried retried retried", {"DATA": b"421 4.3.2 bye\r\n"}),
    Row("421 to the dot", "retried retried retried", {"DOT": b"421 4.3.2 bye\r\n"}),
    Row("no answer to QUIT", "delivered delivered delivered", {"QUIT": None}),
    # The content is refused
    Row("552 to the dot", "failed failed failed", {"DOT": b"552 5.3.4 too big\r\n"}),
    Row("552 5.2.2 to the dot", "retried retried retried", {"DOT": FULL5}),
    Row("452 to the dot", "retried retried retried", {"DOT": b"452 4.3.1 disk\r\n"}),
    Row("554 to DATA", "failed failed failed", {"DATA": b"554 5.7.1 no\r\n"}),
    Row("451 to DATA", "retried retried retried", {"DATA": b"451 4.3.0 no\r\n"}),
    # Offers
    Row("CHUNKING", "delivered delivered delivered", {
        "EHLO": b"250-mx\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 PIPELINING\r\n"}),
    Row("nothing", "delivered delivered delivered", {"EHLO": b"250 mx\r\n"}),
    Row("all that there is", "delivered delivered delivered", {
        "EHLO": b"250-mx\r\n250-PIPELINING\r\n250-SIZE 100000\r\n250-ETRN\r\n"
        b"250-AUTH PLAIN LOGIN\r\n250-8BITMIME\r\n250-DSN\r\n250-VRFY\r\n"
        b"250-SMTPUTF8\r\n250-CHUNKING\r\n250-DELIVERBY\r\n250-NO-SOLICITING\r\n"
        b"250-BURL imap\r\n250-FUTURERELEASE 1 2\r\n250 XCLIENT NAME\r\n"}),
    Row("a small SIZE", "failed failed failed", {"EHLO": b"250-a\r\n250 SIZE 9\r\n"}),
    Row("8-bit to a 7-bit host", "delivered delivered delivered",
        {"EHLO": b"250 mx\r\n"}, body=b"Hello \xc3\xa4\r\n"),
    Row("EHLO refused, HELO taken", "delivered delivered delivered",
        {"EHLO": b"502 what\r\n"}),
    Row("EHLO refused, hung up", "retried retried retried",
        {"EHLO": Do("close", b"554 no\r\n")}),
    Row("521 from the only host", "failed failed failed",
        {"GREETING": Do("close", b"521 no mail here\r\n")}),
    # Dots
    Row("dots at every edge", "delivered delivered delivered", {},
        body=b".\r\n..\r\n.Hello\r\n\r\n.\r\n"),
    # LMTP: an answer for each behind the dot
    Row("lmtp", "delivered delivered delivered", {"DOT": OK * 3}, lmtp=True),
    Row("lmtp, one is full", "delivered retried delivered",
        {"DOT": OK + FULL5 + OK}, lmtp=True),
    Row("lmtp, each its own", "delivered failed retried",
        {"DOT": OK + NO + LATER}, lmtp=True),
    Row("lmtp, one was refused before", "delivered failed delivered",
        {"RCPT": [OK, NO, OK], "DOT": OK * 2}, lmtp=True),
    Row("lmtp, an answer too few", "delivered in_doubt in_doubt",
        {"DOT": Do("close", OK)}, lmtp=True),
    Row("lmtp, silence after the first", "delivered in_doubt in_doubt",
        {"DOT": OK}, lmtp=True),
    Row("lmtp, an answer too many", "delivered delivered delivered",
        {"DOT": OK * 4}, lmtp=True),
    Row("lmtp, nonsense for the second", "delivered in_doubt in_doubt",
        {"DOT": OK + b"hello\r\n" + OK}, lmtp=True),
    Row("lmtp, LHLO refused", "retried retried retried",
        {"LHLO": b"502 what\r\n"}, lmtp=True),
    Row("lmtp, 354 though nobody was taken", "failed failed failed",
        {"RCPT": NO}, lmtp=True),
)  # fmt: skip


class MoreHostileCase(AgentCase):
    """One host, three recipients."""

    people = ("ann", "bob", "eve")

    def host_of(self, row: Row) -> Odd:
        """A host on a network of its own."""
        self.setUp()
        self.make_agent(timeouts=Timeouts(connect=5))
        self.mx["example.com"] = [(10, "one.example")]
        deeds = {"LHLO": b"250-mx\r\n250 PIPELINING\r\n"} if row.lmtp else {}
        host = Odd(self.clock, {**deeds, **row.deeds})
        self.successResultOf(self.network.listen(f"{ONE}:25", host))
        return host

    def try_once(self, row: Row, *names: str) -> list[str]:
        """What became of each."""
        recipients = tuple(Recipient(Mailbox(one, "example.com")) for one in names)
        via = Via.LMTP if row.lmtp else Via.MX
        hop = ONE if row.lmtp else "example.com"
        begun = self.begin(
            message=Message(PLAIN, row.body),
            envelope=Envelope(SENDER, recipients),
            destination=Destination(via, hop, trusted=row.lmtp),
        )
        for _ in range(30):
            if begun.called:
                break
            self.run_for(100)
        self.assertTrue(begun.called, row.words)
        done: Attempt = self.successResultOf(begun)
        return [outcome(result).replace(" ", "_") for result in done.results]


class RowTests(MoreHostileCase):
    """The table."""

    def test_each_row(self) -> None:
        """As it is written there."""
        for row in ROWS:
            host = self.host_of(row)
            said = " ".join(self.try_once(row, *self.people))
            self.assertEqual(said, row.wanted, row.words)
            if row.taken is not None:
                self.assertEqual(len(host.taken), row.taken, row.words)
            if row.connections is not None:
                self.assertEqual(host.connections, row.connections, row.words)

    def test_healing(self) -> None:
        """Whoever was retried has it with the next try, and everybody has it once."""
        for row in ROWS:
            host = self.host_of(row)
            words = dict(
                zip(self.people, self.try_once(row, *self.people), strict=True)
            )
            waiting = [name for name, word in words.items() if word == "retried"]
            if not waiting:
                continue
            host.left.clear()
            before = len(host.taken)
            if row.lmtp:
                host.left["LHLO"] = b"250 mx\r\n"
                host.left["DOT"] = OK * len(waiting)
            again = self.try_once(row, *waiting)
            self.assertEqual(set(again), {"delivered"}, row.words)
            self.assertEqual(len(host.taken), before + 1, row.words)

    def test_the_wire(self) -> None:
        """Dots are stuffed; nothing is said that was not offered."""
        row = next(one for one in ROWS if one.words == "dots at every edge")
        host = self.host_of(row)
        self.try_once(row, "ann")
        self.assertEqual(
            host.taken, [b"\r\n" + PLAIN + b"\r\n..\r\n...\r\n..Hello\r\n\r\n.."]
        )
        for words in ("CHUNKING", "all that there is"):
            row = next(one for one in ROWS if one.words == words)
            host = self.host_of(row)
            self.try_once(row, "ann")
            said = b"\n".join(host.heard)
            for never in (b"BDAT", b"AUTH", b"XCLIENT", b"HOLD", b"VRFY"):
                self.assertNotIn(never, said, words)


class LmtpStageTests(MoreHostileCase):
    """Every answer at every stage of LMTP."""

    def check(self, stage: str, wanted: Mapping[str, str]) -> None:
        """Meet a stage with everything."""
        everything = {**REFUSALS, **NOT_NOW, **CONSENT, **NONSENSE, **TWICE}
        for name, deed in everything.items():
            row = Row(name, "", {stage: deed}, lmtp=True)
            self.host_of(row)
            (said,) = self.try_once(row, "ann")
            self.assertEqual(said, wanted.get(name, "retried"), f"{name} at {stage}")

    def test_greeting_and_hello(self) -> None:
        """Before an envelope nothing fails a message."""
        for stage in ("GREETING", "LHLO"):
            self.check(stage, each(CONSENT, "delivered"))

    def test_envelope(self) -> None:
        """Refused in good order is refused."""
        for stage in ("MAIL", "RCPT"):
            self.check(stage, each(CONSENT, "delivered") | each(REFUSALS, "failed"))
        self.check("DATA", each(REFUSALS, "failed"))

    def test_dot(self) -> None:
        """A well-formed 2yz is a delivery, disorder is in doubt."""
        self.check(
            "DOT",
            each(CONSENT, "delivered")
            | each(REFUSALS, "failed")
            | each(NONSENSE, "in_doubt")
            | each(TWICE, "delivered"),
        )
