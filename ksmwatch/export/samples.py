"""Samples of the metrics in the catalogue, from a snapshot. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ksmwatch.counting.ages import BOUNDS, AgeState, cumulative
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.residue import Residue
from ksmwatch.export.catalogue import PAGE_FILES
from ksmwatch.export.metric_family import COUNT, INFINITE, SUM, LabelledValue, Samples
from ksmwatch.owners.rollup import Holding, split
from ksmwatch.owners.spread import Spread
from ksmwatch.probes.map_records import ARRIVALS, DEPARTURES, Movement
from ksmwatch.snapshot.history_state import HistoryState
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.process import Confidence
from ksmwatch.units import PAGE_SIZE


class Series(NamedTuple):
    """Which series exist. `owners`: the number of largest owners with series, 0 for none."""

    owners: int = 50
    processes: bool = False


_REASONS = {which: which.name.lower() for which in Movement}


def _one(value: float | None) -> list[LabelledValue]:
    return [] if value is None else [((), value)]


def _states(names: Iterable[str], current: str) -> list[LabelledValue]:
    return [((name,), float(name == current)) for name in names]


def _reasons(
    moves: Any, which: tuple[Movement, ...], labels: tuple[str, ...] = ()
) -> list[LabelledValue]:
    return [((*labels, _REASONS[m]), moves[m]) for m in which]


def samples(snapshot: Snapshot, series: Series, owners: OwnerSeries | None = None) -> Samples:
    """All samples of a snapshot. Absent facts have no sample.

    `owners` remembers those by owner of the last snapshot.
    """
    found = _samples(snapshot, series, owners or OwnerSeries())
    return [(name, each if isinstance(each, list) else list(each)) for name, each in found]


class OwnerSeries:
    """Samples by owner. They are the same objects if nothing that they show has changed."""

    def __init__(self) -> None:
        self._shown: Snapshot | None = None
        self._top = 0
        self._samples: Samples = []

    def of(self, s: Snapshot, top: int) -> Samples:
        """Those of the largest owners, and of all others together."""
        if self._shown is None or top != self._top or not _same_owners(self._shown, s):
            found = _owner_samples(s, top)
            self._samples = [(name, list(each)) for name, each in found]
        self._shown, self._top = s, top
        return self._samples


def _same_owners(before: Snapshot, now: Snapshot) -> bool:
    """Whether the owners of two snapshots have the same samples."""
    return (
        before.sums is now.sums
        and before.moved is now.moved
        and before.rooms == now.rooms
        and before.host_sources == now.host_sources
    )


def _samples(
    s: Snapshot, series: Series, owners: OwnerSeries
) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    yield "ksmwatch_build_info", [((s.version, s.kernel), 1)]
    yield "ksmwatch_ksm_supported", _one(float(s.mode is not Mode.NONE))
    yield "ksmwatch_mode", _states((m.value for m in Mode), s.mode.value)
    yield "ksmwatch_config_last_reload_successful", _one(float(s.reload.successful))
    yield "ksmwatch_config_last_reload_success_timestamp_seconds", _one(s.reload.taken_at)
    yield "ksmwatch_snapshot_timestamp_seconds", _one(s.time)
    yield "ksmwatch_snapshot_duration_seconds", _one(s.duration)
    yield "ksmwatch_losses", [((kind,), amount) for kind, amount in sorted(s.losses.items())]
    if s.mode is Mode.NONE:
        return
    if s.history is not None:
        yield from _history_samples(s.history)
    # There is a reason exactly if something prevents live accounting.
    fallback = s.mode is Mode.POLL and s.mode_reason is not None
    yield "ksmwatch_fallback", _one(float(fallback))
    yield "ksmwatch_live_awaited", _one(float(s.live_awaited))
    yield "ksmwatch_live_attempts", _one(s.live_attempts)
    yield "ksmwatch_asleep", _one(float(s.asleep))
    yield "ksmwatch_confidence", _states((c.value for c in Confidence), s.confidence.value)
    yield "ksmwatch_mappings", _one(s.mappings)
    yield "ksmwatch_mapped_bytes", _one(s.mappings * PAGE_SIZE)
    yield "ksmwatch_page_size_bytes", _one(PAGE_SIZE)
    yield "ksmwatch_saved_bytes", _one(None if s.saved is None else s.saved.least)
    yield "ksmwatch_saved_at_most_bytes", _one(None if s.saved is None else s.saved.most)
    yield "ksmwatch_bookkeeping_bytes", _one(s.bookkeeping)
    unmerge = (("least", s.unmerge.at_least), ("most", s.unmerge.at_most))
    yield "ksmwatch_unmerge_needed_bytes", [((b,), n) for b, n in unmerge if n is not None]
    yield "ksmwatch_unnamed_mappings", _one(s.unnamed)
    if s.counted_nodes:
        yield "ksmwatch_node_mappings", list(_by_node(s, s.sums.spread, s.mappings))
        yield "ksmwatch_remote_mappings", _one(s.remote)
    yield "ksmwatch_kernel_mappings", _one(s.kernel_mappings)
    yield "ksmwatch_kernel_lag_pages", _one(s.kernel_lag)
    unanswered = s.events.unanswered_attempts if s.events else None
    yield "ksmwatch_unanswered_cow_attempts", _one(unanswered)
    yield "ksmwatch_meminfo_ksm_bytes", [((k,), n) for k, n in s.ksm_lines.items()]
    yield (
        "ksmwatch_processes",
        [(("exact",), len(s.processes) - s.estimated), (("estimated",), s.estimated)],
    )
    yield "ksmwatch_residue_mappings", [((k.value,), s.residue(k)) for k in Residue]
    yield "ksmwatch_kernel_process_age_seconds", _one(s.kernel_age)
    yield "ksmwatch_kernel_run_age_seconds", _one(s.run.age)
    if series.owners:
        yield from owners.of(s, series.owners)
    if series.processes:
        yield from _process_samples(s)
    yield from _event_samples(s)
    if s.ages is not None:
        yield from _age_samples(s.ages)
    elif s.map_state is not None:
        yield "ksmwatch_mapping_ages_one_in", _one(0)
    yield from _kernel_samples(s)


def _history_samples(h: HistoryState) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    yield "ksmwatch_history_moments", _one(h.written)
    missing = sorted(h.unwritten.items())
    yield "ksmwatch_history_unwritten", [((reason.value,), amount) for reason, amount in missing]
    yield "ksmwatch_history_clock_steps", _one(h.clock_steps)
    yield "ksmwatch_history_bytes", _one(h.bytes)
    yield "ksmwatch_history_oldest_timestamp_seconds", _one(h.oldest)


def _by_node(
    s: Snapshot, spread: Spread, mappings: int, labels: tuple[str, ...] = ()
) -> Iterator[LabelledValue]:
    """Mappings by node of memory, and those of which that is not known."""
    known = s.by_node(spread)
    for node, number in known.items():
        yield (*labels, str(node)), number
    yield (*labels, "unknown"), mappings - sum(known.values())


# An owner and the row of all others have the gauges. An owner also has a forecast, the age of its
# mappings, and a counter for each movement.
OWNER_GAUGES = 9
OWNER_SERIES = OWNER_GAUGES + 5 + len(Movement)


# On a host with several nodes of memory, besides one for each: unknown nodes, and remote mappings.
OWNER_NODE_SERIES = 2


def owner_series(top: int, nodes: int = 0) -> int:
    """The highest possible number of series by owner. `nodes`: of memory, 0 if there is one."""
    by_node = nodes + OWNER_NODE_SERIES if nodes else 0
    return top * (OWNER_SERIES + by_node) + OWNER_GAUGES + by_node if top else 0


def _owner_samples(s: Snapshot, top: int) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    shown, other = split(s.owners, top)
    rows = [((h.owner.kind.value, h.owner.name, h.owner.id), h) for h in shown]
    if other is not None:
        rows.append((("other", "other", "other"), other))
    for name, value in _OWNER_VALUES.items():
        known = [(k, value(h)) for k, h in rows]
        yield name, [(k, amount) for k, amount in known if amount is not None]
    yield (
        "ksmwatch_owner_processes",
        [((*k, "exact"), h.processes - h.estimated) for k, h in rows]
        + [((*k, "estimated"), h.estimated) for k, h in rows],
    )
    if s.counted_nodes:
        by_node = [each for k, h in rows for each in _by_node(s, h.spread, h.mappings, k)]
        yield "ksmwatch_owner_node_mappings", by_node
        remote = [(k, h.remote) for k, h in rows]
        yield "ksmwatch_owner_remote_mappings", [(k, n) for k, n in remote if n is not None]
    foretold = [(k, s.forecasts[h.owner.key]) for k, h in rows[: len(shown)]]
    yield (
        "ksmwatch_owner_unmerge_needed_bytes",
        [
            ((*k, bound), need)
            for k, f in foretold
            for bound, need in (("least", f.memory.at_least), ("most", f.memory.at_most))
            if need is not None
        ],
    )
    yield (
        "ksmwatch_owner_limit_left_bytes",
        [(k, f.limit.left) for k, f in foretold if f.limit is not None],
    )
    moved = [(k, h.movements) for k, h in rows if h.movements]
    yield "ksmwatch_owner_arrivals", [x for k, m in moved for x in _reasons(m, ARRIVALS, k)]
    yield "ksmwatch_owner_departures", [x for k, m in moved for x in _reasons(m, DEPARTURES, k)]


_OWNER_VALUES: dict[str, Callable[[Holding], float | None]] = {
    "ksmwatch_owner_mappings": lambda h: h.mappings,
    "ksmwatch_owner_mapped_bytes": lambda h: h.bytes,
    "ksmwatch_owner_saved_bytes": lambda h: None if h.saved is None else h.saved.least,
    "ksmwatch_owner_saved_at_most_bytes": lambda h: None if h.saved is None else h.saved.most,
    "ksmwatch_owner_kernel_merging_pages": lambda h: h.kernel_merging_pages,
    "ksmwatch_owner_stray_mappings": lambda h: h.stray_mappings,
    "ksmwatch_owner_zero_pages": lambda h: h.zero_pages,
    "ksmwatch_owner_median_age_seconds": lambda h: h.wear and h.wear.median,
    "ksmwatch_owner_wasted_ratio": lambda h: h.wear and h.wear.wasted_share,
}


def _process_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    rows = [((str(p.pid), p.comm), p) for p in s.processes]
    yield "ksmwatch_process_mappings", [(k, p.mappings) for k, p in rows]
    yield "ksmwatch_process_mapped_bytes", [(k, p.bytes) for k, p in rows]
    yield "ksmwatch_process_exact", [(k, p.confidence is Confidence.EXACT) for k, p in rows]
    yield (
        "ksmwatch_process_kernel_merging_pages",
        [(k, p.kernel_merging_pages) for k, p in rows if p.kernel_merging_pages is not None],
    )
    yield (
        "ksmwatch_process_kernel_lag_pages",
        [(k, p.kernel_lag) for k, p in rows if p.kernel_lag is not None],
    )
    yield (
        "ksmwatch_process_stray_mappings",
        [(k, p.stray_mappings) for k, p in rows if p.stray_mappings],
    )
    moved = [(k, p.movements) for k, p in rows if p.movements]
    yield "ksmwatch_process_arrivals", [x for k, m in moved for x in _reasons(m, ARRIVALS, k)]
    yield "ksmwatch_process_departures", [x for k, m in moved for x in _reasons(m, DEPARTURES, k)]


def _event_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    if s.totals:
        moves = {m: s.totals[m.name.lower()] for m in Movement}
        yield "ksmwatch_arrivals", _reasons(moves, ARRIVALS)
        yield "ksmwatch_departures", _reasons(moves, DEPARTURES)
        outcomes = ("converted", "replaced", "already", "failed")
        yield "ksmwatch_merge_attempts", [((o,), s.totals[f"merge_{o}"]) for o in outcomes]
        for total in (
            "break_cow",
            "break_cow_left",
            "shared_conversions",
            "miscounted_mms",
            "miscounted_pages",
        ):
            yield f"ksmwatch_{total}", _one(s.totals[total])
    probes = [((p.event, p.mechanism, p.symbol), p) for p in s.probes]
    yield "ksmwatch_probe_attached", [(k, p.attached) for k, p in probes]
    yield "ksmwatch_probe_missed", [(k, p.missed) for k, p in probes]
    if s.audit is not None:
        yield "ksmwatch_audit_reads", _one(s.audit.reads)
        yield "ksmwatch_audit_rounds", _one(s.audit.rounds)
        yield (
            "ksmwatch_drift_pages",
            [(("surplus",), s.audit.surplus), (("missing",), s.audit.missing)],
        )
        yield (
            "ksmwatch_corrected_pages",
            [
                (("surplus",), s.audit.corrected_surplus),
                (("missing",), s.audit.corrected_missing),
            ],
        )
        yield "ksmwatch_last_drift_pages", _one(s.audit.last)
    if s.map_state is not None:
        yield "ksmwatch_accounts", _one(s.map_state.accounts)
        yield "ksmwatch_accounts_limit", _one(s.map_state.limit)
        yield "ksmwatch_kept", _one(float(s.map_state.kept))
        yield "ksmwatch_adopted", _one(float(s.map_state.adopted))
        yield "ksmwatch_programs", [((s.map_state.programs,), 1.0)]
        yield "ksmwatch_map_memory_bytes", _one(s.map_state.memory)


_BUCKETS = (*(str(bound) for bound in BOUNDS), INFINITE)


def _age_samples(a: AgeState) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    found: list[LabelledValue] = []
    for reason, ages in a.reasons.items():
        buckets = cumulative(ages.counts)
        found += [((reason, le), n) for le, n in zip(_BUCKETS, buckets, strict=True)]
        found += [((reason, COUNT), buckets[-1]), ((reason, SUM), ages.seconds)]
    yield "ksmwatch_mapping_age_seconds", found
    yield "ksmwatch_mapping_ages_unknown", [((why,), n) for why, n in a.unknown.items()]
    yield "ksmwatch_mapping_ages_one_in", _one(a.one_in)
    yield "ksmwatch_noted_merges", _one(a.noted)
    yield "ksmwatch_wasted_merges", _one(a.wasted)
    yield "ksmwatch_full_scan_seconds", _one(a.scan_seconds)


def _kernel_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    ksm = s.numbers.ksm or {}
    yield "ksmwatch_kernel_run", _one(ksm.get("run"))
    yield "ksmwatch_kernel_pages", [((f,), ksm[f]) for f in PAGE_FILES if f in ksm]
    yield "ksmwatch_kernel_profit_bytes", _one(ksm.get("general_profit"))
    yield "ksmwatch_kernel_stable_node_chains", _one(ksm.get("stable_node_chains"))
    yield "ksmwatch_kernel_stable_node_dups", _one(ksm.get("stable_node_dups"))
    for name, entry in (("memory_available", "MemAvailable"), ("swap_free", "SwapFree")):
        kilobytes = s.numbers.meminfo.get(entry)
        amount = None if kilobytes is None else kilobytes * 1024
        yield f"ksmwatch_kernel_{name}_bytes", _one(amount)
    yield "ksmwatch_kernel_full_scans", _one(ksm.get("full_scans"))
    yield "ksmwatch_kernel_pages_scanned", _one(ksm.get("pages_scanned"))
    yield "ksmwatch_ksmd_cpu_seconds", _one(s.numbers.ksmd_cpu)
    yield "ksmwatch_kernel_cow_breaks", _one(s.numbers.vmstat.get("cow_ksm"))
    yield "ksmwatch_kernel_swapin_copies", _one(s.numbers.vmstat.get("ksm_swpin_copy"))
