"""Inside a test kernel: how soon a write or an exit shows, here and in the kernel's counters.

Prints lines `sample JSON`. A *change* is 211 of 1009 merged pages written to by one process, or the
end of it. *Right* is a source that says what the page tables say, which nothing changes
afterwards. A source that is not right within the patience is reported as such, never left out.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

_PAGES = 1009
_WRITTEN = 211
_ROUNDS = 5
_PATIENCE_SECONDS = 60
# The kernel's own settings of ksmd, mm/ksm.c.
_DEFAULTS = {"pages_to_scan": 100, "sleep_millisecs": 20}
_METRIC = re.compile(r"^ksmwatch_mappings (\d+)(?:\.0)?$", re.MULTILINE)

Read = Callable[[], int]


def report(**numbers: Any) -> None:
    print("sample", json.dumps(numbers), flush=True)


def sources(daemon: Daemon, ksm: Ksm, pid: int) -> dict[str, Read]:
    """Who says how many mappings there are; the last one says it of the process alone."""

    def metric() -> int:
        found = _METRIC.search(daemon.metrics())
        assert found is not None
        return int(float(found[1]))

    def merging() -> int:
        try:
            return int(Path(f"/proc/{pid}/ksm_merging_pages").read_text())
        except (FileNotFoundError, ProcessLookupError):
            return 0

    return {
        "snapshot": lambda: int(daemon.snapshot()["host"]["mappings"]),
        "/metrics": metric,
        "pages_shared + pages_sharing": lambda: (
            ksm.read("pages_shared") + ksm.read("pages_sharing")
        ),
        "ksm_merging_pages": merging,
    }


def seconds_until(right: int, read: Read, began: float) -> tuple[float, int] | None:
    """From the change until a source is right, and how often it was asked; None if not in time."""
    for asked in count(1):
        if read() == right:
            return time.monotonic() - began, asked
        if time.monotonic() > began + _PATIENCE_SECONDS:
            return None
        time.sleep(0.002)
    raise AssertionError


def _tenant(load: Workload, name: str) -> Tenant:
    tenant = load.spawn(name)
    tenant.offer("heap", _PAGES, seed=1, modulo=7)
    return tenant


def _ksmd(ksm: Ksm, *, scanning: bool) -> None:
    """All merged, and ksmd at its default speed, or stopped."""
    ksm.merge_all()
    for name, value in _DEFAULTS.items():
        ksm.write(name, value)
    if scanning:
        ksm.start()


def one(daemon: Daemon, change: str, source: str, *, scanning: bool) -> tuple[float, int] | None:
    """One change, watched by one source only, so that none waits for another."""
    with Ksm() as ksm, Workload() as load:
        changing = _tenant(load, "changing")
        _tenant(load, "other")
        _ksmd(ksm, scanning=scanning)
        read = sources(daemon, ksm, changing.pid)[source]
        # What a scrape may be served from is there, and as young as it can be.
        daemon.metrics()
        if change == "write":
            changing.write("heap", 0, _WRITTEN)
            left = _PAGES - _WRITTEN
        else:
            changing.kill()
            left = 0
        began = time.monotonic()
        alone = source == "ksm_merging_pages"
        return seconds_until(left if alone else left + _PAGES, read, began)


def main() -> int:
    """Every change and source, with ksmd scanning and stopped."""
    with Daemon("--backend=bpf") as daemon:
        for scanning in (True, False):
            for change in ("write", "exit"):
                for source in ("snapshot", "/metrics", "pages_shared + pages_sharing"):
                    measured(daemon, change, source, scanning=scanning)
                if change == "write":
                    measured(daemon, change, "ksm_merging_pages", scanning=scanning)
    return 0


def measured(daemon: Daemon, change: str, source: str, *, scanning: bool) -> None:
    """Several times; what was not right in time is not tried again."""
    found = []
    for _ in range(_ROUNDS):
        seconds = one(daemon, change, source, scanning=scanning)
        if seconds is None:
            report(change=change, source=source, scanning=scanning, patience=_PATIENCE_SECONDS)
            return
        found.append(seconds)
    report(
        change=change,
        source=source,
        scanning=scanning,
        median=statistics.median(seconds for seconds, _ in found),
        worst=max(seconds for seconds, _ in found),
        asked=max(asked for _, asked in found),
    )


if __name__ == "__main__":
    sys.exit(main())
