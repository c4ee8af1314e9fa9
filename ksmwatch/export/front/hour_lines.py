"""The last hour of a few numbers: what the lines of the page at `/` are drawn from.

The daemon passes on what its history has. If it keeps none, a point is taken when the daemon
answers a scrape, or shows this page. No snapshot is made only for these lines, so there are gaps
at times without requests, and nothing is older than the front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ksmwatch.export.front.known_samples import KnownSamples
from ksmwatch.snapshot.last_hour import SECONDS, SPACING_SECONDS, HourPoint, LastHour

# Prometheus asks once a minute, or more often.
_GAP_SECONDS = 150.0
# Time and value.
Point = tuple[float, float]


@dataclass(frozen=True)
class Quantity:
    """One line. `rate`: what is shown is how much it grows in a second."""

    title: str
    of: Callable[[HourPoint], float | None]
    rate: bool
    show: Callable[[float], str]


class PastHour:
    """Points of the last hour."""

    def __init__(self) -> None:
        # Whether the points are the history's.
        self.recorded = False
        self._hour = LastHour()
        self._latest: HourPoint | None = None

    def add(self, at: float, reading: KnownSamples, recorded: Sequence[HourPoint] | None) -> None:
        """What was known at a time of the monotonic clock, and new points of the history."""
        self.recorded = recorded is not None
        for point in recorded or ():
            self._hour.add(point)
        points = self._hour.points
        near = bool(points) and at - points[-1].at <= _GAP_SECONDS
        self._latest = _point(at, reading, joined=near)
        if not self.recorded:
            self._hour.add(self._latest)

    def _points(self, now: float) -> list[HourPoint]:
        points, latest = self._hour.points, self._latest
        if points and latest is not None and latest.at - points[-1].at >= SPACING_SECONDS:
            points = points.and_then(latest)
        return [point for point in points if point.at >= now - SECONDS]

    def begin(self, now: float) -> float:
        """When the first point of the last hour was taken."""
        return next((point.at for point in self._points(now)), now)

    def pieces(self, quantity: Quantity, now: float) -> list[list[Point]]:
        """The line of a quantity, in pieces: where nothing is known there is none."""
        points = self._points(now)
        rows = [(point.joined, point.at, quantity.of(point)) for point in points]
        found: list[list[Point]] = []
        broken = True
        for joined, at, value in _rates(rows) if quantity.rate else rows:
            broken = broken or not joined
            if value is not None:
                if broken:
                    found.append([])
                found[-1].append((at, value))
            broken = value is None
        return found


def _point(at: float, reading: KnownSamples, *, joined: bool) -> HourPoint:
    return HourPoint(
        at,
        joined,
        reading.one("ksmwatch_mapped_bytes"),
        reading.one("ksmwatch_saved_bytes"),
        reading.one("ksmwatch_departures", "copied"),
        reading.one("ksmwatch_ksmd_cpu_seconds"),
    )


_Row = tuple[bool, float, float | None]


def _rates(rows: list[_Row]) -> list[_Row]:
    found: list[_Row] = []
    for (_, before, less), (joined, after, more) in pairwise(rows):
        known = joined and less is not None and more is not None and more >= less
        assert after > before
        rate = (more - less) / (after - before) if known else None  # type: ignore[operator]
        found.append((joined, after, rate))
    return found
