"""What two stores answer to the same question, in a form that can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.prometheus import query

Labels = frozenset[tuple[str, str]]
# Seconds, more than any test takes.
_EVER = 7200
# VictoriaMetrics keeps twelve significant digits of what is not whole.
KEPT = 1e-12
# Of a value in each store.
PRECISION = {"victoria-metrics": KEPT, "prometheus": 0.0}
# Only what was sent from elsewhere has this one: `external_labels` of the example.
_FROM_OUTSIDE = "cluster"


def labels(found: dict[str, str]) -> Labels:
    """Of a series, as the Prometheus has them that scrapes it."""
    return frozenset((key, text) for key, text in found.items() if key != _FROM_OUTSIDE)


def values(port: int, expression: str, at: float | None = None) -> dict[Labels, float]:
    """The value of each series at a moment, or now."""
    rows = query(port, expression, at)
    found = {labels(row["metric"]): float(row["value"][1]) for row in rows}
    assert len(found) == len(rows), "two series differ only by the cluster"
    return found


def samples(port: int, selector: str, seconds: int, at: float) -> dict[Labels, dict[int, float]]:
    """All samples of so many seconds before a moment, by the millisecond of each."""
    found: dict[Labels, dict[int, float]] = {}
    for row in query(port, f"{selector}[{seconds}s]", at):
        of = {round(1000 * time): float(value) for time, value in row["values"]}
        assert len(of) == len(row["values"]), "a sample is there twice"
        found[labels(row["metric"])] = of
    return found


def missing(here: int, there: int, selector: str, at: float, precision: float) -> list[float]:
    """Times of samples up to a moment that a store does not have. Wrong ones raise."""
    # In this order: samples of a slow scrape may still come, with the time at which it began.
    found = samples(there, selector, _EVER, at)
    sent = samples(here, selector, _EVER, at)
    assert sent
    assert found.keys() <= sent.keys(), "the store has series that nobody sent"
    return sorted(
        time / 1000
        for series, of in sent.items()
        for time in _lacking(series, of, found.get(series, {}), precision)
    )


def _lacking(
    series: Labels, here: Mapping[int, float], there: Mapping[int, float], precision: float
) -> set[int]:
    invented = {moment: there[moment] for moment in there.keys() - here.keys()}
    assert not invented, f"the store has {invented} of {dict(series)}, which nobody sent"
    for moment, value in there.items():
        assert math.isclose(value, here[moment], rel_tol=precision), (value, here[moment])
    return here.keys() - there.keys()
