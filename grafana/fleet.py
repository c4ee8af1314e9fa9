"""Many hosts: what KSM saves in total, and which hosts need attention."""

from __future__ import annotations

from grafana.host import CONFIDENCE, JOB, MODE, confidence, mode, profit
from grafana.host import UID as HOST_UID
from grafana.parts import BLUE, GREEN, YELLOW, Board, Column, Kind, Panel, cell, drill
from grafana.processes import TOP

UID = "ksmwatch-fleet"
HEALTH = "ksmwatch-health"

ALL = 'job="$job"'
FIRST = f"topk($top, ksmwatch_mappings{{{ALL}}})"
CLOSER = drill(HOST_UID, instance="${__field.labels.instance}")
CLOSER_ROW = drill(HOST_UID, instance="${__data.fields.Host}")


def _sum(
    title: str,
    description: str,
    unit: str,
    expression: str,
    more: str,
    *steps: tuple[float | None, str],
) -> Panel:
    return cell(
        title,
        description,
        unit,
        {title: expression},
        more,
        steps=steps,
    )


def _bad(title: str, description: str, expression: str) -> Panel:
    return cell(
        title,
        description,
        "short",
        {title: expression},
        HEALTH,
        steps=((None, GREEN), (1, YELLOW)),
    )


NOW: tuple[Panel, ...] = (
    _sum("Hosts up", "Scraped now.", "short", f"sum(up{{{ALL}}})", HEALTH, (None, BLUE)),
    _sum(
        "Memory saved",
        "Lower bound over all hosts, including zero pages.",
        "bytes",
        f"sum(ksmwatch_saved_bytes{{{ALL}}})",
        HOST_UID,
        (None, GREEN),
    ),
    _sum(
        "Error of the kernels' counts",
        "The errors of the kernels' numbers of mappings, as memory; absolute values, "
        "so errors of opposite sign do not cancel out.",
        "bytes",
        f"sum(abs(ksmwatch_kernel_lag_pages{{{ALL}}}) * ksmwatch_page_size_bytes{{{ALL}}})",
        HOST_UID,
        (None, GREEN),
        (2**24, YELLOW),
    ),
    _bad(
        "Hosts down",
        "Targets that could not be scraped.",
        f"count(up{{{ALL}}}) - sum(up{{{ALL}}})",
    ),
    _bad(
        "Hosts without exact counts",
        "Hosts whose sum is estimated or unknown now.",
        f'sum(1 - ksmwatch_confidence{{level="exact", {ALL}}})',
    ),
    _bad(
        "Hosts that poll",
        "Hosts where live accounting is impossible, or polling is configured.",
        f'sum(ksmwatch_mode{{mode="poll", {ALL}}})',
    ),
)


OVER_TIME: tuple[Panel, ...] = (
    Panel(
        Kind.GRAPH,
        "Memory saved and mapped",
        "Memory that merging saves over all hosts, what KSM mappings span, and what "
        "the kernels claim that they span.",
        "bytes",
        {
            "saved": f"sum(ksmwatch_saved_bytes{{{ALL}}})",
            "mapped": f"sum(ksmwatch_mapped_bytes{{{ALL}}})",
            "mapped, kernels' claim": f"sum(ksmwatch_kernel_mappings{{{ALL}}}"
            f" * ksmwatch_page_size_bytes{{{ALL}}})",
        },
        HOST_UID,
    ),
    Panel(
        Kind.GRAPH,
        "CPU of ksmd",
        "Cores over all hosts, and the share of one core on the median host and at "
        "the 99th percentile.",
        "short",
        {
            "all": f"sum(rate(ksmwatch_ksmd_cpu_seconds_total{{{ALL}}}[$__rate_interval]))",
            "median": "quantile(0.5, rate(ksmwatch_ksmd_cpu_seconds_total"
            f"{{{ALL}}}[$__rate_interval]))",
            "99 %": "quantile(0.99, rate(ksmwatch_ksmd_cpu_seconds_total"
            f"{{{ALL}}}[$__rate_interval]))",
        },
        HOST_UID,
    ),
    Panel(
        Kind.GRAPH,
        "Drift and losses over all hosts",
        "Pages by which counts called exact were wrong, and losses, in the last hour.",
        "short",
        {
            "drift (pages)": f"sum(increase(ksmwatch_drift_pages_total{{{ALL}}}[1h]))",
            "losses": f"sum(increase(ksmwatch_losses_total{{{ALL}}}[1h]))",
        },
        HEALTH,
    ),
    Panel(
        Kind.GRAPH,
        "Copies on write (pages/s)",
        "The hosts with the most writes to merged pages.",
        "short",
        {
            "{{instance}}": "topk($top, rate(ksmwatch_kernel_cow_breaks_total"
            f"{{{ALL}}}[$__rate_interval]))"
        },
        HOST_UID,
        link=CLOSER,
    ),
)


def _of_first(expression: str) -> str:
    """Another metric of the same hosts."""
    return f"{expression} and on (instance) {FIRST}"


HOSTS: tuple[Panel, ...] = (
    Panel(
        Kind.BARS,
        "Hosts with the largest savings",
        "Click on a host for details.",
        "bytes",
        {"{{instance}}": f"topk($top, ksmwatch_saved_bytes{{{ALL}}})"},
        HOST_UID,
        height=10,
        link=CLOSER,
    ),
    Panel(
        Kind.BARS,
        "Hosts with the largest kernel errors (pages)",
        "The error of pages_shared + pages_sharing, in either direction.",
        "short",
        {"{{instance}}": f"topk($top, abs(ksmwatch_kernel_lag_pages{{{ALL}}}))"},
        HOST_UID,
        height=10,
        steps=((None, YELLOW),),
        link=CLOSER,
    ),
    Panel(
        Kind.TABLE,
        "Hosts with the most mappings",
        "Click on a name for details. Profit is red if KSM costs more than it saves.",
        "short",
        {
            "mappings": FIRST,
            "lag": _of_first(f"ksmwatch_kernel_lag_pages{{{ALL}}}"),
            "profit": _of_first(profit(ALL)),
            "mode": _of_first(mode(ALL)),
            "confidence": _of_first(confidence(ALL)),
            "build": _of_first(f"ksmwatch_build_info{{{ALL}}}"),
        },
        HOST_UID,
        width=24,
        height=10,
        columns=(
            Column("instance", "Host", "string", link=CLOSER_ROW),
            Column("Value #A", "Mappings (pages)"),
            Column("Value #B", "Kernel's lag (pages)"),
            Column("Value #C", "Profit", "bytes"),
            Column("Value #D", "Counted by", "none", MODE),
            Column("Value #E", "Known", "none", CONFIDENCE),
            Column("version", "ksmwatch", "string"),
            Column("kernel", "Kernel", "string"),
        ),
    ),
)


BOARD = Board(
    UID,
    "KSM: fleet",
    "What KSM saves on all hosts, how wrong the kernels are, and which hosts need attention.",
    (JOB, TOP),
    {"Now": NOW, "Over time": OVER_TIME, "Hosts": HOSTS},
)
