"""The demo's judgement, its words, and what it does when the server fails."""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from fwd_mta.admin import demo
from fwd_mta.admin.demo import Access, Evidence, Told

ACCESS = Access(
    "127.0.0.1",
    {"submissions": 4651, "submission": 5871},
    "you@demo.example",
    "secret",
    "/tmp/d/ca.pem",  # noqa: S108 - a name, not a file
    "/tmp/d/inbox",  # noqa: S108
)

NOTICE = """\
Return-Path: <>
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: message/delivery-status

Final-Recipient: rfc822; nobody+unknown@far.example
Action: failed
--b
Content-Type: text/rfc822-headers

Message-ID: <1@demo.example>
--b--
"""


def result(**facts: object) -> dict[str, Any]:
    """One result as the control socket tells it."""
    return {"category": None, "code": 250, "status": None, **facts}


def seen(
    state: str,
    *results: dict[str, Any],
    next_at: float | None = None,
    inbox: Sequence[bytes] = (),
    notices: Sequence[bytes] = (),
) -> Evidence:
    """What is known of a message after these tries."""
    attempts = [{"results": [one]} for one in results]
    steps = [{"attempt": one} for one in (None, *attempts)]
    last = results[-1] if results else None
    entry = {"state": state, "next_at": next_at, "last": last}
    return Evidence(entry, steps, inbox, notices)


GREYLISTED = result(category="greylist", code=450)
UNKNOWN = result(category="recipient", code=550, status="5.1.1")
FULL = result(category="capacity", code=452, message="The mailbox is full")


class CheckTests(SynchronousTestCase):
    """Each story has one ending; all others are told apart."""

    def test_at_once(self) -> None:
        """Delivered by one try, and in the box."""
        check = demo.at_once
        self.assertIs(check(seen("sent", result(), inbox=[b"x"])), None)
        for other in (
            seen("queued"),
            seen("sent", result()),
            seen("sent", GREYLISTED, result(), inbox=[b"x"]),
            seen("bounced", UNKNOWN, inbox=[b"x"]),
        ):
            self.assertIsNot(check(other), None)

    def test_greylisted(self) -> None:
        """Greylisted, then delivered exactly once."""
        check = demo.after_greylisting
        self.assertIs(check(seen("sent", GREYLISTED, result(), inbox=[b"x"])), None)
        for other in (
            seen("deferred", GREYLISTED),
            seen("sent", result(), inbox=[b"x"]),
            seen("sent", GREYLISTED, result()),
            seen("sent", GREYLISTED, result(), inbox=[b"x", b"x"]),
        ):
            self.assertIsNot(check(other), None)

    def test_refused(self) -> None:
        """Refused with 550 5.1.1, and the notice has come."""
        check = demo.refused_and_told
        self.assertIs(check(seen("bounced", UNKNOWN, notices=[b"x"])), None)
        for other in (
            seen("queued"),
            seen("bounced", UNKNOWN),
            seen("sent", result(), notices=[b"x"]),
            seen("bounced", result(code=550, status="5.7.1"), notices=[b"x"]),
        ):
            self.assertIsNot(check(other), None)

    def test_full(self) -> None:
        """Waiting for a reason that is told, with a next try."""
        check = demo.waiting_with_reason
        self.assertIs(check(seen("deferred", FULL, next_at=5.0)), None)
        for other in (
            seen("queued", next_at=5.0),
            seen("deferred", FULL),
            seen("deferred", GREYLISTED, next_at=5.0),
            seen("bounced", FULL),
        ):
            self.assertIsNot(check(other), None)

    def test_notice(self) -> None:
        """Only a failure report about this very message is its notice."""
        told = Told(demo.STORIES[2], "id", "<1@demo.example>")
        self.assertTrue(demo.is_notice(NOTICE.encode(), told))
        other = Told(demo.STORIES[2], "id", "<2@demo.example>")
        self.assertFalse(demo.is_notice(NOTICE.encode(), other))
        delayed = NOTICE.replace("failed", "delayed")
        self.assertFalse(demo.is_notice(delayed.encode(), told))
        quoting = b"Subject: x\r\n\r\n" + NOTICE.encode()
        self.assertFalse(demo.is_notice(quoting, told))


class WordsTests(SynchronousTestCase):
    """What the demo prints for people."""

    def test_settings(self) -> None:
        """All that is needed to log in, and to trust the certificate anywhere."""
        text = "\n".join(demo.settings(ACCESS))
        for word in (
            "4651",
            "5871",
            "you@demo.example",
            "secret",
            "NODE_EXTRA_CA_CERTS=/tmp/d/ca.pem",
            "SSL_CERT_FILE=/tmp/d/ca.pem",
            "openssl.cafile=/tmp/d/ca.pem",
            "javax.net.ssl.trustStore=/tmp/d/ca.p12",
        ):
            self.assertIn(word, text)

    def test_access(self) -> None:
        """The announcement is read back as it was written."""
        path = Path(self.mktemp())
        written = {
            "host": ACCESS.host,
            "ports": ACCESS.ports,
            "login": ACCESS.login,
            "password": ACCESS.password,
            "ca": ACCESS.ca,
            "inbox": ACCESS.inbox,
        }
        path.write_text(json.dumps(written))
        self.assertEqual(Access.read(path), ACCESS)

    def test_command(self) -> None:
        """The server is started by twistd's own name, in the foreground."""
        words = demo.command(Path("/tmp/d"))  # noqa: S108
        self.assertEqual(words[0], sys.executable)
        self.assertEqual(words[-6:-3], ["-n", "--pidfile=", "fwdmta"])
        self.assertEqual(words[-3:], ["--demo", "--state-dir", "/tmp/d"])  # noqa: S108


class FailureTests(SynchronousTestCase):
    """A demo that cannot be shown says so, and leaves nothing behind."""

    def test_server_dies(self) -> None:
        """When the server does not start, its log is shown and the status is 1."""
        folders: list[str] = []

        def broken(state_dir: Path) -> list[str]:
            folders.append(str(state_dir))
            return [sys.executable, "-c", "raise SystemExit('no good reason')"]

        self.patch(demo, "command", broken)
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = demo.run(["--once"])
        self.assertEqual(status, 1)
        self.assertIn("no good reason", err.getvalue())
        self.assertFalse(Path(folders[0]).exists())

    def test_usage(self) -> None:
        """Unknown words are refused with status 2."""
        with redirect_stderr(StringIO()), self.assertRaises(SystemExit) as caught:
            demo.run(["--twice"])
        self.assertEqual(caught.exception.code, 2)


class ShownTests(SynchronousTestCase):
    """The whole demo, with the real server as a child."""

    def test_once(self) -> None:
        """All four messages go the way they must, and nothing is left behind."""
        folders: list[str] = []
        command = demo.command

        def kept(state_dir: Path) -> list[str]:
            folders.append(str(state_dir))
            return command(state_dir)

        self.patch(demo, "command", kept)
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = demo.run(["--once"])
        self.assertEqual((status, err.getvalue()), (0, ""), out.getvalue())
        self.assertEqual(out.getvalue().count("as it must be"), 4)
        self.assertFalse(Path(folders[0]).exists())
