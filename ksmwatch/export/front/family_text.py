"""The text of one metric family. What has not changed is not rendered again.

prometheus_client renders every new line. A line stays as it is until its value changes, and then
only the value is rendered again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ksmwatch.export.metric_family import COUNT, SUM, LabelledValue, Spec, changed_values

_number = cast("Callable[[float], str]", floatToGoString)
# One of the library's formats.
Encoder = Callable[[Collector], bytes]


class _Nothing(Collector):
    def collect(self) -> Iterator[Metric]:
        """No family."""
        return iter(())


def end_of_page(encode: Encoder) -> bytes:
    """What the library writes after the last family."""
    return encode(_Nothing())


class _Family(Collector):
    """Samples of a family, as the library wants them."""

    def __init__(self, spec: Spec, samples: Sequence[LabelledValue]) -> None:
        self._spec = spec
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        spec = self._spec
        if spec.kind == "histogram":
            yield self._histogram()
            return
        make = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
        family = make(spec.name, spec.help, labels=spec.labels)
        for labels, value in self._samples:
            family.add_metric(labels, value)
        yield family

    def _histogram(self) -> Metric:
        spec = self._spec
        family = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        by_labels: dict[tuple[str, ...], dict[str, float]] = {}
        for (*names, end), value in self._samples:
            by_labels.setdefault(tuple(names), {})[end] = value
        for labels, values in by_labels.items():
            # The library makes the count from the last bucket.
            sums = values.pop(SUM)
            values.pop(COUNT)
            family.add_metric(labels, list(values.items()), sums)
        return family


def rendered(spec: Spec, samples: Sequence[LabelledValue], encode: Encoder) -> str:
    """What the library makes of a family, without the end of the page."""
    return encode(_Family(spec, samples)).removesuffix(end_of_page(encode)).decode()


class FamilyText:
    """The current text of a family."""

    def __init__(self, spec: Spec, encode: Encoder) -> None:
        self._spec = spec
        self._encode = encode
        # Everything before the first sample.
        self._head = rendered(spec, (), encode)
        # Of each sample: the line up to its value, and the line.
        self._beginnings: list[str] = []
        self._lines: list[str] = []
        self.samples: list[LabelledValue] = []
        self.text = b""

    def update(self, samples: list[LabelledValue]) -> None:
        """Take the samples. Those that have not changed are perhaps the same objects."""
        before, self.samples = self.samples, samples
        changed = changed_values(before, samples)
        if changed is None:
            self._beginnings = self._begin(before, samples)
            self._lines = [""] * len(samples)
            changed = {place: value for place, (_, value) in enumerate(samples)}
        if changed:
            for place, value in changed.items():
                self._lines[place] = f"{self._beginnings[place]} {_number(value)}\n"
            self.text = (self._head + "".join(self._lines)).encode()

    def _begin(self, before: list[LabelledValue], samples: list[LabelledValue]) -> list[str]:
        """The beginnings of the lines. Those that are known are not rendered again."""
        known = {labels: line for (labels, _), line in zip(before, self._beginnings, strict=True)}
        new = [sample for sample in samples if sample[0] not in known]
        if new:
            # A line feed in a label is escaped, so each sample is one line.
            text = rendered(self._spec, new, self._encode).removeprefix(self._head)
            lines = text.split("\n")[:-1]
            for (labels, _), line in zip(new, lines, strict=True):
                known[labels] = line[: line.rindex(" ")]
        return [known[labels] for labels, _ in samples]
