"""The last hour as the history has it, as points for lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ksmwatch.history.moment import HostMoment, seamless
from ksmwatch.snapshot.last_hour import HourPoint
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.units import PAGE_SIZE


def recorded_points(moments: Sequence[HostMoment], boot: float) -> list[HourPoint]:
    """The points of moments that earlier daemons recorded. `boot`: when the host started.

    Only since the clock was last set back: how old earlier moments are is not known.
    """
    set_back = [n for n, (a, b) in enumerate(pairwise(moments), 1) if b.time <= a.time]
    known = moments[set_back[-1] if set_back else 0 :]
    pairs = zip([None, *known], known, strict=False)
    return [
        HourPoint(
            moment.time - boot,
            before is not None and _continues(before, moment),
            moment.mappings * PAGE_SIZE,
            moment.saved_bytes,
            moment.copied,
            moment.ksmd_cpu,
        )
        for before, moment in pairs
    ]


def _continues(before: HostMoment, after: HostMoment) -> bool:
    """Whether one daemon saw both without a break. Another one's totals may begin anew."""
    return before.began == after.began and seamless(before.time, after.since)


def point_of(snapshot: Snapshot, *, joined: bool) -> HourPoint:
    return HourPoint(
        snapshot.clock,
        joined,
        snapshot.mappings * PAGE_SIZE,
        None if snapshot.saved is None else snapshot.saved.least,
        snapshot.totals.get("copied"),
        snapshot.numbers.ksmd_cpu,
    )
