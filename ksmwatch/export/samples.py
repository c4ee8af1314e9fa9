"""Samples of the metrics in the catalogue, from a snapshot. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ksmwatch.counting.ages import BOUNDS, cumulative
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.residue import Residue
from ksmwatch.export.catalogue import PAGE_FILES
from ksmwatch.export.metric_family import COUNT, INFINITE, SUM, LabelledValue, Samples
from ksmwatch.export.owner_samples import OwnerSeries, by_node, reasons
from ksmwatch.probes.map_records import ARRIVALS, DEPARTURES, Movement
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.process import Confidence
from ksmwatch.units import PAGE_SIZE


class Series(NamedTuple):
    """Which series exist. `owners`: the number of largest owners with series, 0 for none."""

    owners: int = 50
    processes: bool = False


def _one(value: float | None) -> list[LabelledValue]:
    return [] if value is None else [((), value)]


def _states(names: Iterable[str], current: str) -> list[LabelledValue]:
    return [((name,), float(name == current)) for name in names]


# What makes samples of a part of a snapshot.
Maker = Callable[[Snapshot], Iterable[tuple[str, Iterable[LabelledValue]]]]


class KeptSamples:
    """Samples of the last snapshot, in parts. A part is the same objects if its inputs are equal.

    Inputs that have not changed are the same objects, so to compare them costs little.
    """

    def __init__(self) -> None:
        self._parts: dict[Maker, tuple[tuple[object, ...], Samples]] = {}
        self.owners = OwnerSeries()

    def part(self, make: Maker, snapshot: Snapshot, *inputs: object) -> Samples:
        """What it makes of a snapshot. `inputs`: all of that on which it depends."""
        known = self._parts.get(make)
        if known is None or known[0] != inputs:
            known = self._parts[make] = inputs, _lists(make(snapshot))
        return known[1]


def _lists(found: Iterable[tuple[str, Iterable[LabelledValue]]]) -> Samples:
    return [(name, each if isinstance(each, list) else list(each)) for name, each in found]


def samples(s: Snapshot, series: Series, kept: KeptSamples | None = None) -> Samples:
    """All samples of a snapshot. Absent facts have no sample.

    Those that change with each snapshot come last: what is before them in the front's text need not
    be made again. `kept`: of the last snapshot.
    """
    kept = kept or KeptSamples()
    part, ksm = kept.part, s.numbers.ksm
    found = [
        *part(_daemon_samples, s, s.version, s.kernel, s.mode, s.reload),
        *part(_loss_samples, s, s.losses),
    ]
    if s.mode is Mode.NONE:
        return [*found, *_lists(_moment_samples(s))]
    found += part(_history_samples, s, s.history)
    # Awaited, attempts and the reason belong to the mode, confidence and doubt to the sums.
    found += part(
        *(_mode_samples, s, s.mode, s.mode_reason, s.live_awaited, s.live_attempts, s.asleep),
    )
    doubts = s.mode, s.doubt
    nodes = s.counted_nodes
    found += part(_host_samples, s, s.sums, s.unnamed, ksm, nodes, doubts, len(s.processes))
    if series.owners:
        found += kept.owners.of(s, series.owners)
    if series.processes:
        found += part(_process_samples, s, s.processes)
    found += part(_event_samples, s, s.totals, s.events)
    found += part(_probe_samples, s, s.probes)
    found += part(_audit_samples, s, s.audit)
    found += part(_map_samples, s, s.map_state)
    found += part(_age_samples, s, s.ages, s.map_state is None)
    numbers = s.numbers
    found += part(_kernel_samples, s, ksm, numbers.vmstat, numbers.ksmd_cpu, s.ksm_lines)
    return [*found, *_lists(_moment_samples(s)), *_lists(_live_samples(s))]


def _daemon_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    yield "ksmwatch_build_info", [((s.version, s.kernel), 1)]
    yield "ksmwatch_ksm_supported", _one(float(s.mode is not Mode.NONE))
    yield "ksmwatch_mode", _states((m.value for m in Mode), s.mode.value)
    yield "ksmwatch_config_last_reload_successful", _one(float(s.reload.successful))
    yield "ksmwatch_config_last_reload_success_timestamp_seconds", _one(s.reload.taken_at)


def _loss_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    yield "ksmwatch_losses", [((kind,), amount) for kind, amount in sorted(s.losses.items())]


def _moment_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    yield "ksmwatch_snapshot_timestamp_seconds", _one(s.time)
    yield "ksmwatch_snapshot_duration_seconds", _one(s.duration)


def _live_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    yield "ksmwatch_kernel_process_age_seconds", _one(s.kernel_age)
    yield "ksmwatch_kernel_run_age_seconds", _one(s.run.age)
    for name, entry in (("memory_available", "MemAvailable"), ("swap_free", "SwapFree")):
        kilobytes = s.numbers.meminfo.get(entry)
        amount = None if kilobytes is None else kilobytes * 1024
        yield f"ksmwatch_kernel_{name}_bytes", _one(amount)


def _mode_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    # There is a reason exactly if something prevents live accounting.
    fallback = s.mode is Mode.POLL and s.mode_reason is not None
    yield "ksmwatch_fallback", _one(float(fallback))
    yield "ksmwatch_live_awaited", _one(float(s.live_awaited))
    yield "ksmwatch_live_attempts", _one(s.live_attempts)
    yield "ksmwatch_asleep", _one(float(s.asleep))


def _host_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
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
        yield "ksmwatch_node_mappings", list(by_node(s, s.sums.spread, s.mappings))
        yield "ksmwatch_remote_mappings", _one(s.remote)
    yield "ksmwatch_kernel_mappings", _one(s.kernel_mappings)
    yield "ksmwatch_kernel_lag_pages", _one(s.kernel_lag)
    yield (
        "ksmwatch_processes",
        [(("exact",), len(s.processes) - s.estimated), (("estimated",), s.estimated)],
    )
    yield "ksmwatch_residue_mappings", [((k.value,), s.residue(k)) for k in Residue]


def _history_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    h = s.history
    if h is None:
        return
    yield "ksmwatch_history_moments", _one(h.written)
    missing = sorted(h.unwritten.items())
    yield "ksmwatch_history_unwritten", [((reason.value,), amount) for reason, amount in missing]
    yield "ksmwatch_history_clock_steps", _one(h.clock_steps)
    yield "ksmwatch_history_bytes", _one(h.bytes)
    yield "ksmwatch_history_oldest_timestamp_seconds", _one(h.oldest)


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
    yield "ksmwatch_process_arrivals", [x for k, m in moved for x in reasons(m, ARRIVALS, k)]
    yield "ksmwatch_process_departures", [x for k, m in moved for x in reasons(m, DEPARTURES, k)]


def _event_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    if s.totals:
        moves = {m: s.totals[m.name.lower()] for m in Movement}
        yield "ksmwatch_arrivals", reasons(moves, ARRIVALS)
        yield "ksmwatch_departures", reasons(moves, DEPARTURES)
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
    unanswered = s.events.unanswered_attempts if s.events else None
    yield "ksmwatch_unanswered_cow_attempts", _one(unanswered)


def _probe_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    probes = [((p.event, p.mechanism, p.symbol), p) for p in s.probes]
    yield "ksmwatch_probe_attached", [(k, p.attached) for k, p in probes]
    yield "ksmwatch_probe_missed", [(k, p.missed) for k, p in probes]


def _audit_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
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


def _map_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    if s.map_state is not None:
        yield "ksmwatch_accounts", _one(s.map_state.accounts)
        yield "ksmwatch_accounts_limit", _one(s.map_state.limit)
        yield "ksmwatch_kept", _one(float(s.map_state.kept))
        yield "ksmwatch_adopted", _one(float(s.map_state.adopted))
        yield "ksmwatch_programs", [((s.map_state.programs,), 1.0)]
        yield "ksmwatch_map_memory_bytes", _one(s.map_state.memory)


_BUCKETS = (*(str(bound) for bound in BOUNDS), INFINITE)


def _age_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[LabelledValue]]]:
    a = s.ages
    if a is None:
        if s.map_state is not None:
            yield "ksmwatch_mapping_ages_one_in", _one(0)
        return
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
    yield "ksmwatch_meminfo_ksm_bytes", [((k,), n) for k, n in s.ksm_lines.items()]
    yield "ksmwatch_kernel_run", _one(ksm.get("run"))
    yield "ksmwatch_kernel_pages", [((f,), ksm[f]) for f in PAGE_FILES if f in ksm]
    yield "ksmwatch_kernel_profit_bytes", _one(ksm.get("general_profit"))
    yield "ksmwatch_kernel_stable_node_chains", _one(ksm.get("stable_node_chains"))
    yield "ksmwatch_kernel_stable_node_dups", _one(ksm.get("stable_node_dups"))
    yield "ksmwatch_kernel_full_scans", _one(ksm.get("full_scans"))
    yield "ksmwatch_kernel_pages_scanned", _one(ksm.get("pages_scanned"))
    yield "ksmwatch_ksmd_cpu_seconds", _one(s.numbers.ksmd_cpu)
    yield "ksmwatch_kernel_cow_breaks", _one(s.numbers.vmstat.get("cow_ksm"))
    yield "ksmwatch_kernel_swapin_copies", _one(s.numbers.vmstat.get("ksm_swpin_copy"))
