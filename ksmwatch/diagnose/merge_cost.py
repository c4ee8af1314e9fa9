"""What merging would cost ksmd: book-keeping, time and CPU. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# struct ksm_rmap_item (mm/ksm.c): one for each page that ksmd looks at.
_RMAP_ITEM = 64
# A page merges once it was the same in two scans, and its first scan may be under way.
_SCANS = 3
_HOUR = 3600
# Of fewer scanned pages the CPU time of ksmd says nothing: it is counted in clock ticks.
_ENOUGH_PAGES = 100_000


@dataclass(frozen=True)
class MergeCost:
    """If all pages were offered. None: not known, as nothing was measured or ksmd is set to stop.

    `seconds_until_merged`: by pages_to_scan and sleep_millisecs as they are now.
    `pages_to_scan_for_an_hour`: the pages_to_scan with which it takes an hour. `ksmd_cpu_seconds`:
    until then, from the time that ksmd has used for each page since this host was booted.
    `ksmd_runs`: now; otherwise the time begins when it is started.
    """

    pages: int
    book_keeping_bytes: int
    seconds_until_merged: float | None
    pages_to_scan_for_an_hour: int | None
    ksmd_cpu_seconds: float | None
    ksmd_runs: bool


def cost_of(pages: int, ksm: Mapping[str, int], ksmd_cpu_seconds: float | None) -> MergeCost:
    """`ksm`: files of /sys/kernel/mm/ksm."""
    scans = pages * _SCANS
    each = _cpu_per_page(ksm, ksmd_cpu_seconds)
    batch, sleep = ksm.get("pages_to_scan"), ksm.get("sleep_millisecs")
    until = hour = None
    if batch and sleep is not None:
        # Sleeping, and working where that is known.
        until = scans / batch * sleep / 1000 + scans * (each or 0.0)
        left = _HOUR - scans * (each or 0.0)
        hour = math.ceil(scans * sleep / 1000 / left) if pages and left > 0 and sleep else None
    return MergeCost(
        pages,
        pages * _RMAP_ITEM,
        None if until is None else round(until, 3),
        hour,
        None if each is None else round(scans * each, 3),
        ksm.get("run") == 1,
    )


def _cpu_per_page(ksm: Mapping[str, int], seconds: float | None) -> float | None:
    scanned = ksm.get("pages_scanned", 0)
    if not seconds or scanned < _ENOUGH_PAGES:
        return None
    return seconds / scanned
