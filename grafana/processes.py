"""Processes: who has the mappings, and details of one process."""

from __future__ import annotations

from grafana.host import HERE, HOST, JOB
from grafana.host import UID as HOST_UID
from grafana.parts import BLUE, GREEN, YELLOW, Board, Column, Kind, Panel, Variable, drill

UID = "ksmwatch-processes"
HEALTH = "ksmwatch-health"

TOP = Variable("top", "Show the first", choices=("10", "5", "20", "50"))
PID = Variable(
    "pid",
    "Process",
    f"label_values(ksmwatch_process_mappings{{{HERE}}}, pid)",
)
# Grafana fills in the name and the number of the process that was clicked on.
THIS = f'{HERE}, pid="$pid"'
FIRST = f"topk($top, ksmwatch_process_mappings{{{HERE}}})"
CLOSER = drill(UID, instance="${instance}", pid="${__field.labels.pid}")
CLOSER_ROW = drill(UID, instance="${instance}", pid="${__data.fields.PID}")


def _of_first(metric: str) -> str:
    """Another metric of the same processes."""
    return f"{metric}{{{HERE}}} and on (pid) {FIRST}"


PROCESSES: tuple[Panel, ...] = (
    Panel(
        Kind.BARS,
        "Most memory mapped by KSM",
        "Processes by what their KSM mappings span. Click on a process for details.",
        "bytes",
        {"{{comm}} {{pid}}": f"topk($top, ksmwatch_process_mapped_bytes{{{HERE}}})"},
        HOST_UID,
        height=10,
        steps=((None, BLUE),),
        link=CLOSER,
    ),
    Panel(
        Kind.BARS,
        "Largest errors of the kernel (pages)",
        "Processes by the error of ksm_merging_pages in /proc/PID/ksm_stat, in either direction.",
        "short",
        {"{{comm}} {{pid}}": f"topk($top, abs(ksmwatch_process_kernel_lag_pages{{{HERE}}}))"},
        HOST_UID,
        height=10,
        steps=((None, YELLOW),),
        link=CLOSER,
    ),
    Panel(
        Kind.STACK,
        "Memory mapped by KSM over time",
        "The processes with the most mappings at each moment.",
        "bytes",
        {"{{comm}} {{pid}}": f"topk($top, ksmwatch_process_mapped_bytes{{{HERE}}})"},
        HOST_UID,
        link=CLOSER,
    ),
    Panel(
        Kind.GRAPH,
        "Most COW breaks (pages/s)",
        "COW breaks: where merging is undone.",
        "short",
        {
            "{{comm}} {{pid}}": "topk($top, rate(ksmwatch_process_departures_total"
            f'{{reason="copied", {HERE}}}[$__rate_interval]) > 0)'
        },
        HOST_UID,
        link=CLOSER,
    ),
    Panel(
        Kind.TABLE,
        "Processes",
        "Counted mappings and the kernel's number. Estimated: in doubt until the next "
        "exact read. Click on a number for details.",
        "short",
        {
            "mappings": FIRST,
            "bytes": _of_first("ksmwatch_process_mapped_bytes"),
            "kernel": _of_first("ksmwatch_process_kernel_merging_pages"),
            "lag": _of_first("ksmwatch_process_kernel_lag_pages"),
            "exact": _of_first("ksmwatch_process_exact"),
        },
        HEALTH,
        width=24,
        height=10,
        columns=(
            Column("pid", "PID", "string", link=CLOSER_ROW),
            Column("comm", "Name", "string"),
            Column("Value #A", "Mappings (pages)"),
            Column("Value #B", "Memory", "bytes"),
            Column("Value #C", "Kernel (pages)"),
            Column("Value #D", "Lag (pages)"),
            Column(
                "Value #E",
                "Known",
                "none",
                {"0": ("estimated", YELLOW), "1": ("exact", GREEN)},
            ),
        ),
    ),
)


ONE: tuple[Panel, ...] = (
    Panel(
        Kind.GRAPH,
        "Mappings: counted and claimed (pages)",
        "PTEs of the process that map a KSM page, and the kernel's ksm_merging_pages.",
        "short",
        {
            "counted": f"ksmwatch_process_mappings{{{THIS}}}",
            "kernel's claim": f"ksmwatch_process_kernel_merging_pages{{{THIS}}}",
        },
        HEALTH,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "New mappings (pages/s)",
        "merged and converted by ksmd, forked, other (swap-in, migration). Absent when polling.",
        "short",
        {"{{reason}}": f"rate(ksmwatch_process_arrivals_total{{{THIS}}}[$__rate_interval])"},
        HOST_UID,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Lost mappings (pages/s)",
        "copied (COW breaks), unmapped (unmap, reclaim, migration) and exited. Absent when "
        "polling.",
        "short",
        {"{{reason}}": f"rate(ksmwatch_process_departures_total{{{THIS}}}[$__rate_interval])"},
        HOST_UID,
        width=8,
    ),
)


BOARD = Board(
    UID,
    "KSM: processes",
    "Which processes of a host map KSM pages, how wrong the kernel's numbers for them "
    "are, and details of one process. Needs ksmwatch run --metrics.processes=true.",
    (JOB, HOST, TOP, PID),
    {"All": PROCESSES, "Process $pid": ONE},
)
