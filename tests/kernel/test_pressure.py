"""Events without end, by processes that preempt each other: none may be lost.

On PREEMPT_RT page-table locks sleep, so hooks that run under them can be preempted; elsewhere the
hooks that run under no lock can.
"""

from __future__ import annotations

import time
from typing import Any

from tests import oracle
from tests.kernel.compare import assert_exact, mappings
from tests.kernel.daemon import Daemon
from tests.kernel.pressure import PROCESSES, SETTINGS, held, missed, pressure
from tests.ksmctl import Ksm
from tests.waiting import wait_until

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
