"""SQL databases through Twisted's adbapi: SQLite and PostgreSQL.

A query is the operator's, its values are the client's: they are handed to the driver
apart from it. What goes wrong ends the connection; the next query makes a new one.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred
from typing_extensions import override

from fwd_mta.interfaces import AccountRows, Row
from fwd_mta.mail.errors import LookUpFailed

CONNECTIONS = 5
CONNECT_TIMEOUT = 5
QUERY_TIMEOUT = 5
TIMEOUT = 15.0  # for all of it: waiting for a connection, and trying twice
ROWS_LIMIT = 16

_POSTGRESQL = frozenset({"postgresql", "postgres"})
# a text, a name, a comment or a cast in which a colon begins no value of ours
_PLACES = re.compile(
    r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|::|:([A-Za-z_]\w*)", re.DOTALL
)


class BadDatabase(ValueError):
    """A url or a query that cannot be used; `str()` says why."""


class _Connection(adbapi.Connection):
    """A connection that is not used again once anything has failed on it."""

    @override
    def rollback(self) -> None:
        """Hang up instead: the state of it is not known."""
        self._pool.disconnect(self._connection)


class _Pool(adbapi.ConnectionPool):
    connectionFactory = _Connection  # noqa: N815 - Twisted's name


class SqlRows(AccountRows):
    """One database; raises BadDatabase for a url of another kind."""

    def __init__(self, reactor: Any, url: str) -> None:
        self._reactor = reactor
        self._is_postgresql = _scheme(url) in _POSTGRESQL
        driver, words, options = _driver(url)
        self._pool = _Pool(
            driver,
            *words,
            cp_reactor=reactor,
            cp_min=0,
            cp_max=CONNECTIONS,
            cp_noisy=False,
            **options,
        )

    @override
    async def rows(
        self, query: str, values: Sequence[Mapping[str, str]]
    ) -> list[list[Row]]:
        """Run a query once with each set of values; raises LookUpFailed."""
        text = placed(query, _pyformat) if self._is_postgresql else query
        try:
            return await self._run(text, values)
        except TimeoutError as error:
            raise LookUpFailed("The database of accounts does not answer") from error
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            what = f"The database of accounts: {type(error).__name__}: {said}"
            raise LookUpFailed(what) from error

    def _run(
        self, text: str, values: Sequence[Mapping[str, str]]
    ) -> Deferred[list[list[Row]]]:
        """Once, and once more on a new connection: the old one may have been dead."""

        def asked() -> Deferred[list[list[Row]]]:
            running: Deferred[list[list[Row]]] = self._pool.runInteraction(
                _ask, text, values
            )
            return running

        return asked().addErrback(lambda _: asked()).addTimeout(TIMEOUT, self._reactor)

    @override
    def close(self) -> None:
        """Let the connections go, without waiting for a database that hangs."""
        pool = self._pool
        for trigger in filter(None, (pool.shutdownID, pool.startID)):
            self._reactor.removeSystemEventTrigger(trigger)
        pool.shutdownID = pool.startID = None
        if pool.running:
            self._reactor.callInThread(pool.finalClose)


def check_query(query: str) -> None:
    """Raise BadDatabase for a query whose values are not ours to give."""
    names = {found[1] for found in _PLACES.finditer(query) if found[1]}
    if "login" not in names:
        raise BadDatabase("the query does not ask for :login")
    if unknown := names - {"login", "domain"}:
        raise BadDatabase(f"there is no :{min(unknown)}; there are :login and :domain")


def check_url(url: str) -> None:
    """Raise BadDatabase for a url that we cannot open."""
    _ = _driver(url)


def try_once(url: str, query: str) -> None:
    """Open a database and run a query for nobody; blocks, raises what goes wrong."""
    driver, words, options = _driver(url)
    opened = options.pop("cp_openfun")
    text = placed(query, _pyformat) if _scheme(url) in _POSTGRESQL else query
    connection = import_module(driver).connect(*words, **options)
    try:
        opened(connection)
        _ = _ask(connection.cursor(), text, [{"login": "nobody@invalid", "domain": ""}])
    finally:
        connection.close()


def placed(query: str, write: Callable[[str], str]) -> str:
    """Write the places of values as a driver wants them, and no other colon."""
    return "".join(
        write(name) if name else text.replace("%", "%%") for text, name in _parts(query)
    )


def _parts(query: str) -> Iterator[tuple[str, str]]:
    end = 0
    for found in _PLACES.finditer(query):
        yield query[end : found.start()], ""
        yield found[0], found[1] or ""
        end = found.end()
    yield query[end:], ""


def _pyformat(name: str) -> str:
    return f"%({name})s"


def _ask(
    cursor: Any, text: str, values: Sequence[Mapping[str, str]]
) -> list[list[Row]]:
    answers: list[list[Row]] = []
    for one in values:
        cursor.execute(text, one)
        names = [column[0] for column in cursor.description or ()]
        rows = cursor.fetchmany(ROWS_LIMIT) if names else []
        answers.append([dict(zip(names, row, strict=True)) for row in rows])
    return answers


def _scheme(url: str) -> str:
    return urlsplit(url).scheme


def _driver(url: str) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """The driver of a url, and what it is called with; raises BadDatabase."""
    options: dict[str, Any]
    if _scheme(url) == "sqlite":
        path = unquote(urlsplit(url).path)
        options = {"uri": True, "check_same_thread": False, "timeout": QUERY_TIMEOUT}
        words = (f"file:{quote(path)}?mode=ro",)
        return "sqlite3", words, {**options, "cp_openfun": _as_it_is}
    if _scheme(url) not in _POSTGRESQL:
        raise BadDatabase("begin it with sqlite:// or postgresql://")
    if find_spec("psycopg") is None:
        raise BadDatabase("PostgreSQL needs psycopg: pip install 'fwd_mta[postgresql]'")
    options = {
        "connect_timeout": CONNECT_TIMEOUT,
        "tcp_user_timeout": QUERY_TIMEOUT * 1000,
        "keepalives_idle": 30,
        "prepare_threshold": None,  # so that pgbouncer may stand between
    }
    return "psycopg", (url,), {**options, "cp_openfun": _hurry}


def _as_it_is(connection: Any) -> None:
    pass


def _hurry(connection: Any) -> None:
    """Have PostgreSQL give up by itself what takes too long."""
    connection.execute(f"SET statement_timeout = {QUERY_TIMEOUT * 1000}")
    connection.commit()
