"""`fwdmta demo`: the main job, shown working on this machine, with nothing set up.

Starts the real server as a child, submits four messages as any client would, prints
their timelines as they happen, and judges how each went. Doorway: `run`.
"""

import argparse
import json
import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path  # noqa: TID251 - the command looks at files as a person would
from typing import Any

from fwd_mta.admin import show
from fwd_mta.admin.asking import CommandError, pages
from fwd_mta.admin.link import Call, link
from fwd_mta.net.clocks import SystemClock
from fwd_mta.world.demo import ANNOUNCEMENT, LOGIN, file_name

Json = dict[str, Any]

_TICK = 0.2
_START_PATIENCE = 60.0
_STORY_PATIENCE = 60.0
_STOP_PATIENCE = 20.0
_TRY_PATIENCE = 5.0
_FAR = "far.example"
_SERVER = "from twisted.scripts.twistd import run; run()"
_QUEUED_AS = re.compile(r"queued as (\S+)")
_WAITING = frozenset({"queued", "deferred"})


class DemoError(Exception):
    """The demo cannot go on; `str()` says why and where to look."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the demo's server, as its announcement says."""

    host: str
    ports: Mapping[str, int]
    login: str
    password: str
    ca: str
    inbox: str

    @classmethod
    def read(cls, path: Path) -> "Access":
        """Read the announcement."""
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a message by now; `inbox` and `notices` are what arrived."""

    entry: Json
    steps: Sequence[Json]
    inbox: Sequence[bytes]
    notices: Sequence[bytes]

    @property
    def results(self) -> list[Json]:
        """The result of every try, in order."""
        attempts = [step["attempt"] for step in self.steps if step["attempt"]]
        return [result for attempt in attempts for result in attempt["results"]]


Check = Callable[[Evidence], str | None]


@dataclass(frozen=True, slots=True)
class Story:
    """One message of the demo: to whom, how it is submitted, what must become of it.

    `check` gives None when all has happened, else what is missing.
    """

    title: str
    recipient: str
    service: str
    check: Check


@dataclass(slots=True)
class Told:
    """A story being told: the message's id, and how much of it is printed."""

    story: Story
    entry_id: str
    message_id: str
    printed: int = 0
    missing: str | None = field(default="nothing is known of it yet")


def at_once(seen: Evidence) -> str | None:
    """Delivered by the first try, with its content."""
    if seen.entry["state"] != "sent":
        return "it is not delivered"
    if len(seen.results) != 1:
        return f"it took {len(seen.results)} tries"
    return None if seen.inbox else "it is not in the recipient's box"


def after_greylisting(seen: Evidence) -> str | None:
    """Put off first, delivered by a later try, once."""
    categories = [result.get("category") for result in seen.results]
    if "greylist" not in categories:
        return "it was not greylisted"
    if seen.entry["state"] != "sent":
        return "it is not delivered yet"
    return None if len(seen.inbox) == 1 else "it did not arrive exactly once"


def refused_and_told(seen: Evidence) -> str | None:
    """Refused for good with 550 5.1.1, and the sender has the notice."""
    last = seen.results[-1] if seen.results else {}
    if seen.entry["state"] != "bounced" or last.get("code") != 550:
        return "it is not refused"
    if last.get("status") != "5.1.1":
        return f"it was refused with {last.get('status')}"
    return None if seen.notices else "no failure notice is in the sender's box"


def waiting_with_reason(seen: Evidence) -> str | None:
    """Still waiting: the mailbox is full, and the next try is known."""
    last = seen.entry["last"]
    if seen.entry["state"] not in _WAITING or not last:
        return "it does not wait after a try"
    if last.get("category") != "capacity" or not last.get("message"):
        return "its reason is not the full mailbox"
    return None if seen.entry["next_at"] else "its next try is not known"


STORIES = (
    Story("delivered at once", f"friend@{_FAR}", "submissions", at_once),
    Story(
        "greylisted, delivered at the retry",
        f"friend+greylist@{_FAR}",
        "submission",
        after_greylisting,
    ),
    Story(
        "refused, and the sender is told",
        f"nobody+unknown@{_FAR}",
        "submissions",
        refused_and_told,
    ),
    Story(
        "waiting for a full mailbox",
        f"friend+full@{_FAR}",
        "submission",
        waiting_with_reason,
    ),
)


