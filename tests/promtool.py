"""promtool, from Debian's package prometheus: unpacked below the cache and not installed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.debs import program

# Made by Prometheus itself, and by prometheus_client for every process.
STANDARD = {
    "up",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}


def promtool(*arguments: str | Path) -> None:
    """Run it, and fail with what it says."""
    run = subprocess.run(
        [program("prometheus", "promtool"), *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert run.returncode == 0, run.stdout.decode()


def metrics_of(expression: str) -> set[str]:
    """Names of metrics in an expression, recorded ones included."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"(?:[a-z]+:)?\b(?:ksmwatch|process)_[a-z0-9_:]+|\bup\b", bare))
