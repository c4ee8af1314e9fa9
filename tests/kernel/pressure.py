"""Processes that do nothing but map, touch and unmap, so that they preempt each other in hooks."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import built

PROCESSES = 4
# Of each: what it touches in a round, and its mergeable pages, of which it writes to one.
PAGES, SHARED = 256, 64
# As ksmd is set by default, so that it leaves time to others.
SETTINGS = {"pages_to_scan": 100, "sleep_millisecs": 20}


@contextmanager
def pressure() -> Iterator[list[int]]:
    """The processes, for as long as the block."""
    command = [str(built("pressure")), str(PAGES), str(SHARED)]
    children = [subprocess.Popen(command) for _ in range(PROCESSES)]
    try:
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


@contextmanager
def held(ksm: Ksm, pids: Sequence[int]) -> Iterator[None]:
    """Neither they nor ksmd do anything meanwhile."""
    ksm.stop()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        wait_until(partial(_stopped, pid), f"process {pid} does not stop")
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    ksm.start()


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def missed(document: dict[str, Any]) -> dict[str, int]:
    """Runs that the kernel has skipped, by event."""
    return {probe["event"]: probe["missed"] for probe in document["probes"] if probe["missed"]}
