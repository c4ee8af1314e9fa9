"""What Prometheus reads of a made-up host."""

from __future__ import annotations

from ksmwatch.export import catalogue
from ksmwatch.export.catalogue import Series
from ksmwatch.export.front.exposition import Exposition
from ksmwatch.snapshot.document import Snapshot


def exposition(made: Snapshot, series: Series) -> Exposition:
    """Its families."""
    return Exposition(catalogue.CATALOGUE, catalogue.samples(made, series))


def exposed(made: Snapshot, series: Series) -> str:
    """Its text."""
    return exposition(made, series).page().body.decode()
