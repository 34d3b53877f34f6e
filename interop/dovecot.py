"""Scenarios with a real Dovecot: its accounts, LMTP to it, IMAP and POP3 from it."""

import imaplib
import os
import poplib
import signal
import smtplib
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from interop.kit import (
    Failed,
    Workbench,
    expect,
    expect_in,
    is_listening,
    wait_for,
)
from interop.messages import plain
from interop.server import Server

_ADDRESS = "127.0.77.1"
_IMAPS, _POP3S, _SUBMISSIONS = 993, 995, 465
_READER = "ann@dc.example"
_FULL = "full@dc.example"
_RECIPE = Path(__file__).resolve().parent.parent / "etc" / "dovecot" / "fwdmta.conf"
_CONFIGURATION = """\
base_dir = {folder}/run
log_path = {folder}/dovecot.log
protocols = imap pop3 lmtp
listen = {address}
auth_failure_delay = 0
ssl = required
ssl_cert = <{folder}/chain.pem
ssl_key = <{folder}/key.pem
first_valid_uid = 1
mail_uid = mail
mail_gid = mail
mail_location = maildir:~/Maildir
mail_plugins = quota
plugin {{
  quota = maildir:User quota
  quota_rule = *:storage=10M
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = 0
  }}
}}
"""


class Dovecot:
    """A Dovecot in a folder of its own, set up by our recipe; started on entering."""

    def __init__(self, bench: Workbench) -> None:
        self.folder = bench.folder / "dovecot"
        self.folder.mkdir()
        self.passwords = {_READER: "first password", _FULL: "full password"}
        self.fields = {_READER: "", _FULL: "userdb_quota_rule=*:storage=2K"}
        self._authority = bench.authority
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = self.folder / "run" / "auth-client"

    def __enter__(self) -> Self:
        """Make its files and start it."""
        self._authority.issue(self.folder / "chain.pem", self.folder / "key.pem")
        recipe = _RECIPE.read_text(encoding="utf-8").replace("= fwdmta", "= root")
        text = _CONFIGURATION.format(folder=self.folder, address=_ADDRESS) + recipe
        (self.folder / "dovecot.conf").write_text(text, encoding="utf-8")
        (self.folder / "mail").mkdir()
        (self.folder / "mail").chmod(0o777)
        self.write_users()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.stop()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with (self.folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["dovecot", "-F", "-c", str(self.folder / "dovecot.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for("Dovecot listens", self._is_up, seconds=30)

    def _is_up(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise Failed(f"dovecot ended with {self._process.returncode}")
        return is_listening(_ADDRESS, _IMAPS) and self.socket.is_socket()

    def stop(self) -> None:
        """End it with all its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(30)
            self._process = None

    def write_users(self) -> None:
        """Write the one file in which the passwords are."""
        lines = [
            f"{login}:{_hashed(password)}:::"
            f":{self.folder}/mail/{login}::{self.fields[login]}"
            for login, password in self.passwords.items()
        ]
        file = self.folder / "users.new"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        file.rename(self.folder / "users")

    def imap(self, login: str, trust: ssl.SSLContext) -> imaplib.IMAP4:
        """An IMAP session on port 993."""
        session = imaplib.IMAP4_SSL(_ADDRESS, _IMAPS, ssl_context=trust, timeout=30)
        session.login(login, self.passwords[login])
        return session

    def pop3(self, login: str, trust: ssl.SSLContext) -> poplib.POP3:
        """A POP3 session on port 995."""
        session = poplib.POP3_SSL(_ADDRESS, _POP3S, context=trust, timeout=30)
        session.user(login)
        session.pass_(self.passwords[login])
        return session


def _hashed(password: str) -> str:
    done = subprocess.run(
        ["doveadm", "pw", "-s", "ARGON2ID", "-p", password],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def _server(bench: Workbench, dovecot: Dovecot) -> Server:
    """Ours, whose accounts are Dovecot's and which delivers to it."""
    tables = {
        "[listener]": f'service = "submissions"\naddress = "{_ADDRESS}:{_SUBMISSIONS}"',
        "queue": 'minimal_backoff_time = "1s"\nmaximal_backoff_time = "2s"',
        "delivery.transport": f'"dc.example" = "lmtp:unix:{dovecot.folder}/run/lmtp"',
    }
    server = Server(bench, tables)
    text = server.usual(tables).replace(
        "[accounts]\n", f'[accounts]\ndovecot = "unix:{dovecot.socket}"\n'
    )
    server.configure(text)
    return bench.keep(server)


def _trust(server: Server) -> ssl.SSLContext:
    context = server.trust()
    context.check_hostname = False
    return context


def _login(server: Server, login: str, password: str) -> smtplib.SMTP_SSL:
    session = smtplib.SMTP_SSL(
        _ADDRESS, _SUBMISSIONS, context=_trust(server), timeout=60
    )
    session.login(login, password)
    return session


def _smtp_error(server: Server, login: str, password: str) -> str:
    """What a login is refused with, or nothing."""
    try:
        _login(server, login, password).quit()
    except smtplib.SMTPAuthenticationError as error:
        return f"{error.smtp_code} {error.smtp_error!r}"
    return ""


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (imaplib.IMAP4.error, poplib.error_proto):
        return True
    return False


def accounts(bench: Workbench) -> None:
    """One password change is followed by SMTP here, IMAP and POP3 there; down: 454."""
    dovecot = bench.keep(Dovecot(bench))
    server = _server(bench, dovecot)
    trust = _trust(server)
    old = dovecot.passwords[_READER]
    expect(not _smtp_error(server, _READER, old), "the right password is refused")
    wrong = _smtp_error(server, _READER, "wrong")
    expect(wrong.startswith("535"), f"a wrong password: {wrong}")
    unknown = _smtp_error(server, "nobody@dc.example", old)
    expect(unknown == wrong, f"an unknown login: {unknown}, a wrong password: {wrong}")
    dovecot.imap(_READER, trust).logout()
    dovecot.pop3(_READER, trust).quit()

    dovecot.passwords[_READER] = "second password"
    dovecot.write_users()
    expect(not _smtp_error(server, _READER, "second password"), "SMTP does not follow")
    dovecot.imap(_READER, trust).logout()
    dovecot.pop3(_READER, trust).quit()
    expect_in("535", _smtp_error(server, _READER, old), "the old password by SMTP")
    dovecot.passwords[_READER] = old
    for attempt in (dovecot.imap, dovecot.pop3):
        expect(
            _is_refused(lambda attempt=attempt: attempt(_READER, trust)),  # type: ignore[misc]
            "the old password still reads",
        )
    dovecot.stop()
    gone = _smtp_error(server, _READER, "second password")
    expect_in("454", gone, "the reply while Dovecot is gone")
    expect_in("Dovecot at unix:", server.logged(), "the log")
    dovecot.start()
    expect(not _smtp_error(server, _READER, "second password"), "it does not resume")


def send_as(bench: Workbench) -> None:
    """A field beside the password there says what the account may send as here."""
    dovecot = Dovecot(bench)
    dovecot.fields[_READER] = f"send_as={_READER},*@news.example"
    server = _server(bench, bench.keep(dovecot))
    with _login(server, _READER, dovecot.passwords[_READER]) as session:
        session.ehlo()
        for sender, code in (
            ("letter@news.example", 250),
            ("boss@dc.example", 553),
            (_READER, 250),
        ):
            said = session.mail(sender)
            expect(said[0] == code, f"MAIL FROM {sender}: {said}")
            session.rset()


def mailboxes(bench: Workbench) -> None:
    """Sent on 465, filed by LMTP, read by IMAP and POP3; a full mailbox is retried."""
    dovecot = bench.keep(Dovecot(bench))
    server = _server(bench, dovecot)
    trust = _trust(server)
    with _login(server, _READER, dovecot.passwords[_READER]) as session:
        for name in ("by-imap", "by-pop3"):
            session.sendmail(_READER, [_READER], plain(_READER, name, _READER))
        session.sendmail(_READER, [_FULL], _large(_FULL))
    wait_for("the mail is there", lambda: len(_by_pop3(dovecot, trust)) == 2)
    both = _by_pop3(dovecot, trust)
    expect(both == _by_imap(dovecot, trust), "IMAP and POP3 show different mail")
    for name in ("by-imap", "by-pop3"):
        text = b"".join(both).decode()
        expect_in(f"Subject: {name}", text, "the mail")
        expect_in(f"This is {name}.", text, "the mail")
    _healed(server, dovecot, trust)


def _healed(server: Server, dovecot: Dovecot, trust: ssl.SSLContext) -> None:
    """The mailbox without room keeps its mail waiting here; with room it comes."""
    wait_for("it is deferred", lambda: _deferral(server))
    waiting = _deferral(server)
    expect_in("4.2.2", waiting, "what the full mailbox answered")
    dovecot.fields[_FULL] = ""
    dovecot.write_users()
    wait_for("it comes when there is room", lambda: _count(dovecot, trust) == 1)
    wait_for("nothing waits", lambda: not server.fwdmta_json("queue", "list"))


def _deferral(server: Server) -> str:
    listed = server.fwdmta_json("queue", "list", "--state", "deferred")
    return server.fwdmta("why", str(listed[0]["id"])) if listed else ""


def _large(recipient: str) -> bytes:
    return plain(recipient, "large", _READER) + b"0123456789\r\n" * 1000


def _count(dovecot: Dovecot, trust: ssl.SSLContext) -> int:
    session = dovecot.imap(_FULL, trust)
    selected = session.select(readonly=True)[1][0] or b"0"
    session.logout()
    return int(selected)


def _by_imap(dovecot: Dovecot, trust: ssl.SSLContext) -> list[bytes]:
    session = dovecot.imap(_READER, trust)
    count = int(session.select(readonly=True)[1][0] or b"0")
    fetched = [session.fetch(str(at + 1), "(BODY.PEEK[])") for at in range(count)]
    session.logout()
    return [data[0][1] for _, data in fetched if isinstance(data[0], tuple)]


def _by_pop3(dovecot: Dovecot, trust: ssl.SSLContext) -> list[bytes]:
    session = dovecot.pop3(_READER, trust)
    count = session.stat()[0]
    lines = [session.retr(at + 1)[1] for at in range(count)]
    session.quit()
    return [b"".join(line + b"\r\n" for line in one) for one in lines]
