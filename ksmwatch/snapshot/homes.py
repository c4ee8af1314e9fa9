"""The own node of memory of each process, against which its mappings are remote or not.

It is the node of the CPUs to which the process is bound, or else the one with most of its memory,
as of some minutes ago.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ksmwatch.counting.backend import Budget
from ksmwatch.counting.ledger import Count
from ksmwatch.differences import differences
from ksmwatch.kernel.memory_nodes import parse_list
from ksmwatch.snapshot.ksmd_numbers import CountKey

# The kernel walks the page tables for numa_maps.
_SECONDS = 0.005
_AGAIN_SECONDS = 300.0


def largest_node(numa_maps: str) -> int | None:
    """The node with most memory, by the text of /proc/PID/numa_maps; None without any."""
    memory = Counter[int]()
    for line in numa_maps.splitlines():
        words = line.split()
        sizes = (w.partition("=")[2] for w in words if w.startswith("kernelpagesize_kB="))
        size = int(next(sizes, 0))
        for word in words:
            name, _, pages = word.partition("=")
            if name[0] == "N" and name[1:].isdigit():
                memory[int(name[1:])] += int(pages) * size
    return max(memory, key=lambda node: (memory[node], -node)) if memory else None


class Homes:
    """The own nodes of processes. Only one thread may use it."""

    def __init__(
        self,
        nodes: Iterable[int],
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        clock: Callable[[], float] = time.monotonic,
        affinity: Callable[[int], set[int]] = os.sched_getaffinity,
    ) -> None:
        """`nodes`: by which mappings are counted."""
        self._proc = proc
        self._clock = clock
        self._affinity = affinity
        self._cpus = {node: _cpus(sys, node) for node in nodes}
        self._counts: Mapping[CountKey, Count] = {}
        # Those that have not been read yet.
        self._new: dict[CountKey, None] = {}
        # The node, and when it was read. Those that were read first come first.
        self._found: dict[CountKey, tuple[int | None, float]] = {}
        self._by_pid: dict[int, int | None] = {}

    def of(self, pid: int) -> int | None:
        """The own node of a process; None if it is not known."""
        return self._by_pid.get(pid)

    def update(self, counts: Mapping[CountKey, Count]) -> set[CountKey]:
        """Look at processes that are new, or were read long ago; returns those that changed.

        Counts that have not changed are the same object, also together.
        """
        if not self._cpus:
            return set()
        self._see(counts)
        changed, budget = set(), Budget(_SECONDS, self._clock)
        now = self._clock()
        while budget.left() and (key := self._next(now)) is not None:
            self._new.pop(key, None)
            before, _ = self._found.pop(key, (None, 0.0))
            home = self._read(key[1])
            self._found[key] = home, now
            if home != before:
                changed.add(key)
        if changed or len(self._by_pid) != len(self._found):
            self._by_pid = {key[1]: home for key, (home, _) in self._found.items()}
        return changed

    def _see(self, counts: Mapping[CountKey, Count]) -> None:
        """Find out who is new and who has gone."""
        others, _, gone = differences(self._counts, counts)
        self._counts = counts
        for key in gone:
            self._found.pop(key, None)
            self._new.pop(key, None)
        for key in others:
            if counts[key].mappings and key not in self._found:
                self._new[key] = None

    def _next(self, now: float) -> CountKey | None:
        """Who is looked at next: the new ones, then who was read long ago."""
        if self._new:
            return next(iter(self._new))
        for key, (_, at) in self._found.items():
            return key if now >= at + _AGAIN_SECONDS else None
        return None

    def _read(self, pid: int) -> int | None:
        try:
            bound = self._affinity(pid)
            inside = [node for node, cpus in self._cpus.items() if bound <= cpus]
            if inside:
                return inside[0]
            return largest_node((self._proc / str(pid) / "numa_maps").read_text())
        except OSError:
            return None


def _cpus(sys: Path, node: int) -> set[int]:
    try:
        return set(parse_list((sys / f"devices/system/node/node{node}/cpulist").read_text()))
    except OSError:
        return set()
