"""What Prometheus reads of a made-up host."""

from __future__ import annotations

from ksmwatch import metrics
from ksmwatch.front.exposition import Exposition
from ksmwatch.metrics import Series
from ksmwatch.snapshot import Snapshot


def exposition(made: Snapshot, series: Series) -> Exposition:
    """Its families."""
    return Exposition(metrics.CATALOGUE, metrics.samples(made, series))


def exposed(made: Snapshot, series: Series) -> str:
    """Its text."""
    return exposition(made, series).page().body.decode()
