"""Plays the catalogue of what comes in, on a whole server in memory over real TLS."""

from collections.abc import Sequence

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import Accepted, Trouble
from fwd_mta.net.tls import ClientTlsContext, start_tls
from tests.catalogue import inbound
from tests.catalogue.inbound import Row
from tests.kit import CA, OUR_ADDRESS, Wire, World

FRIEND, STRANGER = "10.0.0.9", "192.0.2.66"
LOG_IN = b"EHLO me\r\nAUTH PLAIN " + inbound.PLAIN + b"\r\n"


def codes(heard: bytes) -> str:
    """The codes of the replies, one each."""
    lines = heard.split(b"\r\n")
    ends = [line for line in lines if line and line[3:4] in {b" ", b""}]
    return " ".join(line[:3].decode() for line in ends)


class Visit:
    """One session with a server: what it was told, and what came of it."""

    def __init__(self, world: World, port: int, source: str) -> None:
        self.world = world
        self.before = len(world.events)
        self.wire = self._connect(port, source)
        self.wire.take()

    def _connect(self, port: int, source: str) -> Wire:
        wires: list[object] = []
        joined = self.world.network.connect(
            OUR_ADDRESS, port, Factory.forProtocol(Wire), 30, source=source
        )
        _ = joined.addCallback(wires.append)
        self.world.settle()
        wire = wires[0]
        assert isinstance(wire, Wire)
        if port == 465:
            tls = ClientTlsContext(CA.pem).towards("mail.example.com")
            start_tls(wire, wire.transport, tls, self.world.clock, client=True)
            self.world.settle()
        return wire

    def say(self, segments: Sequence[bytes], *, step: int = 0) -> bytes:
        """Send segments, or all of it in steps; give what is heard."""
        for segment in segments:
            for at in range(0, len(segment), step or len(segment)):
                if not self.wire.closed:
                    self.wire.say(segment[at : at + (step or len(segment))])
            self.world.settle()
        return self.wire.take()

    @property
    def queued(self) -> int:
        """How many recipients were taken."""
        fresh = self.world.events[self.before :]
        return sum(one.recipients for one in fresh if isinstance(one, Accepted))

    @property
    def troubles(self) -> list[Trouble]:
        """What broke on our side."""
        fresh = self.world.events[self.before :]
        return [one for one in fresh if isinstance(one, Trouble)]

    def leave(self) -> None:
        """Hang up."""
        assert self.wire.transport is not None
        self.wire.transport.loseConnection()
        self.world.settle()


