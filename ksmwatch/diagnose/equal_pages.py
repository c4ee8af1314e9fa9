"""What merging equal pages saves: judgement on the copies of one content. Pure.

A page frame is what is saved. Processes that share a frame by fork have saved it already, so copies
are counted by frames, and a frame counts only if all who map it let it go. ksmd puts at most
max_page_sharing page table entries on a frame: a content with more keeps several. With
use_zero_pages, pages of zeros take no frame at all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Gain(StrEnum):
    """What is summed up, in pages.

    MORE: saved in addition to now if all pages could merge; OFFERED: if those that are offered
    could. ZERO: page frames that are nothing but zeros. The others say what would be saved in all:
    OWNERS if no owner shared with another, TENANTS if no tenant shared with another, ACROSS
    what is saved only by sharing across tenants.
    """

    MORE = "more"
    OFFERED = "offered"
    ZERO = "zero"
    OWNERS = "owners"
    TENANTS = "tenants"
    ACROSS = "across"


# Sums that are made by owner too.
BY_OWNER = (Gain.MORE, Gain.OFFERED)


@dataclass(frozen=True)
class Rules:
    """How ksmd merges. `tenants`: of each party."""

    most: int
    zero_pages: bool
    tenants: Sequence[str]


class Copy(NamedTuple):
    """A page table entry. `offered` to KSM; `merged`: it maps a KSM page already."""

    party: int
    offered: bool
    merged: bool


class Risk(IntEnum):
    """Whether a copy is pinned, or may be. OFFERED: one that is offered to KSM."""

    NONE = 0
    IF_OFFERED = 1
    OFFERED = 2


class Copies:
    """The copies of one content that can merge.

    `pinned`: whether there are others, which are pinned; `doubtful`: whether some of these here may
    be.
    """

    __slots__ = ("_alone", "_frames", "doubtful", "pinned")

    def __init__(self) -> None:
        self.pinned = self.doubtful = Risk.NONE
        # Of frames that one entry maps; and of the others, by frame.
        self._alone: dict[Copy, int] = {}
        self._frames: dict[int, dict[Copy, int]] = {}

    def add(self, copy: Copy, frame: int | None) -> None:
        """One entry; `frame` where others may map it too."""
        copies = self._alone if frame is None else self._frames.setdefault(frame, {})
        copies[copy] = copies.get(copy, 0) + 1

    def risk(self, rules: Rules, *, zero: bool) -> Risk:
        """Whether it can be that none of them merges.

        ksmd compares each page with the first copy that it has found. If that one is pinned, no
        other merges either (cmp_and_merge_page() in mm/ksm.c). Zero pages that it frees are
        compared with nothing.
        """
        return self.doubtful if zero and rules.zero_pages else max(self.doubtful, self.pinned)

    def gains(self, rules: Rules, *, zero: bool) -> Mapping[tuple[Gain, int | None], float]:
        """What merging them saves: of the host (None), and by party what is its part of that."""
        free = zero and rules.zero_pages
        everything = self._of(lambda _: True)
        # What is merged is offered, or was.
        offered = self._of(lambda copy: copy.offered or copy.merged)
        now = self._saved_now()
        total = _saved(everything, rules.most, free=free)
        tenants = _apart(everything, rules, rules.tenants.__getitem__, free=free)
        found: dict[tuple[Gain, int | None], float] = {
            (Gain.OWNERS, None): _apart(everything, rules, lambda party: party, free=free),
            (Gain.TENANTS, None): tenants,
            (Gain.ACROSS, None): max(0, total - tenants),
            (Gain.ZERO, None): sum(f for f, _ in everything.values()) if zero else 0,
        }
        more = {
            Gain.MORE: (everything, max(0, total - now)),
            Gain.OFFERED: (offered, max(0, _saved(offered, rules.most, free=free) - now)),
        }
        for gain, (copies, saved) in more.items():
            found[gain, None] = saved
            frames = sum(f for f, _ in copies.values())
            for party, (own, _) in copies.items() if saved else ():
                found[gain, party] = saved * own / frames
        return {key: value for key, value in found.items() if value}

    def _of(self, wanted: Callable[[Copy], bool]) -> dict[int, tuple[float, int]]:
        """By party: frames that the copies would fill unmerged, and page table entries."""
        frames: defaultdict[int, float] = defaultdict(float)
        entries: Counter[int] = Counter()
        for copy, amount in self._alone.items():
            if wanted(copy):
                frames[copy.party] += amount
                entries[copy.party] += amount
        for copies in self._frames.values():
            some = {copy: n for copy, n in copies.items() if wanted(copy)}
            # Who else maps a frame keeps it: it is not offered there, or was not examined.
            shared = sum(some.values()) if len(some) == len(copies) else 0
            freed = 1 / shared if shared > 1 else 0
            for copy, amount in some.items():
                # Each mapping of a KSM page would have a page of its own.
                frames[copy.party] += amount if copy.merged else amount * freed
                entries[copy.party] += amount
        return {party: (frames[party], entries[party]) for party in entries}

    def _saved_now(self) -> int:
        """What KSM saves: merged pages minus the frames that hold them."""
        merged = (
            sum(amount for copy, amount in copies.items() if copy.merged)
            for copies in self._frames.values()
        )
        return sum(mappings - 1 for mappings in merged if mappings)


def _saved(copies: Mapping[int, tuple[float, int]], most: int, *, free: bool) -> int:
    """Frames that merging these with each other frees."""
    frames = round(sum(frames for frames, _ in copies.values()))
    entries = sum(entries for _, entries in copies.values())
    kept = 0 if free else -(-entries // most)
    return max(0, frames - kept)


def _apart(
    copies: Mapping[int, tuple[float, int]],
    rules: Rules,
    border: Callable[[int], object],
    *,
    free: bool,
) -> int:
    """The same where nothing is shared across a border."""
    groups: defaultdict[object, dict[int, tuple[float, int]]] = defaultdict(dict)
    for party, amounts in copies.items():
        groups[border(party)][party] = amounts
    return sum(_saved(group, rules.most, free=free) for group in groups.values())


def saved_now(frames: Iterable[Sequence[int]]) -> tuple[int, list[float]]:
    """What is saved, of the frames of KSM pages that each party maps (as often as it does).

    Of all of them, and each party's part: a page that is mapped n times saves n - 1, to which each
    mapping has added as much.
    """
    frames = list(frames)
    mappings: Counter[int] = Counter()
    for some in frames:
        mappings.update(some)
    parts = [sum(1 - 1 / mappings[frame] for frame in some) for some in frames]
    return sum(mappings.values()) - len(mappings), parts
