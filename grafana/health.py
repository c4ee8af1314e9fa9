"""Drift and health: how far the counts can be trusted, and what the daemon costs."""

from __future__ import annotations

from grafana.host import HERE, HOST, JOB, MODE, confidence_cell, mode
from grafana.host import UID as HOST_UID
from grafana.parts import GREEN, GREY, RED, YELLOW, Board, Column, Kind, Panel, cell

UID = "ksmwatch-health"
OWNERS = "ksmwatch-owners"
PROCESSES = "ksmwatch-processes"

YES = {"0": ("no", GREY), "1": ("yes", GREEN)}


def _drift(expression: str) -> str:
    return f"sum without (sign) (increase({expression}{{{HERE}}}[$__range]))"


NOW: tuple[Panel, ...] = (
    cell(
        "Counting method",
        "bpf: live. poll: by reading smaps_rollup, so nothing is exact. none: no KSM.",
        "none",
        {"mode": mode(HERE)},
        HOST_UID,
        states=MODE,
    ),
    confidence_cell(HOST_UID),
    cell(
        "Drift in the selected range (pages)",
        "Pages by which counts called exact were wrong when read, summed over both "
        "signs. Should be 0.",
        "short",
        {"drift": _drift("ksmwatch_drift_pages_total")},
        HOST_UID,
        steps=((None, GREEN), (1, RED)),
    ),
    cell(
        "Miscounted (pages)",
        "Pages of counts that were called exact but were not 0 when the kernel freed "
        "the address space. Should be 0.",
        "short",
        {"miscounted": f"increase(ksmwatch_miscounted_pages_total{{{HERE}}}[$__range])"},
        HOST_UID,
        steps=((None, GREEN), (1, RED)),
    ),
    cell(
        "Survives the daemon",
        "Whether counts and attachments would survive if the daemon were killed.",
        "none",
        {"kept": f"ksmwatch_kept{{{HERE}}}"},
        HOST_UID,
        states=YES,
    ),
    cell(
        "Asleep",
        "While no KSM page exists and ksmd is stopped, no hot hook is attached.",
        "none",
        {"asleep": f"ksmwatch_asleep{{{HERE}}}"},
        HOST_UID,
        states={"0": ("no", GREEN), "1": ("yes", GREY)},
    ),
)


TRUST: tuple[Panel, ...] = (
    Panel(
        Kind.GRAPH,
        "Drift and corrections (pages)",
        "Differences between counts and page tables that exact reads found and "
        "corrected. Drift: nothing had put the count in doubt. Corrected: a loss had "
        "announced the difference.",
        "short",
        {
            "drift, {{sign}}": f"increase(ksmwatch_drift_pages_total{{{HERE}}}[$__rate_interval])",
            "corrected, {{sign}}": "increase(ksmwatch_corrected_pages_total"
            f"{{{HERE}}}[$__rate_interval])",
        },
        HOST_UID,
    ),
    Panel(
        Kind.GRAPH,
        "Losses by kind",
        "Losses and repairs. The runbook pages KsmwatchEventsLost and "
        "KsmwatchRepairsOften explain each kind.",
        "short",
        {"{{kind}}": f"increase(ksmwatch_losses_total{{{HERE}}}[$__rate_interval])"},
        HOST_UID,
    ),
    Panel(
        Kind.GRAPH,
        "Exact reads by the audit",
        "Processes that the audit has read, and rounds in which it has read all.",
        "short",
        {
            "reads": f"increase(ksmwatch_audit_reads_total{{{HERE}}}[$__rate_interval])",
            "rounds": f"increase(ksmwatch_audit_rounds_total{{{HERE}}}[$__rate_interval])",
        },
        PROCESSES,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Causes of doubt (events/s)",
        "Conversions of pages that processes share by fork, and merges that ksmd gave "
        "up (break_cow), with those that leave a KSM page behind.",
        "short",
        {
            "shared conversions": "rate(ksmwatch_shared_conversions_total"
            f"{{{HERE}}}[$__rate_interval])",
            "break_cow": f"rate(ksmwatch_break_cow_total{{{HERE}}}[$__rate_interval])",
            "break_cow, page left": "rate(ksmwatch_break_cow_left_total"
            f"{{{HERE}}}[$__rate_interval])",
        },
        PROCESSES,
        width=8,
    ),
    Panel(
        Kind.BARS,
        "Stray mappings (pages)",
        "Owners with KSM pages in areas that are not mergeable, when the audit last "
        "read them. ksmwatch audit prints processes and addresses. If there are none, "
        "there is no data.",
        "short",
        {"{{name}}": f"topk(10, ksmwatch_owner_stray_mappings{{{HERE}}} > 0)"},
        OWNERS,
        width=8,
        steps=((None, YELLOW),),
    ),
    Panel(
        Kind.TABLE,
        "Probes",
        "The plan: which function shows which event, by which mechanism, and how many "
        "runs of its programs the kernel has skipped.",
        "short",
        {
            "attached": f"ksmwatch_probe_attached{{{HERE}}}",
            "skipped": f"ksmwatch_probe_missed_total{{{HERE}}}",
        },
        HOST_UID,
        width=24,
        height=13,
        columns=(
            Column("event", "Event", "string"),
            Column("symbol", "Function", "string"),
            Column("mechanism", "Mechanism", "string"),
            Column("Value #A", "Attached", "none", {"0": ("no", YELLOW), "1": ("yes", GREEN)}),
            Column("Value #B", "Skipped runs"),
        ),
    ),
)


