"""What the BPF programs are told: whose file openings count, and when to doubt what opens.

A daemon that comes after us reads it too: from it, it knows what it may trust.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ksmwatch.probes.map_records import Control
from ksmwatch.probes.maps import Maps

# No number of signs: says to a successor that a process is still to be read.
_INCOMPLETE = (1 << 64) - 1


class Controls:
    """The control record. Nothing is written that has been told already."""

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

    def asleep(self) -> None:
        """No hook counts: nothing opens an account, and one that opens is in doubt."""
        self._tell(self._told._replace(opening_doubt=1, asleep=1))

    def doubt(self) -> None:
        """What is opened is in doubt, and a successor is to begin anew."""
        self._tell(self._told._replace(opening_doubt=1))

    @contextmanager
    def doubting(self) -> Iterator[None]:
        """What is opened in this block is in doubt; after it, if nothing failed, it is exact."""
        self._tell(self._told._replace(opening_doubt=1, asleep=0))
        yield
        self._tell(self._told._replace(opening_doubt=0))

    def adopt(self, left: Control) -> int:
        """Go on with what a daemon before us has told. How many signs it has swept; -1: not all."""
        self._tell(
            self._told._replace(
                opening_doubt=0,
                asleep=0,
                sweep_signs=left.sweep_signs,
                alarms_swept=left.alarms_swept,
            )
        )
        return -1 if left.sweep_signs == _INCOMPLETE else left.sweep_signs

    def swept(self, signs: int, alarms: int, *, complete: bool) -> None:
        """Every process was read after so many signs and alarms; not `complete`: but for some."""
        signs = signs if complete else _INCOMPLETE
        self._tell(self._told._replace(sweep_signs=signs, alarms_swept=alarms))

    def _tell(self, control: Control) -> None:
        self._told = control
        if control != self._written:
            self._maps.control(control)
            self._written = control
