"""Makes the versioned JSON document of a snapshot (its keys: docs/snapshot.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from ksmwatch.counting.ages import BOUNDS, AgeState, Wear
from ksmwatch.counting.backend_state import MapState
from ksmwatch.counting.cow_breaks import Events
from ksmwatch.counting.residue import Residue
from ksmwatch.kernel.kernel_numbers import KernelNumbers
from ksmwatch.owners.owner import owner_document
from ksmwatch.owners.rollup import Holding
from ksmwatch.owners.safe_text import harmless
from ksmwatch.owners.savings import Bounds
from ksmwatch.owners.spread import Spread
from ksmwatch.snapshot.history_state import HistoryState
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.process import Process, movements_document, process_document
from ksmwatch.snapshot.unmerge_forecast import Forecast, Need, Verdict
from ksmwatch.units import PAGE_SIZE

if TYPE_CHECKING:
    from ksmwatch.snapshot.document_types import (
        AgesDocument,
        EventsDocument,
        HeadDocument,
        HistoryDocument,
        HoldingDocument,
        HostAgesDocument,
        HostDocument,
        ListedProcess,
        MapDocument,
        NeedDocument,
        NodesDocument,
        OwnerNeedDocument,
        SavedDocument,
        SnapshotDocument,
        SourcesDocument,
        WearDocument,
    )

SCHEMA: Final = "ksmwatch.snapshot/1"


def _saved(saved: Bounds | None) -> SavedDocument:
    least, most = (None, None) if saved is None else saved
    return {"saved_bytes": least, "saved_at_most_bytes": most}


def _ages(process: Process, snapshot: Snapshot) -> AgesDocument:
    """Ages in seconds, to the millisecond."""
    read = process.read_at
    return {
        "kernel_age_seconds": round(_kernel_age(process, snapshot), 3),
        "last_read_seconds": None if read is None else round(_age(read, snapshot.clock), 3),
    }


def _kernel_age(process: Process, snapshot: Snapshot) -> float:
    return 0.0 if snapshot.ksmd_stood_still else _age(process.kernel_at, snapshot.clock)


def _age(at: float, now: float) -> float:
    """A value that was read while the snapshot was made counts as read now."""
    return now - at if at < now else 0.0


def _need(amount: Need, verdict: Verdict) -> NeedDocument:
    return {
        "at_least_bytes": amount.at_least,
        "at_most_bytes": amount.at_most,
        "available_bytes": amount.available,
        "verdict": verdict,
    }


def _forecast(forecast: Forecast) -> OwnerNeedDocument:
    limit = forecast.limit
    return {
        **_need(forecast.memory, forecast.verdict),
        "limit": None
        if limit is None
        else {
            "cgroup": harmless(limit.cgroup),
            "at_most_bytes": limit.at_most,
            "left_bytes": limit.left,
        },
    }


def _holding(holding: Holding, snapshot: Snapshot) -> HoldingDocument:
    return {
        **owner_document(holding.owner),
        "processes": holding.processes,
        "estimated_processes": holding.estimated,
        "mappings": holding.mappings,
        "bytes": holding.bytes,
        **_saved(holding.saved),
        "movements": movements_document(holding.movements),
        "kernel_merging_pages": holding.kernel_merging_pages,
        "kernel_lag": holding.kernel_lag,
        "stray_mappings": holding.stray_mappings,
        "zero_pages": holding.zero_pages,
        **_wear(holding.wear),
        **_nodes(snapshot, holding.spread, holding.mappings),
        "unmerge": _forecast(snapshot.forecasts[holding.owner.key]),
    }


def _nodes(snapshot: Snapshot, spread: Spread, mappings: int) -> NodesDocument:
    if not snapshot.counted_nodes:
        return {"nodes": None, "mappings_on_unknown_nodes": None, "remote_mappings": None}
    known = {str(node): number for node, number in snapshot.by_node(spread).items()}
    return {
        "nodes": known,
        "mappings_on_unknown_nodes": mappings - sum(known.values()),
        "remote_mappings": spread.remote_of(mappings),
    }


def _wear(wear: Wear | None) -> WearDocument:
    median, wasted = (None, None) if wear is None else (wear.median, wear.wasted_share)
    return {"median_age_seconds": median, "wasted_share": wasted}


def _host_ages(ages: AgeState) -> HostAgesDocument:
    return {
        **_wear(ages.copied),
        "one_in": ages.one_in,
        "scan_seconds": ages.scan_seconds,
        "bounds": list(BOUNDS),
        "reasons": {
            why: {"counts": list(each.counts), "seconds": each.seconds}
            for why, each in ages.reasons.items()
        },
        "noted_merges": ages.noted,
        "wasted_merges": ages.wasted,
        "unknown": dict(ages.unknown),
    }


def _events(happened: Events) -> EventsDocument:
    return {
        "cow_attempts": happened.cow_attempts,
        "copied": happened.copied,
        "unattributed": happened.unattributed,
        "unanswered_attempts": happened.unanswered_attempts,
        "swapin_copies": happened.swapin_copies,
        "swapins": happened.swapins,
    }


def to_json(snapshot: Snapshot) -> bytes:
    """`to_document` as JSON. A process that has not changed is not serialised again."""
    head = json.dumps(_head(snapshot))
    processes = ", ".join([_process_json(p, snapshot) for p in snapshot.largest_first])
    return f'{head[:-1]}, "processes": [{processes}]}}'.encode()


def _process_json(process: Process, snapshot: Snapshot) -> str:
    """The JSON with `_ages` added, in a hundredth of the time of json.dumps()."""
    read = "null" if process.read_at is None else f"{_age(process.read_at, snapshot.clock):.3f}"
    kernel = f"{_kernel_age(process, snapshot):.3f}"
    return f'{process.json}, "kernel_age_seconds": {kernel}, "last_read_seconds": {read}}}'


def to_document(snapshot: Snapshot) -> dict[str, Any]:
    """The JSON document. Within one schema version, keys are only added."""
    document: SnapshotDocument = {
        **_head(snapshot),
        "processes": [_process(p, snapshot) for p in snapshot.largest_first],
    }
    # Most readers get it as JSON.
    return cast("dict[str, Any]", document)


def _process(process: Process, snapshot: Snapshot) -> ListedProcess:
    return {**process_document(process), **_ages(process, snapshot)}


def _host(snapshot: Snapshot) -> HostDocument:
    return {
        "mappings": snapshot.mappings,
        "bytes": snapshot.mappings * PAGE_SIZE,
        **_saved(snapshot.saved),
        "bookkeeping_bytes": snapshot.bookkeeping,
        "unnamed_mappings": snapshot.unnamed,
        **_nodes(snapshot, snapshot.sums.spread, snapshot.mappings),
        "unmerge": _need(snapshot.unmerge, snapshot.unmerge.verdict),
        "confidence": snapshot.confidence,
        "reason": snapshot.reason,
        "estimated_processes": snapshot.estimated,
        "kernel_mappings": snapshot.kernel_mappings,
        "kernel_lag": snapshot.kernel_lag,
        "kernel_age_seconds": snapshot.kernel_age,
        "meminfo_ksm": [
            {
                "line": name,
                "bytes": amount,
                "lag_bytes": snapshot.mappings * PAGE_SIZE - amount,
            }
            for name, amount in snapshot.ksm_lines.items()
        ],
        "events": None if snapshot.events is None else _events(snapshot.events),
        "ages": None if snapshot.ages is None else _host_ages(snapshot.ages),
        "ages_reason": snapshot.ageless,
        "run": snapshot.run.run,
        "run_age_seconds": snapshot.run.age,
        "residue": {kind.value: snapshot.residue(kind) for kind in Residue},
    }


def _sources(numbers: KernelNumbers) -> SourcesDocument:
    return {
        "ksm": numbers.ksm,
        "meminfo": numbers.meminfo,
        "vmstat": numbers.vmstat,
        "ksmd_cpu_seconds": numbers.ksmd_cpu,
        "failures": list(numbers.failures),
    }


def _map(state: MapState) -> MapDocument:
    return {
        "accounts": state.accounts,
        "limit": state.limit,
        "memory_bytes": state.memory,
        "kept": state.kept,
        "adopted": state.adopted,
        "programs": state.programs,
    }


def _history(state: HistoryState) -> HistoryDocument:
    return {
        "written": state.written,
        "unwritten": {reason.value: amount for reason, amount in state.unwritten.items()},
        "clock_steps": state.clock_steps,
        "bytes": state.bytes,
        "oldest": state.oldest,
    }


def _head(snapshot: Snapshot) -> HeadDocument:
    """Everything except the processes."""
    state = snapshot.map_state
    return {
        "schema": SCHEMA,
        "time": snapshot.time,
        "duration_seconds": snapshot.duration,
        "version": snapshot.version,
        "kernel": snapshot.kernel,
        "mode": snapshot.mode,
        "mode_reason": snapshot.mode_reason,
        "live_awaited": snapshot.live_awaited,
        "asleep": snapshot.asleep,
        "page_size": PAGE_SIZE,
        "host": _host(snapshot),
        "owners": [_holding(h, snapshot) for h in snapshot.owners],
        "sources": _sources(snapshot.numbers),
        "totals": dict(snapshot.totals),
        "losses": dict(snapshot.losses),
        "probes": [probe._asdict() for probe in snapshot.probes],
        "audit": None if snapshot.audit is None else snapshot.audit._asdict(),
        "reload": snapshot.reload._asdict(),
        "map": None if state is None else _map(state),
        "history": None if snapshot.history is None else _history(snapshot.history),
    }
