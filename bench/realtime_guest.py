"""Inside a PREEMPT_RT test kernel whose clock counts instructions: the hooks, and the daemon.

`python -m bench.realtime_guest [--pressure]` prints one line `pressure JSON`: how many of some
snapshots, one second apart, were exact while processes map, touch and unmap without end, what the
kernel has skipped, and the daemon's CPU time. Without --pressure, it then prints the samples of
`bench.hotpath_guest`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench import hotpath_guest
from tests.kernel.compare import mappings
from tests.kernel.daemon import Daemon
from tests.kernel.pressure import PROCESSES, SETTINGS, missed, pressure
from tests.ksmctl import Ksm
from tests.waiting import wait_until

_CASES = ("nothing", "fentry", "kprobe", "empty fentry", "empty kprobe")
_SNAPSHOTS = 30


def _cpu_seconds(pid: int) -> float:
    """Of all threads, from the first field of each one's schedstat, in nanoseconds."""
    found = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in found) / 1e9


def under_pressure() -> dict[str, Any]:
    """What the daemon knows, and takes."""
    exact = 0
    with Ksm(**SETTINGS) as ksm, Daemon(http=False) as daemon, pressure():
        ksm.start()
        wait_until(lambda: len(mappings(daemon.snapshot())) == PROCESSES, "nothing is merged")
        began, used = time.monotonic(), _cpu_seconds(daemon.process.pid)
        for _ in range(_SNAPSHOTS):
            time.sleep(1)
            document = daemon.snapshot()
            exact += document["host"]["confidence"] == "exact"
        used = _cpu_seconds(daemon.process.pid) - used
        share = used / (time.monotonic() - began)
        return {
            "snapshots": _SNAPSHOTS,
            "exact": exact,
            "missed": sum(missed(document).values()),
            "cpu": round(share, 4),
        }


def main(argv: list[str]) -> int:
    print("kernel", os.uname().release, flush=True)
    print("pressure", json.dumps(under_pressure()), flush=True)
    return 0 if argv == ["--pressure"] else hotpath_guest.main(list(_CASES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
