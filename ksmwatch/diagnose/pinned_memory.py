"""How much of a process's memory is pinned for devices, RDMA or io_uring. Pure.

Pinned pages must not move, so ksmd does not merge them. Which pages they are the kernel does not
say.
"""

from __future__ import annotations

import re

from ksmwatch.diagnose.evidence import LOCKED_FLAG
from ksmwatch.kernel.smaps import smaps_areas


def pinned_kilobytes(smaps: bytes, status: str) -> int:
    """By /proc/PID/smaps and /proc/PID/status."""
    # RDMA, io_uring and iommufd count in VmPin; VFIO counts in VmLck, as locked areas do.
    held = _kilobytes(status, "VmLck")
    if held:
        areas = smaps_areas(smaps)
        held -= sum(area.kilobytes("Size") for area in areas if LOCKED_FLAG in area.flags)
    return _kilobytes(status, "VmPin") + max(0, held)


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) if found else 0
