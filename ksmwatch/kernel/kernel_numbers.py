"""The kernel's own numbers about KSM, as read at one moment."""

from __future__ import annotations

from typing import NamedTuple


class KernelNumbers(NamedTuple):
    """One reading of the host sources. `ksm` is None on a kernel without KSM."""

    ksm: dict[str, int] | None
    # /proc/meminfo, in kB as printed (entries without unit: counts).
    meminfo: dict[str, int]
    # /proc/vmstat lines about KSM and related events.
    vmstat: dict[str, int]
    # Files that exist but could not be read or parsed.
    failures: tuple[str, ...] = ()
    # CPU time that ksmd has used since boot, in seconds; None if ksmd is not visible.
    ksmd_cpu: float | None = None
