"""Metrics of counts: of the host, of owners and of processes."""

from __future__ import annotations

from ksmwatch.export.metric_family import Spec

_OWNER = ("kind", "name", "id")

COUNT_METRICS: tuple[Spec, ...] = (
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
)
