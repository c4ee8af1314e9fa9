"""What changed most: the largest rise or fall of each owner, when it was, and why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ksmwatch.history.past import Past, PastOwner, absent, continues, moved

# A change is told by the time in which that part of it happened, if that is less than half.
_MOST, _ROUGHLY, _QUICK = 0.9, 0.95, 0.5
_CAME = {"merged": ("merged", "converted"), "forked": ("forked",), "other": ("other",)}
_WENT = {"copied": ("copied",), "unmapped": ("unmapped",), "exited": ("exited",)}
_MOSTLY = 0.9
_UNMERGE = 2


@dataclass(frozen=True)
class Change:
    """Mappings that an owner gained, or lost (negative), in a time.

    `reason`: of most movements in that direction, or `ended` or `unmerged`; None if unknown.
    `part`: of these movements, those for this reason. `exact`: both counts were.
    """

    owner: Mapping[str, Any]
    since: float
    until: float
    mappings: int
    reason: str | None
    part: float
    exact: bool


def changes(past: Past) -> list[Change]:
    """The largest change of each owner that changed, the largest first."""
    found = [change for owner in past.owners if (change := largest(past, owner)) is not None]
    return sorted(found, key=lambda change: -abs(change.mappings))


def largest(past: Past, owner: PastOwner) -> Change | None:
    """The largest change between two moments with no gap between them."""
    best: tuple[int, int] | None = None
    amount = 0
    for piece in _pieces(past, owner):
        values = [_mappings(owner, place) for place in piece]
        for sign in (1, -1):
            begin, end = _largest_rise([sign * value for value in values])
            if abs(values[end] - values[begin]) > amount:
                amount = abs(values[end] - values[begin])
                best = piece[begin], piece[end]
    return None if best is None else _change(past, owner, *_steep(past, owner, *best))


def _mappings(owner: PastOwner, place: int) -> int:
    numbers = owner.numbers[place]
    assert numbers is not None
    return numbers.mappings


def _pieces(past: Past, owner: PastOwner) -> Iterator[list[int]]:
    """Places of moments that follow each other, and at which the owner's count is known."""
    piece: list[int] = []
    for place, numbers in enumerate(owner.numbers):
        if piece and not continues(past.moments[place - 1], past.moments[place]):
            yield piece
            piece = []
        if numbers is not None:
            piece.append(place)
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _largest_rise(values: Sequence[int]) -> tuple[int, int]:
    """Places between which the values rise most."""
    low = begin = end = 0
    for place, value in enumerate(values):
        if value <= values[low]:
            low = place
        if value - values[low] > values[end] - values[begin]:
            begin, end = low, place
    return begin, end


def _steep(past: Past, owner: PastOwner, begin: int, end: int) -> tuple[int, int]:
    """The part of a change in which most of it happened, if that was much quicker."""
    values = [_mappings(owner, place) for place in range(begin, end + 1)]
    amount = abs(values[-1] - values[0])
    first = max(p for p, v in enumerate(values) if abs(values[-1] - v) >= amount * _ROUGHLY)
    parts = range(first, len(values))
    last = min(p for p in parts if abs(values[p] - values[first]) >= amount * _MOST)
    found = begin + first, begin + last
    times = [past.moments[place].time for place in (*found, begin, end)]
    quick = times[1] - times[0] < _QUICK * (times[3] - times[2])
    return found if quick else (begin, end)


def _change(past: Past, owner: PastOwner, begin: int, end: int) -> Change:
    first, last = owner.numbers[begin], owner.numbers[end]
    assert first is not None
    assert last is not None
    amount = last.mappings - first.mappings
    reason, part = _reason(past, owner, range(begin, end + 1), rose=amount > 0)
    return Change(
        owner=owner.facts,
        since=past.moments[begin].time,
        until=past.moments[end].time,
        mappings=amount,
        reason=reason,
        part=part,
        exact=not first.estimated and not last.estimated,
    )


def _reason(past: Past, owner: PastOwner, places: range, *, rose: bool) -> tuple[str | None, float]:
    if absent(owner.numbers[places[-1]]):
        return "ended", 1.0
    total: Counter[str] = Counter()
    for before, after in pairwise(places):
        same = past.moments[before].began == past.moments[after].began
        found = moved(owner.numbers[before], owner.numbers[after], same=same)
        if found is None:
            return None, 0.0
        total.update(found)
    sums = {
        reason: sum(total[each] for each in names)
        for reason, names in (_CAME if rose else _WENT).items()
    }
    whole = sum(sums.values())
    if not whole:
        return None, 0.0
    reason = max(sums, key=lambda name: sums[name])
    # ksmd unmerges by the path of a write.
    unmerging = any(past.moments[place].host.run == _UNMERGE for place in places)
    shown = "unmerged" if reason == "copied" and unmerging else reason
    return shown, sums[reason] / whole


_WORDS = {
    "merged": "by merging",
    "forked": "by forks",
    "other": "by other ways",
    "copied": "by writes",
    "unmapped": "by unmapping",
    "exited": "by exits",
    "ended": "when it ended",
    "unmerged": "by unmerging or writes",
}


def because(change: Change) -> str:
    """The reason in words, empty if unknown."""
    if change.reason is None:
        return ""
    return ("" if change.part >= _MOSTLY else "mostly ") + _WORDS[change.reason]
