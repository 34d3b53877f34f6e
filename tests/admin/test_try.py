"""`fwdmta try`, as it is typed, against a scripted server."""

import io
import json
import socket
import ssl
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.admin import try_verb, try_words
from fwd_mta.admin.cli import main
from fwd_mta.admin.command import Surroundings, file_store
from fwd_mta.admin.far_side import Line, Network, Secured
from fwd_mta.world.machine import SeededEntropy, VirtualWall

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
LOGIN = "ann@example.com"
SECRET = b64encode(b"\0ann@example.com\0secret").decode()
NOW = 1_800_000_000.0
REPLIES = {
    "greeting": "220 mail.example.com ESMTP fwd_mta",
    "EHLO": "250-mail.example.com\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN",
    "STARTTLS": "220 2.0.0 Go on",
    "AUTH": "235 2.7.0 Authentication successful",
    "MAIL": "250 2.1.0 Ok",
    "RSET": "250 2.0.0 Ok",
}


def untrusted(code: int, words: str) -> ssl.SSLError:
    """What OpenSSL says of a certificate."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, words
    return error


def broken(reason: str) -> ssl.SSLError:
    """What OpenSSL says of a handshake."""
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@dataclass
class ScriptedLine:
    """A server's side of one connection, and what it was told."""

    replies: Mapping[str, str | Exception]
    tls: Exception | None
    heard: list[str] = field(default_factory=list)
    next: str = "greeting"
    closed: bool = False

    def read(self) -> bytes:
        """The reply to what was said last."""
        said = self.replies.get(self.next, "")
        if isinstance(said, Exception):
            raise said
        return f"{said}\r\n".encode() if said else b""

    def write(self, octets: bytes) -> None:
        """Hear a command."""
        self.heard.append(octets.decode().removesuffix("\r\n"))
        self.next = self.heard[-1].split()[0]

    def secure(self, host: str) -> Secured:
        """Shake hands, or not."""
        if self.tls:
            raise self.tls
        self.heard.append(f"(TLS with {host})")
        self.next = "EHLO" if "STARTTLS" in self.heard else "greeting"
        return Secured("TLSv1.3", "TLS_AES_256_GCM_SHA384", NOW + 30.5 * 86_400)

    def close(self) -> None:
        """Close it."""
        self.closed = True


class ScriptedFarSide:
    """A network with one server."""

    def __init__(
        self,
        *,
        tls: Exception | None = None,
        connecting: Mapping[str, OSError] | None = None,
        names: OSError | None = None,
        **replies: str | Exception,
    ) -> None:
        self.replies: dict[str, str | Exception] = {**REPLIES, **replies}
        self.tls = tls
        self.connecting = connecting or {}
        self.names = names
        self.lines: list[ScriptedLine] = []
        self.found = ["2001:db8::1", "192.0.2.1"]

    def trust(self, ca: str | None) -> None:
        """Only a file that is there can be trusted."""
        if ca is not None:
            raise FileNotFoundError(2, "No such file or directory")

    def addresses(self, host: str) -> Sequence[str]:
        """The addresses of the server."""
        if self.names:
            raise self.names
        return self.found

    def connect(self, address: str, port: int) -> Line:
        """Connect to it."""
        if address in self.connecting:
            raise self.connecting[address]
        self.lines.append(ScriptedLine(self.replies, self.tls))
        return self.lines[-1]

    def password(self, login: str) -> str:
        """Somebody types it."""
        return "secret"


class Trying(SynchronousTestCase):
    """Runs the command against a scripted server."""

    def run_it(self, far: ScriptedFarSide, *words: str) -> tuple[int, str, str]:
        """Exit status, output, errors."""
        self.patch(try_verb, "Network", lambda: far)
        world = Surroundings(VirtualWall(Clock(), NOW), SeededEntropy(1), file_store)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(["try", "mail.example.com", LOGIN, *words], world)
        return status, out.getvalue(), err.getvalue()

    def fails(
        self, far: ScriptedFarSide, step: str, found: str, do: str, port: int = 465
    ) -> None:
        """The step on that port is the last, and says so."""
        status, out, _ = self.run_it(far, "--json", "--port", str(port))
        last = json.loads(out.splitlines()[-1])
        self.assertEqual((status, last["ok"], last["step"]), (1, False, step))
        self.assertIn(found, last["found"])
        self.assertEqual(last["do"], do)
        self.assertTrue(all(line.closed for line in far.lines))


