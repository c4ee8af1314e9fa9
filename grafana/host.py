"""One host: the truth against the kernel's claim, what merging saves and what it costs."""

from __future__ import annotations

from grafana import estimate
from grafana.parts import BLUE, GREEN, GREY, RED, YELLOW, Board, Kind, Panel, Variable, cell

UID = "ksmwatch-host"
OWNERS = "ksmwatch-owners"
PROCESSES = "ksmwatch-processes"
HEALTH = "ksmwatch-health"

JOB = Variable("job", "Job", "label_values(ksmwatch_build_info, job)")
HOST = Variable("instance", "Host", 'label_values(ksmwatch_build_info{job="$job"}, instance)')

# Every query of one host looks for these labels.
HERE = 'job="$job", instance="$instance"'

RUN = {
    "0": ("stopped, pages stay merged", YELLOW),
    "1": ("scanning", GREEN),
    "2": ("unmerged, stopped", GREY),
}
CONFIDENCE = {"0": ("exact", GREEN), "1": ("estimated", YELLOW), "2": ("unknown", RED)}
CONFIDENT = {"exact": GREEN, "estimated": YELLOW}
RESIDUE = {
    "merged": GREEN,
    "kept": BLUE,
    "unmerging": GREY,
    "unverified": YELLOW,
    "left": RED,
}
MODE = {"0": ("none: no KSM", GREY), "1": ("poll", YELLOW), "2": ("bpf", GREEN)}


def confidence(labels: str) -> str:
    """0 exact, 1 estimated, 2 unknown."""
    return (
        f'ksmwatch_confidence{{level="estimated", {labels}}}'
        f' + ignoring (level) 2 * ksmwatch_confidence{{level="unknown", {labels}}}'
    )


def confidence_cell(more: str) -> Panel:
    """How far the counts of this host are known."""
    return cell(
        "Confidence",
        "Exact: equal to the page tables. Estimated: a process is in doubt until it is read. "
        "Unknown: events were lost, or processes cannot be read.",
        "none",
        {"confidence": confidence(HERE)},
        more,
        states=CONFIDENCE,
    )


def mode(labels: str) -> str:
    """0 none, 1 poll, 2 bpf."""
    return (
        f'ksmwatch_mode{{mode="poll", {labels}}}'
        f' + ignoring (mode) 2 * ksmwatch_mode{{mode="bpf", {labels}}}'
    )


def profit(labels: str, saved: str = "saved") -> str:
    """The bound of the savings (lower, or `saved_at_most`), minus ksmd's own records."""
    return f"ksmwatch_{saved}_bytes{{{labels}}} - ksmwatch_bookkeeping_bytes{{{labels}}}"


NOW: tuple[Panel, ...] = (
    cell(
        "Memory mapped by KSM",
        "What the PTEs that map KSM pages span, counted live. This is not a saving: "
        "the first mapping of each page saves nothing.",
        "bytes",
        {"mapped": f"ksmwatch_mapped_bytes{{{HERE}}}"},
        OWNERS,
        steps=((None, BLUE),),
    ),
    cell(
        "Memory saved",
        "Lower bound: what the mappings would need without KSM (fork shares pages "
        "too), minus one page for each set of equal pages; including zero pages. Too "
        "low until ksmd notices that a page has lost all its mappings.",
        "bytes",
        {"saved": f"ksmwatch_saved_bytes{{{HERE}}}"},
        OWNERS,
        steps=((None, YELLOW), (0, GREEN)),
    ),
    cell(
        "Error of the kernel's count",
        "Counted mappings minus pages_shared + pages_sharing, as memory. Negative: "
        "the kernel claims mappings that are gone, because ksmd has not visited the "
        "pages yet.",
        "bytes",
        {"off by": f"ksmwatch_kernel_lag_pages{{{HERE}}} * ksmwatch_page_size_bytes{{{HERE}}}"},
        HEALTH,
        steps=((None, YELLOW), (-(2**24), GREEN), (2**24, YELLOW)),
    ),
    confidence_cell(HEALTH),
    cell(
        "KSM",
        "/sys/kernel/mm/ksm/run. 0 stops ksmd and keeps merged pages; 2 unmerges them.",
        "none",
        {"run": f"ksmwatch_kernel_run{{{HERE}}}"},
        HEALTH,
        states=RUN,
    ),
    cell(
        "Profit",
        "Lower bound of the memory saved, minus ksmd's own records. Negative: KSM may "
        "cost more than it saves.",
        "bytes",
        {"profit": profit(HERE)},
        UID,
        steps=((None, RED), (0, GREEN)),
    ),
)


