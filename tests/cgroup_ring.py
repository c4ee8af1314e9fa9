"""The ring of moves to other cgroups, written as a program does."""

from __future__ import annotations

from ksmwatch.probes.cgroup_moves import KEPT


class Ring(list[int]):
    """struct cgroup_moves."""

    def __init__(self, last: int = 0) -> None:
        super().__init__([last, *[0] * KEPT])
        for number in range(max(1, last - KEPT + 1), last + 1):
            self._put(number, 1)

    def _put(self, number: int, pid: int) -> None:
        # The program shifts, and loses what no longer fits into 64 bits.
        self[1 + number % KEPT] = (number << 32) % (1 << 64) | pid

    def write(self, pid: int) -> None:
        """The program stores the process, but not yet the number."""
        self._put(self[0] + 1, pid)

    def move(self, *pids: int) -> None:
        """Processes are moved."""
        for pid in pids:
            self.write(pid)
            self[0] += 1
