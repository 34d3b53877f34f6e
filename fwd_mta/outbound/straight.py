"""The straight way: mail for where mail just went, sent by plain calls.

A trip that ended well at the first host it tried leaves a `Way`. While that is fresh
and a connection is at hand, an `Errand` sends a delivery over it without asking anybody
anything again. Whatever does not go as it should, it leaves to a trip.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fwd_mta.interfaces import Delivery
from fwd_mta.mail.entry import Attempt, DeliveryResult, Stage
from fwd_mta.mail.envelope import Notify, Recipient
from fwd_mta.mail.route import Destination
from fwd_mta.outbound.connection import Connection
from fwd_mta.outbound.findings import LONGEST_LINE, shortened
from fwd_mta.outbound.means import AgentSettings, Means
from fwd_mta.outbound.pool import Line
from fwd_mta.outbound.transaction import PIECE, RECIPIENT_LIMIT, Letter, Transaction

_WAYS_KEPT = 10_000
_FRESH_FOR = 60.0


@dataclass(frozen=True, slots=True)
class Way:
    """Where the last message went: over such a connection, to a host of that name."""

    line: Line
    host: str
    until: float
    settings: AgentSettings


class Ways:
    """The ways that are known, by destination."""

    def __init__(self) -> None:
        self._ways: dict[Destination, Way] = {}

    def note(self, destination: Destination, line: Line, means: Means) -> None:
        """Remember where a message went."""
        if len(self._ways) >= _WAYS_KEPT:
            self._ways.clear()
        until = means.clock.seconds() + _FRESH_FOR
        self._ways[destination] = Way(line, str(line.host), until, means.settings)

    def find(self, destination: Destination, means: Means) -> Way | None:
        """The way of the last message, while it is fresh and nothing was changed."""
        way = self._ways.get(destination)
        if way is None or way.settings is not means.settings:
            return None
        return way if means.clock.seconds() < way.until else None


class Errand:
    """One delivery on a known way.

    `begun_at`, `line`, `connection` and `transaction` tell how it went; `unhappy` is
    called with what went wrong, where that was more than a result.
    """

    line: Line
    connection: Connection
    transaction: Transaction
    begun_at: float

    def __init__(
        self,
        means: Means,
        delivery: Delivery,
        way: Way,
        done: Callable[[Attempt], None],
        unhappy: Callable[["Errand", BaseException | None], None],
    ) -> None:
        self.delivery = delivery
        self.done = done
        self._means = means
        self._way = way
        self._unhappy = unhappy
        self._recipients = delivery.envelope.recipients

    def begin(self) -> bool:
        """Begin, if nothing speaks against it; `done` hears what it came to."""
        means, delivery = self._means, self.delivery
        line = self._way.line
        if means.settings.source_addresses:
            source = means.source(line.host.address, delivery.shunned)
            if source != line.source:
                line = replace(line, source=source)
        connection = means.pool.ready(line)
        if connection is None or not _fits(delivery, connection):
            return False
        self.line, self.connection = line, connection
        self._lease = means.pool.take_ready(line)
        self.begun_at = means.wall.now()
        letter = Letter(delivery.envelope, delivery.message, delivery.before_dot)
        self.transaction = Transaction(connection, letter)
        self.transaction.begin(self._recipients, self._call_next, self._ended)
        return True

    def _call_next(self) -> None:
        """Let the next delivery use this connection, before our last dot leaves."""
        self._means.pool.offer(self._lease, self.delivery.follow)

    def _ended(self, why: BaseException | None) -> None:
        is_clean, pool = self.transaction.is_clean, self._means.pool
        if self.transaction.was_broken and self._lease.follower is not None:
            # Perhaps this host cannot be spoken to in such a way.
            pool.one_at_a_time(self.line)
        pool.give_back(self._lease, self.connection, keep=why is None)
        if is_clean:
            self.done(self._clean())
        else:
            self._unhappy(self, why)

    def _clean(self) -> Attempt:
        """What it came to when all went well."""
        connection, host = self.connection, self._way.host
        tls = connection.tls_in_words("")
        dsn = "DSN" in connection.offered.names
        heard = self.transaction.heard
        results = tuple(
            DeliveryResult(
                each,
                Stage.DOT,
                shortened(heard[each].reply),
                None,
                host,
                tls,
                relayed=not dsn and each.notify is not None and _is_told(each),
                source=self.line.source,
            )
            for each in self._recipients
        )
        people = f"{len(results)} recipient{'s' if len(results) > 1 else ''}"
        said = f"{host} ({tls or 'in clear'}): dot: {results[0].reply} ({people})"
        ended = self._means.wall.now()
        return Attempt(self.begun_at, ended, results, (said[:LONGEST_LINE],))


def _is_told(recipient: Recipient) -> bool:
    return recipient.wants(Notify.SUCCESS)


def _fits(delivery: Delivery, connection: Connection) -> bool:
    """Whether a delivery needs nothing special, and the host offers what it needs."""
    envelope, message, offered = (
        delivery.envelope,
        delivery.message,
        connection.offered,
    )
    body, recipients = message.body, envelope.recipients
    most = min(RECIPIENT_LIMIT, offered.rcpt_max or RECIPIENT_LIMIT)
    return (
        "PIPELINING" in offered.names
        and not connection.needs_reset
        and isinstance(body, bytes)
        and not envelope.require_tls
        and envelope.hold_until is None  # it is signed on a trip
        and len(body) + len(message.head) < min(PIECE, offered.size or PIECE)
        and message.head.isascii()
        and (body.isascii() or "8BITMIME" in offered.names)
        and (envelope.reverse_path is None or envelope.reverse_path.is_ascii)
        and all(each.mailbox.is_ascii for each in recipients)
        and (len(recipients) == 1 or _are_different(recipients, most))
    )


def _are_different(recipients: tuple[Recipient, ...], most: int) -> bool:
    return len(recipients) <= most and len(set(recipients)) == len(recipients)
