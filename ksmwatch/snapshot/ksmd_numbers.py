"""ksmd's own numbers for each process, and how old they are.

Each process has its own file, so a snapshot does not read all of them. ksmd changes its number
when it visits a page that came or went. So those are read first whose count has moved since they
were read or, if ksmd has worked since, whose number differed from ours; then all others in turn.

If none of the numbers below /sys/kernel/mm/ksm has changed since all were read, ksmd has completed
no batch of pages and no process has unmerged any or lost a zero page. Then nothing is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter, is_not
from pathlib import Path
from typing import NamedTuple

from ksmwatch.counting.backend import Budget
from ksmwatch.counting.ledger import Count
from ksmwatch.differences import Edition, differences
from ksmwatch.kernel import procfs

# Time in a snapshot to read numbers that have probably changed, and others in turn.
_LIKELY_SECONDS = 0.01
_OTHERS_SECONDS = 0.002


class Book(NamedTuple):
    """What ksmd knows about a process, as procfs.KsmStat. `at`: when it was read, monotonic."""

    merging_pages: int | None
    zero_pages: int | None
    at: float


@dataclass(slots=True)
class _Entry:
    """What was read of one process, and when that was."""

    # The count at that moment.
    count: Count
    book: Book
    # The host's numbers before that; None if they do not show whether ksmd works.
    work: Work | None


CountKey = tuple[int, int, int]
# The numbers below /sys/kernel/mm/ksm.
Work = Mapping[str, int]
# ksmd adds to the first after a batch of pages, and to the other instead if that batch ends a scan
# of everything.
_PROGRESS = ("pages_scanned", "full_scans")


# An mm is named after one process at a time. Polling knows no mm.
key_of: Callable[[Count], CountKey] = attrgetter("mm", "pid", "start_ticks")


def by_key(
    counts: Sequence[Count], before: Sequence[Count], keyed: Edition[CountKey, Count]
) -> Edition[CountKey, Count]:
    """Counts by their keys. `keyed`: those of `before`."""
    if len(counts) == len(before) == len(keyed):
        # Loops in C, because there are as many as processes.
        others = list(map(is_not, before, counts))
        moved = list(compress(counts, others))
        keys = list(compress(keyed, others))
        if keys == list(map(key_of, moved)):
            return keyed.revised(dict(zip(keys, moved, strict=True)))
    return Edition(zip(map(key_of, counts), counts, strict=True))


class Books:
    """The books of all processes with a count. Only one thread may use it."""

    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._clock = clock
        # In the order in which they were read.
        self._entries: dict[CountKey, _Entry] = {}
        self._wanted: Mapping[CountKey, Count] = {}
        self._work: Work | None = None
        # Whether every entry was read since the host's numbers last changed.
        self.stood_still = False

    def update(self, counts: Mapping[CountKey, Count], ksm: Work | None) -> set[CountKey]:
        """Read the new ones, and as many others as time allows; returns those that were read.

        `ksm`: the host's numbers. Counts that have not changed are the same object, also together.
        """
        if ksm is None or any(name not in ksm for name in _PROGRESS):
            self._work = None
        elif ksm != self._work:
            self._work = ksm
        _, read, gone = differences(self._wanted, counts)
        self._wanted = counts
        for key in gone:
            del self._entries[key]
        for key in read:
            self._read(key)
        read = set(read)
        if not self._all_hold():
            read |= self._read_some([k for k in self._likely() if k not in read], _LIKELY_SECONDS)
            others = (k for k in list(self._entries) if k not in read and self._may_differ(k))
            read |= self._read_some(others, _OTHERS_SECONDS)
        self.stood_still = self._all_hold()
        return read

    @property
    def oldest(self) -> float | None:
        """When the oldest book was read."""
        return next((entry.book.at for entry in self._entries.values()), None)

    def _all_hold(self) -> bool:
        """Whether no number can have changed since it was read."""
        # If the one that was read first holds, so do all others.
        first = next(iter(self._entries), None)
        return self._work is not None and (first is None or not self._may_differ(first))

    def _may_differ(self, key: CountKey) -> bool:
        """Whether the process's number may have changed since it was read."""
        return self._work is None or self._entries[key].work is not self._work

    def _likely(self) -> list[CountKey]:
        """Processes whose number has probably changed, the oldest first."""
        return [
            key
            for key, entry in self._entries.items()
            if self._may_differ(key)
            and (
                self._wanted[key] is not entry.count
                or entry.count.mappings != entry.book.merging_pages
            )
        ]

    def _read_some(self, keys: Iterable[CountKey], seconds: float) -> set[CountKey]:
        budget = Budget(seconds, self._clock)
        read = set()
        for key in keys:
            if not budget.left():
                break
            self._read(key)
            read.add(key)
        return read

    def _read(self, key: CountKey) -> None:
        count = self._wanted[key]
        now = self._clock()
        try:
            stat = procfs.read_ksm_stat(self._proc / str(count.pid))
            book = Book(stat.merging_pages, stat.zero_pages, now)
        except (OSError, ValueError):
            book = Book(None, None, now)
        self._entries.pop(key, None)
        self._entries[key] = _Entry(count, book, self._work)

    def of(self, key: CountKey) -> Book:
        """What ksmd knows about a process that was among the last counts."""
        return self._entries[key].book
