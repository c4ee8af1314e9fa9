"""Why nothing, or little, merges: judgement on what was read of a host or a process. Pure.

Each cause has its evidence and the next step. They come in the order in which they have to be
mended: as long as ksmd is stopped nothing else matters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ksmwatch.units import PAGE_SIZE

PAGE_KB = PAGE_SIZE // 1024
# A scan that takes longer than this finds little that lives for minutes only.
SLOW_SCAN_SECONDS = 900.0
# ksmd merges a page at its second visit at the earliest: it must not have changed since the first.
_VISITS = 2
# Below this share something is called little.
_LITTLE = 0.5
# A kind of memory that KSM cannot take matters from this share of all that a process has.
_MATTERS = 0.1

# Of VmFlags: what vma_ksm_compatible() (mm/ksm.c; before 6.10 in ksm_madvise()) excludes.
SHARED_FLAGS = frozenset({"sh", "ms"})
HUGE_FLAGS = frozenset({"ht"})
SPECIAL_FLAGS = frozenset({"pf", "io", "de", "mm"})
MERGEABLE_FLAG = "mg"
# mlock(): no obstacle, such pages are merged.
LOCKED_FLAG = "lo"


class Code(StrEnum):
    """The kinds of causes."""

    STOPPED = "stopped"
    UNMERGED = "unmerged"
    NOBODY = "nobody"
    NOT_ASKED = "not_asked"
    SHARED = "shared"
    HUGETLB = "hugetlb"
    SPECIAL = "special"
    PINNED = "pinned"
    YOUNG = "young"
    SLOW = "slow"
    NOT_SCANNED = "not_scanned"
    CHANGING = "changing"
    UNIQUE = "unique"
    UNEQUAL = "unequal"
    MERGED = "merged"


@dataclass(frozen=True)
class Cause:
    """One reason, in plain words. `evidence`: numbers by the name of their kernel source."""

    code: Code
    what: str
    evidence: Mapping[str, int | float]
    advice: str


@dataclass(frozen=True)
class Sample:
    """Pages in mergeable areas that were read twice: how many, how many had `changed` between."""

    pages: int
    changed: int
    seconds: float

    def changing(self, seconds: float) -> float:
        """The part that changes within so many seconds, if all go on as they did."""
        same = 1 - self.changed / self.pages
        return 1 - math.pow(same, max(1.0, seconds / self.seconds))


@dataclass(frozen=True)
class Host:
    """What was read of the host.

    `ksm`: files of /sys/kernel/mm/ksm. `mergeable`: processes that have given KSM memory, None
    where that could not be read of all. `sample`: of the process or processes that are
    judged, None if there is none.
    """

    ksm: Mapping[str, int]
    mergeable: int | None
    sample: Sample | None = None

    @property
    def known_pages(self) -> int:
        """Pages that ksmd has an rmap_item of."""
        names = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile")
        return sum(self.ksm.get(name, 0) for name in names)

    @property
    def merged_pages(self) -> int:
        """By the kernel's own numbers."""
        return self.ksm.get("pages_shared", 0) + self.ksm.get("pages_sharing", 0)

    @property
    def scan_seconds(self) -> float | None:
        """A full scan takes so long at least: what ksmd sleeps in it."""
        scan, sleep = self.ksm.get("pages_to_scan", 0), self.ksm.get("sleep_millisecs")
        if not scan or sleep is None:
            return None
        return self.known_pages / scan * sleep / 1000


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process in kB, by what KSM can do with it.

    `offered`: anonymous, in mergeable areas; of which `merged`. `unasked`: anonymous, nobody
    offered it. `pinned`: held by a device or by RDMA, in whichever area.
    """

    offered: int = 0
    merged: int = 0
    unasked: int = 0
    shared: int = 0
    hugetlb: int = 0
    special: int = 0
    pinned: int = 0

    @property
    def resident(self) -> int:
        """All of it; what is pinned is in one of the others."""
        return self.offered + self.unasked + self.shared + self.hugetlb + self.special


@dataclass(frozen=True)
class Process:
    """What was read of a process. `rmap_items`: pages that ksmd has looked at, None: not known."""

    pid: int
    name: str
    memory: Memory
    rmap_items: int | None


def _mib(kilobytes: float) -> str:
    return f"{kilobytes / 1024:.1f} MiB"


def _of_ksmd(host: Host) -> Iterator[Cause]:
    run = host.ksm.get("run")
    start = "echo 1 > /sys/kernel/mm/ksm/run"
    if run == 0:
        yield Cause(
            Code.STOPPED,
            "ksmd is stopped; what is merged stays so.",
            {"run": 0},
            f"Start it: {start}",
        )
    elif run == 2:
        yield Cause(
            Code.UNMERGED,
            "KSM was told to unmerge everything, and ksmd is stopped.",
            {"run": 2},
            f"Start it: {start}",
        )


def _of_scanning(host: Host) -> Iterator[Cause]:
    ksm = host.ksm
    pace = {key: ksm[key] for key in ("pages_to_scan", "sleep_millisecs") if key in ksm}
    faster = "Let it scan faster: raise pages_to_scan, or use the advisor (since 6.8)."
    if ksm.get("run") == 1 and ksm.get("full_scans", _VISITS) < _VISITS:
        yield Cause(
            Code.YOUNG,
            "ksmd has not been through all memory twice yet; it merges at the second visit.",
            {"full_scans": ksm.get("full_scans", 0), **pace},
            "Wait. " + faster,
        )
    seconds = host.scan_seconds
    if seconds is not None and seconds > SLOW_SCAN_SECONDS:
        yield Cause(
            Code.SLOW,
            f"The scan is slow for this much memory: {seconds / 60:.0f} minutes for all of it.",
            {"pages": host.known_pages, "scan_seconds": round(seconds, 1), **pace},
            faster,
        )


def _of_contents(host: Host, known: int, merged: int) -> Iterator[Cause]:
    """Why pages that ksmd knows are not merged.

    The kernel does not tell pages that change from those that are unique: it counts both anew in
    each scan, and smart_scan (since 6.7) leaves out either. A sample does.
    """
    if not known or merged >= known * _LITTLE:
        return
    kinds = ("pages_unshared", "pages_volatile", "pages_skipped")
    evidence: dict[str, int | float] = {k: host.ksm[k] for k in kinds if k in host.ksm}
    sample = host.sample
    if sample is None or not sample.pages:
        yield Cause(
            Code.UNEQUAL,
            "Most pages that ksmd has looked at are equal to no other, or change between two "
            "visits; the kernel does not tell which.",
            evidence,
            "As root this command reads some pages twice to tell.",
        )
        return
    evidence |= {"sampled_pages": sample.pages, "changed": sample.changed}
    evidence |= {"within_seconds": round(sample.seconds, 1)}
    if sample.changing(host.scan_seconds or 0) * known > (known - merged) * _LITTLE:
        yield Cause(
            Code.CHANGING,
            "Most pages change too fast: ksmd merges what is the same at two visits.",
            evidence,
            "Let it scan faster (pages_to_scan), or take memory out that changes all the time.",
        )
        return
    yield Cause(
        Code.UNIQUE,
        "Most pages stay as they are, but ksmd finds no equal ones to merge them with.",
        evidence,
        "Nothing to be gained, unless others with equal memory offer theirs too.",
    )


def of_host(host: Host) -> list[Cause]:
    """Why little merges on the host; the last one is MERGED if that is not so."""
    causes = list(_of_ksmd(host))
    if host.mergeable == 0 or (host.mergeable is None and not host.known_pages):
        causes.append(
            Cause(
                Code.NOBODY,
                "No process has offered memory to KSM.",
                {"rmap_items": host.known_pages},
                "A program offers it by madvise(MADV_MERGEABLE) (QEMU: mem-merge=on), a service as "
                "a whole by PR_SET_MEMORY_MERGE (systemd: MemoryKSM=yes; since 6.4).",
            )
        )
        return causes
    causes += _of_scanning(host)
    causes += _of_contents(host, host.known_pages, host.merged_pages)
    if not causes:
        causes.append(
            Cause(
                Code.MERGED,
                "KSM merges: most of the pages that ksmd knows are merged.",
                {"pages": host.known_pages, "merged": host.merged_pages},
                "Nothing to do.",
            )
        )
    return causes


# What KSM cannot take: member of Memory, code, what it is, and what to do.
_EXCLUDED = (
    (
        "shared",
        Code.SHARED,
        "shared mappings (MAP_SHARED, shared memory, files), which KSM never takes",
        "Use private anonymous memory: for QEMU a memory backend with share=off.",
    ),
    (
        "hugetlb",
        Code.HUGETLB,
        "hugetlbfs pages, which KSM never takes",
        "Use transparent huge pages or ordinary ones: ksmd splits a transparent huge page.",
    ),
    (
        "special",
        Code.SPECIAL,
        "areas of devices and the like (VM_PFNMAP, VM_IO, VM_MIXEDMAP, VM_DONTEXPAND)",
        "Nothing: such memory cannot be merged.",
    ),
    (
        "pinned",
        Code.PINNED,
        "memory that is pinned (VFIO, RDMA, io_uring): nobody may move it, so ksmd cannot merge it",
        "Pass no device through to a guest whose memory is to be merged.",
    ),
)


def _of_areas(process: Process) -> Iterator[Cause]:
    memory = process.memory
    if memory.unasked > max(memory.offered, memory.resident * _MATTERS):
        yield Cause(
            Code.NOT_ASKED,
            f"{_mib(memory.unasked)} of its memory were never offered to KSM"
            + (f"; {_mib(memory.offered)} were." if memory.offered else "."),
            {"offered_kb": memory.offered, "not_offered_kb": memory.unasked},
            "The program has to call madvise(MADV_MERGEABLE) (QEMU: mem-merge=on), or its service "
            "gets MemoryKSM=yes (since 6.4). An area that was taken back stays so.",
        )
    for member, code, what, advice in _EXCLUDED:
        kilobytes = getattr(memory, member)
        if kilobytes > max(memory.merged, memory.resident * _MATTERS):
            yield Cause(code, f"{_mib(kilobytes)} are {what}.", {f"{member}_kb": kilobytes}, advice)


def of_process(process: Process, host: Host) -> list[Cause]:
    """Why little of a process merges; the last one is MERGED if that is not so."""
    memory = process.memory
    causes = [*_of_ksmd(host), *_of_areas(process)]
    if not memory.offered:
        return causes
    pages, merged = memory.offered // PAGE_KB, memory.merged // PAGE_KB
    scanned = process.rmap_items
    if merged >= pages * _LITTLE:
        causes.append(
            Cause(
                Code.MERGED,
                f"Of {_mib(memory.offered)} that it offers {_mib(memory.merged)} are merged.",
                {"offered_kb": memory.offered, "merged_kb": memory.merged},
                "Nothing to do.",
            )
        )
        return causes
    if scanned is not None and scanned < pages * _LITTLE:
        causes.append(
            Cause(
                Code.NOT_SCANNED,
                f"ksmd has looked at {scanned} of the {pages} pages that it offers.",
                {"ksm_rmap_items": scanned, "pages": pages},
                "Wait, or let ksmd scan faster: raise pages_to_scan.",
            )
        )
        return [*causes, *_of_scanning(host)]
    return [*causes, *_of_scanning(host), *_of_contents(host, pages, merged)]
