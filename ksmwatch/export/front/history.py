"""The last hour of a few numbers, in memory: what the lines of the page at `/` are drawn from.

A point is taken when the daemon answers somebody: a scrape, or this page. Nobody is asked for
history's sake, so there are gaps where nobody has asked, and nothing is older than the front.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from ksmwatch.export.front.known_samples import KnownSamples

SECONDS = 3600.0
_SPACING_SECONDS = 10.0
# Prometheus asks once a minute, or more often.
_GAP_SECONDS = 150.0
# Time and value.
Point = tuple[float, float]


@dataclass(frozen=True)
class Quantity:
    """One line. `rate`: what is shown is how much it grows in a second."""

    title: str
    metric: str
    rate: bool
    show: Callable[[float], str]


class PastHour:
    """Points of each quantity, of the last hour."""

    def __init__(self, quantities: tuple[Quantity, ...]) -> None:
        self.quantities = quantities
        room = int(SECONDS / _SPACING_SECONDS) + 1
        self._rows: deque[tuple[float, tuple[float | None, ...]]] = deque(maxlen=room)

    def add(self, at: float, reading: KnownSamples) -> None:
        """What was known at a time of the monotonic clock."""
        if self._rows and at - self._rows[-1][0] < _SPACING_SECONDS:
            return
        self._rows.append((at, tuple(reading.one(q.metric) for q in self.quantities)))

    def begin(self, now: float) -> float:
        """When the first point of the last hour was taken."""
        return next((at for at, _ in self._rows if at >= now - SECONDS), now)

    def pieces(self, place: int, now: float) -> list[list[Point]]:
        """The line of a quantity, in pieces: where nobody has asked there is none."""
        rows = [(at, values[place]) for at, values in self._rows if at >= now - SECONDS]
        points = _rates(rows) if self.quantities[place].rate else rows
        found: list[list[Point]] = []
        last: float | None = None
        for at, value in points:
            if value is not None:
                if last is None or at - last > _GAP_SECONDS:
                    found.append([])
                found[-1].append((at, value))
                last = at
            else:
                last = None
        return found


def _rates(rows: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    found: list[tuple[float, float | None]] = []
    for (before, less), (after, more) in pairwise(rows):
        known = less is not None and more is not None and more >= less
        near = after - before <= _GAP_SECONDS
        assert after > before
        rate = (more - less) / (after - before) if known and near else None  # type: ignore[operator]
        found.append((after, rate))
    return found
