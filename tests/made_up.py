"""An invented host, for tests of what is derived from snapshots."""

from __future__ import annotations

import dataclasses
from typing import Any

from ksmwatch.counting.ages import Ages, AgeState
from ksmwatch.counting.backend_state import AuditState, MapState, Mode, ProbeState
from ksmwatch.counting.cow_breaks import Events
from ksmwatch.counting.residue import Residue
from ksmwatch.counting.run_state import RunState
from ksmwatch.kernel.areas import Area
from ksmwatch.kernel.kernel_numbers import KernelNumbers
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.probes.map_records import AGE_CLASSES, Movement, Total
from ksmwatch.snapshot.history_state import HistoryState, Unwritten
from ksmwatch.snapshot.losses import LOSSES
from ksmwatch.snapshot.model import Reload, Snapshot
from ksmwatch.snapshot.process import Confidence, Process

STRAY = Area(0x7F0000000000, 0x7F0000010000, 3, mergeable=False, name="[heap]")

UNIT = Owner(OwnerKind.UNIT, "tenant.service", "tenant.service", manager="systemd")

# Of merges whose time is known, and of copies on write by age: five of less than four seconds, and
# three of less than 16.
WEAR = (40, 10, *(0, 0, 5, 0, 3), *(0,) * 13)


def ages(**changes: Any) -> AgeState:
    """Of the host: the owner's, and seven more of another reason."""
    none = (0,) * AGE_CLASSES
    values: dict[str, Any] = {
        "one_in": 16,
        "scan_seconds": 90.5,
        "reasons": {
            "copied": Ages(WEAR[2:], 42.5),
            "unmapped": Ages((7, *none[1:]), 1.75),
            "exited": Ages(none, 0.0),
        },
        "noted": WEAR[0],
        "wasted": WEAR[1],
        "unknown": {"unseen": 6, "ambiguous": 2, "moved": 1},
    }
    return AgeState(**{**values, **changes})


def process(**changes: Any) -> Process:
    """Process 42 with 100 mappings, 3 of them stray, 40 on another node than its own."""
    values: dict[str, Any] = {
        "pid": 42,
        "start_time": 9000,
        "ppid": 1,
        "comm": "tenant",
        "name": "tenant-with-a-long-name",
        "owner": UNIT,
        "cgroup": "/system.slice/tenant.service",
        "mappings": 100,
        "confidence": Confidence.EXACT,
        "movements": (80, 10, 5, 25, 12, 7, 1),
        "kernel_merging_pages": 110,
        "zero_pages": 8,
        "kernel_at": 5000.0 - 1.5,
        "read_at": 5000.0 - 2.5,
        "stray": (STRAY,),
        "residue": Residue.MERGED,
        "nodes": (60, 40),
        "home": 0,
    }
    return Process(**{**values, **changes})


def snapshot(**changes: Any) -> Snapshot:
    """A live host with two nodes of memory and one process. Every total has its own value."""
    kinds = [*Movement, *Total]
    values: dict[str, Any] = {
        "time": 1700000000.5,
        "clock": 5000.0,
        "duration": 0.25,
        "version": "0.1.0",
        "kernel": "7.3.9-test",
        "mode": Mode.BPF,
        "mode_reason": None,
        "asleep": False,
        "doubt": None,
        "processes": (process(),),
        "unnamed": 0,
        "moved": {UNIT.key: (81, 12, 7, 26, 13, 8, 9, *WEAR)},
        "rooms": {"/system.slice/tenant.service": 1 << 20},
        "numbers": numbers(),
        "events": Events(31, 27, 1, 3, 4),
        "totals": {kind.name.lower(): 1000 + kind for kind in kinds},
        "losses": dict.fromkeys(LOSSES, 0),
        "probes": (
            ProbeState("merge", "fentry", "try_to_merge_one_page", attached=True, missed=7),
        ),
        "ages": ages(),
        "map_state": MapState(
            accounts=1, limit=65536, memory=8388608, kept=True, adopted=False, nodes=(0, 1)
        ),
        "run": RunState(1, 30.0, 4970.0),
        "audit": AuditState(
            reads=12,
            rounds=3,
            surplus=4,
            missing=1,
            corrected_surplus=6,
            corrected_missing=2,
            last=-1,
        ),
        "reload": Reload(successful=True, taken_at=1_699_999_000.0),
        "history": HistoryState(
            written=360,
            unwritten={reason: 2 * n for n, reason in enumerate(Unwritten)},
            clock_steps=1,
            bytes=65536,
            oldest=1_699_990_000.0,
        ),
    }
    return Snapshot(**{**values, **changes})


def numbers(**changes: Any) -> KernelNumbers:
    """The kernel's number: 20 + 95 mappings."""
    values: dict[str, Any] = {
        "ksm": {
            "run": 1,
            "pages_shared": 20,
            "pages_sharing": 95,
            "pages_unshared": 5,
            "pages_volatile": 6,
            "ksm_zero_pages": 0,
            "general_profit": -4096,
            "stable_node_chains": 2,
            "stable_node_dups": 7,
            "full_scans": 11,
            "pages_scanned": 12345,
        },
        "meminfo": {
            "MemTotal": 2048000,
            "MemAvailable": 1024000,
            "SwapFree": 300,
            "PageTables": 1234,
            "KsmSharing": 380,
        },
        "vmstat": {"cow_ksm": 17, "ksm_swpin_copy": 2},
        "ksmd_cpu": 12.5,
    }
    return KernelNumbers(**{**values, **changes})


def poll(**changes: Any) -> Snapshot:
    """What polling gives: no events, no map, no auditor."""
    values: dict[str, Any] = {
        "mode": Mode.POLL,
        "mode_reason": "No BPF here.",
        "doubt": "polled",
        "processes": (process(movements=(), confidence=Confidence.ESTIMATED),),
        "moved": {},
        "totals": {},
        "probes": (),
        "map_state": None,
        "ages": None,
        "audit": None,
    }
    return dataclasses.replace(snapshot(), **{**values, **changes})


def nothing() -> Snapshot:
    """A kernel without KSM."""
    return poll(
        mode=Mode.NONE,
        doubt=None,
        processes=(),
        numbers=numbers(ksm=None),
        run=RunState(None, 0.0, 5000.0),
        asleep=True,
    )
