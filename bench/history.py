"""`make bench-history`: what keeping the history costs the daemon, and how large the file gets.

On the machine itself, as root: real processes and real BPF maps as in bench/crowds_host.py, and a
file on a real disk.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.crowds_host import Host, children, crowd
from bench.results import Goal, Result, save, table

if TYPE_CHECKING:
    from ksmwatch.history.recorder import Writer

NAME = "history"
_PROCESSES, _OWNERS = 100, 50
_ROUNDS, _MOMENTS = 20, 25
_INTERVAL, _STILL_INTERVAL = 10.0, 60.0
# Moments of the default settings: a day of ten seconds, a month of ten minutes.
_DAY, _MONTH = 8640, 4320
# The goals.
_SHARE, _MIB, _SIZE = 0.0002, 2.0, 100e6
_INTRODUCTION = """`make bench-history`, {date}, Python {python}, on the machine itself: {processes}
processes with KSM pages of {owners} owners. Every tenth moves before each moment. CPU time
is that of all work for one moment, the fastest of {rounds} times {moments} moments. The file is on
a disk, and every moment is synced. Memory is what a process that has loaded the daemon's code needs
more after {written} moments than before SQLite was loaded."""

_SIZES = """Memory: {own_mib:.2f} MiB of its own, and {code_mib:.2f} MiB of code, most of it
SQLite's. One owner takes {bytes_per_owner:.0f} bytes in each moment, so a day of ten seconds and 30
days of ten minutes take {megabytes:.0f} MB with {owners} owners."""


def section(result: Result) -> str:
    """The part of the page."""
    share = 100 / _INTERVAL / 1000
    rows = [
        (name, f"{result[key]:.2f} ms", f"{result[key] * share:.4f} %")
        for name, key in (
            ("writing a moment of a snapshot that was made for others", "write_ms"),
            ("making the snapshot, if it was not made for another request", "snapshot_ms"),
            ("seeing that nothing has moved, so that neither is needed for a minute", "still_ms"),
        )
    ]
    head = ("each 10 seconds", "CPU time", "share of a core")
    size = _SIZES.format(**result, megabytes=_bytes(result) / 1e6)
    return "\n\n".join(["## History", _INTRODUCTION.format(**result), table(head, rows), size])


def _bytes(result: Result) -> float:
    return float((_DAY + _MONTH) * result["bytes_per_owner"] * (result["owners"] + 2))


def goals(result: Result) -> list[Goal]:
    """Each goal, as reached."""
    write, snapshot, still = (
        result[f"{what}_ms"] / 1000 for what in ("write", "snapshot", "still")
    )
    memory = result["own_mib"] + result["code_mib"]
    scraped, alone = write / _INTERVAL, (write + snapshot) / _INTERVAL
    at_rest = still / _INTERVAL + (write + snapshot) / _STILL_INTERVAL
    return [
        Goal(
            "history: at most 0.02 % of a core, with 50 owners",
            f"{scraped:.3%} beside a scrape; without one {at_rest:.3%} while nothing moves, and "
            f"{alone:.3%} while pages move",
            met=max(scraped, at_rest, alone) <= _SHARE,
            why="the snapshot of 100 processes, which a scrape needs anyway",
        ),
        Goal(
            "history: at most 2 MiB of memory",
            f"{memory:.2f} MiB",
            met=memory <= _MIB,
            why=f"{result['code_mib']:.2f} MiB are code, which is shared with all users of SQLite",
        ),
        Goal(
            "history: at most 100 MB on disk, with 50 owners",
            f"{_bytes(result) / 1e6:.0f} MB",
            met=_bytes(result) <= _SIZE,
        ),
    ]


def _memory(host: Host) -> dict[str, float]:
    """By a process of its own, because this one has loaded more than the daemon does."""
    # As an installed package is.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "ksmwatch"], check=True)
    with tempfile.TemporaryDirectory() as path:
        kept = Path(path, "snapshot")
        kept.write_bytes(pickle.dumps(host.snapshot))
        words = ("-m", "bench.history_memory", kept, path, _ROUNDS * _MOMENTS)
        found = subprocess.check_output([sys.executable, *map(str, words)])
    return {f"{kind}_mib": size / (1 << 20) for kind, size in json.loads(found).items()}


def _cpu_ms(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


def _writer(directory: Path) -> Writer:
    from ksmwatch.history.recorder import HistorySettings, Writer
    from ksmwatch.history.retention import Retention

    settings = HistorySettings(directory, Retention(), 10**8, None)
    return Writer(settings, lambda: _OWNERS)


def _look(host: Host) -> None:
    """A snapshot, with what every reader of it needs."""
    host.look()
    assert len(host.snapshot.owners) == _OWNERS
    assert host.snapshot.saved is not None or host.snapshot.numbers.ksm is None


def measure(host: Host, directory: Path) -> dict[str, Any]:
    """CPU time of a moment, and memory."""
    writer = _writer(directory)
    best = dict.fromkeys(("snapshot_ms", "write_ms", "still_ms"), float("inf"))
    for turn in range(_ROUNDS):
        spent = dict.fromkeys(best, 0.0)
        for moment in range(_MOMENTS):
            host.move(turn * _MOMENTS + moment, 10)
            spent["snapshot_ms"] += _cpu_ms(lambda: _look(host))
            spent["write_ms"] += _cpu_ms(lambda: writer.write(host.snapshot))
            spent["still_ms"] += _cpu_ms(host.compare)
        best = {what: min(best[what], spent[what] / _MOMENTS) for what in best}
    state = writer.state(0, 0)
    assert state.written == _ROUNDS * _MOMENTS
    assert state.bytes is not None
    writer.close()
    return {
        **best,
        **_memory(host),
        "bytes_per_owner": state.bytes / state.written / (_OWNERS + 2),
        "written": state.written,
        "rounds": _ROUNDS,
        "moments": _MOMENTS,
    }


def main() -> int:
    """Measure, and keep the result."""
    with crowd(_PROCESSES, _PROCESSES) as process, tempfile.TemporaryDirectory() as path:
        found = measure(Host(children(process.pid), _OWNERS), Path(path))
    python, cores = sys.version.split()[0], os.cpu_count()
    common = {"python": python, "cores": cores, "processes": _PROCESSES, "owners": _OWNERS}
    print(found)
    save(NAME, {**common, **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
