"""KSM pages that compaction moves: each departs and arrives, or its processes are read anew.

On kernels in which a compiler has put a copy of the rmap function into try_to_migrate_one() no
departure is seen (Debian's 7.2-rt and 7.3-rt).
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import pytest

from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

PAGES = 1201
ROUNDS = 3


def frames(tenant: Tenant) -> set[int]:
    """Frames of all private pages of a process."""
    found: set[int] = set()
    size = os.sysconf("SC_PAGE_SIZE")
    with open(f"/proc/{tenant.pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in Path(f"/proc/{tenant.pid}/maps").read_text().splitlines():
            first, last = (int(part, 16) // size for part in line.split()[0].split("-"))
            if "[v" not in line:
                raw = os.pread(pagemap.fileno(), (last - first) * 8, first * 8)
                entries = array("Q", raw)
                found |= {e & (1 << 55) - 1 for e in entries if e >> 63 and not e >> 61 & 1}
    return found


@pytest.mark.parametrize("probes", ["fentry", "kprobe"])
def test_pages_that_are_moved_are_counted_once(probes: str, ksm: Ksm) -> None:
    # No audit: it would heal what this is about.
    options = (f"--probes={probes}", "--audit.cpu-percent=0")
    with Daemon(*options, http=False) as daemon, Workload() as load:
        a, b, hole = load.spawn("a"), load.spawn("b"), load.spawn("hole")
        # Room below, into which compaction moves what is above.
        hole.map("heap", 20_000)
        hole.fill("heap", 0, 20_000, seed=9, modulo=0)
        for tenant in (a, b):
            tenant.map("heap", PAGES)
            tenant.fill("heap", 0, PAGES, seed=3, modulo=0)
            tenant.madvise("heap", 0, PAGES, "mergeable")
        ksm.merge_all()
        assert_exact(daemon, {a.pid: PAGES, b.pid: PAGES})
        moved = 0
        for at in range(ROUNDS):
            hole.madvise("heap", at * 5000, 5000, "dontneed")
            before = frames(a)
            Path("/proc/sys/vm/compact_memory").write_text("1")
            moved += len(before - frames(a))
            assert_exact(daemon, {a.pid: PAGES, b.pid: PAGES})
        assert moved, "compaction has moved nothing"
        a.write("heap", 0, 101)
        assert_exact(daemon, {a.pid: PAGES - 101, b.pid: PAGES})
