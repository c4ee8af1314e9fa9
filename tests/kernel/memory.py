"""How much memory the kernel reports as used, and a program that uses zero pages."""

from __future__ import annotations

from pathlib import Path

from tests import oracle

PAGE_KB = oracle.PAGE // 1024
# Writes this many bytes of zeros, and offers them to KSM, until its standard input ends.
ZEROES = """
import mmap, sys
area = mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_NOHUGEPAGE)
area.write(bytes(len(area)))
area.madvise(mmap.MADV_MERGEABLE)
print("written", flush=True)
sys.stdin.read()
"""


def anon_kb() -> int:
    """AnonPages of /proc/meminfo, in which KSM pages are counted."""
    # CPUs keep what they have counted to themselves, up to some hundred pages.
    Path("/proc/sys/vm/stat_refresh").write_text("1")
    return _kilobytes(Path("/proc/meminfo"), "AnonPages")


def anon_of_kb(*pids: int) -> int:
    """Anonymous memory of these processes, of which none shares any with another."""
    return sum(_kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Anonymous") for pid in pids)


def status_kb(pid: int, name: str) -> int:
    """A line of /proc/PID/status."""
    return _kilobytes(Path(f"/proc/{pid}/status"), name)


def _kilobytes(path: Path, name: str) -> int:
    lines = path.read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