TRUTH: tuple[Panel, ...] = (
    Panel(
        Kind.GRAPH,
        "Mappings: counted and claimed (pages)",
        "PTEs that map a KSM page, counted live, and the kernel's number for them "
        "(pages_shared + pages_sharing), which changes only when ksmd visits a page.",
        "short",
        {
            "counted": f"ksmwatch_mappings{{{HERE}}}",
            "kernel's claim": f"ksmwatch_kernel_mappings{{{HERE}}}",
        },
        PROCESSES,
    ),
    Panel(
        Kind.GRAPH,
        "Kernel lag (pages)",
        "Counted minus claimed. It falls when tenants write or exit, and returns to 0 "
        "as ksmd visits their pages.",
        "short",
        {"lag": f"ksmwatch_kernel_lag_pages{{{HERE}}}"},
        HEALTH,
    ),
    Panel(
        Kind.GRAPH,
        "New mappings (pages/s)",
        "merged and converted by ksmd, forked, other (swap-in, migration). Absent when polling.",
        "short",
        {
            "{{reason}}": f"sum by (reason) (rate(ksmwatch_arrivals_total{{{HERE}}}"
            "[$__rate_interval]))"
        },
        PROCESSES,
    ),
    Panel(
        Kind.GRAPH,
        "Lost mappings (pages/s)",
        "copied (COW breaks), unmapped (unmap, reclaim, migration), exited. Absent when polling.",
        "short",
        {
            "{{reason}}": f"sum by (reason) (rate(ksmwatch_departures_total{{{HERE}}}"
            "[$__rate_interval]))"
        },
        PROCESSES,
    ),
)


RECONCILIATION: tuple[Panel, ...] = (
    Panel(
        Kind.STACK,
        "Mappings by KSM state (pages)",
        "merged: KSM is on. kept: stopped by run=0, not a fault. After run=2: "
        "unmerging, unverified (not read since), and left: the kernel left them "
        "behind for good.",
        "short",
        {"{{kind}}": f"ksmwatch_residue_mappings{{{HERE}}}"},
        HEALTH,
        colors=RESIDUE,
    ),
    cell(
        "Time since run changed",
        "The age of the value of /sys/kernel/mm/ksm/run, at least. It begins anew with the daemon.",
        "s",
        {"age": f"ksmwatch_kernel_run_age_seconds{{{HERE}}}"},
        HEALTH,
        steps=((None, BLUE),),
        height=8,
    ),
    Panel(
        Kind.STACK,
        "Processes by confidence",
        "Processes that have or had KSM mappings. Estimated ones are in doubt, for "
        "example after a fork, and are read within a second.",
        "short",
        {"{{confidence}}": f"ksmwatch_processes{{{HERE}}}"},
        HEALTH,
        width=8,
        colors=CONFIDENT,
    ),
)


