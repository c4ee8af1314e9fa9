"""The catalogue of metrics, and the samples of a snapshot.

The catalogue is data: ``docs/metrics.md`` is generated from it, and ``exposition`` refuses a
name that is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ksmwatch.counting.backend import Mode
from ksmwatch.counting.residue import Residue
from ksmwatch.export.metric_family import Sample, Samples, Spec
from ksmwatch.owners.rollup import Holding, split
from ksmwatch.probes.records import ARRIVALS, DEPARTURES, Movement
from ksmwatch.snapshot.document import Confidence, Snapshot
from ksmwatch.units import PAGE_SIZE


@dataclass(frozen=True)
class Series:
    """Which series there are. `owners`: for so many of the largest, 0 for none."""

    owners: int = 50
    processes: bool = False


_OWNER = ("kind", "name", "id")

CATALOGUE: tuple[Spec, ...] = (
    Spec(
        "ksmwatch_build_info",
        "gauge",
        "Version of ksmwatch and release of the kernel; always 1.",
        ("version", "kernel"),
    ),
    Spec(
        "ksmwatch_ksm_supported",
        "gauge",
        "1 where the kernel has KSM (/sys/kernel/mm/ksm exists), else 0 and no other KSM series.",
    ),
    Spec(
        "ksmwatch_mode",
        "gauge",
        "1 for the way counts are made: bpf (live), poll (smaps_rollup), none (no KSM).",
        ("mode",),
    ),
    Spec(
        "ksmwatch_fallback",
        "gauge",
        "1 while counts are polled because live accounting is impossible here; 0 where it is "
        "live, or where polling was asked for.",
    ),
    Spec(
        "ksmwatch_live_awaited",
        "gauge",
        "1 while counts are polled for a reason that may pass (too little memory or CPU time, a "
        "refused attachment), and live accounting is tried again, at least once a minute.",
    ),
    Spec(
        "ksmwatch_live_attempts",
        "counter",
        "How often live accounting was tried again while counts were polled.",
    ),
    Spec(
        "ksmwatch_asleep",
        "gauge",
        "1 while no KSM page exists and ksmd is stopped, so that no hot-path hook is attached.",
    ),
    Spec(
        "ksmwatch_confidence",
        "gauge",
        "1 for how far the host's sum is known: exact, estimated or unknown (events lost).",
        ("level",),
    ),
    Spec(
        "ksmwatch_mappings",
        "gauge",
        "PTEs on the host that map a KSM page, in pages; by BPF on the reverse map. "
        "Cached for at most 1 second.",
    ),
    Spec(
        "ksmwatch_mapped_bytes",
        "gauge",
        "Memory that the KSM mappings of the host span: mappings times the page size.",
    ),
    Spec("ksmwatch_page_size_bytes", "gauge", "What one page is."),
    Spec(
        "ksmwatch_saved_bytes",
        "gauge",
        "What merging saves on the host at least, zero pages included: what the mappings would "
        "need without KSM, where fork shares pages too, less the kernel's pages_shared in bytes. "
        "Too small while ksmd has not noticed that all mappings of a page went.",
    ),
    Spec(
        "ksmwatch_saved_at_most_bytes",
        "gauge",
        "What merging saves on the host at most. More than ksmwatch_saved_bytes only while "
        "processes that came by fork, without exec, have KSM mappings.",
    ),
    Spec(
        "ksmwatch_bookkeeping_bytes",
        "gauge",
        "Memory that ksmd's own records take, by general_profit of /sys/kernel/mm/ksm. "
        "ksmwatch_saved_bytes less it is the profit.",
    ),
    Spec(
        "ksmwatch_unmerge_needed_bytes",
        "gauge",
        "What run=2 would need, by bound. most: a page for each mapping and zero page. least: that "
        "less pages_shared pages, and less than needed while the kernel counts pages that have no "
        "mapping any more.",
        ("bound",),
    ),
    Spec(
        "ksmwatch_unnamed_mappings",
        "gauge",
        "Of ksmwatch_mappings, those of address spaces of which no process is known.",
    ),
    Spec(
        "ksmwatch_kernel_mappings",
        "gauge",
        "The kernel's own number for ksmwatch_mappings, in pages: pages_shared + pages_sharing "
        "of /sys/kernel/mm/ksm. It moves only when ksmd visits a page.",
    ),
    Spec(
        "ksmwatch_kernel_lag_pages",
        "gauge",
        "ksmwatch_mappings less ksmwatch_kernel_mappings, signed: how far the kernel lags.",
    ),
    Spec(
        "ksmwatch_unanswered_cow_attempts",
        "gauge",
        "COW breaks that the kernel began (cow_ksm of /proc/vmstat) since ksmwatch did, less those "
        "that it counted (departures by reason copied, and unattributed ones); 0 if there were as "
        "many. More: attempts that the kernel gave up or repeated, or departures that were not "
        "seen.",
    ),
    Spec(
        "ksmwatch_meminfo_ksm_bytes",
        "gauge",
        "Lines of /proc/meminfo whose names begin with Ksm. No kernel up to 7.3 has one.",
        ("line",),
    ),
    Spec(
        "ksmwatch_processes",
        "gauge",
        "Processes with a history of KSM mappings, by confidence in their count.",
        ("confidence",),
    ),
    Spec(
        "ksmwatch_owner_mappings",
        "gauge",
        "PTEs of the owner's processes that map a KSM page, in pages. With the row of kind other, "
        "which has all owners that are not among the largest, the sum is ksmwatch_mappings.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_mapped_bytes",
        "gauge",
        "Memory that the KSM mappings of the owner span.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_saved_bytes",
        "gauge",
        "ksmwatch_saved_bytes shared out by what each owner would need without KSM: an "
        "apportionment. Which owner's pages are shared how often is not known without reading page "
        "numbers.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_saved_at_most_bytes",
        "gauge",
        "ksmwatch_saved_at_most_bytes, likewise.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_processes",
        "gauge",
        "The owner's processes with a history of KSM mappings, by confidence in their count.",
        (*_OWNER, "confidence"),
    ),
    Spec(
        "ksmwatch_owner_kernel_merging_pages",
        "gauge",
        "The kernel's own number of the owner, in pages: ksm_merging_pages of its processes. As "
        "old as ksmwatch_kernel_process_age_seconds.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_stray_mappings",
        "gauge",
        "KSM mappings in areas that are not mergeable, in pages; absent until the auditor has "
        "read all of the owner's processes.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_zero_pages",
        "gauge",
        "PTEs in which KSM has put the zero page, in pages: ksm_zero_pages of /proc/PID/ksm_stat. "
        "No part of the mappings.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_unmerge_needed_bytes",
        "gauge",
        "What unmerging the owner alone would need, by bound; see ksmwatch_unmerge_needed_bytes. "
        "least: if it frees each page that the kernel counts as shared. Not for the row of kind "
        "other.",
        (*_OWNER, "bound"),
    ),
    Spec(
        "ksmwatch_owner_limit_left_bytes",
        "gauge",
        "What the cgroup of the owner has left (memory.max less memory.current) that unmerging the "
        "owner would exceed by most, or leave least of; absent where there is no limit.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_arrivals",
        "counter",
        "KSM mappings that came to the owner, in pages, by reason, also of its processes that "
        "ended, for as long as it has any. Not for the row of kind other.",
        (*_OWNER, "reason"),
    ),
    Spec(
        "ksmwatch_owner_departures",
        "counter",
        "KSM mappings that left the owner, in pages, by reason. What a process loses between the "
        "last snapshot and its end is only in ksmwatch_departures_total.",
        (*_OWNER, "reason"),
    ),
    Spec(
        "ksmwatch_process_mappings",
        "gauge",
        "PTEs of the process that map a KSM page, in pages.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_process_mapped_bytes",
        "gauge",
        "Memory that the KSM mappings of the process span.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_process_exact",
        "gauge",
        "1 when the count of the process is known to equal its page tables, 0 when estimated.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_process_kernel_merging_pages",
        "gauge",
        "The kernel's own number of the process, in pages: ksm_merging_pages of "
        "/proc/PID/ksm_stat. Wrong after writes, unmaps and forks until ksmd comes by. As old as "
        "ksmwatch_kernel_process_age_seconds.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_process_kernel_lag_pages",
        "gauge",
        "ksmwatch_process_mappings less ksmwatch_process_kernel_merging_pages, signed.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_process_stray_mappings",
        "gauge",
        "KSM mappings in areas that are not mergeable, in pages, at the last audit of the "
        "process: only processes that have any.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_residue_mappings",
        "gauge",
        "Mappings by what KSM's run state makes of them, in pages: merged (run=1), kept (run=0, "
        "no fault), and after run=2 unmerging, unverified (not read since) or left: the kernel "
        "left them behind for good.",
        ("kind",),
    ),
    Spec(
        "ksmwatch_kernel_process_age_seconds",
        "gauge",
        "How old the oldest of the kernel's numbers by process and owner is. For each snapshot "
        "those are read that have probably changed, for at most 10 ms, and others for at most 2 "
        "ms.",
    ),
    Spec(
        "ksmwatch_kernel_run_age_seconds",
        "gauge",
        "For how long at least /sys/kernel/mm/ksm/run has had its value.",
    ),
    Spec(
        "ksmwatch_process_arrivals",
        "counter",
        "KSM mappings that came to the process, in pages, by reason: merged and converted by "
        "ksmd, forked, other (swap-in, migration).",
        ("pid", "comm", "reason"),
    ),
    Spec(
        "ksmwatch_process_departures",
        "counter",
        "KSM mappings that left the process, in pages, by reason: copied (COW breaks), unmapped "
        "(unmap, reclaim, migration), exited.",
        ("pid", "comm", "reason"),
    ),
    Spec(
        "ksmwatch_arrivals", "counter", "KSM mappings that came, in pages, by reason.", ("reason",)
    ),
    Spec(
        "ksmwatch_departures",
        "counter",
        "KSM mappings that went, in pages, by reason.",
        ("reason",),
    ),
    Spec(
        "ksmwatch_merge_attempts",
        "counter",
        "Calls of try_to_merge_one_page() by outcome: converted in place, replaced, already "
        "(was a KSM page), failed.",
        ("outcome",),
    ),
    Spec(
        "ksmwatch_break_cow",
        "counter",
        "Calls of break_cow(): ksmd gave up a merge and unshared the page.",
    ),
    Spec(
        "ksmwatch_break_cow_left",
        "counter",
        "Of which other PTEs mapped the page too and keep it: such a page has no stable node and "
        "can be neither reclaimed nor migrated. `ksmwatch audit` names the processes.",
    ),
    Spec(
        "ksmwatch_shared_conversions",
        "counter",
        "Conversions in place of a page that processes shared by fork; each puts its fork "
        "family in doubt until read.",
    ),
    Spec(
        "ksmwatch_probe_attached",
        "gauge",
        "1 while the probe of the plan is attached.",
        ("event", "mechanism", "symbol"),
    ),
    Spec(
        "ksmwatch_probe_missed",
        "counter",
        "Runs of the probe's programs that the kernel skipped (recursion_misses).",
        ("event", "mechanism", "symbol"),
    ),
    Spec(
        "ksmwatch_losses",
        "counter",
        "Things that were lost, by kind: reads denied or disturbed, full maps, missed events, "
        "unreadable files.",
        ("kind",),
    ),
    Spec(
        "ksmwatch_miscounted_mms",
        "counter",
        "Address spaces whose count passed for exact and was not 0 when the kernel freed them: "
        "measured errors.",
    ),
    Spec(
        "ksmwatch_miscounted_pages",
        "counter",
        "By how many pages those counts were wrong, absolute.",
    ),
    Spec("ksmwatch_audit_reads", "counter", "Processes that the background auditor has read."),
    Spec(
        "ksmwatch_audit_rounds",
        "counter",
        "Rounds of the auditor in which it has read every process.",
    ),
    Spec(
        "ksmwatch_drift_pages",
        "counter",
        "Pages by which counts that passed for exact were wrong when read, by sign: surplus "
        "(counted too many) and missing. Healed at once.",
        ("sign",),
    ),
    Spec(
        "ksmwatch_corrected_pages",
        "counter",
        "Pages by which counts were wrong when read, by sign, after a loss that had put them in "
        "doubt (see ksmwatch_losses_total). Healed at once.",
        ("sign",),
    ),
    Spec(
        "ksmwatch_last_drift_pages",
        "gauge",
        "Counted less found at the last such read, signed; absent while there was none.",
    ),
    Spec("ksmwatch_accounts", "gauge", "Address spaces that have an account in the BPF map."),
    Spec("ksmwatch_accounts_limit", "gauge", "Number of accounts that the BPF map has room for."),
    Spec(
        "ksmwatch_kept",
        "gauge",
        "1 while counts and attachments would outlive a killed daemon (pinned in bpffs).",
    ),
    Spec("ksmwatch_adopted", "gauge", "1 if this daemon goes on with what an earlier one counted."),
    Spec("ksmwatch_map_memory_bytes", "gauge", "Kernel memory of the account maps."),
    Spec(
        "ksmwatch_kernel_run",
        "gauge",
        "/sys/kernel/mm/ksm/run: 0 stopped (pages stay merged), 1 scanning, 2 unmerging, stopped.",
    ),
    Spec(
        "ksmwatch_kernel_pages",
        "gauge",
        "Page counters of /sys/kernel/mm/ksm by file name (pages_shared, pages_sharing, "
        "pages_unshared, pages_volatile, ksm_zero_pages); moved by ksmd only.",
        ("file",),
    ),
    Spec(
        "ksmwatch_kernel_profit_bytes",
        "gauge",
        "/sys/kernel/mm/ksm/general_profit: the kernel's estimate of memory gained, signed.",
    ),
    Spec(
        "ksmwatch_kernel_stable_node_chains",
        "gauge",
        "/sys/kernel/mm/ksm/stable_node_chains: contents of which one page has reached "
        "max_page_sharing, so that copies of it are kept. Moved by ksmd only.",
    ),
    Spec(
        "ksmwatch_kernel_stable_node_dups",
        "gauge",
        "/sys/kernel/mm/ksm/stable_node_dups: pages in those chains. Less the chains: pages that "
        "a higher max_page_sharing would save.",
    ),
    Spec(
        "ksmwatch_kernel_memory_available_bytes",
        "gauge",
        "MemAvailable of /proc/meminfo: with ksmwatch_kernel_swap_free_bytes, what unmerging may "
        "take.",
    ),
    Spec("ksmwatch_kernel_swap_free_bytes", "gauge", "SwapFree of /proc/meminfo."),
    Spec("ksmwatch_kernel_full_scans", "counter", "/sys/kernel/mm/ksm/full_scans."),
    Spec("ksmwatch_kernel_pages_scanned", "counter", "/sys/kernel/mm/ksm/pages_scanned."),
    Spec(
        "ksmwatch_ksmd_cpu_seconds",
        "counter",
        "CPU time that the kernel thread ksmd has used, of /proc/PID/stat. Absent where the pid "
        "namespace does not show it.",
    ),
    Spec(
        "ksmwatch_kernel_cow_breaks",
        "counter",
        "cow_ksm of /proc/vmstat: attempts to copy a KSM page on write.",
    ),
    Spec(
        "ksmwatch_kernel_swapin_copies",
        "counter",
        "ksm_swpin_copy of /proc/vmstat: KSM pages copied at swap-in.",
    ),
    Spec(
        "ksmwatch_config_last_reload_successful",
        "gauge",
        "1 if the configuration was taken when it was read last, at the start or on SIGHUP; 0 if "
        "it was refused, and the one before is in use.",
    ),
    Spec(
        "ksmwatch_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When a configuration was taken last.",
    ),
    Spec("ksmwatch_snapshot_timestamp_seconds", "gauge", "When the exported state was taken."),
    Spec("ksmwatch_snapshot_duration_seconds", "gauge", "How long taking it took."),
)

_PAGE_FILES = (
    "pages_shared",
    "pages_sharing",
    "pages_unshared",
    "pages_volatile",
    "ksm_zero_pages",
)


def _one(value: float | None) -> list[Sample]:
    return [] if value is None else [((), value)]


def _states(names: Iterable[str], current: str) -> list[Sample]:
    return [((name,), float(name == current)) for name in names]


def _reasons(moves: Any, which: tuple[Movement, ...], labels: tuple[str, ...] = ()) -> list[Sample]:
    return [((*labels, m.name.lower()), moves[m]) for m in which]


def samples(snapshot: Snapshot, series: Series) -> Samples:
    """All that a snapshot tells. Absent facts have no sample."""
    return [(name, list(found)) for name, found in _samples(snapshot, series)]


def _samples(s: Snapshot, series: Series) -> Iterator[tuple[str, Iterable[Sample]]]:
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
    # A reason is there exactly when something stood in the way of live accounting.
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
        yield from _owner_samples(s, series.owners)
    if series.processes:
        yield from _process_samples(s)
    yield from _event_samples(s)
    yield from _kernel_samples(s)


# Of an owner and of all others: the gauges; of an owner also a forecast, and a counter per
# movement.
OWNER_GAUGES = 9
OWNER_SERIES = OWNER_GAUGES + 3 + len(Movement)


def owner_series(top: int) -> int:
    """How many series by owner there can be."""
    return top * OWNER_SERIES + OWNER_GAUGES if top else 0


def _owner_samples(s: Snapshot, top: int) -> Iterator[tuple[str, Iterable[Sample]]]:
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


_OWNER_VALUES: dict[str, Callable[[Holding], int | None]] = {
    "ksmwatch_owner_mappings": lambda h: h.mappings,
    "ksmwatch_owner_mapped_bytes": lambda h: h.bytes,
    "ksmwatch_owner_saved_bytes": lambda h: None if h.saved is None else h.saved.least,
    "ksmwatch_owner_saved_at_most_bytes": lambda h: None if h.saved is None else h.saved.most,
    "ksmwatch_owner_kernel_merging_pages": lambda h: h.kernel_merging_pages,
    "ksmwatch_owner_stray_mappings": lambda h: h.stray_mappings,
    "ksmwatch_owner_zero_pages": lambda h: h.zero_pages,
}


def _process_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[Sample]]]:
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


def _event_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[Sample]]]:
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
        yield "ksmwatch_map_memory_bytes", _one(s.map_state.memory)


def _kernel_samples(s: Snapshot) -> Iterator[tuple[str, Iterable[Sample]]]:
    ksm = s.numbers.ksm or {}
    yield "ksmwatch_kernel_run", _one(ksm.get("run"))
    yield "ksmwatch_kernel_pages", [((f,), ksm[f]) for f in _PAGE_FILES if f in ksm]
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
