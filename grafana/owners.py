"""Owners: virtual machines, pods, containers, units and users; and details of one."""

from __future__ import annotations

from grafana import estimate
from grafana.host import CONFIDENT, HERE, HOST, JOB
from grafana.host import UID as HOST_UID
from grafana.parts import BLUE, Board, Column, Kind, Panel, Variable, drill
from grafana.processes import TOP
from grafana.processes import UID as PROCESSES

UID = "ksmwatch-owners"
HEALTH = "ksmwatch-health"

# All owners that are not among the largest are one row of this kind.
NAMED = f'kind!="other", {HERE}'
OWNER = Variable("owner", "Owner", f"label_values(ksmwatch_owner_mappings{{{NAMED}}}, id)")
THIS = f'id="$owner", {HERE}'
LEGEND = "{{kind}} {{name}}"
CLOSER = drill(UID, instance="${instance}", owner="${__field.labels.id}")
CLOSER_ROW = drill(UID, instance="${instance}", owner="${__data.fields.Id}")
_OF_ESTIMATE = "ksmwatch_estimate_owner_would_save_all_bytes"
FIRST = f"topk($top, ksmwatch_owner_mappings{{{NAMED}}})"


def _of_first(expression: str) -> str:
    """Another metric of the same owners."""
    return f"{expression} and on (kind, id) {FIRST}"


ALL: tuple[Panel, ...] = (
    Panel(
        Kind.BARS,
        "Most memory mapped by KSM",
        "What the KSM mappings of an owner's processes span. Click on an owner for details.",
        "bytes",
        {LEGEND: f"topk($top, ksmwatch_owner_mapped_bytes{{{NAMED}}})"},
        PROCESSES,
        height=10,
        steps=((None, BLUE),),
        link=CLOSER,
    ),
    Panel(
        Kind.BARS,
        "Saved memory, apportioned",
        "The lower bound of the host's saving, divided in proportion to what each "
        "owner would need without KSM. It is unknown how often each owner's pages "
        "are shared, so this is not a measurement.",
        "bytes",
        {LEGEND: f"topk($top, ksmwatch_owner_saved_bytes{{{NAMED}}})"},
        HOST_UID,
        height=10,
        link=CLOSER,
    ),
    Panel(
        Kind.STACK,
        "Memory mapped by KSM over time",
        "The owners with the most mappings at each moment.",
        "bytes",
        {LEGEND: f"topk($top, ksmwatch_owner_mapped_bytes{{{NAMED}}})"},
        PROCESSES,
        link=CLOSER,
    ),
    Panel(
        Kind.GRAPH,
        "Most COW breaks (pages/s)",
        "COW breaks: where merging is undone.",
        "short",
        {
            LEGEND: "topk($top, rate(ksmwatch_owner_departures_total"
            f'{{reason="copied", {NAMED}}}[$__rate_interval]))'
        },
        HOST_UID,
        link=CLOSER,
    ),
    Panel(
        Kind.BARS,
        "What merging all would save",
        "What each owner would add to the saving, if all were merged that can be offered to KSM, "
        "whether it is offered now or not. Needs ksmwatch-estimate.timer and node_exporter.",
        "bytes",
        {LEGEND: f"topk($top, {estimate.by_timer(_OF_ESTIMATE, HERE)})"},
        HOST_UID,
        width=24,
        absent=estimate.ABSENT,
    ),
    Panel(
        Kind.TABLE,
        "Owners",
        "Counted mappings and the kernel's number. Stray: in areas that are not "
        "mergeable. Wasted: the part of merges that a write undid within one full scan. "
        "Lasts: the median age of mappings that a write ended. Click on an id for details.",
        "short",
        {
            "mappings": FIRST,
            "bytes": _of_first(f"ksmwatch_owner_mapped_bytes{{{HERE}}}"),
            "kernel": _of_first(f"ksmwatch_owner_kernel_merging_pages{{{HERE}}}"),
            "stray": _of_first(f"ksmwatch_owner_stray_mappings{{{HERE}}}"),
            "processes": _of_first(
                f"sum without (confidence) (ksmwatch_owner_processes{{{HERE}}})"
            ),
            "estimated": _of_first(
                f'sum without (confidence) (ksmwatch_owner_processes{{confidence="estimated",'
                f" {HERE}}})"
            ),
            "wasted": _of_first(f"ksmwatch_owner_wasted_ratio{{{HERE}}}"),
            "age": _of_first(f"ksmwatch_owner_median_age_seconds{{{HERE}}}"),
        },
        HEALTH,
        width=24,
        height=10,
        columns=(
            Column("kind", "Kind", "string"),
            Column("name", "Name", "string"),
            Column("id", "Id", "string", link=CLOSER_ROW),
            Column("Value #A", "Mappings (pages)"),
            Column("Value #B", "Memory", "bytes"),
            Column("Value #C", "Kernel (pages)"),
            Column("Value #D", "Stray (pages)"),
            Column("Value #E", "Processes"),
            Column("Value #F", "Estimated"),
            Column("Value #G", "Wasted", "percentunit"),
            Column("Value #H", "Lasts", "s"),
        ),
    ),
)


ONE: tuple[Panel, ...] = (
    Panel(
        Kind.GRAPH,
        "Mappings: counted and claimed (pages)",
        "PTEs of the owner's processes that map a KSM page, and the kernel's number for them.",
        "short",
        {
            "counted": f"ksmwatch_owner_mappings{{{THIS}}}",
            "kernel's claim": f"ksmwatch_owner_kernel_merging_pages{{{THIS}}}",
        },
        PROCESSES,
    ),
    Panel(
        Kind.STACK,
        "Processes by confidence",
        "The owner's processes that have or had KSM mappings.",
        "short",
        {"{{confidence}}": f"ksmwatch_owner_processes{{{THIS}}}"},
        PROCESSES,
        colors=CONFIDENT,
    ),
    Panel(
        Kind.GRAPH,
        "New mappings (pages/s)",
        "merged and converted by ksmd, forked, other (swap-in, migration).",
        "short",
        {"{{reason}}": f"rate(ksmwatch_owner_arrivals_total{{{THIS}}}[$__rate_interval])"},
        PROCESSES,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Lost mappings (pages/s)",
        "copied (COW breaks), unmapped (unmap, reclaim, migration) and exited.",
        "short",
        {"{{reason}}": f"rate(ksmwatch_owner_departures_total{{{THIS}}}[$__rate_interval])"},
        PROCESSES,
        width=8,
    ),
    Panel(
        Kind.GRAPH,
        "Zero pages and stray mappings (pages)",
        "Zero pages placed by KSM (not part of the mappings), and mappings in areas "
        "that are not mergeable.",
        "short",
        {
            "zero pages": f"ksmwatch_owner_zero_pages{{{THIS}}}",
            "stray": f"ksmwatch_owner_stray_mappings{{{THIS}}}",
        },
        HEALTH,
        width=8,
    ),
)


BOARD = Board(
    UID,
    "KSM: owners",
    "Which virtual machines, pods, containers, units and users of a host map KSM pages, "
    "and details of one owner.",
    (JOB, HOST, TOP, OWNER),
    {"All": ALL, "Owner $owner": ONE},
)