COST: tuple[Panel, ...] = (
    Panel(
        Kind.GRAPH,
        "Accounts in use",
        "Address spaces with an account, as a share of the map's limit.",
        "percentunit",
        {"in use": f"ksmwatch_accounts{{{HERE}}} / ksmwatch_accounts_limit{{{HERE}}}"},
        HOST_UID,
        width=6,
        steps=((None, GREEN), (0.8, RED)),
    ),
    Panel(
        Kind.GRAPH,
        "CPU of the daemon",
        "Share of one core. It does not include the BPF programs, which run in other processes.",
        "percentunit",
        {"daemon": f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval])"},
        HOST_UID,
        width=6,
    ),
    Panel(
        Kind.STACK,
        "Memory of the daemon",
        "Resident memory, and kernel memory of the account maps.",
        "bytes",
        {
            "resident": f"process_resident_memory_bytes{{{HERE}}}",
            "maps": f"ksmwatch_map_memory_bytes{{{HERE}}}",
        },
        HOST_UID,
        width=6,
    ),
    Panel(
        Kind.GRAPH,
        "Time for a snapshot",
        "Time to make the snapshot that a scrape gets. Near 2 s, doubts arise faster "
        "than they can be settled.",
        "s",
        {"duration": f"ksmwatch_snapshot_duration_seconds{{{HERE}}}"},
        HOST_UID,
        width=6,
        steps=((None, GREEN), (1.5, YELLOW)),
    ),
    Panel(
        Kind.TABLE,
        "Version",
        "Versions of ksmwatch and of the kernel.",
        "short",
        {
            "build": f"ksmwatch_build_info{{{HERE}}}",
            "adopted": f"ksmwatch_adopted{{{HERE}}}",
        },
        "ksmwatch-fleet",
        width=24,
        height=4,
        columns=(
            Column("instance", "Host", "string"),
            Column("version", "ksmwatch", "string"),
            Column("kernel", "Kernel", "string"),
            Column("Value #B", "Adopted an earlier daemon's counts", "none", YES),
        ),
    ),
)


NO_HISTORY = "no history is kept"
HISTORY: tuple[Panel, ...] = (
    Panel(
        Kind.GRAPH,
        "Moments of the history (in an hour)",
        "Moments that were written, and those that were not, by reason. While nothing moves, one "
        "moment in a minute is written. After a step of the clock, times in the history jump.",
        "short",
        {
            "written": f"increase(ksmwatch_history_moments_total{{{HERE}}}[1h])",
            "not written: {{reason}}": f"increase(ksmwatch_history_unwritten_total{{{HERE}}}[1h])",
            "steps of the clock": f"increase(ksmwatch_history_clock_steps_total{{{HERE}}}[1h])",
        },
        HOST_UID,
        width=8,
        absent=NO_HISTORY,
    ),
    Panel(
        Kind.GRAPH,
        "Size of the history",
        "What the moments take on disk, at most --history.max-mb.",
        "bytes",
        {"size": f"ksmwatch_history_bytes{{{HERE}}}"},
        HOST_UID,
        width=8,
        absent=NO_HISTORY,
    ),
    Panel(
        Kind.GRAPH,
        "Reach of the history",
        "How old the first moment is that is still kept.",
        "s",
        {"reach": f"time() - ksmwatch_history_oldest_timestamp_seconds{{{HERE}}}"},
        HOST_UID,
        width=8,
        absent=NO_HISTORY,
    ),
)


BOARD = Board(
    UID,
    "KSM: drift and health",
    "How far ksmwatch's counts on one host can be trusted: exact reads against counts, "
    "losses, probes, and what the daemon costs.",
    (JOB, HOST),
    {"Now": NOW, "Trust": TRUST, "Cost of the daemon": COST, "History": HISTORY},
)