class TryTests(Trying):
    """What it does and prints."""

    def test_all_is_well(self) -> None:
        """Every step of both ports is told, and the status is 0."""
        far = ScriptedFarSide()
        status, out, _ = self.run_it(far)
        self.assertEqual(status, 0)
        self.assertNotIn("FAIL", out)
        self.assertIn("mail.example.com is 2001:db8::1, 192.0.2.1", out)
        self.assertIn("TLSv1.3, TLS_AES_256_GCM_SHA384; the certificate is", out)
        self.assertIn("until 2027-02-14 20:00:00 UTC: 30 days", out)
        self.assertEqual(len(out.splitlines()), 13)

    def test_said(self) -> None:
        """The password is only said inside TLS; no recipient is ever named."""
        far = ScriptedFarSide()
        self.run_it(far)
        inside = [
            "EHLO [127.0.0.1]",
            f"AUTH PLAIN {SECRET}",
            f"MAIL FROM:<{LOGIN}>",
            "RSET",
            "QUIT",
        ]
        secured = "(TLS with mail.example.com)"
        self.assertEqual(far.lines[0].heard, [secured, *inside])
        opening = ["EHLO [127.0.0.1]", "STARTTLS", secured]
        self.assertEqual(far.lines[1].heard, [*opening, *inside])

    def test_auth_login(self) -> None:
        """A server that offers only LOGIN is given the two words that it asks for."""
        name = b64encode(LOGIN.encode()).decode()
        far = ScriptedFarSide(
            EHLO="250-mail.example.com\r\n250 AUTH LOGIN",
            AUTH="334 VXNlcm5hbWU6",
        )
        far.replies[name] = "334 UGFzc3dvcmQ6"
        far.replies["c2VjcmV0"] = "235 2.7.0 Ok"
        status, _, _ = self.run_it(far, "--port", "465")
        self.assertEqual(status, 0)
        self.assertEqual(far.lines[0].heard[2:5], ["AUTH LOGIN", name, "c2VjcmV0"])

    def test_another_address(self) -> None:
        """One address that is not there is told, and the next is taken."""
        far = ScriptedFarSide(connecting={"2001:db8::1": OSError(101, "no network")})
        status, out, _ = self.run_it(far)
        self.assertEqual(status, 0)
        self.assertIn("192.0.2.1 answers; 2001:db8::1: unreachable", out)

    def test_password_from_standard_input(self) -> None:
        """It is the first line."""
        self.patch(sys, "stdin", io.StringIO("secret\n"))
        far = ScriptedFarSide()
        self.assertEqual(self.run_it(far, "--password-stdin")[0], 0)
        self.assertIn(f"AUTH PLAIN {SECRET}", far.lines[0].heard)

    def test_misuse(self) -> None:
        """No address, no port, no file: nothing is tried."""
        for words in (
            ("--from", "ann@example.com>\r\nRCPT TO:<bob@example.net"),
            ("--from", "ann"),
            ("--port", "0"),
            ("--port", "465/ssl"),
            ("--ca", "missing.pem"),
        ):
            far = ScriptedFarSide()
            status, out, err = self.run_it(far, *words)
            self.assertEqual((status, out, far.lines), (2, "", []), words)
            self.assertEqual(len(err.splitlines()), 1)

    def test_ports(self) -> None:
        """465 speaks TLS first, and so does another port that is said to."""
        ports = [try_verb.port(text).tls for text in ("465", "587", "8465/tls")]
        self.assertEqual(ports, [True, False, True])

    def test_hostile_reply(self) -> None:
        """What the server says cannot steer the terminal."""
        far = ScriptedFarSide(greeting="220 \x1b[2J mail")
        self.assertNotIn("\x1b", self.run_it(far)[1])


