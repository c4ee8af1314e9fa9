"""Areas of a process with KSM mappings, from the text of smaps. Pure.

ksmd merges only in areas that are mergeable (`mg` among VmFlags: MADV_MERGEABLE or
PR_SET_MEMORY_MERGE). But the conversion of a page that processes share by fork also reaches areas
that are not. PTEs there are called stray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypedDict

from ksmwatch.kernel.smaps import MERGEABLE, SmapsArea, kilobytes, smaps_areas
from ksmwatch.units import PAGE_KB

# Counts the KSM mappings between two addresses; for kernels whose smaps has no KSM line.
CountBetween = Callable[[int, int], int]


class Area(NamedTuple):
    """An area with KSM mappings (`mappings`, in pages)."""

    start: int
    end: int
    mappings: int
    mergeable: bool
    name: str


def parse(smaps: bytes, probe: CountBetween | None = None) -> Iterator[Area]:
    """Areas in the text of smaps that have KSM mappings."""
    for area in smaps_areas(smaps):
        mappings = _mappings(area, probe)
        if mappings:
            yield Area(area.start, area.end, mappings, MERGEABLE in area.flags, area.name)


def _mappings(area: SmapsArea, probe: CountBetween | None) -> int:
    size = kilobytes(area.text, "KSM")
    if size is not None:
        return size // PAGE_KB
    if probe is None or not area.kilobytes("Anonymous"):
        return 0
    return probe(area.start, area.end)


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
    return {
        "start": f"{area.start:#x}",
        "end": f"{area.end:#x}",
        "mappings": area.mappings,
        "mergeable": area.mergeable,
        "name": area.name,
    }
