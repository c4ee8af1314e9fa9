"""What Prometheus scrapes from an invented host."""

from __future__ import annotations

from ksmwatch.export import catalogue
from ksmwatch.export.front.exposition import Exposition
from ksmwatch.export.samples import Series, samples
from ksmwatch.snapshot.model import Snapshot


def exposition(made: Snapshot, series: Series) -> Exposition:
    """Its families."""
    return Exposition(catalogue.CATALOGUE, samples(made, series))


def exposed(made: Snapshot, series: Series) -> str:
    """Its text."""
    return exposition(made, series).page().body.decode()
