"""Areas of a process whose private pages KSM could take, from the text of smaps. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ksmwatch.diagnose.evidence import HUGE_FLAGS, SHARED_FLAGS, SPECIAL_FLAGS, TAGGED_FLAG
from ksmwatch.kernel.smaps import MERGEABLE, SmapsArea, kilobytes, smaps_areas
from ksmwatch.units import PAGE_SIZE

# Of VmFlags: another process supplies missing pages (userfaultfd).
_FETCHED_FLAGS = frozenset({"um", "ui"})
# Who maps it may do nothing with it without one of these (PROT_NONE).
_ACCESS_FLAGS = frozenset({"rd", "wr", "ex"})
# Versions whose ksmd does not see pages of such an area (commit 474098edac26).
_BLIND_SINCE, _BLIND_UNTIL = (6, 1), (6, 6)
# Pages may be dropped at any time (MAP_DROPPABLE, since 6.11); KSM refuses these too.
_DROPPABLE_FLAGS = frozenset({"dp"})


@dataclass(frozen=True)
class AnonymousArea:
    """An area with anonymous pages.

    `merged`: some of them may be KSM pages. `fetched`: userfaultfd supplies missing pages.
    """

    start: int
    end: int
    offered: bool
    merged: bool
    fetched: bool


def anonymous_areas(
    smaps: bytes, kernel: tuple[int, int], left_out: Counter[str]
) -> Iterator[AnonymousArea]:
    """Areas whose anonymous pages `kernel` can merge. Counts the other pages by the reason."""
    is_blind = _BLIND_SINCE <= kernel < _BLIND_UNTIL
    for area in smaps_areas(smaps):
        flags = area.flags
        reason, lines = _reason(flags)
        if is_blind and reason == "swapped" and not flags & _ACCESS_FLAGS:
            reason, lines = "unreadable", ("Rss",)
        left_out[reason] += sum(_pages(area, line) for line in lines)
        if reason == "swapped" and _pages(area, "Anonymous"):
            # Before 6.6 there is no KSM line, so any page may be a KSM page.
            merged = kilobytes(area.text, "KSM") != 0
            fetched = bool(flags & _FETCHED_FLAGS)
            yield AnonymousArea(area.start, area.end, MERGEABLE in flags, merged, fetched)


def _reason(flags: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Why pages of an area cannot be merged, and the lines of smaps that count them."""
    if flags & HUGE_FLAGS:
        return "hugetlb", ("Private_Hugetlb", "Shared_Hugetlb")
    if flags & SHARED_FLAGS:
        return "shared", ("Rss",)
    if flags & (SPECIAL_FLAGS | _DROPPABLE_FLAGS):
        return "special", ("Rss",)
    if TAGGED_FLAG in flags:
        return "tagged", ("Rss",)
    return "swapped", ("Swap",)


def _pages(area: SmapsArea, line: str) -> int:
    return area.kilobytes(line) * 1024 // PAGE_SIZE
