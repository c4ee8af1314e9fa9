"""Where the kernel's files are, and which clocks tell the time. Tests pass made-up ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Host:
    """Roots and clocks.

    `clock`: monotonic, in seconds. `cpu`: CPU time of this thread. `nanoseconds`: the clock that
    the BPF programs name accounts by.
    """

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    clock: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = time.thread_time
    nanoseconds: Callable[[], int] = time.monotonic_ns


HERE = Host()
