"""docs/metrics.md, from the catalogue of metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ksmwatch.export.catalogue import CATALOGUE
from ksmwatch.export.metric_family import Spec
from ksmwatch.export.owner_samples import (
    OWNER_GAUGES,
    OWNER_NODE_SERIES,
    OWNER_SERIES,
    owner_series,
)
from ksmwatch.export.samples import Series
from ksmwatch.snapshot.losses import LOSSES


def _bounds() -> str:
    return (
        f"The `owners.top` largest owners have at most {OWNER_SERIES} series each, and all others "
        f"together have {OWNER_GAUGES} series of kind `other`. With the default of "
        f"{Series().owners} that is at most {owner_series(Series().owners)} series. On a host with "
        f"several nodes of memory, each has {OWNER_NODE_SERIES} more, and one for each node. An "
        "owner's series end with its last process. An owner that drops out of the largest keeps "
        "its counters and shows them again when it returns.\n\n"
        "Series by process (`ksmwatch_process_*`) exist only with `metrics.processes = true`. "
        "Their number has no limit."
    )


def _table(specs: Iterable[Spec]) -> Iterator[str]:
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for spec in specs:
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        yield f"| `{spec.exposed}` | {spec.kind} | {labels} | {spec.help} |"


def document(of_processes: Iterable[Spec]) -> str:
    """docs/metrics.md, from the catalogue and the metrics of ksmwatch's own processes."""
    lines = [
        "# Metrics",
        "",
        "`make docs` generates this page from the catalogue in `ksmwatch/export/catalogue.py`, and",
        "a test compares the two. A series is absent, and never 0, if the kernel lacks its source.",
        "",
        *_table(CATALOGUE),
        "",
        _bounds(),
        "",
        "Kinds of `ksmwatch_losses_total`: " + ", ".join(f"`{k}`" for k in LOSSES) + ".",
        "",
        "## ksmwatch's own processes",
        "",
        "These are served over HTTP only. In node_exporter's textfile, `process_*` would collide",
        "with node_exporter's own series.",
        "",
        *_table(of_processes),
    ]
    return "\n".join(lines) + "\n"
