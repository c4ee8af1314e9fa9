"""The counts of past samples, from which sparklines are drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from ksmwatch.top.rows import group_key
from ksmwatch.top.sample import Sample, SampledOwnerKey
from ksmwatch.top.view import Grouping, Row, RowKey

# Of each owner: time and mappings, None where they are unknown; the oldest first.
Traces = Mapping[SampledOwnerKey, Sequence[tuple[float, int | None]]]


class SparklinePoints:
    """Mappings in the last samples: of every process, and of the groups of one grouping."""

    def __init__(self, length: int = 120) -> None:
        self._length = length
        self._of: dict[RowKey, deque[tuple[float, int | None]]] = {}
        # Seconds between two values of an owner; 0 if every sample has one.
        self._step = 0.0

    def begin(self, traces: Traces, step: float) -> None:
        """Continue what was recorded before, with one value per interval of this many seconds."""
        self._step = step
        self._of = {
            (Grouping.OWNER, *key): deque(points, maxlen=self._length)
            for key, points in traces.items()
        }

    def add(self, sample: Sample, grouping: Grouping) -> None:
        """Remember a sample, and forget what it does not list."""
        now: dict[RowKey, int] = {process.key: process.mappings for process in sample.processes}
        if sample.owners:
            now |= {(Grouping.OWNER, *h.owner.key): h.mappings for h in sample.owners}
        if grouping is not Grouping.PROCESS and not (grouping is Grouping.OWNER and sample.owners):
            for process in sample.processes:
                key = group_key(process, grouping)
                now[key] = now.get(key, 0) + process.mappings
        before = self._of
        self._of = {}
        for key, mappings in now.items():
            past = self._of[key] = before.get(key) or deque(maxlen=self._length)
            if past and key[0] == Grouping.OWNER and self._same_step(past[-1][0], sample.time):
                past.pop()
            past.append((sample.time, mappings))

    def _same_step(self, before: float, now: float) -> bool:
        return self._step > 0 and before // self._step == now // self._step

    def of(self, row: Row) -> tuple[int | None, ...]:
        """Mappings of a row, oldest first."""
        key = row.process.key if row.process else row.key
        return tuple(mappings for _, mappings in self._of.get(key, ()))

    def seconds_of(self, row: Row) -> float:
        """Seconds between two of these; 0 if that is the time between two samples."""
        return self._step if row.key[0] == Grouping.OWNER and row.process is None else 0.0
