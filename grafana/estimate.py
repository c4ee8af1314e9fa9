"""What merging would save: the metrics that ksmwatch-textfile writes for node_exporter."""

from __future__ import annotations

from dataclasses import replace

from grafana.parts import BLUE, GREEN, YELLOW, Kind, Panel, cell

HEALTH = "ksmwatch-health"
OWNERS = "ksmwatch-owners"

# What is shown where nothing runs `ksmwatch estimate`.
ABSENT = "ksmwatch-estimate.timer is off"


def _machine(metric: str) -> str:
    """The same with the label `machine`: the instance without its port."""
    return f'label_replace({metric}, "machine", "$1", "instance", "(.*?)(:[0-9]+)?")'


def by_timer(metric: str, here: str) -> str:
    """A metric on the machine of a daemon with these labels: node_exporter has another port."""
    return f"{_machine(metric)} and on (machine) {_machine(f'ksmwatch_build_info{{{here}}}')}"


# With metrics instead of queries.
_PANELS: tuple[Panel, ...] = (
    Panel(
        Kind.GRAPH,
        "What merging would save",
        "Saved when the estimate was made; if everything were merged that is offered to KSM, or "
        "all that can be offered; with the bounds. Needs ksmwatch-estimate.timer and "
        "node_exporter.",
        "bytes",
        {
            "saved then": "ksmwatch_estimate_saved_bytes",
            "offered: {{bound}}": "ksmwatch_estimate_would_save_bytes",
            "all: {{bound}}": "ksmwatch_estimate_would_save_all_bytes",
        },
        OWNERS,
    ),
    cell(
        "Only across tenants",
        "What would be saved only by sharing across tenants, of all that can be offered: the "
        "price of keeping tenants apart.",
        "bytes",
        {"across": "ksmwatch_estimate_across_tenants_bytes"},
        OWNERS,
        height=8,
        steps=((None, BLUE),),
    ),
    cell(
        "Pages of zeros",
        "Memory that contains only zeros. use_zero_pages frees all of it.",
        "bytes",
        {"zeros": "ksmwatch_estimate_zero_bytes"},
        HEALTH,
        height=8,
        steps=((None, BLUE),),
    ),
    cell(
        "Age of the estimate",
        "Yellow after two days: the timer has not run, or its command has failed.",
        "s",
        {"age": "time() - ksmwatch_estimate_timestamp_seconds"},
        HEALTH,
        height=8,
        steps=((None, GREEN), (172_800, YELLOW)),
    ),
)


def panels(here: str) -> tuple[Panel, ...]:
    """Of one host, whose daemon has these labels."""
    return tuple(
        replace(
            panel,
            queries={legend: by_timer(text, here) for legend, text in panel.queries.items()},
            absent=ABSENT,
        )
        for panel in _PANELS
    )
