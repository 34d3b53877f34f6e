"""Tests for databases: SQLite for real, and how a query is written for PostgreSQL."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from typing_extensions import override

from fwd_mta.interfaces import Row
from fwd_mta.mail.errors import LookUpFailed
from fwd_mta.net.sql import (
    ROWS_LIMIT,
    BadDatabase,
    SqlRows,
    check_query,
    check_url,
    placed,
    try_once,
)

QUERY = "SELECT login, password FROM accounts WHERE login = :login"


class QueryTests(SynchronousTestCase):
    """Where values stand in a query."""

    def test_placed(self) -> None:
        """Only our own places; texts, names, comments and casts stay as they are."""
        for query, expected in (
            ("a = :login", "a = %(login)s"),
            (
                "a LIKE '%:login%' AND b = :domain",
                "a LIKE '%%:login%%' AND b = %(domain)s",
            ),
            ("a = ':login''' || :login", "a = ':login''' || %(login)s"),
            ('":login"::text = :login::text', '":login"::text = %(login)s::text'),
            ("1 -- :login\n= :login", "1 -- :login\n= %(login)s"),
            ("1 /* :login */ = :login", "1 /* :login */ = %(login)s"),
        ):
            self.assertEqual(placed(query, lambda name: f"%({name})s"), expected)

    def test_check_query(self) -> None:
        """A query that cannot tell one login from another is refused."""
        check_query(QUERY)
        check_query("SELECT 1 WHERE a = :login AND d = :domain")
        for query in ("SELECT 1", "SELECT ':login'", "SELECT :login, :password"):
            self.assertRaises(BadDatabase, check_query, query)

    def test_check_url(self) -> None:
        """SQLite and PostgreSQL, and no other."""
        check_url("sqlite:///var/lib/mail.db")
        for url in ("mysql://db/mail", "mail.db", "http://db/"):
            self.assertRaises(BadDatabase, check_url, url)


class SqliteTests(TestCase):
    """`SqlRows` on a file of SQLite."""

    @override
    def setUp(self) -> None:
        """A file with two rows."""
        self.path = Path(self.mktemp()).absolute()
        with sqlite3.connect(self.path) as made:
            made.execute("CREATE TABLE accounts (login, password)")
            made.execute("INSERT INTO accounts VALUES ('ann@example.com', 'one')")
            made.execute("INSERT INTO accounts VALUES ('x'' OR 1=1 --', 'two')")
        made.close()
        self.database = SqlRows(reactor, f"sqlite://{self.path}")
        self.addCleanup(self.database.close)

    async def rows(self, login: str, query: str = QUERY) -> list[Row]:
        """The rows of one login."""
        values: Mapping[str, str] = {"login": login, "domain": ""}
        return (await self.database.rows(query, [values]))[0]

    def test_rows(self) -> Deferred[None]:
        """Rows by the names of their columns; none for nobody."""

        async def walk() -> None:
            expected = [{"login": "ann@example.com", "password": "one"}]
            self.assertEqual(await self.rows("ann@example.com"), expected)
            self.assertEqual(await self.rows("bob@example.com"), [])

        return Deferred.fromCoroutine(walk())

    def test_injection(self) -> Deferred[None]:
        """A login that is SQL is a login like any other."""

        async def walk() -> None:
            for login, count in (("x' OR 1=1 --", 1), ("' OR ''='", 0), ("%", 0)):
                self.assertEqual(len(await self.rows(login)), count, login)
            with self.assertRaises(LookUpFailed):
                await self.rows(
                    "x", "SELECT nothing FROM accounts; DROP TABLE accounts"
                )
            self.assertEqual(len(await self.rows("ann@example.com")), 1)

        return Deferred.fromCoroutine(walk())

    def test_read_only(self) -> Deferred[None]:
        """A query that writes is not obeyed."""

        async def walk() -> None:
            with self.assertRaises(LookUpFailed):
                await self.rows("x", "DELETE FROM accounts WHERE login != :login")
            self.assertEqual(len(await self.rows("ann@example.com")), 1)

        return Deferred.fromCoroutine(walk())

    def test_rows_are_bounded(self) -> Deferred[None]:
        """A query that gives a whole table gives its first few rows."""
        many = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            " SELECT i, :login FROM n"
        )

        async def walk() -> None:
            rows = await self.rows("x", many)
            self.assertEqual(len(rows), ROWS_LIMIT)

        return Deferred.fromCoroutine(walk())

    def test_gone_and_back(self) -> Deferred[None]:
        """A file that is gone is "cannot say", and works again when it is back."""
        aside = self.path.with_suffix(".aside")

        async def walk() -> None:
            self.path.rename(aside)
            with self.assertRaises(LookUpFailed) as caught:
                await self.rows("ann@example.com")
            self.assertIn("OperationalError", str(caught.exception))
            aside.rename(self.path)
            self.assertEqual(len(await self.rows("ann@example.com")), 1)

        return Deferred.fromCoroutine(walk())

    def test_try_once(self) -> None:
        """What the check of a configuration does: open, ask for nobody, close."""
        try_once(f"sqlite://{self.path}", QUERY)
        self.assertRaises(
            sqlite3.OperationalError,
            try_once,
            f"sqlite://{self.path}",
            "SELECT :login FROM nowhere",
        )
