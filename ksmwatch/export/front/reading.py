"""What a front knows of the host, by name of the metric. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ksmwatch.export.metric_family import LabelledValue, Samples

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DURATIONS = ((86400, "day"), (3600, "hour"), (60, "minute"))


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


def size(amount: float) -> str:
    """Bytes, in the unit in which the number is short."""
    sign, rest, unit = "-" if amount < 0 else "", abs(amount), 0
    while rest >= 1024 and unit < len(_UNITS) - 1:
        rest, unit = rest / 1024, unit + 1
    digits = 0 if unit == 0 or rest >= 100 else 1
    # A number is never apart from its unit.
    return f"{sign}{rest:,.{digits}f}\N{NO-BREAK SPACE}{_UNITS[unit]}"


def duration(seconds: float) -> str:
    """As one says it: 40 seconds, 5 minutes, 3 hours, 2 days."""
    length, name = next((each for each in _DURATIONS if seconds >= each[0]), (1, "second"))
    number = int(seconds // length)
    return f"{number} {name}{'' if number == 1 else 's'}"
