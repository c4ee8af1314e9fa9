"""A snapshot without a daemon: attach, read, count, detach."""

from __future__ import annotations

from typing import Any

from ksmwatch.config import Config
from ksmwatch.facts import read_facts
from ksmwatch.processes import ProcessTable
from ksmwatch.snapshot import to_document
from ksmwatch.watcher import Watcher, start_backend

_BUDGET_SECONDS = 5.0


def measure(settings: Config) -> dict[str, Any]:
    """The snapshot document of this moment. Raises KsmwatchError."""
    facts = read_facts()
    backend, obstacle = start_backend(facts, settings)
    try:
        reason = obstacle.sentence if obstacle else None
        watcher = Watcher(backend, facts, ProcessTable(), reason)
        return to_document(watcher.snapshot(_BUDGET_SECONDS))
    finally:
        backend.stop()
