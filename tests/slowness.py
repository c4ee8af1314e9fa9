"""How many times slower this machine is than the one for which deadlines are written.

It is measured once, before the first test.
"""

from __future__ import annotations

import os
import subprocess
import time

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
