"""What the kernel itself says about the attached probes."""

from __future__ import annotations

import os
from pathlib import Path

# Run for every page that is mapped or unmapped, under their names of all test kernels.
HOT = {
    "folio_add_anon_rmap_ptes",
    "folio_remove_rmap_ptes",
    "page_add_anon_rmap",
    "page_remove_rmap",
}
# Kprobes that are breakpoints, as all are on arm64, are only here.
KPROBES = Path("/sys/kernel/debug/kprobes/list")


def mechanisms() -> list[str]:
    """By which programs can be attached here: both, but for fentry on arm64 before 6.4.

    ftrace has no direct calls there (commit 2aa6ac03516d).
    """
    symbols = {line.split()[2] for line in Path("/proc/kallsyms").read_text().splitlines()}
    if os.uname().machine == "aarch64" and "register_ftrace_direct" not in symbols:
        return ["kprobe"]
    return ["fentry", "kprobe"]


def attached(tracefs: Path) -> set[str]:
    """Kernel functions with a probe of anybody's."""
    traced = {line.split()[0] for line in tracefs.read_text().splitlines()}
    return traced | {line.split()[2].split("+")[0] for line in KPROBES.read_text().splitlines()}


def complete_mechanisms() -> list[str]:
    """Those by which the kernel skips no run: with PREEMPT_RT it does by fentry."""
    return ["kprobe"] if Path("/sys/kernel/realtime").exists() else mechanisms()
