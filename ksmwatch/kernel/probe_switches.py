"""Switches with which others stop all probes without detaching one."""

from __future__ import annotations

import os
from pathlib import Path

from ksmwatch.kernel.procfs import read_file

# All probes at function entries depend on ftrace: fentry trampolines and kprobes alike. Writing 0
# turns every call site back into a nop (ftrace_shutdown_sysctl() in kernel/trace/ftrace.c).
_FTRACE = "/sys/kernel/ftrace_enabled"
# disarm_all_kprobes() in kernel/kprobes.c.
_KPROBES = "/kernel/debug/kprobes/enabled"


def read_stopped(proc: Path, sys: Path, *, kprobes: bool) -> str | None:
    """Why attached probes do not run, as the beginning of a sentence; None if they run.

    `kprobes`: whether any probe is a kprobe. An unreadable file says nothing: kernels
    without ftrace or debugfs have none.
    """
    if _is_off(f"{proc}{_FTRACE}"):
        return "probes do not run while kernel.ftrace_enabled is 0"
    if kprobes and _is_off(f"{sys}{_KPROBES}"):
        return "probes do not run while /sys/kernel/debug/kprobes/enabled is 0"
    return None


def readable(proc: Path, sys: Path) -> list[Path]:
    """The switches that this kernel has, and that we may read."""
    paths = (f"{proc}{_FTRACE}", f"{sys}{_KPROBES}")
    return [Path(path) for path in paths if os.access(path, os.R_OK)]


def _is_off(path: str) -> bool:
    try:
        return read_file(path).strip() == b"0"
    except OSError:
        return False
