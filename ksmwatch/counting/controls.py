"""What the daemon tells the BPF programs: whose file openings count, when accounts are in doubt.

A successor reads it too, and learns from it what it may trust.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ksmwatch.probes.map_records import Control
from ksmwatch.probes.maps import Maps

# Not a number of signs: tells a successor that a process has still to be read.
_INCOMPLETE = (1 << 64) - 1


class Controls:
    """The control record. Values that have been written already are not written again."""

    def __init__(self, maps: Maps, ksmd: int) -> None:
        self._maps = maps
        self._told = Control(
            ksmd=ksmd,
            reader=os.getpid(),
            opening_doubt=1,
            asleep=1,
            sweep_signs=0,
            alarms_swept=0,
        )
        self._written: Control | None = None

    @property
    def one_in(self) -> int:
        """Ages are kept for one page in this many."""
        return self._told.age_mask + 1

    @property
    def scan_ns(self) -> int:
        """How long ksmd takes for a full scan; 0 if that is not known."""
        return self._told.scan_ns

    def sample(self, one_in: int) -> None:
        """Keep ages for one page in this many, which is a power of two."""
        self._tell(self._told._replace(age_mask=one_in - 1))

    def age_from(self, nanoseconds: int) -> None:
        """What arrived before this moment has no known age."""
        self._tell(self._told._replace(ages_since=nanoseconds))

    def scan_takes(self, nanoseconds: int) -> None:
        """Say how long a full scan takes."""
        self._tell(self._told._replace(scan_ns=nanoseconds))

    def sees_calls_since(self, nanoseconds: int) -> None:
        """From this moment on, every call of migrate_pages() is seen."""
        self._tell(self._told._replace(calls_since=nanoseconds))

    def asleep(self) -> None:
        """No hook counts: nothing opens an account, and an account that opens is in doubt."""
        self._tell(self._told._replace(opening_doubt=1, asleep=1))

    def doubt(self) -> None:
        """New accounts are in doubt, and a successor must begin anew."""
        self._tell(self._told._replace(opening_doubt=1))

    @contextmanager
    def doubting(self) -> Iterator[None]:
        """Doubt accounts opened in this block, but not after it if nothing failed."""
        self._tell(self._told._replace(opening_doubt=1, asleep=0))
        yield
        self._tell(self._told._replace(opening_doubt=0))

    def adopt(self, left: Control) -> int:
        """Continue with an earlier daemon's record; returns the signs it swept, -1: not all."""
        self._tell(
            self._told._replace(
                opening_doubt=0,
                asleep=0,
                sweep_signs=left.sweep_signs,
                alarms_swept=left.alarms_swept,
                age_mask=left.age_mask,
                ages_since=left.ages_since,
                scan_ns=left.scan_ns,
                calls_since=left.calls_since,
            )
        )
        return -1 if left.sweep_signs == _INCOMPLETE else left.sweep_signs

    def swept(self, signs: int, alarms: int, *, complete: bool) -> None:
        """Every process was read after these signs and alarms; not `complete`: except for some."""
        signs = signs if complete else _INCOMPLETE
        self._tell(self._told._replace(sweep_signs=signs, alarms_swept=alarms))

    def _tell(self, control: Control) -> None:
        self._told = control
        if control != self._written:
            self._maps.control(control)
            self._written = control
