"""One host, visited: a connection to it, and transactions while it has news."""

from fwd_mta.mail.entry import Stage
from fwd_mta.mail.envelope import Recipient
from fwd_mta.mail.route import Destination, Host, TlsMode
from fwd_mta.net.tls import ClientTls
from fwd_mta.outbound.connection import Connection, Trouble
from fwd_mta.outbound.findings import Findings
from fwd_mta.outbound.means import Means
from fwd_mta.outbound.opening import NotOpened, Opening, Terms
from fwd_mta.outbound.pool import Line
from fwd_mta.outbound.transaction import (
    RECIPIENT_LIMIT,
    Heard,
    Letter,
    Transaction,
    lacking,
)
from fwd_mta.outbound.witness import Witness
from fwd_mta.rules import security
from fwd_mta.rules.security import Course, Demand

# What a host does that cannot do TLS, however it goes about it. Speaking out of turn
# is not among these: that may be somebody in between.
_NO_TLS = frozenset({"tls-failed", "connection-lost", "timeout"})


class Visit:
    """A letter at one host of its destination.

    `in_clear_at_last`: it refused TLS, and may be asked again in clear after all the
    others. `went_well`: over such a connection.
    """

    def __init__(
        self,
        means: Means,
        findings: Findings,
        destination: Destination,
        letter: Letter,
        shunned: frozenset[str],
        host: Host,
        demand: Demand,
        witness: Witness | None = None,
    ) -> None:
        self.in_clear_at_last = False
        self.went_well: Line | None = None
        self._means = means
        self._findings = findings
        self._destination = destination
        self._letter = letter
        self._shunned = shunned
        self._host = host
        self._name = str(host)
        self._demand = demand
        self._witness = witness
        self._here: list[Recipient] = []

    async def run(self, *, in_clear: bool = False) -> None:
        """Stay with the host while it has news for somebody; a second time in clear."""
        self._here = self._findings.open()
        while self._here:
            line = self._line(in_clear=in_clear)
            self._findings.source = line.source
            lease = await self._means.pool.take(line)
            connection, keep = lease.connection, False
            reused = connection is not None
            try:
                if connection is None:
                    connection = await self._means.connect(self._host, line)
                    await self._open_session(connection, line)
                await self._transactions(connection, reused=reused)
                keep = True
                self.went_well = line if connection.usable else None
            except NotOpened as why:
                in_clear = self._not_opened(why, in_clear=in_clear)
            finally:
                self._means.pool.give_back(lease, connection, keep=keep)

    # The connection

    def _line(self, *, in_clear: bool) -> Line:
        destination = self._destination
        return Line(
            self._host,
            self._means.source(self._host.address, self._shunned),
            self._demand.level,
            destination.tls_mode,
            in_clear,
            self._letter.lmtp,
            destination.login,
            self._demand,
        )

    async def _open_session(self, connection: Connection, line: Line) -> None:
        terms = Terms(
            line.tls,
            line.tls_mode,
            line.in_clear,
            line.lmtp,
            line.login,
            self._destination.password,
        )
        trust, demand = self._means.trust, line.demand
        if demand.records:
            now = self._means.wall.now()
            creator: ClientTls = trust.proved_by(demand.records, demand.names, now)
        else:
            creator = trust.towards(self._host.name)
        # Asked now: a socket that is closed has no address any more.
        ours = connection.transport.getHost() if self._witness else None
        try:
            await Opening(connection, terms, creator).run()
        except NotOpened as why:
            self._tell(connection, line, ours, why)
            raise
        self._tell(connection, line, ours, None)

    def _tell(
        self, connection: Connection, line: Line, ours: object, why: NotOpened | None
    ) -> None:
        """Have it counted for reports, once though it may be tried again in clear."""
        if self._witness is not None and not line.in_clear:
            source = str(getattr(ours, "host", ""))
            self._witness.saw(connection, self._host, source, why)

    def _not_opened(self, why: NotOpened, *, in_clear: bool) -> bool:
        """Note that the host cannot be used; whether to come again, in clear."""
        said = why.reply or (why.trouble and why.trouble.detail) or ""
        self._findings.note(f"{self._name}: {why.stage.value}: {said}")
        if self._letter.requires_tls and why.trouble and not self._demand.why:
            why = _without_promise(why, why.trouble)
        failed = why.stage is Stage.STARTTLS and (
            why.trouble is not None and why.trouble.kind in _NO_TLS
        )
        if failed and not in_clear and self._may_come_in_clear():
            return True
        if why.stage is Stage.STARTTLS and why.reply is not None:
            permanent = why.reply.is_permanent
            course = security.refused(self._demand.level, permanent=permanent)
            self.in_clear_at_last = course is Course.IN_CLEAR
        heard = Heard(why.stage, why.reply, why.trouble)
        self._findings.hope(self._here, heard, self._name)
        self._here = []
        return in_clear

    def _may_come_in_clear(self) -> bool:
        starttls = self._destination.tls_mode is TlsMode.STARTTLS
        return starttls and security.failed(self._demand.level) is Course.IN_CLEAR

    # Transactions

    async def _transactions(self, connection: Connection, *, reused: bool) -> None:
        while self._here:
            batch = self._batch(connection)
            if not batch:
                return
            transaction = Transaction(connection, self._letter)
            await transaction.run(batch)
            if transaction.stale and reused:
                return  # it had grown old in the pool; come again with a new one
            reused = False
            self._take_in(transaction, connection)
            if not connection.usable:
                return

    def _batch(self, connection: Connection) -> list[Recipient]:
        """The next recipients; those the host cannot serve wait for another host."""
        offered, findings = connection.offered, self._findings
        able: list[Recipient] = []
        for each in self._here:
            lack = lacking(self._letter, each, offered)
            if lack is None:
                able.append(each)
            else:
                heard = Heard(Stage.MAIL, None, lack)
                if lack.kind == "8bit":
                    findings.lack_8bit.add(each)
                findings.hope([each], heard, self._name, self._tls(connection))
        if len(able) < len(self._here):
            findings.note(
                f"{self._name}: lacks what {len(self._here) - len(able)} need"
            )
        self._here = able
        return able[: min(RECIPIENT_LIMIT, offered.rcpt_max or RECIPIENT_LIMIT)]

    def _take_in(self, transaction: Transaction, connection: Connection) -> None:
        dsn = connection.offered.offers("DSN")
        tls = self._tls(connection)
        self._findings.take_in(transaction, self._name, tls, dsn=dsn)
        self._here = [each for each in self._here if each not in transaction.heard]

    def _tls(self, connection: Connection) -> str | None:
        return connection.tls_in_words(self._demand.why)


def _without_promise(why: NotOpened, trouble: Trouble) -> NotOpened:
    """A host without STARTTLS cannot promise TLS all the way (RFC 8689 4.2.1).

    Unless its domain says that it has TLS: then somebody is in between.
    """
    if trouble.kind != "tls-required":
        return why
    return NotOpened(why.stage, None, Trouble("requiretls", trouble.detail))
