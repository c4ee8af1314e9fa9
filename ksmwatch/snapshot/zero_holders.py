"""Processes that have KSM's zero pages but no KSM mapping: no event reports these.

The kernel counts zero pages in each process's own file. So ksmwatch looks through the processes in
turn, within a budget, as long as the host has zero pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

from ksmwatch.counting.backend import Budget
from ksmwatch.counting.ledger import Count
from ksmwatch.kernel import procfs

# Time in a snapshot, while some are missing and when all are known.
_MISSING_SECONDS = 0.02
_KNOWN_SECONDS = 0.001


class ZeroHolders:
    """Processes with zero pages only. Only one thread may use it."""

    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._clock = clock
        # Start times by pid, and the zero pages when they were read.
        self._found: dict[int, tuple[Count, int]] = {}
        self._queue: list[int] = []

    def others(self, counted: Collection[int], zeros: int, *, exact: bool) -> list[Count]:
        """Those not yet counted. `zeros`: zero pages on the host, by the kernel.

        `exact`: whether a process without a count certainly has no mapping.
        """
        if zeros <= 0:
            self._found.clear()
            return []
        missing = sum(amount for _, amount in self._found.values()) < zeros
        budget = Budget(_MISSING_SECONDS if missing else _KNOWN_SECONDS, self._clock)
        listed = False
        while budget.left():
            if not self._queue:
                if listed:
                    break
                self._queue, listed = procfs.pids(self._proc), True
                self._found = {p: self._found[p] for p in self._queue if p in self._found}
            self._look(self._queue.pop())
        found = [count for pid, (count, _) in self._found.items() if pid not in counted]
        return found if exact else [count._replace(exact=False) for count in found]

    def _look(self, pid: int) -> None:
        before = self._found.pop(pid, None)
        directory = self._proc / str(pid)
        try:
            zeros = procfs.read_ksm_stat(directory).zero_pages
            if not zeros or zeros < 0:
                return
            ticks = procfs.read_start_ticks(directory)
        except (OSError, ValueError, IndexError):
            return
        count = Count(0, 0, pid, ticks, mappings=0, exact=True, moves=())
        if before is not None and before[0] == count:
            # The same object shows that nothing has changed.
            count = before[0]
        self._found[pid] = count, zeros
