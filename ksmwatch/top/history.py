"""The counts of past samples, for sparklines."""

from __future__ import annotations

from collections import deque

from ksmwatch.top.rows import group_key
from ksmwatch.top.sample import Sample
from ksmwatch.top.view import Grouping, Row, RowKey

# -- History ---------------------------------------------------------------------------------


class History:
    """Mappings in the last samples: of every process, and of the groups of one grouping."""

    def __init__(self, length: int = 120) -> None:
        self._length = length
        self._of: dict[RowKey, deque[int]] = {}

    def add(self, sample: Sample, grouping: Grouping) -> None:
        """Remember a sample, and forget what it does not list."""
        now: dict[RowKey, int] = {process.key: process.mappings for process in sample.processes}
        if grouping is Grouping.OWNER and sample.owners:
            now |= {(grouping, *h.owner.key): h.mappings for h in sample.owners}
        elif grouping is not Grouping.PROCESS:
            for process in sample.processes:
                key = group_key(process, grouping)
                now[key] = now.get(key, 0) + process.mappings
        length, before = self._length, self._of
        self._of = {}
        for key, mappings in now.items():
            past = self._of[key] = before.get(key) or deque(maxlen=length)
            past.append(mappings)

    def of(self, row: Row) -> tuple[int, ...]:
        """Mappings of a row, oldest first."""
        key = row.process.key if row.process else row.key
        return tuple(self._of.get(key, ()))
