"""A forecast for people: warnings about a schedule, a table, a plot in SVG."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from fwd_mta.config import Configuration
from fwd_mta.settings import schedule_of
from fwd_mta.simulation.forecast import Hour, Outcome

DAY = 86_400.0
_FEW_TRIES = 10
_MOST_ROWS = 30
_WIDTH, _HEIGHT, _LEFT, _TOP = 900, 120, 60, 50


def span(seconds: float) -> str:
    """A time for people."""
    for unit, length in (("d", DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def warnings(configuration: Configuration) -> Iterator[str]:
    """What is wrong with a schedule at sight."""
    queue = configuration.queue
    lifetime = queue.maximal_queue_lifetime
    times = schedule_of(configuration).times(lambda: 0.0)
    gaps = [b - a for a, b in pairwise(times)]
    if queue.maximal_backoff_time > lifetime:
        yield (
            f"queue.maximal_backoff_time ({span(queue.maximal_backoff_time)}) is above"
            f" queue.maximal_queue_lifetime ({span(lifetime)}): it never caps a wait"
        )
    if len(times) < _FEW_TRIES:
        longest = span(max(gaps, default=0.0))
        yield f"only {len(times)} tries in {span(lifetime)}, up to {longest} apart"
    if lifetime < DAY:
        yield f"mail is given up after {span(lifetime)}: a night's trouble loses it"
    if queue.delay_warning_time >= lifetime:
        yield "queue.delay_warning_time is not before the end: nobody hears of a delay"


_Figure = Callable[[Outcome], str]
_FIGURES: Sequence[tuple[str, _Figure]] = (
    ("messages accepted", lambda one: str(one.messages)),
    ("submissions given up by their clients", lambda one: str(one.refused)),
    ("recipients", lambda one: str(one.recipients)),
    ("delivered", lambda one: _share(one, "delivered")),
    ("  half of them within", lambda one: span(_rank(one.waits, 0.5))),
    ("  95 of 100 within", lambda one: span(_rank(one.waits, 0.95))),
    ("  worst wait", lambda one: span(_rank(one.waits, 1.0))),
    ("refused by the other side", lambda one: _share(one, "failed")),
    ("never delivered (given up)", lambda one: _share(one, "expired")),
    ("still waiting at the end", lambda one: str(one.left)),
    ("attempts", lambda one: str(one.attempts)),
    ("longest time without a try", lambda one: span(one.worst_gap)),
    ("failure notices", lambda one: str(one.notices["failed"])),
    ("delay notices", lambda one: str(one.notices["delayed"])),
    ("peak connections", lambda one: str(one.peak)),
    ("most recipients waiting", lambda one: str(_most(one.hours))),
)


def _share(outcome: Outcome, end: str) -> str:
    some, of = outcome.ended[end], outcome.recipients
    return f"{some} ({100 * some / of:.1f} %)" if of else str(some)


def _rank(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def _most(hours: Sequence[Hour]) -> int:
    return max((one.waiting for one in hours), default=0)


def table(outcome: Outcome, usual: Outcome | None) -> Iterator[str]:
    """The figures, beside those of the default schedule and limits; then by time."""
    head = f"{'':40}{'this configuration':>20}"
    yield head + (f"{'the defaults':>20}" if usual is not None else "")
    for name, figure in _FIGURES:
        other = f"{figure(usual):>20}" if usual is not None else ""
        yield f"{name:40}{figure(outcome):>20}{other}".rstrip()
    yield ""
    yield " from hour   submitted   delivered   failed   waiting  connections"
    yield from _by_time(outcome.hours)
    for words, count in outcome.troubles.most_common(5):
        yield f"trouble, {count} times: {words}"


def _by_time(hours: Sequence[Hour]) -> Iterator[str]:
    """Some hours a row, so that it fits a screen; nothing at the end is left out."""
    step = -(-len(hours) // _MOST_ROWS) or 1
    for start in range(0, len(hours), step):
        some = hours[start : start + step]
        yield (
            f"{start:10}{sum(one.submitted for one in some):12}"
            f"{sum(one.delivered for one in some):12}"
            f"{sum(one.failed for one in some):9}{_most(some):10}"
            f"{max(one.connections for one in some):13}"
        )


# The plot

_Series = tuple[str, str, Callable[[Hour], int]]
_PANELS: Sequence[tuple[str, Sequence[_Series]]] = (
    (
        "messages submitted, recipients delivered, by hour",
        (
            ("submitted", "#8aa", lambda one: one.submitted),
            ("delivered", "#276", lambda one: one.delivered),
        ),
    ),
    ("recipients waiting", (("waiting", "#c80", lambda one: one.waiting),)),
    (
        "connections, the most at a time",
        (("peak", "#36a", lambda one: one.connections),),
    ),
    ("failed or given up, by hour", (("failed", "#b22", lambda one: one.failed),)),
)


def svg(outcome: Outcome, title: str) -> str:
    """A plot that a browser opens and a pull request shows."""
    height = _TOP + len(_PANELS) * (_HEIGHT + 40)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 100} {height}"'
        ' font-family="sans-serif" font-size="12">'
    )
    words = f'<text x="{_LEFT}" y="24" font-size="16">{_escaped(title)}</text>'
    parts = [head, '<rect width="100%" height="100%" fill="#fff"/>', words]
    for number, (name, series) in enumerate(_PANELS):
        top = _TOP + number * (_HEIGHT + 40)
        parts += _panel(outcome.hours, name, series, top)
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    hours: Sequence[Hour], name: str, series: Sequence[_Series], top: int
) -> Iterator[str]:
    most = max((read(one) for _, _, read in series for one in hours), default=0) or 1
    bottom = top + _HEIGHT
    yield f'<text x="{_LEFT}" y="{top - 6}">{_escaped(name)}</text>'
    yield (
        f'<path d="M{_LEFT} {top}V{bottom}H{_LEFT + _WIDTH}" fill="none"'
        ' stroke="#999"/>'
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{most}</text>'
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0</text>'
    )
    for hour in range(0, len(hours) + 1, 24):
        x = _x(hour, len(hours))
        yield (
            f'<text x="{x}" y="{bottom + 15}" text-anchor="middle">'
            f"day {hour // 24}</text>"
        )
    for what, colour, read in series:
        points = " ".join(
            f"{_x(number, len(hours))},{bottom - read(one) / most * _HEIGHT:.1f}"
            for number, one in enumerate(hours)
        )
        yield (
            f'<polyline points="{points}" fill="none" stroke="{colour}"'
            f' stroke-width="1.5"><title>{what}</title></polyline>'
        )


def _x(hour: int, hours: int) -> str:
    return f"{_LEFT + hour / max(1, hours) * _WIDTH:.1f}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
