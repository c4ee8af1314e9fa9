"""Events without end, by processes that preempt each other: none may be lost.

On PREEMPT_RT page-table locks sleep, so hooks that run under them can be preempted; elsewhere the
hooks that run under no lock can.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests import oracle
from tests.kernel.compare import assert_exact, mappings
from tests.kernel.daemon import Daemon
from tests.kernel.pressure import PROCESSES, SETTINGS, held, missed, pressure
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Workload, mergeable

SNAPSHOTS = 100
AT_LEAST_EXACT = 95
# After so many everything is stopped, and counts are compared with the page tables.
COMPARED = 10


def _wrong(document: dict[str, Any], truth: dict[int, int]) -> list[str]:
    """Processes whose count is called exact and is not."""
    return [
        f"process {process['pid']}: {process['mappings']} counted, {truth.get(process['pid'], 0)}"
        for process in document["processes"]
        if process["confidence"] == "exact" and process["mappings"] != truth.get(process["pid"], 0)
    ]


def test_counts_stay_exact_while_events_never_cease() -> None:
    reasons: list[str] = []
    with (
        Ksm(**SETTINGS) as ksm,
        Daemon("--audit.cpu-percent=0", http=False) as daemon,
        pressure() as pids,
    ):
        ksm.start()
        wait_until(lambda: len(mappings(daemon.snapshot())) == PROCESSES, "nothing is merged")
        for number in range(SNAPSHOTS):
            time.sleep(1)
            document = daemon.snapshot()
            if document["host"]["confidence"] != "exact":
                reasons.append(f"snapshot {number}: {document['host']}")
            if number % COMPARED == COMPARED - 1:
                with held(ksm, pids):
                    document = daemon.snapshot()
                    assert _wrong(document, oracle.host()) == []
        losses = {name: count for name, count in document["losses"].items() if count}
        print(f"missed {missed(document)}, losses {losses}", *reasons, sep="\n")
        assert len(reasons) <= SNAPSHOTS - AT_LEAST_EXACT, reasons
        with held(ksm, pids):
            assert_exact(daemon, oracle.host())
    assert document["audit"]["surplus"] == document["audit"]["missing"] == 0
    assert document["totals"]["miscounted_mms"] == 0


def _moved() -> int:
    lines = Path("/proc/vmstat").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("pgmigrate_success ")).split()[1])


def test_pages_that_compaction_moves_stay_counted(ksm: Ksm) -> None:
    """Where the compiler has inlined the hooked function into try_to_migrate_one() too."""
    with Daemon("--audit.cpu-percent=0", http=False) as daemon, Workload() as load:
        # Each second page of these is given back, so that there is room to move to.
        holes = load.spawn("holes")
        tenant = mergeable(load, "tenant", 1200)
        holes.map("heap", 8192)
        holes.fill("heap", 0, 8192, seed=5, modulo=0)
        ksm.merge_all()
        before = _moved()
        for page in range(0, 8192, 2):
            holes.madvise("heap", page, 1, "dontneed")
        for _ in range(6):
            Path("/proc/sys/vm/compact_memory").write_text("1")
            document = assert_exact(daemon, {tenant.pid: 1200})
        assert _moved() > before, "nothing was moved"
        arrived = document["totals"]["other"]
        assert arrived > 0, f"no KSM page was moved: {document['totals']}"
