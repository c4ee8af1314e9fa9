"""Snapshots without a daemon: attach, read, count, detach."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ksmwatch.config import Config
from ksmwatch.counting.backend import Budget
from ksmwatch.counting.choose_backend import start_backend
from ksmwatch.errors import NoDaemonError
from ksmwatch.kernel.areas import AreaDocument
from ksmwatch.kernel.read_areas import read_all_areas
from ksmwatch.kernel.read_facts import read_facts
from ksmwatch.owners.processes import ProcessTable
from ksmwatch.snapshot.collector import Watcher
from ksmwatch.snapshot.document import to_document

_BUDGET_SECONDS = 5.0
_TICK_SECONDS = 0.1


def may_measure(socket: Path, error: NoDaemonError) -> bool:
    """Whether we may measure without the daemon: as root, and if there is none, not a slow one."""
    return os.geteuid() == 0 and (not socket.exists() or "refused" in str(error))


class Measuring:
    """Counts in this process, until closed. Only one thread at a time may use it."""

    label = "measured here, no daemon"

    def __init__(self, settings: Config) -> None:
        """Attach. Raises KsmwatchError."""
        facts = read_facts()
        self._backend, obstacle = start_backend(facts, settings)
        reason = obstacle.sentence if obstacle else None
        self._watcher = Watcher(self._backend, facts, ProcessTable(), reason)
        self._read_before = False

    def read(self) -> dict[str, Any]:
        """The snapshot document of this moment. Raises KsmwatchError."""
        if self._read_before:
            # What a daemon would have done meanwhile: audit, and look for signs of trouble.
            self._backend.tick(Budget(_TICK_SECONDS))
        self._read_before = True
        return to_document(self._watcher.snapshot(_BUDGET_SECONDS))

    def areas(self, pid: int) -> list[AreaDocument]:
        """Areas of a process with KSM mappings. Raises SourceError."""
        return read_all_areas(pid)

    def close(self) -> None:
        """Detach."""
        self._backend.stop()


def measure(settings: Config) -> dict[str, Any]:
    """The snapshot document of this moment. Raises KsmwatchError."""
    measuring = Measuring(settings)
    try:
        return measuring.read()
    finally:
        measuring.close()
