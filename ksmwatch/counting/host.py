"""Roots of the kernel's files, and clocks. Tests pass invented ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Host(NamedTuple):
    """Roots and clocks.

    `clock`: monotonic, in seconds. `cpu`: CPU time of this thread. `nanoseconds`: the clock by
    which the BPF programs name accounts.
    """

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    clock: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = time.thread_time
    nanoseconds: Callable[[], int] = time.monotonic_ns


HERE = Host()
