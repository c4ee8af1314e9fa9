"""Which moments the history merges and which it forgets, as they get older. Pure.

A merged moment has the numbers of its last moment, and stands for the time of all of them.
Moments are merged only if nothing is missing in between, so a gap stays a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ksmwatch.history.moment import seamless

# Moments that one pass forgets because of their age. A clock that is wrong for an hour costs no
# more than a day of the oldest ones.
EXPIRED_AT_ONCE = 24


class Retention(NamedTuple):
    """How long moments are kept, in seconds: each of them, then one for each `step`."""

    fine: float = 24 * 3600.0
    coarse: float = 30 * 24 * 3600.0
    step: float = 600.0
    interval: float = 10.0

    @property
    def merged_at_once(self) -> int:
        """Moments that one pass looks at: four times as many as arrive between two passes."""
        return max(240, 4 * int(self.step / self.interval))


class Span(NamedTuple):
    """A kept moment, by its number. The time is that of its daemon's clock."""

    id: int
    since: float
    time: float


class Merge(NamedTuple):
    """The moments `gone` become part of the moment `id`, which now begins at `since`."""

    id: int
    since: float
    gone: tuple[int, ...]


def ripe(oldest: Sequence[Span], now: float, age: float) -> int:
    """How many of these, which are in the order of recording, are older than that.

    A moment is at least as old as any that was recorded later, so one from the future (the clock
    was wrong) does not stay for ever.
    """
    old = [place for place, span in enumerate(oldest, 1) if now - span.time > age]
    return old[-1] if old else 0


def follows(before: Span, after: Span) -> bool:
    """Whether nothing is missing between the two."""
    return seamless(before.time, after.since)


def due_merges(oldest: Sequence[Span], now: float, keep: Retention) -> list[Merge]:
    """What the oldest moments that are not merged yet become, as far as all of a step is old."""
    old = {span.id for span in oldest[: ripe(oldest, now, keep.fine)]}
    # The last one may go on with moments that are not among these.
    return [merge for merge in merged(oldest, keep.step)[:-1] if merge.id in old]


def merged(spans: Sequence[Span], step: float) -> list[Merge]:
    """One moment for each step of the clock, and for each piece between gaps."""
    found: list[Merge] = []
    group: list[Span] = []
    for span in spans:
        if group and not _together(group[-1], span, step):
            found.append(_merge(group))
            group = []
        group.append(span)
    return [*found, _merge(group)] if group else found


def thinned(spans: Sequence[Span], step: float) -> list[Span]:
    """One span for each step, and for each piece between gaps."""
    by_id = {span.id: span for span in spans}
    return [by_id[m.id]._replace(since=m.since) for m in merged(spans, step)]


def _together(before: Span, after: Span, step: float) -> bool:
    # The moment at 12:10:00 is the last one of its step.
    same = -(-before.time // step) == -(-after.time // step)
    return same and follows(before, after)


def _merge(group: Sequence[Span]) -> Merge:
    return Merge(group[-1].id, group[0].since, tuple(span.id for span in group[:-1]))
