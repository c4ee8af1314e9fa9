"""Inside a test kernel whose clock counts instructions: what the daemon uses.

`python -m bench.daemon_guest CASE...` prints lines `sample JSON`. The clock of such a guest goes
on by one nanosecond with each instruction, so CPU seconds are billions of instructions, and are the
same every time. A case is `start`, `churn`, or PROCESSES:MERGING:PAGES with `:fork` or not.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.crowd import Crowd, churn, cpu_seconds, family, lasting_family, pss_bytes, ruler
from bench.smaps_poller import poll
from tests.kernel.compare import settled_snapshot
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm

_QUIET_SECONDS = 15
_SETTLE_SECONDS = 120
_ROUNDS = 3
_START_PROCESSES = 500
# Older than what a scrape may be served from.
_CACHE_SECONDS = 1.2
_QUICK = {"pages_to_scan": 20_000, "sleep_millisecs": 1}


def report(name: str, **numbers: Any) -> None:
    print("sample", json.dumps({"case": name, **numbers}), flush=True)


def used(daemon: Daemon, action: Callable[[], object]) -> float:
    """CPU seconds that the daemon's processes use for something, the median of some times."""
    pids = lasting_family(daemon.process.pid)
    found = []
    for _ in range(_ROUNDS):
        time.sleep(_CACHE_SECONDS)
        before = cpu_seconds(pids)
        action()
        found.append(cpu_seconds(pids) - before)
    return statistics.median(found)


def at_rest(daemon: Daemon) -> float:
    """The share of a core that it uses without requests."""
    pids = lasting_family(daemon.process.pid)
    before, began = cpu_seconds(pids), time.monotonic()
    time.sleep(_QUIET_SECONDS)
    return (cpu_seconds(pids) - before) / (time.monotonic() - began)


def settled(daemon: Daemon) -> dict[str, Any]:
    """The first snapshot that is exact."""
    document = settled_snapshot(daemon, seconds=_SETTLE_SECONDS)
    assert document["host"]["confidence"] == "exact", document["host"]
    return document


def smaps_seconds() -> float:
    """CPU seconds to read smaps_rollup of all processes, as a script does."""
    began = time.process_time()
    poll()
    return time.process_time() - began


def measure_crowd(name: str, processes: int, merging: int, pages: int, *, fork: bool) -> None:
    """One crowd, and all that the daemon is asked."""
    with (
        Ksm(**_QUICK) as ksm,
        Daemon("--backend=bpf") as daemon,
        Crowd(processes, merging, pages, ksm=ksm, fork=fork) as crowd,
    ):
        document = settled(daemon)
        # Forked, the process that they were forked from has them too.
        assert document["host"]["mappings"] == (merging + fork) * pages, document["host"]
        some = max(1, merging // 100)

        def after_some_moved() -> None:
            crowd.do("touch", some)
            daemon.snapshot()

        report(
            name,
            processes=processes,
            merging=merging,
            pages=pages,
            snapshot=used(daemon, daemon.snapshot),
            scrape=used(daemon, daemon.metrics),
            snapshot_moving=used(daemon, after_some_moved),
            scrape_bytes=len(daemon.metrics()),
            snapshot_bytes=len(json.dumps(daemon.snapshot())),
            rest=at_rest(daemon),
            pss=pss_bytes(lasting_family(daemon.process.pid)),
            kernel_age=daemon.snapshot()["host"]["kernel_age_seconds"],
            map_bytes=daemon.snapshot()["map"]["memory_bytes"],
            smaps=smaps_seconds(),
        )


def _ready(daemon: Daemon, before: float) -> dict[str, float]:
    """CPU seconds, its children included, and seconds until the first snapshot."""
    daemon.wait_until_ready()
    wall = time.monotonic() - before
    # Of the loader, which has ended, it has been told by wait4().
    words = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, words[13:15])) / os.sysconf("SC_CLK_TCK")
    return {"wall": wall, "cpu": cpu_seconds(family(daemon.process.pid)) + ticks}


def measure_start() -> None:
    """From exec to the first exact snapshot, without anything and with what a daemon has left."""
    # A host has the files in its page cache; here they would come slowly over 9p.
    with Daemon("--backend=bpf") as warming:
        warming.wait_until_ready()
    # As the kernel tests do: nothing that outlives a daemon may stand in a temporary directory.
    pins = Path("/run/bench-bpf")
    pins.mkdir()
    subprocess.run(["mount", "-t", "bpf", "none", str(pins)], check=True)
    with (
        Ksm(**_QUICK) as ksm,
        Crowd(_START_PROCESSES, _START_PROCESSES // 10, 10, ksm=ksm, fork=False),
    ):
        for name in ("cold", "adopted"):
            before = time.monotonic()
            daemon = Daemon("--backend=bpf", f"--state.pin-path={pins}/ksmwatch")
            numbers = _ready(daemon, before)
            document = settled(daemon)
            assert document["map"]["adopted"] is (name == "adopted")
            report(f"start {name}", **numbers, pss=pss_bytes(lasting_family(daemon.process.pid)))
            daemon.process.send_signal(signal.SIGKILL)
            daemon.process.wait()
            # Its front ends when it sees that.
            time.sleep(1)


def measure_churn() -> None:
    """At rest and while a thousand processes a second begin and end."""
    with Ksm(**_QUICK) as ksm, Daemon("--backend=bpf") as daemon:
        report("no KSM pages", rest=at_rest(daemon))
        for name, pages in (("churn", 0), ("churn with KSM pages", 20)):
            with churn(1000, _QUIET_SECONDS + 5, pages, ksm) as child:
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write("\n")
                child.stdin.flush()
                before = time.monotonic()
                share = at_rest(daemon)
                forks = int(child.stdout.readline())
                report(name, rest=share, forks=forks / (time.monotonic() - before))


def main(cases: list[str]) -> int:
    """Measure the cases in turn."""
    report("ruler", seconds=ruler())
    for case in cases:
        try:
            measure(case)
        except (AssertionError, OSError, RuntimeError):
            # The others are worth having.
            traceback.print_exc()
            report(case, failed=True)
    return 0


def measure(case: str) -> None:
    if case == "start":
        measure_start()
    elif case == "churn":
        measure_churn()
    else:
        processes, merging, pages = map(int, case.split(":")[:3])
        measure_crowd(case, processes, merging, pages, fork=case.endswith(":fork"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
