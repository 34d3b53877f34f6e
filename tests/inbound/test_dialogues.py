"""Plays the transcripts in tests/dialogues: a rule or an attack in each.

`C:` lines in a row are one segment; an empty line between them makes two. `C>` sends
its text without a CRLF, with escapes; `C* N text` sends it N times. `S:` is a reply
line, "..." at its end stands for any rest. `!` says what else must be so.
"""

from collections.abc import Callable
from ipaddress import ip_network
from os.path import dirname, join
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.events import Refused
from fwd_mta.inbound.protocol import SubmissionSettings
from fwd_mta.mail.address import parse_mailbox
from fwd_mta.mail.session import Service
from fwd_mta.net.tls import ServerTls
from fwd_mta.rules.submission import SubmissionPolicy
from tests.inbound.bench import HOSTNAME, Bench, Wire

FOLDER = join(dirname(dirname(__file__)), "dialogues")
HEADS = ("listener", "client", "trusted", "postmaster", "recipients")


class Player:
    """One transcript, played against one listener."""

    def __init__(self, test: SynchronousTestCase, name: str) -> None:
        self.test = test
        self.where = name
        self.pending = b""
        self.heard: list[str] = []
        self.heads = {"listener": "submissions", "client": "192.0.2.7"}
        self.bench: Bench
        self.wire: Wire

    def play(self, lines: list[str]) -> None:
        """Play all lines, and see that nothing was said beyond them."""
        started = False
        for number, line in enumerate(lines, 1):
            self.where = f"{self.where.partition(':')[0]}:{number}"
            head, _, value = line.partition(": ")
            if head in HEADS:
                self.heads[head] = value
            elif line and not line.startswith("#"):
                if not started:
                    self.connect()
                    started = True
                self.obey(line)
            elif started:
                self.flush()
        self.flush()
        self.test.assertEqual(self.heard, [], self.where)

    def connect(self) -> None:
        """A client connects to the listener that the transcript's head describes."""
        limit = int(self.heads.get("recipients", "1000"))
        policy = SubmissionPolicy(recipient_limit=limit)
        service = Service(self.heads["listener"])
        trusted, postmaster = self.heads.get("trusted"), self.heads.get("postmaster")
        settings = SubmissionSettings(
            service,
            HOSTNAME,
            policy,
            trusted_networks=(ip_network(trusted),) if trusted else (),
            postmaster=parse_mailbox(postmaster) if postmaster else None,
        )
        self.bench = Bench(service, policy, settings)
        if service is Service.SUBMISSION:
            # never used: no transcript gets as far as a handshake
            self.bench.factory.tls = object.__new__(ServerTls)
        self.wire = self.bench.connect(self.heads["client"])
        self.heard = self.wire.heard()

    def obey(self, line: str) -> None:
        """One line of the transcript."""
        kind, text = line[:2], line[3:]
        if kind == "C:":
            self.pending += text.encode() + b"\r\n"
        elif kind == "C>":
            self.pending += text.encode().decode("unicode_escape").encode("latin-1")
        elif kind == "C*":
            count, _, what = text.partition(" ")
            self.pending += what.encode() * int(count)
        else:
            self.flush()
            if kind == "S:":
                self.expect(text)
            else:
                self.check(*line[2:].partition(" ")[::2])

    def flush(self) -> None:
        """Send what the client has said so far, as one segment."""
        if self.pending:
            self.test.assertEqual(self.heard, [], self.where)
            self.wire.send(self.pending)
            self.pending = b""
            self.heard = self.wire.heard()

    def expect(self, text: str) -> None:
        """The next reply line; a "250-...": the rest of an EHLO answer too."""
        self.test.assertTrue(self.heard, f"{self.where}: nothing was said")
        said = self.heard.pop(0)
        if not text.endswith("..."):
            self.test.assertEqual(said, text, self.where)
            return
        self.test.assertEqual(said[: len(text) - 3], text[:-3], self.where)
        while text == "250-mail.example.com..." and said[3] == "-":
            said = self.heard.pop(0)

    def check(self, what: str, value: str) -> None:
        """Something else that must be so; "! drop": the client drops the line."""
        if what == "drop":
            self.wire.drop()
            return
        added = self.bench.writer.added
        body = value.encode().decode("unicode_escape").encode("latin-1")
        logged = [one.reply for one in self.bench.events if isinstance(one, Refused)]
        facts = {
            "closed": lambda: self.wire.closed,
            "open": lambda: not self.wire.closed,
            "queued": lambda: len(added) == int(value),
            "body": lambda: added[-1][1].body == body,
            "recipients": lambda: (
                value
                == " ".join(str(s.recipient.mailbox) for s in added[-1][0].standings)
            ),
            "logged": lambda: any(value in text for text in logged),
        }
        self.test.assertTrue(facts[what](), f"{self.where}: ! {what} {value}")


class DialogueTests(SynchronousTestCase):
    """Each transcript goes as it is written; a test method for each is added below."""

    def test_there_are_many(self) -> None:
        """The transcripts are found at all."""
        self.assertGreater(len(_TRANSCRIPTS), 20)


def _played(name: str, lines: list[str]) -> Callable[[DialogueTests], None]:
    def test(self: DialogueTests) -> None:
        Player(self, name).play(lines)

    test.__doc__ = lines[0].removeprefix("# ")
    return test


_TRANSCRIPTS = {
    path.stem: path.read_text("utf-8").splitlines()
    for path in sorted(Path(FOLDER).glob("*.txt"))
}
for _name, _lines in _TRANSCRIPTS.items():
    setattr(DialogueTests, f"test_{_name}", _played(_name, _lines))
