"""Bounds in bytes of what unmerging would need, and whether they fit. Pure.

Unmerging gives each mapping of a KSM page, and each zero page placed by KSM (since 6.6), a page
of its own. A KSM page is freed with its last mapping.

- The upper bound is one page for each of these. It is too high by the KSM pages that are freed.
- The lower bound is that minus `pages_shared`, the kernel's number of distinct pages. It still
  includes pages that have lost all mappings until ksmd notices; then more is needed than this
  bound. It does not include pages that only forked children map and ksmd has not visited, nor those
  that break_cow() has left behind; because of these, less may be needed than this bound.

Both hold if the counts are exact. If the host's sum is unknown there is no verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from ksmwatch.owners.rollup import OwnerCgroup, OwnerKey
from ksmwatch.owners.sums import Charge
from ksmwatch.units import PAGE_SIZE


class Verdict(StrEnum):
    """FITS: even the upper bound. TOO_LITTLE: not even the lower. UNKNOWN: a number is unknown."""

    FITS = "fits"
    UNCERTAIN = "uncertain"
    TOO_LITTLE = "too_little"
    UNKNOWN = "unknown"


class Zeros(NamedTuple):
    """Bounds of the zero pages placed by KSM. They are equal if the number is known."""

    least: int = 0
    most: int = 0


class Need(NamedTuple):
    """Bytes that unmerging needs, and those available; None if unknown.

    `counted`: whether all mappings are known.
    """

    at_least: int | None
    at_most: int
    available: int | None
    counted: bool = True

    @property
    def verdict(self) -> Verdict:
        """Whether it fits."""
        if self.available is None or not self.counted:
            return Verdict.UNKNOWN
        if self.at_most <= self.available:
            return Verdict.FITS
        if self.at_least is not None and self.at_least > self.available:
            return Verdict.TOO_LITTLE
        return Verdict.UNCERTAIN


def need(
    mappings: int,
    zeros: Zeros,
    pages_shared: int | None,
    available: int | None,
    *,
    counted: bool = True,
) -> Need:
    """The need of unmerging these mappings, of one owner or of the host.

    For an owner, the upper bound is right if others map all its pages too. The host has no more
    than `pages_shared` distinct pages, which bounds what the owner can free.
    """
    # Each mapping gets a page, however it came. This differs from what merging saves.
    freed = None if pages_shared is None else max(0, mappings - pages_shared)
    return Need(
        None if freed is None else (freed + zeros.least) * PAGE_SIZE,
        (mappings + zeros.most) * PAGE_SIZE,
        available,
        counted,
    )


class Limit(NamedTuple):
    """A cgroup with a limit: what is left, and the most that could be charged to it, in bytes.

    Reclaimable page cache counts as used, so more may fit than is left.
    """

    cgroup: str
    at_most: int
    left: int

    @property
    def fits(self) -> bool:
        """Whether it certainly fits."""
        return self.at_most <= self.left


class Forecast(NamedTuple):
    """The forecast for one owner: against the host's memory, and the tightest cgroup limit."""

    memory: Need
    limit: Limit | None

    @property
    def verdict(self) -> Verdict:
        """Whether both fit."""
        limited = self.limit is not None and not self.limit.fits
        if limited and self.memory.verdict is Verdict.FITS:
            return Verdict.UNCERTAIN
        return self.memory.verdict


@lru_cache(maxsize=4096)
def levels(cgroup: str | None) -> tuple[str, ...]:
    """A path and those above it, without the root: `/a/b` and `/a`."""
    found = []
    path = cgroup or ""
    while path.startswith("/") and path != "/":
        found.append(path)
        path = path.rpartition("/")[0]
    return tuple(found)


def limits(charges: Mapping[OwnerCgroup, Charge], left: Mapping[str, int]) -> dict[OwnerKey, Limit]:
    """The limit of each owner that would be exceeded by most, or left with least.

    `left`: bytes left, by path of the cgroups with a limit. Unknown zero pages are not
    included in the charges.
    """
    pages: dict[tuple[OwnerKey, str], int] = defaultdict(int)
    for (key, cgroup), charge in (charges if left else {}).items():
        for level in levels(cgroup):
            if level in left:
                pages[key, level] += charge.pages
    found: dict[OwnerKey, Limit] = {}
    for (key, level), amount in sorted(pages.items()):
        limit = Limit(level, amount * PAGE_SIZE, left[level])
        known = found.get(key)
        if known is None or limit.left - limit.at_most < known.left - known.at_most:
            found[key] = limit
    return found
