"""The results as a table: medians, ranges, ratios to Postfix, the goals beside them."""

from statistics import median

from benchmarks.cell import Figures

Results = dict[str, dict[str, list[Figures]]]

REFERENCE = "postfix-tuned"
# ratios of docs/performance.md: rates at least, CPU and latency at most
GOALS: dict[str, dict[str, float]] = {
    "s20,10k,d": {"relay": 3.0, "accept": 2.2, "cpu": 0.25},
    "s1,10k,d": {"relay": 1.3, "cpu": 0.45},
    "s20,10k,c": {"relay": 2.0, "cpu": 0.35},
    "s100,10k,d": {"relay": 3.5, "cpu": 0.20},
    "s4,1m,d": {"relay": 1.2, "cpu": 0.5},
    "s20,10k,d,tls": {"relay": 2.0, "cpu": 0.30},
    "s20,10k,c,tls": {"cpu": 0.55},
    "s20,10k,d,timed": {"p99": 1.0},
}
_COLUMNS = {
    "relay": "relayed/s",
    "accept": "accepted/s",
    "cpu": "CPU ms/message",
    "p50": "p50 ms",
    "p99": "p99 ms",
    "idle": "MiB, idle",
}
_RATIOS = ("relay", "accept", "cpu", "p99")


def plain(figures: Figures) -> str:
    """One cell's figures on a line."""
    words = [f"{name}={value:.2f}" for name, value in figures.values.items()]
    return " ".join([*words, figures.error])


def ratio(by_peer: dict[str, list[Figures]], peer: str, name: str) -> float | None:
    """The median over the rounds of a peer's figure to Postfix's, if both have it."""
    found = ratios(by_peer, peer, name)
    return median(found) if found else None


def ratios(by_peer: dict[str, list[Figures]], peer: str, name: str) -> list[float]:
    """A peer's figure to Postfix's, round by round."""
    pairs = zip(by_peer.get(peer, ()), by_peer.get(REFERENCE, ()), strict=False)
    return [
        ours.values[name] / theirs.values[name]
        for ours, theirs in pairs
        if name in ours.values and theirs.values.get(name)
    ]


def written(results: Results) -> str:
    """All of it, in Markdown."""
    heads = ["scenario", "peer", *_COLUMNS.values()]
    heads += [f"{name} x" for name in _RATIOS]
    rows = [heads, ["---"] * len(heads)]
    for text, by_peer in results.items():
        rows += [[text, peer, *_cells(text, by_peer, peer)] for peer in by_peer]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(text: str, by_peer: dict[str, list[Figures]], peer: str) -> list[str]:
    cells = []
    for name in _COLUMNS:
        values = [one.values[name] for one in by_peer[peer] if name in one.values]
        cells.append(_range(values))
    for name in _RATIOS:
        found = ratios(by_peer, peer, name) if peer != REFERENCE else []
        goal = GOALS.get(text, {}).get(name)
        wanted = f", goal {goal:g}" if goal and found else ""
        cells.append(_range(found) + wanted)
    return cells


def _range(values: list[float]) -> str:
    """Median and range, as exact as such figures are."""
    if not values:
        return ""
    digits = 0 if median(values) >= 20 else 2
    low, high = (f"{each:.{digits}f}" for each in (min(values), max(values)))
    middle = f"{median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} [{low}..{high}]"
