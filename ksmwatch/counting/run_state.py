"""Judgement on counts: what KSM's run state says about mappings that are still there. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
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
    """`run` as last seen, since when at least (on the monotonic clock), and its age in seconds."""

    run: int | None
    age: float
    since: float


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
        return RunState(self._run, self._clock() - self._since, self._since)


def residue(state: RunState, pages_shared: int | None, read_at: float | None) -> Residue:
    """What the mappings of a process are.

    `pages_shared` is the kernel's count of stable nodes, which `run=2` takes down to 0;
    `read_at` when the process was last read exactly, on the monotonic clock, None for never.
    """
    if state.run == STOPPED:
        return Residue.KEPT
    if state.run != UNMERGED:
        return Residue.MERGED
    if pages_shared != 0:
        return Residue.UNMERGING
    if read_at is None or read_at < state.since:
        return Residue.UNVERIFIED
    return Residue.LEFT


@dataclass(frozen=True)
class Events:
    """The kernel's event counters of /proc/vmstat and our totals, of one moment or since one.

    `cow_attempts`: cow_ksm, which grows before a KSM page is copied on write. `copied`: the
    departures that were such copies. `unattributed`: those that may have been. `swapin_copies`:
    ksm_swpin_copy, pages from the swap cache that had to be copied and so are no KSM pages any
    more. `swapins`: those that still were and were mapped as such, which the kernel does not count.
    """

    cow_attempts: int
    copied: int
    unattributed: int
    swapin_copies: int
    swapins: int

    @property
    def unanswered_attempts(self) -> int:
        """COW breaks that no departure answers: given up by the kernel, or not seen by a hook."""
        return max(0, self.cow_attempts - self.copied - self.unattributed)

    def since(self, begin: Events) -> Events:
        """What came after an earlier moment."""
        return Events(
            self.cow_attempts - begin.cow_attempts,
            self.copied - begin.copied,
            self.unattributed - begin.unattributed,
            self.swapin_copies - begin.swapin_copies,
            self.swapins - begin.swapins,
        )


def events(vmstat: Mapping[str, int], totals: Mapping[str, int]) -> Events | None:
    """The events so far; None where one side does not count them (vmstat: before 5.18)."""
    try:
        return Events(
            vmstat["cow_ksm"],
            totals["copied"],
            totals["unattributed"],
            vmstat["ksm_swpin_copy"],
            totals["swapin_ksm"],
        )
    except KeyError:
        return None