class TroubleTests(Trying):
    """Each kind of trouble has its own words."""

    def test_unknown_host(self) -> None:
        """Nothing is tried without an address."""
        far = ScriptedFarSide(names=socket.gaierror(-2, "Name or service not known"))
        self.fails(far, "DNS", "Name or service not known", try_words.NAME)

    def test_connection(self) -> None:
        """Refused, no answer and no way are told apart."""
        for error, found, do in (
            (ConnectionRefusedError(), "refused", try_words.REFUSED),
            (TimeoutError(), "no answer within 10 s", try_words.TIMED_OUT),
            (OSError(113, "No route"), "unreachable", try_words.UNREACHABLE),
        ):
            far = ScriptedFarSide()
            far.connecting = dict.fromkeys(far.found, error)
            self.fails(far, "connection", found, do)

    def test_wrong_port(self) -> None:
        """TLS to a port in clear, and the other way round."""
        far = ScriptedFarSide(tls=broken("WRONG_VERSION_NUMBER"))
        self.fails(far, "TLS", "no TLS there", try_words.CLEAR)
        far = ScriptedFarSide(greeting=TimeoutError())
        self.fails(far, "greeting", "30 s", try_words.SILENT, port=587)

    def test_handshake(self) -> None:
        """TLS that is too old, and a line that breaks."""
        far = ScriptedFarSide(tls=broken("TLSV1_ALERT_PROTOCOL_VERSION"))
        self.fails(far, "TLS", "PROTOCOL_VERSION", try_words.OLD)
        far = ScriptedFarSide(tls=ConnectionResetError(104, "reset"))
        self.fails(far, "TLS", "reset", try_words.BROKEN)

    def test_certificate(self) -> None:
        """Ended, not begun, of another name, of nobody known; no password is said."""
        for code, words, do in (
            (10, "certificate has expired", try_words.EXPIRED),
            (9, "certificate is not yet valid", try_words.NOT_YET),
            (62, "Hostname mismatch", try_words.WRONG_NAME),
            (64, "IP address mismatch", try_words.WRONG_NAME),
            (20, "unable to get local issuer certificate", try_words.AUTHORITY),
        ):
            far = ScriptedFarSide(tls=untrusted(code, words))
            self.fails(far, "TLS", words, do, port=587)
            self.assertNotIn(SECRET, " ".join(far.lines[0].heard))

    def test_no_starttls(self) -> None:
        """Without TLS no password is said."""
        far = ScriptedFarSide(EHLO="250-mail\r\n250 AUTH PLAIN")
        self.fails(far, "TLS", "not offered", try_words.NO_STARTTLS, port=587)
        self.assertEqual(far.lines[0].heard, ["EHLO [127.0.0.1]", "QUIT"])

    def test_login(self) -> None:
        """A wrong password, an account that is off, too many guesses, no database."""
        for reply, do in (
            ("535 5.7.8 Authentication failed: wrong login", try_words.COPY_ANEW),
            ("525 5.7.13 Sending mail is switched off", try_words.SWITCHED_OFF),
            ("454 4.7.0 Too many wrong passwords", try_words.GUESSES),
            ("454 4.7.0 Temporary authentication failure", try_words.LATER),
        ):
            self.fails(ScriptedFarSide(AUTH=reply), "login", reply, do)
        far = ScriptedFarSide(EHLO="250 mail.example.com")
        self.fails(far, "login", "neither", try_words.NO_AUTH)

    def test_refused_password_once(self) -> None:
        """It is not tried on the second port, where it would be another guess."""
        far = ScriptedFarSide(AUTH="535 5.7.8 Authentication failed")
        status, out, _ = self.run_it(far)
        self.assertEqual(status, 1)
        self.assertEqual(out.count("FAIL"), 1)
        self.assertIn(f"\n{'':22}{try_words.COPY_ANEW}\n", out)
        self.assertNotIn(f"AUTH PLAIN {SECRET}", far.lines[1].heard)

    def test_sender(self) -> None:
        """A sender that is another's, and a server that takes none now."""
        for reply, do in (
            ("553 5.7.1 bob@example.com is not yours", try_words.SENDER),
            ("550 5.7.1 not yours", try_words.SENDER),
            ("450 4.7.1 This account may send 10 messages", try_words.REPLIED),
        ):
            self.fails(ScriptedFarSide(MAIL=reply), "From", reply, do)

    def test_no_server_of_mail(self) -> None:
        """Nonsense, and a line that is closed, are told."""
        far = ScriptedFarSide(greeting="SSH-2.0-OpenSSH_9.2")
        self.fails(far, "greeting", "not a reply", try_words.BROKEN)
        far = ScriptedFarSide(greeting="")
        self.fails(far, "greeting", "closed the connection", try_words.BROKEN)


class PageTests(SynchronousTestCase):
    """docs/troubleshooting.md."""

    def test_sentences(self) -> None:
        """It has every sentence of the command, word for word."""
        page = " ".join(PAGE.read_text("utf-8").replace("`", "").split())
        self.assertGreater(len(try_words.SENTENCES), 15)
        self.assertEqual([one for one in try_words.SENTENCES if one not in page], [])


class NetworkTests(SynchronousTestCase):
    """The real network, on loopback."""

    @override
    def setUp(self) -> None:
        """Listen."""
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.port = self.listening.getsockname()[1]

    def test_line(self) -> None:
        """Octets go there and come back."""
        far = Network()
        self.assertEqual(list(far.addresses("127.0.0.1")), ["127.0.0.1"])
        line = far.connect("127.0.0.1", self.port)
        self.addCleanup(line.close)
        there, _ = self.listening.accept()
        with there:
            line.write(b"QUIT\r\n")
            self.assertEqual(there.recv(100), b"QUIT\r\n")
            there.sendall(b"221 2.0.0 Bye\r\n")
            self.assertEqual(line.read(), b"221 2.0.0 Bye\r\n")

    def test_refused(self) -> None:
        """A port that nobody listens on refuses."""
        self.listening.close()
        with self.assertRaises(ConnectionRefusedError):
            Network().connect("127.0.0.1", self.port)

    def test_no_name(self) -> None:
        """What cannot be a name is not found."""
        with self.assertRaises(OSError):
            Network().addresses("a" * 70 + ".example")
