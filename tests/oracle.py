"""The truth for all comparisons: PTEs that map a KSM page, read from the page tables.

Shares no code with ksmwatch. smaps' KSM lines where the kernel has them (since 6.6); they also
count migration entries, which exist only while a page is being moved, and entries of poisoned
pages, which are taken off here. Elsewhere pagemap and
kpageflags, after kpageflags has been shown to tell a private page from a KSM page.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

PAGE = os.sysconf("SC_PAGE_SIZE")
_PRESENT, _SWAPPED, _SHARED = 1 << 63, 1 << 62, 1 << 61
_FRAME = (1 << 55) - 1
_KSM_FLAG, _POISONED_FLAG = 1 << 21, 1 << 19
# An entry that is not present has a type in place of the lowest bits of a frame. Those from 16 on
# are of no swap device.
_TYPE_BITS, _NO_DEVICE = 5, 16


@dataclass
class Area:
    """An area, its KSM PTEs, and its VmFlags."""

    start: int
    end: int
    flags: frozenset[str]
    pages: int = 0
    anonymous: int = 0


def host() -> dict[int, int]:
    """KSM PTEs by process, of those that have any. Two that share an mm are both listed."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            pages = process(int(name))
            if pages:
                found[int(name)] = pages
    return found


def process(pid: int) -> int:
    """KSM PTEs of one process; 0 when it has gone."""
    return sum(area.pages for area in areas(pid))


def areas(pid: int) -> list[Area]:
    """All areas of a process, with their KSM PTEs."""
    try:
        with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as smaps:
            found = _parse(smaps.read())
        if not _smaps_has_ksm():
            _count_by_frames(pid, found)
        elif _some_are_poisoned():
            _take_off_poisoned(pid, found)
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found


def frames(pid: int, address: int, pages: int) -> list[int]:
    """Frames of this many pages of a process from an address on; all must be present."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        raw = os.pread(pagemap.fileno(), pages * 8, address // PAGE * 8)
    entries = [entry for (entry,) in struct.iter_unpack("=Q", raw)]
    assert all(entry & _PRESENT for entry in entries)
    return [entry & _FRAME for entry in entries]


def _parse(text: str) -> list[Area]:
    found: list[Area] = []
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            start, _, end = first.partition("-")
            found.append(Area(int(start, 16), int(end, 16), frozenset()))
        elif first == "KSM:":
            found[-1].pages = int(rest.split()[0]) * 1024 // PAGE
        elif first == "Anonymous:":
            found[-1].anonymous = int(rest.split()[0])
        elif first == "VmFlags:":
            found[-1].flags = frozenset(rest.split())
    return found


@functools.cache
def _smaps_has_ksm() -> bool:
    with open("/proc/self/smaps", encoding="utf-8") as smaps:
        return "\nKSM:" in smaps.read()


def _some_are_poisoned() -> bool:
    with open("/proc/meminfo", encoding="utf-8") as meminfo:
        return any(
            line.startswith("HardwareCorrupted:") and line.split()[1] != "0" for line in meminfo
        )


def _take_off_poisoned(pid: int, found: list[Area]) -> None:
    """In areas without a KSM page the entries are of other pages."""
    with (
        open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap,
        open("/proc/kpageflags", "rb", buffering=0) as kpageflags,
    ):
        for area in found:
            if area.pages:
                pages = (area.end - area.start) // PAGE
                raw = os.pread(pagemap.fileno(), pages * 8, area.start // PAGE * 8)
                area.pages -= sum(
                    bool(_flag(kpageflags.fileno(), frame) & _POISONED_FLAG) for frame in _away(raw)
                )


def _away(entries: bytes) -> Iterator[int]:
    """Frames of entries that are not present and of no swap device."""
    for (entry,) in struct.iter_unpack("=Q", entries):
        if entry & _SWAPPED and entry & (1 << _TYPE_BITS) - 1 >= _NO_DEVICE:
            yield (entry & _FRAME) >> _TYPE_BITS


def _count_by_frames(pid: int, found: list[Area]) -> None:
    _prove_kpageflags()
    for area, flags in _flags_by_area(pid, found):
        area.pages = sum(bool(flag & _KSM_FLAG) for flag in flags)


def _flags_by_area(pid: int, found: list[Area]) -> Iterator[tuple[Area, list[int]]]:
    """Kpageflags of the present private pages of each area that has anonymous ones."""
    with (
        open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap,
        open("/proc/kpageflags", "rb", buffering=0) as kpageflags,
    ):
        for area in found:
            if area.anonymous:
                raw = os.pread(
                    pagemap.fileno(), (area.end - area.start) // PAGE * 8, area.start // PAGE * 8
                )
                yield area, [_flag(kpageflags.fileno(), frame) for frame in private_frames(raw)]


def private_frames(entries: bytes) -> list[int]:
    """Of entries of pagemap: the frames of present private pages."""
    return [
        entry & _FRAME
        for (entry,) in struct.iter_unpack("=Q", entries)
        if entry & _PRESENT and not entry & _SHARED
    ]


def _flag(kpageflags: int, frame: int) -> int:
    (value,) = struct.unpack("=Q", os.pread(kpageflags, 8, frame * 8))
    return int(value)


@functools.cache
def _prove_kpageflags() -> None:
    """From 6.10 to 7.2 kpageflags calls every anonymous page KSM: then it is no oracle."""
    with open("/proc/self/smaps", encoding="utf-8") as smaps:
        mine = _parse(smaps.read())
    flags = [flag for _, some in _flags_by_area(os.getpid(), mine) for flag in some]
    assert flags, "pagemap shows no frames"
    assert not any(flag & _KSM_FLAG for flag in flags), "kpageflags calls private pages KSM"
