"""The evidence about a host and its processes by which `causes` judges why little merges. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ksmwatch.diagnose.advice import Advice, Conditions, advise
from ksmwatch.units import PAGE_KB

# Of VmFlags, those that vma_ksm_compatible() (mm/ksm.c; before 6.10 ksm_madvise()) excludes.
SHARED_FLAGS = frozenset({"sh", "ms"})
HUGE_FLAGS = frozenset({"ht"})
SPECIAL_FLAGS = frozenset({"pf", "io", "de", "mm"})
# PROT_MTE. memcmp_pages() of arm64 calls pages with tags different, even if they are equal.
TAGGED_FLAG = "mt"
# mlock() is no obstacle: such pages are merged.
LOCKED_FLAG = "lo"


@dataclass(frozen=True)
class PageSample:
    """Pages in mergeable areas that were read twice, and how many of them `changed` in between.

    `equal`: of those that did not change, how many are equal to another one.
    """

    pages: int
    changed: int
    seconds: float
    equal: int = 0

    def changing(self, seconds: float) -> float:
        """The share that changes within this many seconds, at the same rate."""
        same = 1 - self.changed / self.pages
        return 1 - math.pow(same, max(1.0, seconds / self.seconds))


@dataclass(frozen=True)
class Memory:
    """Memory of a process in kB, by what KSM can do with it.

    In mergeable areas: `offered` is anonymous and present, with `merged` a part of it. `zero` is
    merged with the zero page, and in no other number. `cached`: page cache of a private file
    mapping, which KSM merges only after a write. `swapped`: not present. `unasked`: anonymous,
    including swap, never offered. `pinned`: held by a device or by RDMA, in any area. `huge`: the
    part of `offered` in transparent huge pages, which ksmd splits to merge. `tagged`: the part in
    areas with MTE, which never merges.
    """

    offered: int = 0
    merged: int = 0
    zero: int = 0
    cached: int = 0
    swapped: int = 0
    huge: int = 0
    tagged: int = 0
    unasked: int = 0
    shared: int = 0
    hugetlb: int = 0
    special: int = 0
    pinned: int = 0

    @property
    def asked(self) -> int:
        """All memory offered to KSM, whatever KSM can do with it."""
        return self.offered + self.zero + self.cached + self.swapped

    @property
    def saving(self) -> int:
        """Merged memory, including zero pages."""
        return self.merged + self.zero

    @property
    def present(self) -> int:
        """Offered memory that ksmd can find and merge."""
        return self.offered + self.zero - self.tagged

    @property
    def total(self) -> int:
        """All memory; pinned memory is part of the others."""
        return self.asked + self.unasked + self.shared + self.hugetlb + self.special

    def __add__(self, other: Memory) -> Memory:
        """The sum of two processes."""
        return Memory(
            **{name: amount + getattr(other, name) for name, amount in vars(self).items()}
        )


@dataclass(frozen=True)
class Offers:
    """Processes that have offered memory, and the memory. `complete`: all processes were read."""

    processes: int
    memory: Memory
    complete: bool = True


@dataclass(frozen=True)
class HostEvidence:
    """The evidence about a host.

    `ksm`: files of /sys/kernel/mm/ksm. `mergeable`: number of processes that ksmd knows, None if
    some could not be read. `offers`: what processes offer by their own areas, None if not read.
    `nodes`: NUMA nodes with memory. `sample`: of the judged process or processes, None if there is
    none.
    """

    ksm: Mapping[str, int]
    mergeable: int | None
    sample: PageSample | None = None
    offers: Offers | None = None
    nodes: int = 1
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def scanned_pages(self) -> int:
        """Pages for which ksmd has an rmap_item."""
        names = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile")
        return sum(self.ksm.get(name, 0) for name in names)

    @property
    def visited_pages(self) -> int:
        """Pages of a full scan: those that ksmd knows, or more if more are offered."""
        return max(self.scanned_pages, self.present_pages - self.zero_pages)

    @property
    def present_pages(self) -> int:
        """Pages that are known to be offered, and that ksmd can find."""
        return self.offers.memory.present // PAGE_KB if self.offers else 0

    @property
    def zero_pages(self) -> int:
        """Pages merged with the zero page, for which ksmd keeps no rmap_item."""
        return max(0, self.ksm.get("ksm_zero_pages", 0))

    @property
    def known_pages(self) -> int:
        """Pages that ksmd has scanned and knows."""
        return self.scanned_pages + self.zero_pages

    @property
    def merged_pages(self) -> int:
        """Merged pages, by the kernel's own numbers."""
        names = ("pages_shared", "pages_sharing")
        return sum(self.ksm.get(name, 0) for name in names) + self.zero_pages

    @property
    def running(self) -> bool:
        """Whether ksmd scans."""
        return self.ksm.get("run") == 1

    @property
    def scan_seconds(self) -> float | None:
        """The shortest time of a full scan: ksmd's sleeps in it."""
        scan, sleep = self.ksm.get("pages_to_scan", 0), self.ksm.get("sleep_millisecs")
        if not scan or sleep is None:
            return None
        return self.visited_pages / scan * sleep / 1000

    def advise(self, *what: Advice) -> str:
        """The advice that is right here."""
        return " ".join(advise(each, self.conditions) for each in what)


@dataclass(frozen=True)
class ProcessEvidence:
    """The evidence about a process. `rmap_items`: pages that ksmd has scanned, None if unknown."""

    pid: int
    name: str
    memory: Memory
    rmap_items: int | None
