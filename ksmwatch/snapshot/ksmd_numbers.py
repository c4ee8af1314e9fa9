"""ksmd's own numbers for each process, and how old they are.

Each process has its own file, so a snapshot does not read all of them. ksmd changes its number
when it visits a page that came or went. So those are read first whose count has moved since they
were read or, if ksmd has scanned since, whose number differed from ours; then all others in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ksmwatch.counting.backend import Budget
from ksmwatch.counting.ledger import Count
from ksmwatch.kernel import procfs

# Time in a snapshot to read numbers that have probably changed, and others in turn.
_LIKELY_SECONDS = 0.01
_OTHERS_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Book:
    """What ksmd knows about a process, as procfs.KsmStat. `at`: when it was read, monotonic."""

    merging_pages: int | None
    zero_pages: int | None
    at: float


@dataclass(slots=True)
class _Entry:
    # The count at that moment.
    count: Count
    book: Book
    # The number of pages that ksmd had scanned by then.
    scanned: int | None


_Key = tuple[int, int, int]


def _key(count: Count) -> _Key:
    """An mm is named after one process at a time. Polling knows no mm."""
    return count.mm, count.pid, count.start_ticks


class Books:
    """The books of all processes with a count. Only one thread may use it."""

    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._clock = clock
        # In the order in which they were read.
        self._entries: dict[_Key, _Entry] = {}
        self._scanned: int | None = None

    def update(self, counts: Iterable[Count], scanned: int | None) -> None:
        """Read the new ones, and as many others as time allows.

        `scanned`: pages_scanned, which shows whether ksmd has worked; None if the kernel does not
        count them.
        """
        self._scanned = scanned
        wanted = {_key(count): count for count in counts}
        for gone in self._entries.keys() - wanted.keys():
            del self._entries[gone]
        read = wanted.keys() - self._entries.keys()
        for key in read:
            self._read(key, wanted[key])
        likely = [key for key in self._likely(wanted) if key not in read]
        read |= self._read_some(wanted, likely, _LIKELY_SECONDS)
        self._read_some(wanted, [k for k in self._entries if k not in read], _OTHERS_SECONDS)

    def _likely(self, wanted: dict[_Key, Count]) -> list[_Key]:
        """Processes whose number has probably changed, the oldest first."""
        return [
            key
            for key, entry in self._entries.items()
            if wanted[key] is not entry.count or self._differs(entry)
        ]

    def _differs(self, entry: _Entry) -> bool:
        """Whether ksmd's number differed from ours and ksmd has worked since."""
        idle = self._scanned is not None and self._scanned == entry.scanned
        return not idle and entry.count.mappings != entry.book.merging_pages

    def _read_some(self, wanted: dict[_Key, Count], keys: list[_Key], seconds: float) -> set[_Key]:
        budget = Budget(seconds, self._clock)
        read = set()
        for key in keys:
            if not budget.left():
                break
            self._read(key, wanted[key])
            read.add(key)
        return read

    def _read(self, key: _Key, count: Count) -> None:
        now = self._clock()
        try:
            stat = procfs.read_ksm_stat(self._proc / str(count.pid))
            book = Book(stat.merging_pages, stat.zero_pages, now)
        except (OSError, ValueError):
            book = Book(None, None, now)
        self._entries.pop(key, None)
        self._entries[key] = _Entry(count, book, self._scanned)

    def of(self, count: Count) -> Book:
        """What ksmd knows about a process that was among the last counts."""
        return self._entries[_key(count)].book
