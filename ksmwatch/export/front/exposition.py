"""Renders samples for Prometheus. Only fronts import this, because the library takes 5 MB."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from ksmwatch.export.front.page import Page
from ksmwatch.export.metric_family import LabelledValue, Samples, Spec


class Exposition(Collector):
    """Samples as families of a catalogue, and as text. Each text is rendered once."""

    def __init__(self, specs: Iterable[Spec], samples: Samples) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._samples = samples
        self._pages: dict[tuple[str, bool], Page] = {}

    def collect(self) -> Iterator[Metric]:
        """Every family that has a sample. Raises KeyError for a family that is in no catalogue."""
        for name, samples in self._samples:
            if samples:
                yield _family(self._specs[name], samples)

    def page(self, accept: str = "", accept_encoding: str = "") -> Page:
        """The page for a client that sent these headers."""
        encode, kind = choose_encoder(accept)
        compressed = gzip_accepted(accept_encoding)
        key = (kind, compressed)
        if key not in self._pages:
            text = encode(self)
            # Level 1: level 6 would halve the size, but take five times the CPU time.
            body = gzip.compress(text, 1) if compressed else text
            headers = {"Content-Type": kind, "Vary": "Accept, Accept-Encoding"}
            self._pages[key] = Page(body, headers | _ENCODED if compressed else headers)
        return self._pages[key]


_ENCODED = {"Content-Encoding": "gzip"}


def _family(spec: Spec, samples: list[LabelledValue]) -> Metric:
    make = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
    family = make(spec.name, spec.help, labels=spec.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
