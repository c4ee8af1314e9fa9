"""Metrics of events, of the kernel's own numbers, and of ksmwatch's health."""

from __future__ import annotations

from ksmwatch.export.metric_family import Spec

HEALTH_METRICS: tuple[Spec, ...] = (
    Spec("ksmwatch_arrivals", "counter", "KSM mappings gained, by reason.", ("reason",)),
    Spec(
        "ksmwatch_departures",
        "counter",
        "KSM mappings lost, by reason.",
        ("reason",),
    ),
    Spec(
        "ksmwatch_mapping_age_seconds",
        "histogram",
        "How old KSM mappings were when they ended, by reason (see ksmwatch_departures_total), of "
        "a sample of pages. Only ages that are known count. Absent where hooks are kprobes, with "
        "PREEMPT_RT, with ages.one-in 0, and while counts are polled.",
        ("reason",),
    ),
    Spec(
        "ksmwatch_mapping_ages_unknown",
        "counter",
        "Departures from pages of the sample whose age is unknown. unseen: ksmwatch did not see "
        "the mapping come (fork, before the start, swap-in, a full map). ambiguous: the process "
        "had several mappings of the page. moved: the page was migrated.",
        ("why",),
    ),
    Spec(
        "ksmwatch_mapping_ages_one_in",
        "gauge",
        "Ages are kept for one page in this many (ages.one-in, or more if the maps would fill up). "
        "0: none are kept; host.ages_reason in ksmwatch snapshot --json says why.",
    ),
    Spec(
        "ksmwatch_noted_merges",
        "counter",
        "Merges of pages of the sample whose time was noted, since the length of a full scan has "
        "been known.",
    ),
    Spec(
        "ksmwatch_wasted_merges",
        "counter",
        "The part of ksmwatch_noted_merges_total that a write undid within one full scan "
        "(ksmwatch_full_scan_seconds). Their scan, merge and copy were wasted.",
    ),
    Spec(
        "ksmwatch_full_scan_seconds",
        "gauge",
        "How long ksmd took for the last full scan. Absent until one was seen from its beginning.",
    ),
    Spec(
        "ksmwatch_merge_attempts",
        "counter",
        "Calls of try_to_merge_one_page() by outcome: converted (in place), replaced, already "
        "(it was a KSM page), failed.",
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
        "The part of ksmwatch_break_cow_total in which other PTEs mapped the page too and keep "
        "it. Such a page has no stable node and can be neither reclaimed nor migrated. "
        "ksmwatch audit names the processes.",
    ),
    Spec(
        "ksmwatch_shared_conversions",
        "counter",
        "Conversions in place of a page that processes share by fork. Each puts the counts of "
        "the fork family in doubt until the processes are read.",
    ),
    Spec(
        "ksmwatch_probe_attached",
        "gauge",
        "1 while the probe is attached.",
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
        "Losses by kind: reads denied or disturbed, full maps, missed events, unreadable files.",
        ("kind",),
    ),
    Spec(
        "ksmwatch_miscounted_mms",
        "counter",
        "Address spaces whose count was called exact but was not 0 when the kernel freed them. "
        "These are measured errors.",
    ),
    Spec(
        "ksmwatch_miscounted_pages",
        "counter",
        "Sum of the absolute errors of these counts, in pages.",
    ),
    Spec("ksmwatch_audit_reads", "counter", "Processes that the audit has read."),
    Spec(
        "ksmwatch_audit_rounds",
        "counter",
        "Rounds in which the audit has read every process.",
    ),
    Spec(
        "ksmwatch_drift_pages",
        "counter",
        "Pages by which counts called exact were wrong when read, by sign: surplus (counted "
        "too many) or missing (counted too few). The read corrects the count.",
        ("sign",),
    ),
    Spec(
        "ksmwatch_corrected_pages",
        "counter",
        "Pages by which counts were wrong when read after a loss that had announced it (see "
        "ksmwatch_losses_total), by sign. The read corrects the count.",
        ("sign",),
    ),
    Spec(
        "ksmwatch_last_drift_pages",
        "gauge",
        "The count minus what the read found, at the last drift; signed. Absent until there is "
        "one.",
    ),
    Spec("ksmwatch_accounts", "gauge", "Number of address spaces with an account in the BPF map."),
    Spec("ksmwatch_accounts_limit", "gauge", "Number of accounts that the BPF map can hold."),
    Spec(
        "ksmwatch_kept",
        "gauge",
        "1 while counts and attachments would survive if the daemon were killed.",
    ),
    Spec("ksmwatch_adopted", "gauge", "1 if this daemon took over the counts of an earlier one."),
    Spec(
        "ksmwatch_programs",
        "gauge",
        "1 for the origin of the BPF programs: compiled at the start, kept in a file, or adopted.",
        ("origin",),
    ),
    Spec("ksmwatch_map_memory_bytes", "gauge", "Kernel memory of the account maps."),
    Spec(
        "ksmwatch_kernel_run",
        "gauge",
        "/sys/kernel/mm/ksm/run: 0 stopped (pages stay merged), 1 scanning, 2 unmerging, then "
        "stopped.",
    ),
    Spec(
        "ksmwatch_kernel_pages",
        "gauge",
        "Page counters in /sys/kernel/mm/ksm by file name (pages_shared, pages_sharing, "
        "pages_unshared, pages_volatile, ksm_zero_pages). They change only when ksmd runs.",
        ("file",),
    ),
    Spec(
        "ksmwatch_kernel_profit_bytes",
        "gauge",
        "/sys/kernel/mm/ksm/general_profit: the kernel's estimate of the memory gained, signed.",
    ),
    Spec(
        "ksmwatch_kernel_stable_node_chains",
        "gauge",
        "/sys/kernel/mm/ksm/stable_node_chains: contents for which a page has reached "
        "max_page_sharing, so that the kernel keeps several copies. It changes only when ksmd "
        "runs.",
    ),
    Spec(
        "ksmwatch_kernel_stable_node_dups",
        "gauge",
        "/sys/kernel/mm/ksm/stable_node_dups: pages in those chains. This minus the chains is "
        "the number of pages that a higher max_page_sharing would save.",
    ),
    Spec(
        "ksmwatch_kernel_memory_available_bytes",
        "gauge",
        "MemAvailable in /proc/meminfo. Unmerging may use this plus "
        "ksmwatch_kernel_swap_free_bytes.",
    ),
    Spec("ksmwatch_kernel_swap_free_bytes", "gauge", "SwapFree in /proc/meminfo."),
    Spec("ksmwatch_kernel_full_scans", "counter", "/sys/kernel/mm/ksm/full_scans."),
    Spec("ksmwatch_kernel_pages_scanned", "counter", "/sys/kernel/mm/ksm/pages_scanned."),
    Spec(
        "ksmwatch_ksmd_cpu_seconds",
        "counter",
        "CPU time used by the kernel thread ksmd, from /proc/PID/stat. Absent if the PID "
        "namespace hides the thread.",
    ),
    Spec(
        "ksmwatch_kernel_cow_breaks",
        "counter",
        "cow_ksm in /proc/vmstat: attempts to copy a KSM page on write.",
    ),
    Spec(
        "ksmwatch_kernel_swapin_copies",
        "counter",
        "ksm_swpin_copy in /proc/vmstat: KSM pages copied at swap-in.",
    ),
    Spec(
        "ksmwatch_history_moments",
        "counter",
        "Moments written to the history. Like all metrics of the history, absent if none is kept.",
    ),
    Spec(
        "ksmwatch_history_unwritten",
        "counter",
        "Moments that could not be written, by reason: full, read_only, denied, damaged (the file "
        "was moved aside), busy, other. Counting goes on.",
        ("reason",),
    ),
    Spec(
        "ksmwatch_history_clock_steps",
        "counter",
        "How often the clock was set. Each time, the times in the history jump.",
    ),
    Spec("ksmwatch_history_bytes", "gauge", "Size of the moments in the history."),
    Spec(
        "ksmwatch_history_oldest_timestamp_seconds",
        "gauge",
        "The time of the first moment in the history.",
    ),
    Spec(
        "ksmwatch_config_last_reload_successful",
        "gauge",
        "1 if the configuration was valid when it was last read, at the start or on SIGHUP. 0 "
        "if it was not; the previous configuration then stays in use.",
    ),
    Spec(
        "ksmwatch_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When a valid configuration was last read.",
    ),
    Spec("ksmwatch_snapshot_timestamp_seconds", "gauge", "When the exported snapshot was taken."),
    Spec("ksmwatch_snapshot_duration_seconds", "gauge", "How long taking the snapshot took."),
)
