"""Events counted for Prometheus, and figures that are read when somebody asks.

`Metrics` takes every event, as a log does, and keeps counters of its own registry. What
is not an event (how many wait, how many are in work) is read by a function when the
page is written. No label ever holds an address, an account or a host: their number has
no bound, and figures are no place for them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector

from fwd_mta.events import (
    Accepted,
    Attempted,
    Emit,
    Event,
    Finished,
    Notified,
    Receipt,
    Refused,
    Repeated,
    Trouble,
)

_SECONDS = (1, 5, 30, 60, 300, 900, 3600, 14_400, 86_400, 432_000)
_OCTETS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000)


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure that is read when it is asked for; None is written as NaN."""

    name: str
    says: str
    read: Callable[[], float | None]
    label: str = ""
    value: str = ""


class Metrics:
    """Counts events; `text` writes the page. One for each server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}
        self._make_counters()
        self._takes: Mapping[type, Callable[..., None]] = {
            Accepted: self._accepted,
            Refused: self._refused,
            Repeated: lambda _: self.repeated.inc(),
            Attempted: self._attempted,
            Notified: self._notified,
            Finished: self._finished,
            Receipt: self._swept,
            Trouble: self._trouble,
        }
        # Memory, CPU and descriptors of the process, where /proc tells them.
        ProcessCollector(registry=self.registry)

    def _make_counters(self) -> None:
        self.accepted = self._counter("accepted_messages", "Messages answered 250")
        self.recipients = self._counter("accepted_recipients", "Their recipients")
        self.sizes = Histogram(
            "fwdmta_message_size_bytes",
            "Sizes of accepted messages",
            buckets=_OCTETS,
            registry=self.registry,
        )
        self.repeated = self._counter(
            "repeated_messages",
            "Messages submitted again, answered with the first's id",
        )
        self.refused = self._counter("refused", "Refusals to clients", "where", "code")
        self.tls_mistakes = self._counter(
            "tls_mistakes", "Clients whose TLS did not come to be", "mistake"
        )
        self.attempts = self._counter(
            "attempted_recipients",
            "Results of delivery attempts, one a recipient; category empty: delivered",
            "state",
            "category",
        )
        self.doubts = self._counter("in_doubt", "Final dots without a reply")
        self.duplicates = self._counter(
            "possible_duplicates", "Tries of a recipient who may have it already"
        )
        self.notices = self._counter("notices", "Notices to senders", "kind")
        self.finished = self._counter("finished_messages", "Messages over", "status")
        self.seconds = Histogram(
            "fwdmta_finished_seconds",
            "From acceptance to the end of a message",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.redacted = self._counter("redacted_messages", "Contents redacted")
        self.purged = self._counter("purged_messages", "Records removed")
        self.trouble = self._counter("trouble", "Troubles of our own", "where")

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"fwdmta_{name}", says, labels, registry=self.registry)

    def show(self, *readings: Reading) -> None:
        """Add figures that are read whenever the page is written."""
        for one in readings:
            labels = (one.label,) if one.label else ()
            gauge = self._gauges.get(one.name)
            if gauge is None:
                name = f"fwdmta_{one.name}"
                gauge = Gauge(name, one.says, labels, registry=self.registry)
                self._gauges[one.name] = gauge
            child = gauge.labels(one.value) if one.label else gauge
            child.set_function(_number(one.read))

    def text(self) -> bytes:
        """The page, in the text format of Prometheus."""
        return generate_latest(self.registry)

    def beside(self, emit: Emit) -> Emit:
        """Count each event, and hand it on."""

        def both(event: Event) -> None:
            self(event)
            emit(event)

        return both

    def __call__(self, event: Event) -> None:
        """Count one event."""
        take = self._takes.get(type(event))
        if take is not None:
            take(event)

    def _accepted(self, event: Accepted) -> None:
        self.accepted.inc()
        self.recipients.inc(event.recipients)
        self.sizes.observe(event.size)

    def _refused(self, event: Refused) -> None:
        where, _, mistake = event.where.partition(" ")
        if where == "TLS":
            self.tls_mistakes.labels(mistake or "other").inc()
        else:
            self.refused.labels(_word(event.where), event.reply[:3]).inc()

    def _attempted(self, event: Attempted) -> None:
        self.attempts.labels(event.state, event.category).inc()
        if event.in_doubt:
            self.doubts.inc()
        if event.possible_duplicate:
            self.duplicates.inc()

    def _notified(self, event: Notified) -> None:
        self.notices.labels(event.kind).inc()

    def _finished(self, event: Finished) -> None:
        self.finished.labels(event.status).inc()
        self.seconds.observe(event.seconds)

    def _swept(self, event: Receipt) -> None:
        self.redacted.inc(event.redacted)
        self.purged.inc(event.purged)

    def _trouble(self, event: Trouble) -> None:
        self.trouble.labels(_word(event.where)).inc()


def _word(text: str) -> str:
    """The first word, if it is one: "message 3F..." is a message, a path is none."""
    word = text.partition(" ")[0].lower()
    return word if word.isalpha() and len(word) <= _LONGEST_WORD else "other"


_LONGEST_WORD = 20


def _number(read: Callable[[], float | None]) -> Callable[[], float]:
    def number() -> float:
        value = read()
        return float("nan") if value is None else value

    return number
