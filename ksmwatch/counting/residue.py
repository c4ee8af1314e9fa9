"""What the remaining mappings are, given KSM's run state. Pure."""

from __future__ import annotations

from enum import StrEnum

from ksmwatch.counting.run_state import STOPPED, UNMERGED, RunState


class Residue(StrEnum):
    """What mappings are, given KSM's state.

    MERGED: KSM is on. KEPT: stopped by `run=0`, which keeps pages merged; not a fault. After
    `run=2`: UNMERGING while that goes on; UNVERIFIED until the process has been read since; then
    LEFT: the kernel itself left KSM PTEs behind. A count that the read proves wrong is drift, and
    the read corrects it, so it never becomes LEFT.
    """

    MERGED = "merged"
    KEPT = "kept"
    UNMERGING = "unmerging"
    UNVERIFIED = "unverified"
    LEFT = "left"


# Before Python 3.12, looking up a member takes as long as the rest of the function.
_MERGED, _KEPT = Residue.MERGED, Residue.KEPT


def residue(state: RunState, pages_shared: int | None, read_at: float | None) -> Residue:
    """What the mappings of a process are.

    `pages_shared` is the kernel's count of stable nodes, which `run=2` takes down to 0.
    `read_at`: when the process was last read exactly, on the monotonic clock, None if never.
    """
    if state.run == STOPPED:
        return _KEPT
    if state.run != UNMERGED:
        return _MERGED
    if pages_shared != 0:
        return Residue.UNMERGING
    if read_at is None or read_at < state.since:
        return Residue.UNVERIFIED
    return Residue.LEFT
