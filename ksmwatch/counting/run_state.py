"""KSM's run state as observed. Pure except for the clock that is passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

# /sys/kernel/mm/ksm/run
STOPPED, SCANNING, UNMERGED = 0, 1, 2


class RunState(NamedTuple):
    """The last `run`, since when at least (on the monotonic clock), and its age in seconds."""

    run: int | None
    age: float
    since: float


class RunWatch:
    """Remembers since when `run` has had its value, to the accuracy of the looks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._run: int | None = None
        self._since = clock()

    def see(self, run: int | None) -> None:
        """`run` was just read; None: it could not be read."""
        if run != self._run:
            self._run, self._since = run, self._clock()

    @property
    def state(self) -> RunState:
        """The last observation."""
        return RunState(self._run, self._clock() - self._since, self._since)
