"""Our count of copies on write, compared with the kernel's. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Events(NamedTuple):
    """The kernel's event counters in /proc/vmstat and our totals, at one moment or since one.

    `cow_attempts`: cow_ksm, which grows before a KSM page is copied on write. `copied`: the
    departures that were such copies. `unattributed`: those that may have been. `swapin_copies`:
    ksm_swpin_copy, pages from the swap cache that had to be copied and so are no longer KSM pages.
    `swapins`: pages that still were and were mapped as such, which the kernel does not count.
    """

    cow_attempts: int
    copied: int
    unattributed: int
    swapin_copies: int
    swapins: int

    @property
    def unanswered_attempts(self) -> int:
        """COW breaks without a departure: the kernel gave them up, or a hook missed them."""
        return max(0, self.cow_attempts - self.copied - self.unattributed)

    def since(self, begin: Events) -> Events:
        """The events after an earlier moment."""
        return Events(
            self.cow_attempts - begin.cow_attempts,
            self.copied - begin.copied,
            self.unattributed - begin.unattributed,
            self.swapin_copies - begin.swapin_copies,
            self.swapins - begin.swapins,
        )


def events(vmstat: Mapping[str, int], totals: Mapping[str, int]) -> Events | None:
    """The events so far; None if one side does not count them (vmstat: before 5.18)."""
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
