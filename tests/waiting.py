"""Waiting for events, with deadlines that follow from the speed of the machine.

No test depends on how fast the machine is. What waits, waits for an event; a deadline only ends
what would never end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tests.slowness import patience

Found = TypeVar("Found")


class Deadline:
    """The moment at which waiting makes no sense any more."""

    def __init__(self, seconds: float) -> None:
        """Seconds of the reference machine, from now on."""
        self._end = time.monotonic() + patience(seconds)

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return time.monotonic() >= self._end


class Pace:
    """Keeps a loop that looks for something from taking the time of what it waits for.

    An emulated guest has one processor at a time, for ksmd and the daemon as well.
    """

    def __init__(self, least: float = 0.1) -> None:
        """`least`: seconds between looks."""
        self._least = least
        self._began = time.monotonic()

    def pause(self) -> None:
        """After a look: wait for as long as the look took."""
        time.sleep(max(self._least, time.monotonic() - self._began))
        self._began = time.monotonic()


def wait_until(
    look: Callable[[], Found],
    what: str | Callable[[], object],
    *,
    seconds: float = 600,
    every: float = 0.1,
) -> Found:
    """What a look finds, as soon as that is true.

    `what` would be missing at the end: a text, or a function that makes one. `seconds`: of the
    reference machine. `every`: seconds between looks, at least.
    """
    deadline, pace = Deadline(seconds), Pace(every)
    while not (found := look()):
        if deadline.passed:
            raise AssertionError(what if isinstance(what, str) else what())
        pace.pause()
    return found