ECONOMICS: tuple[Panel, ...] = (
    Panel(
        Kind.GRAPH,
        "Memory that unmerging needs, and free memory",
        "Bounds of what run=2 would need. If less than the lower bound is free, the "
        "kernel would kill processes.",
        "bytes",
        {
            "needed at {{bound}}": f"ksmwatch_unmerge_needed_bytes{{{HERE}}}",
            "free (MemAvailable and swap)": f"ksmwatch_kernel_memory_available_bytes{{{HERE}}}"
            f" + ksmwatch_kernel_swap_free_bytes{{{HERE}}}",
        },
        PROCESSES,
    ),
    Panel(
        Kind.GRAPH,
        "Profit: counted and claimed",
        "The kernel's general_profit, which counts each of ksmd's records as a "
        "saving, and the bounds of what merging saves, minus these records. Absent "
        "before Linux 6.4.",
        "bytes",
        {
            "at least": profit(HERE),
            "at most": profit(HERE, "saved_at_most"),
            "kernel's claim": f"ksmwatch_kernel_profit_bytes{{{HERE}}}",
        },
        PROCESSES,
    ),
    Panel(
        Kind.GRAPH,
        "CPU of ksmd",
        "Share of one core that the kernel thread ksmd uses.",
        "percentunit",
        {"ksmd": f"rate(ksmwatch_ksmd_cpu_seconds_total{{{HERE}}}[$__rate_interval])"},
        HEALTH,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Cores per GiB saved",
        "CPU time of ksmd over the last hour for each GiB that merging saves now. "
        "Absent while it saves nothing.",
        "short",
        {
            "cores per GiB": f"rate(ksmwatch_ksmd_cpu_seconds_total{{{HERE}}}[1h])"
            f" / (ksmwatch_saved_bytes{{{HERE}}} > 0) * 2 ^ 30"
        },
        HEALTH,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Merges wasted",
        "The part of merges that a write undid within one full scan, over the last hour: a scan, a "
        "merge and a copy for nothing. Of a sample of pages. Absent where hooks are kprobes.",
        "percentunit",
        {
            "wasted": f"increase(ksmwatch_wasted_merges_total{{{HERE}}}[1h])"
            f" / (increase(ksmwatch_noted_merges_total{{{HERE}}}[1h]) > 0)"
        },
        OWNERS,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Age of mappings when they end",
        "The median by reason over the last hour, to a factor of two, and how long ksmd takes for "
        "a full scan. Of a sample of pages.",
        "s",
        {
            "{{reason}}": "histogram_quantile(0.5, sum by (reason, le) (increase("
            f"ksmwatch_mapping_age_seconds_bucket{{{HERE}}}[1h])))",
            "a full scan": f"ksmwatch_full_scan_seconds{{{HERE}}}",
        },
        OWNERS,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Copies on write (pages/s)",
        "cow_ksm of /proc/vmstat: writes to merged pages, each a fault and a copy.",
        "short",
        {"copies": f"rate(ksmwatch_kernel_cow_breaks_total{{{HERE}}}[$__rate_interval])"},
        PROCESSES,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Pages scanned by ksmd (pages/s)",
        "pages_scanned of /sys/kernel/mm/ksm. Absent before Linux 6.6.",
        "short",
        {"scanned": f"rate(ksmwatch_kernel_pages_scanned_total{{{HERE}}}[$__rate_interval])"},
        HEALTH,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Merge attempts (pages/s)",
        "Calls of try_to_merge_one_page() by outcome. Many failures mean that tenants "
        "hold extra references to their pages, or write to them meanwhile.",
        "short",
        {
            "{{outcome}}": f"sum by (outcome) (rate(ksmwatch_merge_attempts_total{{{HERE}}}"
            "[$__rate_interval]))"
        },
        HEALTH,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Extra copies because of max_page_sharing (pages)",
        "Pages that a higher max_page_sharing would save.",
        "short",
        {
            "copies": f"ksmwatch_kernel_stable_node_dups{{{HERE}}}"
            f" - ksmwatch_kernel_stable_node_chains{{{HERE}}}"
        },
        HEALTH,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Mappings by node of memory (pages)",
        "On which node the merged pages lie. Remote: on another node than the process's own. Only "
        "on hosts with several nodes.",
        "short",
        {
            "node {{node}}": f"ksmwatch_node_mappings{{{HERE}}}",
            "remote": f"ksmwatch_remote_mappings{{{HERE}}}",
        },
        OWNERS,
        width=8,
        absent="one node",
    ),
)


BOARD = Board(
    UID,
    "KSM: host",
    "The true state of Kernel Samepage Merging on one host and the kernel's claim, and "
    "what merging saves and costs.",
    (JOB, HOST),
    {
        "Now": NOW,
        "Counts and the kernel's claim": TRUTH,
        "Reconciliation": RECONCILIATION,
        "Savings and cost": ECONOMICS,
        "Estimate (ksmwatch estimate, by a timer)": estimate.panels(HERE),
    },
)
