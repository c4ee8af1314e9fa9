"""Judgement on counts: what KSM's run state says about mappings that are still there. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

# /sys/kernel/mm/ksm/run
STOPPED, SCANNING, UNMERGED = 0, 1, 2


class Residue(StrEnum):
    """What mappings are, given KSM's state.

    MERGED: KSM is on. KEPT: stopped by `run=0`, which keeps pages merged: no fault. After
    `run=2`: UNMERGING while that goes on; UNVERIFIED until the process has been read since;
    then LEFT: the kernel itself left KSM PTEs behind. A count that the read proves wrong is
    drift, and healed by it, so that it never gets as far as LEFT.
    """

    MERGED = "merged"
    KEPT = "kept"
    UNMERGING = "unmerging"
    UNVERIFIED = "unverified"
    LEFT = "left"


@dataclass(frozen=True)
class RunState:
    """`run` as last seen, and for how long at least it has been so, in seconds."""

    run: int | None
    age: float


class RunWatch:
    """Remembers since when `run` has its value; as exact as it is looked at often."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._run: int | None = None
        self._since = clock()

    def see(self, run: int | None) -> None:
        """`run` was just read; None: it could not be."""
        if run != self._run:
            self._run, self._since = run, self._clock()

    @property
    def state(self) -> RunState:
        """What was seen last."""
        return RunState(self._run, self._clock() - self._since)


def residue(state: RunState, pages_shared: int | None, read_age: float | None) -> Residue:
    """What the mappings of a process are.

    `pages_shared` is the kernel's count of stable nodes, which `run=2` takes down to 0;
    `read_age` how many seconds ago the process was last read exactly, None for never.
    """
    if state.run == STOPPED:
        return Residue.KEPT
    if state.run != UNMERGED:
        return Residue.MERGED
    if pages_shared != 0:
        return Residue.UNMERGING
    if read_age is None or read_age > state.age:
        return Residue.UNVERIFIED
    return Residue.LEFT
