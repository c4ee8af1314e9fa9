"""docs/metrics.md, from the catalogue of metrics. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ksmwatch.export.catalogue import CATALOGUE
from ksmwatch.export.metric_family import Spec
from ksmwatch.export.samples import OWNER_GAUGES, OWNER_SERIES, Series, owner_series
from ksmwatch.snapshot.losses import LOSSES


def _bounds() -> str:
    return (
        f"Series by owner are for the `owners.top` largest, at most {OWNER_SERIES} each, and "
        f"{OWNER_GAUGES} of kind `other` for all others: with the default of {Series.owners} at "
        f"most {owner_series(Series.owners)}. They go with the owner's last process. An owner that "
        "falls out of the largest keeps its counters, and shows them when it comes back.\n\n"
        "Series by process (`ksmwatch_process_*`) have no bound, and are there only with "
        "`metrics.processes = true`."
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
        "Made from the catalogue in `ksmwatch/export/catalogue.py` by `make docs`; a test",
        "compares.",
        "A series whose source the kernel does not have is absent, never 0.",
        "",
        *_table(CATALOGUE),
        "",
        _bounds(),
        "",
        "Kinds of `ksmwatch_losses_total`: " + ", ".join(f"`{k}`" for k in LOSSES) + ".",
        "",
        "## ksmwatch's own processes",
        "",
        "Over HTTP only: in node_exporter's textfile `process_*` would collide with its own.",
        "",
        *_table(of_processes),
    ]
    return "\n".join(lines) + "\n"
