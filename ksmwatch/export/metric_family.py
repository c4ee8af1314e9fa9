"""The description of a metric family. A front needs to know no more about metrics."""

from __future__ import annotations

from itertools import compress, count
from operator import is_not
from typing import NamedTuple

# The last label of a histogram is a bucket's end. In its place: the other two series, and the
# bucket of everything.
COUNT, SUM, INFINITE = "_count", "_sum", "+Inf"
# Label values and the value.
LabelledValue = tuple[tuple[str, ...], float]
# Samples by family name, in the order of a scrape.
Samples = list[tuple[str, list[LabelledValue]]]


def changed_values(
    before: list[LabelledValue], now: list[LabelledValue]
) -> dict[int, float] | None:
    """The values that are others than before, by their places; None if labels are others.

    Samples that have not changed are the same objects, or equal.
    """
    if len(before) != len(now):
        return None
    changed = {}
    # Mostly there are few.
    for place in compress(count(), map(is_not, before, now)):
        (labels, value), (labels_before, value_before) = now[place], before[place]
        if labels != labels_before:
            return None
        if value != value_before:
            changed[place] = value
    return changed


class Spec(NamedTuple):
    """One metric family. A counter's `name` has no `_total`, because the library adds it.

    Of a histogram, samples have the end of a bucket behind the labels, or COUNT or SUM. They are in
    the order in which the library writes them: buckets, count, sum.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name that a scrape shows."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series in a scrape."""
        if self.kind != "histogram":
            return (self.exposed,)
        return tuple(f"{self.name}{part}" for part in ("_bucket", COUNT, SUM))
