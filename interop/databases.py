"""A scenario with a real PostgreSQL in which the accounts are."""

import os
import pwd
import shutil
import smtplib
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from interop.kit import Workbench, expect, expect_in, free_port
from interop.server import Server

_LOGIN = "ann@sql.example"
_QUERY = (
    "SELECT password, send_as, smtp FROM accounts"
    " WHERE login = :login AND domain = :domain::text"
)
_TABLE = """
CREATE TABLE accounts (login text, domain text, password text, send_as text[],
                       smtp boolean DEFAULT true);
INSERT INTO accounts VALUES
  ('ann@sql.example', 'sql.example', '{first}',
   ARRAY['ann@sql.example', '*@b.example'], true),
  ('off@sql.example', 'sql.example', '{first}', NULL, false),
  ('*@wide.example', 'wide.example', '{first}', NULL, true);
"""


class PostgreSQL:
    """A PostgreSQL in a folder of its own; started on entering."""

    def __init__(self, bench: Workbench) -> None:
        self.folder = bench.folder / "postgresql"
        self.folder.mkdir()
        self.port = free_port()
        self._programs = max(Path("/usr/lib/postgresql").glob("*/bin"))

    def __enter__(self) -> Self:
        """Make a cluster and start it."""
        shutil.chown(self.folder, "postgres", "postgres")
        self._run("initdb", "-A", "trust", "-D", f"{self.folder}/data", "--no-sync")
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

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        log = f"{self.folder}/postgresql.log"
        self._pg_ctl("-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """End it at once."""
        self._pg_ctl("-w", "-m", "immediate", "stop")

    def obey(self, text: str) -> None:
        """Run SQL."""
        self._run(
            "psql", "-q", "-h", str(self.folder), "-p", str(self.port), typed=text
        )

    def _pg_ctl(self, *words: str) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", *words)

    def _run(self, program: str, *words: str, typed: str = "") -> None:
        owner = pwd.getpwnam("postgres")
        with (self.folder / "commands.log").open("ab") as log:
            subprocess.run(
                [self._programs / program, *words],
                cwd=self.folder,
                input=typed.encode(),
                stdout=log,
                stderr=subprocess.STDOUT,
                user=owner.pw_uid if os.geteuid() == 0 else None,
                group=owner.pw_gid if os.geteuid() == 0 else None,
                extra_groups=[] if os.geteuid() == 0 else None,
                timeout=60,
                check=program != "pg_ctl" or "stop" not in words,
            )


def accounts(bench: Workbench) -> None:
    """Logins from PostgreSQL: a change holds at once; gone: 454; back: it resumes."""
    database = bench.keep(PostgreSQL(bench))
    database.obey(_TABLE.format(first=_hashed("first")))
    server = Server(bench, {})
    sql = f"[accounts.sql]\nurl = '{database.url}'\npassword_query = '''{_QUERY}'''\n"
    server.configure(server.usual({}) + sql)
    bench.keep(server)
    _logins(server)
    database.obey(f"UPDATE accounts SET password = '{_hashed('second')}';")
    expect(not _error(server, _LOGIN, "second"), "the new password is refused")
    expect_in("535", _error(server, _LOGIN, "first"), "the old password")
    database.stop()
    expect_in("454", _error(server, _LOGIN, "second"), "while the database is gone")
    expect_in("454", _error(server, "you@no.example", "x"), "an unknown login then")
    expect_in("The database of accounts", server.logged(), "the log")
    database.start()
    expect(not _error(server, _LOGIN, "second"), "it does not resume")


def _logins(server: Server) -> None:
    """Who gets in, what the columns say, and that no login is ever SQL."""
    expect(not _error(server, _LOGIN, "first"), "the right password is refused")
    expect(not _error(server, "eva@wide.example", "first"), "domain-wide is refused")
    expect_in("525", _error(server, "off@sql.example", "first"), "switched off")
    wrong = _error(server, _LOGIN, "wrong")
    expect(wrong.startswith("535"), f"a wrong password: {wrong}")
    for login in ("bob@sql.example", "' OR true --@sql.example", "%@sql.example"):
        said = _error(server, login, "first")
        expect(said == wrong, f"{login}: {said}, a wrong password: {wrong}")
    with server.connect() as session:
        session.login(_LOGIN, "first")
        for sender, code in (("any@b.example", 250), ("bob@sql.example", 553)):
            said_to = session.mail(sender)
            expect(said_to[0] == code, f"MAIL FROM {sender}: {said_to}")
            session.rset()


def _error(server: Server, login: str, password: str) -> str:
    """What a login is refused with, or nothing."""
    with server.connect() as session:
        try:
            session.login(login, password)
        except smtplib.SMTPAuthenticationError as error:
            return f"{error.smtp_code} {error.smtp_error!r}"
    return ""


def _hashed(password: str) -> str:
    """The argon2id hash, made by the package itself."""
    code = "import sys; from fwd_mta.inbound.passwords import argon2id_hash;"
    code += " print(argon2id_hash(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, password],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
