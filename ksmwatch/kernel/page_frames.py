"""Which page frames hold KSM pages: by kpageflags, or by struct page in /proc/kcore.

A page is KSM if the low two bits of its `mapping` are 3 (PAGE_MAPPING_KSM).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from ksmwatch.errors import SourceError
from ksmwatch.kernel.frame_places import NOWHERE, Segment
from ksmwatch.kernel.kcore import Kcore
from ksmwatch.units import PAGE_SIZE

# Documentation/admin-guide/mm/pagemap.rst
_KPF_ANON, _KPF_KSM = 1 << 12, 1 << 21
# Of `mapping`: include/linux/page-flags.h.
_MAPPING_BITS, _ANON, _KSM = 3, 1, 3


class Frames(Protocol):
    """Classifies frames. `name`: its source."""

    name: str

    def ksm(self, frames: Collection[int]) -> set[int]:
        """The frames that hold a KSM page. Raises OSError."""

    def private(self, frame: int) -> bool:
        """Whether the source says that the frame's page is anonymous and not KSM."""


def runs(frames: list[int]) -> Iterator[tuple[int, int]]:
    """(first, count) of each run of consecutive numbers in a sorted list."""
    first = last = -2
    for frame in frames:
        if frame != last + 1:
            if last >= first >= 0:
                yield first, last - first + 1
            first = frame
        last = frame
    if first >= 0:
        yield first, last - first + 1


class KpageFlags:
    """/proc/kpageflags: cheap, but from 6.10 to 7.2 KPF_KSM is set for every anonymous page."""

    name = "kpageflags"

    def __init__(self, proc: Path) -> None:
        self._fd = os.open(proc / "kpageflags", os.O_RDONLY | os.O_CLOEXEC)

    def ksm(self, frames: Collection[int]) -> set[int]:
        """The frames that hold a KSM page. Raises OSError."""
        return {
            first + i
            for first, count in runs(sorted(frames))
            for i, flags in enumerate(array("Q", os.pread(self._fd, count * 8, first * 8)))
            if flags & _KPF_KSM
        }

    def private(self, frame: int) -> bool:
        """Whether the source says that the frame's page is anonymous and not KSM."""
        flags = int.from_bytes(os.pread(self._fd, 8, frame * 8), "little")
        return flags & (_KPF_ANON | _KPF_KSM) == _KPF_ANON


# struct page has 64 bytes on x86-64 and arm64; include/linux/mm_types.h aligns it so.
PAGE_STRUCT = 64


def page_structs(segments: Sequence[Segment]) -> int:
    """Address of the array of struct page.

    It can begin anywhere (CONFIG_DYNAMIC_MEMORY_LAYOUT on x86), and kallsyms hides the variable
    that says where. But /proc/kcore lists each piece of RAM, and next to it its part of the array,
    in whole pages (get_sparsemem_vmemmap_info() in fs/proc/kcore.c).
    """
    found = set()
    for ram, part in pairwise(segments):
        if ram.physical == NOWHERE or part.physical != NOWHERE:
            continue
        first = ram.physical // PAGE_SIZE
        start = first * PAGE_STRUCT // PAGE_SIZE
        end = -((first + ram.size // PAGE_SIZE) * PAGE_STRUCT // -PAGE_SIZE)
        if part.size == (end - start) * PAGE_SIZE:
            found.add(part.address - start * PAGE_SIZE)
    if len(found) != 1:
        raise SourceError("/proc/kcore does not show where the array of struct page is.")
    return found.pop()


class PageStructs:
    """/proc/kcore: the `mapping` of each struct page. Right on every kernel; needs CAP_SYS_RAWIO.

    Raises OSError if it is missing or lockdown hides it, SourceError if the array of struct page
    cannot be found.
    """

    name = "struct page"

    def __init__(self, proc: Path, offsets: Mapping[str, int]) -> None:
        """`offsets`: of struct_layout.MEMBERS, from BTF."""
        if not offsets.keys() >= {"page_mapping", "page_compound_head"}:
            raise SourceError("BTF does not describe the mapping of struct page.")
        self._mapping, self._head = offsets["page_mapping"], offsets["page_compound_head"]
        self._kcore = Kcore(proc)
        self._base = page_structs(self._kcore.segments)

    def _bits(self, first: int, count: int) -> Iterator[int]:
        """Low bits of `mapping` of consecutive frames; 0 for tail pages, whose word is another."""
        data = self._kcore.read(self._base + first * PAGE_STRUCT, count * PAGE_STRUCT)
        mappings, heads = (data[at::PAGE_STRUCT] for at in (self._mapping, self._head))
        return (m & _MAPPING_BITS if not h & 1 else 0 for m, h in zip(mappings, heads, strict=True))

    def ksm(self, frames: Collection[int]) -> set[int]:
        """The frames that hold a KSM page. Raises OSError."""
        return {
            first + i
            for first, count in runs(sorted(frames))
            for i, bits in enumerate(self._bits(first, count))
            if bits == _KSM
        }

    def private(self, frame: int) -> bool:
        """Whether the source says that the frame's page is anonymous and not KSM."""
        return next(self._bits(frame, 1), 0) == _ANON


class AnyFrame:
    """Takes every frame for KSM, if nothing distinguishes them; `why` says so."""

    name = "areas"

    def __init__(self, why: str) -> None:
        self.why = why

    def ksm(self, frames: Collection[int]) -> set[int]:
        return set(frames)

    def private(self, frame: int) -> bool:
        return False
