"""Switches with which others stop all probes without detaching one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ksmwatch.kernel.kept_file import KeptFile
from ksmwatch.kernel.procfs import read_file

# All probes at function entries depend on ftrace: fentry trampolines and kprobes alike. Writing 0
# turns every call site back into a nop (ftrace_shutdown_sysctl() in kernel/trace/ftrace.c).
_FTRACE = "/sys/kernel/ftrace_enabled"
# disarm_all_kprobes() in kernel/kprobes.c.
_KPROBES = "/kernel/debug/kprobes/enabled"


class ProbeSwitches:
    """The switches. An unreadable one says nothing: kernels without ftrace or debugfs have none."""

    def __init__(self, proc: Path, sys: Path, *, kprobes: bool) -> None:
        """`kprobes`: whether any probe is a kprobe."""
        self._ftrace = KeptFile(f"{proc}{_FTRACE}")
        self._kprobes_path = f"{sys}{_KPROBES}"
        self._kprobes = kprobes

    def stopped(self) -> str | None:
        """Why attached probes do not run, as the beginning of a sentence; None if they run."""
        if _is_off(self._ftrace.read):
            return "probes do not run while kernel.ftrace_enabled is 0"
        # A file that is kept open would not let anybody unmount debugfs.
        if self._kprobes and _is_off(lambda: read_file(self._kprobes_path)):
            return "probes do not run while /sys/kernel/debug/kprobes/enabled is 0"
        return None


def readable(proc: Path, sys: Path) -> list[Path]:
    """The switches that this kernel has, and that we may read."""
    paths = (f"{proc}{_FTRACE}", f"{sys}{_KPROBES}")
    return [Path(path) for path in paths if os.access(path, os.R_OK)]


def _is_off(read: Callable[[], bytes]) -> bool:
    try:
        return read().strip() == b"0"
    except OSError:
        return False
