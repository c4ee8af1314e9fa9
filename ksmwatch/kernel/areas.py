"""Areas of a process with KSM mappings, out of an smaps text. Pure.

ksmd merges only in areas that are mergeable (`mg` among VmFlags: MADV_MERGEABLE or
PR_SET_MEMORY_MERGE), but the conversion of a page that processes share by fork reaches into
areas that are not. Such PTEs are called stray here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypedDict

from ksmwatch.units import PAGE_SIZE

_HEAD = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ *(.*)$", re.MULTILINE)
_KSM = re.compile(rb"^KSM: +(\d+) kB$", re.MULTILINE)
_ANONYMOUS = re.compile(rb"^Anonymous: +(\d+) kB$", re.MULTILINE)
_FLAGS = re.compile(rb"^VmFlags: (.*)$", re.MULTILINE)

# Counts the KSM mappings between two addresses; for kernels whose smaps has no KSM line.
CountBetween = Callable[[int, int], int]


@dataclass(frozen=True)
class Area:
    """An area with KSM mappings (`mappings`, in pages)."""

    start: int
    end: int
    mappings: int
    mergeable: bool
    name: str


def parse(smaps: bytes, probe: CountBetween | None = None) -> Iterator[Area]:
    """Areas of an smaps text that have KSM mappings."""
    heads = list(_HEAD.finditer(smaps))
    for head, end in itertools.zip_longest(heads, [h.start() for h in heads[1:]]):
        block = smaps[head.end() : end]
        start, stop = int(head[1], 16), int(head[2], 16)
        mappings = _mappings(block, start, stop, probe)
        if mappings:
            flags = _FLAGS.search(block)
            mergeable = flags is not None and b"mg" in flags[1].split()
            yield Area(start, stop, mappings, mergeable, head[3].decode(errors="replace"))


def _mappings(block: bytes, start: int, stop: int, probe: CountBetween | None) -> int:
    line = _KSM.search(block)
    if line is not None:
        return int(line[1]) * 1024 // PAGE_SIZE
    anonymous = _ANONYMOUS.search(block)
    if probe is None or anonymous is None or not int(anonymous[1]):
        return 0
    return probe(start, stop)


def stray(areas: Iterable[Area]) -> tuple[Area, ...]:
    """Those that are not mergeable."""
    return tuple(area for area in areas if not area.mergeable)


class AreaDocument(TypedDict):
    """An area in JSON; addresses are hexadecimal."""

    start: str
    end: str
    mappings: int
    mergeable: bool
    name: str


def area_document(area: Area) -> AreaDocument:
    """For JSON."""
    return {
        "start": f"{area.start:#x}",
        "end": f"{area.end:#x}",
        "mappings": area.mappings,
        "mergeable": area.mergeable,
        "name": area.name,
    }
