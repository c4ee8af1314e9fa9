"""What is known of a host and its processes when it is judged why little merges. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ksmwatch.diagnose.advice import Advice, Conditions, advise
from ksmwatch.units import PAGE_SIZE

PAGE_KB = PAGE_SIZE // 1024

# Of VmFlags: what vma_ksm_compatible() (mm/ksm.c; before 6.10 in ksm_madvise()) excludes.
SHARED_FLAGS = frozenset({"sh", "ms"})
HUGE_FLAGS = frozenset({"ht"})
SPECIAL_FLAGS = frozenset({"pf", "io", "de", "mm"})
# mlock(): no obstacle, such pages are merged.
LOCKED_FLAG = "lo"


@dataclass(frozen=True)
class PageSample:
    """Pages in mergeable areas that were read twice: how many, how many had `changed` between."""

    pages: int
    changed: int
    seconds: float

    def changing(self, seconds: float) -> float:
        """The part that changes within so many seconds, if all go on as they did."""
        same = 1 - self.changed / self.pages
        return 1 - math.pow(same, max(1.0, seconds / self.seconds))


@dataclass(frozen=True)
class Memory:
    """Memory of a process in kB, by what KSM can do with it.

    In mergeable areas: `offered` is anonymous and present, of which `merged`; `zero`: merged with
    the zero page, which is in no other number; `cached`: page cache of a private mapping of a file,
    which KSM takes only after a write; `swapped`: not present. `unasked`: anonymous, also in swap,
    nobody offered it. `pinned`: held by a device or by RDMA, in whichever area. `huge`: of
    `offered`, in transparent huge pages, which ksmd splits to merge.
    """

    offered: int = 0
    merged: int = 0
    zero: int = 0
    cached: int = 0
    swapped: int = 0
    huge: int = 0
    unasked: int = 0
    shared: int = 0
    hugetlb: int = 0
    special: int = 0
    pinned: int = 0

    @property
    def asked(self) -> int:
        """What was offered to KSM, whatever it can do with it."""
        return self.offered + self.zero + self.cached + self.swapped

    @property
    def saving(self) -> int:
        """What is merged, with zero pages too."""
        return self.merged + self.zero

    @property
    def total(self) -> int:
        """All of it; what is pinned is in one of the others."""
        return self.asked + self.unasked + self.shared + self.hugetlb + self.special

    def __add__(self, other: Memory) -> Memory:
        """Of two processes."""
        return Memory(
            **{name: amount + getattr(other, name) for name, amount in vars(self).items()}
        )


@dataclass(frozen=True)
class Offers:
    """Processes that have offered memory, and what; `complete`: all processes were read."""

    processes: int
    memory: Memory
    complete: bool = True


@dataclass(frozen=True)
class HostEvidence:
    """What was read of the host.

    `ksm`: files of /sys/kernel/mm/ksm. `mergeable`: processes that ksmd knows, None where that
    could not be read of all. `offers`: what processes offer by their own areas, None where nobody
    looked. `nodes`: of NUMA, with memory. `sample`: of the process or processes that are judged,
    None if there is none.
    """

    ksm: Mapping[str, int]
    mergeable: int | None
    sample: PageSample | None = None
    offers: Offers | None = None
    nodes: int = 1
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def scanned_pages(self) -> int:
        """Pages that ksmd has an rmap_item of."""
        names = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile")
        return sum(self.ksm.get(name, 0) for name in names)

    @property
    def zero_pages(self) -> int:
        """Pages merged with the zero page, of which ksmd keeps no rmap_item."""
        return max(0, self.ksm.get("ksm_zero_pages", 0))

    @property
    def known_pages(self) -> int:
        """Pages that ksmd has looked at, and knows."""
        return self.scanned_pages + self.zero_pages

    @property
    def merged_pages(self) -> int:
        """By the kernel's own numbers."""
        names = ("pages_shared", "pages_sharing")
        return sum(self.ksm.get(name, 0) for name in names) + self.zero_pages

    @property
    def running(self) -> bool:
        """Whether ksmd scans."""
        return self.ksm.get("run") == 1

    @property
    def scan_seconds(self) -> float | None:
        """A full scan takes so long at least: what ksmd sleeps in it."""
        scan, sleep = self.ksm.get("pages_to_scan", 0), self.ksm.get("sleep_millisecs")
        if not scan or sleep is None:
            return None
        return self.scanned_pages / scan * sleep / 1000

    def advise(self, *what: Advice) -> str:
        """Advice that is right here."""
        return " ".join(advise(each, self.conditions) for each in what)


@dataclass(frozen=True)
class ProcessEvidence:
    """What was read of a process. `rmap_items`: pages that ksmd has looked at, None: not known."""

    pid: int
    name: str
    memory: Memory
    rmap_items: int | None