def run(argv: Sequence[str]) -> int:
    """Show the main job; with --once end by itself, 0 if all went as it must."""
    parser = argparse.ArgumentParser("fwdmta demo", description="Shows the main job.")
    parser.add_argument("--once", action="store_true", help="end when it is shown")
    options = parser.parse_args(argv)
    try:
        with _orderly(), _state_dir() as state_dir, _server(state_dir) as child:
            access = _access(state_dir, child)
            shown = _show(access, state_dir)
            if not options.once:
                print("\n".join(settings(access)), flush=True)
                _stay(child)
            return 0 if shown else 1
    except (DemoError, CommandError) as fault:
        print(f"fwdmta demo: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


# The server


@contextmanager
def _orderly() -> Iterator[None]:
    """Let an ending from outside be a Ctrl-C: the server must not outlive us."""
    endings = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(one, signal.default_int_handler) for one in endings]
    try:
        yield
    finally:
        for one, handler in zip(endings, before, strict=True):
            signal.signal(one, handler)


@contextmanager
def _state_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fwdmta-demo-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def command(state_dir: Path) -> list[str]:
    """What starts the demo's server: twistd with this interpreter."""
    twistd = [sys.executable, "-c", _SERVER, "-n", "--pidfile="]
    return [*twistd, "fwdmta", "--demo", "--state-dir", str(state_dir)]


