"""Which processes were moved to another cgroup, as a program tells: `on_cgroup` in bpf/processes.c.

The program keeps the last ones in a ring, where each has a number. The daemon reads it without a
system call; if nothing has moved, it reads one word.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

# CGROUP_MOVES in bpf/records.h
KEPT = 256
# In a word, above the process id.
_NUMBER_SHIFT = 32
_HALF = (1 << 32) - 1


class SeenMoves(NamedTuple):
    """Processes that were moved since the last time. `whole`: whether these are all."""

    pids: tuple[int, ...]
    whole: bool


class Words(Protocol):
    """Memory that the programs write, by words of eight bytes."""

    def __getitem__(self, place: int) -> int: ...


class CgroupMoves:
    """The reader of the ring. It begins behind the last move so far."""

    def __init__(self, words: Words) -> None:
        """`words`: struct cgroup_moves."""
        self._words = words
        self._next = words[0] + 1

    def take(self) -> SeenMoves:
        """What was moved since the last call; not whole if more than `KEPT` were."""
        pids: list[int] = []
        while True:
            word = self._words[1 + self._next % KEPT]
            ahead = ((word >> _NUMBER_SHIFT) - self._next) & _HALF
            if ahead > _HALF // 2:
                # It has an older number: there is no such move yet.
                return SeenMoves(tuple(pids), whole=True)
            if ahead:
                # A newer move took its place.
                self._next = self._words[0] + 1
                return SeenMoves((), whole=False)
            pids.append(word & _HALF)
            self._next += 1
