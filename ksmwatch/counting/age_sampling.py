"""Which pages the age of mappings is looked at for, and what the programs must know for that."""

from __future__ import annotations

from collections.abc import Callable

from ksmwatch.counting.ages import Ages, AgeState
from ksmwatch.counting.controls import Controls
from ksmwatch.counting.host import Host
from ksmwatch.kernel import procfs
from ksmwatch.probes.age_maps import AgeMaps
from ksmwatch.probes.map_records import Total

# How often the maps are looked at, which takes some milliseconds.
_LOOK_SECONDS = 60.0
# At most one page in this many, because the programs compare 16 bits.
MOST = 1 << 16
_UNKNOWN = {
    Total.AGES_UNSEEN: "unseen",
    Total.AGES_AMBIGUOUS: "ambiguous",
    Total.AGES_MOVED: "moved",
}


def next_one_in(now: int, least: int, used: float, *, lost: bool) -> int:
    """One page of how many shall be looked at. `used`: the part of the maps that is.

    `least`: as configured. Twice as many pages take twice as much room, so it does not go back and
    forth.
    """
    if (lost or used > 3 / 4) and now < MOST:
        return max(least, now * 2)
    if used < 1 / 8 and now > least:
        return now // 2
    return max(least, now)


class ScanLength:
    """How long ksmd takes for one full scan. Pure."""

    def __init__(self) -> None:
        # When the last end of a scan was seen, and how many there were; None if none was seen.
        self._seen: tuple[float | None, int] | None = None
        self.seconds: float | None = None

    def see(self, now: float, full_scans: int | None) -> None:
        """Call it about every second. `full_scans`: None if ksmd does not scan."""
        if full_scans is None or (self._seen and full_scans < self._seen[1]):
            self._seen = None
        if full_scans is None:
            return
        if self._seen is None:
            self._seen = None, full_scans
            return
        at, before = self._seen
        if full_scans > before:
            if at is not None:
                self.seconds = (now - at) / (full_scans - before)
            self._seen = now, full_scans


class AgeSampling:
    """Keeps the sample as large as the maps can hold. Only one thread may use it."""

    def __init__(
        self, maps: AgeMaps, total: Callable[[Total], int], controls: Controls, host: Host
    ) -> None:
        # At most one page in this many, as configured.
        self.least = 1
        self._maps = maps
        self._total = total
        self._controls = controls
        self._host = host
        self._scan = ScanLength()
        self._look_at = 0.0
        # What had been noted and lost at the last look; whether another look is due in any case.
        self._noted = -1
        self._lost = 0
        self._again = False
        # The last state, and what it was made of.
        self._state: AgeState | None = None
        self._known: tuple[object, ...] = ()
        # Accounts that could not be opened, so that their PTEs came unseen.
        self._events_lost = total(Total.EVENTS_LOST)

    def clear(self) -> None:
        """Forget everything, while the hooks are off: they miss departures."""
        self._controls.sample(self.least)
        self._maps.clear()

    def begin(self) -> None:
        """Do not trust what was noted before this moment. Call it when the hooks have come on."""
        self._controls.age_from(self._host.nanoseconds())

    def tick(self, run: int | None) -> None:
        """Call it about every second."""
        now = self._host.clock()
        events_lost = self._total(Total.EVENTS_LOST)
        if events_lost != self._events_lost:
            self._events_lost = events_lost
            self.begin()
        self._scan.see(now, procfs.read_full_scans(self._host.sys) if run == 1 else None)
        if self._scan.seconds is not None:
            self._controls.scan_takes(int(self._scan.seconds * 1e9))
        noted, lost = self._total(Total.AGES_NOTED), self._total(Total.AGES_LOST)
        # Where dropping is not possible, what finds no room is lost.
        if now < self._look_at or self._maps.quiet or not self._due(noted, lost):
            return
        self._look_at = now + _LOOK_SECONDS
        before = self._controls.one_in
        wanted = next_one_in(before, self.least, self._maps.used(), lost=lost > self._lost)
        self._controls.sample(wanted)
        # A program that runs now may still note a page that is no longer followed.
        if self._again or wanted > before:
            self._maps.drop_unsampled(wanted)
        self._noted, self._lost, self._again = noted, lost, wanted != before

    def _due(self, noted: int, lost: int) -> bool:
        """Whether a look can find anything new."""
        moved = (noted, lost) != (self._noted, self._lost)
        return moved or self._again or self._controls.one_in < self.least

    def state(self) -> AgeState:
        """What is known; the same object if it is the same as before."""
        ages, takes = self._maps.ages(), self._controls.scan_ns
        noted, wasted, *unknown = map(self._total, (Total.AGES_NOTED, Total.AGES_WASTED, *_UNKNOWN))
        known = self._controls.one_in, takes, ages, noted, wasted, unknown
        if self._state is None or known != self._known:
            self._known = known
            self._state = AgeState(
                one_in=self._controls.one_in,
                scan_seconds=takes / 1e9 if takes else None,
                reasons={why: Ages(*found) for why, found in ages.items()},
                noted=noted,
                wasted=wasted,
                unknown=dict(zip(_UNKNOWN.values(), unknown, strict=True)),
            )
        return self._state
