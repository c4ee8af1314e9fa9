"""Metrics of what happened, of the kernel's own numbers, and of how ksmwatch itself is."""

from __future__ import annotations

from ksmwatch.export.metric_family import Spec

HEALTH_METRICS: tuple[Spec, ...] = (
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
