"""What unmerging would need: bounds in bytes, and whether they fit. From numbers to numbers, pure.

Unmerging gives each mapping of a KSM page, and each zero page that KSM has put (since 6.6), a
page of its own. A KSM page is freed with its last mapping.

- At most, each of these needs a page: too much by the distinct KSM pages that are freed.
- At least, it is that less `pages_shared` pages freed, the kernel's number of distinct pages. It
  still has pages whose mappings have all gone and ksmd has not noticed: then more is needed than
  this. It has not those that only forked children map which ksmd has not visited, nor those that
  break_cow() has left behind: by these pages it may be less than this.

Both hold as far as the counts are exact; where the host's sum is not known there is no verdict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ksmwatch.owners.owner import Owner
from ksmwatch.owners.rollup import OwnerKey
from ksmwatch.units import PAGE_SIZE


class Verdict(StrEnum):
    """FITS: even at most. TOO_LITTLE: not even at least. UNKNOWN: a number is not known."""

    FITS = "fits"
    UNCERTAIN = "uncertain"
    TOO_LITTLE = "too_little"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Zeros:
    """Zero pages that KSM has put: bounds. Equal where the number is known."""

    least: int = 0
    most: int = 0


@dataclass(frozen=True)
class Need:
    """Bytes that unmerging needs, beside those that are free; None where not known.

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


def need(mappings: int, zeros: Zeros, pages_shared: int | None, available: int | None) -> Need:
    """To unmerge so many mappings, of one owner or of the host.

    For an owner, at most is right if every page that it maps is mapped by others too; that the
    host has no more than `pages_shared` distinct pages bounds what the owner can free.
    """
    # Each mapping gets a page, whatever it came by: this is not what merging saves.
    freed = None if pages_shared is None else max(0, mappings - pages_shared)
    return Need(
        at_least=None if freed is None else (freed + zeros.least) * PAGE_SIZE,
        at_most=(mappings + zeros.most) * PAGE_SIZE,
        available=available,
    )


@dataclass(frozen=True)
class Limit:
    """A cgroup with a limit: what it has left, and what would be charged to it at most, in bytes.

    Page cache that could be reclaimed counts as used, so that more may fit than is left.
    """

    cgroup: str
    at_most: int
    left: int

    @property
    def fits(self) -> bool:
        """Whether it fits for sure."""
        return self.at_most <= self.left


@dataclass(frozen=True)
class Forecast:
    """Of one owner: against the host's memory, and the tightest limit of a cgroup, if any."""

    memory: Need
    limit: Limit | None

    @property
    def verdict(self) -> Verdict:
        """Whether both fit."""
        limited = self.limit is not None and not self.limit.fits
        if limited and self.memory.verdict is Verdict.FITS:
            return Verdict.UNCERTAIN
        return self.memory.verdict


class Consumer(Protocol):
    """What a process may be charged for, and where."""

    @property
    def owner(self) -> Owner:
        """Whose it is."""

    @property
    def mappings(self) -> int:
        """PTEs that map a KSM page."""

    @property
    def zero_pages(self) -> int | None:
        """PTEs in which KSM has put the zero page; None if unknown."""

    @property
    def cgroup(self) -> str | None:
        """Its path in the unified hierarchy; None if there is none."""


def levels(cgroup: str | None) -> list[str]:
    """A path and those above it, without the root: `/a/b` and `/a`."""
    found = []
    path = cgroup or ""
    while path.startswith("/") and path != "/":
        found.append(path)
        path = path.rpartition("/")[0]
    return found


def _by_cgroup(processes: Iterable[Consumer]) -> dict[tuple[OwnerKey, str | None], int]:
    pages: dict[tuple[OwnerKey, str | None], int] = defaultdict(int)
    for process in processes:
        amount = process.mappings + (process.zero_pages or 0)
        pages[process.owner.key, process.cgroup] += amount
    return pages


def limits(processes: Iterable[Consumer], left: Mapping[str, int]) -> dict[OwnerKey, Limit]:
    """For each owner the limit that is exceeded by most, or has least to spare.

    `left`: bytes by path of cgroups that have a limit. Zero pages that are not known are not
    in it.
    """
    pages: dict[tuple[OwnerKey, str], int] = defaultdict(int)
    for (key, cgroup), amount in _by_cgroup(processes if left else ()).items():
        for level in levels(cgroup):
            if level in left:
                pages[key, level] += amount
    found: dict[OwnerKey, Limit] = {}
    for (key, level), amount in sorted(pages.items()):
        limit = Limit(level, amount * PAGE_SIZE, left[level])
        known = found.get(key)
        if known is None or limit.left - limit.at_most < known.left - known.at_most:
            found[key] = limit
    return found
