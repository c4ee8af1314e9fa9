"""Reads the evidence that `causes` judges: areas of processes, KSM's files, and who sets them."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ksmwatch.diagnose import page_changes
from ksmwatch.diagnose.advice import ADVISOR, TUNERS, Conditions, Holder
from ksmwatch.diagnose.evidence import (
    HUGE_FLAGS,
    SHARED_FLAGS,
    SPECIAL_FLAGS,
    TAGGED_FLAG,
    HostEvidence,
    Memory,
    Offers,
    ProcessEvidence,
)
from ksmwatch.diagnose.pinned_memory import pinned_kilobytes
from ksmwatch.errors import NoKsmError, PrivilegeError, SourceError
from ksmwatch.kernel import procfs
from ksmwatch.kernel.memory_nodes import read_memory_nodes
from ksmwatch.kernel.procfs import KsmStat
from ksmwatch.kernel.smaps import MERGEABLE, SmapsArea, smaps_areas
from ksmwatch.units import PAGE_KB

# The areas of all processes that offer memory are read, which walks page tables.
_OFFERS_SECONDS = 20.0
_SYSTEMD = re.compile(r"libsystemd-shared-([0-9]+)")


def parse_memory(smaps: bytes, status: str) -> Memory:
    """A process's memory, from /proc/PID/smaps and /proc/PID/status."""
    sums: Counter[str] = Counter()
    for area in smaps_areas(smaps):
        sums.update(_sort(area, area.flags))
    return Memory(**sums, pinned=pinned_kilobytes(smaps, status))


def _sort(area: SmapsArea, flags: frozenset[str]) -> dict[str, int]:
    anonymous = area.kilobytes("Anonymous")
    if flags & HUGE_FLAGS:
        return {"hugetlb": area.kilobytes("Private_Hugetlb") + area.kilobytes("Shared_Hugetlb")}
    if MERGEABLE in flags:
        return {
            "offered": anonymous,
            "merged": area.kilobytes("KSM"),
            # In a private mapping, memory that is not anonymous is the file's.
            "cached": area.kilobytes("Rss") - anonymous,
            "swapped": area.kilobytes("Swap"),
            "huge": area.kilobytes("AnonHugePages"),
            "tagged": anonymous if TAGGED_FLAG in flags else 0,
        }
    if flags & SHARED_FLAGS:
        return {"shared": area.kilobytes("Rss")}
    if flags & SPECIAL_FLAGS:
        return {"special": area.kilobytes("Rss")}
    return {"unasked": anonymous + area.kilobytes("Swap")}


def read_process(proc: Path, pid: int) -> ProcessEvidence:
    """Read one process. Raises SourceError if there is none, PrivilegeError if denied."""
    directory = proc / str(pid)
    try:
        memory = parse_memory(
            (directory / "smaps").read_bytes(),
            (directory / "status").read_text(errors="replace"),
        )
        stat = procfs.read_ksm_stat(directory)
        name = (directory / "comm").read_text(errors="replace").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        raise SourceError(f"There is no process {pid}.") from None
    except PermissionError:
        raise PrivilegeError(
            f"Process {pid} belongs to another user: reading it needs root."
        ) from None
    return ProcessEvidence(pid, name, _with_ksm_stat(memory, stat), stat.rmap_items)


def _with_ksm_stat(memory: Memory, stat: KsmStat) -> Memory:
    """Add what smaps lacks: zero pages, and before 6.6 merged pages."""
    merged = memory.merged or (stat.merging_pages or 0) * PAGE_KB
    return replace(memory, merged=merged, zero=max(0, stat.zero_pages or 0) * PAGE_KB)


def offered(smaps: bytes) -> list[page_changes.Range]:
    """Mergeable areas with anonymous pages."""
    return [
        (area.start, area.end)
        for area in smaps_areas(smaps)
        if MERGEABLE in area.flags and area.kilobytes("Anonymous")
    ]


def read_host(proc: Path, sys: Path) -> HostEvidence:
    """Read the host. Raises NoKsmError on a kernel without KSM."""
    ksm, _ = procfs.read_ksm(sys)
    if ksm is None:
        raise NoKsmError("This kernel has no KSM (CONFIG_KSM).")
    users: int | None = 0
    for pid in procfs.pids(proc):
        try:
            user = procfs.read_ksm_stat(proc / str(pid)).user
        except (FileNotFoundError, ProcessLookupError):
            continue
        except (OSError, ValueError):
            users = None
            break
        users = (users or 0) + user
    return HostEvidence(
        ksm, users, nodes=max(1, len(read_memory_nodes(sys))), conditions=read_conditions(proc, sys)
    )


def read_offers(proc: Path, clock: Callable[[], float] = time.monotonic) -> Offers:
    """Processes with mergeable areas: first those that ksmd knows, then the others."""
    end = clock() + _OFFERS_SECONDS
    processes, memory, complete = 0, Memory(), True
    stats: dict[Path, KsmStat] = {}
    for pid in procfs.pids(proc):
        try:
            stats[proc / str(pid)] = procfs.read_ksm_stat(proc / str(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
        except (OSError, ValueError):
            complete = False
    for directory, stat in sorted(stats.items(), key=lambda each: not each[1].user):
        if stat.offers is False:
            continue
        if clock() > end:
            complete = False
            break
        try:
            found = parse_memory((directory / "smaps").read_bytes(), "")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            complete = False
            continue
        found = _with_ksm_stat(found, stat)
        if found.asked or stat.offers:
            processes += 1
            memory += replace(found, unasked=0, shared=0, hugetlb=0, special=0, pinned=0)
    return Offers(processes, memory, complete)


def read_conditions(proc: Path, sys: Path) -> Conditions:
    files = frozenset(path.name for path in (sys / "kernel/mm/ksm").glob("*"))
    return Conditions(files, _systemd(proc.parent), _holders(proc, sys))


def _systemd(root: Path) -> int | None:
    """The version of systemd, from its own library; None if there is none, or it is elsewhere."""
    places = ("usr/lib/systemd", "usr/lib/*/systemd", "usr/lib64/systemd", "lib/systemd")
    for place in places:
        for path in root.glob(f"{place}/libsystemd-shared-*.so"):
            if match := _SYSTEMD.match(path.name):
                return int(match[1])
    return None


def _holders(proc: Path, sys: Path) -> tuple[Holder, ...]:
    """The programs that set files of KSM."""
    try:
        mode = (sys / "kernel/mm/ksm/advisor_mode").read_text()
    except OSError:
        mode = ""
    found = [ADVISOR] if "[scan-time]" in mode else []
    comms = set()
    for pid in procfs.pids(proc):
        try:
            comms.add((proc / str(pid) / "comm").read_text(errors="replace").rstrip("\n"))
        except OSError:
            continue
    return (*found, *(tuner for tuner in TUNERS if tuner.comm in comms))
