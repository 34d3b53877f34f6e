"""Events as figures for Prometheus."""

from twisted.trial.unittest import SynchronousTestCase
from typing_extensions import override

from fwd_mta.events import (
    Accepted,
    Attempted,
    Event,
    Finished,
    Lifecycle,
    Notified,
    Receipt,
    Refused,
    Repeated,
    Trouble,
)
from fwd_mta.net.metrics import Metrics, Reading

SECRETIVE = "ann@example.com"


def attempted(state: str, category: str, **fields: bool) -> Attempted:
    """One recipient's result."""
    doubt, twice = fields.get("doubt", False), fields.get("twice", False)
    return Attempted(
        "3F", SECRETIVE, "mx.example.net[192.0.2.7]", "", state, "", category, "", 0.0,
        doubt, twice,
    )  # fmt: skip


EVENTS: list[Event] = [
    Accepted("3F", SECRETIVE, "192.0.2.1", SECRETIVE, 3, 12_345),
    Refused("192.0.2.1", SECRETIVE, "RCPT", "550 5.1.1 no such user"),
    Refused("192.0.2.1", "", "RCPT", "550 5.7.1 no"),
    Refused("192.0.2.1", "", "\x1b[31m injected", "421 4.7.0 no"),
    Refused("192.0.2.1", "", "TLS clear-text", "clear text on a port that"),
    Refused("192.0.2.1", "", "TLS too-old", "the client's TLS is too old"),
    Repeated("3F", SECRETIVE, "192.0.2.1"),
    attempted("delivered", ""),
    attempted("deferred", "greylist"),
    attempted("deferred", "network", doubt=True),
    attempted("delivered", "", twice=True),
    Notified("3F", "3F-1", "failed"),
    Finished("3F", "sent", 42.0),
    Receipt(7, 2, "abcd"),
    Trouble("message 3F1234", "odd"),
    Trouble("/var/lib/fwdmta/queue/incoming/3F", "odd"),
    Lifecycle("started"),
]


class MetricsTests(SynchronousTestCase):
    """`Metrics`."""

    @override
    def setUp(self) -> None:
        """Count one event of each kind, and some twice."""
        self.metrics = Metrics()
        self.heard: list[Event] = []
        emit = self.metrics.beside(self.heard.append)
        for event in EVENTS:
            emit(event)

    def value(self, name: str, **labels: str) -> float | None:
        """A figure of the registry."""
        return self.metrics.registry.get_sample_value(f"fwdmta_{name}", labels)

    def test_counts(self) -> None:
        """Each event is counted under what an operator asks for."""
        for expected, name, labels in (
            (1, "accepted_messages_total", {}),
            (3, "accepted_recipients_total", {}),
            (12_345, "message_size_bytes_sum", {}),
            (2, "refused_total", {"where": "rcpt", "code": "550"}),
            (1, "tls_mistakes_total", {"mistake": "clear-text"}),
            (1, "tls_mistakes_total", {"mistake": "too-old"}),
            (1, "repeated_messages_total", {}),
            (2, "attempted_recipients_total", {"state": "delivered", "category": ""}),
            (
                1,
                "attempted_recipients_total",
                {"state": "deferred", "category": "greylist"},
            ),
            (1, "in_doubt_total", {}),
            (1, "possible_duplicates_total", {}),
            (1, "notices_total", {"kind": "failed"}),
            (1, "finished_messages_total", {"status": "sent"}),
            (1, "finished_seconds_bucket", {"le": "60.0"}),
            (0, "finished_seconds_bucket", {"le": "30.0"}),
            (7, "redacted_messages_total", {}),
            (2, "purged_messages_total", {}),
            (1, "trouble_total", {"where": "message"}),
            (1, "trouble_total", {"where": "other"}),
        ):
            self.assertEqual(self.value(name, **labels), expected, name)

    def test_hands_on(self) -> None:
        """What is counted is logged too."""
        self.assertEqual(self.heard, EVENTS)

    def test_no_label_is_of_the_wire(self) -> None:
        """No address, host or odd word becomes a label: there is no end of them."""
        text = self.metrics.text().decode()
        for word in (SECRETIVE, "192.0.2", "mx.example.net", "injected", "3F", "\x1b"):
            self.assertNotIn(word, text)
        self.assertEqual(self.value("refused_total", where="other", code="421"), 1)

    def test_reads_when_asked(self) -> None:
        """A reading is as it is when the page is written; unknown is NaN."""
        level: list[float | None] = [3.0]
        self.metrics.show(
            Reading("level", "A level", lambda: level[0]),
            Reading("parts", "Parts", lambda: 1.0, "part", "a"),
            Reading("parts", "Parts", lambda: 2.0, "part", "b"),
        )
        self.assertEqual(self.value("level"), 3.0)
        self.assertEqual(self.value("parts", part="b"), 2.0)
        level[0] = None
        self.assertIn(b"fwdmta_level NaN", self.metrics.text())
