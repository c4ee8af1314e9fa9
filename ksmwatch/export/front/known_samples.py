"""What a front knows of the host, by name of the metric. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ksmwatch.export.metric_family import LabelledValue, Samples


class KnownSamples:
    """The samples of one moment. What is unknown has no sample, and is None here."""

    def __init__(self, samples: Samples | None = None) -> None:
        self._found: Mapping[str, list[LabelledValue]] = dict(samples or [])
        self._series: dict[str, dict[tuple[str, ...], float]] = {}

    @property
    def known(self) -> bool:
        """Whether there has been a snapshot."""
        return bool(self._found)

    def one(self, name: str, *labels: str) -> float | None:
        """The value of a series."""
        return self.all(name).get(labels)

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """Every series of a family, by the values of its labels."""
        if name not in self._series:
            self._series[name] = dict(self._found.get(name, ()))
        return self._series[name]

    def state(self, name: str) -> str | None:
        """The label whose value is 1, of a family with one series for each state."""
        return next((labels[0] for labels, value in self._found.get(name, ()) if value), None)
