"""A few numbers of the host over the last hour, in memory. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from struct import Struct
from typing import NamedTuple, overload

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


# What is unknown is stored as NaN.
_ROW = Struct("=d?4d")


class HourPoints(Sequence[HourPoint]):
    """Points in the order of time, which never change. One takes 41 bytes; as objects it took 300.

    Another thread, or another process, may read it.
    """

    __slots__ = ("_rows",)

    def __init__(self, points: Sequence[HourPoint] = (), rows: bytes = b"") -> None:
        self._rows = rows + b"".join(map(_packed, points))

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    @overload
    def __getitem__(self, place: int) -> HourPoint: ...
    @overload
    def __getitem__(self, place: slice) -> HourPoints: ...
    def __getitem__(self, place: int | slice) -> HourPoint | HourPoints:
        if isinstance(place, slice):
            begin, end, _ = place.indices(len(self))
            return HourPoints(rows=self._rows[begin * _ROW.size : end * _ROW.size])
        at, joined, *amounts = _ROW.unpack_from(self._rows, range(len(self))[place] * _ROW.size)
        return HourPoint(at, joined, *(None if math.isnan(each) else each for each in amounts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HourPoints) and self._rows == other._rows

    def __hash__(self) -> int:
        return hash(self._rows)

    def and_then(self, point: HourPoint) -> HourPoints:
        """These, and a later one."""
        return HourPoints((point,), self._rows)


def _packed(point: HourPoint) -> bytes:
    at, joined, *amounts = point
    return _ROW.pack(at, joined, *(math.nan if each is None else each for each in amounts))


class LastHour:
    """Points in the order of time."""

    def __init__(self) -> None:
        self.points = HourPoints()
        self._joined = True

    def add(self, point: HourPoint) -> None:
        """Add a point, unless it is too close to the last one; forget what is too old."""
        self._joined = self._joined and point.joined
        if self.points and point.at - self.points[-1].at < SPACING_SECONDS:
            return
        points = self.points.and_then(HourPoint(point.at, self._joined, *point[2:]))
        self.points = points[bisect_left(points, point.at - SECONDS, key=attrgetter("at")) :]
        self._joined = True
