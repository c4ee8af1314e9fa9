"""The kernel's own numbers about KSM, as they were read at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelNumbers:
    """One reading of the host sources. `ksm` is None on a kernel without KSM."""

    ksm: dict[str, int] | None
    # /proc/meminfo, in kB as printed (entries without unit: counts).
    meminfo: dict[str, int]
    # /proc/vmstat lines about KSM and KSM's neighbours.
    vmstat: dict[str, int]
    # Files that exist and could not be read, or not understood.
    failures: tuple[str, ...] = ()
    # CPU time that ksmd has used since boot, in seconds; None where it is not seen.
    ksmd_cpu: float | None = None
