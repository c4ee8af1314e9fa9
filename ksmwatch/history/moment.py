"""What the history keeps of a snapshot: the host, the largest owners, and the others' sum. Pure.

A moment stands for the time from `since` to `time`, during which one daemon has counted without
a break. It has the numbers of its end. A moment after a break stands for no time.
"""

# No `from __future__ import annotations`: what describes the columns would take 25 KiB more.
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.residue import Residue
from ksmwatch.owners.owner import Owner, owner_document
from ksmwatch.owners.rollup import Holding, Moves, split
from ksmwatch.owners.savings import Bounds
from ksmwatch.probes.map_records import Movement
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.units import PAGE_SIZE

# The row of the owners that are too small to have their own, as in the metrics.
OTHERS = {"kind": "other", "name": "other", "id": "other"}
# Seconds between two moments that follow each other.
_SEAM_SECONDS = 1.0


def seamless(time: float, since: float) -> bool:
    """Whether nothing is missing between a moment and a later one that begins at `since`."""
    return abs(since - time) <= _SEAM_SECONDS


class OwnerNumbers(NamedTuple):
    """An owner at one moment, in pages; None if unknown.

    `estimated`: its processes whose count may be wrong. The last ones are its movements, since
    the daemon has known it.
    """

    processes: int
    estimated: int
    mappings: int
    kernel: int | None
    stray: int | None
    zero_pages: int | None
    saved_bytes: int | None
    saved_at_most_bytes: int | None
    merged: int | None
    converted: int | None
    other: int | None
    forked: int | None
    copied: int | None
    unmapped: int | None
    exited: int | None


class HostMoment(NamedTuple):
    """A few numbers of the host at a moment: those of which lines are drawn."""

    time: float
    since: float
    began: float
    mappings: int
    saved_bytes: int | None
    copied: int | None
    ksmd_cpu: float | None


class HostNumbers(NamedTuple):
    """The host at one moment, in pages if the name does not say otherwise; None if unknown.

    `confidence`: in `mappings`, as in the snapshot. `left`: what run=2 has left behind. The last
    ones are movements since the programs were loaded.
    """

    processes: int
    estimated: int
    mappings: int
    confidence: str
    unnamed: int
    left: int
    run: int | None
    run_age: float
    pages_shared: int | None
    pages_sharing: int | None
    zero_pages: int | None
    profit_bytes: int | None
    full_scans: int | None
    pages_scanned: int | None
    ksmd_cpu: float | None
    available_bytes: int | None
    saved_bytes: int | None
    saved_at_most_bytes: int | None
    merged: int | None
    converted: int | None
    other: int | None
    forked: int | None
    copied: int | None
    unmapped: int | None
    exited: int | None


class Moment(NamedTuple):
    """The host and its owners. `began`: when the daemon did. Times are seconds since the epoch.

    `facts`: JSON of what seldom changes, and `owners` has the JSON of each owner.
    """

    time: float
    since: float
    began: float
    facts: str
    host: HostNumbers
    owners: tuple[tuple[str, OwnerNumbers], ...]


def moment_of(snapshot: Snapshot, top: int, began: float, since: float) -> Moment:
    """What is kept of a snapshot, with this many owners of their own."""
    shown, rest = split(snapshot.owners, top)
    # Live, who has no movements has moved nothing yet.
    still = (0,) * len(Movement) if snapshot.mode is Mode.BPF else ()
    owners = [(_owner_facts(h.owner), _owner(h, h.movements or still)) for h in shown]
    if rest is not None:
        owners.append((_compact(OTHERS), _owner(rest, ())))
    facts = _compact(_facts(snapshot))
    return Moment(snapshot.time, since, began, facts, _host(snapshot), tuple(owners))


def _compact(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, separators=(",", ":"), sort_keys=True)


@lru_cache(1024)
def _owner_facts(owner: Owner) -> str:
    facts = owner_document(owner)
    return _compact({key: value for key, value in facts.items() if value not in (None, False)})


def _owner(h: Holding, moves: Moves) -> OwnerNumbers:
    return OwnerNumbers(
        h.processes,
        h.estimated,
        h.mappings,
        h.kernel_merging_pages,
        h.stray_mappings,
        h.zero_pages,
        *_bounds(h.saved),
        *_moves(moves),
    )


def _bounds(saved: Bounds | None) -> tuple[int | None, int | None]:
    return (None, None) if saved is None else (saved.least, saved.most)


def _moves(moves: Moves) -> tuple[int | None, ...]:
    return tuple(moves) if moves else (None,) * len(Movement)


def _host(s: Snapshot) -> HostNumbers:
    ksm = s.numbers.ksm or {}
    totals = tuple([s.totals[m.name.lower()] for m in Movement]) if s.totals else ()
    available = s.numbers.meminfo.get("MemAvailable")
    return HostNumbers(
        len(s.processes),
        s.estimated,
        s.mappings,
        s.confidence.value,
        s.unnamed,
        s.residue(Residue.LEFT),
        s.run.run,
        round(s.run.age, 1),
        ksm.get("pages_shared"),
        ksm.get("pages_sharing"),
        ksm.get("ksm_zero_pages"),
        ksm.get("general_profit"),
        ksm.get("full_scans"),
        ksm.get("pages_scanned"),
        s.numbers.ksmd_cpu,
        None if available is None else available * 1024,
        *_bounds(s.saved),
        *_moves(totals),
    )


def _facts(s: Snapshot) -> dict[str, Any]:
    """What is the same in most snapshots of a day."""
    ksm = s.numbers.ksm or {}
    audit = s.audit
    return {
        "version": s.version,
        "kernel": s.kernel,
        "page_size": PAGE_SIZE,
        "mode": s.mode.value,
        "mode_reason": s.mode_reason,
        "asleep": s.asleep,
        "doubt": s.doubt,
        "pages_to_scan": ksm.get("pages_to_scan"),
        "sleep_millisecs": ksm.get("sleep_millisecs"),
        "losses": {kind: amount for kind, amount in s.losses.items() if amount},
        "drift": None if audit is None else [audit.surplus, audit.missing],
        "miscounted_pages": s.totals.get("miscounted_pages"),
        "detached": [probe.event for probe in s.probes if not probe.attached],
        "failures": list(s.numbers.failures),
    }
