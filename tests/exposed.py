"""What Prometheus scrapes from an invented host."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ksmwatch.export import catalogue
from ksmwatch.export.front.exposition import Exposition
from ksmwatch.export.samples import Series, samples
from ksmwatch.snapshot.model import Snapshot


def exposed(made: Snapshot, series: Series) -> str:
    return Exposition(catalogue.CATALOGUE, samples(made, series)).page().body.decode()


def families(made: Snapshot, series: Series) -> list[Metric]:
    """Its families, as the library parses them."""
    return list(text_string_to_metric_families(exposed(made, series)))
