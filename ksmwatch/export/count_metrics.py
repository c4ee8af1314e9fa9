"""Metrics of counts: of the host, of owners and of processes."""

from __future__ import annotations

from ksmwatch.export.metric_family import Spec

_OWNER = ("kind", "name", "id")

COUNT_METRICS: tuple[Spec, ...] = (
    Spec(
        "ksmwatch_build_info",
        "gauge",
        "The version of ksmwatch and the release of the kernel; always 1.",
        ("version", "kernel"),
    ),
    Spec(
        "ksmwatch_ksm_supported",
        "gauge",
        "1 if the kernel has KSM (/sys/kernel/mm/ksm exists). Otherwise 0, and there are no "
        "other KSM series.",
    ),
    Spec(
        "ksmwatch_mode",
        "gauge",
        "1 for the current way of counting: bpf (live), poll (smaps_rollup) or none (no KSM).",
        ("mode",),
    ),
    Spec(
        "ksmwatch_fallback",
        "gauge",
        "1 while counts are polled because live accounting is impossible here. 0 while it is "
        "live, or if polling was configured.",
    ),
    Spec(
        "ksmwatch_live_awaited",
        "gauge",
        "1 while counts are polled for a reason that may pass (too little memory or CPU time, "
        "a refused attachment). The daemon then tries live accounting again at least once a "
        "minute.",
    ),
    Spec(
        "ksmwatch_live_attempts",
        "counter",
        "Number of times the daemon tried live accounting again while it polled.",
    ),
    Spec(
        "ksmwatch_asleep",
        "gauge",
        "1 while no KSM page exists and ksmd is stopped, so that no hot hook is attached.",
    ),
    Spec(
        "ksmwatch_confidence",
        "gauge",
        "1 for the confidence in the host's sum: exact, estimated or unknown (events were lost).",
        ("level",),
    ),
    Spec(
        "ksmwatch_mappings",
        "gauge",
        "Number of PTEs on the host that map a KSM page, counted by BPF programs on the "
        "reverse map. At most 1 second old.",
    ),
    Spec(
        "ksmwatch_mapped_bytes",
        "gauge",
        "Memory that the host's KSM mappings span: mappings times the page size.",
    ),
    Spec("ksmwatch_page_size_bytes", "gauge", "Size of a page."),
    Spec(
        "ksmwatch_saved_bytes",
        "gauge",
        "Lower bound of the memory that merging saves on the host, including zero pages: what "
        "the mappings would need without KSM (fork shares pages too), minus the kernel's "
        "pages_shared. It is too low until ksmd notices that a page has lost all its mappings.",
    ),
    Spec(
        "ksmwatch_saved_at_most_bytes",
        "gauge",
        "Upper bound of the memory that merging saves on the host. It exceeds "
        "ksmwatch_saved_bytes only while processes that were forked without exec have KSM "
        "mappings.",
    ),
    Spec(
        "ksmwatch_bookkeeping_bytes",
        "gauge",
        "Memory of ksmd's own records, derived from general_profit in /sys/kernel/mm/ksm. The "
        "profit is ksmwatch_saved_bytes minus this.",
    ),
    Spec(
        "ksmwatch_unmerge_needed_bytes",
        "gauge",
        "Memory that run=2 would need, by bound. most: one page for each mapping and each zero "
        "page. least: the same minus pages_shared pages; it is too low while the kernel counts "
        "pages that have no mapping left.",
        ("bound",),
    ),
    Spec(
        "ksmwatch_unnamed_mappings",
        "gauge",
        "The part of ksmwatch_mappings in address spaces without a known process.",
    ),
    Spec(
        "ksmwatch_node_mappings",
        "gauge",
        "KSM mappings by node of memory on which the page lies. node=unknown: mappings that were "
        "there before the start, or came without an event, and have not been looked at since. "
        "Only on hosts with several nodes.",
        ("node",),
    ),
    Spec(
        "ksmwatch_remote_mappings",
        "gauge",
        "KSM mappings of pages on another node of memory than the process's own: that of the CPUs "
        "to which it is bound, or else the one with most of its memory. Absent while that is "
        "unknown for any mapping.",
    ),
    Spec(
        "ksmwatch_kernel_mappings",
        "gauge",
        "The kernel's number for ksmwatch_mappings: pages_shared + pages_sharing in "
        "/sys/kernel/mm/ksm. It changes only when ksmd visits a page.",
    ),
    Spec(
        "ksmwatch_kernel_lag_pages",
        "gauge",
        "ksmwatch_mappings minus ksmwatch_kernel_mappings, signed: how far the kernel lags behind.",
    ),
    Spec(
        "ksmwatch_unanswered_cow_attempts",
        "gauge",
        "COW breaks that the kernel has begun (cow_ksm in /proc/vmstat) minus those that "
        "ksmwatch has counted (departures with the reason copied, and unattributed ones), both "
        "since the start. 0 if they agree. A positive value means that the kernel gave up or "
        "repeated attempts, or that departures were missed.",
    ),
    Spec(
        "ksmwatch_meminfo_ksm_bytes",
        "gauge",
        "Lines of /proc/meminfo whose names begin with Ksm. No kernel up to 7.3 has any.",
        ("line",),
    ),
    Spec(
        "ksmwatch_processes",
        "gauge",
        "Number of processes that have or had KSM mappings, by confidence in their count.",
        ("confidence",),
    ),
    Spec(
        "ksmwatch_owner_mappings",
        "gauge",
        "Number of PTEs of the owner's processes that map a KSM page. The row of kind other "
        "sums the owners outside the top; with it, all rows add up to ksmwatch_mappings.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_mapped_bytes",
        "gauge",
        "Memory that the owner's KSM mappings span.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_saved_bytes",
        "gauge",
        "The owner's part of ksmwatch_saved_bytes, divided in proportion to what each owner "
        "would need without KSM. It is not measured: without reading page frame numbers it is "
        "unknown how often each owner's pages are shared.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_saved_at_most_bytes",
        "gauge",
        "The owner's part of ksmwatch_saved_at_most_bytes, divided the same way.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_processes",
        "gauge",
        "Number of the owner's processes that have or had KSM mappings, by confidence in their "
        "count.",
        (*_OWNER, "confidence"),
    ),
    Spec(
        "ksmwatch_owner_kernel_merging_pages",
        "gauge",
        "The kernel's number for the owner: the sum of ksm_merging_pages of its processes. Its "
        "age is at most ksmwatch_kernel_process_age_seconds.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_stray_mappings",
        "gauge",
        "KSM mappings in areas that are not mergeable. Absent until the audit has read all of "
        "the owner's processes.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_node_mappings",
        "gauge",
        "The owner's part of ksmwatch_node_mappings.",
        (*_OWNER, "node"),
    ),
    Spec(
        "ksmwatch_owner_remote_mappings",
        "gauge",
        "The owner's part of ksmwatch_remote_mappings.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_zero_pages",
        "gauge",
        "Number of PTEs in which KSM placed the zero page: ksm_zero_pages in "
        "/proc/PID/ksm_stat. These are not mappings.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_unmerge_needed_bytes",
        "gauge",
        "Memory that unmerging this owner alone would need, by bound; see "
        "ksmwatch_unmerge_needed_bytes. least holds if unmerging frees every page that the "
        "kernel counts as shared. Absent for the row of kind other.",
        (*_OWNER, "bound"),
    ),
    Spec(
        "ksmwatch_owner_limit_left_bytes",
        "gauge",
        "Memory left (memory.max minus memory.current) in the owner's tightest cgroup: the one "
        "that unmerging the owner would exceed by most, or leave with least. Absent if no "
        "cgroup has a limit.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_arrivals",
        "counter",
        "KSM mappings that the owner gained, by reason. It includes processes that have ended, "
        "as long as the owner has any process. Absent for the row of kind other.",
        (*_OWNER, "reason"),
    ),
    Spec(
        "ksmwatch_owner_departures",
        "counter",
        "KSM mappings that the owner lost, by reason. What a process loses between the last "
        "snapshot and its end appears only in ksmwatch_departures_total.",
        (*_OWNER, "reason"),
    ),
    Spec(
        "ksmwatch_owner_median_age_seconds",
        "gauge",
        "The median age of the owner's mappings when a write ended them. It is exact to a factor "
        "of two, see ksmwatch_mapping_age_seconds. Absent until there is one, and for the row of "
        "kind other.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_owner_wasted_ratio",
        "gauge",
        "The part of the owner's merges that a write undid within one full scan, so that their "
        "cost was wasted; see ksmwatch_wasted_merges_total. Absent for the row of kind other.",
        _OWNER,
    ),
    Spec(
        "ksmwatch_process_mappings",
        "gauge",
        "Number of PTEs of the process that map a KSM page.",
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
        "1 if the count of the process is exact, that is, known to equal its page tables; 0 if "
        "it is estimated.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_process_kernel_merging_pages",
        "gauge",
        "The kernel's number for the process: ksm_merging_pages in /proc/PID/ksm_stat. It is "
        "wrong after writes, unmaps and forks until ksmd visits the pages. Its age is at most "
        "ksmwatch_kernel_process_age_seconds.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_process_kernel_lag_pages",
        "gauge",
        "ksmwatch_process_mappings minus ksmwatch_process_kernel_merging_pages, signed.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_process_stray_mappings",
        "gauge",
        "KSM mappings in areas that are not mergeable, when the audit last read the process. "
        "Only for processes that have any.",
        ("pid", "comm"),
    ),
    Spec(
        "ksmwatch_residue_mappings",
        "gauge",
        "KSM mappings by what KSM's run state does with them: merged (run=1), kept (run=0; not "
        "a fault), and after run=2 unmerging, unverified (not read since) or left (the kernel "
        "left them behind for good).",
        ("kind",),
    ),
    Spec(
        "ksmwatch_kernel_process_age_seconds",
        "gauge",
        "Age of the oldest of the kernel's numbers by process and owner; 0 if ksmd has done "
        "nothing since they were read. Each snapshot spends at most 10 ms on numbers that have "
        "probably changed, and at most 2 ms on others.",
    ),
    Spec(
        "ksmwatch_kernel_run_age_seconds",
        "gauge",
        "Lower bound of the time for which /sys/kernel/mm/ksm/run has had its value.",
    ),
    Spec(
        "ksmwatch_process_arrivals",
        "counter",
        "KSM mappings that the process gained, by reason: merged and converted (by ksmd), "
        "forked, other (swap-in, migration).",
        ("pid", "comm", "reason"),
    ),
    Spec(
        "ksmwatch_process_departures",
        "counter",
        "KSM mappings that the process lost, by reason: copied (COW breaks), unmapped (unmap, "
        "reclaim, migration), exited.",
        ("pid", "comm", "reason"),
    ),
)
