"""promtool, from Debian's package prometheus: unpacked below the cache and not installed."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Made by Prometheus itself, and by prometheus_client for every process.
STANDARD = {
    "up",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}


@functools.cache
def _program() -> Path:
    run = subprocess.run(
        [ROOT / "tests/vm/debs", "prometheus"], check=True, capture_output=True, text=True
    )
    return Path(run.stdout.strip()) / "usr/bin/promtool"


def promtool(*arguments: str | Path) -> None:
    """Run it, and fail with what it says."""
    run = subprocess.run(
        [_program(), *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert run.returncode == 0, run.stdout.decode()


def metrics_of(expression: str) -> set[str]:
    """Names of metrics in an expression, recorded ones included."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"(?:[a-z]+:)?\b(?:ksmwatch|process)_[a-z0-9_:]+|\bup\b", bare))
