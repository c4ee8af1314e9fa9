"""Waiting for events, with deadlines that follow from the speed of the machine.

No test depends on how fast the machine is. What waits, waits for an event; a deadline only ends
what would never end, and is written for the reference machine. How many times slower this one is
was measured once, before the first test.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

_KNOWN = "KSMWATCH_TEST_SLOWNESS"
# What the yardstick took in an emulated guest on the machine for which deadlines are written, a
# slow one: 2 cores, 5 million turns of a Python loop in 0.7 s.
_REFERENCE_SECONDS = 1.3
_TURNS = 200_000
_PROCESSES = 10


def _yardstick() -> float:
    """Seconds for some Python and some processes, the two things that tests are made of."""
    began = time.monotonic()
    turn = 0
    while turn < _TURNS:
        turn += 1
    for _ in range(_PROCESSES):
        subprocess.run(["/bin/sh", "-c", ":"], check=True)
    return time.monotonic() - began


def slowness() -> float:
    """How many times slower than the reference machine this one is; never less than 1."""
    if _KNOWN not in os.environ:
        # For all processes that this one starts.
        os.environ[_KNOWN] = f"{max(1.0, _yardstick() / _REFERENCE_SECONDS):.2f}"
    return float(os.environ[_KNOWN])


def patience(seconds: float) -> float:
    """A deadline of the reference machine, for this one."""
    return seconds * slowness()


class Deadline:
    """The moment at which waiting makes no sense any more."""

    def __init__(self, seconds: float) -> None:
        """Seconds of the reference machine, from now on."""
        self._end = time.monotonic() + patience(seconds)

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return time.monotonic() >= self._end


def wait_until(
    look: Callable[[], Found],
    what: str | Callable[[], object],
    *,
    seconds: float = 600,
    every: float = 0.1,
) -> Found:
    """What a look finds, as soon as that is true.

    `what` would be missing at the end: a text, or a function that makes one. `seconds`: of the
    reference machine. `every`: seconds between looks.
    """
    deadline = Deadline(seconds)
    while not (found := look()):
        if deadline.passed:
            raise AssertionError(what if isinstance(what, str) else what())
        time.sleep(every)
    return found
