"""A few numbers of the host over the last hour, in memory. Pure."""

from __future__ import annotations

from typing import NamedTuple

SECONDS = 3600.0
# No point is closer to the one before, however many requests there are. A little less than the
# history's usual interval, which the daemon keeps to within a second.
SPACING_SECONDS = 8.0


class HourPoint(NamedTuple):
    """The host at one moment of the monotonic clock, which may be before boot (then negative).

    `joined`: the daemon has counted without a break since the point before. `copied`: mappings that
    writes have ended, a total like `ksmd_cpu`; None if unknown.
    """

    at: float
    joined: bool
    mapped_bytes: float | None
    saved_bytes: float | None
    copied: float | None
    ksmd_cpu: float | None


class LastHour:
    """Points in the order of time."""

    def __init__(self) -> None:
        # Replaced and never changed, so another thread may read it.
        self.points: tuple[HourPoint, ...] = ()
        self._joined = True

    def add(self, point: HourPoint) -> None:
        """Add a point, unless it is too close to the last one; forget what is too old."""
        self._joined = self._joined and point.joined
        if self.points and point.at - self.points[-1].at < SPACING_SECONDS:
            return
        points = (*self.points, point._replace(joined=self._joined))
        if points[0].at < point.at - SECONDS:
            points = tuple(each for each in points if each.at >= point.at - SECONDS)
        self.points = points
        self._joined = True