@contextmanager
def _server(state_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server; it is stopped by its own pid, whatever happens here."""
    with (state_dir / "server.log").open("wb") as log:
        # Its own session: a Ctrl-C is ours alone to pass on.
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and words
            command(state_dir),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _access(state_dir: Path, child: subprocess.Popen[bytes]) -> Access:
    """Wait for the announcement: then all listeners are up."""
    print("starting: twistd -n fwdmta --demo", flush=True)
    announcement = state_dir / ANNOUNCEMENT
    for _ in range(int(_START_PATIENCE / _TICK)):
        if announcement.exists():
            return Access.read(announcement)
        if _ended(child, _TICK):
            raise DemoError(f"the server ended at once. Its log:\n{_log(state_dir)}")
    raise DemoError(
        f"the server was not ready after {_START_PATIENCE:.0f} s. Its log:\n"
        f"{_log(state_dir)}"
    )


def _ended(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the child ends within that time."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _log(state_dir: Path) -> str:
    lines = (state_dir / "server.log").read_text(errors="replace").splitlines()
    return "\n".join(lines[-25:])


def _stay(child: subprocess.Popen[bytes]) -> None:
    try:
        while not _ended(child, 1.0):
            pass
    except KeyboardInterrupt:
        print("\nstopping", flush=True)
        return
    raise DemoError("the server ended by itself")


# The four messages


def submit(access: Access, story: Story) -> Told:
    """Submit the story's message as any client would; raises DemoError if refused."""
    message = _message(access, story)
    try:
        with _client(access, story.service) as client:
            client.login(access.login, access.password)
            client.mail(access.login)
            client.rcpt(story.recipient)
            code, words = client.data(message.as_bytes())
    except (smtplib.SMTPException, OSError) as fault:
        raise DemoError(f"submission on {story.service} failed: {fault}") from fault
    queued = _QUEUED_AS.search(words.decode("ascii", "replace"))
    if code != 250 or queued is None:
        raise DemoError(f"the message was not taken: {code} {words!r}")
    return Told(story, queued[1], str(message["Message-ID"]))


def _client(access: Access, service: str) -> smtplib.SMTP:
    """Connect with a certificate that must be right, TLS first or by STARTTLS."""
    context = ssl.create_default_context(cafile=access.ca)
    port = access.ports[service]
    if service == "submissions":
        return smtplib.SMTP_SSL(access.host, port, timeout=30, context=context)
    client = smtplib.SMTP(access.host, port, timeout=30)
    client.starttls(context=context)
    return client


def _message(access: Access, story: Story) -> EmailMessage:
    message = EmailMessage()
    message["From"] = access.login
    message["To"] = story.recipient
    message["Subject"] = f"Demo: {story.title}"
    message["Message-ID"] = make_msgid(domain=LOGIN.partition("@")[2])
    message.set_content(f"This message shows: {story.title}.\n.\n. And a dot.\n")
    return message


def _show(access: Access, state_dir: Path) -> bool:
    """Submit all, print what happens until each story is told; whether all went so."""
    told = [submit(access, story) for story in STORIES]
    for one in told:
        how = "TLS" if one.story.service == "submissions" else "STARTTLS"
        port = access.ports[one.story.service]
        print(f"submitted over {how}, port {port}: {one.entry_id} {one.story.title}")
    patience = threading.Event()
    with link(str(state_dir), SystemClock(), _no_store) as call:
        for _ in range(int(_STORY_PATIENCE / _TICK)):
            for one in told:
                _follow(call, access, one)
            if not any(one.missing for one in told):
                break
            patience.wait(_TICK)
        return _judge(call, told)


def _no_store(*_: object) -> Any:
    raise CommandError("the demo's server does not run any more")


def _follow(call: Call, access: Access, told: Told) -> None:
    """Print the steps that are new, and see whether the story is told."""
    seen = _evidence(call, access, told)
    new = seen.steps[told.printed :]
    if new:
        print(f"\n{told.entry_id}  {told.story.recipient}")
        print("\n".join("  " + line for step in new for line in _lines(step)))
        sys.stdout.flush()
    told.printed = len(seen.steps)
    told.missing = told.story.check(seen)


def _lines(step: Json) -> Iterator[str]:
    return iter(show.timeline_step(step))


def _evidence(call: Call, access: Access, told: Told) -> Evidence:
    entry = _answer(call, {"verb": "show", "id": told.entry_id})["entry"]
    steps = [
        step
        for page in pages(
            lambda request: _answer(call, request),
            {"verb": "timeline", "id": told.entry_id},
        )
        for step in page["items"]
    ]
    own = box(access, told.story.recipient)
    return Evidence(
        entry,
        steps,
        [one for one in own if told.message_id.encode() in one],
        [one for one in box(access, access.login) if is_notice(one, told)],
    )


def _answer(call: Call, request: Json) -> Json:
    answer = call(request)
    if "error" in answer:
        raise CommandError(str(answer["error"]))
    return answer


def box(access: Access, recipient: str) -> list[bytes]:
    """The messages that the far side took for a recipient."""
    folder = Path(access.inbox) / file_name(recipient)
    return [path.read_bytes() for path in sorted(folder.glob("*.eml"))]


def is_notice(content: bytes, told: Told) -> bool:
    """Whether it is a failure notice (RFC 3464) about the story's message."""
    notice = message_from_bytes(content)
    return (
        notice.get_content_type() == "multipart/report"
        and told.message_id.encode() in content
        and b"Action: failed" in content
    )


def _judge(call: Call, told: Sequence[Told]) -> bool:
    print("\nHow it went:")
    for one in told:
        mark = f"NOT so: {one.missing}" if one.missing else "as it must be"
        print(f"  {one.story.recipient:<30} {one.story.title:<36} {mark}")
        if one.story.check is waiting_with_reason:
            entry, now = _between_tries(call, one.entry_id)
            print("\n".join("    " + line for line in show.outlook(entry, now)))
    return not any(one.missing for one in told)


def _between_tries(call: Call, entry_id: str) -> tuple[Json, float]:
    """An entry while its next try is ahead, not under way; and the time."""
    patience = threading.Event()
    request = {"verb": "show", "id": entry_id}
    entry, now = _answer(call, request)["entry"], SystemClock().now()
    for _ in range(int(_TRY_PATIENCE / _TICK)):
        if (entry["next_at"] or 0) > now + 1:
            break
        patience.wait(_TICK)
        entry, now = _answer(call, request)["entry"], SystemClock().now()
    return entry, now


# What to paste where


def settings(access: Access) -> list[str]:
    """What a person pastes into a mail client or a shell to try it."""
    ca = access.ca
    store = f"{ca.removesuffix('.pem')}.p12"
    return [
        "",
        "Try it yourself; nothing leaves this machine:",
        f"  host      localhost ({access.host})",
        f"  TLS       port {access.ports['submissions']}",
        f"  STARTTLS  port {access.ports['submission']}",
        f"  account   {access.login}",
        f"  password  {access.password}",
        f"  CA file   {ca}",
        f"  arrived   {access.inbox}/<recipient>/",
        "Recipients: anything@far.example; and anyone+greylist, +full, +unknown, +slow",
        "and +blocked show what other mail servers do.",
        "",
        "To make programs trust the demo's certificate:",
        f"  export NODE_EXTRA_CA_CERTS={ca}                # Node",
        f"  export SSL_CERT_FILE={ca}                      # Python, Ruby, Go",
        f"  php -d openssl.cafile={ca} script.php          # PHP",
        f"  keytool -importcert -noprompt -alias fwdmta -file {ca} \\",
        f"      -keystore {store} -storetype PKCS12 -storepass changeit",
        f"  java -Djavax.net.ssl.trustStore={store} \\",
        "      -Djavax.net.ssl.trustStorePassword=changeit ...      # Java",
        "",
        "Ctrl-C ends it.",
    ]
