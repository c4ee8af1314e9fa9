"""What keeping the history takes of the daemon's memory, beside what it has loaded anyway.

`python -m bench.history_memory SNAPSHOT DIRECTORY MOMENTS`, for bench/history.py: a snapshot as
pickle, and where the file goes. Prints bytes: what it has changed, and the rest, which is code
that it shares with other programs. Imports nothing that the daemon does not.
"""

from __future__ import annotations

import gc
import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

from ksmwatch.commands.run import GC_OBJECTS
from ksmwatch.kernel.procfs import read_file
from ksmwatch.kernel.smaps import kilobytes
from ksmwatch.kernel.syscalls import give_memory_back
from ksmwatch.snapshot.model import Snapshot

_INTERVAL = 10.0


def _memory() -> tuple[int, int]:
    """Bytes in memory, and those of it that are ours alone."""
    give_memory_back()
    rollup = read_file("/proc/self/smaps_rollup")
    whole, own = (kilobytes(rollup, name) or 0 for name in ("Rss", "Private_Dirty"))
    return whole * 1024, own * 1024


def _later(snapshot: Snapshot, moment: int) -> Snapshot:
    """Another one, with what every reader of it needs."""
    passed = moment * _INTERVAL
    later = replace(snapshot, time=snapshot.time + passed, clock=snapshot.clock + passed)
    assert later.owners
    assert later.saved is not None or later.numbers.ksm is None
    return later


def main(argv: list[str]) -> int:
    """Write moments as they come, and see what has grown."""
    path, directory, moments = Path(argv[0]), Path(argv[1]), int(argv[2])
    gc.set_threshold(GC_OBJECTS)
    with path.open("rb") as file:
        snapshot = pickle.load(file)  # noqa: S301 - our own
    for moment in range(moments):
        _later(snapshot, moment)
    whole, own = _memory()
    # Imported here, as by the daemon: without a history, SQLite is not loaded.
    from ksmwatch.history.recorder import HistorySettings, Writer
    from ksmwatch.history.retention import Retention

    writer = Writer(HistorySettings(directory, Retention(), 10**8, None), lambda: 50)
    for moment in range(moments):
        writer.write(_later(snapshot, moment))
    assert writer.state(0, 0).written == moments
    now_whole, now_own = _memory()
    print(json.dumps({"own": now_own - own, "code": now_whole - whole - (now_own - own)}))
    writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
