"""What VictoriaMetrics means by the functions that it computes otherwise than Prometheus.

Its `rate` and `increase` are the difference of two samples, the first of which is the last before
the window if there is one; Prometheus extrapolates to the bounds of the window. Of the same
samples the two make different numbers: see docs/fleet.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tests.stores.answers import Labels

Samples = Mapping[Labels, Mapping[int, float]]
Read = Callable[[str], Samples]

_CALL = re.compile(
    r"(?P<sum>\w+)\((?:(?P<number>[\d.]+), )?"
    r"(?P<function>rate|increase)\((?P<selector>\w+\{[^}]*\})\[(?P<window>\w+)\]\)\)"
)


def is_otherwise(expression: str) -> bool:
    """Whether the answers differ."""
    return bool(re.search(r"\b(rate|increase)\(", expression))


def value(expression: str, read: Read) -> dict[Labels, float]:
    """Of a panel's expression; `read` gives the samples of a selector since its first scrape.

    All samples must be in the window, and counters must not have been reset.
    """
    call = _CALL.fullmatch(expression)
    assert call, expression
    function = _rate if call["function"] == "rate" else _increase
    each = {labels: function(of) for labels, of in read(call["selector"]).items()}
    if call["sum"] == "sum":
        return {frozenset(): sum(each.values())}
    if call["sum"] == "quantile":
        return {frozenset(): _quantile(float(call["number"]), sorted(each.values()))}
    assert call["sum"] == "topk"
    largest = sorted(each, key=lambda labels: each[labels])[-int(call["number"]) :]
    return {_without_name(labels): each[labels] for labels in largest}


def _without_name(labels: Labels) -> Labels:
    return frozenset((key, text) for key, text in labels if key != "__name__")


def _increase(of: Mapping[int, float]) -> float:
    return of[max(of)] - of[min(of)]


def _rate(of: Mapping[int, float]) -> float:
    return 1000 * _increase(of) / (max(of) - min(of))


def _quantile(part: float, ordered: list[float]) -> float:
    """Between the two nearest values."""
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