class CatalogueTests(SynchronousTestCase):
    """Row by row; all rows are played, and all that fail are told."""

    @override
    def setUp(self) -> None:
        """One server for a table: no row may harm the next."""
        self.world = World()
        self.world.start()
        self.faults: list[str] = []

    @override
    def tearDown(self) -> None:
        """Tell what failed."""
        if self.faults:
            self.fail("\n".join(self.faults))

    def visit(self, port: int, source: str, before: bytes = b"") -> Visit:
        """A session, begun."""
        visit = Visit(self.world, port, source)
        if before:
            visit.say((before,))
        return visit

    def check(self, shown: bytes, *facts: tuple[str, object, object]) -> None:
        """Note each fact, (what, found, expected), that is not so."""
        for what, found, expected in facts:
            if found != expected:
                self.faults.append(
                    f"{shown[:90]!r}: {what} {found!r}, not {expected!r}"
                )

    def play(
        self,
        rows: Sequence[Row],
        port: int,
        before: bytes = b"",
        source: str = "",
        step: int = 0,
    ) -> None:
        """Each row in a session of its own, from an address of its own."""
        for number, row in enumerate(rows):
            where = source or f"10.1.{number // 250}.{number % 250}"
            visit = self.visit(port, where, before)
            heard = visit.say(row.segments, step=step)
            self.check(
                b"".join(row.segments),
                ("heard", codes(heard), row.heard.strip()),
                ("closed", visit.wire.closed, row.closed),
                ("queued", visit.queued, row.queued),
                ("troubles", visit.troubles, []),
                ("words", row.says if row.says in heard.decode() else heard, row.says),
            )
            self.polite(heard)
            visit.leave()

    def polite(self, heard: bytes) -> None:
        """Replies are printable, bounded, and carry an enhanced code."""
        for line in heard.split(b"\r\n")[:-1]:
            bare = line[:3] in {b"220", b"250", b"354", b"334"}
            fine = line.isascii() and line.decode("ascii").isprintable()
            coded = bare or line[4:5] == line[:1]
            self.check(line, ("fine", (fine, coded, len(line) <= 510), (True,) * 3))

    def test_in_clear(self) -> None:
        """On 587 before TLS."""
        self.play(inbound.IN_CLEAR, 587)

    def test_logged_out(self) -> None:
        """On 465 before AUTH."""
        self.play(inbound.LOGGED_OUT, 465, b"EHLO me\r\n")

    def test_commands(self) -> None:
        """On 465 after AUTH."""
        self.play(inbound.COMMANDS, 465, LOG_IN)

    def test_devices(self) -> None:
        """On 25 from a trusted network."""
        self.play(inbound.DEVICES, 25)

    def test_strangers(self) -> None:
        """On 25 from anywhere else."""
        self.play(inbound.STRANGERS, 25, source=STRANGER)

    def test_octet_by_octet(self) -> None:
        """The same answers, however the octets are cut into segments."""
        self.play(inbound.DEVICES, 25, step=1)
        self.play(inbound.STRANGERS, 25, source=STRANGER, step=1)

    def test_too_much(self) -> None:
        """What is over a limit is refused, and only that."""
        self.world = World(extra=inbound.SMALL)
        self.world.start()
        self.play(inbound.TOO_MUCH, 465, LOG_IN)

    def test_refused(self) -> None:
        """Content that is refused, with a reason for a person, and nothing queued."""
        for content, code, reason in inbound.REFUSED:
            visit = self.visit(465, FRIEND, LOG_IN + inbound.WHOLE)
            end = (
                b"\r\n.\r\n" if content and not content.endswith(b"\r\n") else b".\r\n"
            )
            heard = visit.say((content + end, inbound.NOOP))
            self.check(
                content,
                ("heard", codes(heard), f"{code} 250"),
                ("queued", visit.queued, 0),
                ("troubles", visit.troubles, []),
                ("words", reason if reason in heard.decode() else heard, reason),
            )
            visit.leave()

    def test_taken(self) -> None:
        """Content that is taken arrives whole, mended, and nothing else does."""
        for content, seen, unseen in inbound.TAKEN:
            self.world.inbox.messages.clear()
            visit = self.visit(465, FRIEND, LOG_IN + inbound.WHOLE)
            end = b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n"
            heard = visit.say((content + end, inbound.NOOP))
            self.world.pass_time(3, 0.1)
            arrived = [one.content for one in self.world.inbox.messages]
            self.check(
                content,
                ("heard", codes(heard), "250 250"),
                ("arrived", len(arrived), 1),
                ("troubles", visit.troubles, []),
                *(
                    fact
                    for one in arrived
                    for fact in (
                        ("seen", seen if seen in one else one, seen),
                        ("unseen", bool(unseen) and unseen in one, False),
                        ("bare", one.count(b"\n"), one.count(b"\r\n")),
                    )
                ),
            )
            visit.leave()

    def test_separators(self) -> None:
        """Nothing but CRLF.CRLF makes two messages of one, wherever segments end."""
        for separator in inbound.SEPARATORS:
            octets = inbound.FROM + b"\r\nHi" + separator + inbound.EVIL
            for step in (0, 1, 3):
                visit = self.visit(465, FRIEND, LOG_IN + inbound.WHOLE)
                heard = visit.say((octets,), step=step)
                self.check(
                    separator,
                    ("replies", len(codes(heard).split()), 1),
                    ("two", visit.queued > 1, False),
                    ("troubles", visit.troubles, []),
                )
                visit.leave()
