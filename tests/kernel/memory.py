"""How much memory the kernel reports as used."""

from __future__ import annotations

from pathlib import Path

from tests import oracle

PAGE_KB = oracle.PAGE // 1024


def anon_kb() -> int:
    """AnonPages of /proc/meminfo, in which KSM pages are counted."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("AnonPages:")).split()[1])
